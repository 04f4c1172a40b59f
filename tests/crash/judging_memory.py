"""What must hold of a program that was killed while its session was compacted, or it remembered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from power_loop.runtime.stores.notes import Note
from power_loop.session.outcome import Crashed
from power_loop.session.records import (
    ModelAsked,
    Recalled,
    Record,
    RunClosed,
    RunOpened,
    ViewChanged,
)
from tests.crash.journal import Program
from tests.crash.remembering import ALWAYS, NOTED, TASKS, fact_of
from tests.session.checker import view_of
from tests.session.compactions import compaction_faults

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
    wanted = "trim" if program == "rule" else "summary"
    by = [record.by for record in log if isinstance(record, ViewChanged)]
    found = compaction_faults(log)
    return found if wanted in by else [*found, f"the view was made smaller by {by}"]


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
