"""Which phase runs when."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from power_loop.hooks import SESSION_START, SessionStart
from power_loop.pipeline.model import model_phase
from power_loop.pipeline.ports import Ports
from power_loop.pipeline.progress import Progress, append_messages, filtered, where
from power_loop.pipeline.settle import settle_phase
from power_loop.pipeline.tools import tools_phase
from power_loop.session.machine import Phase
from power_loop.session.outcome import Outcome
from power_loop.session.records import Record, RunOpened

__all__ = ["run_pipeline"]


async def run_pipeline(io: Ports, opening: Sequence[Record]) -> Outcome:
    """One run, from the records that open it to the one that closes it.

    Raises:
        Exception: whatever ended the run beside its regular endings; the run is then still open.
    """
    await _open(io, opening)
    progress = Progress(io.plan.max_rounds)
    while True:
        match io.session.phase:
            case Phase.MODEL:
                outcome = await model_phase(io, progress)
            case Phase.TOOLS:
                outcome = await tools_phase(io, progress)
            case _:
                outcome = await settle_phase(io, progress)
        if outcome is not None and await io.close(outcome):
            return outcome


async def _open(io: Ports, opening: Sequence[Record]) -> None:
    records: list[Record] = []
    for record in opening:
        if isinstance(record, RunOpened) and record.input:
            messages = tuple([await filtered(io, message) for message in record.input])
            records.append(replace(record, input=messages))
        else:
            records.append(record)
    # Rides with the first ModelAsked: until then nothing has happened that could be lost.
    await io.commit(*records, later=True)
    if io.listens(SESSION_START):
        context = SessionStart(**where(io), messages=io.session.view)
        result = await io.fire(SESSION_START, context)
        # A session that resumes a batch of calls takes no message before their results.
        if result.append and io.session.phase is Phase.MODEL:
            await append_messages(io, result.append)
