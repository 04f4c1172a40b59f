"""All that one run is made of."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import anyio
from msgspec import Struct

from llm_client.service import LLMService
from llm_client.types import new_id
from power_loop.driver.background import Background
from power_loop.driver.below import Below
from power_loop.driver.dispatch import Hooks
from power_loop.driver.hub import Hub
from power_loop.driver.people import Respond
from power_loop.driver.purse import Purse
from power_loop.driver.stopwatch import Pauses
from power_loop.driver.tooling import Toolbox
from power_loop.pipeline.plan import RunPlan
from power_loop.runtime.artifacts.base import ArtifactStore
from power_loop.runtime.cancellation import CancellationToken
from power_loop.runtime.stores.base import Lease, Store
from power_loop.session.machine import Session

if TYPE_CHECKING:
    from power_loop.driver.memory import RunMemory
    from power_loop.runtime.compaction.base import PromptKeeper
    from power_loop.runtime.compaction.outputs import OutputSummariser

__all__ = ["RunContext", "RunSetup"]


class RunContext(Struct, frozen=True, kw_only=True):
    """What one run does about the context of its model.

    Attributes:
        user: the person that the run works for.
        agent: the agent's name.
        keeper: keeps prompts within the model's window.
        summariser: summarises long outputs of tools that want it.
        memory: what the run recalls, and who takes note of it.
    """

    user: str = ""
    agent: str = ""
    keeper: PromptKeeper | None = None
    summariser: OutputSummariser | None = None
    memory: RunMemory | None = None


class RunSetup(Struct, frozen=True, kw_only=True):
    """All that one run is made of.

    Attributes:
        tool_concurrency: tools of one answer that run at the same time.
        tool_timeout: seconds for a tool that sets no bound of its own.
        result_limit: characters of one tool result; see `AgentConfig`.
        artifacts: where longer ones are kept whole.
        wall_clock: seconds since the epoch, for stamps.
        clock: seconds on a monotonic clock, for durations.
        time_limits: seconds that are left, by the name of their limit.
        background: where the run, and calls that it may leave, have tasks of their own.
        cancel: cancels the run, from wherever.
        above: of a run below another: why that is being cancelled.
        pauses_above: of a run below another: what stops the working time of that as well.
        context: what its model is asked with.
    """

    session: Session
    store: Store
    lease: Lease
    llm: LLMService
    hub: Hub
    hooks: Hooks
    tools: Toolbox
    plan: RunPlan
    root: str
    background: Background
    cancel: CancellationToken | None = None
    above: Callable[[], str | None] | None = None
    pauses_above: Pauses | None = None
    deps: Any = None
    context: RunContext = RunContext()
    respond: Respond | None = None
    purse: Purse | None = None
    time_limits: Mapping[str, float] = {}
    below: Below | None = None
    tool_concurrency: int = 16
    tool_timeout: float = 120.0
    result_limit: int = 100_000
    artifacts: ArtifactStore | None = None
    hook_grace: float = 5.0
    wall_clock: Callable[[], float] = time.time
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    new_id: Callable[[], str] = new_id
    random: Callable[[], float] = random.random
