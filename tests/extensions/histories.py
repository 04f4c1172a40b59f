"""Sessions at the level of their messages: rounds, crashes, compactions and rewinds."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from llm_client.types import Message, Text, ToolCall, Transcript
from power_loop import Extension, Hooks
from power_loop.events import HookFailed
from power_loop.hooks import ROUND_START, RoundStart
from power_loop.session.pins import standing_pins
from power_loop.session.view import COMPACT_NOTE

__all__ = ["History", "is_append_only"]

T = TypeVar("T")


class History:
    """A view that grows as a session's does, with an extension that hears of each round.

    `made` makes the extension: once more for each process. A compaction cuts anywhere but between a
    call and its result, and keeps what is pinned before its note.
    """

    def __init__(self, made: Callable[[], Extension]) -> None:
        self._made = made
        self._count = 0
        self.backing: list[Message] = []
        self.die()

    @property
    def view(self) -> Transcript:
        return Transcript(self.backing)

    def die(self) -> None:
        """Another process goes on."""
        extension = self._made()
        self._hooks = Hooks()
        extension.hooks(self._hooks)

    def begin_round(self) -> list[Message]:
        """What the extension says as a round begins."""
        context = RoundStart(session_id="s", run_id="r", round=1, deps=None, messages=self.view)
        said = _at_once(self._hooks.fire(ROUND_START, context, _failed))
        assert isinstance(said, RoundStart)
        added = [replace(message, id=self._id()) for message in said.append]
        self.backing += added
        return added

    def user(self, text: str) -> None:
        self.backing.append(Message("user", (Text(text),), id=self._id()))

    def answer(self, *calls: tuple[str, dict[str, Any], str]) -> list[str]:
        """An answer with calls (tool, arguments, result), and their results; the calls' ids."""
        made = [ToolCall(self._id(), name, _json(values)) for name, values, _ in calls]
        parts = tuple(made) or (Text("I think."),)
        self.backing.append(Message("assistant", parts, id=self._id()))
        for call, (_, _, result) in zip(made, calls, strict=True):
            self.backing.append(replace(Message.tool(call.id, result), id=f"{call.id}.result"))
        return [call.id for call in made]

    def compact(self, at: int) -> None:
        """Leaves a note of what is before the message `at`, or the next one that can be cut at."""
        view = self.backing
        while at < len(view) and view[at].role == "tool":
            at += 1
        kept = [message for message in standing_pins(view) if message in view[:at]]
        note = Message("user", (Text("So far …"),), id=self._id(), name=COMPACT_NOTE)
        self.backing = [*kept, note, *view[at:]]

    def rewind(self, keep: int) -> None:
        """Goes back to the first `keep` messages, or to the next place between rounds."""
        view = self.backing
        while keep < len(view) and view[keep].role == "tool":
            keep += 1
        self.backing = view[:keep]

    def _id(self) -> str:
        self._count += 1
        return f"m{self._count}"


def _failed(told: HookFailed) -> None:
    raise AssertionError(told)


def _at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("a handler waited")


def _json(values: dict[str, Any]) -> str:
    return msgspec.json.encode(values).decode()


def is_append_only(requests: Sequence[Any]) -> bool:
    """Whether each request's messages begin with those of the one before, to the byte."""
    sent = [[msgspec.json.encode(message) for message in each.messages] for each in requests]
    return all(after[: len(before)] == before for before, after in pairwise(sent))
