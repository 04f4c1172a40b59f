"""The arguments of a typed function: one validator, one schema, errors a model can act on."""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NotRequired, Required, cast, get_args

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from pydantic.errors import PydanticUndefinedAnnotation
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind
from pydantic_core import PydanticSerializationError, from_json, to_jsonable_python
from typing_extensions import TypedDict

from llm_client.structured.problems import Problem, shown_path, shown_text, shown_value
from llm_client.structured.schema import simplify_schema
from power_loop.tools.base import InvalidArguments
from power_loop.tools.signature import Parameter, refuse

__all__ = ["Arguments", "parse_object"]

_CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False)


class _Schema(GenerateJsonSchema):
    """A default inside somebody's model that is no JSON is left out without a warning."""

    def emit_warning(self, kind: JsonSchemaWarningKind, detail: str) -> None:
        pass


class Arguments:
    """Parses and validates the arguments of one tool, straight from their JSON text."""

    def __init__(
        self,
        function: Callable[..., Any],
        parameters: Sequence[Parameter],
        descriptions: Mapping[str, str],
    ) -> None:
        """Compiles the validator.

        Raises:
            ToolDefinitionError: a hint is not supported, or a default is no JSON or does not fit.
        """
        defaults = {p.name: _default(function, p) for p in parameters if not p.required}
        adapter = _compile(function, parameters)
        self._validate = adapter.validator.validate_json
        self._names = tuple([parameter.name for parameter in parameters])
        self.schema = _described(_json_schema(adapter), defaults, parameters, descriptions)

    def parse(self, text: str, tool: str) -> dict[str, Any]:
        """The values by name. Parameters that were not given are not in it.

        Raises:
            InvalidArguments: the text is not JSON, not an object, or does not fit.
        """
        if not text or text.isspace():
            text = "{}"
        if "NaN" in text or "Infinity" in text:
            parse_object(text, tool)  # pydantic would let them through where any value may stand
        try:
            return self._validate(text)
        except ValidationError as error:
            raise InvalidArguments(tool, self._problems(error, text)) from error

    def _problems(self, error: ValidationError, text: str) -> list[Problem]:
        found: dict[tuple[str, str], list[str]] = {}
        whole: Any = None
        for item in error.errors(include_url=False, include_context=False):
            if item["type"] in ("json_invalid", "string_unicode") and not item["loc"]:
                return [Problem("", f"a JSON object; {item['msg']}", shown_text(text))]
            if whole is None:
                whole = from_json(text)
            path = shown_path(_real_path(item["loc"], whole))
            expected, got = item["msg"].removeprefix("Input should be "), shown_value(item["input"])
            if item["type"] == "missing":
                expected, got = "a value, it is required", "nothing"
            elif item["type"] == "extra_forbidden" and len(item["loc"]) == 1:
                expected = f"no such argument; there are: {', '.join(self._names) or 'none'}"
            elif not item["loc"]:
                expected = "a JSON object"
            found.setdefault((path, got), []).append(expected)
        return [Problem(path, " or ".join(words), got) for (path, got), words in found.items()]


def parse_object(text: str, tool: str) -> dict[str, Any]:
    """The object that a JSON text holds; "" means `{}`.

    Raises:
        InvalidArguments: not JSON, not an object, NaN or Infinity, nested too deeply, or an integer
            that is too long.
    """
    try:
        value: object = from_json(text if text.strip() else "{}", allow_inf_nan=False)
    except ValueError as error:
        why = f"a JSON object; {error}"
        raise InvalidArguments(tool, [Problem("", why, shown_text(text))]) from error
    if not isinstance(value, dict):
        raise InvalidArguments(tool, [Problem("", "a JSON object", shown_value(value))])
    return cast("dict[str, Any]", value)


def _real_path(location: Sequence[int | str], whole: object) -> list[int | str]:
    """A location without the names of union branches, which are no part of the arguments."""
    path: list[int | str] = []
    value: Any = whole
    for index, step in enumerate(location):
        inside = _inside(value, step)
        last = index == len(location) - 1
        if inside or (last and type(value) is dict):  # what is missing is named last
            path.append(step)
            value = inside[0] if inside else None
    return path


