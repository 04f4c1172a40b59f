"""Another model is asked when the retry policy has given up on one."""

from __future__ import annotations

import pytest

from llm_client.errors import ContextOverflow, QuotaExhausted, ServerError
from llm_client.retry import FallbackPolicy, RetryPolicy
from power_loop.events import FallbackTaken
from power_loop.hooks import LLM_ERROR, LlmErrorRaised, Retry
from power_loop.session.outcome import Completed, Degraded
from power_loop.session.records import ModelAsked, ModelEnded
from tests.pipeline.fakes import FakePorts, FakeTool
from tests.pipeline.scripts import call, calls, contexts, plan, send, text, words
from tests.session.checker import violations


def test_the_next_model_is_asked_once_the_policy_has_given_up_on_one() -> None:
    """By the same retry policy, counted anew; the records say which model each attempt was for."""
    io = FakePorts(
        [ServerError("a"), ServerError("b"), QuotaExhausted("c"), ServerError("d"), text("ok")],
        plan=plan(
            retry=RetryPolicy(max_attempts=2, initial=1.0, jitter=0.0),
            fallback=FallbackPolicy(models=("n", "m", "o")),
        ),
    )
    assert send(io) == Completed("ok")
    assert [record.model for record in io.of(ModelAsked)] == ["m", "m", "n", "o", "o"]
    assert [request.model for request in io.requests] == [None, None, "n", "o", "o"]
    assert [record.status for record in io.of(ModelEnded)] == [*["failed"] * 4, "ok"]
    assert io.sleeps == [1.0, 1.0]
    assert [event for event in io.events if isinstance(event, FallbackTaken)] == [
        FallbackTaken("m", "n", "ServerError", "b"),
        FallbackTaken("n", "o", "QuotaExhausted", "c"),
    ]
    assert words(io) == ["user: go", "assistant: ok"]


def test_a_fallback_that_fails_ends_as_a_failed_model_does() -> None:
    """All attempts are counted; what another model does not mend is raised."""
    fallback = FallbackPolicy(models=("n",))
    once = RetryPolicy(max_attempts=1)
    io = FakePorts([ServerError("a"), ServerError("b")], plan=plan(retry=once, fallback=fallback))
    assert send(io) == Degraded("ServerError: b", 2)
    io = FakePorts([ContextOverflow("a")], plan=plan(retry=once, fallback=fallback))
    with pytest.raises(ContextOverflow):
        send(io)
    assert len(io.requests) == 1


def test_every_model_call_begins_with_the_own_model_of_the_run() -> None:
    """A fallback is for the call that needed it."""
    once = RetryPolicy(max_attempts=1)
    io = FakePorts(
        [ServerError("a"), calls(call("c1")), text("ok")],
        {"read": FakeTool("data")},
        plan=plan(retry=once, fallback=FallbackPolicy(models=("n",))),
    )
    assert send(io) == Completed("ok")
    assert [(record.round, record.model) for record in io.of(ModelAsked)] == [
        (1, "m"),
        (1, "n"),
        (2, "m"),
    ]


def test_a_hook_is_asked_when_no_model_is_left_and_its_retry_begins_with_the_first() -> None:
    """With the attempts of all of them."""
    io = FakePorts(
        [ServerError("a"), ServerError("b"), text("ok")],
        hooks={LLM_ERROR: lambda _: Retry()},
        plan=plan(retry=RetryPolicy(max_attempts=1), fallback=FallbackPolicy(models=("n",))),
    )
    assert send(io) == Completed("ok")
    assert [context.attempts for context in contexts(io, LlmErrorRaised)] == [2]
    assert [record.model for record in io.of(ModelAsked)] == ["m", "n", "m"]
    assert violations(io.log, closed=True) == []
