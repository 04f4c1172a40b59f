"""Fallbacks in a loop: the session stays legal, and what was void can be told by its attempt."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from llm_client.errors import (
    ContextOverflow,
    LLMError,
    Overloaded,
    QuotaExhausted,
    UnsupportedFeature,
)
from llm_client.retry import FallbackPolicy, RetryPolicy
from llm_client.testing import Reply, ScriptedLLM, call, reply
from llm_client.types import LLMRequest, Text
from llm_client.wrappers.circuit_breaker import CircuitBreaker
from llm_client.wrappers.fallback import Fallback
from llm_client.wrappers.rate_limiter import RateLimiter
from llm_client.wrappers.throttled import Throttled
from power_loop import AgentConfig, AgentLoop, tool
from power_loop.events import FallbackTaken, Stamped, TextDelta
from power_loop.session.outcome import Degraded
from power_loop.session.records import ModelAsked, ModelEnded, ToolStarted
from tests.agent.support import EVERY_STORE, StoreKind, check_log, events_of, opened_store
from tests.session.checker import transcript_violations

pytestmark = pytest.mark.anyio

ONCE = RetryPolicy(max_attempts=1)
WITH_SMALL = AgentConfig(retry=ONCE, fallback=FallbackPolicy(models=("small",)))


class ByModel(ScriptedLLM):
    """A service whose models say different things; the requests are checked for legality."""

    def __init__(self, **scripts: list[Reply | str | LLMError]) -> None:
        self._scripts = scripts
        self.illegal: list[str] = []
        super().__init__(self._say, model="big", repeat=True)

    def _say(self, request: LLMRequest) -> Reply | str | LLMError:
        self.illegal += transcript_violations(request.messages, stored=True)
        return self._scripts[request.model or "big"].pop(0)


def cut(text: str, error: LLMError) -> Reply:
    """An answer that breaks in the middle."""
    return Reply(parts=(Text(text),), break_after=2, error=error)


@pytest.mark.parametrize("kind", EVERY_STORE)
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_fallback_in_the_middle_of_a_session_keeps_it_legal(
    kind: StoreKind, streamed: bool, tmp_path: Path
) -> None:
    """The tools of one model's answer are run once, and another model reads their results."""
    paid: list[int] = []

    @tool
    async def pay(amount: int) -> str:
        """Pays."""
        paid.append(amount)
        return "paid"

    asks = call("pay", {"amount": 5}, id="c1")
    llm = ByModel(
        big=[
            Reply(parts=(asks,), break_after=3, error=Overloaded("busy")),
            QuotaExhausted("no money"),
            "back again",
        ],
        small=[reply("I will.", asks), "Paid."],
    )
    with anyio.fail_after(20):
        async with opened_store(kind, tmp_path) as store:
            loop = AgentLoop[None](llm, tools=[pay], store=store, config=WITH_SMALL)
            async with loop:
                await store.create("s")
                if streamed:
                    async with loop.stream("pay", "s") as run:
                        result = await run.result()
                else:
                    result = await loop.send("pay", "s")
                assert (result.status, result.final_text) == ("completed", "Paid.")
                assert (await loop.send("and now?", "s")).final_text == "back again"
                log = await check_log(loop, "s")
    assert paid == [5]
    assert llm.illegal == []
    assert sum(isinstance(record, ToolStarted) for record in log) == 1
    models = [record.model for record in log if isinstance(record, ModelAsked)]
    assert models == ["big", "small", "big", "small", "big"]


async def test_what_is_void_can_be_told_by_its_attempt_x12() -> None:
    """A reader who drops the deltas of attempts that did not end well has exactly the answer; he is
    told which model is asked next (X12).
    """
    llm = ByModel(
        big=[cut("It is 41, I think", Overloaded("busy"))],
        small=["It is 42."],
    )
    async with AgentLoop[None](llm, config=WITH_SMALL) as loop:
        async with loop.stream("what is it?") as run:
            seen: list[Stamped] = [event async for event in run]
            result = await run.result()
        ended = {event.attempt: event.status for event in events_of(ModelEnded, seen)}
        deltas = events_of(TextDelta, seen)
        shown: dict[str, str] = {}
        for delta in deltas:
            shown.setdefault(ended[delta.attempt], "")
            shown[ended[delta.attempt]] += delta.text
        assert shown == {"failed": "It is 41", "ok": "It is 42."}
        assert result.final_text == "It is 42."
        assert events_of(FallbackTaken, seen) == [
            FallbackTaken("big", "small", "Overloaded", "busy")
        ]


async def test_a_session_goes_on_over_services_around_services() -> None:
    """The loop owns the attempts; the rate, the breaker and other vendors are the service's."""

    @tool
    async def look() -> str:
        """Looks."""
        return "seen"

    first = ScriptedLLM(reply("", call("look", id="c1")), Overloaded("busy"), model="a")
    other = ScriptedLLM("done", model="b")
    limiter = RateLimiter(requests_per_minute=600)
    llm = Fallback(Throttled(CircuitBreaker(first, failures=1), limiter), Throttled(other, limiter))
    with anyio.fail_after(20):
        async with AgentLoop[None](llm, tools=[look], config=AgentConfig(retry=ONCE)) as loop:
            result = await loop.send("look")
            assert result.final_text == "done"
            log = await check_log(loop, result.session_id)
    ended = [record.model for record in log if isinstance(record, ModelEnded)]
    assert ended == ["a", "b"]


@pytest.mark.parametrize("third", [False, True])
async def test_a_model_that_cannot_stand_in_is_passed_over(third: bool) -> None:
    """It is not sent what it cannot do; the run ends by what had happened before, or the next model
    answers."""
    llm = ByModel(
        big=[Overloaded("busy")], small=[UnsupportedFeature("compacts no prompts")], other=["Done."]
    )
    models = ("small", "other") if third else ("small",)
    config = AgentConfig(retry=ONCE, fallback=FallbackPolicy(models=models))
    seen: list[Stamped] = []
    async with AgentLoop[None](llm, config=config) as loop:
        loop.events.subscribe(seen.append)
        result = await loop.send("what is it?")
        log = await check_log(loop, result.session_id)
    ended = [record.status for record in log if isinstance(record, ModelEnded)]
    taken = [(each.failed, each.model, each.error_type) for each in events_of(FallbackTaken, seen)]
    first = ("big", "small", "Overloaded")
    if third:
        assert (result.status, result.final_text) == ("completed", "Done.")
        assert ended == ["failed", "failed", "ok"]
        assert taken == [first, ("small", "other", "UnsupportedFeature")]
    else:
        assert result.status == "degraded"
        assert isinstance(result.outcome, Degraded)
        assert result.outcome.reason == "Overloaded: busy"
        assert ended == ["failed", "failed"]
        assert taken == [first]


async def test_a_prompt_too_large_for_a_model_that_stands_in_is_not_why_the_run_ends() -> None:
    """Nothing of it can leave, and the run's own model could hold it."""
    llm = ByModel(big=[Overloaded("busy")], small=[ContextOverflow("too long", status=400)])
    async with AgentLoop[None](llm, config=WITH_SMALL) as loop:
        result = await loop.send("what is it?")
        await check_log(loop, result.session_id)
    assert isinstance(result.outcome, Degraded)
    assert (result.outcome.reason, result.outcome.attempts) == ("Overloaded: busy", 2)
