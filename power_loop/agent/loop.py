"""AgentLoop: the verbs that run the model; verbs.py has the others."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    ExitStack,
    asynccontextmanager,
)
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, Unpack, overload

from typing_extensions import TypeVar as DefaultTypeVar

import llm_client
from llm_client.service import LLMService, checked_service
from power_loop import agent
from power_loop.agent.config import AgentConfig
from power_loop.agent.extensions import Extension
from power_loop.agent.feed import LoopEvents
from power_loop.agent.intake import Input
from power_loop.agent.lifetime import Closes, open_all
from power_loop.agent.options import ResumeOptions, RunOptions
from power_loop.agent.result import RunResult
from power_loop.agent.running import Runner
from power_loop.agent.stream import RunStream
from power_loop.agent.toolset import AnyTool, Toolset
from power_loop.agent.verbs import SessionVerbs
from power_loop.driver.dispatch import Hooks
from power_loop.driver.hub import READ_AGAIN_PAGE, Hub, Overflow
from power_loop.errors import UsageError
from power_loop.runtime.stores.base import Store
from power_loop.runtime.stores.memory import MemoryStore
from power_loop.tools.registry import ToolRegistry

if TYPE_CHECKING:
    from power_loop.agent.responding import Responder
    from power_loop.agent.spending import LoopBudget
    from power_loop.agent.sync import SyncLoop

__all__ = ["AgentLoop"]

DepsT = DefaultTypeVar("DepsT", default=Any)
T = TypeVar("T")


class AgentLoop(SessionVerbs, Closes, Generic[DepsT]):
    """An agent: a model, tools, hooks, and a store for its sessions.

    Use it as a context manager. One loop serves any number of sessions at the same time::

        async with AgentLoop("openai:gpt-5", tools=[search]) as loop:
            result = await loop.send("What changed in the last release?")

    `DepsT` is the type of what `send(…, deps=…)` hands to tools and hooks.
    """

    def __init__(
        self,
        llm: LLMService | str,
        *,
        tools: Iterable[AnyTool] | ToolRegistry = (),
        store: Store | None = None,
        config: AgentConfig | None = None,
        hooks: Hooks | None = None,
        extensions: Iterable[Extension] = (),
        budget: LoopBudget | None = None,
        responder: Responder | None = None,
    ) -> None:
        """Composes a loop; nothing is opened yet.

        Args:
            llm: a model service, which stays yours to close, or a model string such as
                `openai:gpt-5` or `local:smollm2`, whose service the loop opens and closes.
            tools: tools, typed functions, or a registry.
            store: where sessions live; in memory if None.
            config: settings that hold for all runs.
            hooks: handlers, registered beforehand.
            extensions: bundles of all of these.
            budget: what all runs of this loop may use together; a `SharedBudget` counts for other
                loops as well. For one run or one session, see `AgentConfig`.
            responder: asked what calls wait for, while the run goes on; without one the run ends.

        Raises:
            UsageError: the service retries by itself, two extensions have one name, `responder`
                cannot be called, or `config.artifacts` keeps none.
            ToolDefinitionError: two tools have one name, or something cannot be a tool.
            ConfigError: a model string is unknown, its key is missing, or `llm` is neither.
        """
        self._model_string = llm if isinstance(llm, str) else None
        made = llm_client.create_llm_service(llm) if isinstance(llm, str) else llm
        self.llm: LLMService = checked_service(made, "AgentLoop")
        self._llm_closed = False
        if self.llm.retries:
            raise UsageError(
                f"something in {self.llm!r} retries by itself, and two retry layers multiply; "
                "pass the service inside it and set AgentConfig(retry=…)"
            )
        self.config = config or AgentConfig()
        self.store: Store = store or MemoryStore()
        self.hooks = hooks or Hooks()
        self.tools = Toolset(tools)
        self._hub = Hub(partial(self.store.read, limit=READ_AGAIN_PAGE))
        self.events = LoopEvents(self._hub, self.store)
        self._runner = Runner(
            self.llm, self.store, self._hub, self.hooks, self.tools, self.config, budget, responder
        )
        self._extensions: dict[str, Extension] = {}
        self.use(*extensions)

    def use(self, *extensions: Extension) -> None:
        """Adds extensions: their hooks, tools, subscribers and prompt sections.

        Raises:
            UsageError: the loop is open already, one of that name is there, or one of its prompt
                sections is.
            HookError, ToolDefinitionError: what it brings does not fit; nothing of it was added.
        """
        for extension in extensions:
            if self._stack is not None:
                raise UsageError("add extensions before the loop is opened")
            name = extension.name or type(extension).__name__
            if name in self._extensions:
                raise UsageError(f"an extension named {name!r} is in use already")
            with ExitStack() as undo:
                undo.callback(self.hooks.undo())
                extension.hooks(self.hooks)
                for tool in extension.tools():
                    undo.callback(self.tools.remove, self.tools.add(tool))
                for each in extension.subscriptions():
                    undo.callback(self.events.subscribe(each.handler, types=each.types))
                self._runner.add_sections(name, extension.prompt_sections())
                undo.pop_all()
            self._extensions[name] = extension

    # ── opening and closing ───────────────────────────────────────────────────────────────────────

    async def __aenter__(self) -> Self:
        if self._stack is not None:
            raise UsageError("this loop is open already")
        if self._llm_closed:
            if self._model_string is None:
                raise UsageError(
                    "the model service that was passed in has been closed, by send_sync() or by "
                    "leaving sync(); send all messages in one `with loop.sync() as s:` block, "
                    "or make the loop from a model string"
                )
            self.llm = self._runner.llm = llm_client.create_llm_service(self._model_string)
            self._llm_closed = False
        self._stack = await open_all(
            self._extensions.values(),
            self._runner,
            self.events,
            grace=self.config.shutdown_grace,
            last=None if self._model_string is None else self.close_llm,
        )
        return self

    async def close_llm(self) -> None:
        """Closes the model service, also one that was passed in. Idempotent."""
        self._llm_closed = True
        await self.llm.aclose()

    def sync(self) -> AbstractContextManager[SyncLoop[DepsT]]:
        """The same verbs for a program without an event loop::

            with loop.sync() as s:
                s.send("…")

        One thread runs the event loop and owns all connections; the model service is closed with
        it, also one that was passed in, because connections cannot outlive their event loop.

        Raises:
            SyncInAsyncError: on entering, inside a running event loop.
        """
        return agent.sync.open_sync(self)

    @overload
    def send_sync(
        self,
        input: Input,
        session_id: str | None = None,
        *,
        output_type: None = None,
        **options: Unpack[RunOptions[DepsT]],
    ) -> RunResult[None]: ...
    @overload
    def send_sync(
        self,
        input: Input,
        session_id: str | None = None,
        *,
        output_type: type[T],
        **options: Unpack[RunOptions[DepsT]],
    ) -> RunResult[T]: ...
    def send_sync(
        self,
        input: Input,
        session_id: str | None = None,
        *,
        output_type: type[Any] | None = None,
        **options: Unpack[RunOptions[DepsT]],
    ) -> RunResult[Any]:
        """`with loop.sync() as s: return s.send(…)`: for one message, from a script.

        A service that was passed in is closed by it: for several messages use `sync()`.

        Raises:
            SyncInAsyncError: inside a running event loop.
        """
        with self.sync() as loop:
            return loop.send(input, session_id, output_type=output_type, **options)

    # ── running ───────────────────────────────────────────────────────────────────────────────────

    @overload
    async def send(
        self,
        input: Input,
        session_id: str | None = None,
        *,
        output_type: None = None,
        **options: Unpack[RunOptions[DepsT]],
    ) -> RunResult[None]: ...
    @overload
    async def send(
        self,
        input: Input,
        session_id: str | None = None,
        *,
        output_type: type[T],
        **options: Unpack[RunOptions[DepsT]],
    ) -> RunResult[T]: ...
    async def send(
        self,
        input: Input,
        session_id: str | None = None,
        *,
        output_type: type[Any] | None = None,
        **options: Unpack[RunOptions[DepsT]],
    ) -> RunResult[Any]:
        """Sends a message and runs until the model has answered it.

        Limits, cancel verbs, waiting for people and a model that cannot be reached end in a result.
        Any other error after the run has opened is raised, and `result_of(error)` is its result.

        Args:
            input: text, an image, a file, several parts in order, or a user's message.
            session_id: where to go on; a new session if None.
            output_type: what the answer must be; `result.output` is one. See `output_spec` of
                `llm_client`.
            options: see `RunOptions`.

        Raises:
            InvalidInput, CallerError: nothing was stored.
            UsageError: the session is below another one, which alone goes on with it.
            SessionNotFound, SessionPendingError, SessionBusy: nothing was changed.
            SubAgentFailed: a sub-agent came to no answer that was to fail the run then.
            FollowUpQueued: with `on_busy="steer"`; a run that goes on has got the message.
            LLMError: the model refused for a reason that trying again does not mend.
            OutputInvalid: the answer does not fit `output_type` after all re-asks.
            StoreError: the store failed; what it had acknowledged is safe.
        """
        async with self._runner.opened(input, session_id, output_type, options) as run:
            return await run.finish()

    @overload
    def stream(
        self,
        input: Input,
        session_id: str | None = None,
        *,
        output_type: None = None,
        overflow: Overflow = "merge",
        **options: Unpack[RunOptions[DepsT]],
    ) -> AbstractAsyncContextManager[RunStream[None]]: ...
    @overload
    def stream(
        self,
        input: Input,
        session_id: str | None = None,
        *,
        output_type: type[T],
        overflow: Overflow = "merge",
        **options: Unpack[RunOptions[DepsT]],
    ) -> AbstractAsyncContextManager[RunStream[T]]: ...
    @asynccontextmanager
    async def stream(
        self,
        input: Input,
        session_id: str | None = None,
        *,
        output_type: type[Any] | None = None,
        overflow: Overflow = "merge",
        **options: Unpack[RunOptions[DepsT]],
    ) -> AsyncGenerator[RunStream[Any]]:
        """Like `send`, as a run to iterate over while it goes on::

            async with loop.stream("…") as run:
                async for event in run:
                    ...
            result = await run.result()

        Leaving the block early cancels the run. `overflow` says what happens when the reader falls
        behind: `merge` text deltas, `wait` for it, or `drop` transient events and say how many.
        """
        async with (
            self._runner.opened(input, session_id, output_type, options) as run,
            run.streamed(overflow) as stream,
        ):
            yield stream

    @overload
    async def resume(
        self,
        session_id: str,
        *,
        output_type: None = None,
        **options: Unpack[ResumeOptions[DepsT]],
    ) -> RunResult[None]: ...
    @overload
    async def resume(
        self,
        session_id: str,
        *,
        output_type: type[T],
        **options: Unpack[ResumeOptions[DepsT]],
    ) -> RunResult[T]: ...
    async def resume(
        self,
        session_id: str,
        *,
        output_type: type[Any] | None = None,
        **options: Unpack[ResumeOptions[DepsT]],
    ) -> RunResult[Any]:
        """Carries an interrupted run on: after a crash, a cancellation, a limit, or a wait.

        Calls that have settled are never run again; those that had not begun are run. One that was
        running when its process died is in doubt. What is decided about it holds. Else its tool is
        asked, if it reconciles; then it is run again if that is idempotent or says that it never
        happened; then, as `AgentConfig.in_doubt` has it, the model is told that the outcome is
        unknown, or the host must decide: the run ends `pending_tools`, or does not open.

        Args:
            session_id: the session.
            output_type: what the answer must be, as in `send`; a run does not hand it on.
            options: see `ResumeOptions`: answers and decisions besides those of `send`.

        Raises:
            NothingToResume: the last run ended for good.
            SessionPendingError: calls are in doubt, and only the host can decide (see
                `SessionPendingError.undecided`); nothing was changed.
            AnswerRefused: an answer is to nothing that waits for it, or does not fit; that, and
                nothing else, is recorded.
            UsageError: a decision or an option does not fit, or the session is below another one;
                nothing was stored.
            SessionNotFound, SessionBusy: nothing was changed.
        """
        async with self._runner.resumed(session_id, output_type, options) as run:
            return await run.finish()

    @overload
    def stream_resume(
        self,
        session_id: str,
        *,
        output_type: None = None,
        overflow: Overflow = "merge",
        **options: Unpack[ResumeOptions[DepsT]],
    ) -> AbstractAsyncContextManager[RunStream[None]]: ...
    @overload
    def stream_resume(
        self,
        session_id: str,
        *,
        output_type: type[T],
        overflow: Overflow = "merge",
        **options: Unpack[ResumeOptions[DepsT]],
    ) -> AbstractAsyncContextManager[RunStream[T]]: ...
    @asynccontextmanager
    async def stream_resume(
        self,
        session_id: str,
        *,
        output_type: type[Any] | None = None,
        overflow: Overflow = "merge",
        **options: Unpack[ResumeOptions[DepsT]],
    ) -> AsyncGenerator[RunStream[Any]]:
        """`resume`, as a run to iterate over while it goes on; see `stream`."""
        async with (
            self._runner.resumed(session_id, output_type, options) as run,
            run.streamed(overflow) as stream,
        ):
            yield stream
