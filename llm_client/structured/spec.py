"""What an answer must be: its schema for the model, and the check of what the model wrote."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, cast, overload

import msgspec
from pydantic import (
    PydanticInvalidForJsonSchema,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
)
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, JsonSchemaWarningKind
from pydantic_core.core_schema import CallSchema, DataclassField, ModelField, TypedDictField
from typing_extensions import override

from llm_client.codecs._json import as_dict, is_object
from llm_client.codecs._schema import strict_output
from llm_client.errors import ConfigError, excerpt
from llm_client.structured.errors import StructuredOutputError
from llm_client.structured.problems import Problem
from llm_client.structured.schema import simplify_schema
from llm_client.structured.text import decoded, json_texts, no_value
from llm_client.structured.validator import SchemaValidator
from llm_client.types import OutputSchema

__all__ = ["WRAPPED", "OutputSpec", "output_spec"]

T = TypeVar("T")
Schema = dict[str, Any]
Read = Callable[[str], T]
"""Makes a value out of a JSON text, or raises StructuredOutputError."""

WRAPPED = "value"
"""The one member of the object in which a value travels that is no object itself."""

_FAULTS_TOLD = 5
_LONGEST_FAULT = 200
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9_-]")


class OutputSpec(Generic[T]):
    """What an answer must be. Make one with `output_spec`.

    Attributes:
        schema: for `LLMRequest.output_schema`; `strict` where strict mode has a form for it.
        wrapped: the value is no object, and travels as the member "value" of one.
    """

    def __init__(self, name: str, schema: Schema, read: Read[T]) -> None:
        self._read = read
        schema, self.wrapped = _as_object(schema)
        name = _NOT_IN_NAME.sub("_", name)[:64]
        strict = strict_output(schema) is not None
        self.schema = OutputSchema(name if name[:1].isalpha() else "answer", schema, strict)

    def __repr__(self) -> str:
        return f"OutputSpec({self.name!r})"

    @property
    def name(self) -> str:
        """What the answer is called."""
        return self.schema.name

    @property
    def prompt(self) -> str:
        """What a model is told that cannot be bound to a schema."""
        schema = msgspec.json.encode(simplify_schema(self.schema.schema)).decode()
        return (
            f"Answer with one JSON object and nothing else. It must satisfy this schema: {schema}"
        )

    def parse(self, text: str) -> T:
        """The value in `text`: JSON, perhaps in a fence, between words, after reasoning in tags.

        Raises:
            StructuredOutputError: there is none, or it does not fit.
        """
        opening = "{[" if self.wrapped else "{"
        failure: StructuredOutputError | None = None
        for found in json_texts(text, opening):
            try:
                return self._value(found)
            except StructuredOutputError as error:
                failure = failure or error
        raise failure or no_value(text, opening)

    def fault(self, text: str) -> str | None:
        """What is wrong with an answer, in words for the model; None if nothing is."""
        try:
            self.parse(text)
        except StructuredOutputError as error:
            return error.message
        return None

    def _value(self, found: str) -> T:
        if self.wrapped:
            value = decoded(found)
            if is_object(value) and list(value) == [WRAPPED]:
                # Cut out, not written anew: some of what can be read cannot be written.
                found = found[found.index(":") + 1 : found.rindex("}")]
        # Models also give the bare value that they were asked to wrap.
        return self._read(found)


@overload
def output_spec(output_type: type[T] | OutputSpec[T], name: str | None = None) -> OutputSpec[T]: ...
@overload
def output_spec(
    output_type: Mapping[str, Any], name: str | None = None
) -> OutputSpec[dict[str, Any]]: ...
@overload
def output_spec(output_type: Any, name: str | None = None) -> OutputSpec[Any]: ...
def output_spec(output_type: Any, name: str | None = None) -> OutputSpec[Any]:
    """What an answer must be so that it becomes a value of `output_type`.

    Args:
        output_type: a pydantic model, a dataclass, a TypedDict, a msgspec Struct, any other type
            that pydantic or msgspec can validate, or a JSON Schema of type object. Of the latter
            the common keywords are checked (see `llm_client.structured.validator`). An OutputSpec
            is returned as it is.
        name: what the answer is called; by default the name of the type.

    Raises:
        ConfigError: there is no schema for `output_type`, or it is one that cannot be checked.
    """
    if isinstance(output_type, OutputSpec):
        return cast("OutputSpec[Any]", output_type)
    if isinstance(output_type, Mapping):
        schema = dict(cast("Mapping[str, Any]", output_type))
        title = schema.get("title")
        return OutputSpec(name or (title if isinstance(title, str) else ""), schema, _plain(schema))
    schema, read = _typed(output_type)
    return OutputSpec(name or getattr(output_type, "__name__", ""), schema, read)


def _as_object(schema: Schema) -> tuple[Schema, bool]:
    """`schema` as one of type object, and whether it had to be wrapped for that."""
    definitions = as_dict(schema.get("$defs"))
    target = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    if target in definitions:
        # Only an object may be at the top, not a reference to one.
        schema = {**definitions[target], "$defs": definitions}
    if schema.get("type") == "object":
        return schema, False
    inner = {key: item for key, item in schema.items() if key != "$defs"}
    wrapped: Schema = {
        "type": "object",
        "properties": {WRAPPED: inner},
        "required": [WRAPPED],
        "additionalProperties": False,
    }
    return ({**wrapped, "$defs": definitions} if definitions else wrapped), True


# ── who reads the value ───────────────────────────────────────────────────────────────────────────


class _Schema(GenerateJsonSchema):
    """What is made anew for each value is stated, for it has no default that a schema could say."""

    @override
    def field_is_required(
        self, field: ModelField | DataclassField | TypedDictField, total: bool
    ) -> bool:
        if field["schema"]["type"] == "default" and "default_factory" in field["schema"]:
            return True
        return super().field_is_required(field, total)

    @override
    def call_schema(self, schema: CallSchema) -> JsonSchemaValue:
        # A named tuple is made by a call as well. A function would be called with what the model
        # has written.
        if not isinstance(schema["function"], type):
            raise PydanticInvalidForJsonSchema("a function is no type")
        return super().call_schema(schema)

    def emit_warning(self, kind: JsonSchemaWarningKind, detail: str) -> None:
        """A default that is no JSON is left out in silence."""


def _typed(output_type: Any) -> tuple[Schema, Read[Any]]:
    try:
        adapter = TypeAdapter[Any](output_type)
        schema = adapter.json_schema(schema_generator=_Schema)
    except (PydanticUserError, NameError) as error:
        # A Struct is unknown to pydantic, and so is whatever holds one.
        try:
            return msgspec.json.schema(output_type), _by_msgspec(output_type)
        except (TypeError, NameError, ValueError):
            why = str(error).partition("\n")[0].rstrip(".")
            raise ConfigError(
                f"output_type={output_type!r} cannot be asked for: {why}. Use a pydantic model, "
                "a dataclass, a TypedDict, a Struct, or a type of JSON values"
            ) from error
    return schema, _by_pydantic(adapter)


def _by_pydantic(adapter: TypeAdapter[Any]) -> Read[Any]:
    def read(text: str) -> Any:
        try:
            return adapter.validate_json(text)
        except ValidationError as error:
            faults = error.errors(include_url=False, include_context=False, include_input=False)
            told = [
                f"{'.'.join(map(str, fault['loc'])) or 'the answer'}: {fault['msg']}"
                for fault in faults[:_FAULTS_TOLD]
            ]
            raise _invalid(told) from error

    return read


def _by_msgspec(output_type: Any) -> Read[Any]:
    decoder = msgspec.json.Decoder(output_type, strict=False)

    def read(text: str) -> Any:
        try:
            return decoder.decode(text)
        except (ValueError, RecursionError) as error:
            raise _invalid([str(error)]) from error

    return read


def _plain(schema: Schema) -> Read[dict[str, Any]]:
    validator = SchemaValidator(schema)

    def read(text: str) -> dict[str, Any]:
        value = decoded(text)
        if not is_object(value):
            raise StructuredOutputError("the answer is not a JSON object", reason="not_object")
        checked, problems = validator.check(value)
        if problems:
            raise _invalid([_told(problem) for problem in problems[:_FAULTS_TOLD]])
        return checked

    return read


def _told(problem: Problem) -> str:
    where = problem.path or "the answer"
    return f"{where}: expected {problem.expected}, got {problem.got}"


def _invalid(faults: list[str]) -> StructuredOutputError:
    told = [excerpt(fault, _LONGEST_FAULT) for fault in faults]
    return StructuredOutputError("; ".join(told), reason="invalid")
