"""HttpLLMService over a real socket, with the real codec and both transports."""

from __future__ import annotations

import gzip
import logging
import traceback
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
import pytest
from msgspec import structs

from llm_client.codecs.openai_chat import OpenAIChatCodec
from llm_client.errors import (
    AuthenticationFailed,
    CallerError,
    ConfigError,
    ConnectionLost,
    IncompleteStream,
    LLMError,
    LocalProtocolError,
    MalformedResponse,
    Overloaded,
    ProviderError,
    RateLimited,
    ServerError,
    Timeout,
)
from llm_client.http_service import HttpLLMService, HttpStream, RequestDefaults
from llm_client.stream import Accumulator, Finished, TextDelta
from llm_client.transport.base import chain_of
from llm_client.transport.deadlines import Deadlines
from llm_client.types import LLMRequest, LLMResponse, StopReason
from tests.llm_client.chat import DONE, HELLO, HELLO_WORLD, delta, frame, service_at, whole
from tests.llm_client.transports import CANARY, DRIVERS, TRANSPORTS, CountedTransport
from tests.loopback import (
    CLOSE,
    RESET,
    STALL,
    Answer,
    Drip,
    LoopbackServer,
    answer,
    chunk,
    head,
    serving,
    sse,
)

pytestmark = pytest.mark.anyio

LIMIT = 10.0
# Short silences, but time enough for what does come, on a busy machine too.
QUICK = Deadlines(first_byte=5.0, idle=0.3)


class Rig:
    """A server, a transport and a service between them."""

    def __init__(
        self, server: LoopbackServer, transport: CountedTransport, service: HttpLLMService
    ) -> None:
        self.server = server
        self.transport = transport
        self.service = service


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
    driver: tuple[str, str],
    *answers: Answer,
    deadlines: Deadlines | None = None,
    defaults: RequestDefaults | None = None,
    key: str = CANARY,
) -> AsyncGenerator[Rig]:
    """A rig, within a time limit; afterwards nothing may be left of any exchange."""
    with anyio.fail_after(LIMIT):
        async with serving(*answers) as server:
            transport = TRANSPORTS[driver[0]]()
            service = service_at(server, transport, deadlines=deadlines, defaults=defaults, key=key)
            try:
                yield Rig(server, transport, service)
                assert transport.in_flight == 0
            finally:
                await service.aclose()
            await server.until_open(0)


async def streamed(service: HttpLLMService, request: LLMRequest = HELLO) -> LLMResponse:
    """The answer, read as a stream."""
    arrived = Accumulator()
    async with service.stream(request) as events:
        async for event in events:
            arrived.add(event)
    assert arrived.finished
    return arrived.response()


async def failure_of(service: HttpLLMService, *, stream: bool = True) -> LLMError:
    """The error in which a request ends."""
    with pytest.raises(LLMError) as caught:
        await (streamed(service) if stream else service.complete(HELLO))
    return caught.value


# ── answers ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_streamed_answer_is_handed_out_as_events(driver: tuple[str, str]) -> None:
    """Text, model, stop reason and the provider's id of the request."""
    script = sse(*HELLO_WORLD, headers={"x-request-id": "req-7"})
    async with rigged(driver, script) as rig:
        async with rig.service.stream(HELLO) as events:
            got = [event async for event in events]
            assert isinstance(events, HttpStream)
            assert events.request_id == "req-7"
        assert [event.text for event in got if isinstance(event, TextDelta)] == [
            "Hel",
            "lo",
            " world",
        ]
        assert got[-1] == Finished(StopReason.END, "stop")


async def test_a_whole_answer_is_asked_for_without_streaming(driver: tuple[str, str]) -> None:
    """No listener, no server-sent events."""
    script = answer(200, whole("hi"), {"x-request-id": "req-8"})
    async with rigged(driver, script) as rig:
        response = await rig.service.complete(HELLO)
        assert (response.text, response.request_id) == ("hi", "req-8")
        assert response.usage.input_tokens == 3
        body = msgspec.json.decode(rig.server.requests[0].body)
        assert not body.get("stream")


