"""What must hold of a run that was cancelled while its view shrank, or while it had a memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from llm_client.types import LLMRequest
from power_loop.runtime.memory.tagging import is_memory
from power_loop.runtime.stores.notes import NoteFilter, all_notes
from power_loop.session.outcome import Completed, status_of
from power_loop.session.records import Record, RunClosed
from power_loop.session.view import COMPACT_NOTE
from tests.agent.cancel_context import FACT, KNOWN, is_aside
from tests.agent.cancel_world import Scenario, World
from tests.session.compactions import compaction_faults

__all__ = ["context_faults"]


async def context_faults(
    scenario: Scenario, world: World, logs: Mapping[str, Sequence[Record]]
) -> list[str]:
    """What is wrong with the sessions of a program of `cancel_context`, in words."""
    found: list[str] = []
    for request in world.llm.requests:
        if not is_aside(request):
            found += _of_request(request)
    for session, log in logs.items():
        found += compaction_faults(log)
        if scenario.memory is not None:
            found += await _of_memory(world, session, log)
    return found


def _of_request(request: LLMRequest) -> list[str]:
    """Whether what the model works on is there, once, and at most one note for what is not."""
    texts = [message.text for message in request.messages if not is_memory(message)]
    notes = sum(message.name == COMPACT_NOTE for message in request.messages)
    found = [f"there are {notes} notes in a request"] if notes > 1 else []
    opened = texts.count("go") + texts.count("and now?")
    if texts[0] not in ("go", "and now?") or opened > 2:
        found.append(f"a request begins with {texts[0]!r} and has {opened} tasks")
    return found


async def _of_memory(world: World, session: str, log: Sequence[Record]) -> list[str]:
    """Whether each run is told as it ended, and nothing is remembered twice."""
    closed = {record.run: record.outcome for record in log if isinstance(record, RunClosed)}
    found: list[str] = []
    for run, outcome in closed.items():
        told = [status for *whose, status in world.remembered if whose == [session, run]]
        status = status_of(outcome)
        # A run that was about to complete may have been cancelled after all.
        legal = [["completed"]] if status == "completed" else [[], [status], ["completed", status]]
        if told not in legal:
            found.append(f"the run that ended {outcome} was told to memory as {told}")
    notes = await all_notes(world.store.notes, NoteFilter(owners={"session": session}))
    there = Counter(note.text for note in notes)
    completed = any(isinstance(outcome, Completed) for outcome in closed.values())
    found += [f"{text!r} is remembered {count} times" for text, count in there.items() if count > 1]
    if completed and not there.keys() >= {FACT, KNOWN}:
        found.append(f"after a run that has completed, {[*there]} is remembered")
    return found
