"""What becomes of one call: it is settled, or put to a person."""

from __future__ import annotations

from llm_client.types import Text, ToolResult
from power_loop.hooks import APPROVAL_REQUESTED, TOOL_AFTER, ApprovalRequested, Break, ToolAfter
from power_loop.pipeline.ports import Ports, Used
from power_loop.pipeline.progress import Progress, filtered_results, repaired, where
from power_loop.session.closing import result_message
from power_loop.session.machine import OpenCall
from power_loop.session.records import CallWaiting, Settlement, ToolSettled, ToolStarted
from power_loop.session.text import repaired_text

__all__ = ["request_approval", "settle", "settle_after", "settle_as", "text_error"]


async def settle_after(
    io: Ports, progress: Progress, open_call: OpenCall, started: ToolStarted, used: Used
) -> bool:
    """Settles a call by what it gave, as tool.after leaves it; False to have its siblings
    cancelled.
    """
    result = used.result
    stop: str | None = None
    if io.listens(TOOL_AFTER):
        context = ToolAfter(
            **where(io),
            call=open_call.call,
            name=started.name,
            arguments=started.arguments,
            result=result,
        )
        after = await io.fire(TOOL_AFTER, context)
        if isinstance(after, Break):
            stop = after.reason
        else:
            result = after.result
    await settle(io, result, used.how)
    if stop is not None:
        progress.stop_reason = stop
    return stop is None


async def settle(io: Ports, result: ToolResult, how: Settlement) -> None:
    """Settles a call by a result."""
    parts = repaired(io, "tool", (result,))
    fixed = parts[0]
    assert isinstance(fixed, ToolResult)
    await settle_as(io, ToolSettled(result_message(fixed), how))


async def settle_as(io: Ports, settled: ToolSettled) -> None:
    """Settles a call, by what message.append makes of the settlement."""
    (final,) = await filtered_results(io, [settled])
    # The last one rides with the next model call; until then its batch is not in the view.
    await io.commit(final, later=len(io.session.open_calls) == 1)


async def request_approval(io: Ports, open_call: OpenCall, reason: str) -> None:
    """Has a call wait for a person's leave."""
    token = io.new_id()
    reason = repaired_text(reason)
    await io.commit(CallWaiting(open_call.call.id, "approval", token, reason))
    if io.listens(APPROVAL_REQUESTED):
        context = ApprovalRequested(**where(io), call=open_call.call, token=token, reason=reason)
        await io.fire(APPROVAL_REQUESTED, context)


def text_error(call_id: str, text: str) -> ToolResult:
    """A result that says what was wrong with a call."""
    return ToolResult(call_id, (Text(text),), is_error=True)