async def test_the_service_fills_in_what_the_request_leaves_open(driver: tuple[str, str]) -> None:
    """Model, limits and extras, unless the request says otherwise."""
    usual = RequestDefaults(max_output_tokens=50, temperature=0.5, extra={"a": 1, "b": 2})
    async with rigged(driver, answer(200, whole("hi")), defaults=usual) as rig:
        await rig.service.complete(HELLO)
        own = structs.replace(
            HELLO, model="m-2", max_output_tokens=7, temperature=0.0, extra={"b": 3}
        )
        await rig.service.complete(own)
        first, second = (msgspec.json.decode(one.body) for one in rig.server.requests)
        keys = ("model", "max_tokens", "temperature", "a", "b")
        assert [first[key] for key in keys] == ["m-1", 50, 0.5, 1, 2]
        assert [second[key] for key in keys] == ["m-2", 7, 0.0, 1, 3]


async def test_requests_in_a_row_share_one_connection(driver: tuple[str, str]) -> None:
    """Streamed ones too: what follows the positive end is read before the block is left."""
    late_end: Answer = [*sse(*HELLO_WORLD, end=False), Drip(chunk(b""), size=2)]
    async with rigged(driver, late_end, answer(200, whole("x")), late_end) as rig:
        await streamed(rig.service)
        await rig.service.complete(HELLO)
        await streamed(rig.service)
        assert rig.server.connections == 1


async def test_a_server_that_keeps_the_stream_open_after_the_end_holds_nobody_up(
    driver: tuple[str, str],
) -> None:
    """The answer is complete with its positive end, whatever the connection does then."""
    for after in (STALL, RESET, CLOSE):
        script: Answer = [*sse(*HELLO_WORLD, end=False), after]
        async with rigged(driver, script) as rig:
            assert (await streamed(rig.service)).text == "Hello world"


async def test_a_connection_that_breaks_after_the_finish_reason_has_lost_nothing(
    driver: tuple[str, str],
) -> None:
    """The model had finished; only the protocol's last word is missing (S10)."""
    for cut in (0, 5):
        script: Answer = [*sse(*HELLO_WORLD[:-1], DONE[:cut] or b":\n", end=False), RESET]
        async with rigged(driver, script) as rig:
            response = await streamed(rig.service)
            assert (response.text, response.stop_reason) == ("Hello world", StopReason.END)


async def test_a_server_that_ignores_the_wish_to_stream_is_understood(
    driver: tuple[str, str],
) -> None:
    """One JSON body instead of events."""
    async with rigged(driver, answer(200, whole("all at once"))) as rig:
        assert (await streamed(rig.service)).text == "all at once"


async def test_an_answer_that_comes_compressed_all_the_same_is_read(
    driver: tuple[str, str],
) -> None:
    """Nobody asked for gzip; some proxies compress anyway."""
    coded = {"content-encoding": "gzip"}
    packed = gzip.compress(b"".join(HELLO_WORLD))
    halves = (packed[:20], packed[20:])
    script = (answer(200, gzip.compress(whole("hi")), coded), sse(*halves, headers=coded))
    async with rigged(driver, *script) as rig:
        assert (await rig.service.complete(HELLO)).text == "hi"
        assert (await streamed(rig.service)).text == "Hello world"
        assert rig.server.requests[0].headers["accept-encoding"] == "identity"


async def test_an_unreadable_compression_is_a_typed_error(driver: tuple[str, str]) -> None:
    """An unknown kind, or damage."""
    unknown = answer(200, b"x", {"content-encoding": "br"})
    damaged = answer(200, b"not gzip at all", {"content-encoding": "gzip"})
    async with rigged(driver, unknown, damaged) as rig:
        assert "'br'" in (await failure_of(rig.service, stream=False)).message
        assert isinstance(await failure_of(rig.service, stream=False), MalformedResponse)


