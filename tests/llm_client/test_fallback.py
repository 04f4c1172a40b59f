"""A service that asks others in turn."""

from __future__ import annotations

import pytest
from msgspec import structs

from llm_client.errors import (
    AuthenticationFailed,
    BadRequest,
    ContextOverflow,
    IncompleteStream,
    LLMError,
    NotFound,
    Overloaded,
    QuotaExhausted,
    ServerError,
    UnsupportedFeature,
)
from llm_client.retry import FallbackPolicy, RetryPolicy
from llm_client.service import LLMService
from llm_client.stream import Accumulator, AttemptVoided, StreamEvent
from llm_client.testing import Reply, ScriptedLLM
from llm_client.types import LLMRequest, LLMResponse, Message, OutputSchema, Text
from llm_client.wrappers.fallback import Fallback, FallbackNotice
from llm_client.wrappers.retrying import Retrying
from power_loop.agent.loop import AgentLoop
from power_loop.errors import UsageError

pytestmark = pytest.mark.anyio

HELLO = LLMRequest([Message.user("hello")])


async def answer(service: LLMService, request: LLMRequest, *, streamed: bool) -> LLMResponse:
    """The answer, however it is asked for."""
    if not streamed:
        return await service.complete(request)
    fold = Accumulator()
    async with service.stream(request) as events:
        async for event in events:
            fold.add(event)
    assert fold.finished
    return fold.response()


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    "error",
    [Overloaded("x"), QuotaExhausted("x"), NotFound("x"), ServerError("x"), IncompleteStream("x")],
    ids=lambda error: type(error).__name__,
)
async def test_the_next_service_answers_where_the_first_cannot(
    error: LLMError, streamed: bool
) -> None:
    """Each is asked once, and the answer says whose it is (X13)."""
    notices: list[FallbackNotice] = []
    big, small = ScriptedLLM(error, model="big"), ScriptedLLM("fine", model="small")
    service = Fallback(big, small, on_fallback=notices.append)
    response = await answer(service, HELLO, streamed=streamed)
    assert (response.text, response.model) == ("fine", "small")
    assert (len(big.requests), len(small.requests)) == (1, 1)
    assert notices == [FallbackNotice("big", "small", error)]
    assert service.retries is False


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_answer_of_the_first_service_says_so_too(streamed: bool) -> None:
    """The others are not asked."""
    small = ScriptedLLM(model="small")
    service = Fallback(ScriptedLLM("fine", model="big"), small)
    assert (await answer(service, HELLO, streamed=streamed)).model == "big"
    assert small.requests == []


@pytest.mark.parametrize(
    "error", [AuthenticationFailed("x"), BadRequest("x"), ContextOverflow("x")]
)
async def test_an_error_that_another_model_does_not_mend_is_raised(error: LLMError) -> None:
    """A mistake must not be hidden behind another vendor's answer."""
    with pytest.raises(type(error)):
        await Fallback(ScriptedLLM(error), ScriptedLLM("never")).complete(HELLO)


async def test_which_errors_pass_a_request_on_can_be_chosen() -> None:
    """A model with a larger window, for one."""
    small, large = ScriptedLLM(ContextOverflow("too long")), ScriptedLLM("it fits")
    service = Fallback(small, large, policy=FallbackPolicy(on=(ContextOverflow,)))
    assert (await service.complete(HELLO)).text == "it fits"
    small, large = ScriptedLLM(Overloaded("busy")), ScriptedLLM("never")
    with pytest.raises(Overloaded):
        await Fallback(small, large, policy=FallbackPolicy(on=(ContextOverflow,))).complete(HELLO)


