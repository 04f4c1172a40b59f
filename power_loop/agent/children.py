"""The sessions below the calls of a run: opened, carried on, and told of."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from llm_client.types import Message, Text, ToolResult, new_id
from power_loop.agent.context import check_drift
from power_loop.agent.intake import to_message
from power_loop.agent.opening import (
    abandonment,
    for_input,
    for_resume,
    text_message,
    works_below,
)
from power_loop.agent.options import RunOptions
from power_loop.agent.planning import Place, Settings
from power_loop.agent.result import RunResult, result_of
from power_loop.agent.sessions import Owned, Sessions
from power_loop.agent.spending import announced
from power_loop.agent.subagent import SubAgent
from power_loop.agent.system_prompt import as_system_prompt
from power_loop.agent.toolset import Toolset
from power_loop.driver.shield import to_the_end
from power_loop.driver.stopwatch import Pauses
from power_loop.errors import (
    InvalidInput,
    SessionError,
    SessionNotFound,
    StoreError,
    SubAgentFailed,
)
from power_loop.log import logger
from power_loop.pipeline.ports import ChildEnded, Used
from power_loop.runtime.budget.limits import Budget
from power_loop.runtime.budget.meter import Meter
from power_loop.session.machine import Session
from power_loop.session.outcome import (
    ApprovalExpired,
    AwaitingApproval,
    BudgetExhausted,
    Completed,
    GoalReached,
    Outcome,
    PendingTools,
    WaitingForInput,
)
from power_loop.session.records import CallWaiting, Record, ToolStarted
from power_loop.session.spent import Spent
from power_loop.session.state import child_id
from power_loop.tools.base import InvalidArguments

if TYPE_CHECKING:
    from power_loop.agent.running import Runner

__all__ = ["Children", "check_drift_below", "give_up", "spent_below", "waited_for_below"]

_WAITS = AwaitingApproval | ApprovalExpired | WaitingForInput | PendingTools


class Children:
    """Runs the sessions below the calls of one run of `session_id`."""

    def __init__(
        self, runner: Runner, session_id: str, settings: Settings, meter: Meter | None
    ) -> None:
        """`settings` are those of the run, `meter` is what it may use."""
        self._runner = runner
        self._session_id = session_id
        self._settings = settings
        self._meter = meter
        self._depth = settings.place.depth + 1
        self._root = settings.place.root or session_id
        self._under_way: dict[str, Session] = {}
        # What sessions have used that wait, by call: some calls are given up before they are heard.
        self._waiting = dict(settings.below)
        # Calls whose sessions are to be concluded, and whether these may have been left unfinished.
        self._opened = dict.fromkeys(settings.below, True)

    def left(self, call_id: str) -> Spent:
        """See `power_loop.driver.below.Below`."""
        session = self._under_way.pop(call_id, None)
        return Spent() if session is None else session.spent

    def unheard(self, waits: Collection[str]) -> Spent | None:
        """See `power_loop.driver.below.Below`."""
        spent = sum([session.spent for session in self._under_way.values()], Spent())
        given_up = [used for call_id, used in self._waiting.items() if call_id not in waits]
        spent = sum(given_up, spent)
        return None if spent == Spent() else spent

    async def conclude(self, waits: Collection[str], reason: str) -> None:
        """See `power_loop.driver.below.Below`."""
        for call_id in [id for id in self._opened if id not in waits]:
            unfinished = self._opened.pop(call_id)
            try:
                id = child_id(self._session_id, call_id)
                await self._conclude(id, reason, unfinished=unfinished)
            except SessionNotFound:
                continue
            except (SessionError, StoreError) as error:
                logger.warning("what is below call %r could not be given up: %s", call_id, error)
            except BaseException:
                # The run is cancelled, and comes here again when it has closed.
                self._opened[call_id] = unfinished
                raise

    async def _conclude(self, id: str, reason: str, *, unfinished: bool) -> None:
        runner = self._runner
        if unfinished:
            await give_up(runner, id, reason, root=self._root, above=self._session_id)
        await runner.background.pass_on(id)

    async def run(
        self, started: ToolStarted, above: Callable[[], str | None], pauses: Pauses
    ) -> ChildEnded:
        """See `power_loop.driver.below.Below`.

        Raises:
            Exception: what ended it, if its agent is to fail with it.
        """
        agent = self._settings.tools.by_name().get(started.name)
        if not isinstance(agent, SubAgent):
            return _refused(started, f"There is no agent {started.name!r}.")
        deepest = self._runner.config.max_depth
        if self._depth > deepest:
            return _refused(started, f"Agents may not be nested more than {deepest} deep.")
        try:
            task = agent.task_of(started.arguments)
            message = to_message(task, new_id())
        except (InvalidArguments, InvalidInput) as error:
            return _refused(started, str(error))
        id = child_id(self._session_id, started.call_id)
        store = self._runner.store
        about = {"agent": agent.name}
        await store.create(
            id, parent=self._session_id, lifecycle=agent.lifecycle, metadata=about, at=time.time()
        )
        self._opened[started.call_id] = True
        place = Place(self._root, self._depth, above, pauses)
        async with self._runner.owned(id, "wait") as owned:
            session = owned.session
            self._under_way[started.call_id] = session
            self._waiting.pop(started.call_id, None)
            outcome, text = _already_over(session), _last_text(session)
            if outcome is None:
                try:
                    outcome, text = await self._ran(agent, owned, started, message, place)
                finally:
                    # Also if it was cancelled just when it had come to wait.
                    await to_the_end(partial(self._count, started.call_id, session))
            if self._goes_on(outcome):
                return ChildEnded(outcome, session.spent)
            if agent.on_failure == "fail" and not isinstance(outcome, Completed | GoalReached):
                raise SubAgentFailed(agent.name, id, str(outcome))
            # One that was stopped early enough has left all as it was.
            self._opened[started.call_id] = bool(session.open_calls)
            self._under_way.pop(started.call_id, None)
            spent = self._waiting.pop(started.call_id, session.spent)
            return _ended(started, agent, outcome, text, spent)

    async def _count(self, call_id: str, session: Session) -> None:
        """What a session has used that waits: those below it have not been heard of there."""
        ended = session.last_outcome
        if session.open_calls or (ended is not None and self._goes_on(ended)):
            below = await spent_below(self._runner.sessions, session)
            self._waiting[call_id] = sum(
                below.values(), session.spent.without_times + session.uncounted
            )
            del self._under_way[call_id]

    async def _ran(
        self,
        agent: SubAgent,
        owned: Owned,
        started: ToolStarted,
        message: Message,
        place: Place,
    ) -> tuple[Outcome, str]:
        """Begins the session of a call or carries it on: how it has ended, and its last text.

        Raises:
            Exception: what ended it, if its agent is to fail with it.
        """
        session = owned.session
        below = await spent_below(self._runner.sessions, session)
        settings = self._planned(agent, session, below, place)
        if session.last_run is None and session.run is None:
            caller = self._session_id, started.call_id
            opening = for_input(session, new_id(), message, settings.limits, parent=caller)
        else:
            go_on = text_message(self._runner.config.continue_prompt, new_id())
            opening = for_resume(session, new_id(), settings.limits, go_on)
        result, error = await self._result(owned, opening, settings)
        if error is not None and agent.on_failure == "fail":
            raise error
        return result.outcome, result.final_text

    def _goes_on(self, outcome: Outcome) -> bool:
        """Whether a session below is to be carried on: somebody must answer, or give more to those
        above it. What its own agent may use is never more.
        """
        if not isinstance(outcome, BudgetExhausted):
            return isinstance(outcome, _WAITS)
        scope = outcome.limit.rpartition(".")[0]
        above = () if self._meter is None else self._meter.chain
        return not scope.startswith("child.") and any(each.scope == scope for each in above)

    async def _result(
        self, owned: Owned, opening: tuple[Record, ...], settings: Settings
    ) -> tuple[RunResult[Any], Exception | None]:
        prepared = self._runner.prepare(owned, opening, settings)
        with self._runner.hub.below(owned.session.id, self._session_id):
            try:
                return await prepared.finish(), None
            except Exception as error:
                result = result_of(error)
                if result is None:
                    raise
                return result, error

    def _planned(
        self,
        agent: SubAgent,
        session: Session,
        below: Mapping[str, Spent],
        place: Place,
    ) -> Settings:
        """What the session below is to do; `below` is what those below its open calls have used."""
        own = self._settings
        options: RunOptions[Any] = {"deps": own.deps, "max_rounds": agent.max_rounds}
        if agent.model is not None:
            options["model"] = agent.model
        settings = self._runner.settings(None, options, tools=agent.tools or own.tools)
        plan, sections = settings.plan, settings.sections
        if agent.system_prompt is not None:
            prompt = as_system_prompt(agent.system_prompt)
            plan = replace(plan, template=replace(plan.template, system=prompt.fixed))
            sections = prompt.dynamic
        plan = replace(plan, answers=own.plan.answers)
        scope = f"child.{self._depth}"
        meters = () if self._meter is None else (self._meter,)
        resumes = session.last_run is not None or session.run is not None
        spent = sum(below.values(), session.task_spent + session.uncounted) if resumes else Spent()
        meter = Meter(scope, agent.budget or Budget(), meters, spent)
        limits = {**settings.limits, **announced(meter)}
        return replace(
            settings,
            plan=plan,
            sections=sections,
            user=own.user,
            meter=meter,
            limits=limits,
            place=place,
            below=dict(below),
        )


def _already_over(session: Session) -> Outcome | None:
    """How the session ended for good, before its call heard of it; None if it can be carried on."""
    outcome = session.last_outcome
    if session.run is not None or session.open_calls or outcome is None or outcome.resumable:
        return None
    return outcome


def _last_text(session: Session) -> str:
    last = session.last_message
    return last.text if last is not None and last.role == "assistant" else ""


def _refused(started: ToolStarted, why: str) -> ChildEnded:
    result = ToolResult(started.call_id, (Text(why),), is_error=True)
    return ChildEnded(Completed(why), Spent(), Used(result))


def _ended(
    started: ToolStarted, agent: SubAgent, outcome: Outcome, text: str, spent: Spent
) -> ChildEnded:
    if isinstance(outcome, Completed | GoalReached):
        result = ToolResult(started.call_id, (Text(text or str(outcome)),))
    else:
        told = f"[{agent.name} did not finish: {outcome}] {text}".rstrip()
        result = ToolResult(started.call_id, (Text(told),), is_error=True)
    return ChildEnded(outcome, spent, Used(result))


# ── what is below a session that is opened again, or given up ─────────────────────────────────────


async def give_up(
    runner: Runner, session_id: str, reason: str, *, root: str = "", above: str = ""
) -> int:
    """Gives up all open calls of a session, and of those below it; returns how many it had.

    Of a session below another one, `root` is that of its tree and `above` the one that it is below.

    Raises:
        SessionNotFound, SessionBusy: nothing was changed.
    """
    async with runner.owned(session_id, "fail") as owned:
        session, given_up = owned.session, list[str]()
        with runner.hub.below(session_id, above) if above else nullcontext():
            count = len(session.open_calls)
            for call in session.open_calls.values():
                if works_below(session, call):
                    with suppress(SessionNotFound):  # it was to be made when the process died
                        await give_up(
                            runner, call.token, reason, root=root or session_id, above=session_id
                        )
                        given_up.append(call.token)
            used = await spent_below(runner.sessions, session)
            unheard = sum(used.values(), Spent())
            records = abandonment(
                session, new_id(), reason, None if unheard == Spent() else unheard
            )
            if records:
                await runner.append(owned, records, root)
    for child in given_up:
        await runner.background.pass_on(child)
    return count


async def spent_below(sessions: Sessions, session: Session) -> dict[str, Spent]:
    """What the sessions below open calls have used, which the session itself has not heard of, by
    call; without their time, which does not count above.
    """
    found: dict[str, Spent] = {}
    async for call_id, child in _waiting(sessions, session):
        deeper = await spent_below(sessions, child)
        found[call_id] = sum(deeper.values(), child.spent.without_times + child.uncounted)
    return found


async def check_drift_below(runner: Runner, session: Session, tools: Toolset) -> None:
    """Looks whether the summaries that sessions below open calls go on with would be made in the
    same way now; `tools` are those of the run that carries `session` on.

    Raises:
        SummaryDrift: one was made by another engine, model or prompt.
    """
    named = tools.by_name()
    for call_id, child in [each async for each in _waiting(runner.sessions, session)]:
        call = session.open_calls[call_id]
        agent = named.get(call.call.name if call.started is None else call.started.name)
        if isinstance(agent, SubAgent) and _already_over(child) is None:
            check_drift(runner.config, child, agent.model or runner.llm.model)
            await check_drift_below(runner, child, agent.tools or tools)


async def waited_for_below(sessions: Sessions, session: Session) -> Mapping[str, CallWaiting]:
    """What calls in the sessions below open calls wait for, by token."""
    found: dict[str, CallWaiting] = {}
    async for _, child in _waiting(sessions, session):
        calls = child.open_calls.values()
        found |= {c.token: c.waiting for c in calls if c.waiting and c.kind != "child"}
        found |= await waited_for_below(sessions, child)
    return found


async def _waiting(sessions: Sessions, session: Session) -> AsyncGenerator[tuple[str, Session]]:
    for call in session.open_calls.values():
        if call.state == "waiting" and works_below(session, call):
            try:
                yield call.call.id, await sessions.snapshot(call.token)
            except SessionNotFound:
                # It was to be made when the process died.
                continue
