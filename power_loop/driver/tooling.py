"""Running tools: bounded, interruptible, and honest about how each call went."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from threading import get_ident
from typing import Any, get_args

import anyio
from anyio.lowlevel import current_token
from sniffio import current_async_library

from llm_client.types import Text, ToolResult, ToolSpec
from power_loop.driver.shield import own_cancellation
from power_loop.errors import ToolError
from power_loop.events import ReconcileFailed, ToolEmitted, ToolProgress, Transient
from power_loop.log import logger
from power_loop.pipeline.ports import Found, ToolTraits, Used
from power_loop.session.closing import told
from power_loop.session.records import ToolStarted
from power_loop.session.text import repaired_strings
from power_loop.tools.base import (
    Delegates,
    Reconciler,
    Tool,
    ToolContent,
    ToolContext,
    ToolOutput,
    Unsettled,
)

__all__ = ["CancelReason", "ToolRunner", "Toolbox", "stopped_call", "traits_of"]

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
        finished: results of calls that have run, by call id, until their batch has settled.
    """

    def __init__(
        self,
        tools: Toolbox,
        *,
        session_id: str,
        deps: Any,
        emit: Callable[[Transient], None],
        cancel_reason: Callable[[], str | None],
        interrupted: Callable[[], bool],
        timeout: float,
        result_limit: int,
    ) -> None:
        self.finished: dict[str, ToolResult] = {}
        self._running: dict[str, tuple[anyio.CancelScope, ToolContext[Any]]] = {}
        self._tools = tools
        self._session_id = session_id
        self._deps = deps
        self._emit = emit
        self._cancel_reason = cancel_reason
        self._interrupted = interrupted
        self._timeout = timeout
        self._limit = result_limit
        self._home: _Home | None = None

    def traits(self, name: str) -> ToolTraits | None:
        """What the loop must know of a tool."""
        return traits_of(self._tools, name)

    def interrupt(self, reason: str) -> None:
        """Stops the calls that are running, to be called once the run is interrupted."""
        for scope, context in self._running.values():
            context.abandon(reason)
            scope.cancel()

    async def use(self, run_id: str, started: ToolStarted) -> Used:
        """Runs one call. What the tool raises is told, not raised."""
        tool = self._tools[started.name]
        assert not isinstance(tool, ToolSpec)
        reporter, context = self._context(run_id, started)
        # What an earlier attempt gave is no result of this one.
        self.finished.pop(started.call_id, None)
        try:
            used = await self._invoke(tool, started, context)
            if used.how == "finished":
                # At once, before anything can interrupt: a cancelled run tells the truth by it.
                self.finished[started.call_id] = used.result
        finally:
            reporter.closed = True
        return used

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
        result = ToolResult(started.call_id, self._capped(found.content), found.is_error)
        self.finished[started.call_id] = result
        return result

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

    def _context(self, run_id: str, started: ToolStarted) -> tuple[_Reporter, ToolContext[Any]]:
        if self._home is None:
            self._home = _Home()
        reporter = _Reporter(started.call_id, self._emit, self._home)
        context: ToolContext[Any] = ToolContext(
            session_id=self._session_id,
            run_id=run_id,
            call_id=started.call_id,
            tool=started.name,
            idempotency_key=started.idempotency_key,
            attempt=started.attempt,
            deps=self._deps,
            cancel_reason=self._cancel_reason,
            report=reporter.progress,
            announce=reporter.announce,
        )
        return reporter, context

    async def _invoke(self, tool: Tool, started: ToolStarted, context: ToolContext[Any]) -> Used:
        bound = self._timeout if tool.timeout is None else tool.timeout
        call_id = started.call_id
        if self._interrupted():
            return stopped_call(call_id)
        try:
            with anyio.move_on_after(bound) as scope:
                self._running[call_id] = scope, context
                output = await own_cancellation(tool.invoke(started.arguments, context))
                return Used(ToolResult(call_id, self._capped(output.content), output.is_error))
        except ToolError as error:
            return Used(_failure(call_id, str(error)), error)
        except Exception as error:  # noqa: BLE001  foreign code; the model and the hooks are told
            logger.warning("tool %r failed: %s", started.name, type(error).__name__, exc_info=True)
            return Used(_failure(call_id, f"{type(error).__name__}: {error}"), error)
        finally:
            self._running.pop(call_id, None)
        if self._interrupted():
            return stopped_call(call_id)
        context.abandon(f"it took longer than {bound:g} s")
        error = TimeoutError(f"tool {started.name!r} was stopped after {bound:g} s")
        text = f"[interrupted] The call was stopped after {bound:g} s. Its effects are unknown."
        return Used(_failure(call_id, text), error, "interrupted")

    def _capped(self, content: tuple[ToolContent, ...]) -> tuple[ToolContent, ...]:
        if sum([len(part.text) for part in content if isinstance(part, Text)]) <= self._limit:
            return content
        room, left_out = self._limit, 0
        kept: list[ToolContent] = []
        for part in content:
            if not isinstance(part, Text):
                kept.append(part)
            elif room:
                kept.append(Text(_cut(part.text, room)))
                room -= min(room, len(part.text))
            else:
                left_out += len(part.text)
        if left_out:
            kept.append(Text(f"[… {left_out} more characters left out …]"))
        return tuple(kept)


