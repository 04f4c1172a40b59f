"""The provider compacts by itself, and what it has made of the older part is no longer sent."""

from __future__ import annotations

from msgspec import Struct

from llm_client.parts import is_compaction
from llm_client.types import Transcript
from power_loop.runtime.asking import Ask
from power_loop.runtime.compaction.base import CompactionPlan, ContextSize, trigger_at
from power_loop.runtime.compaction.cuts import stays
from power_loop.session.view import COMPACT_NOTE

__all__ = ["NativeCompactor"]

_NOTE = (
    "{count} earlier messages are not sent any more. What follows begins with what the provider "
    "itself has made of them."
)


class NativeCompactor(Struct, frozen=True, kw_only=True):
    """Lets a provider compact that can (Anthropic Messages, OpenAI Responses), before anybody else.

    Requests ask it to, from a number of tokens on. What it answers stands in the transcript and
    goes back to it; the messages before that leave the view once the prompt is too large here as
    well. Where the provider cannot, or has not, the next strategy is asked. Only the provider that
    has made it can read it: do not let such a session go on with another one.

    Attributes:
        ask_ratio: the provider compacts from this part of the model's window on.
        ask_at: tokens from which it does so instead.
        trigger_ratio: messages leave the view when the prompt has this part of the window.
    """

    ask_ratio: float = 0.6
    ask_at: int | None = None
    trigger_ratio: float = 0.75

    @property
    def name(self) -> str:
        """`native`."""
        return "native"

    def limit(self, window: int | None, reserved_output: int) -> int | None:
        """See `Compactor.limit`."""
        return trigger_at(self.trigger_ratio, None, window, reserved_output)

    def compact_at(self, window: int | None) -> int | None:
        """Tokens of a prompt from which the provider is asked to compact; None if nobody knows."""
        return trigger_at(self.ask_ratio, self.ask_at, window, 0)

    async def compact(self, view: Transcript, size: ContextSize, ask: Ask) -> CompactionPlan | None:
        """See `Compactor.compact`."""
        made = [at for at, m in enumerate(view) if any(map(is_compaction, m.parts))]
        if not made or made[-1] == 0:
            return None
        kept, before = stays(view, size), view[: made[-1]]
        leaving = [m for m in before if m.id not in kept]
        if all(message.name == COMPACT_NOTE for message in leaving):
            return None
        return CompactionPlan(
            by=self.name,
            cut=view[made[-1]].id,
            kept=tuple([message.id for message in before if message.id in kept]),
            note=_NOTE.format(count=len(leaving)),
        )
