"""A provider that is unwell is left alone, and asked again by one request at a time."""

from __future__ import annotations

from contextlib import suppress

import anyio
import pytest

from llm_client.errors import (
    AuthenticationFailed,
    CallerError,
    ConnectionLost,
    IncompleteStream,
    LLMError,
    MalformedResponse,
    Overloaded,
    RateLimited,
    ServerError,
    Timeout,
)
from llm_client.retry import RetryPolicy
from llm_client.service import LLMService
from llm_client.stream import TextDelta
from llm_client.testing import Reply, ScriptedLLM, VirtualClock, reply
from llm_client.types import LLMRequest, Message, Text
from llm_client.wrappers.circuit_breaker import CircuitBreaker
from llm_client.wrappers.fallback import Fallback
from llm_client.wrappers.retrying import Retrying

pytestmark = pytest.mark.anyio

HELLO = LLMRequest([Message.user("hello")])
DOWN = ServerError("down")


async def ask(service: LLMService, *, streamed: bool = False) -> str:
    """The text of an answer."""
    if not streamed:
        return (await service.complete(HELLO)).text
    async with service.stream(HELLO) as events:
        return "".join([event.text async for event in events if isinstance(event, TextDelta)])


async def fails(service: LLMService, *, streamed: bool = False) -> LLMError:
    """The error that a request comes to."""
    with pytest.raises(LLMError) as raised:
        await ask(service, streamed=streamed)
    return raised.value


def was_refused(error: LLMError) -> bool:
    """Whether the breaker itself refused."""
    return isinstance(error, Overloaded) and not error.sent


UNWELL = (
    Overloaded("x"),
    ServerError("x"),
    ConnectionLost("x"),
    Timeout("x", phase="first_byte", seconds=1.0),
    MalformedResponse("x"),
    IncompleteStream("x"),
)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("error", UNWELL, ids=lambda error: type(error).__name__)
async def test_failures_in_a_row_open_it_and_nothing_is_sent(
    error: LLMError, streamed: bool
) -> None:
    """The refusal says how long to wait, so that retries and fallbacks understand it."""
    clock = VirtualClock()
    llm = ScriptedLLM(error, repeat=True)
    service = CircuitBreaker(llm, failures=3, cool_down=20.0, clock=clock.now)
    for _ in range(3):
        assert service.state == "closed"
        assert await fails(service, streamed=streamed) is error
    assert service.state == "open"
    clock.advance(5.0)
    refused = await fails(service, streamed=streamed)
    assert was_refused(refused)
    assert (refused.retry_after, refused.retryable) == (15.0, True)
    assert len(llm.requests) == 3


@pytest.mark.parametrize(
    "error",
    [
        CallerError("wrong"),
        RateLimited("own", sent=False),
        Overloaded("another breaker", sent=False),
        Timeout("x", phase="pool", seconds=1.0, sent=False),
    ],
    ids=["caller", "limiter", "breaker", "pool"],
)
async def test_what_says_nothing_of_the_provider_changes_nothing(error: LLMError) -> None:
    """It neither counts as a failure nor ends a row of them."""
    service = CircuitBreaker(ScriptedLLM(DOWN, error, error, DOWN), failures=2)
    for _ in range(3):
        await fails(service)
        assert service.state == "closed"
    await fails(service)
    assert service.state == "open"


@pytest.mark.parametrize("said", ["fine", RateLimited("x"), AuthenticationFailed("x")])
async def test_an_answer_of_whatever_kind_ends_a_row_of_failures(said: str | LLMError) -> None:
    """Who refuses properly is well."""
    service = CircuitBreaker(ScriptedLLM(DOWN, said, DOWN, "fine"), failures=2)
    for _ in range(3):
        with suppress(LLMError):
            await ask(service)
        assert service.state == "closed"
    assert await ask(service) == "fine"


async def test_a_stream_that_fails_in_the_middle_counts() -> None:
    """However it is told: an error, or just no end (S08)."""
    cut = Reply(parts=(Text("Hello there"),), break_after=2)
    overloaded = Reply(parts=(Text("Hello there"),), break_after=2, error=Overloaded("x"))
    service = CircuitBreaker(ScriptedLLM(cut, overloaded), failures=2)
    for _ in range(2):
        error = await fails(service, streamed=True)
        assert error.after_output
    assert service.state == "open"


# ── half open ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("streamed", [False, True])
async def test_after_the_cool_down_a_probe_that_is_answered_closes_it(streamed: bool) -> None:
    """From then on all is as before."""
    clock = VirtualClock()
    llm = ScriptedLLM(DOWN, "fine", DOWN, "fine")
    service = CircuitBreaker(llm, failures=1, cool_down=20.0, clock=clock.now)
    await fails(service)
    clock.advance(20.0)
    assert service.state == "half_open"
    assert await ask(service, streamed=streamed) == "fine"
    assert service.state == "closed"
    await fails(service)
    assert service.state == "open"


