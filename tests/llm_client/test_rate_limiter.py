"""An allowance that many share: in order, never exceeded, and cancelled without loss."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_client.errors import ConnectFailed, ExceedsLimit, Overloaded, RateLimited
from llm_client.retry import RetryPolicy
from llm_client.stream import UsageReported
from llm_client.testing import Reply, ScriptedLLM, VirtualClock, reply
from llm_client.tokens import TokenEstimate
from llm_client.types import (
    LLMRequest,
    Message,
    Text,
    Usage,
)
from llm_client.wrappers.rate_limiter import RateLimiter
from llm_client.wrappers.throttled import Throttled

pytestmark = pytest.mark.anyio

HELLO = LLMRequest([Message.user("hello")])


def limiter_on(clock: VirtualClock, **settings: float | None) -> RateLimiter:
    """A limiter on a virtual clock."""
    return RateLimiter(clock=clock.now, sleep=clock.sleep, **settings)


class Counts:
    """A counter that always says the same."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.asked: list[LLMRequest] = []
        self.learnt: list[Usage] = []

    async def load(self) -> None:
        """Nothing to load."""

    def count_text(self, text: str) -> int:
        """The same."""
        return self.tokens

    def count_message(self, message: Message) -> int:
        """The same."""
        return self.tokens

    def count_request(self, request: LLMRequest) -> TokenEstimate:
        """The same."""
        self.asked.append(request)
        return TokenEstimate(self.tokens, exact=False)

    def learn(self, request: LLMRequest, usage: Usage) -> None:
        """Kept."""
        self.learnt.append(usage)


async def until_waiting(limiter: RateLimiter, count: int) -> None:
    """Lets others begin to wait; they do within a few turns, before a virtual clock jumps."""
    with anyio.fail_after(10):
        while limiter.waiting < count:
            await anyio.lowlevel.checkpoint()


# ── the allowance ─────────────────────────────────────────────────────────────────────────────────


async def test_a_minutes_worth_goes_out_at_once_and_the_rest_evenly() -> None:
    """Sixty a minute are one a second, after the first sixty."""
    clock = VirtualClock()
    limiter = limiter_on(clock, requests_per_minute=60)
    times: list[float] = []
    for _ in range(63):
        await limiter.reserve()
        times.append(clock.now())
    assert times[:60] == [0.0] * 60
    assert times[60:] == pytest.approx([1.0, 2.0, 3.0])


async def test_both_limits_hold_and_the_tighter_one_decides() -> None:
    """Tokens or requests, whichever are missing."""
    clock = VirtualClock()
    limiter = limiter_on(clock, requests_per_minute=2, tokens_per_minute=600)
    await limiter.reserve(500)
    await limiter.reserve(200)
    assert clock.now() == pytest.approx(10.0)
    await limiter.reserve(10)
    assert clock.now() == pytest.approx(30.0)


async def test_whoever_came_first_goes_first_however_much_he_wants() -> None:
    """Small requests do not slip past a large one for ever."""
    clock = VirtualClock()
    limiter = limiter_on(clock, tokens_per_minute=600, max_wait=None)
    await limiter.reserve(600)
    order: list[int] = []

    async def one(tokens: int) -> None:
        await limiter.reserve(tokens)
        order.append(tokens)

    async with anyio.create_task_group() as group:
        for waiting, tokens in enumerate((600, 1, 300, 2), 1):
            group.start_soon(one, tokens)
            await until_waiting(limiter, waiting)
    assert order == [600, 1, 300, 2]
    assert clock.now() == pytest.approx(90.3)


async def test_what_was_not_used_is_given_back_and_wakes_whoever_waits() -> None:
    """At once, not when his own time has come."""
    clock = VirtualClock()
    limiter = limiter_on(clock, tokens_per_minute=600)
    first = await limiter.reserve(600)
    async with anyio.create_task_group() as group:
        group.start_soon(limiter.reserve, 300)
        await until_waiting(limiter, 1)
        clock.advance(1.0)
        first.settle(200)
        first.settle(0)
        first.give_back()
        await anyio.wait_all_tasks_blocked()
    assert (clock.now(), limiter.waiting) == (1.0, 0)
    await limiter.reserve(111)
    assert clock.now() == pytest.approx(1.1)


