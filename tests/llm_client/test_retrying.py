"""A service that is asked again: whole and streamed, before and after output."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager

import anyio
import pytest

from llm_client.emulated_tools import EmulatedTools
from llm_client.errors import (
    AuthenticationFailed,
    ConfigError,
    IncompleteStream,
    LLMError,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    ServerError,
    Timeout,
)
from llm_client.retry import RetryPolicy
from llm_client.service import LLMService
from llm_client.stream import (
    Accumulator,
    AttemptVoided,
    Finished,
    ResponseStarted,
    StreamEvent,
    TextDelta,
    ToolCallStarted,
    UsageReported,
)
from llm_client.testing import Reply, ScriptedLLM, VirtualClock, call, reply
from llm_client.types import LLMRequest, Message, StopReason, Text, ToolSpec, Usage
from llm_client.wrappers.retrying import Retrying, RetryNotice

pytestmark = pytest.mark.anyio

HELLO = LLMRequest([Message.user("hello")])
PLAIN = RetryPolicy(jitter=0.0)


class Rig:
    """A scripted model behind a `Retrying`, on a virtual clock."""

    def __init__(
        self,
        *script: Reply | str | LLMError,
        policy: RetryPolicy = PLAIN,
        restart_streams: bool = False,
    ) -> None:
        self.clock = VirtualClock()
        self.llm = ScriptedLLM(*script, sleep=self.clock.sleep)
        self.notices: list[RetryNotice] = []
        self.service = Retrying(
            self.llm,
            policy,
            restart_streams=restart_streams,
            on_retry=self.notices.append,
            clock=self.clock.now,
            sleep=self.clock.sleep,
            random=lambda: 0.0,
        )


def broken(text: str, *, after: int, error: LLMError | None = None) -> Reply:
    """An answer whose stream breaks after so many events."""
    return Reply(parts=(Text(text),), break_after=after, error=error)


async def events_of(service: LLMService, request: LLMRequest = HELLO) -> list[StreamEvent]:
    """All events of an answer."""
    async with service.stream(request) as events:
        return [event async for event in events]


def text_of(events: list[StreamEvent]) -> str:
    """The text that the events come to."""
    fold = Accumulator()
    for event in events:
        fold.add(event)
    assert fold.finished
    return fold.response().text


# ── asked whole, and before output ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_request_is_made_again_as_the_policy_says(streamed: bool) -> None:
    """A provider's word is a lower bound; each wait is told with its reason."""
    rig = Rig(ServerError("a"), RateLimited("b", retry_after=7.0), "fine")
    if streamed:
        assert text_of(await events_of(rig.service)) == "fine"
    else:
        assert (await rig.service.complete(HELLO)).text == "fine"
    assert rig.clock.now() == 7.5
    assert rig.llm.requests == [HELLO, HELLO, HELLO]
    assert [(n.attempt, n.delay, type(n.error)) for n in rig.notices] == [
        (1, 0.5, ServerError),
        (2, 7.0, RateLimited),
    ]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("error", "attempts", "reason"),
    [
        (QuotaExhausted("no money"), 1, "not_retryable"),
        (AuthenticationFailed("no key"), 1, "not_retryable"),
        (RateLimited("x", retry_after=86_400.0), 1, "retry_after_too_long"),
        (Overloaded("x"), 3, "attempts_used_up"),
    ],
)
async def test_giving_up_raises_the_last_error_and_says_why(
    error: LLMError, attempts: int, reason: str, streamed: bool
) -> None:
    """An empty account is not asked again, and days are not slept through (X02, X03, X13)."""
    rig = Rig(*[error] * attempts)
    with pytest.raises(type(error)) as raised:
        await (events_of(rig.service) if streamed else rig.service.complete(HELLO))
    assert raised.value is error
    assert error.__notes__[-1] == f"given up after attempt {attempts}: {reason}"
    assert not error.after_output
    assert len(rig.llm.requests) == attempts


@pytest.mark.parametrize("again", [True, False])
async def test_a_request_that_may_have_been_billed_is_repeated_by_choice_and_told(
    again: bool,
) -> None:
    """The notice holds the error, which says that the request was sent (X09)."""
    late = Timeout("late", phase="first_byte", seconds=1.0)
    policy = RetryPolicy(jitter=0.0, retry_sent_timeouts=again)
    rig = Rig(late, "fine", policy=policy)
    if again:
        assert (await rig.service.complete(HELLO)).text == "fine"
        assert [notice.error.sent for notice in rig.notices] == [True]
    else:
        with pytest.raises(Timeout):
            await rig.service.complete(HELLO)
        assert rig.notices == []