async def test_a_probe_that_fails_opens_it_anew() -> None:
    """One failure is enough then, and the cool-down begins again."""
    clock = VirtualClock()
    llm = ScriptedLLM(DOWN, DOWN, DOWN)
    service = CircuitBreaker(llm, failures=2, cool_down=20.0, clock=clock.now)
    await fails(service)
    await fails(service)
    clock.advance(25.0)
    assert await fails(service) is DOWN
    refused = await fails(service)
    assert was_refused(refused)
    assert refused.retry_after == 20.0


async def test_there_is_one_probe_at_a_time() -> None:
    """The others are refused, with no time to wait that anybody could know."""
    clock = VirtualClock()
    gate = anyio.Event()

    async def slow(request: LLMRequest) -> str:
        await gate.wait()
        return "fine"

    llm = ScriptedLLM(DOWN, slow, "fine")
    service = CircuitBreaker(llm, failures=1, cool_down=20.0, clock=clock.now)
    await fails(service)
    clock.advance(20.0)
    async with anyio.create_task_group() as group:
        group.start_soon(service.complete, HELLO)
        await anyio.wait_all_tasks_blocked()
        for _ in range(3):
            refused = await fails(service)
            assert was_refused(refused)
            assert refused.retry_after == 0.0
        gate.set()
    assert len(llm.requests) == 2
    assert await ask(service) == "fine"


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_probe_that_is_cancelled_or_left_makes_room_for_another(streamed: bool) -> None:
    """It has shown nothing."""
    clock = VirtualClock()
    llm = ScriptedLLM(DOWN, reply("slow", delay=1.0), "fine", sleep=_never)
    service = CircuitBreaker(llm, failures=1, cool_down=20.0, clock=clock.now)
    await fails(service)
    clock.advance(20.0)
    async with anyio.create_task_group() as group:
        group.start_soon(_ask, service, streamed)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert service.state == "half_open"
    assert await ask(service) == "fine"
    assert service.state == "closed"


async def test_what_was_under_way_when_it_opened_says_nothing_about_later() -> None:
    """A late answer does not close it, and a late failure does not open it again."""
    clock = VirtualClock()
    gates = {text: anyio.Event() for text in ("fine", "down")}

    async def late(text: str) -> str | LLMError:
        await gates[text].wait()
        return text if text == "fine" else DOWN

    llm = ScriptedLLM(lambda _: late("fine"), lambda _: late("down"), DOWN, "fine")
    service = CircuitBreaker(llm, failures=1, cool_down=20.0, clock=clock.now)
    async with anyio.create_task_group() as group:
        group.start_soon(service.complete, HELLO)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(fails, service)
        await anyio.wait_all_tasks_blocked()
        await fails(service)
        gates["fine"].set()
        await anyio.wait_all_tasks_blocked()
        assert service.state == "open"
        clock.advance(20.0)
        assert await ask(service) == "fine"
        gates["down"].set()
    assert service.state == "closed"


async def _never(seconds: float) -> None:
    await anyio.sleep_forever()


async def _ask(service: LLMService, streamed: bool) -> None:
    await ask(service, streamed=streamed)


# ── together with the others ──────────────────────────────────────────────────────────────────────


async def test_a_retry_waits_for_the_cool_down() -> None:
    """The breaker's word is a lower bound like a provider's."""
    clock = VirtualClock()
    llm = ScriptedLLM(DOWN, "fine")
    service = Retrying(
        CircuitBreaker(llm, failures=1, cool_down=20.0, clock=clock.now),
        RetryPolicy(jitter=0.0, initial=0.5),
        clock=clock.now,
        sleep=clock.sleep,
    )
    assert await ask(service) == "fine"
    assert clock.now() == 20.0
    assert len(llm.requests) == 2


async def test_a_fallback_goes_past_an_open_breaker_at_once() -> None:
    """Nothing is sent to who is down."""
    down, other = ScriptedLLM(DOWN), ScriptedLLM("fine", repeat=True)
    service = Fallback(CircuitBreaker(down, failures=1), other)
    for _ in range(3):
        assert await ask(service) == "fine"
    assert (len(down.requests), len(other.requests)) == (1, 3)


@pytest.mark.parametrize(("name", "value"), [("failures", 0), ("cool_down", 0.0)])
def test_a_setting_that_cannot_be_is_refused_by_name(name: str, value: float) -> None:
    """When it is made."""
    with pytest.raises(ValueError, match=name):
        CircuitBreaker(ScriptedLLM(), **{name: value})  # pyright: ignore[reportArgumentType]
