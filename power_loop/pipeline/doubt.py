"""Calls in doubt: they had begun when their process died, and no outcome was stored.

Who is asked, in this order, until one can tell: the host, if it has decided; the tool, if it
reconciles; whether the tool may simply be run again. What is in doubt then is told to the model as
it is, or kept for the host.
"""

from __future__ import annotations

from llm_client.types import ToolResult
from power_loop.pipeline.calls import settle, settle_after, settle_as
from power_loop.pipeline.ports import Ports, ToolTraits, Used
from power_loop.pipeline.progress import Progress
from power_loop.session.closing import told
from power_loop.session.machine import OpenCall

__all__ = ["may_run_again"]

_NOT_HERE = ToolTraits(external=True)


async def may_run_again(io: Ports, progress: Progress, open_call: OpenCall) -> bool:
    """Whether a call in doubt is to be run again; if not, it is settled or stays open."""
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
        if isinstance(found, Used):
            # The tool has run, and who listens to results has not heard of this one.
            await settle_after(io, progress, open_call, started, found)
            return False
        again = again or found == "never_happened"
    if again and not traits.external:
        return True
    if decided == "unknown" or io.plan.in_doubt == "tell":
        await settle_as(io, told(started.call_id, "unknown"))
    return False