# ── errors ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "complete"])
@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (401, AuthenticationFailed, False),
        (429, RateLimited, True),
        (500, ServerError, True),
        (503, Overloaded, True),
    ],
)
async def test_an_error_status_becomes_the_typed_error(
    driver: tuple[str, str], status: int, kind: type[LLMError], retryable: bool, stream: bool
) -> None:
    """With status, wait, request id and provider."""
    body = msgspec.json.encode({"error": {"message": "no", "code": "why"}})
    script = answer(status, body, {"retry-after": "7", "x-request-id": "req-9"})
    async with rigged(driver, script) as rig:
        error = await failure_of(rig.service, stream=stream)
        assert type(error) is kind
        assert (error.status, error.retryable, error.retry_after) == (status, retryable, 7.0)
        assert (error.request_id, error.after_output) == ("req-9", False)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "complete"])
@pytest.mark.parametrize("status", [200, 502])
async def test_a_page_of_html_is_a_typed_error_with_an_excerpt(
    driver: tuple[str, str], status: int, stream: bool
) -> None:
    """What a proxy in between answers with, under either status (S29)."""
    page = b"<html><head><title>Bad gateway</title></head>" + b"<p>sorry</p>" * 2000
    script = answer(status, page, {"content-type": "text/html"})
    async with rigged(driver, script) as rig:
        error = await failure_of(rig.service, stream=stream)
        assert isinstance(error, ProviderError if status == 502 else MalformedResponse)
        assert error.status in (status, None)
        assert error.retryable
        assert "Bad gateway" in error.message
        assert len(error.message) < 1000


async def test_an_error_whose_body_never_ends_is_told_by_its_status(
    driver: tuple[str, str],
) -> None:
    """The status is known; a stalled, cut or endless body does not hide it."""
    for rest in ([STALL], [CLOSE], [b"x" * 200_000, CLOSE]):
        script: Answer = [head(500, {"content-length": "999999"}), b"oh ", *rest]
        async with rigged(driver, script, deadlines=QUICK) as rig:
            error = await failure_of(rig.service)
            assert (type(error), error.status) == (ServerError, 500)


async def test_an_error_inside_the_stream_says_whether_something_had_been_handed_out(
    driver: tuple[str, str],
) -> None:
    """Before any output it may be tried again blindly, afterwards not (S08)."""
    trouble = frame({"error": {"message": "overloaded", "type": "overloaded_error"}})
    for before, after_output in (((), False), ((delta("Hel"),), True)):
        async with rigged(driver, sse(*before, trouble, DONE)) as rig:
            error = await failure_of(rig.service)
            assert isinstance(error, Overloaded)
            assert error.after_output is after_output
            assert error.provider


@pytest.mark.parametrize(
    ("fault", "kind"), [(RESET, ConnectionLost), (CLOSE, ConnectionLost), (STALL, Timeout)]
)
async def test_a_stream_that_breaks_off_is_never_a_completed_answer(
    driver: tuple[str, str], fault: Any, kind: type[LLMError]
) -> None:
    """The text that had come is not an answer, and the error says that some had (S27)."""
    async with rigged(driver, sse(delta("Hel"), fault), deadlines=QUICK) as rig:
        error = await failure_of(rig.service)
        assert isinstance(error, kind)
        assert error.after_output
        assert error.sent


async def test_a_stream_that_just_ends_is_never_a_completed_answer(
    driver: tuple[str, str],
) -> None:
    """A clean end of the bytes is not the end of an answer (S09)."""
    async with rigged(driver, sse(delta("Hel"))) as rig:
        error = await failure_of(rig.service)
        assert isinstance(error, IncompleteStream)
        assert error.after_output


async def test_after_an_error_the_stream_is_over(driver: tuple[str, str]) -> None:
    """Iterating on gives nothing, neither events nor the error again."""
    async with (
        rigged(driver, sse(delta("Hel"), RESET)) as rig,
        rig.service.stream(HELLO) as events,
    ):
        with pytest.raises(ConnectionLost):
            _ = [event async for event in events]
        assert [event async for event in events] == []