async def test_what_was_used_beyond_the_reservation_is_owed() -> None:
    """The next one waits until the debt is filled up."""
    clock = VirtualClock()
    limiter = limiter_on(clock, tokens_per_minute=600)
    (await limiter.reserve(100)).settle(900)
    await limiter.reserve(100)
    assert clock.now() == pytest.approx(40.0)


# ── waits that are too long ───────────────────────────────────────────────────────────────────────


async def test_what_can_never_go_out_is_refused_by_its_own_type() -> None:
    """Waiting would not help, so nobody waits."""
    clock = VirtualClock()
    limiter = limiter_on(clock, tokens_per_minute=600)
    with pytest.raises(ExceedsLimit, match="601 tokens") as raised:
        await limiter.reserve(601)
    assert not raised.value.retryable
    assert not raised.value.sent
    await limiter.reserve(600)


async def test_a_wait_that_would_be_too_long_is_refused_at_once() -> None:
    """With the time it would take; those in front count."""
    clock = VirtualClock()
    limiter = limiter_on(clock, tokens_per_minute=600, max_wait=40.0)
    await limiter.reserve(600)
    async with anyio.create_task_group() as group:
        group.start_soon(limiter.reserve, 300)
        await until_waiting(limiter, 1)
        with pytest.raises(RateLimited) as raised:
            await limiter.reserve(200)
        assert raised.value.retry_after == pytest.approx(50.0)
        assert (raised.value.sent, raised.value.retryable) == (False, True)
        assert clock.now() == 0.0
    assert clock.now() == pytest.approx(30.0)


async def test_a_wait_that_becomes_too_long_ends_when_it_has() -> None:
    """A debt of another request may come in between."""
    clock = VirtualClock()
    limiter = limiter_on(clock, tokens_per_minute=600, max_wait=40.0)
    first = await limiter.reserve(600)
    failed: list[RateLimited] = []

    async def one() -> None:
        try:
            await limiter.reserve(300)
        except RateLimited as error:
            failed.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(one)
        await until_waiting(limiter, 1)
        first.settle(1200)
    assert clock.now() == pytest.approx(40.0)
    assert failed[0].retry_after == pytest.approx(50.0)
    assert limiter.waiting == 0
    await limiter.reserve(1)


# ── cancellation ──────────────────────────────────────────────────────────────────────────────────


async def test_a_cancelled_wait_costs_nobody_his_place_or_tokens() -> None:
    """The one behind moves up at once."""
    clock = VirtualClock()
    limiter = limiter_on(clock, tokens_per_minute=600)
    await limiter.reserve(600)
    scope = anyio.CancelScope()
    done: list[float] = []

    async def impatient() -> None:
        with scope:
            await limiter.reserve(500)
        assert clock.now() == 0.0

    async def patient() -> None:
        await limiter.reserve(100)
        done.append(clock.now())

    async with anyio.create_task_group() as group:
        group.start_soon(impatient)
        await until_waiting(limiter, 1)
        group.start_soon(patient)
        await until_waiting(limiter, 2)
        scope.cancel()
    assert scope.cancelled_caught
    assert done == [pytest.approx(10.0)]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("cancel_first", [False, True])
@pytest.mark.parametrize("enough", [False, True])
async def test_a_native_cancellation_that_meets_a_wake_up_is_not_lost(
    enough: bool, cancel_first: bool
) -> None:
    """In the very turn in which his tokens come, too: they are for the next one."""
    limiter = RateLimiter(tokens_per_minute=600)
    first = await limiter.reserve(600)
    waiting = asyncio.ensure_future(limiter.reserve(500))
    await until_waiting(limiter, 1)
    acts = [lambda: first.settle(0 if enough else 599), waiting.cancel]
    for act in reversed(acts) if cancel_first else acts:
        act()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert limiter.waiting == 0
    if enough:
        with anyio.fail_after(5):
            await limiter.reserve(600)


