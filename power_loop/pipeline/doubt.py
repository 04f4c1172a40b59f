"""Calls in doubt: they had begun when their process died, and no outcome was stored.

Who is asked, in this order, until one can tell: the host, if it has decided; the tool, if it
reconciles; whether the tool may simply be run again. What is in doubt then is told to the model as
it is, or kept for the host.
"""

from __future__ import annotations

from typing import Any

from llm_client.types import ToolResult
from power_loop.events import HookFailed
from power_loop.hooks import TOOL_BEFORE, Skip, Suspend, ToolBefore
from power_loop.pipeline.calls import request_approval, settle, settle_after, settle_as
from power_loop.pipeline.ports import Ports, ToolTraits, Used
from power_loop.pipeline.progress import Progress, where
from power_loop.session.closing import told
from power_loop.session.machine import OpenCall
from power_loop.session.records import ToolStarted
from power_loop.session.text import repaired_text

__all__ = ["may_run_again"]

_NOT_HERE = ToolTraits(external=True)


async def may_run_again(io: Ports, progress: Progress, open_call: OpenCall) -> bool:
    """Whether a call in doubt is to be run again; if not, it is settled, waits, or stays open."""
    started = open_call.started
    assert started is not None
    traits = io.tool(started.name) or _NOT_HERE
    decided = io.plan.decisions.get(started.call_id)
    if isinstance(decided, ToolResult):
        await settle(io, decided, "finished")
        return False
    again = decided == "rerun" or (decided is None and traits.idempotent)
    if decided is None and traits.reconciles:
        found = await io.reconcile(started)
        if isinstance(found, ToolResult):
            # The tool has run, and who listens to results has not heard of this one.
            await settle_after(io, progress, open_call, started, Used(found))
            return False
        again = again or found == "never_happened"
    if again and not traits.external:
        return await _is_allowed(io, open_call, started)
    if decided == "unknown" or io.plan.in_doubt == "tell":
        await settle_as(io, told(started.call_id, "unknown"))
    return False


async def _is_allowed(io: Ports, open_call: OpenCall, started: ToolStarted) -> bool:
    """Whether tool.before lets a call run again; if not, it is settled truthfully, or waits."""
    if not io.listens(TOOL_BEFORE):
        return True
    context: ToolBefore[Any] = ToolBefore(
        **where(io),
        call=open_call.call,
        name=started.name,
        arguments=started.arguments,
        attempt=open_call.attempt + 1,
    )
    match await io.fire(TOOL_BEFORE, context):
        case Skip(output=output):
            # Not "skipped": it may have had effects.
            detail = repaired_text(f"A hook forbade that, and says: {output}")
            await settle_as(io, told(started.call_id, "unknown", detail))
            return False
        case Suspend(reason=reason):
            await request_approval(io, open_call, reason)
            return False
        case ToolBefore() as left:
            if (left.name, left.arguments) != (started.name, started.arguments):
                why = f"call {started.call_id!r} is run again as it had begun; it was not rewritten"
                io.emit(HookFailed(TOOL_BEFORE.name, "", "HookError", why))
            return True