async def test_pings_keep_a_thinking_model_alive(driver: tuple[str, str]) -> None:
    """Comments are bytes: a model that thinks for longer than the idle deadline is not cut off
    (S28).
    """
    ping = chunk(b": ping\n\n")
    script: Answer = [
        *sse(delta("Hel"), end=False),
        Drip(ping * 6, size=len(ping), pause=0.1),
        *(chunk(piece) for piece in HELLO_WORLD[1:]),
        chunk(b""),
    ]
    async with rigged(driver, script, deadlines=Deadlines(idle=0.4)) as rig:
        assert (await streamed(rig.service)).text == "Hello world"


async def test_an_illegal_request_is_refused_before_anything_is_sent(
    driver: tuple[str, str],
) -> None:
    """The rule is the codec's; the service holds no place meanwhile."""
    async with rigged(driver, answer(200, whole("x"))) as rig:
        empty = LLMRequest([])
        with pytest.raises(LocalProtocolError):
            await rig.service.complete(empty)
        with pytest.raises(LocalProtocolError):
            await streamed(rig.service, empty)
        assert rig.server.connections == 0


# ── leaving early ─────────────────────────────────────────────────────────────────────────────────


async def test_leaving_the_block_early_closes_the_connection(driver: tuple[str, str]) -> None:
    """At once, although the server would go on for ever."""
    async with rigged(driver, sse(delta("Hel"), STALL)) as rig:
        async with rig.service.stream(HELLO) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    break
        assert rig.transport.in_flight == 0
        await rig.server.until_open(0)
        assert [event async for event in events] == [], "the stream is over with its block"


async def test_a_stream_that_is_made_but_not_entered_holds_nothing(
    driver: tuple[str, str],
) -> None:
    """Resources are taken on entering; there is no coroutine that was never awaited (faults C06,
    C07).
    """
    async with rigged(driver, answer(200, whole("x"))) as rig:
        _ = rig.service.stream(HELLO)
        assert rig.transport.in_flight == 0
        assert rig.server.connections == 0


async def test_a_timeout_around_the_reading_task_is_honoured_within_the_stream_c04(
    driver: tuple[str, str],
) -> None:
    """Reading happens in the task that reads, not in a hidden one (fault C04)."""
    async with rigged(driver, sse(delta("Hel"), STALL)) as rig:
        async with rig.service.stream(HELLO) as events:
            with anyio.move_on_after(0.05) as scope:
                _ = [event async for event in events]
            assert scope.cancelled_caught
        assert rig.transport.in_flight == 0


@pytest.mark.parametrize("request_", ["hello", [{"role": "user", "content": "hello"}], None])
async def test_what_is_no_request_is_refused_with_what_to_write(
    driver: tuple[str, str], request_: Any
) -> None:
    """And nothing is sent."""
    advice = r"is of type \w+; make an LLMRequest.*Message\.user"
    async with rigged(driver) as rig:
        with pytest.raises(CallerError, match=advice):
            rig.service.check(request_)
        with pytest.raises(CallerError, match=advice):
            await rig.service.complete(request_)
        with pytest.raises(CallerError, match=advice):
            await streamed(rig.service, request_)
        assert rig.server.connections == 0


# ── secrets ───────────────────────────────────────────────────────────────────────────────────────