async def test_the_deadline_counts_what_the_attempts_take() -> None:
    """From the first attempt, not from the making of the stream."""
    slow = Reply(delay=6.0, error=Overloaded("x"))
    rig = Rig(slow, slow, "never", policy=RetryPolicy(jitter=0.0, total=10.0, max_attempts=9))
    stream = rig.service.stream(HELLO)
    rig.clock.advance(100.0)
    with pytest.raises(Overloaded) as raised:
        async with stream as events:
            _ = [event async for event in events]
    assert raised.value.__notes__ == ["given up after attempt 2: deadline"]
    assert rig.clock.now() == 112.5


async def test_a_stream_that_breaks_before_its_output_is_asked_again_in_silence() -> None:
    """Of the void attempt nothing is seen, neither its beginning nor its usage (X12)."""
    first = Reply(usage=Usage(999, 999), break_after=2, parts=())
    rig = Rig(first, reply("fine", usage=Usage(1, 2)))
    seen = await events_of(rig.service)
    assert seen == [
        ResponseStarted(),
        TextDelta("fine"),
        UsageReported(Usage(1, 2)),
        Finished(StopReason.END, "end"),
    ]
    assert (len(rig.notices), rig.llm.open_streams) == (1, 0)


async def test_a_stream_that_just_ends_counts_as_broken_s08() -> None:
    """No answer without its positive end, whatever the service inside lets through (S08)."""
    service = Retrying(Careless("cut short", "whole"))
    with pytest.raises(IncompleteStream) as raised:
        await events_of(service)
    assert raised.value.after_output
    assert text_of(await events_of(service)) == "whole"


class Careless(ScriptedLLM):
    """A service that ends its first stream as if all were well."""

    def stream(
        self, request: LLMRequest
    ) -> AbstractAsyncContextManager[AsyncIterator[StreamEvent]]:
        return super().stream(request) if self.requests else self._cut(super().stream(request))

    @asynccontextmanager
    async def _cut(
        self, whole: AbstractAsyncContextManager[AsyncIterator[StreamEvent]]
    ) -> AsyncGenerator[AsyncIterator[StreamEvent]]:
        async def two() -> AsyncGenerator[StreamEvent]:
            yield await anext(events)
            yield await anext(events)

        async with whole as events, aclosing(two()) as some:
            yield some


# ── after output ──────────────────────────────────────────────────────────────────────────────────


async def test_after_output_nothing_is_asked_again_unless_one_has_agreed() -> None:
    """The error says that part of the answer had been handed out (X12)."""
    rig = Rig(broken("Hello there", after=2), "never")
    async with rig.service.stream(HELLO) as events:
        seen = [await anext(events), await anext(events)]
        with pytest.raises(IncompleteStream) as raised:
            await anext(events)
        assert [event async for event in events] == []
    assert raised.value.after_output
    assert seen == [ResponseStarted(), TextDelta("Hello th")]
    assert (len(rig.llm.requests), rig.llm.open_streams, rig.notices) == (1, 0, [])


async def test_a_restarted_answer_is_announced_and_the_fold_forgets_the_void_one() -> None:
    """The text stands there once, however often it was begun; what was used up is told (X12)."""
    rig = Rig(
        broken("Hello there", after=2, error=Overloaded("busy")),
        ServerError("not yet"),
        broken("Hello there", after=3),
        "Hello there",
        policy=RetryPolicy(jitter=0.0, max_attempts=4),
        restart_streams=True,
    )
    seen = await events_of(rig.service)
    assert [event for event in seen if isinstance(event, AttemptVoided)] == [
        AttemptVoided(1, "Overloaded", "busy"),
        AttemptVoided(3, "IncompleteStream", "the scripted stream breaks off here"),
    ]
    assert text_of(seen) == "Hello there"
    assert [notice.attempt for notice in rig.notices] == [1, 2, 3]


