"""What memory does for one run: bounded in time and size, and never at the cost of the run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar, cast

import anyio
from msgspec import Struct
from msgspec.structs import replace

import llm_client
from llm_client.types import Message, Text
from power_loop.driver.detached import Detached
from power_loop.events import MemoryFailed, Transient
from power_loop.log import logger
from power_loop.runtime.asking import Ask
from power_loop.runtime.memory.base import (
    MemoryProvider,
    MemoryScope,
    MemorySnapshot,
    RecallQuery,
)
from power_loop.session.machine import Session
from power_loop.session.outcome import Outcome, status_of
from power_loop.session.text import is_sound_message, repaired_strings, repaired_text
from power_loop.session.view import was_said

if TYPE_CHECKING:
    from llm_client.tokens import ModelTokens

__all__ = ["MemoryUnusable", "RunMemory"]

_ANY_MODEL = ""
"""Counted by its characters: a vocabulary takes longer to load than a recall may take."""
_CHARACTERS_PER_TOKEN = 4
_LEAST_TOKENS = 16
_CUT = " […]"


_T = TypeVar("_T")


class MemoryUnusable(Exception):
    """What a provider gave cannot be used."""


class RunMemory(Struct, frozen=True, kw_only=True):
    """The memory of one run.

    Attributes:
        provider: who recalls and remembers.
        scope: whose memory it is.
        tokens: what may be recalled, together.
        recall_seconds: how long a recall may take.
        remember_seconds: how long taking note of a run may take.
        metadata: gives the session's.
        detached: contains the provider, which may ignore that its time is over.
    """

    provider: MemoryProvider
    scope: MemoryScope
    tokens: int
    recall_seconds: float
    remember_seconds: float
    metadata: Callable[[], Awaitable[Mapping[str, str]]]
    detached: Detached

    async def recall(
        self, session: Session, emit: Callable[[Transient], None]
    ) -> tuple[Message, ...]:
        """What is brought up for the run; nothing if that fails, which readers are told."""
        said = [m for m in session.view if was_said(m)]
        query = RecallQuery(
            scope=self.scope,
            text=said[-1].text if said else "",
            messages=session.view,
            tokens=self.tokens,
        )

        async def ask() -> tuple[Message, ...]:
            return _usable(await self.provider.recall(query), self.tokens)

        return await self._softly("recall", self.recall_seconds, ask, emit) or ()

    async def remember(
        self,
        session: Session,
        outcome: Outcome,
        text: str,
        ask: Ask | None,
        emit: Callable[[Transient], None],
        within: float | None = None,
    ) -> None:
        """Lets the provider take note of a run that ends; `text` is the model's last. It has
        `within` seconds, if that is less than it has anyway."""

        async def note() -> None:
            snapshot = MemorySnapshot(
                scope=self.scope,
                run_id=session.run or session.last_run or "",
                messages=session.view,
                final_text=text,
                rounds=session.round,
                status=status_of(outcome),
                metadata=await self.metadata(),
            )
            await self.provider.remember(snapshot, ask)

        seconds = self.remember_seconds if within is None else min(within, self.remember_seconds)
        await self._softly("remember", seconds, note, emit)

    async def _softly(
        self,
        operation: str,
        seconds: float,
        work: Callable[[], Awaitable[_T]],
        emit: Callable[[Transient], None],
    ) -> _T | None:
        error: Exception
        provider = type(self.provider).__name__
        try:
            with anyio.move_on_after(seconds):
                return await self.detached.contain(work(), f"the memory {provider}")
            error = TimeoutError(f"it took longer than {seconds:g} s")
        except Exception as raised:  # noqa: BLE001  foreign code; readers are told
            error = raised
        kind = type(error).__name__
        logger.warning("the memory %s failed to %s: %s", provider, operation, kind)
        emit(repaired_strings(MemoryFailed(operation, provider, kind, str(error)[:500])))
        return None


def _usable(found: object, tokens: int) -> tuple[Message, ...]:
    """What was recalled, as far as a request can hold it and its share of the prompt lasts.

    Raises:
        MemoryUnusable: it is something else.
    """
    if not isinstance(found, list | tuple):
        raise MemoryUnusable(f"recall gives a sequence of messages, not a {type(found).__name__}")
    counter = llm_client.ModelTokens(_ANY_MODEL)
    kept: list[Message] = []
    for message in cast("Sequence[object]", found):
        if tokens < _LEAST_TOKENS:
            break
        if not isinstance(message, Message) or message.role not in ("user", "system"):
            raise MemoryUnusable("recall gives messages of role user or system only")
        if not all(isinstance(part, Text) for part in message.parts) or not message.text.strip():
            raise MemoryUnusable("recall gives messages of text only")
        fitting = _within(message, tokens, counter)
        tokens -= counter.count_message(fitting)
        kept.append(fitting)
    return tuple(kept)


def _within(message: Message, tokens: int, counter: ModelTokens) -> Message:
    """`message`, with the end of its text left out if it is beyond `tokens`."""
    whole = repaired_text(message.text)
    most = tokens * _CHARACTERS_PER_TOKEN
    if len(whole) <= most and len(message.parts) == 1 and is_sound_message(message):
        fitting = message
    else:
        text = whole if len(whole) <= most else whole[:most] + _CUT
        fitting = Message(message.role, (Text(text),), id=message.id, name=message.name)
        fitting = repaired_strings(fitting)
    # Of some scripts a character is a token, or more.
    while (has := counter.count_message(fitting)) > tokens and most > 1:
        most = min(most - 1, most * tokens // has)
        fitting = replace(fitting, parts=(Text(whole[:most] + _CUT),))
    return fitting