@pytest.mark.parametrize("streamed", [False, True])
async def test_when_all_have_failed_the_last_error_is_raised_with_notes_on_the_others(
    streamed: bool,
) -> None:
    """Whoever reads the traceback sees all of them."""
    service = Fallback(
        ScriptedLLM(Overloaded("busy"), model="a"),
        ScriptedLLM(ServerError("broken"), model="b"),
        ScriptedLLM(NotFound("gone"), model="c"),
    )
    with pytest.raises(NotFound) as raised:
        await answer(service, HELLO, streamed=streamed)
    assert raised.value.__notes__ == [
        "before that, 'a' failed: Overloaded: busy",
        "before that, 'b' failed: ServerError: broken",
    ]


async def test_models_of_the_first_service_come_before_the_other_services() -> None:
    """A name is for the service that it was meant for; another vendor is asked for its own."""
    first = ScriptedLLM(Overloaded("x"), Overloaded("x"), model="a1")
    other = ScriptedLLM("fine", model="b1")
    service = Fallback(first, other, policy=FallbackPolicy(models=("a2",)))
    response = await service.complete(LLMRequest(HELLO.messages, model="a0"))
    assert [request.model for request in first.requests] == ["a0", "a2"]
    assert [request.model for request in other.requests] == [None]
    assert response.model == "b1"


async def test_a_service_that_cannot_take_the_request_is_passed_over() -> None:
    """Its refusal would hide what was wrong with the others."""

    class Simple(ScriptedLLM):
        """Knows no schemas."""

        def check(self, request: LLMRequest) -> None:
            if request.output_schema is not None:
                raise UnsupportedFeature("no schemas here")

    bound = LLMRequest(HELLO.messages, output_schema=OutputSchema("x", {"type": "object"}))
    simple, last = Simple("never"), ScriptedLLM("{}")
    service = Fallback(ScriptedLLM(Overloaded("busy")), simple, last)
    assert (await service.complete(bound)).text == "{}"
    assert simple.requests == []


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_error_says_who_was_passed_over_and_why(streamed: bool) -> None:
    """In the order in which it happened."""

    class Picky(ScriptedLLM):
        """Takes one model only."""

        def check(self, request: LLMRequest) -> None:
            if request.model != "a1":
                raise UnsupportedFeature(f"no {request.model}")

    service = Fallback(
        Picky(Overloaded("busy"), model="a1"),
        Picky(model="b1"),
        ScriptedLLM(ServerError("broken"), model="c1"),
        Picky(model="d1"),
        policy=FallbackPolicy(models=("a2",)),
    )
    with pytest.raises(ServerError) as raised:
        await answer(service, HELLO, streamed=streamed)
    assert raised.value.__notes__ == [
        "before that, 'a1' failed: Overloaded: busy",
        "'a2' was passed over: UnsupportedFeature: no a2",
        "'b1' was passed over: UnsupportedFeature: no None",
        "'d1' was passed over: UnsupportedFeature: no None",
    ]


OWN = LLMRequest(
    HELLO.messages,
    model="a0",
    server_tools=({"type": "web_search_20250305", "name": "web_search"},),
    extra={"service_tier": "flex"},
    max_output_tokens=9,
)


async def test_what_belongs_to_one_vendor_does_not_reach_another() -> None:
    """Tools that it runs, and what is in no protocol; its own models still get all of it."""
    first = ScriptedLLM(Overloaded("x"), Overloaded("x"))
    other = ScriptedLLM("fine")
    await Fallback(first, other, policy=FallbackPolicy(models=("a2",))).complete(OWN)
    assert first.requests == [OWN, structs.replace(OWN, model="a2")]
    assert other.requests == [LLMRequest(HELLO.messages, max_output_tokens=9)]


