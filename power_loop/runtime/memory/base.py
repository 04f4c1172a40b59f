"""**Protocol** MemoryProvider, and what a provider is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from msgspec import Struct

from llm_client.types import Message
from power_loop.runtime.asking import Ask

__all__ = ["MemoryProvider", "MemoryScope", "MemorySnapshot", "RecallQuery"]


class MemoryScope(Struct, frozen=True, kw_only=True):
    """Whose memory it is. A provider says which of these its memories belong to.

    Attributes:
        session: the session's id.
        user: the person that the agent works for; "" where nobody said.
        agent: the agent's name; "" where it has none.
    """

    session: str
    user: str = ""
    agent: str = ""


class RecallQuery(Struct, frozen=True, kw_only=True):
    """What a run is about, as it begins.

    Attributes:
        scope: whose memory is asked.
        text: what was said last to the agent.
        messages: the model's view of the session.
        tokens: how much may come back, together; what is beyond is left out by the loop.
    """

    scope: MemoryScope
    text: str
    messages: Sequence[Message]
    tokens: int


class MemorySnapshot(Struct, frozen=True, kw_only=True):
    """A run as it ends.

    Attributes:
        scope: whose run it was.
        run_id: the run.
        messages: the model's view of the session.
        final_text: the model's last text.
        rounds: how many rounds the run had.
        status: the tag of its outcome, such as "completed".
        metadata: that of the session.
    """

    scope: MemoryScope
    run_id: str
    messages: Sequence[Message]
    final_text: str
    rounds: int
    status: str
    metadata: Mapping[str, str] = {}


@runtime_checkable
class MemoryProvider(Protocol):
    """**Protocol**: remembers across runs and sessions. Safe for use by many runs at once.

    A provider that fails or takes too long costs its run nothing but what it would have brought
    up: the run goes on, and a `MemoryFailed` event says what happened.
    """

    async def recall(self, query: RecallQuery) -> Sequence[Message]:
        """What is to be brought up for a run, best first: user or system messages of text."""
        ...

    async def remember(self, snapshot: MemorySnapshot, ask: Ask | None) -> None:
        """Takes note of a run that ends.

        Called as a run is about to complete, and again if it goes on after that, for a message
        that came meanwhile; and for a run that has ended in another way. The newest call of a run
        says how it was. `ask` asks the run's model; it is there for a run that is about to
        complete, and None for one that has ended.
        """
        ...
