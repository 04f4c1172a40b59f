"""Policies: what each decision comes to, in a real loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from power_loop import AgentLoop, ApprovalRequest, Extension, Hooks, MemoryStore, approve, tool
from power_loop.errors import HookError, UsageError
from power_loop.events import HookFailed
from power_loop.governance import Pause, Policies, Policy, Refuse, Stop, Warn
from power_loop.governance.policies import ActionDecision, RoundDecision
from power_loop.hooks import TOOL_BEFORE, RoundStart, ToolBefore
from power_loop.session.outcome import NoProgress, Stopped
from power_loop.session.records import Decided
from tests.agent.scripted import Scripted, calls, says
from tests.agent.support import check_log, log_of

pytestmark = pytest.mark.anyio


class Rounds(Policy):
    """Decides on each round by its number."""

    def __init__(self, name: str, **decisions: RoundDecision | ActionDecision) -> None:
        self.name = name
        self.decisions = decisions
        self.seen: list[int] = []

    async def before_round(self, context: RoundStart[Any]) -> Any:
        self.seen.append(context.round)
        return self.decisions.get(f"r{context.round}")


class Actions(Policy):
    """Decides on each call as it is told."""

    version = "7"

    def __init__(
        self, name: str, decide: Callable[[ToolBefore[Any]], ActionDecision | None]
    ) -> None:
        self.name = name
        self.decide = decide
        self.seen: list[str] = []

    def before_action(self, context: ToolBefore[Any]) -> ActionDecision | None:
        self.seen.append(context.name)
        return self.decide(context)


def working() -> tuple[Any, list[str]]:
    ran: list[str] = []

    @tool
    async def work(n: int = 0) -> str:
        """Works."""
        ran.append(f"work {n}")
        return "done"

    return work, ran


async def _sent(llm: Scripted, *extensions: Extension, tools: Any = ()) -> tuple[Any, Any]:
    loop = AgentLoop(llm, tools=tools, extensions=extensions)
    with anyio.fail_after(10):
        async with loop:
            return await loop.send("go"), loop


async def test_a_policy_may_end_a_run_before_a_round() -> None:
    """As `stopped`, or by an outcome of its own; the model is not asked for that round."""
    work, _ = working()
    llm = Scripted(calls(("a", "work", {})))
    result, loop = await _sent(llm, Policies(Rounds("calm", r1=Stop("enough"))), tools=[work])
    assert result.outcome == Stopped("enough")
    assert result.resumable
    assert len(llm.requests) == 1
    decided = [each for each in await log_of(loop, result.session_id) if isinstance(each, Decided)]
    assert [(each.by, each.what, each.reason) for each in decided] == [
        ("policy:calm:round", "break", "enough")
    ]
    ending = NoProgress("nothing comes of it")
    result, _ = await _sent(Scripted(), Policies(Rounds("calm", r0=Stop("no", ending))))
    assert result.outcome == ending


async def test_a_run_paused_at_a_round_can_be_resumed() -> None:
    """It ends `stopped`, and goes on when somebody resumes it."""
    policy = Rounds("calm", r0=Pause("lunch"))
    loop = AgentLoop(Scripted(says("ok")), extensions=[Policies(policy)])
    with anyio.fail_after(10):
        async with loop:
            paused = await loop.send("go")
            policy.decisions = {}
            resumed = await loop.resume(paused.session_id)
            await check_log(loop, paused.session_id, does_the_same=False)
    assert paused.outcome == Stopped("paused by the policy 'calm': lunch")
    assert resumed.status == "completed"


async def test_a_warning_at_a_round_is_a_durable_message() -> None:
    """It is in the transcript under the policy's name, and policies behind it are still asked."""
    first, second = Rounds("first", r0=Warn("Mind the gap.")), Rounds("second", r0=Warn("And me."))
    llm = Scripted(says("ok"))
    result, loop = await _sent(llm, Policies(first, second))
    assert result.status == "completed"
    said = llm.requests[0].messages
    assert [(m.text, m.meta) for m in said[1:]] == [
        ("Mind the gap.", {"policy": "first"}),
        ("And me.", {"policy": "second"}),
    ]
    async with loop:
        await check_log(loop, result.session_id)


