"""Old large results of tools become pointers: it costs no model call, and no conversation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from llm_client.types import Message, Part, Text, ToolResult, Transcript
from power_loop.runtime.asking import Ask
from power_loop.runtime.compaction.base import CompactionPlan, ContextSize, trigger_at
from power_loop.runtime.compaction.rendering import clipped
from power_loop.session.view import OUTPUT_META

__all__ = ["ToolResultCompactor"]

_PREVIEW = 120


class ToolResultCompactor(Struct, frozen=True, kw_only=True):
    """Puts a pointer in place of large results of tools, except the newest ones.

    The results stay in the store. Those of tools that say that they are to be preserved stay in the
    view as well.

    Attributes:
        trigger_ratio: it acts when the prompt has this part of the model's window.
        threshold: tokens of a prompt at which it acts instead.
        size_limit: characters of text from which a result is large.
        keep_newest: how many of the newest large results stay as they are.
    """

    trigger_ratio: float = 0.75
    threshold: int | None = None
    size_limit: int = 1000
    keep_newest: int = 10

    @property
    def name(self) -> str:
        """`tool_results`."""
        return "tool_results"

    def limit(self, window: int | None, reserved_output: int) -> int | None:
        """See `Compactor.limit`."""
        return trigger_at(self.trigger_ratio, self.threshold, window, reserved_output)

    async def compact(self, view: Transcript, size: ContextSize, ask: Ask) -> CompactionPlan | None:
        """See `Compactor.compact`."""
        large = [message for message in view if self._is_large(message)]
        old = large[: len(large) - self.keep_newest] if self.keep_newest else large
        replaced = dict(_pointers(old, _names(view), size))
        return CompactionPlan(by=self.name, replaced=replaced) if replaced else None

    def _is_large(self, message: Message) -> bool:
        if message.role != "tool" or (message.meta or {}).get(OUTPUT_META) == "preserve":
            return False
        results = [part for part in message.parts if isinstance(part, ToolResult)]
        return sum(len(result.text) for result in results) > self.size_limit


def _names(view: Sequence[Message]) -> Mapping[str, str]:
    return {call.id: call.name for message in view for call in message.tool_calls}


def _pointers(
    messages: Sequence[Message], names: Mapping[str, str], size: ContextSize
) -> Iterator[tuple[str, tuple[Part, ...]]]:
    for message in messages:
        parts = tuple(
            [
                _pointer(part, names.get(part.call_id, "a tool"), recallable=size.recallable)
                if isinstance(part, ToolResult)
                else part
                for part in message.parts
            ]
        )
        if size.count(Message("tool", parts)) < size.count(message):
            yield message.id, parts


def _pointer(result: ToolResult, tool: str, *, recallable: bool) -> ToolResult:
    where = f" recall_compacted(call_id={result.call_id!r}) brings it back." if recallable else ""
    text = (
        f"[An older result of {tool} of {len(result.text)} characters is left out here.{where} "
        f"It began: {clipped(result.text, _PREVIEW)}]"
    )
    return ToolResult(result.call_id, (Text(text),), result.is_error)
