"""A tool with which the model asks a person."""

from __future__ import annotations

from typing import Any, NoReturn

from power_loop.tools.base import Tool
from power_loop.tools.context import ToolContext
from power_loop.tools.json_tool import JsonSchemaTool

__all__ = ["ask_user_tool"]

_DESCRIPTION = (
    "Asks the user a question and gives you the answer. For what only the user can know or decide; "
    "ask for one thing at a time."
)
_PARAMETERS = {
    "type": "object",
    "properties": {
        "question": {"type": "string", "minLength": 1, "description": "what the user is asked"},
        "choices": {
            "type": "array",
            "items": {"type": "string"},
            "minItems": 2,
            "description": "the only answers that there are; leave it out where any will do",
        },
    },
    "required": ["question"],
    "additionalProperties": False,
}


def ask_user_tool() -> Tool:
    """A tool named `request_user_input`: the model puts a question, perhaps with choices.

    The answer of a person is the result of the call. Without a responder the run ends
    `waiting_for_input`; see `ToolContext.request_user_input`.
    """
    # Asked again is no harm: a call that died before its question was stored is made again.
    return JsonSchemaTool("request_user_input", _DESCRIPTION, _PARAMETERS, _ask, idempotent=True)


async def _ask(arguments: dict[str, Any], context: ToolContext[Any]) -> NoReturn:
    choices = arguments.get("choices")
    schema = None if choices is None else {"type": "string", "enum": choices}
    context.request_user_input(arguments["question"], schema)
