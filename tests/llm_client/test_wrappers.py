"""Services around services, in every order."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest

from llm_client.emulated_tools import EmulatedTools
from llm_client.errors import ConfigError, LLMError, Overloaded, UnsupportedFeature
from llm_client.multimodal import FittingMedia, media_limits
from llm_client.retry import RetryPolicy
from llm_client.service import LLMService
from llm_client.stream import Accumulator
from llm_client.testing import ScriptedLLM, VirtualClock, reply
from llm_client.types import LLMRequest, LLMResponse, Message, Usage
from llm_client.usage import UsageLedger
from llm_client.wrappers.circuit_breaker import CircuitBreaker
from llm_client.wrappers.fallback import Fallback
from llm_client.wrappers.metered import Metered
from llm_client.wrappers.rate_limiter import RateLimiter
from llm_client.wrappers.retrying import Retrying
from llm_client.wrappers.throttled import Throttled

pytestmark = pytest.mark.anyio

HELLO = LLMRequest([Message.user("hello")])
POLICY = RetryPolicy(max_attempts=4, jitter=0.0, total=None, retry_after_cap=100.0)

Wrap = Callable[[LLMService, VirtualClock], LLMService]


def retrying(inner: LLMService, clock: VirtualClock) -> LLMService:
    """Asked again."""
    return Retrying(inner, POLICY, clock=clock.now, sleep=clock.sleep)


def throttled(inner: LLMService, clock: VirtualClock) -> LLMService:
    """At a rate."""
    limiter = RateLimiter(requests_per_minute=60, clock=clock.now, sleep=clock.sleep)
    return Throttled(inner, limiter)


def breaking(inner: LLMService, clock: VirtualClock) -> LLMService:
    """Left alone while unwell."""
    return CircuitBreaker(inner, failures=2, cool_down=20.0, clock=clock.now)


def falling_back(inner: LLMService, clock: VirtualClock) -> LLMService:
    """With nobody else to ask."""
    return Fallback(inner)


def metered(inner: LLMService, _: VirtualClock) -> LLMService:
    """Written down."""
    return Metered(inner, UsageLedger())


def emulating(inner: LLMService, _: VirtualClock) -> LLMService:
    """With tools."""
    return EmulatedTools(inner)


def fitting(inner: LLMService, _: VirtualClock) -> LLMService:
    """With attachments that fit."""
    return FittingMedia(inner, media_limits("openai"))


WRAPPERS: tuple[Wrap, ...] = (retrying, throttled, breaking, falling_back)
STACKS = [
    pytest.param(stack, id=">".join(w.__name__ for w in stack)) for stack in permutations(WRAPPERS)
]


def stacked(stack: tuple[Wrap, ...], inner: LLMService, clock: VirtualClock) -> LLMService:
    """`inner` inside all of them, the first outermost."""
    for wrap in reversed(stack):
        inner = wrap(inner, clock)
    return inner


async def ask(service: LLMService, *, streamed: bool) -> LLMResponse:
    """The answer, however it is asked for."""
    if not streamed:
        return await service.complete(HELLO)
    fold = Accumulator()
    async with service.stream(HELLO) as events:
        async for event in events:
            fold.add(event)
    assert fold.finished
    return fold.response()


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("streamed", [False, True])
async def test_they_compose_in_any_order_x03(stack: tuple[Wrap, ...], streamed: bool) -> None:
    """The answer comes through unchanged, after as many attempts as the policy allows, and none of
    them after the breaker has opened and before its cool-down is over (X03).
    """
    clock = VirtualClock()
    good = reply("fine", usage=Usage(3, 4), thinking="hm")
    llm = ScriptedLLM(Overloaded("x"), Overloaded("x"), good, model="m")
    service = stacked(stack, llm, clock)
    response = await ask(service, streamed=streamed)
    assert response == (await ScriptedLLM(good).complete(HELLO)).replace(model="m")
    assert len(llm.requests) == 3
    inside = stack.index(breaking) > stack.index(retrying)
    assert clock.now() == (20.5 if inside else 1.5)


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("streamed", [False, True])
async def test_in_any_order_the_attempts_are_those_of_the_policy(
    stack: tuple[Wrap, ...], streamed: bool
) -> None:
    """No wrapper adds attempts of its own, and the provider's error comes out (X03)."""
    clock = VirtualClock()
    llm = ScriptedLLM(LLMError("odd", retryable=True), repeat=True)
    with pytest.raises(LLMError, match="odd"):
        await ask(stacked(stack, llm, clock), streamed=streamed)
    assert len(llm.requests) == POLICY.max_attempts
    assert llm.open_streams == 0


@pytest.mark.parametrize("wrap", [*WRAPPERS, metered, emulating, fitting])
@pytest.mark.parametrize("inner", ["openai:x", 5, None, ScriptedLLM])
def test_what_is_no_service_is_refused_when_it_is_wrapped(wrap: Wrap, inner: Any) -> None:
    """With how to make one; a class is none either."""
    told = rf"takes a model service, but got a {type(inner).__name__}; make one with"
    with pytest.raises(ConfigError, match=told):
        wrap(inner, VirtualClock())


@pytest.mark.parametrize("services", [[], [ScriptedLLM(), ScriptedLLM()], (ScriptedLLM(),)])
def test_services_are_passed_one_by_one(services: Any) -> None:
    """A list of them is refused, also among the others."""
    for given in ((services,), (ScriptedLLM(), services)):
        with pytest.raises(ConfigError, match=r"Fallback takes .* pass services one by one"):
            Fallback(*given)


class Plain(ScriptedLLM):
    """A service that can little."""

    @property
    def binds_output(self) -> bool:
        return False

    def check(self, request: LLMRequest) -> None:
        raise UnsupportedFeature("cannot")


@pytest.mark.parametrize("wrap", WRAPPERS)
async def test_what_is_not_about_asking_passes_through(wrap: Wrap) -> None:
    """Who it is, what it can, what it refuses, and its end."""
    inner = Plain(model="m")
    service = wrap(inner, VirtualClock())
    assert (service.model, service.binds_output) == ("m", False)
    assert service.retries is (wrap is retrying)
    assert "ScriptedLLM" in repr(service)
    with pytest.raises(UnsupportedFeature):
        service.check(HELLO)
    await service.aclose()
    assert inner.closed
