"""Which phase runs when."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from msgspec.structs import replace

from llm_client.types import LLMRequest, Message, Text
from power_loop.hooks import SESSION_START, SessionStart
from power_loop.pipeline.decisions import heard
from power_loop.pipeline.model import cut_short, model_phase
from power_loop.pipeline.ports import Interrupted, Ports
from power_loop.pipeline.prefix import tell_of_another_configuration
from power_loop.pipeline.progress import (
    Progress,
    append_messages,
    filtered,
    from_hook,
    where,
    with_own_id,
)
from power_loop.pipeline.settle import settle_phase
from power_loop.pipeline.tools import tools_phase
from power_loop.session.machine import Phase
from power_loop.session.outcome import Outcome, RoundLimit
from power_loop.session.records import ModelConfigured, Record, RunOpened

__all__ = ["GO_ON", "configuration", "run_pipeline"]

GO_ON = "You have another set of rounds. Go on with the task."
"""What the model is told when a run is resumed that had used up its rounds."""


def configuration(template: LLMRequest) -> ModelConfigured:
    """What requests made from `template` hold beside their messages."""
    return ModelConfigured(
        template.model,
        template.system,
        template.tools,
        template.parallel_tool_calls,
        template.max_output_tokens,
        template.temperature,
        template.output_schema,
        template.reasoning_effort,
        template.cache,
        template.compact_at,
    )


async def run_pipeline(io: Ports, opening: Sequence[Record]) -> Outcome:
    """One run, from the records that open it to the one that closes it.

    Raises:
        Exception: whatever ended the run beside its regular endings; the run is then still open.
    """
    progress = Progress(io.plan.max_rounds)
    await _open(io, progress, opening)
    while True:
        outcome = await io.breakable(partial(_phases, io, progress))
        if not isinstance(outcome, Interrupted):
            return outcome
        await cut_short(io, outcome)


async def _phases(io: Ports, progress: Progress) -> Outcome:
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


async def _open(io: Ports, progress: Progress, opening: Sequence[Record]) -> None:
    goes_on = isinstance(io.session.last_outcome, RoundLimit)
    records: list[Record] = []
    for record in opening:
        if isinstance(record, RunOpened) and record.input:
            messages = [
                await filtered(io, with_own_id(io, message), opens=record.run)
                for message in record.input
            ]
            records.append(replace(record, input=tuple(messages)))
        else:
            records.append(record)
        if isinstance(record, RunOpened):
            configured = configuration(io.plan.template)
            if configured != io.session.configured:
                records.append(configured)
                tell_of_another_configuration(io, configured)
    # Rides with the first ModelAsked: until then nothing has happened that could be lost.
    await io.commit(*records, later=True, take=io.plan.taken)
    if goes_on and io.session.phase is Phase.SETTLE:
        # The last word of the limited run is no answer to settle for.
        await append_messages(io, [Message("user", (Text(GO_ON),), id=io.new_id())])
    if io.listens(SESSION_START):
        context = SessionStart(**where(io), messages=io.session.view)
        result = await heard(io, SESSION_START, context)
        added = from_hook(SESSION_START, result.append)
        if io.session.phase is not Phase.MODEL:
            # A session that resumes a batch of calls takes no message before their results.
            progress.deferred = added
        elif added:
            await append_messages(io, added)
