"""The scripted model and the virtual clock, which other tests stand on."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_client.errors import CallerError, IncompleteStream, Overloaded
from llm_client.service import LLMService
from llm_client.stream import (
    Accumulator,
    Finished,
    ResponseStarted,
    StreamEvent,
    TextDelta,
    UsageReported,
)
from llm_client.testing import (
    Reply,
    ScriptedLLM,
    ScriptExhausted,
    VirtualClock,
    call,
    reply,
)
from llm_client.types import (
    LLMRequest,
    LLMResponse,
    Message,
    Opaque,
    Seal,
    StopReason,
    Thinking,
    Usage,
)

pytestmark = pytest.mark.anyio

HELLO = LLMRequest([Message.user("hello")])


async def events_of(llm: LLMService, request: LLMRequest = HELLO) -> list[StreamEvent]:
    """All events of an answer."""
    async with llm.stream(request) as events:
        return [event async for event in events]


def folded(events: list[StreamEvent]) -> LLMResponse:
    """What the events amount to."""
    answer = Accumulator()
    for event in events:
        answer.add(event)
    assert answer.finished
    return answer.response()


# ── replies ───────────────────────────────────────────────────────────────────────────────────────


async def test_lines_are_said_in_order_and_requests_are_kept() -> None:
    """One line a request, however it is asked for."""
    llm = ScriptedLLM("one", reply("two"), "three")
    assert (await llm.complete(HELLO)).text == "one"
    assert folded(await events_of(llm)).text == "two"
    assert llm.left == 1
    assert llm.requests == [HELLO, HELLO]


async def test_a_streamed_answer_amounts_to_the_whole_one() -> None:
    """Text, thinking, calls, refusal, parts of other kinds, usage and stop reason."""
    line = reply(
        "some words",
        call("add", {"a": 1}, id="c1"),
        call("cut", '{"a": tru', id="c2"),
        thinking="let me see",
        refusal="no",
        usage=Usage(7, 8),
    )
    line = Reply(
        parts=(*line.parts, Opaque("x", "y", "{}"), Thinking("sealed", Seal("x", "sig"))),
        usage=line.usage,
        refusal=line.refusal,
    )
    for chunk in (1, 3, None):
        streamed = folded(await events_of(ScriptedLLM(line, chunk=chunk)))
        assert streamed == await ScriptedLLM(line).complete(HELLO)
        assert streamed.parts == line.parts
        assert (streamed.usage, streamed.refusal) == (Usage(7, 8), "no")
        assert streamed.stop_reason is StopReason.TOOL_CALLS


@pytest.mark.parametrize(("size", "pieces"), [(2, ["ab", "cd", "e"]), (None, ["abcde"])])
async def test_the_size_of_a_piece_can_be_chosen(size: int | None, pieces: list[str]) -> None:
    """For tests of what reads deltas."""
    events = await events_of(ScriptedLLM("abcde", chunk=size))
    assert [event.text for event in events if isinstance(event, TextDelta)] == pieces
    assert isinstance(events[0], ResponseStarted)
    assert isinstance(events[-2], UsageReported)
    assert isinstance(events[-1], Finished)


async def test_a_function_finds_the_line_for_a_request() -> None:
    """Plain or asynchronous, giving a text, a reply or an error."""

    def echo(request: LLMRequest) -> str:
        return request.messages[-1].text.upper()

    async def later(request: LLMRequest) -> Reply:
        await anyio.lowlevel.checkpoint()
        return reply("later")

    llm = ScriptedLLM(echo, later, lambda request: Overloaded("busy"))
    assert (await llm.complete(HELLO)).text == "HELLO"
    assert (await llm.complete(HELLO)).text == "later"
    with pytest.raises(Overloaded):
        await llm.complete(HELLO)


async def test_the_last_line_can_serve_all_later_requests() -> None:
    """For as many rounds as a test takes."""
    llm = ScriptedLLM("one", "rest", repeat=True)
    texts = [(await llm.complete(HELLO)).text for _ in range(4)]
    assert texts == ["one", "rest", "rest", "rest"]


async def test_a_script_that_has_run_out_says_which_request_had_no_line() -> None:
    """And what it asked."""
    llm = ScriptedLLM("one")
    await llm.complete(HELLO)
    with pytest.raises(ScriptExhausted, match=r"request 2 has no line.*hello"):
        await llm.complete(HELLO)
    with pytest.raises(ScriptExhausted):
        await ScriptedLLM(repeat=True).complete(LLMRequest([]))


# ── failures ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("after", range(6))
async def test_a_stream_breaks_after_exactly_so_many_events(after: int) -> None:
    """Never with a positive end; the error says whether anything had been handed out."""
    llm = ScriptedLLM(reply("abcdef", break_after=after), chunk=2)
    got: list[StreamEvent] = []
    with pytest.raises(IncompleteStream) as caught:
        async with llm.stream(HELLO) as events:
            async for event in events:
                got.append(event)  # noqa: PERF401 - kept although the loop fails
    assert len(got) == after
    assert not any(isinstance(event, Finished) for event in got)
    assert caught.value.after_output is (after > 1)
    with pytest.raises(IncompleteStream):
        await ScriptedLLM(reply("abcdef", break_after=after)).complete(HELLO)


async def test_an_error_can_come_at_once_or_later() -> None:
    """As the provider's, of whatever type the script holds."""
    error = Overloaded("busy", retry_after=3.0)
    with pytest.raises(Overloaded) as caught:
        await events_of(ScriptedLLM(error))
    assert caught.value is error
    assert not error.after_output
    with pytest.raises(Overloaded):
        await events_of(ScriptedLLM(reply("abc", error=error, break_after=2), chunk=1))
    assert error.after_output