def _inside(value: object, step: int | str) -> tuple[Any, ...]:
    """What `step` leads to in a value; empty if it leads nowhere."""
    if isinstance(value, dict):
        members = cast("dict[int | str, Any]", value)
        return (members[step],) if step in members else ()
    items = cast("list[Any]", value) if isinstance(value, list) else []
    return (items[step],) if isinstance(step, int) and step < len(items) else ()


# ── registration ──────────────────────────────────────────────────────────────────────────────────

_UNSUPPORTED = (PydanticUserError, PydanticUndefinedAnnotation, TypeError, ValueError)
_SUPPORTED = (
    "use str, int, float, bool, list, dict, Literal, Enum, Optional, Union, dates, a TypedDict, a "
    "dataclass or a pydantic model, or `Annotated[…, Field(…)]` of these"
)


def _compile(
    function: Callable[..., Any], parameters: Sequence[Parameter]
) -> TypeAdapter[dict[str, Any]]:
    try:
        adapter = _adapter(parameters)
        _json_schema(adapter)
    except _UNSUPPORTED as error:
        for parameter in parameters:
            _check_hint(function, parameter)
        refuse(
            function, None, f"its parameters cannot be described ({_short(error)}); {_SUPPORTED}"
        )
    return adapter


def _adapter(parameters: Sequence[Parameter]) -> TypeAdapter[dict[str, Any]]:
    # A TypedDict validates into the very dict that the function is called with, and takes any name.
    hints: dict[str, Any] = {
        item.name: Required[item.hint] if item.required else NotRequired[item.hint]
        for item in parameters
    }

    def body(namespace: dict[str, Any]) -> None:
        namespace["__annotations__"] = hints
        namespace["__module__"] = __name__
        namespace["__pydantic_config__"] = _CONFIG

    arguments: Any = types.new_class("Arguments", (TypedDict,), {}, body)
    return TypeAdapter(arguments)


def _json_schema(adapter: TypeAdapter[dict[str, Any]]) -> dict[str, Any]:
    return adapter.json_schema(schema_generator=_Schema)


def _check_hint(function: Callable[..., Any], parameter: Parameter) -> None:
    try:
        _json_schema(_adapter([parameter]))
    except _UNSUPPORTED as error:
        why = f"the type {parameter.hint!r} is not supported ({_short(error)}); {_SUPPORTED}"
        refuse(function, parameter.name, why)


def _short(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error) else type(error).__name__


def _default(function: Callable[..., Any], parameter: Parameter) -> Any:
    """A default in the form it has in the schema."""
    if isinstance(parameter.default, FieldInfo):
        refuse(function, parameter.name, "write `Annotated[…, Field(…)] = value`, not `= Field(…)`")
    try:
        value = to_jsonable_python(parameter.default)
        json.dumps(value, allow_nan=False)
    except (PydanticSerializationError, ValueError, TypeError):
        why = f"its default {parameter.default!r} is no JSON; use None or a plain value"
        refuse(function, parameter.name, why)
    _check_default(function, parameter)
    return value


def _check_default(function: Callable[..., Any], parameter: Parameter) -> None:
    try:
        _adapter([parameter]).validate_python({parameter.name: parameter.default})
    except ValidationError:
        hint = getattr(parameter.hint, "__name__", parameter.hint)
        wanted = f"`{hint} | None`" if parameter.default is None else "a type that it fits"
        why = f"its default {parameter.default!r} does not fit {parameter.hint!r}; write {wanted}"
        refuse(function, parameter.name, why)
    except _UNSUPPORTED:
        _check_hint(function, parameter)


def _described(
    raw: dict[str, Any],
    defaults: Mapping[str, Any],
    parameters: Sequence[Parameter],
    descriptions: Mapping[str, str],
) -> dict[str, Any]:
    schema = simplify_schema(raw)
    properties = cast("dict[str, dict[str, Any]]", schema.setdefault("properties", {}))
    for parameter in parameters:
        place = properties.get(parameter.name)
        if place is None:
            continue  # an alias: the model sees another name
        if parameter.name in defaults:
            place["default"] = defaults[parameter.name]
        text = descriptions.get(parameter.name)
        if text and not _says_itself(parameter.hint):
            place["description"] = text
    return schema


def _says_itself(hint: Any) -> bool:
    """Whether the hint brings a description of its own, as in Annotated[int, Field(…)]."""
    return any(isinstance(part, FieldInfo) and part.description for part in get_args(hint))
