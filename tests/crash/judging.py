"""What must hold of a program that was killed, however and however often."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import anyio

from llm_client.types import ToolResult
from power_loop.runtime.stores.notes import Note, NoteFilter, all_notes
from power_loop.session.outcome import AwaitingApproval, Completed, Crashed
from power_loop.session.records import (
    MessageAppended,
    Record,
    RunClosed,
    RunOpened,
    ToolSettled,
    ToolStarted,
)
from power_loop.session.view import ARTIFACT_META
from tests.agent.stores import records_of
from tests.crash.journal import Case
from tests.crash.judging_memory import of_remembering
from tests.crash.program import INPUTS, STEERED, UNSAFE, whole_output
from tests.session.checker import violations
from tests.stores.places import open_place

__all__ = ["Tried", "faults"]


class Tried:
    """What is left of a program that was killed and started again.

    Attributes:
        log: its session.
        kept: what is kept of large outputs, by handle.
        notes: what is remembered of whoever the session is for.
        points: names of the points that its processes came to.
        effects: what happened in the outer world, in words.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        folder = Path(case.folder)
        place = case.place or str(folder / "sessions.db")
        self.log, self.kept, self.notes = anyio.run(_read, place, case)
        self.points = (folder / "points").read_text().splitlines()
        self.effects = [line.split() for line in (folder / "effects").read_text().splitlines()]

    def told(self, what: str) -> list[list[str]]:
        """The words of each effect that begins with `what`, without it."""
        return [words[1:] for words in self.effects if words[0] == what]


async def _read(place: str, case: Case) -> tuple[list[Record], dict[str, str], list[Note]]:
    async with open_place(place) as store:
        records = records_of(await store.read(case.session))
        if not case.place:  # a server holds many sessions
            assert await store.check() == len(records)
        kept: dict[str, str] = {}
        for handle in await store.list_artifacts(case.session):
            kept[handle] = (await store.read_artifact(case.session, handle)).text
        notes = await all_notes(store.notes, NoteFilter(owners={"user": case.session}))
        return records, kept, notes


def faults(tried: Tried) -> list[str]:
    """What is wrong with how it went, in words; empty when nothing is.

    The program has been brought to its end.
    """
    log = tried.log
    found = violations(log, closed=True, idempotent=lambda name: name not in UNSAFE)
    found += [f"an illegal request: {words}" for words in tried.told("illegal")]
    found += _of_promises(tried)
    if tried.case.program == "tools":
        found += _of_messages(tried)
        found += _of_effects(tried)
        found += _of_truth(tried)
        found += _of_outputs(tried)
    else:
        found += of_remembering(log, tried.notes, tried.effects, tried.case.program)
    closed = [record.outcome for record in log if isinstance(record, RunClosed)]
    if not closed or not isinstance(closed[-1], Completed):
        found.append(f"it ended {closed[-1:]}")
    legal = Completed | Crashed | AwaitingApproval
    return found + [f"a run ended {each}" for each in closed if not isinstance(each, legal)]


def _of_promises(tried: Tried) -> list[str]:
    """Whether anything acknowledged was lost."""
    found = list[str]()
    kinds = [type(record).__name__ for record in tried.log]
    for seq, names in tried.told("acknowledged"):
        words = names.split("+")
        if kinds[int(seq) : int(seq) + len(words)] != words:
            found.append(f"{names} was acknowledged after record {seq}, and is not there")
    answered = [words[0] for words in tried.told("answered")]
    if len(answered) != len(set(answered)):
        found.append(f"answered were {answered}")
    return found


def _of_messages(tried: Tried) -> list[str]:
    """Whether a message was lost, or is there twice."""
    log, found = tried.log, list[str]()
    inputs = [m.text for record in log if isinstance(record, RunOpened) for m in record.input]
    expected = [*INPUTS, "fourth"] if tried.case.hooks else [*INPUTS]
    if inputs != expected:
        found.append(f"the messages are {inputs}")
    steered = [r for r in log if isinstance(r, MessageAppended) and r.message.text == STEERED]
    if len(steered) != 1:
        found.append(f"what was steered was delivered {len(steered)} times")
    return found


def _of_effects(tried: Tried) -> list[str]:
    """Whether anything ran that must not have."""
    found: list[str] = []
    begun = Counter((words[0], words[1]) for words in tried.told("begin"))
    for (name, call), count in begun.items():
        if name in UNSAFE and count > 1:
            found.append(f"{name} {call} ran {count} times")
    keys = {(words[1], words[2]) for words in tried.told("begin")}
    if len(keys) != len(begun):
        found.append(f"the idempotency keys are {keys}")
    started = {record.call_id for record in tried.log if isinstance(record, ToolStarted)}
    found += [f"{call} began without a record" for _, call in begun if call not in started]
    # The tool that can be asked has its effect exactly once, however often it had to be begun.
    key = f"{tried.case.session}/d"
    booked = [words[2] for words in tried.told("done") if words[:2] == ["book", "d"]]
    if booked != [key]:
        found.append(f"book had its effect under {booked}")
    if {words[2] for words in tried.told("asked")} - {key}:
        found.append("book was asked under another key")
    return found


def _of_truth(tried: Tried) -> list[str]:
    """Whether the model was told what happened."""
    found: list[str] = []
    done = {words[1] for words in tried.told("done")}
    hows = {
        part.call_id: record.how
        for record in tried.log
        if isinstance(record, ToolSettled)
        for part in record.message.parts
        if isinstance(part, ToolResult)
    }
    if set(hows) != set("abcde" if tried.case.hooks else "abcd"):
        found.append(f"settled are {sorted(hows)}")
    for call, how in hows.items():
        if how not in ("finished", "unknown"):
            found.append(f"{call} is told as {how}")
        if how == "finished" and call not in done:
            found.append(f"{call} did not finish, but is told as finished")
    again = {call: hows.get(call) for call in ("c", "d")}
    return found + [
        f"{call} can be done again or asked, but is told as {how}"
        for call, how in again.items()
        if how != "finished"
    ]


def _of_outputs(tried: Tried) -> list[str]:
    """Whether the whole of each output is kept that the model sees the ends of."""
    names = {record.call_id: record.name for record in tried.log if isinstance(record, ToolStarted)}
    found: list[str] = []
    for record in tried.log:
        if isinstance(record, ToolSettled) and record.how == "finished":
            call_id = record.message.id.removesuffix(".result")
            handle = (record.message.meta or {}).get(ARTIFACT_META, "")
            if tried.kept.get(handle) != whole_output(names[call_id], call_id):
                found.append(f"the output of {call_id} is not kept")
            if handle not in str(record.message.parts):
                found.append(f"the model is not told where the output of {call_id} is kept")
    return found
