"""The verbs for programs without an event loop: one thread runs it and owns all connections."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Unpack, overload

import sniffio
from anyio.from_thread import BlockingPortal, start_blocking_portal
from typing_extensions import TypeVar as DefaultTypeVar

from llm_client.types import Message, Part
from power_loop.agent.intake import Input
from power_loop.agent.opening import PendingCall
from power_loop.agent.options import ResumeOptions, RunOptions
from power_loop.agent.result import RunResult
from power_loop.agent.toolset import AnyTool
from power_loop.errors import SyncInAsyncError, UsageError
from power_loop.runtime.stores.base import Posted, SteerMode
from power_loop.tools.registry import ToolRegistry

if TYPE_CHECKING:
    from llm_client.pricing import PriceBook
    from power_loop.agent.loop import AgentLoop
    from power_loop.history.difference import SessionDiff
    from power_loop.history.explanation import Explanation
    from power_loop.history.replay import Replayed
    from power_loop.history.usage import SessionUsage

__all__ = ["SyncLoop", "open_sync"]

DepsT = DefaultTypeVar("DepsT", default=Any)
T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def open_sync(loop: AgentLoop[DepsT]) -> Generator[SyncLoop[DepsT]]:
    """Opens `loop` in a thread of its own for as long as the block lasts.

    Raises:
        SyncInAsyncError: inside a running event loop.
    """
    _check_no_loop_runs()
    with start_blocking_portal() as portal:
        try:
            with portal.wrap_async_context_manager(loop):
                blocking = SyncLoop(loop, portal)
                try:
                    yield blocking
                finally:
                    blocking.portal = None
        finally:
            portal.call(loop.close_llm)


def _check_no_loop_runs() -> None:
    try:
        running = sniffio.current_async_library()
    except sniffio.AsyncLibraryNotFoundError:
        return
    raise SyncInAsyncError(
        f"this would block the running {running} event loop; "
        "use `async with loop:` and `await loop.send(…)` instead"
    )


class SyncLoop(Generic[DepsT]):
    """The verbs of an `AgentLoop`, blocking. Safe to use from several threads.

    Every verb raises SyncInAsyncError inside a running event loop, and UsageError once the block
    of `sync()` has been left.

    Attributes:
        portal: the way into the thread of the event loop; None once that is closed.
    """

    def __init__(self, loop: AgentLoop[DepsT], portal: BlockingPortal) -> None:
        self._loop = loop
        self.portal: BlockingPortal | None = portal

    def _call(self, verb: Callable[[], Awaitable[R]]) -> R:
        _check_no_loop_runs()
        if self.portal is None:
            raise UsageError("the block of `loop.sync()` has been left; enter another one")
        return self.portal.call(verb)

    @overload
    def send(
        self,
        input: Input,
        session_id: str | None = None,
        *,
        output_type: None = None,
        **options: Unpack[RunOptions[DepsT]],
    ) -> RunResult[None]: ...
    @overload
    def send(
        self,
        input: Input,
        session_id: str | None = None,
        *,
        output_type: type[T],
        **options: Unpack[RunOptions[DepsT]],
    ) -> RunResult[T]: ...
    def send(
        self,
        input: Input,
        session_id: str | None = None,
        *,
        output_type: type[Any] | None = None,
        **options: Unpack[RunOptions[DepsT]],
    ) -> RunResult[Any]:
        """See `AgentLoop.send`."""
        call = partial(self._loop.send, input, session_id, output_type=output_type, **options)
        return self._call(call)

    @overload
    def resume(
        self,
        session_id: str,
        *,
        output_type: None = None,
        **options: Unpack[ResumeOptions[DepsT]],
    ) -> RunResult[None]: ...
    @overload
    def resume(
        self,
        session_id: str,
        *,
        output_type: type[T],
        **options: Unpack[ResumeOptions[DepsT]],
    ) -> RunResult[T]: ...
    def resume(
        self,
        session_id: str,
        *,
        output_type: type[Any] | None = None,
        **options: Unpack[ResumeOptions[DepsT]],
    ) -> RunResult[Any]:
        """See `AgentLoop.resume`."""
        call = partial(self._loop.resume, session_id, output_type=output_type, **options)
        return self._call(call)

    def abort_pending(self, session_id: str, reason: str = "given up") -> int:
        """See `AgentLoop.abort_pending`."""
        return self._call(partial(self._loop.abort_pending, session_id, reason))

    def cancel(self, session_id: str, reason: str = "cancelled") -> bool:
        """See `AgentLoop.cancel`."""
        return self._call(partial(self._loop.cancel, session_id, reason))

    def steer(
        self,
        session_id: str,
        input: Input,
        *,
        mode: SteerMode = "next_round",
        dedupe_key: str | None = None,
    ) -> Posted:
        """See `AgentLoop.steer`."""
        call = partial(self._loop.steer, session_id, input, mode=mode, dedupe_key=dedupe_key)
        return self._call(call)

    def get_messages(
        self, session_id: str, *, include_compacted: bool = False
    ) -> Sequence[Message]:
        """See `AgentLoop.get_messages`."""
        return self._call(
            partial(self._loop.get_messages, session_id, include_compacted=include_compacted)
        )

    def get_pending(self, session_id: str) -> tuple[PendingCall, ...]:
        """See `AgentLoop.get_pending`."""
        return self._call(partial(self._loop.get_pending, session_id))

    def fork(
        self,
        session_id: str,
        at: int | None = None,
        *,
        overrides: Mapping[str, str | Sequence[Part]] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        """See `AgentLoop.fork`."""
        return self._call(
            partial(self._loop.fork, session_id, at, overrides=overrides, metadata=metadata)
        )

    def rewind(self, session_id: str, *, at: int) -> None:
        """See `AgentLoop.rewind`."""
        self._call(partial(self._loop.rewind, session_id, at=at))

    def diff(self, first: str, second: str) -> SessionDiff:
        """See `AgentLoop.diff`."""
        return self._call(partial(self._loop.diff, first, second))

    def usage(
        self, session_id: str, *, prices: PriceBook | None = None, children: bool = False
    ) -> SessionUsage:
        """See `AgentLoop.usage`."""
        return self._call(partial(self._loop.usage, session_id, prices=prices, children=children))

    def explain(self, session_id: str, run: str | None = None) -> Explanation:
        """See `AgentLoop.explain`."""
        return self._call(partial(self._loop.explain, session_id, run))

    def replay(
        self,
        session_id: str,
        *,
        run: str | None = None,
        deps: Any = None,
        tools: Iterable[AnyTool] | ToolRegistry | None = None,
        output_type: type[Any] | None = None,
    ) -> Replayed:
        """See `AgentLoop.replay`."""
        return self._call(
            partial(
                self._loop.replay,
                session_id,
                run=run,
                deps=deps,
                tools=tools,
                output_type=output_type,
            )
        )

    def close_session(self, session_id: str) -> int:
        """See `AgentLoop.close_session`."""
        return self._call(partial(self._loop.close_session, session_id))
