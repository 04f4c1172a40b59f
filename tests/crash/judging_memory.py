"""What must hold of a program that was killed while its session was compacted, or it remembered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from power_loop.runtime.stores.notes import Note
from power_loop.session.outcome import Crashed
from power_loop.session.records import (
    MessageAppended,
    ModelAsked,
    ModelEnded,
    Recalled,
    Record,
    RunClosed,
    RunOpened,
    ToolSettled,
    ViewChanged,
)
from tests.crash.journal import Program
from tests.crash.remembering import ALWAYS, NOTED, TASKS, fact_of
from tests.session.checker import view_of

__all__ = ["of_remembering"]


def of_remembering(
    log: Sequence[Record],
    notes: Sequence[Note],
    effects: Sequence[Sequence[str]],
    program: Program,
) -> list[str]:
    """What is wrong with what is left of a program of `remembering`, in words."""
    found = _of_tasks(log, effects)
    found += _of_notes(notes)
    found += _of_views(log)
    found += _of_compactions(log, program)
    return found + _of_asides(log, effects)


def _of_tasks(log: Sequence[Record], effects: Sequence[Sequence[str]]) -> list[str]:
    """Whether all that was ever said is in the store, once."""
    said = [m.text for record in log if isinstance(record, RunOpened) for m in record.input]
    found = [] if said == [*TASKS] else [f"the messages are {[text[:8] for text in said]}"]
    kept = [words[1:] for words in effects if words[0] == "kept"]
    if kept[-1:] != [[str(number) for number in range(len(TASKS))]]:
        found.append(f"of what was said the store still has {kept[-1:]}")
    return found


def _of_notes(notes: Sequence[Note]) -> list[str]:
    """Whether what was to be remembered is, and each of it once."""
    wanted = Counter([NOTED, ALWAYS, *map(fact_of, range(len(TASKS)))])
    there = Counter(note.text for note in notes)
    found = [f"{text!r} is remembered {there[text]} times" for text in wanted if there[text] != 1]
    return found + [f"{text!r} is remembered" for text in there if text not in wanted]


def _of_views(log: Sequence[Record]) -> list[str]:
    """Whether the model was shown, each time, what it works on and what was remembered of it."""
    found: list[str] = []
    task = TASKS[0]
    recalled = ""
    for number, record in enumerate(log, 1):
        match record:
            case RunOpened():
                task, recalled = (record.input[0].text if record.input else task), ""
            case Recalled():
                recalled = "\n".join(message.text for message in record.messages)
            case ModelAsked(purpose=""):
                view = [message.text for message in view_of(log[:number])]
                found += [
                    f"record {number}: {text[:6]!r} is {view.count(text)} times in the view"
                    for text in {TASKS[0], task}
                    if view.count(text) != 1
                ]
                if task != TASKS[0] and NOTED not in recalled:
                    found.append(f"record {number}: what was noted is not brought up")
            case _:
                pass
    return found


def _of_compactions(log: Sequence[Record], program: Program) -> list[str]:
    """Whether each view was made smaller once, and by what the program has."""
    judged = _Compactions()
    for number, record in enumerate(log, 1):
        judged.found += [f"record {number}: {each}" for each in judged.take(record)]
    wanted = "trim" if program == "rule" else "summary"
    if wanted not in judged.by:
        judged.found.append(f"the view was made smaller by {judged.by}")
    return judged.found


class _Compactions:
    """What the log says of them: `asked` times for a summary since the view has `grown`, the last
    of which ended as `status`."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.by: list[str] = []
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
            case RunClosed(outcome=Crashed()):
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
        self.by.append(change.by)
        self._asked, self._grown = 0, False


def _of_asides(log: Sequence[Record], effects: Sequence[Sequence[str]]) -> list[str]:
    """Whether every call that is no part of the conversation has its record."""
    crashes = sum(isinstance(r, RunClosed) and isinstance(r.outcome, Crashed) for r in log)
    recorded = Counter(r.purpose for r in log if isinstance(r, ModelAsked) and r.purpose)
    made = Counter(words[1] for words in effects if words[0] == "asked")
    return [
        f"the model was asked {made[purpose]} times for {purpose}, recorded are {recorded[purpose]}"
        for purpose in ("compaction", "memory")
        if not recorded[purpose] - crashes <= made[purpose] <= recorded[purpose]
    ]