async def test_nobody_waits_for_hours_by_default_x14() -> None:
    """A minute at most, and for a provider's retries in all as well (X14)."""
    clock = VirtualClock()
    limiter = limiter_on(clock, requests_per_minute=1)
    await limiter.reserve()
    await limiter.reserve()
    assert clock.now() == pytest.approx(60.0)
    async with anyio.create_task_group() as group:
        group.start_soon(limiter.reserve)
        await until_waiting(limiter, 1)
        with pytest.raises(RateLimited):
            await limiter.reserve()
    assert RetryPolicy().total == 60.0


@settings(deadline=None, max_examples=60)
@given(
    requests=st.lists(
        st.tuples(
            st.floats(0, 30),
            st.integers(0, 600),
            st.integers(0, 900),
            st.none() | st.floats(0, 20),
        ),
        min_size=1,
        max_size=25,
    ),
    backend=st.sampled_from(["asyncio", "trio"]),
)
def test_what_goes_out_never_exceeds_the_allowance(
    requests: list[tuple[float, int, int, float | None]], backend: str
) -> None:
    """Over any stretch of time: a minute's worth and what was filled in since; in order; whatever
    is cancelled in between."""
    out, arrived = anyio.run(_flood, requests, backend=backend)
    went = [number for _, number, _ in out]
    assert went == sorted(went, key=arrived.index)
    for first in range(len(out)):
        for last in range(first, len(out)):
            seconds = out[last][0] - out[first][0]
            some = out[first : last + 1]
            assert len(some) <= 30 + seconds * 0.5 + 1e-6
            assert sum(tokens for _, _, tokens in some) <= 600 + seconds * 10 + 1e-3


async def _flood(
    requests: list[tuple[float, int, int, float | None]],
) -> tuple[list[tuple[float, int, int]], list[int]]:
    """When which request went out, of how many tokens; and in which order they had come."""
    clock = VirtualClock()
    limiter = limiter_on(clock, requests_per_minute=30, tokens_per_minute=600, max_wait=None)
    arrived: list[int] = []
    out: list[tuple[float, int, int]] = []

    async def one(number: int, at: float, tokens: int, patience: float | None) -> None:
        await clock.sleep(at)
        arrived.append(number)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                if patience is not None:
                    group.start_soon(_cancel_after, clock, patience, scope)
                await limiter.reserve(tokens)
                out.append((clock.now(), number, tokens))
                group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for number, (at, tokens, _, patience) in enumerate(requests):
            group.start_soon(one, number, at, tokens, patience)
    assert limiter.waiting == 0
    return out, arrived


async def _cancel_after(clock: VirtualClock, seconds: float, scope: anyio.CancelScope) -> None:
    await clock.sleep(seconds)
    scope.cancel()


# ── the service ───────────────────────────────────────────────────────────────────────────────────


async def ask(service: Throttled, request: LLMRequest, *, streamed: bool) -> None:
    """A request, read to its end."""
    if not streamed:
        await service.complete(request)
        return
    async with service.stream(request) as events:
        async for _ in events:
            pass


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_request_reserves_its_estimate_and_settles_to_what_it_used(streamed: bool) -> None:
    """Input by the estimate, output by the request's bound, then what the provider reports."""
    clock = VirtualClock()
    limiter = limiter_on(clock, tokens_per_minute=600)
    llm = ScriptedLLM(reply("a", usage=Usage(100, 100)), repeat=True)
    service = Throttled(llm, limiter, Counts(400))
    request = LLMRequest(HELLO.messages, max_output_tokens=200)
    await ask(service, request, streamed=streamed)
    await limiter.reserve(400)
    assert clock.now() == 0.0
    await ask(service, request, streamed=streamed)
    assert clock.now() == pytest.approx(60.0)


