"""What must not be forgotten: facts, and approaches that have failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from llm_client.types import Message, Text, ToolResult
from power_loop.agent.extensions import Extension
from power_loop.agent.system_prompt import PromptContext, Section
from power_loop.driver.dispatch import Hooks
from power_loop.errors import ToolError, UsageError
from power_loop.extensions.following import Followed
from power_loop.hooks import ROUND_START, TOOL_BEFORE, RoundStart, Skip, ToolBefore, replace
from power_loop.session.pins import PINNED_META
from power_loop.session.text import is_sound, repaired_text
from power_loop.session.view import POLICY_META
from power_loop.tools.base import InvalidArguments, Tool
from power_loop.tools.context import ToolContext
from power_loop.tools.json_tool import JsonSchemaTool

__all__ = ["CALL_META", "Pins", "pinned"]

CALL_META = "pins.call"
"""The key of a message's `meta` under which stands the call that it was pinned by."""

_NAME = "pins"
_LONGEST = 1_000
_FACT = "Pinned fact: "
_FAILED = "Failed approach, not to be tried again: "

_GUIDE = """\
# What must not be forgotten
Older messages may be replaced by a summary. With pin_fact you keep a fact that the rest of the \
task hangs on: a decision, a name, a number that cannot be looked up again. With \
note_failed_approach you keep what you have tried in vain, so that it is not tried again. \
Both are few and short."""


def pinned(text: str, name: str = "") -> Message:
    """A user message that stays in the model's view, verbatim, through every compaction.

    For `send`, `steer`, and what hooks append.

    Args:
        text: what must not be forgotten.
        name: a later pin of the same name stands in for this one; one without a name stays for
            good.

    Raises:
        UsageError: the text is blank, or one of both cannot be stored.
    """
    for what, given in (("the text", text), ("the name", name)):
        if not is_sound(Text(given)):
            raise UsageError(f"{what} of a pin must be without NUL and lone surrogates")
    if not text.strip():
        raise UsageError("a pin needs a text to keep")
    return Message("user", (Text(text),), meta={PINNED_META: name})


