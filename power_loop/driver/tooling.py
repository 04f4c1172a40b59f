"""Running tools: bounded, interruptible, and honest about how each call went."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from math import inf
from typing import Any, get_args

import anyio
from msgspec.structs import replace

from llm_client.types import Message, Text, ToolResult, ToolSpec
from power_loop.driver.background import Background
from power_loop.driver.outputs import Outputs
from power_loop.driver.reporting import Home, Reporter
from power_loop.driver.shield import own_cancellation
from power_loop.driver.working import Working, stopped
from power_loop.errors import ToolError
from power_loop.events import ReconcileFailed, ToolLeftBehind, Transient
from power_loop.log import logger
from power_loop.pipeline.ports import ChildEnded, Found, ToolTraits, Used
from power_loop.session.closing import result_message
from power_loop.session.records import ToolStarted
from power_loop.session.text import repaired_strings
from power_loop.tools.asking import InputRequested
from power_loop.tools.base import (
    GRACE,
    Delegates,
    Reconciler,
    Tool,
    ToolOutput,
    Unsettled,
)
from power_loop.tools.context import ToolContext

__all__ = ["ToolRunner", "Toolbox", "traits_of"]

Toolbox = Mapping[str, Tool | ToolSpec]
"""Tools by name; a bare spec is a tool that the caller runs itself."""


_EXTERNAL = ToolTraits(external=True)


def traits_of(tools: Toolbox, name: str) -> ToolTraits | None:
    """What the loop must know of the tool `name`; None if there is none."""
    tool = tools.get(name)
    if tool is None:
        return None
    if isinstance(tool, ToolSpec):
        return _EXTERNAL
    return ToolTraits(
        tool.exclusive,
        tool.idempotent,
        reconciles=tool.reconcile is not None,
        child=isinstance(tool, Delegates),
    )


class ToolRunner:
    """Runs the calls of one run.

    Attributes:
        finished: messages with the results of calls that have run, by call id, until their batch
            has settled.
    """

    def __init__(
        self,
        tools: Toolbox,
        *,
        session_id: str,
        deps: Any,
        emit: Callable[[Transient], None],
        background: Background,
        cancel_reason: Callable[[], str | None],
        interrupted: Callable[[], bool],
        timeout: float,
        outputs: Outputs,
        user: str = "",
        agent: str = "",
    ) -> None:
        self.finished: dict[str, Message] = {}
        self._running: dict[str, Working] = {}
        self._tools = tools
        self._session_id = session_id
        self._deps = deps
        self._user = user
        self._agent = agent
        self._emit = emit
        self._cancel_reason = cancel_reason
        self._interrupted = interrupted
        self._timeout = timeout
        self._outputs = outputs
        self._background = background
        self._children = 0
        self._home: Home | None = None

    def traits(self, name: str) -> ToolTraits | None:
        """What the loop must know of a tool."""
        return traits_of(self._tools, name)

    def interrupt(self, reason: str) -> None:
        """Stops the calls that are running, each as its tool has it; the run is interrupted."""
        for call in list(self._running.values()):
            call.interrupt(reason)

    @property
    def patience(self) -> float:
        """Seconds that the calls which run may take to end, once the run is cancelled."""
        if self._children:
            return inf
        return max([call.patience for call in self._running.values()], default=GRACE)

    @contextmanager
    def child(self) -> Generator[None]:
        """While a session below runs, which has a bound of its own."""
        self._children += 1
        try:
            yield
        finally:
            self._children -= 1

    def leave(self) -> list[ToolLeftBehind]:
        """Waits for none of the calls that are running any more; which those are."""
        for call in self._running.values():
            call.leave()
        return [ToolLeftBehind(id, call.tool.name) for id, call in self._running.items()]

    async def use(self, run_id: str, started: ToolStarted) -> Used:
        """Runs one call. What the tool raises is told, not raised."""
        tool = self._tools[started.name]
        assert not isinstance(tool, ToolSpec)
        reporter, context = self._context(run_id, started)
        call_id = started.call_id
        # What an earlier attempt gave is no result of this one.
        self.finished.pop(call_id, None)
        if self._interrupted():
            return stopped(call_id)
        bound = self._timeout if tool.timeout is None else tool.timeout
        call = self._running[call_id] = Working(started, tool, context, reporter, bound)
        try:
            return await call.run(
                partial(self._invoke, call, bound),
                self._keep,
                self._outputs,
                self._background,
            )
        finally:
            del self._running[call_id]

    async def reconcile(self, run_id: str, started: ToolStarted) -> Found:
        """Asks a tool what became of a call. What it raises is told, and counts as no answer."""
        tool = self._tools[started.name]
        assert not isinstance(tool, ToolSpec)
        assert tool.reconcile is not None
        reporter, context = self._context(run_id, started)
        try:
            found = await self._found(tool, tool.reconcile, started, context)
        except Exception as error:  # noqa: BLE001  foreign code; readers are told
            kind = type(error).__name__
            logger.warning(
                "tool %r cannot tell what became of call %r: %s",
                started.name,
                started.call_id,
                kind,
                exc_info=True,
            )
            failed = ReconcileFailed(started.call_id, started.name, kind, str(error)[:500])
            self._emit(repaired_strings(failed))
            return "cannot_tell"
        finally:
            reporter.closed = True
        if not isinstance(found, ToolOutput):
            return found
        gave = Used(ToolResult(started.call_id, found.content, found.is_error))
        return await self.shown(tool, gave)

    async def told_below(self, started: ToolStarted, ended: ChildEnded) -> ChildEnded:
        """What the model sees of what the session below a call has come to."""
        tool = self._tools.get(started.name)
        if ended.used is None or tool is None or isinstance(tool, ToolSpec):
            return ended
        return replace(ended, used=await self.shown(tool, ended.used))

    async def shown(self, tool: Tool, gave: Used) -> Used:
        """What the model sees of what a call has come to, which is not lost meanwhile."""
        shown = self._outputs.shown(tool, gave)
        self._keep(shown.used)
        used = await self._outputs.kept(tool, shown)
        self._keep(used)
        return used

    def _keep(self, used: Used) -> None:
        self.finished[used.result.call_id] = result_message(used.result, used.meta)

    async def _found(
        self, tool: Tool, reconcile: Reconciler, started: ToolStarted, context: ToolContext[Any]
    ) -> ToolOutput | Unsettled:
        bound = self._timeout if tool.timeout is None else tool.timeout
        with anyio.move_on_after(bound):
            found = await own_cancellation(reconcile(started.arguments, context))
            if not isinstance(found, ToolOutput) and found not in get_args(Unsettled):
                raise ToolError(
                    "reconcile answers a ToolOutput, 'never_happened' or 'cannot_tell', "
                    f"not a value of type {type(found).__name__}"
                )
            return found
        context.abandon(f"it took longer than {bound:g} s")
        raise TimeoutError(f"reconcile did not answer within {bound:g} s")

    def _context(self, run_id: str, started: ToolStarted) -> tuple[Reporter, ToolContext[Any]]:
        if self._home is None:
            self._home = Home()
        reporter = Reporter(started.call_id, self._emit, self._home)
        context: ToolContext[Any] = ToolContext(
            session_id=self._session_id,
            run_id=run_id,
            call_id=started.call_id,
            tool=started.name,
            idempotency_key=started.idempotency_key,
            attempt=started.attempt,
            deps=self._deps,
            user=self._user,
            agent=self._agent,
            cancel_reason=self._cancel_reason,
            report=reporter.progress,
            announce=reporter.announce,
        )
        return reporter, context

    async def _invoke(self, call: Working, bound: float) -> Used:
        call_id, name = call.started.call_id, call.started.name
        try:
            with call.scope:
                invoked = call.tool.invoke(call.started.arguments, call.context)
                output = await own_cancellation(invoked)
                if call.context.asked is not None:
                    logger.warning("tool %r asked for input and went on; nobody was asked", name)
                return Used(ToolResult(call_id, output.content, output.is_error))
        except ToolError as error:
            return Used(_failure(call_id, str(error)), error)
        except (InputRequested, BaseExceptionGroup) as raised:
            return _asking_or_failed(call.started, raised)
        except Exception as error:  # noqa: BLE001  foreign code; the model and the hooks are told
            return _failed(call.started, error)
        if call.is_stopped:
            return stopped(call_id)
        call.context.abandon(f"it took longer than {bound:g} s")
        error = TimeoutError(f"tool {name!r} was stopped after {bound:g} s")
        text = f"[interrupted] The call was stopped after {bound:g} s. Its effects are unknown."
        return Used(_failure(call_id, text), error, "interrupted")


def _asking_or_failed(
    started: ToolStarted, raised: InputRequested | BaseExceptionGroup[BaseException]
) -> Used:
    """What a tool has come to that asks a person, perhaps out of a task group of its own."""
    if isinstance(raised, InputRequested):
        empty = ToolResult(started.call_id, ())
        return Used(empty, question=raised.question, schema=raised.schema)
    asked, rest = raised.split(InputRequested)
    if asked is not None and rest is None:
        return _asking_or_failed(started, asked.exceptions[0])
    error: object = rest
    if isinstance(error, Exception):
        return _failed(started, error)
    raise raised


def _failed(started: ToolStarted, error: Exception) -> Used:
    kind = type(error).__name__
    logger.warning("tool %r failed: %s", started.name, kind, exc_info=error)
    return Used(_failure(started.call_id, f"{kind}: {error}"), error)


def _failure(call_id: str, text: str) -> ToolResult:
    return ToolResult(call_id, (Text(text),), is_error=True)
