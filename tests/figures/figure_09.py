"""Figure 9: the retry law, on a virtual clock, wherever it is applied.

A schedule is a policy and what happens to each attempt, both drawn at random: odd values of
Retry-After, errors that are final, attempts that take long. It is run whole, streamed, streamed
with restarts, and in the loop's pipeline; some are cancelled in the middle of a wait; and crowds of
workers are told the same instant. What is checked is written down here once more, not asked of the
policy.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Literal

import anyio
from msgspec import Struct

from llm_client.errors import (
    ConnectFailed,
    ConnectionLost,
    LLMError,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    ServerError,
    Timeout,
)
from llm_client.retry import RetryPolicy, RetryRule
from llm_client.testing import Reply, ScriptedLLM, VirtualClock
from llm_client.types import LLMRequest, Message, Text
from llm_client.wrappers.retrying import Retrying
from power_loop.session.outcome import Completed
from tests.figures.result import FigureResult
from tests.pipeline.fakes import FakePorts
from tests.pipeline.scripts import plan, send, text

Way = Literal["whole", "streamed", "restarted", "loop", "cancelled"]
Ending = Literal["answered", "given up", "cancelled in a wait"]

_BACKENDS = ("asyncio", "trio")
_WAYS: tuple[Way, ...] = ("whole", "streamed", "restarted", "loop", "cancelled")
_CROWD = 50
_HELLO = LLMRequest([Message.user("hello")])
_EXACT = 1e-9


def run(full: bool) -> FigureResult:
    """Runs schedules by every way in turn, and a crowd after each hundred."""
    count = 100_000 if full else 2_000
    tried: Counter[str] = Counter()
    failures: list[str] = []
    for backend in _BACKENDS:
        done, wrong = anyio.run(_many, count // len(_BACKENDS), backend=backend)
        tried += done
        failures += [f"{backend}: {each}" for each in wrong]
    counts = ", ".join(f"{tried[way]} {way}" for way in _WAYS)
    return FigureResult(
        count + tried["in crowds"],
        tuple(failures),
        f"{counts}: {tried['attempts']} attempts, {tried['waits']} waits, "
        f"{tried['answered']} answered, {tried['given up']} given up, "
        f"{tried['cancelled in a wait']} cancelled in a wait; "
        f"{tried['in crowds']} told one instant",
    )


async def _many(count: int) -> tuple[Counter[str], list[str]]:
    tried: Counter[str] = Counter()
    failures: list[str] = []
    for seed in range(1, count + 1):
        way = _WAYS[seed % len(_WAYS)]
        trace = _Trace(Random(seed))
        wrong = await _RUNNERS[way](trace) if way in _RUNNERS else _in_loop(trace)
        if trace.ending != "cancelled in a wait":
            wrong += _broken_promises(trace)
        failures += [f"schedule {seed} ({way}): {each}" for each in wrong]
        attempts = len(trace.tries)
        tried += Counter({way: 1, "attempts": attempts, "waits": attempts - 1, trace.ending: 1})
        if seed % 100 == 0:
            tried["in crowds"] += _CROWD
            failures += [f"crowd {seed}: {each}" for each in await _crowd(seed)]
    return tried, failures


# ── schedules ─────────────────────────────────────────────────────────────────────────────────────


class _Try(Struct):
    """One attempt: when it began and ended, in what, and whether output had been handed out."""

    began: float
    ended: float
    error: LLMError | None
    output: bool


class _Trace:
    """A schedule, and what came of it."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.policy = _policy(chance)
        self.clock = VirtualClock(start=chance.choice([0.0, 1e6]))
        self.tries: list[_Try] = []
        self.ending: Ending = "given up"
        self.may_restart = True

    def next(self) -> tuple[float, LLMError | None]:
        """What happens to the next attempt: how long it takes, and in what it fails."""
        error = None if self.chance.random() < 0.15 else _error(self.chance)
        return self.chance.choice([0.0, 0.1, 3.0, 20.0]), error

    def script(self, request: LLMRequest, *, output: bool = False) -> Reply:
        """Plays the next attempt on the clock; with `output`, some fail after a part of it."""
        took, error = self.next()
        began = self.clock.now()
        self.clock.advance(took)
        late = output and error is not None and self.chance.random() < 0.5
        self.tries.append(_Try(began, self.clock.now(), error, late))
        parts = (Text("some words of an answer"),)
        return Reply(parts=parts, error=error, break_after=2 if late else None)


