"""The law of trying again, over all schedules: a pure function, so no clock is needed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_client.errors import (
    BadRequest,
    ConnectFailed,
    ConnectionLost,
    ContextOverflow,
    IncompleteStream,
    LLMError,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    ServerError,
    Timeout,
    TransportError,
)
from llm_client.retry import FallbackPolicy, GiveUp, RetryIn, RetryPolicy, RetryRule

SECONDS = st.floats(0, 1e6)
RULES = st.builds(
    RetryRule,
    error=st.sampled_from([RateLimited, TransportError, Timeout]),
    max_attempts=st.none() | st.integers(1, 8),
    initial=st.none() | st.floats(0, 10),
    maximum=st.none() | st.floats(0, 100),
    retry_after_cap=st.none() | st.floats(0, 1000),
)
POLICIES = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 8),
    initial=st.floats(0, 10),
    maximum=st.floats(0, 100),
    total=st.none() | st.floats(0.001, 1000),
    retry_after_cap=st.floats(0, 1000),
    jitter=st.floats(0, 2),
    retry_sent_timeouts=st.booleans(),
    give_up_on=st.lists(st.sampled_from([ConnectFailed, Overloaded]), max_size=1).map(tuple),
    per_error=st.lists(RULES, max_size=2).map(tuple),
)
PLACES = st.floats(0, 1, exclude_max=True)


def limited(retry_after: float | None) -> LLMError:
    """A refusal that asks for a wait."""
    return RateLimited("slow down", retry_after=retry_after)


def late(*, sent: bool) -> LLMError:
    """A deadline that passed."""
    return Timeout("late", phase="first_byte", seconds=1.0, sent=sent)


ERRORS = st.one_of(
    st.builds(limited, st.none() | SECONDS),
    st.builds(late, sent=st.booleans()),
    st.just(ConnectFailed("down")),
    st.just(QuotaExhausted("no money")),
)


@settings(deadline=None)
@given(POLICIES, st.lists(st.tuples(ERRORS, PLACES, SECONDS), min_size=1, max_size=12))
def test_a_schedule_keeps_every_promise_of_its_policy(
    policy: RetryPolicy, failures: list[tuple[LLMError, float, float]]
) -> None:
    """Attempts, deadline, caps, and never earlier than the provider asked."""
    elapsed = 0.0
    for attempt, (error, place, took) in enumerate(failures, 1):
        elapsed += took
        decision = policy.decide(error, attempt, elapsed, place)
        if isinstance(decision, GiveUp):
            return
        rule = next((rule for rule in policy.per_error if isinstance(error, rule.error)), None)
        most, maximum, cap = policy.max_attempts, policy.maximum, policy.retry_after_cap
        if rule is not None:
            most = most if rule.max_attempts is None else rule.max_attempts
            maximum = maximum if rule.maximum is None else rule.maximum
            cap = cap if rule.retry_after_cap is None else rule.retry_after_cap
        assert attempt < most
        assert error.retryable
        assert not isinstance(error, policy.give_up_on)
        wait = decision.seconds
        assert math.isfinite(wait)
        assert wait >= (error.retry_after or 0)
        longest = max(maximum, error.retry_after or 0) * (1 + policy.jitter)
        assert wait <= longest * (1 + 1e-9)
        assert (error.retry_after or 0) <= cap
        assert policy.retry_sent_timeouts or not (isinstance(error, Timeout) and error.sent)
        elapsed += wait
        assert policy.total is None or elapsed <= policy.total * (1 + 1e-9)


@settings(deadline=None)
@given(POLICIES, ERRORS, st.integers(1, 10), SECONDS, PLACES)
def test_the_same_question_has_the_same_answer(
    policy: RetryPolicy, error: LLMError, attempt: int, elapsed: float, place: float
) -> None:
    """No clock, no dice, no memory."""
    first = policy.decide(error, attempt, elapsed, place)
    assert policy.decide(error, attempt, elapsed, place) == first


@settings(deadline=None)
@given(
    st.floats(0.01, 25),
    st.lists(st.integers(0, 999).map(lambda n: n / 1000), min_size=2, max_size=50, unique=True),
)
def test_workers_told_the_same_instant_spread_out_after_it_x07(
    retry_after: float, places: list[float]
) -> None:
    """Different places in the jitter give different waits, all of them on top (X07)."""
    policy = RetryPolicy(total=None)
    waits: list[float] = []
    for place in sorted(places):
        decision = policy.decide(limited(retry_after), 1, 0.0, place)
        assert isinstance(decision, RetryIn)
        waits.append(decision.seconds)
    assert waits == sorted(waits)
    assert waits[0] >= retry_after
    assert len(set(waits)) == len(places)


def test_the_waits_double_up_to_the_maximum() -> None:
    """Without jitter, to see the law itself."""
    policy = RetryPolicy(max_attempts=7, initial=1.0, maximum=5.0, total=None, jitter=0.0)
    decisions = [policy.decide(Overloaded("x"), attempt, 0.0, 0.9) for attempt in range(1, 8)]
    assert decisions == [
        *(RetryIn(seconds) for seconds in (1.0, 2.0, 4.0, 5.0, 5.0, 5.0)),
        GiveUp("attempts_used_up"),
    ]


def test_a_wait_of_nothing_is_an_answer_and_no_hot_loop() -> None:
    """Retry-After: 0 is not "not said", but the backoff still applies (X04)."""
    policy = RetryPolicy(initial=0.5, jitter=0.0)
    assert policy.decide(limited(0.0), 1, 0.0, 0.0) == RetryIn(0.5)


@pytest.mark.parametrize(
    ("error", "attempt", "elapsed", "reason"),
    [
        (QuotaExhausted("no money"), 1, 0.0, "not_retryable"),
        (Overloaded("x"), 3, 0.0, "attempts_used_up"),
        (limited(86_400.0), 1, 0.0, "retry_after_too_long"),
        (limited(20.0), 1, 45.0, "deadline"),
    ],
)
def test_giving_up_says_why_x02(error: LLMError, attempt: int, elapsed: float, reason: str) -> None:
    """A wait of days is not slept through, and neither is one beyond the deadline (X02)."""
    assert RetryPolicy().decide(error, attempt, elapsed, 0.0) == GiveUp(reason)


def test_a_request_that_may_have_been_billed_is_tried_again_by_choice_only() -> None:
    """A connection that never came about is tried again in any case (X09)."""
    careful = RetryPolicy(retry_sent_timeouts=False)
    assert careful.decide(late(sent=True), 1, 0.0, 0.0) == GiveUp("may_have_been_billed")
    assert isinstance(careful.decide(late(sent=False), 1, 0.0, 0.0), RetryIn)
    assert isinstance(RetryPolicy().decide(late(sent=True), 1, 0.0, 0.0), RetryIn)
    assert isinstance(careful.decide(ConnectFailed("down"), 1, 0.0, 0.0), RetryIn)


@pytest.mark.parametrize("said", [math.nan, -1.0, -math.inf, None])
def test_a_wait_that_is_no_time_counts_as_not_said_x04(said: float | None) -> None:
    """A service of somebody else's making may let such a thing through (X04)."""
    assert RetryPolicy(jitter=0.0).decide(limited(said), 1, 0.0, 0.0) == RetryIn(0.5)


