"""A list of what is to be done, which the model keeps, and a word when it has forgotten it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, cast, get_args

import msgspec
from msgspec import Struct

from llm_client.structured.problems import Problem, shown_value
from llm_client.types import Message, Text, ToolCall, ToolResult
from power_loop.agent.extensions import Extension
from power_loop.agent.system_prompt import PromptContext, Section
from power_loop.driver.dispatch import Hooks
from power_loop.extensions.following import Followed
from power_loop.hooks import ROUND_START, RoundStart, replace
from power_loop.session.pins import PINNED_META
from power_loop.session.text import repaired_text
from power_loop.session.view import POLICY_META
from power_loop.tools.arguments import parse_object
from power_loop.tools.base import InvalidArguments, Tool
from power_loop.tools.context import ToolContext
from power_loop.tools.json_tool import JsonSchemaTool

__all__ = ["LIST_META", "REMINDER_META", "Todo", "TodoItem", "TodoStatus", "todo_list"]

LIST_META = "todo"
"""The key of a message's `meta` under which the list stands that it tells of, as JSON."""

REMINDER_META = "todo.reminder"
"""The key of a reminder's `meta`; under it stands after how many rounds it came."""

TodoStatus = Literal["pending", "in_progress", "completed"]

_NAME = "todo"
_MOST = 20
_LONGEST = 200
_ROUNDS = 5
_MARKS: Mapping[TodoStatus, str] = {"pending": "[ ]", "in_progress": "[>]", "completed": "[x]"}

_DESCRIPTION = """\
Writes your todo list, in place of the one before. Keep one for work of three steps or more.
At most one item is in_progress: the one that you work on."""

_PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "items": {
            "type": "array",
            "maxItems": _MOST,
            "description": "All items in their order, also those that are completed.",
            "items": {
                "type": "object",
                "properties": {
                    "text": {"type": "string", "minLength": 1, "maxLength": _LONGEST},
                    "status": {"type": "string", "enum": list(get_args(TodoStatus))},
                },
                "required": ["text", "status"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["items"],
    "additionalProperties": False,
}

_DISCIPLINE = """\
# Todo list
For work of three steps or more, write a list with the todo tool before you begin. Mark the item \
that you begin as in_progress, and as completed at once when it is done: not several at a time, \
and not before its result has been checked. Change the list when the work turns out to be \
another."""


class TodoItem(Struct, frozen=True):
    """One thing that is to be done."""

    text: str
    status: TodoStatus = "pending"

    def __str__(self) -> str:
        return f"{_MARKS[self.status]} {self.text}"


class Todo(Extension):
    """The tool `todo`, and reminders. Made of public hooks and tools alone.

    The list is nowhere but in the session's own transcript. Once a call has written it, it is said
    again by a message that is pinned under the name "todo": each stands in for the one before, and
    the newest stays through every compaction. So a crash, a resume elsewhere, a fork and a rewind
    find the list that belongs there. It is said once for each change and never put into a request
    anew, so that the prefix of the prompt stays what it was and is cached. After five rounds
    without a call, while an item is in progress, the model is reminded; that stays, too.
    """

    name = _NAME

    def __init__(self) -> None:
        self._tool = _TodoTool()
        self._followed = Followed(_NOTHING, self._tool.step)

    def hooks(self, hooks: Hooks) -> None:
        """Registers its handler."""
        hooks.on(ROUND_START, self._begin, name=self.name)

    def tools(self) -> Sequence[Tool]:
        """One tool."""
        return (self._tool,)

    def prompt_sections(self) -> Sequence[Section]:
        """How the list is kept, where there is the tool."""
        return (Section("todo_discipline", _discipline),)

    def _begin(self, context: RoundStart[Any]) -> RoundStart[Any] | None:
        known = self._followed.of(context.session_id, context.messages)
        if not known.told:
            said = _snapshot(known.items)
        elif known.idle >= _ROUNDS and (doing := _doing(known.items)):
            said = _reminder(known.idle, doing)
        else:
            return None
        return replace(context, append=(*context.append, said))


def todo_list(messages: Iterable[Message]) -> tuple[TodoItem, ...]:
    """The todo list that a transcript has come to, such as that of `AgentLoop.get_messages`."""
    tool, known = _TodoTool(), _NOTHING
    for message in messages:
        known = tool.step(known, message)
    return known.items


# ── what the transcript tells ─────────────────────────────────────────────────────────────────────


class _Known(Struct, frozen=True):
    """`told`: a message has said the list again. `idle`: answers since it was touched, or the model
    was reminded of it. `asked`: lists that the newest answer has asked to be written, by call."""

    items: tuple[TodoItem, ...] = ()
    told: bool = True
    idle: int = 0
    asked: Mapping[str, tuple[TodoItem, ...]] = {}


_NOTHING = _Known()


class _TodoTool(JsonSchemaTool):
    def __init__(self) -> None:
        super().__init__(_NAME, _DESCRIPTION, _PARAMETERS, _written, idempotent=True)

    def checked(self, arguments: str) -> dict[str, Any]:
        """See `JsonSchemaTool.checked`; all that is wrong is told at once."""
        values, problems = self._validator.check(parse_object(arguments, self.name))
        problems += _problems(values)
        if problems:
            raise InvalidArguments(self.name, problems)
        return values

    def step(self, known: _Known, message: Message) -> _Known:
        """What a transcript has come to with one message more."""
        match message.role:
            case "assistant":
                lists = {call.id: self._of(call) for call in message.tool_calls}
                asked = {id: items for id, items in lists.items() if items is not None}
                return replace(known, idle=known.idle + 1, asked=asked)
            case "tool":
                return _with_results(known, message)
            case _:
                return _with_note(known, message)

    def _of(self, call: ToolCall) -> tuple[TodoItem, ...] | None:
        if call.name != self.name:
            return None
        try:
            return _items(self.checked(call.arguments))
        except InvalidArguments:
            return None


def _with_results(known: _Known, message: Message) -> _Known:
    for part in message.parts:
        if not isinstance(part, ToolResult):
            continue
        items = known.asked.get(part.call_id)
        # Any other text is an error, or the word of whoever has kept the call from running or has
        # made it write another list.
        if items is not None and part.text == _told(items):
            told = known.told and items == known.items
            known = replace(known, items=items, told=told, idle=0)
    return known


def _with_note(known: _Known, message: Message) -> _Known:
    meta = message.meta or {}
    if REMINDER_META in meta:
        return replace(known, idle=0)
    if LIST_META not in meta:
        return known
    try:
        items = msgspec.json.decode(meta[LIST_META], type=tuple[TodoItem, ...])
    except msgspec.DecodeError:
        return known  # the application's own note under this key
    return replace(known, items=items, told=True)


# ── the tool ──────────────────────────────────────────────────────────────────────────────────────


async def _written(values: dict[str, Any], _: ToolContext[Any]) -> str:
    return _told(_items(values))


def _items(values: dict[str, Any]) -> tuple[TodoItem, ...]:
    return tuple([TodoItem(_line(each["text"]), each["status"]) for each in values["items"]])


def _problems(values: dict[str, Any]) -> list[Problem]:
    """What no schema can say, of items of whatever form."""
    given: object = values.get("items")
    items = cast("list[object]", given) if isinstance(given, list) else []
    maps = [(at, cast("dict[str, object]", i)) for at, i in enumerate(items) if isinstance(i, dict)]
    found = [
        Problem(f"items[{at}].text", "a text that is not blank", shown_value(text))
        for at, item in maps
        if isinstance(text := item.get("text"), str) and text and not text.strip()
    ]
    doing = [at for at, item in maps if item.get("status") == "in_progress"]
    if len(doing) > 1:
        places = ", ".join([f"items[{at}]" for at in doing])
        found.append(Problem("items", "at most one item that is in_progress", places))
    return found


def _line(text: str) -> str:
    return repaired_text(" ".join(text.split()))


def _told(items: tuple[TodoItem, ...]) -> str:
    done = sum(item.status == "completed" for item in items)
    doing = _doing(items)
    return f"Written: {done} of {len(items)} completed" + (f"; now: {doing}" if doing else "")


def _doing(items: Sequence[TodoItem]) -> str:
    return next((item.text for item in items if item.status == "in_progress"), "")


# ── what is said ──────────────────────────────────────────────────────────────────────────────────


def _discipline(context: PromptContext) -> str:
    return _DISCIPLINE if any(tool.name == _NAME for tool in context.tools) else ""


def _snapshot(items: tuple[TodoItem, ...]) -> Message:
    text = "\n".join(["Your todo list:", *map(str, items)]) if items else "Your todo list is empty."
    listed = msgspec.json.encode(items).decode()
    meta = {PINNED_META: _NAME, POLICY_META: _NAME, LIST_META: listed}
    return Message("user", (Text(text),), id="", meta=meta)


def _reminder(rounds: int, doing: str) -> Message:
    text = (
        f"You have not touched your todo list for {rounds} rounds. In progress there is: {doing}. "
        "Bring the list up to date if that is not so any more."
    )
    meta = {POLICY_META: _NAME, REMINDER_META: str(rounds)}
    return Message("user", (Text(text),), id="", meta=meta)