def _policy(chance: Random) -> RetryPolicy:
    return RetryPolicy(
        max_attempts=chance.choice([1, 2, 3, 5, 9, 12]),
        initial=chance.choice([0.0, 0.5, 2.0]),
        maximum=chance.choice([0.0, 4.0, 60.0]),
        total=chance.choice([None, None, 5.0, 60.0, 600.0]),
        retry_after_cap=chance.choice([5.0, 30.0, 1e5, math.inf]),
        jitter=chance.choice([0.0, 0.25, 1.0]),
        retry_sent_timeouts=chance.random() < 0.5,
        give_up_on=chance.choice([(), (), (ConnectionLost,), (Overloaded, ServerError)]),
        per_error=chance.choice([(), (), (_rule(chance),), (_rule(chance), _rule(chance))]),
    )


def _rule(chance: Random) -> RetryRule:
    return RetryRule(
        error=chance.choice([RateLimited, Timeout, LLMError]),
        max_attempts=chance.choice([None, 1, 6]),
        initial=chance.choice([None, 1.0]),
        maximum=chance.choice([None, 10.0]),
        retry_after_cap=chance.choice([None, 5.0]),
    )


_SAID = (None, 0.0, 0.001, 1.0, 7.5, 29.0)
_ODD = (400.0, 86_400.0, math.nan, -3.0, math.inf)


def _error(chance: Random) -> LLMError:
    told = chance.choice(_SAID if chance.random() < 0.8 else _ODD)
    make: Callable[[], LLMError] = chance.choice(
        [
            lambda: RateLimited("slow down", retry_after=told),
            lambda: Overloaded("busy", retry_after=told),
            lambda: ServerError("broken"),
            lambda: ConnectFailed("down", sent=False),
            lambda: ConnectionLost("gone"),
            lambda: Timeout("late", phase="first_byte", seconds=1.0),
            lambda: Timeout("late", phase="connect", seconds=1.0, sent=False),
            lambda: chance.choice([QuotaExhausted("no money"), ServerError("broken too")]),
        ]
    )
    return make()


# ── ways ──────────────────────────────────────────────────────────────────────────────────────────


async def _whole(trace: _Trace) -> list[str]:
    service = _service(trace, ScriptedLLM(trace.script, repeat=True))
    try:
        await service.complete(_HELLO)
        trace.ending = "answered"
    except LLMError as error:
        return _last_error(trace, error)
    return []


async def _streamed(trace: _Trace, *, restart: bool = False) -> list[str]:
    trace.may_restart = restart
    llm = ScriptedLLM(lambda request: trace.script(request, output=True), repeat=True)
    wrong: list[str] = []
    try:
        await _read(_service(trace, llm, restart=restart))
        trace.ending = "answered"
    except LLMError as error:
        wrong = _last_error(trace, error)
        if error.after_output is not trace.tries[-1].output:
            wrong.append("the error is wrong about what was handed out")
    return wrong + ["a stream stayed open"] * llm.open_streams


async def _restarted(trace: _Trace) -> list[str]:
    return await _streamed(trace, restart=True)


async def _cancelled(trace: _Trace) -> list[str]:
    """The schedule is cancelled, from outside, in its first wait."""
    llm = ScriptedLLM(lambda request: trace.script(request, output=True), repeat=True)
    asleep = anyio.Event()
    since: list[float] = []

    async def sleep(seconds: float) -> None:
        since.append(trace.clock.now())
        asleep.set()
        await trace.clock.sleep(max(seconds, 1e-6))

    async def cancel(scope: anyio.CancelScope) -> None:
        await asleep.wait()
        scope.cancel()

    service = Retrying(llm, trace.policy, restart_streams=True, clock=trace.clock.now, sleep=sleep)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(cancel, scope)
            with suppress(LLMError):
                await _read(service)
                trace.ending = "answered"
            group.cancel_scope.cancel()
    if not since:
        return ["a stream stayed open"] * llm.open_streams
    trace.ending = "cancelled in a wait"
    facts = {
        "it went on": scope.cancelled_caught and len(trace.tries) == len(llm.requests) == 1,
        "time passed": trace.clock.now() == since[0],
        "somebody sleeps on": trace.clock.sleeping == 0,
        "a stream stayed open": llm.open_streams == 0,
    }
    return [fault for fault, holds in facts.items() if not holds]


def _in_loop(trace: _Trace) -> list[str]:
    """The same law in the attempt loop of the pipeline, whose time passes in its waits."""
    happens = [trace.next() for _ in range(13)]
    io = FakePorts(
        [text("fine") if error is None else error for _, error in happens],
        plan=plan(retry=trace.policy),
    )
    io.random_number = trace.chance.random()
    raised: LLMError | None = None
    try:
        if isinstance(send(io), Completed):
            trace.ending = "answered"
    except LLMError as error:
        raised = error
    at = 0.0
    for n in range(len(io.requests)):
        trace.tries.append(_Try(at, at, happens[n][1], output=False))
        at += io.sleeps[n] if n < len(io.sleeps) else 0.0
    last = trace.tries[-1].error
    wrong = ["not its last error"] if raised is not None and raised is not last else []
    return wrong + ["a wait without an attempt"] * (len(io.sleeps) != len(io.requests) - 1)


