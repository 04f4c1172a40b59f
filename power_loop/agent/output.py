"""Typed answers: the schema the model is given, and the check of what it wrote."""

from __future__ import annotations

import re
from typing import Any, Generic, TypeVar

from msgspec import json
from pydantic import PydanticUserError, TypeAdapter, ValidationError

from llm_client.types import OutputSchema
from power_loop.errors import UsageError
from power_loop.tools.schema import strict_schema

__all__ = ["TypedOutput"]

T = TypeVar("T")

_FENCE = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL)
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
        raw = _json_in(text)
        if self._wrapped:
            wrapper = TypeAdapter(dict[str, Any]).validate_json(raw)
            return self._adapter.validate_python(wrapper.get("value"))
        return self._adapter.validate_json(raw)

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


def _json_in(text: str) -> str:
    fence = _FENCE.search(text)
    candidate = (fence.group(1) if fence else text).strip()
    if candidate.startswith(("{", "[")):
        return candidate
    start, end = candidate.find("{"), candidate.rfind("}")
    if start == -1 or end < start:
        raise ValueError("there is no JSON object in the answer")
    return candidate[start : end + 1]