def test_a_wait_without_end_is_not_waited_for() -> None:
    """Even without a cap there is the deadline (X02, X04)."""
    endless = limited(math.inf)
    assert RetryPolicy().decide(endless, 1, 0.0, 0.0) == GiveUp("retry_after_too_long")
    uncapped = RetryPolicy(retry_after_cap=math.inf)
    assert uncapped.decide(endless, 1, 0.0, 0.0) == GiveUp("deadline")
    assert uncapped.decide(limited(50.0), 1, 0.0, 0.0) == RetryIn(50.0)


def test_the_thousandth_attempt_waits_as_long_as_the_tenth() -> None:
    """Doubling never overflows."""
    policy = RetryPolicy(max_attempts=5000, total=None, jitter=0.0)
    assert policy.decide(Overloaded("x"), 4000, 0.0, 0.0) == RetryIn(8.0)


def test_an_error_that_is_given_up_on_is_final_whatever_it_says_of_itself() -> None:
    """With its subclasses; others are tried again as before."""
    policy = RetryPolicy(give_up_on=(TransportError,))
    assert policy.decide(ConnectionLost("x"), 1, 0.0, 0.0) == GiveUp("given_up_on")
    assert isinstance(policy.decide(Overloaded("x"), 1, 0.0, 0.0), RetryIn)


