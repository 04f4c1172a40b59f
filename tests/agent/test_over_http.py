"""A loop on a real connection: what goes wrong there is tried again, told, and never doubled."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from llm_client import LLMProviderConfig, create_llm_service_from_config
from llm_client.errors import AuthenticationFailed
from llm_client.retry import RetryPolicy
from llm_client.transport.deadlines import Deadlines
from power_loop import AgentConfig, AgentLoop, SQLiteStore, result_of, tool
from power_loop.events import RetryScheduled, Stamped, TextDelta, encode_event
from power_loop.session.outcome import Degraded
from power_loop.session.records import ModelEnded, ToolStarted
from tests.agent.support import check_log, events_of
from tests.llm_client.chat import DONE, HELLO_WORLD, delta, frame, whole
from tests.llm_client.transports import CANARY
from tests.loopback import (
    CLOSE,
    RESET,
    STALL,
    Answer,
    LoopbackServer,
    Received,
    answer,
    serving,
    sse,
)

pytestmark = pytest.mark.anyio

SOON = RetryPolicy(initial=0.001, jitter=0.0)
# Short silences, but time enough for what does come.
QUICK = Deadlines(first_byte=5.0, idle=0.3)


@asynccontextmanager
async def rigged(
    folder: Path,
    *answers: Answer | Callable[[Received], Answer],
    retry: RetryPolicy = SOON,
    deadlines: Deadlines = QUICK,
    provider: str = "compatible",
    tools: Any = (),
) -> AsyncGenerator[tuple[AgentLoop[None], LoopbackServer, list[Stamped]]]:
    """A loop that stores in a file and asks a scripted server, and the events it publishes."""
    seen: list[Stamped] = []
    store = SQLiteStore(folder / "s.db")
    with anyio.fail_after(20):
        async with serving(*answers) as server:
            config = LLMProviderConfig(
                model="m-1",
                provider=provider,
                base_url=f"{server.url}/v1",
                api_key=CANARY,
                timeouts=deadlines,
            )
            llm = create_llm_service_from_config(config)
            loop = AgentLoop[None](llm, tools=tools, store=store, config=AgentConfig(retry=retry))
            try:
                async with loop:
                    await store.create("s")
                    loop.events.subscribe(seen.append, inline=True)
                    yield loop, server, seen
            finally:
                await loop.close_llm()
                await store.aclose()
            await server.until_open(0)


def call_delta(arguments: str, id: str | None = "c1", *, index: int = 0) -> bytes:
    """One chunk with some of a call's arguments; the first of a call has its id."""
    call: dict[str, Any] = {"index": index, "function": {"arguments": arguments}}
    if id is not None:
        call |= {"id": id, "function": {"name": "pay", "arguments": arguments}}
    return frame({"id": "r", "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]})


# ── trying again ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fault", [STALL, RESET, CLOSE], ids=lambda fault: fault.name)
async def test_a_stream_that_falls_silent_or_breaks_is_asked_again_and_nothing_is_doubled(
    fault: Any, tmp_path: Path
) -> None:
    """The reader is told that the first try is void, and the text stands there once (S27, X12)."""
    broken = sse(delta("Hel"), fault)
    async with rigged(tmp_path, broken, sse(*HELLO_WORLD)) as (loop, server, _):
        async with loop.stream("hi", "s") as run:
            seen = [event async for event in run]
            result = await run.result()
        assert (result.status, result.final_text) == ("completed", "Hello world")
        assert len(server.requests) == 2
        assert [m.text for m in await loop.get_messages("s")] == ["hi", "Hello world"]
        await check_log(loop, "s")
    shown = [each.event for each in seen if isinstance(each.event, (TextDelta, ModelEnded))]
    void = next(n for n, event in enumerate(shown) if isinstance(event, ModelEnded))
    first = shown[void]
    assert isinstance(first, ModelEnded)
    assert (first.status, first.partial) == ("failed", "Hel")
    after = "".join(event.text for event in shown[void:] if isinstance(event, TextDelta))
    assert after == "Hello world"
    assert len(events_of(RetryScheduled, seen)) == 1


@pytest.mark.parametrize("streamed", [False, True])
async def test_calls_of_an_answer_that_broke_off_are_run_once_and_only_from_the_whole_one(
    streamed: bool, tmp_path: Path
) -> None:
    """The first call was complete before the connection broke; it ran all the same only for the
    answer that came to its end (X12).
    """
    paid: list[int] = []

    @tool
    async def pay(amount: int) -> str:
        """Pays."""
        paid.append(amount)
        return "paid"

    calls = (call_delta('{"amount": '), call_delta("5}", None))
    second = call_delta('{"amount": 7', "c2", index=1)
    broken = sse(*calls, second, RESET)
    good = sse(*calls, delta(finish="tool_calls"), DONE)
    last = sse(*HELLO_WORLD)
    async with rigged(tmp_path, broken, good, last, tools=[pay]) as (loop, server, _):
        if streamed:
            async with loop.stream("pay", "s") as run:
                result = await run.result()
        else:
            result = await loop.send("pay", "s", on_busy="fail")
        assert result.status == "completed"
        assert paid == [5]
        assert len(server.requests) == 3
        log = await check_log(loop, "s")
        assert sum(isinstance(record, ToolStarted) for record in log) == 1


async def test_attempts_are_counted_in_one_place(tmp_path: Path) -> None:
    """As many requests reach the server as the policy allows, none of them before the time that the
    provider asked for (X03).
    """
    busy = answer(503, b'{"error": {"message": "busy"}}', {"retry-after-ms": "40"})
    policy = RetryPolicy(max_attempts=4, initial=0.001, jitter=0.5)
    async with rigged(tmp_path, busy, retry=policy) as (loop, server, seen):
        result = await loop.send("hi", "s")
        assert isinstance(result.outcome, Degraded)
        assert result.outcome.attempts == len(server.requests) == 4
        waits = [event.delay for event in events_of(RetryScheduled, seen)]
        assert len(waits) == 3
        assert all(0.04 <= wait <= 0.06 for wait in waits)


@pytest.mark.parametrize("again", [True, False])
async def test_a_request_that_nobody_answered_is_repeated_only_if_the_policy_says_so(
    again: bool, tmp_path: Path
) -> None:
    """The provider may have done the work: the event says that it was asked again, or the result
    that it was not (X09).
    """
    policy = RetryPolicy(max_attempts=2, initial=0.001, retry_sent_timeouts=again)
    silent = Deadlines(first_byte=0.1)
    async with rigged(
        tmp_path, [STALL], answer(200, whole("late")), retry=policy, deadlines=silent
    ) as (loop, server, seen):
        result = await loop.send("hi", "s")
        assert len(server.requests) == 1 + again
        assert result.status == ("completed" if again else "degraded")
        told = [event.error_type for event in events_of(RetryScheduled, seen)]
        assert told == ["Timeout"] * again
        ended = [r for r in await check_log(loop, "s") if isinstance(r, ModelEnded)]
        assert ended[0].error is not None
        assert ended[0].error.type == "Timeout"


async def test_a_connection_that_never_came_about_is_tried_again_x09(tmp_path: Path) -> None:
    """Nothing was sent, so nothing can have been billed: no policy forbids it (X09)."""
    policy = RetryPolicy(max_attempts=3, initial=0.001, retry_sent_timeouts=False)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    address = listener.extra(anyio.abc.SocketAttribute.local_port)
    await listener.aclose()
    config = LLMProviderConfig(
        model="m-1", provider="compatible", base_url=f"http://127.0.0.1:{address}/v1", api_key="k"
    )
    llm = create_llm_service_from_config(config)
    store = SQLiteStore(tmp_path / "s.db")
    with anyio.fail_after(20):
        async with AgentLoop[None](llm, store=store, config=AgentConfig(retry=policy)) as loop:
            result = await loop.send("hi")
            assert isinstance(result.outcome, Degraded)
            assert result.outcome.attempts == 3
            assert "ConnectFailed" in result.outcome.reason
            await loop.close_llm()
        await store.aclose()


# ── secrets ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_key_that_the_provider_quotes_reaches_no_event_store_result_or_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither when the run fails nor when it is only one of its attempts that does (Z10)."""
    caplog.set_level(logging.DEBUG)
    quoted = msgspec.json.encode({"error": {"message": f"Incorrect API key: {CANARY}"}})
    passing = answer(503, b'{"error": {"message": "busy with %b"}}' % CANARY.encode())
    async with rigged(tmp_path, passing, answer(401, quoted)) as (loop, server, seen):
        with pytest.raises(AuthenticationFailed) as refused:
            await loop.send("hi", "s")
        assert f"Bearer {CANARY}" in server.requests[1].headers["authorization"]
        told = repr(refused.value) + str(refused.value) + repr(result_of(refused.value))
        told += repr(loop) + repr(loop.llm) + repr(await check_log(loop, "s"))
        told += "".join(encode_event(event).decode() for event in seen)
    assert "Incorrect API key" in told
    assert "busy with" in told
    assert CANARY not in told
    assert CANARY not in caplog.text
    stored = b"".join([await file.read_bytes() async for file in anyio.Path(tmp_path).iterdir()])
    assert b"busy with" in stored
    assert CANARY.encode() not in stored


# ── what has to come back as it was ───────────────────────────────────────────────────────────────


async def test_signed_reasoning_comes_back_from_the_store_on_the_message_it_came_with(
    tmp_path: Path,
) -> None:
    """Another program goes on with the session and sends it unchanged (R05)."""
    details = [
        {"type": "reasoning.text", "text": "Hm.", "signature": "c2lnbmVk", "index": 0},
        {"type": "reasoning.encrypted", "data": "b3BhcXVl", "index": 1},
    ]
    message = {"role": "assistant", "content": "First.", "reasoning_details": details}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    first = answer(200, msgspec.json.encode({"id": "r", "choices": [choice]}))
    async with rigged(tmp_path, first, provider="openrouter") as (loop, _, _):
        assert (await loop.send("one", "s")).final_text == "First."
    second = answer(200, whole("Second."))
    async with rigged(tmp_path, second, provider="openrouter") as (loop, server, _):
        await loop.send("two", "s")
        sent = msgspec.json.decode(server.requests[0].body)["messages"]
    assert [each["role"] for each in sent] == ["user", "assistant", "user"]
    assert sent[1]["reasoning_details"] == details


async def test_deepseek_gets_its_reasoning_back_after_a_tool_of_a_stored_session_r11(
    tmp_path: Path,
) -> None:
    """Also an empty one, and also from a program that only finds it in the store (R11)."""

    @tool
    async def pay(amount: int) -> str:
        """Pays."""
        return f"paid {amount}"

    thinks = frame({"choices": [{"index": 0, "delta": {"reasoning_content": "I pay."}}]})
    finish = (delta(finish="tool_calls"), DONE)
    one = sse(thinks, call_delta('{"amount": 1}'), *finish)
    two = sse(call_delta('{"amount": 2}', "c2"), *finish)
    three = sse(*HELLO_WORLD)
    async with (
        rigged(tmp_path, one, two, three, provider="deepseek", tools=[pay]) as rig,
        rig[0].stream("pay", "s") as run,
    ):
        assert (await run.result()).final_text == "Hello world"
    async with rigged(tmp_path, answer(200, whole("x")), provider="deepseek", tools=[pay]) as rig:
        await rig[0].send("and now?", "s")
        sent = msgspec.json.decode(rig[1].requests[0].body)["messages"]
    echoed = [each.get("reasoning_content") for each in sent if each["role"] == "assistant"]
    assert echoed[:2] == ["I pay.", ""]


# ── runs beside each other ────────────────────────────────────────────────────────────────────────

_WHO: ContextVar[str] = ContextVar("_WHO", default="nobody")


async def test_each_run_has_the_context_of_its_own_caller_c03(tmp_path: Path) -> None:
    """What a tool sets is seen neither by the run beside it nor by its caller (fault C03)."""
    seen: dict[str, list[str]] = {}

    @tool
    async def pay(amount: int) -> str:
        """Pays."""
        mine = _WHO.get()
        _WHO.set(f"a tool of {mine}")
        await anyio.lowlevel.checkpoint()
        seen.setdefault(mine, []).append(_WHO.get())
        return f"paid {amount}"

    def script(received: Received) -> Answer:
        if b'"tool"' in received.body:
            return answer(200, whole("done"))
        wanted = {"name": "pay", "arguments": '{"amount": 1}'}
        call = {"id": "c", "type": "function", "function": wanted}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
        return answer(200, msgspec.json.encode({"id": "r", "choices": [choice]}))

    async with rigged(tmp_path, script, tools=[pay]) as rig:
        loop = rig[0]

        async def run(name: str) -> None:
            _WHO.set(name)
            assert (await loop.send("pay")).status == "completed"
            assert _WHO.get() == name

        async with anyio.create_task_group() as tasks:
            for name in ("ann", "bob", "eve"):
                tasks.start_soon(run, name)
    assert seen == {name: [f"a tool of {name}"] for name in ("ann", "bob", "eve")}
    assert _WHO.get() == "nobody"
