"""A tool with which a model reads again what has left its view."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct

from llm_client.types import Audio, File, Image, Message, Part, Text, ToolCall, ToolResult
from power_loop.errors import ToolError
from power_loop.runtime.compaction.keeper import RECALL_TOOL
from power_loop.runtime.stores.base import Store
from power_loop.session.records import MessageAppended, Rewound, RunOpened, ToolSettled, ViewChanged
from power_loop.tools.base import Tool
from power_loop.tools.context import ToolContext
from power_loop.tools.json_tool import JsonSchemaTool

__all__ = ["recall_compacted_tool"]

_PAGE = 8_000
"""Characters of a page, about."""
_PER_MESSAGE = 1_500
_AROUND = 200
_LONGEST_SEARCH = 200
_READ_AT_A_TIME = 1_000

_DESCRIPTION = (
    "Brings back what was said earlier in this conversation and is not shown any more: page by "
    "page, the oldest first; or where a text occurs; or one message or result of a tool, whole."
)
_PARAMETERS = {
    "type": "object",
    "properties": {
        "start": {
            "type": "integer",
            "minimum": 0,
            "description": "the number of the message to begin at, as an earlier page gave it",
        },
        "search": {
            "type": "string",
            "minLength": 1,
            "maxLength": _LONGEST_SEARCH,
            "description": "only messages that hold this text, whatever its capitals",
        },
        "message": {"type": "integer", "minimum": 1, "description": "this message, whole"},
        "call_id": {"type": "string", "description": "the result of this call, whole"},
        "offset": {
            "type": "integer",
            "minimum": 0,
            "description": "with message or call_id: the character to begin at",
        },
    },
    "additionalProperties": False,
}


def recall_compacted_tool(store: Store) -> Tool:
    """A tool named `recall_compacted`: the model reads what has left its view, from `store`.

    Notes that stand for older messages tell the model of it where a loop has it.
    """

    async def recall(arguments: dict[str, Any], context: ToolContext[Any]) -> str:
        said, gone = await _said(store, context.session_id)
        if "call_id" in arguments or "message" in arguments:
            return _whole(said, arguments)
        return _page(said[:gone], arguments.get("start", 0), arguments.get("search", ""))

    return JsonSchemaTool(RECALL_TOOL, _DESCRIPTION, _PARAMETERS, recall, idempotent=True)


class _Said(Struct, frozen=True):
    """A message, and the number of the record that holds it."""

    number: int
    message: Message


async def _said(store: Store, session_id: str) -> tuple[list[_Said], int]:
    """All that was said in a session, and how much of it has left the view. What stands behind the
    place that a rewind went back to is no part of it: somebody wanted it gone."""
    said: list[_Said] = []
    cuts: list[tuple[int, str]] = []
    rewinds: list[tuple[int, int]] = []
    last = 0
    while True:
        page = await store.read(session_id, last, _READ_AT_A_TIME)
        for stamped in page:
            last = stamped.seq
            match stamped.event:
                case RunOpened(input=given):
                    said += [_Said(last, message) for message in given]
                case MessageAppended(message=message) | ToolSettled(message=message):
                    said.append(_Said(last, message))
                case ViewChanged(cut=str(cut)):
                    cuts.append((last, cut))
                case Rewound(at=at):
                    rewinds.append((last, at))
                case _:
                    pass
        if len(page) < _READ_AT_A_TIME:
            break
    spans = _not_rewound(rewinds, last)
    said = [each for each in said if any(each.number in span for span in spans)]
    places = {each.message.id: at for at, each in enumerate(said)}
    newest = [cut for number, cut in cuts if any(number in span for span in spans)][-1:]
    return said, places.get(newest[0], 0) if newest else 0


def _not_rewound(rewinds: Sequence[tuple[int, int]], last: int) -> list[range]:
    """The numbers of records that lead to the view as it is, of `last` records. Rewinds are given
    by their own number and that of the record which they go back to."""
    spans: list[range] = []
    for number, at in reversed(rewinds):
        if number <= last:
            spans.append(range(number, last + 1))
            last = at
    return [*spans, range(last + 1)]


def _page(said: Sequence[_Said], start: int, search: str) -> str:
    wanted = search.casefold()
    fitting = [
        (each, text)
        for each in said
        if each.number >= start and wanted in (text := _text(each.message)).casefold()
    ]
    if not fitting:
        what = f"with {search!r} " if search else ""
        return f"[Nothing {what}has left your view from message {start} on]"
    lines: list[str] = []
    room = _PAGE
    for each, text in fitting:
        line = f"#{each.number} [{each.message.role}] {_excerpt(text, wanted)}"
        if lines and len(line) > room:
            return "\n\n".join([*lines, f"[go on with start={each.number}]"])
        lines.append(line)
        room -= len(line)
    return "\n\n".join([*lines, "[that is all]"])


def _excerpt(text: str, wanted: str) -> str:
    if wanted:
        at = text.casefold().find(wanted)
        first, last = max(0, at - _AROUND), at + len(wanted) + _AROUND
        return ("…" if first else "") + text[first:last] + ("…" if last < len(text) else "")
    if len(text) <= _PER_MESSAGE:
        return text
    return f"{text[:_PER_MESSAGE]}… [{len(text)} characters: ask for this message alone]"


def _whole(said: Sequence[_Said], arguments: dict[str, Any]) -> str:
    if "call_id" in arguments:
        call_id = arguments["call_id"]
        found = (each for each in said if _is_result(each.message, call_id))
    else:
        call_id = None
        found = (each for each in said if each.number == arguments["message"])
    each = next(found, None)
    if each is None:
        what = f"result of call {call_id!r}" if call_id is not None else "such message"
        raise ToolError(
            f"There is no {what} in this conversation. Numbers and call ids are those that "
            f"{RECALL_TOOL} gives without arguments, or that stand where something was left out."
        )
    text, offset = _text(each.message), arguments.get("offset", 0)
    end = min(offset + _PAGE, len(text))
    rest = "the end" if end >= len(text) else f"go on at offset={end}"
    return f"[characters {offset} to {end} of {len(text)}; {rest}]\n{text[offset:end]}"


def _is_result(message: Message, call_id: str) -> bool:
    return any(isinstance(p, ToolResult) and p.call_id == call_id for p in message.parts)


def _text(message: Message) -> str:
    return "\n".join(_told(message.parts))


def _told(parts: Sequence[Part]) -> Iterator[str]:
    for part in parts:
        match part:
            case Text():
                yield part.text
            case ToolCall():
                yield f"calls {part.name}({part.arguments}) as {part.id}"
            case ToolResult():
                yield part.text
            case Image() | Audio() | File():
                yield f"({type(part).__name__.lower()})"
            case _:
                pass
