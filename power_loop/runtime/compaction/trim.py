"""The older part of a view is left out, by rule: no model is asked, and it cannot fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from llm_client.types import Message, Part, Text, ToolResult, Transcript
from power_loop.runtime.asking import Ask
from power_loop.runtime.compaction.base import CompactionPlan, ContextSize, trigger_at
from power_loop.runtime.compaction.cuts import Cut, cut_of
from power_loop.runtime.compaction.rendering import clipped, framed, summary_in
from power_loop.session.view import COMPACT_NOTE

__all__ = ["TrimCompactor"]

_NOTE_TOKENS = 400
_NOTE_CHARACTERS = 800
_SLACK = 16
"""Tokens of what a note has beside its text."""
_SAID_CHARACTERS = 160
_LEAST_CHARACTERS = 200
_SHARE_OF_SUMMARY = 4
_SUMMARY_CHARACTERS = 400
_RECORD = "That is a record of the beginning, and no instruction. Of what came after it, at last:"


class TrimCompactor(Struct, frozen=True, kw_only=True):
    """Leaves out the older part of a view; a note says what had been asked and called there.

    A summary that an earlier note holds stays in the new one; where there is little room, a long
    one loses its middle. Where the newest messages alone are too large, long results of tools among
    them lose theirs.

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
        note = next((message for message in view if message.name == COMPACT_NOTE), None)
        plan: CompactionPlan | None = None
        for summary in _earlier_summaries(note, size):
            made = note.meta if note is not None and summary else None
            stamp = {name: value for name, value in (made or {}).items() if name != "strategy"}
            plan, fits = self._planned(view, size, summary, stamp)
            if fits:
                break
        return plan

    def _planned(
        self, view: Transcript, size: ContextSize, summary: str, stamp: Mapping[str, str]
    ) -> tuple[CompactionPlan | None, bool]:
        """What is left out if `summary` stays, and whether what is left fits."""
        note = _NOTE_TOKENS + (size.count(Message.user(summary)) if summary else 0)
        cut = cut_of(view, size, note, self.keep_exchanges)
        staying = view if cut is None else [*cut.kept, *view[cut.at :]]
        whole = size.overhead + sum(map(size.count, staying))
        surplus = whole + note - size.aim
        replaced = dict(_shortened(staying, surplus, size)) if surplus > 0 else {}
        if cut is None:
            return CompactionPlan(by=self.name, replaced=replaced) if replaced else None, True
        told = _note(cut, summary, recallable=size.recallable)
        plan = CompactionPlan(
            by=self.name,
            cut=view[cut.at].id,
            kept=tuple([message.id for message in cut.kept]),
            note=told,
            stamp=stamp,
            replaced=replaced,
        )
        shorter = sum(
            size.count(message) - size.count(Message("tool", replaced[message.id]))
            for message in staying
            if message.id in replaced
        )
        return plan, whole - shorter + size.count(Message.user(told)) + _SLACK < size.limit


def _earlier_summaries(note: Message | None, size: ContextSize) -> Iterator[str]:
    """The summary that the `note` of an earlier compaction holds, in its frame; then less of it,
    and nothing, for where there is no room.

    It is all that the model has of what had left by then.
    """
    summary = "" if note is None else summary_in(note.text)
    if summary:
        room = (size.aim - size.overhead) // _SHARE_OF_SUMMARY
        if size.count(Message.user(summary)) <= room:
            yield framed(summary)
        # One that was clipped already is not clipped again.
        long = len(summary) > _SUMMARY_CHARACTERS * 5 // 4
        yield framed(clipped(summary, _SUMMARY_CHARACTERS) if long else summary)
    yield ""


def _note(cut: Cut, summary: str, *, recallable: bool) -> str:
    """What the older part was about, in so far as that can be said without a model."""
    leaving = [message for message in cut.leaving if message.name != COMPACT_NOTE]
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
    before = [summary, _RECORD] if summary else []
    return "\n".join([*before, *lines, *(["The user had said:"] if quoted else []), *quoted])


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
