"""What becomes of one call: it is settled, or put to somebody."""

from __future__ import annotations

from llm_client.types import Text, ToolResult
from power_loop.hooks import TOOL_AFTER, Break, ToolAfter
from power_loop.pipeline.decisions import heard
from power_loop.pipeline.ports import Ports, Used
from power_loop.pipeline.progress import Progress, filtered_results, repaired, where
from power_loop.session.closing import result_message
from power_loop.session.machine import OpenCall
from power_loop.session.records import CallAnswered, Settlement, ToolSettled, ToolStarted

__all__ = ["settle", "settle_after", "settle_as", "text_error"]


async def settle_after(
    io: Ports,
    progress: Progress,
    open_call: OpenCall,
    started: ToolStarted,
    used: Used,
    answered: CallAnswered | None = None,
) -> bool:
    """Settles a call by what it gave, as tool.after leaves it; False to have its siblings
    cancelled. `answered` says that what it waited for has come, and is committed with it.
    """
    result = used.result
    broken: Break | None = None
    if io.listens(TOOL_AFTER):
        context = ToolAfter(
            **where(io),
            call=open_call.call,
            name=started.name,
            arguments=started.arguments,
            result=result,
        )
        after = await heard(io, TOOL_AFTER, context, started.call_id)
        if isinstance(after, Break):
            broken = after
        else:
            result = after.result
    await settle(io, result, used.how, answered, used.meta)
    if broken is not None:
        progress.ending = broken.ending
    return broken is None


async def settle(
    io: Ports,
    result: ToolResult,
    how: Settlement,
    answered: CallAnswered | None = None,
    meta: dict[str, str] | None = None,
) -> None:
    """Settles a call by a result. `meta` are notes about it."""
    parts = repaired(io, "tool", (result,))
    fixed = parts[0]
    assert isinstance(fixed, ToolResult)
    await settle_as(io, ToolSettled(result_message(fixed, meta), how), answered)


async def settle_as(io: Ports, settled: ToolSettled, answered: CallAnswered | None = None) -> None:
    """Settles a call, by what message.append makes of the settlement."""
    (final,) = await filtered_results(io, [settled])
    records = (final,) if answered is None else (answered, final)
    # The last one rides with the next model call; until then its batch is not in the view.
    await io.commit(*records, later=len(io.session.open_calls) == 1)


def text_error(call_id: str, text: str) -> ToolResult:
    """A result that says what was wrong with a call."""
    return ToolResult(call_id, (Text(text),), is_error=True)
