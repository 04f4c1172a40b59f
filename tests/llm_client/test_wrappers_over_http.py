"""Services around a service over HTTP: real sockets, both transports, both event loops."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from llm_client.errors import ConnectionLost, LLMError, Overloaded, QuotaExhausted, RateLimited
from llm_client.retry import RetryPolicy
from llm_client.service import LLMService
from llm_client.stream import Accumulator, AttemptVoided, Finished, StreamEvent
from llm_client.transport.deadlines import Deadlines
from llm_client.wrappers.circuit_breaker import CircuitBreaker
from llm_client.wrappers.rate_limiter import RateLimiter
from llm_client.wrappers.retrying import Retrying, RetryNotice
from llm_client.wrappers.throttled import Throttled
from tests.llm_client.chat import DONE, HELLO, HELLO_WORLD, delta, frame, service_at, whole
from tests.llm_client.transports import DRIVERS, TRANSPORTS
from tests.loopback import CLOSE, RESET, STALL, Answer, LoopbackServer, answer, serving, sse

pytestmark = pytest.mark.anyio

SOON = RetryPolicy(initial=0.001, jitter=0.0)
QUICK = Deadlines(first_byte=5.0, idle=0.3)
BUSY = b'{"error": {"message": "busy"}}'


class Rig:
    """A server, and a service of it that retries, at a rate, past a circuit breaker."""

    def __init__(self, server: LoopbackServer, inner: LLMService, *, restart_streams: bool) -> None:
        self.server = server
        self.notices: list[RetryNotice] = []
        self.breaker = CircuitBreaker(inner, failures=5)
        limiter = RateLimiter(requests_per_minute=600, tokens_per_minute=1e6)
        self.service = Retrying(
            Throttled(self.breaker, limiter),
            SOON,
            restart_streams=restart_streams,
            on_retry=self.notices.append,
        )


@pytest.fixture(params=DRIVERS, ids=lambda pair: "-".join(pair))
def driver(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A transport and the event loop to run it on."""
    pair: tuple[str, str] = request.param
    return pair


@pytest.fixture
def anyio_backend(driver: tuple[str, str]) -> str:
    """The driver's event loop."""
    return driver[1]


@asynccontextmanager
async def rigged(
    driver: tuple[str, str], *answers: Answer, restart_streams: bool = False
) -> AsyncGenerator[Rig]:
    """A rig, within a time limit; afterwards nothing may be left of any exchange."""
    with anyio.fail_after(10):
        async with serving(*answers) as server:
            transport = TRANSPORTS[driver[0]](max_connections=1)
            inner = service_at(server, transport, deadlines=QUICK)
            rig = Rig(server, inner, restart_streams=restart_streams)
            try:
                yield rig
                assert transport.in_flight == 0
            finally:
                await rig.service.aclose()
            await server.until_open(0)


def folded(events: list[StreamEvent]) -> str:
    """The text that the events come to."""
    fold = Accumulator()
    for event in events:
        fold.add(event)
    assert fold.finished
    return fold.response().text


TROUBLE = frame({"error": {"message": "overloaded", "type": "overloaded_error"}})


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(answer(503, BUSY), id="status"),
        pytest.param(sse(TROUBLE, DONE), id="error frame"),
        pytest.param(sse(frame({"id": "c0", "choices": []}), TROUBLE), id="begun, then error"),
        pytest.param(sse(frame({"id": "c0", "choices": []}), RESET), id="begun, then reset"),
        pytest.param([CLOSE], id="closed"),
    ],
)
async def test_a_stream_that_fails_before_its_output_is_asked_again(
    first: Answer, driver: tuple[str, str]
) -> None:
    """In silence, over one connection at a time: the broken one has been given up (S08, X12)."""
    async with rigged(driver, first, sse(*HELLO_WORLD)) as rig:
        async with rig.service.stream(HELLO) as events:
            seen = [event async for event in events]
        assert folded(seen) == "Hello world"
        assert not any(isinstance(event, AttemptVoided) for event in seen)
        assert rig.breaker.state == "closed"


@pytest.mark.parametrize("fault", [RESET, CLOSE, STALL], ids=lambda fault: fault.name)
async def test_a_restart_in_the_middle_of_a_read_leaves_the_reader_s_own_limits_alone(
    fault: Any, driver: tuple[str, str]
) -> None:
    """Each event may be waited for under a time limit of its own; the next connection is opened
    inside one and read outside of it.
    """
    async with rigged(
        driver, sse(delta("Hel"), fault), sse(*HELLO_WORLD), restart_streams=True
    ) as rig:
        seen: list[StreamEvent] = []
        async with rig.service.stream(HELLO) as events:
            while not (seen and isinstance(seen[-1], Finished)):
                with anyio.fail_after(5):
                    seen.append(await anext(events))
        assert folded(seen) == "Hello world"
        assert sum(isinstance(event, AttemptVoided) for event in seen) == 1
        assert len(rig.server.requests) == 2


async def test_after_output_the_error_comes_out_and_the_breaker_knows_of_it(
    driver: tuple[str, str],
) -> None:
    """Nothing is asked again (S08, X12)."""
    async with rigged(driver, sse(delta("Hel"), RESET)) as rig:
        async with rig.service.stream(HELLO) as events:
            with pytest.raises(ConnectionLost) as raised:
                _ = [event async for event in events]
        assert raised.value.after_output
        assert (len(rig.server.requests), rig.notices) == (1, [])


@pytest.mark.parametrize(
    ("headers", "least"),
    [
        ({"retry-after-ms": "30"}, 0.03),
        ({"retry-after": "0"}, 0.001),
        ({"retry-after": "NaN"}, 0.001),
        ({"retry-after": "-5"}, 0.001),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.001),
        ({"retry-after": "soon"}, 0.001),
    ],
    ids=str,
)
async def test_every_form_of_retry_after_is_waited_for_as_defined(
    headers: dict[str, str], least: float, driver: tuple[str, str]
) -> None:
    """A bound from below, and never a reason to crash or to hurry (X04)."""
    async with rigged(driver, answer(429, BUSY, headers), answer(200, whole("fine"))) as rig:
        assert (await rig.service.complete(HELLO)).text == "fine"
        assert [notice.delay for notice in rig.notices] == [least]


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (answer(429, BUSY, {"retry-after": "86400"}), RateLimited),
        (answer(429, b'{"error": {"code": "insufficient_quota"}}'), QuotaExhausted),
    ],
    ids=["a day", "quota"],
)
async def test_what_waiting_does_not_mend_comes_out_at_once(
    refusal: Answer, kind: type[LLMError], driver: tuple[str, str]
) -> None:
    """A day is not slept through, and an empty account not asked again (X02, X13)."""
    async with rigged(driver, refusal) as rig:
        with pytest.raises(kind):
            await rig.service.complete(HELLO)
        assert (len(rig.server.requests), rig.notices) == (1, [])


async def test_attempts_are_counted_in_one_place(driver: tuple[str, str]) -> None:
    """As many requests reach the server as the policy allows, through all wrappers (X03)."""
    async with rigged(driver, answer(503, BUSY)) as rig:
        with pytest.raises(Overloaded):
            await rig.service.complete(HELLO)
        assert len(rig.server.requests) == SOON.max_attempts
