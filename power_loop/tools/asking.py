"""How a tool asks a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, cast

import msgspec

from llm_client.errors import ConfigError
from llm_client.structured.validator import SchemaValidator
from power_loop.errors import ToolError
from power_loop.session.text import repaired_text

__all__ = ["InputRequested", "checked_schema", "requested"]


class InputRequested(BaseException):
    """How `ToolContext.request_user_input` leaves a tool; no Exception, so that none swallows it.

    `question` and `schema` are what is to be asked, the schema as JSON text or "".
    """

    def __init__(self, question: str, schema: str) -> None:
        super().__init__(question, schema)
        self.question = question
        self.schema = schema


def requested(question: object, schema: Mapping[str, Any] | None) -> InputRequested:
    """What is to be raised to ask this.

    Raises:
        ToolError: the question is no text or blank, or the schema cannot be used.
    """
    if not isinstance(question, str) or not question.strip():
        raise ToolError(f"a question is a str that is not blank, not {question!r}")
    try:
        text = "" if schema is None else checked_schema(schema)
    except ValueError as error:
        raise ToolError(str(error)) from error
    return InputRequested(repaired_text(question), text)


def checked_schema(schema: object) -> str:
    """The schema of a question as JSON text.

    Raises:
        ValueError: no answer can be held against it, or none at all would fit.
    """
    why = None if isinstance(schema, Mapping) else f"{schema!r} is no object"
    try:
        why = why or _fault(cast("object", schema))
        if why is None:
            # What is checked is an object that holds the answer: that itself may be anything.
            SchemaValidator({"type": "object", "properties": {"answer": schema}})
            return msgspec.json.encode(schema, order="sorted").decode()
    except (ConfigError, TypeError, ValueError, RecursionError) as error:
        why = str(error)
    raise ValueError(f"the schema of a question cannot be used: {why}")


def _fault(value: object) -> str | None:
    """What is in a schema that JSON does not have, or that takes no answer."""
    match value:
        case float() if not isfinite(value):
            return f"{value} is no number of JSON"
        case Mapping():
            held = cast("Mapping[object, object]", value)
            if held.get("enum") == []:
                return "an empty 'enum' takes no answer"
            parts = held.values()
        case list() | tuple():
            parts = cast("Sequence[object]", value)
        case _:
            return None
    return next(filter(None, map(_fault, parts)), None)