async def test_open_and_abandoned_streams_are_counted() -> None:
    """So that a test can tell whether a stream was left properly."""
    llm = ScriptedLLM("one", "two", "three")
    async with llm.stream(HELLO) as events:
        assert llm.open_streams == 1
        _ = await anext(aiter(events))
    assert (llm.open_streams, llm.abandoned) == (0, 1)
    await events_of(llm)
    await llm.complete(HELLO)
    assert (llm.open_streams, llm.abandoned) == (0, 1)


async def test_every_event_is_a_point_where_a_task_can_be_cancelled() -> None:
    """As it is over a network, for streamed and whole answers."""
    for whole in (True, False):
        llm = ScriptedLLM("hello")
        with anyio.CancelScope() as scope:
            scope.cancel()
            await (llm.complete(HELLO) if whole else events_of(llm))
        assert scope.cancelled_caught
        assert (llm.open_streams, llm.abandoned) == (0, 1)


async def test_a_closed_model_refuses_to_speak() -> None:
    """As a service does whose connections are closed."""
    llm = ScriptedLLM("one")
    await llm.aclose()
    assert llm.closed
    with pytest.raises(CallerError):
        await llm.complete(HELLO)


async def test_delays_pass_on_the_clock_that_the_script_is_given() -> None:
    """An hour before the first event and a second before each of the six others, in no time."""
    clock = VirtualClock()
    line = reply("abcd", delay=3600.0, pace=1.0)
    llm = ScriptedLLM(line, line, chunk=1, sleep=clock.sleep)
    with anyio.fail_after(5):
        events = await events_of(llm)
        assert clock.now() == 3600.0 + len(events)
        await llm.complete(HELLO)
    assert clock.now() > 7200.0


# ── the clock ─────────────────────────────────────────────────────────────────────────────────────


@settings(deadline=None)
@given(st.lists(st.floats(0.1, 1e6), min_size=1, max_size=20))
def test_sleepers_wake_in_the_order_of_their_times(times: list[float]) -> None:
    """Whichever order they came in; each sees the time it had asked for."""
    woken: list[tuple[float, float]] = []

    async def sleeper(clock: VirtualClock, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((seconds, clock.now()))

    async def main() -> None:
        clock = VirtualClock()
        async with anyio.create_task_group() as group:
            for seconds in times:
                group.start_soon(sleeper, clock, seconds)
        assert clock.sleeping == 0

    woken.clear()
    anyio.run(main)
    assert woken == [(seconds, seconds) for seconds in sorted(times)]


async def test_a_sleeper_that_is_cancelled_holds_up_nobody() -> None:
    """The one behind it moves up, and no time passes for the one that went."""
    clock = VirtualClock(start=100.0)
    woken: list[float] = []

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(clock.now())

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(sleeper, 50.0)
            with anyio.CancelScope() as scope:
                scope.cancel()
                await clock.sleep(10.0)
    assert woken == [150.0]


async def test_work_can_take_time_and_no_sleep_takes_none() -> None:
    """`advance` is for code that is busy; a sleep of nothing only lets others run."""
    clock = VirtualClock()
    clock.advance(5)
    await clock.sleep(0)
    await clock.sleep(-1)
    assert clock.now() == 5


def test_a_scripted_model_is_a_service() -> None:
    """Checked by the type checker as much as by this."""
    llm: LLMService = ScriptedLLM("one", model="m")
    assert (llm.model, llm.retries) == ("m", False)
    assert repr(llm) == "ScriptedLLM(0 of 1 lines said)"
