"""Any sequence of answers and changes, against what a small model of an approval allows."""

from __future__ import annotations

from typing import Any

import anyio
import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from power_loop import AgentLoop, Answer, ApprovalRequest, Hooks, MemoryStore, approve, deny, tool
from power_loop.errors import AnswerRefused, NothingToResume
from power_loop.hooks import TOOL_BEFORE, Suspend, ToolBefore
from tests.agent.scripted import Scripted, calls, says
from tests.agent.support import check_log

ANSWERS = ("approve", "edit", "deny", "resume", "made up")
CHANGES = ("world", "rule", "hook", "guard")
STEPS = st.one_of(
    st.tuples(st.sampled_from(ANSWERS), st.integers(0, 2)),
    st.tuples(st.just("replay"), st.integers(0, 5)),
    st.tuples(st.sampled_from(CHANGES), st.integers(0, 1)),
)


class Bound(msgspec.Struct, frozen=True):
    """What a question is about."""

    amount: int
    world: int
    rule: int


class Model:
    """What must be: the question that is open, what has been paid, and whether it is over."""

    def __init__(self) -> None:
        self.world = self.rule = self.rewritten = 0
        self.guarded = True
        self.amount = 1
        self.open: Bound | None = Bound(1, 0, 0)
        self.paid: list[int] = []

    def runs(self) -> int:
        """The amount that the program would pay now."""
        return self.amount + 100 * self.rewritten

    def answered(self, word: str, edited: int) -> None:
        """Takes an answer to the open question."""
        asked = self.open
        assert asked is not None
        if word == "deny":
            self.open = None
            return
        allowed = asked.amount
        if word == "edit":
            self.amount = allowed = edited
        if self.guarded and (asked.world, asked.rule) != (self.world, self.rule):
            # The rule comes first: it has not seen yet what is made of the call after it.
            self.open = Bound(self.amount, self.world, self.rule)
        elif self.runs() != allowed:
            self.open = Bound(self.runs(), asked.world, asked.rule)
        else:
            self.paid.append(allowed)
            self.open = None


class Real:
    """The loop itself, started anew for every answer."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.store = MemoryStore()
        self.paid: list[int] = []
        self.tokens: list[str] = []

    def loop(self) -> AgentLoop[Any]:
        model = self.model

        @tool
        async def pay(amount: int) -> str:
            """Pays."""
            self.paid.append(amount)
            return "paid"

        def guard(_: ToolBefore) -> Suspend:
            return Suspend("it costs", str(model.rule), str(model.world))

        def rewrite(context: ToolBefore) -> ToolBefore:
            amount = msgspec.json.decode(context.arguments)["amount"] + 100
            return msgspec.structs.replace(context, arguments=f'{{"amount": {amount}}}')

        hooks = Hooks()
        if model.guarded:
            hooks.on(TOOL_BEFORE, guard, name="guard")
        if model.rewritten:
            hooks.on(TOOL_BEFORE, rewrite, name="rewrite")
        llm = Scripted(
            by=lambda request: (
                says("done")
                if request.messages[-1].role == "tool"
                else calls(("a", "pay", {"amount": 1}))
            )
        )
        return AgentLoop[Any](llm, tools=[pay], hooks=hooks, store=self.store)

    async def begin(self) -> None:
        await self.store.create("s")
        async with self.loop() as loop:
            await loop.send("go", "s")

    async def say(self, *answers: Answer) -> bool:
        """Whether it was taken."""
        async with self.loop() as loop:
            try:
                await loop.resume("s", answers=answers)
            except (AnswerRefused, NothingToResume):
                return False
            return True

    async def look(self) -> Bound | None:
        """The question that is open; a new one has a new token."""
        async with self.loop() as loop:
            pending = await loop.get_pending("s")
        if not pending:
            return None
        (call,) = pending
        request = call.request
        assert isinstance(request, ApprovalRequest)
        if call.token not in self.tokens:
            self.tokens.append(call.token)
        assert call.token == self.tokens[-1]
        amount = msgspec.json.decode(request.arguments)["amount"]
        return Bound(amount, int(request.world), int(request.version))


async def _walk(steps: list[tuple[str, int]]) -> tuple[list[int], list[int]]:
    """What was paid, and what was to be paid."""
    model = Model()
    real = Real(model)
    await real.begin()
    assert await real.look() == model.open
    for word, number in steps:
        asked = len(real.tokens)
        await _step(model, real, word, number)
        over = model.open is None
        assert await real.look() == model.open
        assert len(real.tokens) <= asked + (not over)
        assert real.paid == model.paid
    async with real.loop() as loop:
        await check_log(loop, "s", does_the_same=False)
    return real.paid, model.paid


async def _step(model: Model, real: Real, word: str, number: int) -> None:
    token = real.tokens[-1]
    match word:
        case "world":
            model.world = number
        case "rule":
            model.rule = number
        case "hook":
            model.rewritten = number
        case "guard":
            model.guarded = bool(number)
        case "made up":
            assert not await real.say(approve(f"made up {number}"))
        case "replay":
            old = real.tokens[number % len(real.tokens)]
            if model.open is None or old != token:
                assert not await real.say(approve(old))
        case "resume":
            assert await real.say() == (model.open is not None)
        case _:
            edit = approve(token, {"amount": number})
            given = {"approve": approve(token), "deny": deny(token), "edit": edit}[word]
            taken = await real.say(given)
            assert taken == (model.open is not None)
            if taken:
                model.answered(word, number)


@settings(max_examples=300, deadline=None)
@given(st.lists(STEPS, max_size=12))
def test_a_call_runs_at_most_once_and_only_as_the_last_question_was_allowed(
    steps: list[tuple[str, int]],
) -> None:
    """Whatever changes in between, and whatever else is answered, replayed or made up."""
    paid, due = anyio.run(_walk, steps)
    assert paid == due
    assert len(paid) <= 1
