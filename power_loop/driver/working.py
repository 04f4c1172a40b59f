"""One call of a tool while it runs, and what is done about it when its run does not go on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel

from llm_client.types import Text, ToolResult
from power_loop.driver.background import Background
from power_loop.driver.detached import LAST_MOMENT
from power_loop.driver.outputs import Outputs, Shown
from power_loop.driver.reporting import Reporter
from power_loop.log import logger
from power_loop.pipeline.ports import Used
from power_loop.session.closing import goes_on, told
from power_loop.session.records import ToolStarted
from power_loop.tools.base import Tool
from power_loop.tools.context import ToolContext

__all__ = ["Work", "Working", "stopped"]

Work = Callable[[], Awaitable[Used]]


class Working:
    """A call that runs.

    Attributes:
        started: its record.
        tool: its tool.
        context: what the tool knows of it.
        scope: what `work` enters around the tool; cancelled when its time is up, or it is stopped.
        is_stopped: whether it was stopped because its run does not want it any more.
    """

    def __init__(
        self,
        started: ToolStarted,
        tool: Tool,
        context: ToolContext[Any],
        reporter: Reporter,
        bound: float,
    ) -> None:
        self.started = started
        self.tool = tool
        self.context = context
        self.scope = anyio.CancelScope(deadline=anyio.current_time() + bound)
        self.is_stopped = False
        self._reporter = reporter
        self._used: Used | None = None
        self._shown: Shown | None = None
        self._keeping = anyio.CancelScope()
        self._left = False
        self._fatal: BaseException | None = None
        self._waiting = anyio.CancelScope()

    @property
    def patience(self) -> float:
        """Seconds that it may take to end once its run is cancelled."""
        match self.tool.on_cancel:
            case "finish":
                return self.tool.grace + LAST_MOMENT
            case "background":
                return LAST_MOMENT
            case _:
                return self.tool.grace

    def interrupt(self, reason: str) -> None:
        """Does what its tool wants done when it is not wanted any more."""
        self.context.abandon(reason)
        self._stop_keeping()
        match self.tool.on_cancel:
            case "finish":
                self._begin_grace()
            case "background":
                self._waiting.cancel()
            case _:
                self.stop()

    def stop(self) -> None:
        """Cancels it, at once."""
        self.is_stopped = True
        self.scope.cancel()
        self._stop_keeping()

    def _stop_keeping(self) -> None:
        """What has come to its end does not wait for the whole of its output to be kept."""
        if self._used is not None:
            self._keeping.cancel()

    def leave(self) -> None:
        """Nothing that it says or gives is heard any more."""
        self._left = True
        self._reporter.closed = True
        self.context.abandon("nobody waits for it any more")

    async def run(
        self, work: Work, keep: Callable[[Used], None], outputs: Outputs, background: Background
    ) -> Used:
        """Does `work`. `keep` is given what is shown of a result at once, before anything can
        interrupt: a run that is cancelled tells the truth by it. So is what is told of a call that
        goes on.
        """

        async def to_its_end() -> None:
            used = await work()
            if used.question is None:
                self._shown = outputs.shown(self.tool, used)
                used = self._shown.used
            self._used = used
            if self._has_result and not self._left:
                keep(used)

        try:
            match self.tool.on_cancel:
                case "finish":
                    await self._with_grace(to_its_end)
                case "background":
                    await self._apart(to_its_end, keep, outputs, background)
                case _:
                    await to_its_end()
        finally:
            self._reporter.closed = True
        if self._used is None:
            return Used(goes_on(self.started.call_id), how="interrupted")
        if self._shown is not None and self._shown.whole:
            await self._keep_whole(outputs, self._shown)
            if self._has_result and not self._left:
                keep(self._used)
        return self._used

    @property
    def _has_result(self) -> bool:
        used = self._used
        return used is not None and used.how == "finished" and used.question is None

    async def _keep_whole(self, outputs: Outputs, shown: Shown) -> None:
        """Keeps what the model does not see, unless nobody wants to wait for that any more."""
        with self._keeping:
            self._used = await outputs.kept(self.tool, shown)

    # ── finish ────────────────────────────────────────────────────────────────────────────────────

    async def _with_grace(self, work: Callable[[], Awaitable[None]]) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._heed_cancellation)
            with anyio.CancelScope(shield=True):
                await work()
            tasks.cancel_scope.cancel()
        # A cancellation that the shield has kept off counts now: nothing new is to begin.
        await anyio.lowlevel.checkpoint_if_cancelled()

    async def _heed_cancellation(self) -> None:
        """Beside the tool, which is shielded: hears when the run is cancelled, by whatever."""
        try:
            await anyio.sleep_forever()
        finally:
            if self._used is None:
                self.context.abandon(self.context.cancel_reason or "the run was cancelled")
                self._begin_grace()

    def _begin_grace(self) -> None:
        self.is_stopped = True
        last = anyio.current_time() + self.tool.grace
        self.scope.deadline = min(self.scope.deadline, last)

    # ── background ────────────────────────────────────────────────────────────────────────────────

    async def _apart(
        self,
        work: Callable[[], Awaitable[None]],
        keep: Callable[[Used], None],
        outputs: Outputs,
        background: Background,
    ) -> None:
        ended = anyio.Event()

        async def apart() -> None:
            try:
                await work()
            except anyio.get_cancelled_exc_class():
                # The program is ending: nobody is left to be told.
                self._used = stopped(self.started.call_id)
                raise
            except BaseException as error:  # noqa: BLE001  raised by whoever waits
                self._fatal = error
                self._used = stopped(self.started.call_id)
                logger.exception("tool %r would end the program", self.tool.name)
            finally:
                ended.set()
            if self._left and self._used is not None:
                try:
                    if self._shown is not None:
                        await self._keep_whole(outputs, self._shown)
                finally:
                    late = _told_late(self._used)
                    await background.tell(self.context.session_id, self.started, late)

        background.detached.start(apart)
        try:
            with self._waiting:
                await ended.wait()
        finally:
            if self._used is None:
                self.leave()
                background.left(self.started, self.stop)
                keep(Used(goes_on(self.started.call_id), how="interrupted"))
        if self._fatal is not None:
            raise self._fatal


def _told_late(used: Used) -> ToolResult:
    """What a run is told of a call that went on after its own had ended."""
    if used.question is None:
        return used.result
    text = f"[unanswered] It asked, and nobody could be asked any more: {used.question}"
    return ToolResult(used.result.call_id, (Text(text),), is_error=True)


def stopped(call_id: str) -> Used:
    """What there is to say of a call that was stopped because nobody wants it any more."""
    part = told(call_id, "interrupted").message.parts[0]
    assert isinstance(part, ToolResult)
    return Used(part, how="interrupted")
