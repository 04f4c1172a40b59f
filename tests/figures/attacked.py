"""A shop whose payments need approval, and whose books are kept outside of any store."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Literal

import anyio.lowlevel
import msgspec
from msgspec.structs import replace

from llm_client.types import LLMRequest
from power_loop import AgentLoop, Answer, Hooks, RunResult, Store, ToolContext, tool
from power_loop.errors import PowerLoopError
from power_loop.governance import Policies, RequireApproval
from power_loop.hooks import TOOL_BEFORE, Suspend, ToolBefore
from power_loop.session.records import CallAnswered, CallWaiting, Decided, Record
from tests.agent.scripted import Reply, Scripted, calls, says
from tests.agent.stores import records_of
from tests.session.checker import violations

__all__ = ["Rule", "Shape", "Shop"]

Rule = Literal["hook", "policy"]
Shape = Literal["alone", "batch"]
Payment = tuple[str, str, int]
"""Session, call and amount of a payment that has been made."""


class Shop:
    """One session, its loops, and its till.

    Attributes:
        other: another handle on its store, as another process has.
        paid: what was paid, by whatever session, in order.
        looked: the siblings that ran.
        guarded: whether the rule is there that asks.
        guard: its name.
        rewrite: the amount that another handler puts in, before the rule or after it by its
            `rewrite_order`; None for no such handler.
        faults: what did not go as it should have.
        refusals: answers that were refused.
    """

    def __init__(
        self, store: Store, rule: Rule, shape: Shape, session: str, other: Store | None = None
    ) -> None:
        self.store = store
        self.other = other or store
        self.rule: Rule = rule
        self.shape: Shape = shape
        self.session = session
        self.paid: list[Payment] = []
        self.looked: list[str] = []
        self.world = "calm"
        self.version = "1"
        self.ttl: float | None = None
        self.guarded = True
        self.guard = "guard"
        self.rewrite: int | None = None
        self.rewrite_order = 1
        self.faults: list[str] = []
        self.refusals = 0

    # ── the program ───────────────────────────────────────────────────────────────────────────────

    def loop(self, store: Store | None = None) -> AgentLoop[Any]:
        """The program, started once more."""

        @tool
        async def pay(amount: int, context: ToolContext[Any]) -> str:
            """Pays."""
            self.paid.append((context.session_id, context.call_id, amount))
            await anyio.lowlevel.checkpoint()
            return f"paid {amount}"

        @tool(idempotent=True)
        async def look(context: ToolContext[Any]) -> str:
            """Looks."""
            self.looked.append(context.call_id)
            return "seen"

        hooks = Hooks()
        rules: list[Policies] = []
        if self.guarded and self.rule == "hook":
            hooks.on(TOOL_BEFORE, self._ask, name=self.guard)
        elif self.guarded:
            rules.append(Policies(self._policy()))
        if self.rewrite is not None:
            hooks.on(TOOL_BEFORE, self._rewritten, name="rewriter", order=self.rewrite_order)
        return AgentLoop[Any](
            Scripted(by=self._answer),
            tools=[pay, look],
            store=self.store if store is None else store,
            hooks=hooks,
            extensions=rules,
        )

    def _policy(self) -> RequireApproval:
        return RequireApproval(
            ["pay"],
            "it costs",
            version=self.version,
            world=lambda _: self.world,
            ttl=self.ttl,
            name=self.guard,
        )

    def _ask(self, context: ToolBefore) -> Suspend | None:
        if context.name != "pay":
            return None
        return Suspend("it costs", self.version, self.world, self.ttl)

    def _rewritten(self, context: ToolBefore) -> ToolBefore | None:
        if self.rewrite is None or context.name != "pay":
            return None
        return replace(context, arguments=f'{{"amount":{self.rewrite}}}')

    def _answer(self, request: LLMRequest) -> Reply:
        if request.messages[-1].role == "tool":
            return says("done")
        wanted: list[tuple[str, str, dict[str, Any]]] = [("a", "pay", {"amount": 3})]
        if self.shape == "batch":
            wanted = [("x", "look", {}), *wanted, ("b", "pay", {"amount": 5})]
        return calls(*wanted)

    # ── what is done to it ────────────────────────────────────────────────────────────────────────

    async def ask(self) -> dict[str, str]:
        """Has the model ask for payments; the tokens, by call."""
        async with self.loop() as loop:
            result = await loop.send("go", self.session)
            self.must(result.status == "awaiting_approval", f"it ended {result.status}")
        self.must(self.paid == [], "it paid before anybody was asked")
        return await self.tokens()

    async def tokens(self, session: str | None = None) -> dict[str, str]:
        """What payments wait for, by call."""
        async with self.loop() as loop:
            pending = await loop.get_pending(session or self.session)
        return {call.call_id: call.token for call in pending if call.token}

    async def resume(
        self, *answers: Answer, session: str | None = None, store: Store | None = None
    ) -> RunResult[None] | None:
        """In a program of its own; None if the answers were refused."""
        async with self.loop(store) as loop:
            try:
                return await loop.resume(session or self.session, answers=answers)
            except PowerLoopError as error:
                self.refusals += 1
                if "paid" in str(error):
                    self.faults.append(f"an error tells too much: {error}")
                return None

    async def refused(self, *answers: Answer, session: str | None = None) -> None:
        """As `resume`, but must be refused, and recorded, and change nothing."""
        paid, of = list(self.paid), session or self.session
        before = [r for r in await self.log(of) if not isinstance(r, Decided)]
        result = await self.resume(*answers, session=session)
        self.must(result is None, f"{answers[0].kind} was taken")
        log = await self.log(of)
        self.must(self.paid == paid, "what was refused was paid")
        self.must([r for r in log if not isinstance(r, Decided)] == before, "it changed the log")
        last = log[-1]
        told = isinstance(last, Decided) and last.what == "refused"
        self.must(told, "nothing is recorded of it")

    async def late(self) -> None:
        """Lets the time of what is asked pass."""
        waiting = [r for r in await self.log() if isinstance(r, CallWaiting)]
        while any(r.expires is not None and r.expires >= time.time() for r in waiting):
            await anyio.lowlevel.checkpoint()

    async def log(self, session: str | None = None) -> list[Record]:
        """All records of a session."""
        return records_of(await self.store.read(session or self.session))

    # ── what must hold ────────────────────────────────────────────────────────────────────────────

    def must(self, holds: bool, fault: str) -> None:
        """Notes what does not hold."""
        if not holds:
            self.faults.append(fault)

    def asked_anew(self, before: dict[str, str], after: dict[str, str], call: str = "a") -> None:
        """The call waits again, under a token that is new."""
        new = after.get(call)
        self.must(new is not None and new != before[call], f"call {call} is not asked for anew")

    def paid_just(self, *amounts: int, call: str = "a", session: str | None = None) -> None:
        """A call has paid these amounts, once each."""
        of = session or self.session
        found = [amount for s, c, amount in self.paid if (s, c) == (of, call)]
        self.must(found == list(amounts), f"call {call} paid {found}, not {list(amounts)}")

    async def finished(self, sessions: Sequence[str]) -> None:
        """What holds whatever was done: legal logs, and no payment that nobody had allowed."""
        for session in sessions:
            log = await self.log(session)
            self.faults += violations(log, closed=True)
            waited = {r.token: r for r in log if isinstance(r, CallWaiting)}
            allowed = [
                (session, r.call_id, msgspec.json.decode(r.arguments or waited[r.token].arguments))
                for r in log
                if isinstance(r, CallAnswered) and r.answer == "approve"
            ]
            for payment in [p for p in self.paid if p[0] == session]:
                fits = [a for a in allowed if (*a[:2], a[2]["amount"]) == payment]
                self.must(fits != [], f"nobody allowed {payment}")
                if fits:
                    allowed.remove(fits[0])
        siblings = self.looked.count("x")
        expected = int(self.shape == "batch")
        self.must(siblings == expected, f"the sibling ran {siblings} times")
