"""The verbs that go back in a session's history, and those that only look at it from there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llm_client.types import Part
from power_loop import agent
from power_loop.agent.config import AgentConfig
from power_loop.agent.running import Runner
from power_loop.agent.toolset import AnyTool
from power_loop.driver.dispatch import Hooks
from power_loop.runtime.stores.base import Store
from power_loop.tools.registry import ToolRegistry

if TYPE_CHECKING:
    from llm_client.pricing import PriceBook
    from power_loop.agent.travel import Again
    from power_loop.history.difference import SessionDiff
    from power_loop.history.explanation import Explanation
    from power_loop.history.replay import Replayed
    from power_loop.history.usage import SessionUsage

__all__ = ["TimeVerbs"]


class TimeVerbs:
    """Base of `SessionVerbs`.

    Attributes:
        store: where sessions live.
        hooks: handlers.
        config: settings that hold for all runs.
    """

    store: Store
    hooks: Hooks
    config: AgentConfig
    _runner: Runner

    async def fork(
        self,
        session_id: str,
        at: int | None = None,
        *,
        overrides: Mapping[str, str | Sequence[Part]] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        """Makes a new session of what had happened up to record `at`; returns its id.

        The old session is only read. The new one goes on by `send`, or by `resume` where calls are
        open or a run was: a call that had begun is in doubt there, and keeps its idempotency key.

        Args:
            session_id: the session to copy.
            at: number of the last record to be copied; all if None.
            overrides: other contents of messages, by message id: a text, in whose place the old one
                stood, or all parts. A message keeps its calls or the call that it answers.
            metadata: of the new session.

        Raises:
            UsageError: there is no such record or message, an override does not fit, or the copy
                would end in the middle of a step; nothing was stored.
            SessionNotFound: there is none of that id.
        """
        return await agent.travel.fork(
            self.store, session_id, at, overrides or {}, metadata, self._runner.artifacts
        )

    async def rewind(self, session_id: str, *, at: int) -> None:
        """Shows the model the session as it was after record `at`; its log keeps what came since.

        What was used stays counted, and what tools have done stays done. Afterwards `send` goes on
        from there with new input, and `resume` without.

        Raises:
            UsageError: there is no such record, or calls were open after it; names the nearest
                records that can be gone back to.
            SessionPendingError: calls are open now.
            SessionNotFound, SessionBusy: nothing was changed.
        """
        async with self._runner.owned(session_id, "fail") as owned:
            records = await agent.travel.rewinding(self.store, owned.session, at)
            await self._runner.append(owned, records)

    async def diff(self, first: str, second: str) -> SessionDiff:
        """Where two sessions part, a fork and what it was made of, for one. `str()` says it.

        Raises:
            SessionNotFound: there is none of that id.
        """
        return await agent.travel.diff(self.store, first, second)

    async def usage(
        self, session_id: str, *, prices: PriceBook | None = None, children: bool = False
    ) -> SessionUsage:
        """What a session has used, by run, round and attempt, and what that costs.

        Every attempt is counted, also those that failed, were cancelled, or died with their
        process. A cost is None where a price is not known.

        Args:
            session_id: the session.
            prices: what tokens cost, such as `GenAIPrices()`; without it, no cost is known.
            children: of the sessions of its sub-agents as well. It must then be a root.

        Raises:
            SessionNotFound: there is none of that id.
            UsageError: `children`, and it is below another one.
            PricingStale: the price list is too old, and its policy refuses that.
        """
        return await agent.travel.usage(self.store, session_id, prices, children=children)

    async def explain(self, session_id: str, run: str | None = None) -> Explanation:
        """Why a session's last task, or one run, ended as it did, from its log alone.

        It names the rule that decided and who had made it, what was left of each limit, and all
        that hooks, policies, budgets and people had decided on the way. `str()` says it.

        A run without a stored end is told as far as it goes; so is a log that another version has
        gone on with.

        Args:
            session_id: the session.
            run: the id of the only run to explain; all runs since the last input if None.

        Raises:
            UsageError: there is no such run.
            SessionError: the session has had no run.
            SessionNotFound: there is none of that id.
        """
        return await agent.travel.explain(self.store, session_id, run)

    async def replay(
        self,
        session_id: str,
        *,
        run: str | None = None,
        deps: Any = None,
        tools: Iterable[AnyTool] | ToolRegistry | None = None,
        output_type: type[Any] | None = None,
    ) -> Replayed:
        """Does a session's runs once more, with what the model and the tools had given.

        No model is asked, no tool is run, nothing is stored; hooks are run. What the loop would
        store now is compared with what is stored, to the byte. The model's name, the bound of
        rounds that a run was given, and what sections of its system prompt had found out are taken
        from its record.

        What came from outside is taken as it was stored, after `llm.after`, `tool.after` and
        `message.append` had rewritten it: their handlers run, but do not rewrite it again. Those of
        `tool.error` and `session.end` are not run. What a handler does must follow from what it is
        told: one that counts, or looks at the clock, differs from itself.

        Args:
            session_id: the session.
            run: the id of the only run to replay; all if None.
            deps: what hooks are handed, as in `send`.
            tools: these instead of the loop's, as in `send`.
            output_type: what the answers had to be, as in `send`.

        Raises:
            UsageError: there is no such run.
            SessionNotFound: there is none of that id.
        """
        stamped = await self.store.read(session_id)
        again = self.again(deps=deps, tools=tools, output_type=output_type)
        return await again.replay(session_id, stamped, run)

    def again(
        self,
        *,
        deps: Any = None,
        tools: Iterable[AnyTool] | ToolRegistry | None = None,
        output_type: type[Any] | None = None,
    ) -> Again:
        """What replays records that are not in the loop's store; see `replay`."""
        config, hooks = self.config, self.hooks
        return agent.travel.Again(self._runner, config, hooks, deps, tools, output_type)