async def test_the_key_is_in_no_error_log_frame_or_repr(
    driver: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Even if the provider quotes it back (Z10)."""
    caplog.set_level(logging.DEBUG)
    quoted = msgspec.json.encode({"error": {"message": f"Incorrect API key: {CANARY}"}})
    scripts: list[Answer] = [
        answer(401, quoted),
        sse(delta("x"), b"data: " + quoted + b"\n\n"),
        [RESET],
        sse(delta("x"), STALL),
        [b"garbage\r\n\r\n", CLOSE],
    ]
    for script in scripts:
        async with rigged(driver, script, deadlines=QUICK) as rig:
            error = await failure_of(rig.service)
            report = traceback.TracebackException.from_exception(error, capture_locals=True)
            told = "".join(report.format()) + repr(error) + str(error) + repr(vars(error))
            told += repr(rig.service) + repr(rig.transport)
            assert CANARY not in told
    assert CANARY not in caplog.text


PLAIN = "zebra/9f31+crossing=="
"""A key that nothing gives away."""


def quoting(where: str, quoted: str = PLAIN) -> Answer:
    """A refusal that quotes the key in one place."""
    told: dict[str, Any] = {"message": "wrong"}
    headers: dict[str, str] = {}
    match where:
        case "header":
            headers["x-request-id"] = quoted
        case "retry":
            told["message"] = f"{quoted} is too fast, please try again in 2s"
        case "excerpt":
            told["message"] = f"{'x' * (490 - len('wrong'))} {quoted}"
        case "failed_generation":
            told |= {where: f"<call>{quoted}</call>", "code": "tool_use_failed"}
        case _:
            told[where] = f"for {quoted}"
    return answer(400, msgspec.json.encode({"error": told}), headers)


@pytest.mark.parametrize(
    "where",
    ["message", "code", "type", "request_id", "failed_generation", "header", "retry", "excerpt"],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_the_key_is_hidden_wherever_the_provider_quotes_it(
    driver: tuple[str, str], where: str, stream: bool
) -> None:
    """In each field that an error keeps, in an excerpt that ends within it, and in what comes in
    the middle of a stream (Z10).
    """
    frame_of = msgspec.json.encode({"error": {where: f"for {PLAIN}", "message": "wrong"}})
    scripts = [quoting(where), sse(delta("x"), b"data: " + frame_of + b"\n\n")]
    for script in scripts if stream else scripts[:1]:
        async with rigged(driver, script, key=PLAIN) as rig:
            error = await failure_of(rig.service, stream=stream)
            assert PLAIN[:9] not in shown(error)


async def test_the_key_is_hidden_in_what_led_to_an_error(driver: tuple[str, str]) -> None:
    """An answer that cannot be decoded is held whole by the errors of the decoders; its excerpt
    may end within the key (Z10).
    """
    cut = b"x" * 490 + b" " + PLAIN.encode() + b" more"
    for body in (f"oops {PLAIN}".encode(), b"\xff" + PLAIN.encode(), cut):
        async with rigged(driver, answer(200, body), key=PLAIN) as rig:
            error = await failure_of(rig.service, stream=False)
            assert isinstance(error, MalformedResponse)
            assert PLAIN[:9] not in shown(error)


async def test_a_key_in_the_address_is_hidden_as_well(driver: tuple[str, str]) -> None:
    """Some providers want it there."""
    with anyio.fail_after(LIMIT):
        async with serving(quoting("code", "key-in-address")) as server:
            service = HttpLLMService(
                OpenAIChatCodec(),
                TRANSPORTS[driver[0]](),
                base_url=f"{server.url}/v1?api-key=key-in-address",
                model="m",
            )
            error = await failure_of(service, stream=False)
            await service.aclose()
    assert error.code == "for ***"
    assert "key-in-address" not in shown(error)


def shown(error: BaseException) -> str:
    """All that logs and crash reporters can show of `error` and what led to it."""
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    told = "".join(report.format())
    for link in chain_of(error):
        told += repr(link) + str(link) + repr(vars(link)) + repr(link.args)
    return told


def test_a_service_shows_where_it_asks_and_what_but_not_with_which_key() -> None:
    """The repr is for logs."""
    service = HttpLLMService(
        OpenAIChatCodec(),
        TRANSPORTS["httpx"](),
        base_url="https://api.example.com/v1?key=abc",
        model="m",
        headers={"authorization": f"Bearer {CANARY}"},
        provider="example",
    )
    assert repr(service) == "HttpLLMService(example at https://api.example.com, model 'm')"
    assert service.retries is False


def test_a_bad_address_or_header_is_refused_when_the_service_is_made() -> None:
    """Not at the first request."""
    for url, headers in (("nonsense", {}), ("http://x", {"authorization": "Bearer a\nb"})):
        with pytest.raises(ConfigError):
            HttpLLMService(
                OpenAIChatCodec(),
                TRANSPORTS["httpx"](),
                base_url=url,
                model="m",
                headers=headers,
            )
