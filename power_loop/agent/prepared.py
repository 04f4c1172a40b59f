"""A run that is ready to go, for whoever waits for its end or reads along."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Generic

import anyio
from typing_extensions import TypeVar

from llm_client.types import Usage
from power_loop.agent.options import check_overflow
from power_loop.agent.result import RunResult, attach_result
from power_loop.agent.sessions import Owned
from power_loop.agent.stream import RunStream
from power_loop.driver.hub import Hub, Overflow
from power_loop.driver.run import Run, final_text
from power_loop.session.outcome import Completed

__all__ = ["PreparedRun"]

OutputT = TypeVar("OutputT", default=None)


class PreparedRun(Generic[OutputT]):
    """A run that can be waited for, or be iterated over. Either, once."""

    def __init__(
        self,
        owned: Owned,
        run: Run,
        parse: Callable[[str], OutputT] | None,
        hub: Hub,
        registered: AbstractAsyncContextManager[None],
    ) -> None:
        """`registered` is open while the run goes on, so that others can find it."""
        self._owned = owned
        self._run = run
        self._parse = parse
        self._hub = hub
        self._registered = registered

    async def finish(self) -> RunResult[OutputT]:
        """Runs to the end.

        Raises:
            Exception: what ended the run, with its result attached.
        """
        async with self._registered:
            await self._run.execute()
        return self._result()

    @asynccontextmanager
    async def streamed(self, overflow: Overflow) -> AsyncGenerator[RunStream[OutputT]]:
        """Runs while the block iterates over it; leaving the block early cancels the run."""
        check_overflow(overflow)
        session_id = self._owned.session.id
        reader = self._hub.reader(overflow=overflow)
        stream = RunStream(self._run, session_id, reader, self._result)
        failure: BaseException | None = None
        self._hub.attach(reader, session_id)
        try:
            async with self._registered, anyio.create_task_group() as tasks:
                tasks.start_soon(self._execute, stream)
                try:
                    yield stream
                except anyio.get_cancelled_exc_class():
                    raise
                except BaseException as error:  # noqa: BLE001  raised again, out of the group
                    failure = error
                finally:
                    self._run.cancel("its reader left")
        finally:
            self._hub.detach(reader, session_id)
        if failure is not None:
            raise failure

    async def _execute(self, stream: RunStream[OutputT]) -> None:
        try:
            await self._run.execute()
        finally:
            stream.end()

    def _result(self) -> RunResult[Any]:
        run, session = self._run, self._owned.session
        if run.outcome is None:
            assert run.error is not None
            _name_session(run.error, session.id)
            raise run.error
        text = final_text(session) if run.opened else ""
        output = None
        if self._parse is not None and run.error is None and isinstance(run.outcome, Completed):
            output = self._parse(text)
        result: RunResult[Any] = RunResult(
            session_id=session.id,
            run_id=run.run_id,
            outcome=run.outcome,
            final_text=text,
            output=output,
            rounds=session.round if run.opened else 0,
            usage=session.run_usage if run.opened else Usage(),
            stop_reason=session.stop_reason if run.opened else None,
        )
        if run.error is not None:
            attach_result(run.error, result)
            raise run.error
        return result


def _name_session(error: Exception, session_id: str) -> None:
    """An error without a result says at least where its run was to be stored, or is in part."""
    note = f"This was a run of session {session_id!r}."
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)
