"""From a call of a verb to a run that has closed."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from llm_client.service import LLMService
from llm_client.types import Message, new_id
from power_loop import agent
from power_loop.agent.answers import by_token, refusal
from power_loop.agent.below import check_not_below, who_goes_on
from power_loop.agent.config import AgentConfig
from power_loop.agent.counting import Counters
from power_loop.agent.deciding import check_decided, verdicts
from power_loop.agent.follow_up import own_or_steer
from power_loop.agent.intake import Input, to_message
from power_loop.agent.opening import after_crash, for_input, for_resume, text_message, waited_for
from power_loop.agent.options import ResumeOptions, RunOptions
from power_loop.agent.planning import Planner, Settings, system_for
from power_loop.agent.prepared import PreparedRun
from power_loop.agent.responding import Responder, checked_responder, respond_with
from power_loop.agent.runs import Runs
from power_loop.agent.sessions import Owned, Sessions, WaitOrFail
from power_loop.agent.toolset import Toolset
from power_loop.driver.background import Background
from power_loop.driver.below import Below
from power_loop.driver.dispatch import Hooks
from power_loop.driver.hub import Hub
from power_loop.driver.inbox import is_interrupt
from power_loop.driver.run import INSIDE, Run
from power_loop.driver.setup import RunSetup
from power_loop.errors import (
    SessionBusy,
    SessionError,
    StoreError,
    UsageError,
)
from power_loop.events import Stamped
from power_loop.log import logger
from power_loop.pipeline.plan import Answer
from power_loop.runtime.artifacts.base import artifacts_of
from power_loop.runtime.stores.base import CancelRequested, Store
from power_loop.session.records import Record
from power_loop.session.spent import Spent

if TYPE_CHECKING:
    from llm_client.tokens import ModelTokens
    from power_loop.agent.spending import LoopBudget
    from power_loop.runtime.budget.meter import Meter
    from power_loop.session.machine import Session

__all__ = ["Runner"]


class Runner(Planner):
    """Runs sessions of one loop.

    Attributes:
        sessions: whose turn it is, and the folded sessions.
        store: where sessions live.
        artifacts: where large outputs of tools are kept; None if they are not.
        hub: who reads what.
    """

    def __init__(
        self,
        llm: LLMService,
        store: Store,
        hub: Hub,
        hooks: Hooks,
        tools: Toolset,
        config: AgentConfig,
        budget: LoopBudget | None = None,
        responder: Responder | None = None,
    ) -> None:
        super().__init__(llm, tools, config)
        self.sessions = Sessions(
            store, lease_seconds=config.lease_seconds, cached=config.cached_sessions
        )
        self.store = store
        self.artifacts = artifacts_of(store, config.artifacts)
        self.hub = hub
        self._hooks = hooks
        self._meters: tuple[Meter, ...] = () if budget is None else agent.spending.meters_of(budget)
        self._responder = checked_responder(responder)
        self._counters: dict[str, ModelTokens] = {}
        self._runs = Runs()
        self._open = False
        self.background = Background(store, partial(who_goes_on, self.sessions, store))

    def owned(self, session_id: str, on_busy: WaitOrFail) -> AbstractAsyncContextManager[Owned]:
        """See `Sessions.owned`.

        Raises:
            SessionBusy: at once, if a hook or a tool of the session's own run asks: it would wait
                for itself.
        """
        self._refuse_its_own_run(session_id)
        return self.sessions.owned(session_id, on_busy)

    def _refuse_its_own_run(self, session_id: str) -> None:
        run = self._runs.of(session_id)
        if run is not None and run.run_id in INSIDE.get():
            raise SessionBusy(session_id, "the very run that asks for it")

    @asynccontextmanager
    async def opened(
        self,
        input: Input,
        session_id: str | None,
        output_type: type[Any] | None,
        options: RunOptions[Any],
    ) -> AsyncGenerator[PreparedRun[Any]]:
        """A run that takes `input`, ready to go; in a new session if `session_id` is None.

        Raises:
            UsageError, SessionError, CallerError: nothing was stored.
            FollowUpQueued: a run was going on and has been given the message, as was wished.
        """
        self._check_open()
        settings = self.settings(output_type, options)
        message = self.checked(to_message(input, new_id()), settings.plan.template)
        is_new = session_id is None
        if session_id is None:
            session_id = new_id("sess_")
            await self.store.create(session_id, at=time.time())
        else:
            await check_not_below(self.store, session_id)
        try:
            async with self._turn(session_id, message, options) as (owned, taken):
                settings = self._limited(owned.session, settings, options)
                opening = for_input(owned.session, new_id(), message, settings.limits)
                yield self.prepare(owned, opening, settings, taken)
        except Exception:
            if is_new:
                await self._discard_if_empty(session_id)
            raise

    @asynccontextmanager
    async def _turn(
        self, session_id: str, message: Message, options: RunOptions[Any]
    ) -> AsyncGenerator[tuple[Owned, tuple[str, ...]]]:
        """The session, and what of its inbox the message came from."""
        on_busy = options.get("on_busy", "wait")
        if on_busy == "steer":
            self._refuse_its_own_run(session_id)
            claim = partial(self.owned, session_id, "fail")
            async with own_or_steer(self.store, claim, session_id, message) as found:
                yield found
        else:
            async with self.owned(session_id, on_busy) as owned:
                yield owned, ()

    @asynccontextmanager
    async def resumed(
        self,
        session_id: str,
        output_type: type[Any] | None,
        options: ResumeOptions[Any],
    ) -> AsyncGenerator[PreparedRun[Any]]:
        """A run that carries the last one on, ready to go.

        Raises:
            UsageError, SessionError: nothing was stored.
        """
        self._check_open()
        settings = self.settings(output_type, options, resumes=True)
        answers = by_token(options.get("answers", ()))
        decisions = options.get("decisions") or {}
        go_on = text_message(self.config.continue_prompt, new_id())
        on_busy = options.get("on_busy", "wait")
        if on_busy == "steer":
            raise UsageError("on_busy='steer' is for a message: resume() waits or fails")
        await check_not_below(self.store, session_id)
        async with self.owned(session_id, on_busy) as owned:
            await self._check_answers(owned, answers)
            if not options.get("allow_drift", False):
                agent.context.check_drift(self.config, owned.session, settings.plan.model)
                await agent.children.check_drift_below(self, owned.session, settings.tools)
            below = await self._below(owned.session)
            used_below = sum(below.values(), Spent())
            settings = self._limited(owned.session, settings, options, used_below)
            opening = for_resume(owned.session, new_id(), settings.limits, go_on)
            tools = settings.tools.by_name()
            decided = verdicts(owned.session, decisions, tools)
            if self.config.in_doubt == "ask":
                check_decided(owned.session, decisions, tools)
            plan = replace(settings.plan, answers=answers, decisions=decided)
            yield self.prepare(owned, opening, replace(settings, plan=plan, below=below))

    def _limited(
        self,
        session: Session,
        settings: Settings,
        options: RunOptions[Any] | ResumeOptions[Any],
        below: Spent | None = None,
    ) -> Settings:
        """The settings with all budgets that the run is under. `below` is what sessions below open
        calls have used, of a run that carries another one on.

        Raises:
            UsageError: the run is to be given less than it had.
        """
        config = self.config
        given = config.run_budget or config.session_budget or self._meters or settings.delegates
        # Where there are prices, what a call costs is recorded, limit or not.
        given = given or config.prices is not None or "budget" in options or "extend" in options
        if not given and (below is None or not any("." in name for name in session.limits)):
            return settings
        meter = agent.spending.meter_for(
            session, config, options, self._meters, below=below, delegates=settings.delegates
        )
        limits = {**settings.limits, **agent.spending.announced(meter)}
        return replace(settings, meter=meter, limits=limits)

    async def _below(self, session: Session) -> dict[str, Spent]:
        """What sessions below open calls have used, by call."""
        if all(call.kind != "child" for call in session.open_calls.values()):
            return {}
        return await agent.children.spent_below(self.sessions, session)

    async def _check_answers(self, owned: Owned, answers: Mapping[str, Answer]) -> None:
        """Raises AnswerRefused: one is to nothing that waits for it; its log says so."""
        session = owned.session
        waiting = waited_for(session)
        if answers and any(each.kind == "child" for each in waiting.values()):
            below = await agent.children.waited_for_below(self.sessions, session)
            waiting = {**waiting, **below}
        refused = refusal(session.id, answers, waiting)
        if refused is not None:
            error, record = refused
            await self.append(owned, (*after_crash(session), record))
            raise error

    async def _discard_if_empty(self, session_id: str) -> None:
        """Deletes a session that was made for a run which could not open, if the store still can.

        Nobody has learnt its id but from the error.
        """
        try:
            if (await self.store.info(session_id)).seq == 0:
                await self.store.delete(session_id)
        except (StoreError, SessionError) as error:
            logger.warning("the empty session %r stays behind: %s", session_id, error)

    def _check_open(self) -> None:
        if not self._open:
            raise UsageError("open the loop first: `async with AgentLoop(…) as loop:`")

    def prepare(
        self,
        owned: Owned,
        opening: Sequence[Record],
        settings: Settings,
        taken: tuple[str, ...] = (),
    ) -> PreparedRun[Any]:
        """A run of a session that is ours, ready to go; its input is what was `taken` there.

        Raises:
            UsageError: a section of the system prompt could not be found out.
        """
        config, session = self.config, owned.session
        template = replace(
            settings.plan.template, cache_key=session.id, system=system_for(session.id, settings)
        )
        purse, meter = None, settings.meter
        counters = Counters(self._counters, owned.derived.counters)
        if meter is not None:
            purse = agent.spending.purse_of(meter, config, settings.plan.model, counters)
        respond = None
        if self._responder is not None:
            respond = respond_with(self._responder, session)
        setup = RunSetup(
            session=session,
            store=self.store,
            lease=owned.lease,
            llm=self.llm,
            hub=self.hub,
            hooks=self._hooks,
            tools=settings.tools.by_name(),
            plan=replace(settings.plan, template=template, taken=taken, depth=settings.place.depth),
            root=settings.place.root or session.id,
            respond=respond,
            context=agent.context.context_of(self, owned, settings, counters),
            background=self.background,
            cancel=settings.cancel,
            above=settings.place.above,
            pauses_above=settings.place.pauses,
            purse=purse,
            below=self._children(session.id, settings),
            time_limits={} if meter is None else agent.spending.time_limits(meter),
            deps=settings.deps,
            tool_concurrency=config.tool_concurrency,
            tool_timeout=config.tool_timeout,
            result_limit=config.result_limit,
            artifacts=self.artifacts,
            hook_grace=config.hook_grace,
        )
        run = Run(setup, opening, timeout=settings.timeout)
        return PreparedRun(owned, run, settings.parse, self.hub, self._registered(owned, run))

    def _children(self, session_id: str, settings: Settings) -> Below | None:
        """What runs the sessions below calls of a run, if it has tools for that, or such calls."""
        if not settings.delegates and not settings.below:
            return None
        return agent.children.Children(self, session_id, settings, settings.meter)

    @asynccontextmanager
    async def _registered(self, owned: Owned, run: Run) -> AsyncGenerator[None]:
        """Lets `run` be found by its session while it runs, and keeps the books afterwards.

        Raises:
            UsageError: the loop was closed meanwhile.
        """
        if not self._open:
            raise UsageError("the loop was closed before this run had its turn")
        session_id = owned.session.id
        await self._look_at_what_waits(run)
        self._runs.add(run)
        try:
            yield
        finally:
            self._runs.remove(run)
            owned.released = run.ports.committer.released
            if not owned.released or run.ports.committer.failure is not None:
                # What is folded may be ahead of what is stored.
                self.sessions.forget(session_id)

    async def _look_at_what_waits(self, run: Run) -> None:
        """Some items were meant for a run before this one, or to stop what nobody was doing."""
        session_id, inbox = run.session_id, run.ports.inbox
        if not self.store.inbox_hint(session_id):
            return
        items = await self.store.inbox(session_id)
        inbox.ignored = tuple([i.id for i in items if isinstance(i.item, CancelRequested)])
        if not run.follows_a_crash:
            inbox.calm = frozenset([item.id for item in items if is_interrupt(item)])

    async def append(self, owned: Owned, records: Sequence[Record], root: str = "") -> None:
        """Appends records outside of a run, as one unit, and gives the session back.

        `root` is that of its tree, if it is below another one.

        Raises:
            StoreError: they could not be stored.
        """
        session = owned.session
        seq, at = session.seq, time.time()
        self.sessions.forget(session.id)
        session.apply(*records)
        run = session.last_run or ""
        stamped = [
            Stamped(session.id, seq + i, 0, root or session.id, 0, at, run, session.round, record)
            for i, record in enumerate(records, 1)
        ]
        appended = await self.store.append(owned.lease, seq, stamped, final=True)
        owned.released = True
        for place, event in enumerate(stamped, appended.tree_seq - len(stamped) + 1):
            self.hub.publish(replace(event, tree_seq=place))

    async def cancel(self, session_id: str, reason: str) -> bool | None:
        """Cancels a run of this loop: whether in time. None if the session has none here."""
        run = self._runs.of(session_id)
        return None if run is None else await run.cancel_in_time(reason)

    def start(self) -> None:
        """Lets runs begin."""
        self._open = True

    async def shut_down(self, grace: float) -> None:
        """Cancels what is running and waits, for `grace` seconds, until it has closed."""
        self._open = False
        await self._runs.end(grace)
        await self.background.close(grace)