class Pins(Extension):
    """The tools `pin_fact` and `note_failed_approach`. Made of public hooks and tools alone.

    What such a call has noted is said once more by a pinned message as the next round begins, and
    that stays. Which notes are still to be said is read from the transcript, so a crash loses none
    and none is said twice.
    """

    name = _NAME

    def __init__(self, *, most: int = 32, characters: int = 8_000) -> None:
        """Bounds what a session can pin by these tools.

        Args:
            most: how many notes.
            characters: how long they may be together.

        Raises:
            UsageError: one of them is no whole number over 0.
        """
        for what, value in (("most", most), ("characters", characters)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:  # pyright: ignore[reportUnnecessaryIsInstance]  callers need not be checked
                raise UsageError(f"{what} must be a whole number from 1, not {value!r}")
        self._most = most
        self._characters = characters
        fact = JsonSchemaTool(
            "pin_fact",
            "Keeps a fact in view for the rest of the session. It cannot be taken back.",
            _schema(fact="What is to be kept, in words that need no context."),
            _note,
            idempotent=True,
        )
        failed = JsonSchemaTool(
            "note_failed_approach",
            "Keeps in view that an approach has failed, so that it is not tried again.",
            _schema(approach="What was tried.", why="Why it cannot work, or what came of it."),
            _note,
            idempotent=True,
        )
        self._tools: Mapping[str, JsonSchemaTool] = {fact.name: fact, failed.name: failed}
        self._followed = Followed(_NOTHING, self._step)

    def hooks(self, hooks: Hooks) -> None:
        """Registers its handlers."""
        hooks.on(ROUND_START, self._begin, name=self.name)
        hooks.on(TOOL_BEFORE, self._judge, name=f"{self.name}:limits")

    def tools(self) -> Sequence[Tool]:
        """Two tools."""
        return tuple(self._tools.values())

    def prompt_sections(self) -> Sequence[Section]:
        """What they are for, where they are."""
        return (Section(self.name, self._guide),)

    # ── points ──

    def _begin(self, context: RoundStart[Any]) -> RoundStart[Any] | None:
        known = self._followed.of(context.session_id, context.messages)
        if not known.due:
            return None
        said = [_pin(call_id, text) for call_id, text in known.due.items()]
        return replace(context, append=(*context.append, *said))

    def _judge(self, context: ToolBefore[Any]) -> Skip | None:
        """Refuses what is over a limit, or is pinned already."""
        text = self._noted(context.name, context.arguments)
        if text is None:
            return None  # it is no call of ours, or its tool says what is wrong with it
        there = list(self._followed.of(context.session_id, context.messages).texts.values())
        for call in context.messages[-1].tool_calls:
            if call.id == context.call.id:
                break
            before = self._noted(call.name, call.arguments)
            if before is not None and not self._refusal(before, there):
                there.append(before)
        refusal = self._refusal(text, there)
        return Skip(f"[not noted] {refusal}") if refusal else None

    def _refusal(self, text: str, there: Sequence[str]) -> str:
        if text in there:
            return "It is in view already."
        length = sum(map(len, there))
        if len(there) < self._most and length + len(text) <= self._characters:
            return ""
        return (
            f"A session may keep {self._most} notes of {self._characters:,} characters in all, and "
            f"has {len(there)} of {length:,}. Go on with those."
        )

    def _guide(self, context: PromptContext) -> str:
        return _GUIDE if any(tool.name in self._tools for tool in context.tools) else ""

    # ── what the transcript tells ──

    def _step(self, known: _Known, message: Message) -> _Known:
        match message.role:
            case "assistant":
                asked = [call.id for call in message.tool_calls if call.name in self._tools]
                return replace(known, asked=frozenset(asked))
            case "tool":
                return _with_results(known, message)
            case _:
                call_id = (message.meta or {}).get(CALL_META)
                return known if call_id is None else _with_pin(known, call_id, message.text)

    def _noted(self, name: str, arguments: str) -> str | None:
        """What a call would note; None for nothing."""
        tool = self._tools.get(name)
        if tool is None:
            return None
        try:
            return _text(name, tool.checked(arguments))
        except (InvalidArguments, ToolError):
            return None


class _Known(Struct, frozen=True):
    """Notes by the call that has made them: `due` are not in view yet but for the call's result,
    `texts` are all. `asked` are the calls of the newest answer."""

    texts: Mapping[str, str] = {}
    due: Mapping[str, str] = {}
    asked: frozenset[str] = frozenset()


_NOTHING = _Known()


def _with_results(known: _Known, message: Message) -> _Known:
    for part in message.parts:
        if not isinstance(part, ToolResult) or part.call_id not in known.asked:
            continue
        text = part.text
        # Any other text is an error, or the word of whoever has kept the call from running.
        if text.startswith((_FACT, _FAILED)) and part.call_id not in known.texts:
            due = {**known.due, part.call_id: text}
            known = replace(known, texts={**known.texts, part.call_id: text}, due=due)
    return known


def _with_pin(known: _Known, call_id: str, text: str) -> _Known:
    due = {id: noted for id, noted in known.due.items() if id != call_id}
    return replace(known, texts={**known.texts, call_id: text}, due=due)


def _pin(call_id: str, text: str) -> Message:
    meta = {PINNED_META: "", POLICY_META: _NAME, CALL_META: call_id}
    return Message("user", (Text(text),), id="", meta=meta)


# ── the tools ─────────────────────────────────────────────────────────────────────────────────────


def _schema(**properties: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            name: {"type": "string", "minLength": 1, "maxLength": _LONGEST, "description": told}
            for name, told in properties.items()
        },
        "required": list(properties),
        "additionalProperties": False,
    }


async def _note(values: dict[str, Any], context: ToolContext[Any]) -> str:
    return _text(context.tool, values)


def _text(tool: str, values: Mapping[str, str]) -> str:
    """What a call notes, which is its result and the text of the pin.

    Raises:
        ToolError: something is blank.
    """
    lines = {name: repaired_text(" ".join(value.split())) for name, value in values.items()}
    for name, line in lines.items():
        if not line:
            raise ToolError(f"{tool}: {name} is blank")
    if tool == "pin_fact":
        return f"{_FACT}{lines['fact']}"
    return f"{_FAILED}{lines['approach']}. Why: {lines['why']}"