async def test_a_void_attempt_tells_what_it_used() -> None:
    """It may be billed all the same, and the answer's own usage does not hold it."""
    first = Reply(parts=(Text("a"),), usage=Usage(50, 60), break_after=3)
    rig = Rig(first, reply("b", usage=Usage(1, 2)), restart_streams=True)
    seen = await events_of(rig.service)
    assert [event.usage for event in seen if isinstance(event, AttemptVoided)] == [Usage(50, 60)]
    fold = Accumulator()
    for event in seen:
        fold.add(event)
    assert fold.usage == Usage(1, 2)


async def test_a_call_of_a_void_attempt_is_not_in_the_answer() -> None:
    """Nobody runs a tool twice for it (X12)."""
    once = call("pay", {"amount": 5}, id="c1")
    rig = Rig(Reply(parts=(once,), break_after=3), Reply(parts=(once,)), restart_streams=True)
    seen = await events_of(rig.service)
    assert sum(isinstance(event, ToolCallStarted) for event in seen) == 2
    fold = Accumulator()
    for event in seen:
        fold.add(event)
    assert fold.response().tool_calls == (once,)


async def test_the_reader_is_told_before_the_wait_not_after_it() -> None:
    """What is void should not stand there for half a minute."""
    rig = Rig(broken("Hello there", after=2), "fine", restart_streams=True)
    async with rig.service.stream(HELLO) as events:
        async for event in events:
            if isinstance(event, AttemptVoided):
                assert rig.clock.now() == 0.0
    assert rig.clock.now() == 0.5


async def test_an_answer_that_has_come_to_its_end_is_not_asked_for_again() -> None:
    """Even if the stream breaks after it."""
    rig = Rig(broken("fine", after=4), "never", restart_streams=True)
    async with rig.service.stream(HELLO) as events:
        with pytest.raises(IncompleteStream):
            async for event in events:
                if isinstance(event, Finished):
                    assert not rig.notices
    assert len(rig.llm.requests) == 1


# ── cancellation and misuse ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_wait_is_cancelled_at_once_and_nothing_stays_open(
    streamed: bool, after: int
) -> None:
    """Half an hour is not waited for; the broken stream was closed before it (X02)."""
    policy = RetryPolicy(retry_after_cap=3600.0, total=None)
    error = RateLimited("x", retry_after=1800.0)
    asleep = anyio.Event()

    async def sleep(seconds: float) -> None:
        assert seconds >= 1800.0
        asleep.set()
        await anyio.sleep_forever()

    llm = ScriptedLLM(broken("Hello", after=after, error=error), "never")
    service = Retrying(llm, policy, restart_streams=True, sleep=sleep)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(events_of if streamed else _complete, service)
            await asleep.wait()
            assert llm.open_streams == 0
            group.cancel_scope.cancel()
    assert len(llm.requests) == 1
    assert llm.open_streams == 0


async def _complete(service: LLMService) -> None:
    await service.complete(HELLO)


async def test_what_a_callback_raises_comes_out() -> None:
    """And the stream is over."""

    def refuse(notice: RetryNotice) -> None:
        raise LookupError(notice.attempt)

    service = Retrying(
        ScriptedLLM(broken("Hello", after=1), "never"), restart_streams=True, on_retry=refuse
    )
    async with service.stream(HELLO) as events:
        with pytest.raises(LookupError):
            await anext(events)
        assert [event async for event in events] == []


async def test_a_service_that_retries_already_is_refused() -> None:
    """Two layers would multiply (X03)."""
    with pytest.raises(ConfigError, match="two retry layers multiply"):
        Retrying(Retrying(ScriptedLLM()))


async def test_tools_are_emulated_anew_for_a_restarted_answer() -> None:
    """Half a call of the void attempt does not spoil the whole one of the next (X12)."""
    pay = ToolSpec("pay", "Pays.", {"type": "object", "properties": {"amount": {}}})
    answer = '{"tool": "pay", "arguments": {"amount": 5}}'
    rig = Rig(broken(answer, after=4), answer, restart_streams=True)
    service = EmulatedTools(rig.service)
    fold = Accumulator()
    for event in await events_of(service, LLMRequest([Message.user("pay")], tools=(pay,))):
        fold.add(event)
    assert [(c.name, c.arguments) for c in fold.response().tool_calls] == [("pay", '{"amount": 5}')]
    assert len(rig.notices) == 1
