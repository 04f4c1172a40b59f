"""How a tool asks a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from llm_client.errors import ConfigError
from llm_client.structured.validator import SchemaValidator
from power_loop.errors import ToolError
from power_loop.session.text import repaired_text

__all__ = ["InputRequested", "requested"]


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
    return InputRequested(repaired_text(question), "" if schema is None else _text_of(schema))


def _text_of(schema: Mapping[str, Any]) -> str:
    try:
        # What is checked is an object that holds the answer: the answer itself may be anything.
        SchemaValidator({"type": "object", "properties": {"answer": dict(schema)}})
        return msgspec.json.encode(schema, order="sorted").decode()
    except (ConfigError, TypeError, ValueError, RecursionError) as error:
        raise ToolError(f"the schema of a question cannot be used: {error}") from error