class CancelReason:
    """Why a run is being cancelled; called, it says so: None while it is not."""

    __slots__ = ("text",)

    def __init__(self) -> None:
        self.text: str | None = None

    def __call__(self) -> str | None:
        return self.text


class _Home:
    """The thread and the event loop of a run. To be made there."""

    __slots__ = ("on_trio", "thread", "token")

    def __init__(self) -> None:
        self.thread = get_ident()
        self.token: object = current_token().native_token
        self.on_trio = current_async_library() == "trio"


class _Reporter:
    """Takes what one call says of itself, from any thread, until the call is over.

    A thread that is left behind may report later: nobody listens then.
    """

    __slots__ = ("_call_id", "_emit", "_home", "closed")

    def __init__(self, call_id: str, emit: Callable[[Transient], None], home: _Home) -> None:
        self.closed = False
        self._call_id = call_id
        self._emit = emit
        self._home = home

    def progress(self, message: str, fraction: float | None, data: Any) -> None:
        self._tell(ToolProgress(self._call_id, message, fraction, data))

    def announce(self, name: str, data: Any) -> None:
        self._tell(ToolEmitted(self._call_id, name, data))

    def _tell(self, event: Transient) -> None:
        if self.closed:
            return
        if get_ident() == self._home.thread:
            self._emit(event)
            return
        with suppress(RuntimeError):  # the event loop has ended
            call_soon(self._home.token, self._late, event, on_trio=self._home.on_trio)

    def _late(self, event: Transient) -> None:
        if not self.closed:
            self._emit(event)


def call_soon(loop: Any, callback: Callable[[Any], None], value: object, *, on_trio: bool) -> None:
    """Calls `callback(value)` soon in the event loop `loop`, from another thread."""
    if on_trio:
        loop.run_sync_soon(callback, value)
    else:
        loop.call_soon_threadsafe(callback, value)


def stopped_call(call_id: str) -> Used:
    """What is told of a call that was interrupted."""
    part = told(call_id, "interrupted").message.parts[0]
    assert isinstance(part, ToolResult)
    return Used(part, how="interrupted")


def _failure(call_id: str, text: str) -> ToolResult:
    return ToolResult(call_id, (Text(text),), is_error=True)


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    head, tail = limit * 3 // 4, limit // 4
    left_out = len(text) - head - tail
    return (
        f"{text[:head]}\n[… {left_out} of {len(text)} characters left out: the result is over the "
        f"limit of {limit}. Ask for less at a time …]\n{text[-tail:]}"
    )
