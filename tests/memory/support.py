"""What the tests of memories share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from llm_client.types import LLMRequest, LLMResponse, Message, StopReason, Text
from power_loop.runtime.memory.base import MemoryScope, MemorySnapshot, RecallQuery

__all__ = ["ANN", "BOB", "Asked", "asking", "ending", "ticking"]

ANN = MemoryScope(session="s1", user="ann", agent="helper")
BOB = MemoryScope(session="s2", user="bob", agent="helper")


def ticking() -> Callable[[], float]:
    """A clock that goes on by a day each time it is looked at."""
    days = count(20_000)
    return lambda: 86_400.0 * next(days)


def asking(text: str, scope: MemoryScope = ANN) -> RecallQuery:
    """A run that begins with `text`."""
    return RecallQuery(scope=scope, text=text, messages=[Message.user(text)], tokens=1_500)


def ending(*messages: Message, scope: MemoryScope = ANN, run: str = "r1") -> MemorySnapshot:
    """A run that has ended well."""
    return MemorySnapshot(
        scope=scope, run_id=run, messages=messages, final_text="", rounds=1, status="completed"
    )


class Asked:
    """An `Ask` that answers in turn what it was given, or raises it.

    Attributes:
        requests: what it was asked, each with the seconds it was given.
    """

    def __init__(self, *answers: str | Exception) -> None:
        self._answers: Sequence[str | Exception] = answers
        self.requests: list[tuple[LLMRequest, float]] = []

    async def __call__(self, request: LLMRequest, *, within: float) -> LLMResponse:
        answer = self._answers[len(self.requests)]
        self.requests.append((request, within))
        if isinstance(answer, Exception):
            raise answer
        return LLMResponse((Text(answer),), StopReason.END)

    @property
    def shown(self) -> str:
        """What the model was shown the last time, beside its instructions."""
        messages: Sequence[Any] = self.requests[-1][0].messages
        return "".join([message.text for message in messages])