_RUNNERS = {
    "whole": _whole,
    "streamed": _streamed,
    "restarted": _restarted,
    "cancelled": _cancelled,
}


def _service(trace: _Trace, llm: ScriptedLLM, *, restart: bool = False) -> Retrying:
    return Retrying(
        llm,
        trace.policy,
        restart_streams=restart,
        clock=trace.clock.now,
        sleep=trace.clock.sleep,
        random=trace.chance.random,
    )


async def _read(service: Retrying) -> None:
    async with service.stream(_HELLO) as events:
        async for _ in events:
            pass


def _last_error(trace: _Trace, error: LLMError) -> list[str]:
    return [] if error is trace.tries[-1].error else ["not its last error"]


# ── promises ──────────────────────────────────────────────────────────────────────────────────────


class _Terms(Struct):
    """What the policy says about one error, as its documentation says it."""

    most: int
    initial: float
    maximum: float
    cap: float


def _terms(policy: RetryPolicy, error: LLMError) -> _Terms:
    terms = _Terms(policy.max_attempts, policy.initial, policy.maximum, policy.retry_after_cap)
    for rule in policy.per_error:
        if isinstance(error, rule.error):
            return _Terms(
                terms.most if rule.max_attempts is None else rule.max_attempts,
                terms.initial if rule.initial is None else rule.initial,
                terms.maximum if rule.maximum is None else rule.maximum,
                terms.cap if rule.retry_after_cap is None else rule.retry_after_cap,
            )
    return terms


def _broken_promises(trace: _Trace) -> list[str]:
    wrong: list[str] = []
    for number, one in enumerate(trace.tries, 1):
        following = trace.tries[number] if number < len(trace.tries) else None
        if one.error is None:
            wrong += ["asked again after an answer"] * (following is not None)
        else:
            wrong += _after(trace, number, one, one.error, following)
    return wrong


def _after(
    trace: _Trace, number: int, one: _Try, error: LLMError, following: _Try | None
) -> list[str]:
    policy, terms = trace.policy, _terms(trace.policy, error)
    told = error.retry_after if error.retry_after is not None and error.retry_after >= 0 else 0.0
    least = max(told, min(terms.maximum, terms.initial * 2.0 ** (number - 1)))
    most = least * (1 + policy.jitter)
    elapsed = one.ended - trace.tries[0].began
    left = math.inf if policy.total is None else policy.total - elapsed
    final = {
        "a final error": not error.retryable or isinstance(error, policy.give_up_on),
        "all attempts used": number >= terms.most,
        "a request that may be billed": isinstance(error, Timeout)
        and error.sent
        and not policy.retry_sent_timeouts,
        "a wait that is too long": told > terms.cap,
        "a deadline that cannot be kept": least > left * (1 + _EXACT),
        "output that was handed out": one.output and not trace.may_restart,
    }
    reasons = [reason for reason, holds in final.items() if holds]
    if following is None:
        given_up_early = not reasons and most < left
        return ["given up without a reason"] * given_up_early
    wait = following.began - one.ended
    # As exact as a clock is that has counted seconds for days.
    slack = _EXACT * max(1.0, following.began, most)
    wrong = [f"asked again in spite of {reason}" for reason in reasons]
    if wait < least - slack:
        wrong.append(f"asked again after {wait} s, told {told} s, backoff {least} s")
    if wait > most + slack:
        wrong.append(f"waited {wait} s, longer than {most} s")
    return wrong


async def _crowd(seed: int) -> list[str]:
    """Workers who are all told the same instant."""
    chance = Random(seed)
    told, jitter = chance.uniform(1.0, 25.0), chance.choice([0.1, 0.25, 1.0])
    clock = VirtualClock()
    policy = RetryPolicy(initial=0.0, jitter=jitter, total=None)
    back: list[float] = []

    def sent_again(request: LLMRequest) -> str:
        back.append(clock.now())
        return "fine"

    async def worker(place: Random) -> None:
        llm = ScriptedLLM(RateLimited("slow down", retry_after=told), sent_again)
        service = Retrying(llm, policy, clock=clock.now, sleep=clock.sleep, random=place.random)
        await service.complete(_HELLO)

    async with anyio.create_task_group() as group:
        for number in range(_CROWD):
            group.start_soon(worker, Random(seed * _CROWD + number))
    window = told * jitter
    slices = Counter(int((at - told) / window * 10) for at in back)
    facts = {
        "somebody came back early": min(back) >= told,
        "somebody came back late": max(back) <= told + window + _EXACT,
        "two came back at one instant": len(set(back)) == _CROWD,
        "they did not spread": max(back) - min(back) > window / 2,
        "a tenth of the time had half of them": max(slices.values()) < _CROWD / 2,
    }
    return [fault for fault, holds in facts.items() if not holds]
