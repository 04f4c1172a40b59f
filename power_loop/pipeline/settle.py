"""Whether an answer is the end."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from llm_client.types import Message, StopReason, Text
from power_loop.errors import OutputInvalid
from power_loop.hooks import COMPLETE_DECIDE, CompleteDecide, Continue
from power_loop.pipeline.aside import Asides
from power_loop.pipeline.decisions import heard
from power_loop.pipeline.ports import InboxTake, Ports
from power_loop.pipeline.progress import Progress, append_messages, from_hook, where
from power_loop.session.outcome import Cancelled, Completed, Outcome, RoundLimit

__all__ = ["round_limit_reached", "settle_phase"]


_NO_ANSWER: Mapping[StopReason | None, str] = MappingProxyType(
    {
        StopReason.LENGTH: "the answer was cut off at the output limit",
        StopReason.CONTENT_FILTER: "the provider's filter withheld the answer",
        StopReason.REFUSAL: "the model declined to answer",
    }
)
"""Endings after which a text is not what was asked for, even where it looks like it."""


async def settle_phase(io: Ports, progress: Progress) -> Outcome | None:
    """The model has answered without calls: how the run ends, or None to go on."""
    taken = await io.drain()
    if taken.messages:
        await append_messages(io, taken.messages, take=taken.ids)
    if taken.cancel is not None:
        return Cancelled(taken.cancel)
    if taken.messages:
        return None
    last = io.session.last_message
    text = last.text if last is not None else ""
    # Not twice of one answer: a message that came while the run was closing brings it here again.
    if progress.accepted != io.session.seq:
        if await _asked_again(io, progress, text):
            return None
        if await _goes_on(io, progress, "completed", text):
            return None
        progress.accepted = io.session.seq
    if taken.idle:
        await _follow_up(io, progress, taken)
        return None
    # A view may be no longer than it was after a message that came while the run was being noted.
    if io.remembers and last is not None and progress.remembered != last.id:
        progress.remembered = last.id
        asides = Asides(io, "memory")
        await io.remember(asides)
        await asides.close()
        # Whatever has come meanwhile is taken first.
        progress.accepted = io.session.seq
        return None
    return Completed(text)


async def _follow_up(io: Ports, progress: Progress, taken: InboxTake) -> None:
    """The run would end: what has waited for that is asked next, as a `send` would."""
    await append_messages(io, taken.idle, take=taken.idle_ids, when_idle=True)
    progress.limit = io.session.round + progress.skipped + io.plan.max_rounds
    progress.reasks = 0


async def round_limit_reached(io: Ports, progress: Progress, text: str) -> Outcome | None:
    """The rounds are used up and the model has said its last word."""
    if await _goes_on(io, progress, "round_limit", text):
        return None
    return RoundLimit(io.plan.max_rounds, text)


async def _asked_again(io: Ports, progress: Progress, text: str) -> bool:
    check = io.plan.check_output
    if check is None:
        return False
    ending = _NO_ANSWER.get(io.session.stop_reason)
    if ending is not None:
        raise OutputInvalid(f"{ending}; asked again, it would end in the same way", text)
    fault = check(text)
    if fault is None:
        return False
    if progress.reasks >= io.plan.output_reasks:
        raise OutputInvalid(
            f"the answer does not fit the output type after {progress.reasks} re-asks: {fault}",
            text,
        )
    progress.reasks += 1
    ask = (
        f"Your answer does not fit the required format: {fault}\nAnswer again with valid JSON only."
    )
    await append_messages(io, [Message("user", (Text(ask),), id=io.new_id())])
    return True


async def _goes_on(io: Ports, progress: Progress, reason: str, text: str) -> bool:
    if not io.listens(COMPLETE_DECIDE):
        return False
    progress.completions += 1
    context = CompleteDecide(
        **where(io), reason=reason, final_text=text, fire_count=progress.completions
    )
    decision = await heard(io, COMPLETE_DECIDE, context)
    if not isinstance(decision, Continue):
        return False
    progress.limit = io.session.round + progress.skipped + decision.extra_rounds
    said = Message("user", (Text(decision.inject),), id=io.new_id())
    await append_messages(io, from_hook(COMPLETE_DECIDE, (said,)))
    return True
