"""The older part of a view is left out, by rule: no model is asked, and it cannot fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from msgspec import Struct

from llm_client.types import Message, Part, Text, ToolResult, Transcript
from power_loop.runtime.asking import Ask
from power_loop.runtime.compaction.base import CompactionPlan, ContextSize, trigger_at
from power_loop.runtime.compaction.cuts import Cut, cut_of
from power_loop.runtime.compaction.rendering import clipped

__all__ = ["TrimCompactor"]

_NOTE_TOKENS = 400
_NOTE_CHARACTERS = 800
_SAID_CHARACTERS = 160
_LEAST_CHARACTERS = 200


class TrimCompactor(Struct, frozen=True, kw_only=True):
    """Leaves out the older part of a view; a note says what had been asked and called there.

    Where the newest messages alone are too large, long results of tools among them lose their
    middle.

    Attributes:
        trigger_ratio: it acts when the prompt has this part of the model's window.
        threshold: tokens of a prompt at which it acts instead.
        keep_exchanges: exchanges, each begun by the user, that stay if they fit.
    """

    trigger_ratio: float = 0.75
    threshold: int | None = None
    keep_exchanges: int = 4

    @property
    def name(self) -> str:
        """`trim`."""
        return "trim"

    def limit(self, window: int | None, reserved_output: int) -> int | None:
        """See `Compactor.limit`."""
        return trigger_at(self.trigger_ratio, self.threshold, window, reserved_output)

    async def compact(self, view: Transcript, size: ContextSize, ask: Ask) -> CompactionPlan | None:
        """See `Compactor.compact`."""
        cut = cut_of(view, size, _NOTE_TOKENS, self.keep_exchanges)
        staying = view if cut is None else [*cut.kept, *view[cut.at :]]
        spare = size.aim - size.overhead - sum(map(size.count, staying)) - _NOTE_TOKENS
        replaced = dict(_shortened(staying, -spare, size)) if spare < 0 else {}
        if cut is None:
            return CompactionPlan(by=self.name, replaced=replaced) if replaced else None
        return CompactionPlan(
            by=self.name,
            cut=view[cut.at].id,
            kept=tuple([message.id for message in cut.kept]),
            note=_note(cut, recallable=size.recallable),
            replaced=replaced,
        )


def _note(cut: Cut, *, recallable: bool) -> str:
    """What the older part was about, in so far as that can be said without a model."""
    leaving = cut.leaving
    said = [clipped(m.text.strip(), _SAID_CHARACTERS) for m in leaving if m.role == "user"]
    called = Counter(call.name for message in leaving for call in message.tool_calls)
    lines = [f"{len(leaving)} earlier messages are left out here."]
    if called:
        counts = ", ".join(f"{name} ({count})" for name, count in called.most_common(10))
        lines.append(f"Tools were called: {counts}.")
    if recallable:
        lines.append("The tool recall_compacted brings them back.")
    room = _NOTE_CHARACTERS - sum(map(len, lines))
    quoted: list[str] = []
    for text in reversed(list(filter(None, said))):
        room -= len(text) + 3
        if room < 0:
            break
        quoted.insert(0, f"- {text}")
    return "\n".join([*lines, *(["The user had said:"] if quoted else []), *quoted])


def _shortened(
    messages: Sequence[Message], surplus: int, size: ContextSize
) -> Iterator[tuple[str, tuple[Part, ...]]]:
    """Shorter forms of the largest results among `messages`, until `surplus` tokens are gone."""
    results = [message for message in messages if message.role == "tool"]
    for message in sorted(results, key=size.count, reverse=True):
        if surplus <= 0:
            return
        had = size.count(message)
        # In proportion: what a character costs here is what it costs in this message.
        share = max(0.0, 1 - surplus / had) if had else 0.0
        parts = tuple([_cut_result(part, share) for part in message.parts])
        if parts == message.parts:
            continue
        surplus -= had - size.count(Message("tool", parts))
        yield message.id, parts


def _cut_result(part: Part, share: float) -> Part:
    if not isinstance(part, ToolResult):
        return part
    content = tuple(
        [
            Text(clipped(each.text, max(_LEAST_CHARACTERS, int(len(each.text) * share * 0.9))))
            if isinstance(each, Text)
            else each
            for each in part.content
        ]
    )
    return ToolResult(part.call_id, content, part.is_error)