async def test_one_allowance_is_shared_by_several_services() -> None:
    """They may be of one account."""
    clock = VirtualClock()
    limiter = limiter_on(clock, requests_per_minute=1)
    first = Throttled(ScriptedLLM("a"), limiter)
    second = Throttled(ScriptedLLM("b"), limiter)
    await first.complete(HELLO)
    await second.complete(HELLO)
    assert clock.now() == pytest.approx(60.0)


async def test_an_answer_without_bound_reserves_what_is_expected() -> None:
    """And a limiter that counts no tokens needs no estimate."""
    clock = VirtualClock()
    limiter = limiter_on(clock, tokens_per_minute=100)
    service = Throttled(ScriptedLLM("a"), limiter, Counts(10), expected_output=91)
    with pytest.raises(ExceedsLimit, match="101 tokens"):
        await service.complete(HELLO)

    counter = Counts(10)
    uncounted = Throttled(ScriptedLLM("a"), limiter_on(clock, requests_per_minute=1), counter)
    assert (await uncounted.complete(HELLO)).text == "a"
    assert counter.asked == []


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_was_never_sent_is_given_back_and_what_failed_later_is_not(
    streamed: bool,
) -> None:
    """The provider may have counted it."""
    clock = VirtualClock()
    limiter = limiter_on(clock, requests_per_minute=2, tokens_per_minute=1200)
    llm = ScriptedLLM(ConnectFailed("down", sent=False), Overloaded("busy"), "fine")
    service = Throttled(llm, limiter, Counts(600), expected_output=0)
    for kind in (ConnectFailed, Overloaded):
        with pytest.raises(kind):
            await ask(service, HELLO, streamed=streamed)
    await ask(service, HELLO, streamed=streamed)
    assert clock.now() == 0.0
    await limiter.reserve()
    assert clock.now() == pytest.approx(30.0)


async def test_a_stream_that_is_left_early_keeps_its_reservation() -> None:
    """Nobody knows what it would have used; the provider may go on writing."""
    clock = VirtualClock()
    limiter = limiter_on(clock, tokens_per_minute=600)
    llm = ScriptedLLM(Reply(parts=(Text("Hello there"),), usage=Usage(1, 1)))
    service = Throttled(llm, limiter, Counts(600), expected_output=0)
    async with service.stream(HELLO) as events:
        async for event in events:
            if isinstance(event, UsageReported):
                break
    await limiter.reserve(600)
    assert clock.now() == pytest.approx(60.0)


async def test_the_counter_learns_from_what_is_reported() -> None:
    """So that the next reservation is nearer."""
    counter = Counts(10)
    limiter = limiter_on(VirtualClock(), tokens_per_minute=6_000)
    service = Throttled(ScriptedLLM(reply("a", usage=Usage(12, 3))), limiter, counter)
    await service.complete(HELLO)
    assert counter.learnt == [Usage(12, 3)]


async def test_without_a_counter_the_tokens_of_the_model_are_counted() -> None:
    """What is written is what is reserved, to a few tokens around it."""
    limiter = limiter_on(VirtualClock(), tokens_per_minute=100)
    service = Throttled(ScriptedLLM("a", repeat=True, model="gpt-4o"), limiter)
    short = LLMRequest(HELLO.messages, max_output_tokens=50)
    assert (await service.complete(short)).text == "a"
    long = LLMRequest([Message.user("word " * 60)], max_output_tokens=50)
    with pytest.raises(ExceedsLimit):
        await service.complete(long)


@pytest.mark.parametrize(
    "wrong",
    [
        {"requests_per_minute": 0},
        {"requests_per_minute": math.inf},
        {"tokens_per_minute": -1},
        {"tokens_per_minute": math.nan},
        {"max_wait": -1},
        {"max_wait": math.nan},
    ],
    ids=str,
)
def test_a_limit_that_cannot_be_is_refused_by_name(wrong: dict[str, Any]) -> None:
    """When it is made."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RateLimiter(**wrong)