def test_one_kind_of_error_can_have_settings_of_its_own() -> None:
    """The first rule that fits holds; what it leaves open is the policy's."""
    policy = RetryPolicy(
        max_attempts=2,
        jitter=0.0,
        per_error=(
            RetryRule(error=RateLimited, max_attempts=5, initial=2.0, retry_after_cap=5.0),
            RetryRule(error=IncompleteStream, max_attempts=1),
            RetryRule(error=LLMError, maximum=0.1),
        ),
    )
    assert policy.decide(limited(None), 4, 0.0, 0.0) == RetryIn(8.0)
    assert policy.decide(limited(None), 5, 0.0, 0.0) == GiveUp("attempts_used_up")
    assert policy.decide(limited(6.0), 1, 0.0, 0.0) == GiveUp("retry_after_too_long")
    assert policy.decide(IncompleteStream("x"), 1, 0.0, 0.0) == GiveUp("attempts_used_up")
    assert policy.decide(Overloaded("x"), 1, 0.0, 0.0) == RetryIn(0.1)
    assert policy.decide(Overloaded("x"), 2, 0.0, 0.0) == GiveUp("attempts_used_up")


@pytest.mark.parametrize(
    ("error", "passed"),
    [
        (limited(1.0), True),
        (QuotaExhausted("no money"), True),
        (ServerError("x"), True),
        (ConnectFailed("down"), True),
        (IncompleteStream("cut"), True),
        (BadRequest("x"), False),
        (ContextOverflow("too long"), False),
    ],
)
def test_another_model_is_asked_where_it_may_do_better(error: LLMError, passed: bool) -> None:
    """An empty account is no reason to retry, but one to look elsewhere (X13)."""
    assert FallbackPolicy().passes_on(error) is passed
    assert FallbackPolicy(on=(ContextOverflow,)).passes_on(error) is isinstance(
        error, ContextOverflow
    )


@pytest.mark.parametrize("models", [("a", ""), ("a", "b", "a")])
def test_models_to_fall_back_on_are_different_names(models: tuple[str, ...]) -> None:
    """Else one would be asked twice, or nobody."""
    with pytest.raises(ValueError, match="different names"):
        FallbackPolicy(models=models)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": 0},
        {"initial": -1},
        {"initial": math.nan},
        {"maximum": -1},
        {"maximum": math.inf},
        {"retry_after_cap": -1},
        {"retry_after_cap": math.nan},
        {"jitter": -0.1},
        {"jitter": math.nan},
        {"total": 0},
        {"total": math.nan},
    ],
    ids=str,
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    """When it is made, by the name of what is wrong; a rule of its own likewise."""
    name = next(iter(wrong))
    with pytest.raises(ValueError, match=name):
        RetryPolicy(**wrong)  # pyright: ignore[reportArgumentType] - wrong on purpose
    if name not in ("jitter", "total"):
        with pytest.raises(ValueError, match=name):
            RetryRule(error=LLMError, **wrong)  # pyright: ignore[reportArgumentType]