async def test_a_round_cannot_be_refused() -> None:
    """There is no call whose result the message could be: the policy is wrong, and is told so."""
    with pytest.raises(HookError, match=r"'policy:odd:round' of round.start returned .* Refuse"):
        await _sent(Scripted(says("ok")), Policies(Rounds("odd", r0=Refuse("no"))))


async def test_a_refused_call_is_not_run_and_the_model_is_told() -> None:
    """The others of its batch run."""
    work, ran = working()
    policy = Actions("even", lambda c: Refuse("odd ones only") if '"n":2' in c.arguments else None)
    llm = Scripted(calls(("a", "work", {"n": 1}), ("b", "work", {"n": 2})), says("ok"))
    result, _ = await _sent(llm, Policies(policy), tools=[work])
    assert result.status == "completed"
    assert ran == ["work 1"]
    assert [m.parts[0].text for m in llm.requests[1].messages[2:]] == ["done", "odd ones only"]  # pyright: ignore[reportAttributeAccessIssue,reportUnknownMemberType]


async def test_a_policy_may_end_a_run_at_a_call() -> None:
    """Nothing of the batch runs."""
    work, ran = working()
    policy = Actions("never", lambda _: Stop("not here"))
    llm = Scripted(calls(("a", "work", {"n": 1}), ("b", "work", {"n": 2})))
    result, _ = await _sent(llm, Policies(policy), tools=[work])
    assert result.outcome == Stopped("not here")
    assert ran == []


async def test_a_paused_call_waits_for_an_approval_under_the_policys_version() -> None:
    """Approved, it runs; the policy judges it once more, and passes only what it had shown."""
    work, ran = working()
    policy = Actions("ask", lambda _: Pause("may I?"))
    llm = Scripted(calls(("a", "work", {"n": 1})), says("ok"))
    store = MemoryStore()
    loop = AgentLoop(llm, tools=[work], extensions=[Policies(policy)], store=store)
    with anyio.fail_after(10):
        async with loop:
            result = await loop.send("go")
            assert result.status == "awaiting_approval"
            (pending,) = await loop.get_pending(result.session_id)
            assert isinstance(pending.request, ApprovalRequest)
            assert (pending.request.reason, pending.request.version) == ("may I?", "7")
            assert pending.request.by == "policy:ask"
            done = await loop.resume(result.session_id, answers=[approve(pending.token)])
            assert policy.seen == ["work", "work"]
            await check_log(loop, result.session_id)
    assert done.status == "completed"
    assert ran == ["work 1"]


async def test_a_warning_at_a_call_lets_it_run_and_is_said_at_the_next_round() -> None:
    """Once, and only if there is a next round in the same run."""
    work, ran = working()
    policy = Actions("note", lambda c: Warn(f"That was {c.call.id}."))
    llm = Scripted(calls(("a", "work", {}), ("b", "work", {})), says("ok"))
    result, loop = await _sent(llm, Policies(policy), tools=[work])
    assert result.status == "completed"
    assert len(ran) == 2
    told = [m.text for m in llm.requests[1].messages if m.meta]
    assert told == ["That was a.", "That was b."]
    async with loop:
        await check_log(loop, result.session_id)


async def test_the_first_that_decides_wins_and_the_others_are_not_asked() -> None:
    """In the order in which they were given."""
    work, ran = working()
    first = Actions("first", lambda _: None)
    second = Actions("second", lambda _: Refuse("second says no"))
    third = Actions("third", lambda _: Stop("third"))
    llm = Scripted(calls(("a", "work", {})), says("ok"))
    result, loop = await _sent(llm, Policies(first, second, third), tools=[work])
    assert result.status == "completed"
    assert (first.seen, second.seen, third.seen) == (["work"], ["work"], [])
    decided = [each for each in await log_of(loop, result.session_id) if isinstance(each, Decided)]
    assert [(each.by, each.call_id) for each in decided] == [("policy:second", "a")]
    assert ran == []