async def test_what_the_others_are_asked_can_be_chosen() -> None:
    """One that shares more with the first may get it; one that cannot be asked is passed over."""
    first, same = ScriptedLLM(Overloaded("x")), ScriptedLLM(Overloaded("y"), model="b1")
    foreign, last = ScriptedLLM(model="c1"), ScriptedLLM(NotFound("gone"), model="d1")

    def adapt(request: LLMRequest, service: LLMService) -> LLMRequest:
        if service is foreign:
            raise UnsupportedFeature("nobody searches there")
        return request if service is same else structs.replace(request, model=None)

    with pytest.raises(NotFound) as raised:
        await Fallback(first, same, foreign, last, adapt=adapt).complete(OWN)
    assert same.requests == [OWN]
    assert foreign.requests == []
    assert last.requests == [structs.replace(OWN, model=None)]
    assert "'c1' was passed over: UnsupportedFeature: nobody searches" in str(
        raised.value.__notes__
    )


# ── after output ──────────────────────────────────────────────────────────────────────────────────


async def _events(service: LLMService) -> list[StreamEvent]:
    async with service.stream(HELLO) as events:
        return [event async for event in events]


async def test_after_output_the_next_one_is_asked_by_agreement_only() -> None:
    """What was handed out is then taken back, as with a retry (X12)."""
    cut = Reply(parts=(Text("Hello there"),), break_after=2)
    small = ScriptedLLM("fine", repeat=True)
    with pytest.raises(IncompleteStream) as raised:
        await _events(Fallback(ScriptedLLM(cut), small))
    assert raised.value.after_output
    assert small.requests == []
    seen = await _events(Fallback(ScriptedLLM(cut), small, restart_streams=True))
    voided = [event for event in seen if isinstance(event, AttemptVoided)]
    assert [(event.attempt, event.error_type) for event in voided] == [(1, "IncompleteStream")]
    fold = Accumulator()
    for event in seen:
        fold.add(event)
    assert fold.response().text == "fine"


async def test_a_restart_inside_is_honoured_outside() -> None:
    """Once all is taken back nothing is handed out, so that the next one is asked in silence."""
    cut = Reply(parts=(Text("Hello there"),), break_after=2)
    inner = Fallback(ScriptedLLM(cut), ScriptedLLM(Overloaded("busy")), restart_streams=True)
    seen = await _events(Fallback(inner, ScriptedLLM("fine")))
    assert sum(isinstance(event, AttemptVoided) for event in seen) == 1
    fold = Accumulator()
    for event in seen:
        fold.add(event)
    assert fold.response().text == "fine"


# ── as a service ──────────────────────────────────────────────────────────────────────────────────


async def test_whether_it_retries_is_what_a_loop_must_know() -> None:
    """Services asked once each are no retry layer; a restarted stream is (X03)."""
    plain = Fallback(ScriptedLLM(model="a"), ScriptedLLM(model="b"))
    assert (plain.retries, plain.model, plain.binds_output) == (False, "a", True)
    AgentLoop(plain)
    for layered in (
        Retrying(ScriptedLLM()),
        Fallback(ScriptedLLM(), Retrying(ScriptedLLM())),
        Fallback(ScriptedLLM(), restart_streams=True),
    ):
        assert layered.retries is True
        with pytest.raises(UsageError, match="retries by itself"):
            AgentLoop(layered)


async def test_services_that_retry_may_stand_in_a_row() -> None:
    """Each by its own law; the next is asked when one has given up."""
    policy = RetryPolicy(max_attempts=2, initial=0.0)
    first = ScriptedLLM(Overloaded("x"), Overloaded("x"))
    service = Fallback(Retrying(first, policy), Retrying(ScriptedLLM("fine"), policy))
    assert (await service.complete(HELLO)).text == "fine"
    assert len(first.requests) == 2


async def test_all_services_are_closed_even_if_one_fails_to() -> None:
    """No connection stays open because of another."""

    class Stuck(ScriptedLLM):
        """Cannot be closed."""

        async def aclose(self) -> None:
            raise OSError("stuck")

    first, last = ScriptedLLM(), ScriptedLLM()
    with pytest.raises(OSError, match="stuck"):
        await Fallback(first, Stuck(), last).aclose()
    assert first.closed
    assert last.closed
