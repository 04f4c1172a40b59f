"""Says whether views were made smaller once where they had to be, from the log alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from power_loop.session.records import (
    Forked,
    MessageAppended,
    ModelAsked,
    ModelEnded,
    Record,
    RunClosed,
    RunOpened,
    ToolSettled,
    ViewChanged,
)

__all__ = ["compaction_faults"]


def compaction_faults(log: Sequence[Record]) -> list[str]:
    """What is wrong with the compactions of a session, in words.

    A view that has not grown is not made smaller again, and not summarised again. For one that has,
    a run asks for one summary, and only where that fails things are left out by rule.
    """
    judged = _Compactions()
    return [
        f"record {number}: {fault}"
        for number, record in enumerate(log, 1)
        for fault in judged.take(record)
    ]


class _Compactions:
    """What the log says of them: `asked` times for a summary since the view has `grown`, the last
    of which ended as `status`."""

    def __init__(self) -> None:
        self._asked = 0
        self._grown = True
        self._status = ""

    def take(self, record: Record) -> Iterator[str]:
        """Reads on; what is wrong."""
        match record:
            case MessageAppended() | ToolSettled():
                self._asked, self._grown = 0, True
            case RunOpened():
                self._grown |= bool(record.input)
            case RunClosed() | Forked():  # what was lost with it is asked for again
                self._asked = 0
            case ModelAsked(purpose="compaction"):
                self._asked += 1
                if self._asked > 1 or not self._grown:
                    yield "a summary is made again"
            case ModelEnded():
                self._status = record.status
            case ViewChanged():
                yield from self._smaller(record)
            case _:
                pass

    def _smaller(self, change: ViewChanged) -> Iterator[str]:
        if not self._grown:
            yield "the view is made smaller again"
        if self._asked and change.by != ("summary" if self._status == "ok" else "trim"):
            yield f"{change.by} after a summary that is {self._status}"
        self._asked, self._grown = 0, False