class Raises(Policy):
    """Raises wherever it is asked."""

    name = "broken"

    def before_action(self, context: ToolBefore[Any]) -> None:
        raise ValueError("broken")


class RaisesAtRounds(Policy):
    """Raises before each round."""

    name = "broken"

    def before_round(self, context: RoundStart[Any]) -> None:
        raise ValueError("broken")


class Hangs(Policy):
    """Never answers."""

    name = "slow"
    timeout = 0.01

    async def before_action(self, context: ToolBefore[Any]) -> None:
        await anyio.sleep_forever()


class HangsAtRounds(Policy):
    """Never answers."""

    name = "slow"
    timeout = 0.01

    async def before_round(self, context: RoundStart[Any]) -> None:
        await anyio.sleep_forever()


@pytest.mark.parametrize(
    ("policy", "why"), [(Raises(), "broken failed: ValueError"), (Hangs(), "slow failed: Timeout")]
)
async def test_a_policy_that_fails_forbids_its_call(policy: Policy, why: str) -> None:
    """And not the run."""
    work, ran = working()
    llm = Scripted(calls(("a", "work", {})), says("ok"))
    result, _ = await _sent(llm, Policies(policy), tools=[work])
    assert result.status == "completed"
    assert ran == []
    assert f"policy:{why}" in str(llm.requests[1].messages[-1])


@pytest.mark.parametrize("policy", [RaisesAtRounds(), HangsAtRounds()])
async def test_a_policy_that_fails_at_a_round_stops_the_run_by_name(policy: Policy) -> None:
    """It is resumable, for when the policy has been mended."""
    result, _ = await _sent(Scripted(), Policies(policy))
    assert isinstance(result.outcome, Stopped)
    assert f"policy:{policy.name}:round failed" in result.outcome.reason
    assert result.resumable


class TellsTooMuch(Policy):
    """Raises with something in its message that is in no log's interest."""

    name = "leaky"

    def before_action(self, context: ToolBefore[Any]) -> None:
        raise KeyError("secret")


async def test_a_log_has_the_name_of_a_policy_that_failed_and_the_type_and_not_the_message() -> (
    None
):
    """So has the explanation; the message is in the event, which nobody stores."""
    work, _ = working()
    llm = Scripted(calls(("a", "work", {})), says("ok"))
    loop = AgentLoop(llm, tools=[work], extensions=[Policies(TellsTooMuch())])
    with anyio.fail_after(10):
        async with loop:
            async with loop.stream("go") as stream:
                seen = [stamped.event async for stamped in stream]
                result = await stream.result()
            explained = await loop.explain(result.session_id)
    assert [e.message for e in seen if isinstance(e, HookFailed)] == ["'secret'"]
    assert "policy:leaky failed: KeyError" in str(explained)
    assert "secret" not in str(explained)
    assert "secret" not in str(await log_of(loop, result.session_id))


async def test_policies_stand_where_their_order_says_among_other_handlers() -> None:
    """Before those of a higher order."""
    work, _ = working()
    policy = Actions("first", lambda _: Refuse("no"))
    hooks, seen = Hooks(), list[str]()
    hooks.on(TOOL_BEFORE, lambda c: seen.append(c.name), name="later", order=5)
    llm = Scripted(calls(("a", "work", {})), says("ok"))
    loop = AgentLoop(llm, tools=[work], hooks=hooks, extensions=[Policies(policy, order=1)])
    with anyio.fail_after(10):
        async with loop:
            await loop.send("go")
    assert policy.seen == ["work"]
    assert seen == []


def test_policies_that_cannot_be_told_apart_are_refused() -> None:
    """So are those without a name, and those that judge nothing."""
    with pytest.raises(UsageError, match="two policies are named 'x'"):
        Policies(Rounds("x"), Rounds("x"))
    with pytest.raises(UsageError, match="has no name"):
        Policies(Rounds(""))
    silent = Policy()
    silent.name = "silent"
    with pytest.raises(UsageError, match="judges nothing"):
        Policies(silent)
