"""Typed answers: the schema the model is given, and the check of what it wrote."""

from __future__ import annotations

import re
from collections.abc import Iterator
from json import JSONDecoder, dumps
from types import MappingProxyType
from typing import Any, Generic, TypeVar, cast

from msgspec import json
from pydantic import PydanticUserError, TypeAdapter, ValidationError

from llm_client.structured.schema import strict_schema
from llm_client.types import OutputSchema
from power_loop.errors import UsageError

__all__ = ["TypedOutput"]

T = TypeVar("T")


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


_FENCE = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL)
_OPENING = MappingProxyType({"{": re.compile(r"\{"), "{[": re.compile(r"[{\[]")})
_DECODER = JSONDecoder(parse_constant=_refused)
_TRIES = 20
"""Places in an answer at which a value may begin: an endless row of braces is not searched."""
_NO_JSON = "there is no JSON object in the answer"
_ERRORS_TOLD = 5


class TypedOutput(Generic[T]):
    """What `output_type` asks for. Anything that pydantic can validate."""

    def __init__(self, output_type: type[T]) -> None:
        """Raises UsageError: pydantic knows no schema for `output_type`."""
        try:
            self._adapter: TypeAdapter[T] = TypeAdapter(output_type)
            schema: dict[str, Any] = self._adapter.json_schema()
        except (PydanticUserError, NameError) as error:
            raise UsageError(
                f"output_type={output_type!r} cannot be asked for: {error}. "
                "Use a pydantic model, a dataclass, a TypedDict, or a type of JSON values"
            ) from error
        # Providers take objects only; another type travels as the one member of an object.
        self._wrapped = schema.get("type") != "object"
        if self._wrapped:
            definitions = schema.pop("$defs", None)
            schema = {"type": "object", "properties": {"value": schema}, "required": ["value"]}
            if definitions is not None:
                schema["$defs"] = definitions
        schema, problems = strict_schema(schema)
        name = re.sub(r"[^A-Za-z0-9_-]", "_", getattr(output_type, "__name__", "answer"))[:64]
        self.schema = OutputSchema(name or "answer", schema, strict=not problems)

    @property
    def prompt(self) -> str:
        """What a model is told that cannot be bound to a schema."""
        schema = json.encode(self.schema.schema).decode()
        return (
            f"Answer with one JSON object and nothing else. It must satisfy this schema: {schema}"
        )

    def parse(self, text: str) -> T:
        """The answer in `text`: JSON, perhaps in a fence or between words.

        Raises:
            ValueError: it is not JSON, or not of the type.
        """
        failure: ValueError | None = None
        for found in _values_in(text, "{[" if self._wrapped else "{"):
            try:
                return self._validated(found)
            except ValueError as error:
                failure = failure or error
        raise failure or ValueError(_NO_JSON)

    def _validated(self, found: str) -> T:
        if self._wrapped:
            value = _DECODER.decode(found)
            if isinstance(value, dict) and list(cast("dict[str, Any]", value)) == ["value"]:
                return self._adapter.validate_json(dumps(value["value"]))
        # Models also give the bare value that they were asked to wrap.
        return self._adapter.validate_json(found)

    def fault(self, text: str) -> str | None:
        """What is wrong with an answer, in words for the model; None if nothing is."""
        try:
            self.parse(text)
        except ValidationError as error:
            told = [
                f"{'.'.join(map(str, fault['loc'])) or 'the answer'}: {fault['msg']}"
                for fault in error.errors(include_url=False)[:_ERRORS_TOLD]
            ]
            return "; ".join(told)
        except ValueError as error:
            return str(error)
        return None


def _values_in(text: str, opening: str) -> Iterator[str]:
    """The JSON values in `text`: all of it or of a fence, else what stands between words there.

    Those begin with one of the characters of `opening`.
    """
    fence = _FENCE.search(text)
    body = (fence.group(1) if fence else text).strip()
    if _end_of_value(body, 0) == len(body):
        yield body
        return
    start = 0
    for _ in range(_TRIES):
        place = _OPENING[opening].search(body, start)
        if place is None:
            return
        start = place.start()
        end = _end_of_value(body, start)
        if end is None:
            start += 1
        else:
            yield body[start:end]
            start = end


def _end_of_value(text: str, start: int) -> int | None:
    try:
        return _DECODER.raw_decode(text, start)[1]
    except (ValueError, RecursionError):
        return None
