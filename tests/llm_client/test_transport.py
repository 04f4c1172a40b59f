"""Both transports over a real socket: deadlines, faults, and what cancellation leaves behind."""

from __future__ import annotations

import logging
import re
import socket
import traceback
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest
from msgspec import structs

from llm_client.errors import (
    CallerError,
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    LLMError,
    MalformedResponse,
    Phase,
    Timeout,
)
from llm_client.transport.base import SafeHeaders, WireRequest, checked_base_url, read_whole
from llm_client.transport.deadlines import Deadlines
from llm_client.transport.httpx_transport import HttpxTransport
from tests.llm_client.transports import (
    CANARY,
    DRIVERS,
    TRANSPORTS,
    CountedTransport,
    MakeTransport,
    request_to,
)
from tests.loopback import (
    CLOSE,
    HALF_CLOSE,
    RESET,
    STALL,
    Answer,
    Drip,
    LoopbackServer,
    Received,
    answer,
    chunk,
    head,
    serving,
    sse,
)

pytestmark = pytest.mark.anyio

LIMIT = 10.0


@pytest.fixture(params=DRIVERS, ids=lambda pair: "-".join(pair))
def driver(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A transport and the event loop to run it on."""
    pair: tuple[str, str] = request.param
    return pair


@pytest.fixture
def anyio_backend(driver: tuple[str, str]) -> str:
    """The driver's event loop."""
    return driver[1]


@pytest.fixture
def make(driver: tuple[str, str]) -> MakeTransport:
    """Makes the driver's transport."""
    return TRANSPORTS[driver[0]]


@asynccontextmanager
async def opened(
    make: MakeTransport,
    *answers: Answer,
    deaf: bool = False,
    max_connections: int = 10,
) -> AsyncGenerator[tuple[CountedTransport, LoopbackServer]]:
    """A server and a transport, within a time limit; afterwards no place may be taken, and closing
    the transport must close every connection."""
    with anyio.fail_after(LIMIT):
        async with serving(*answers, deaf=deaf) as server:
            transport = make(max_connections=max_connections)
            try:
                yield transport, server
                assert transport.in_flight == 0
            finally:
                await transport.aclose()
            if not deaf:  # who does not read does not notice either
                await server.until_open(0)


async def ask(transport: CountedTransport, request: WireRequest) -> tuple[int, bytes]:
    """Status and body."""
    async with transport.send(request) as response:
        return response.status, await read_whole(response, 10_000_000)


async def failure_of(transport: CountedTransport, request: WireRequest) -> LLMError:
    """The error that `request` ends in."""
    with pytest.raises(LLMError) as caught:
        await ask(transport, request)
    return caught.value


# ── the plain path ────────────────────────────────────────────────────────────────────────────────


async def test_a_request_arrives_as_it_was_sent_and_its_answer_comes_back(
    make: MakeTransport,
) -> None:
    """Method, path, headers, joined body; status, lower-case headers, body."""
    reply = answer(201, b"hello", {"X-Request-Id": "r1"})
    async with opened(make, reply) as (transport, server):
        async with transport.send(request_to(server, body=b"0123456789", pieces=3)) as response:
            assert response.status == 201
            assert response.headers["x-request-id"] == "r1"
            assert await read_whole(response, 100) == b"hello"
        (received,) = server.requests
        assert (received.method, received.target) == ("POST", "/v1/chat/completions")
        assert received.body == b"0123456789"
        assert received.headers["content-length"] == "10"
        assert received.headers["authorization"] == f"Bearer {CANARY}"
        assert "cookie" not in received.headers


async def test_a_connection_is_used_again_after_an_answer_was_read_to_its_end(
    make: MakeTransport,
) -> None:
    """Five requests, streamed and whole, one connection."""
    async with opened(make, sse(b"a", b"b"), answer(200, b"x")) as (transport, server):
        for _ in range(5):
            await ask(transport, request_to(server))
        assert server.connections == 1


async def test_a_streamed_answer_comes_piece_by_piece_while_it_is_being_sent(
    make: MakeTransport,
) -> None:
    """The first piece is handed out although the server holds the rest back."""
    async with (
        opened(make, sse(b"first", STALL)) as (transport, server),
        transport.send(request_to(server)) as response,
    ):
        assert await anext(aiter(response)) == b"first"


async def test_an_error_status_is_an_answer_like_any_other(make: MakeTransport) -> None:
    """The transport knows nothing of errors above HTTP, and follows no redirect."""
    away = {"location": "http://127.0.0.1:1/"}
    async with opened(make, answer(500, b"no"), answer(307, b"", away)) as (transport, server):
        assert await ask(transport, request_to(server)) == (500, b"no")
        assert (await ask(transport, request_to(server)))[0] == 307


async def test_a_body_larger_than_all_buffers_is_sent_whole(make: MakeTransport) -> None:
    """Four million bytes, in several pieces."""
    body = bytes(range(256)) * 16_000
    async with opened(make, answer(200, b"ok")) as (transport, server):
        await ask(transport, request_to(server, body=body, pieces=7))
        assert server.requests[0].body == body


async def test_an_answer_without_a_length_ends_with_its_connection(make: MakeTransport) -> None:
    """As HTTP/1.0 servers do it."""
    script: Answer = [head(200, {"content-type": "text/plain"}), b"all of it", CLOSE]
    async with opened(make, script) as (transport, server):
        assert await ask(transport, request_to(server)) == (200, b"all of it")


# ── deadlines ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("script", "phase"),
    [
        ([STALL], "first_byte"),
        ([b"HTTP/1.1 200 OK\r\n", STALL], "first_byte"),
        # Headers alone end nothing: servers send them at once and think afterwards.
        (sse(STALL), "first_byte"),
        (sse(b"data: 1\n\n", STALL), "idle"),
        ([head(200, {"content-length": "9"}), b"some", STALL], "idle"),
    ],
    ids=["silence", "half-a-head", "head-then-silence", "stalled-stream", "stalled-body"],
)
async def test_each_silence_is_ended_by_the_deadline_of_its_own_phase_s27(
    make: MakeTransport, script: Answer, phase: Phase
) -> None:
    """The other deadlines are far away, so it can only be this one (S27)."""
    async with opened(make, script) as (transport, server):
        request = structs.replace(
            request_to(server), deadlines=structs.replace(Deadlines(), **{phase: 0.05})
        )
        error = await failure_of(transport, request)
        assert isinstance(error, Timeout)
        assert (error.phase, error.seconds) == (phase, 0.05)
        assert error.sent
        assert error.retryable


async def test_a_peer_that_does_not_read_runs_into_the_write_deadline(make: MakeTransport) -> None:
    """More is sent than all buffers on the way can hold."""
    async with opened(make, deaf=True) as (transport, server):
        request = request_to(server, body=b"x" * 8_000_000, write=0.1)
        error = await failure_of(transport, request)
        assert isinstance(error, Timeout)
        assert error.phase == "write"
        assert error.sent


async def test_a_handshake_that_never_comes_runs_into_the_connect_deadline(
    make: MakeTransport,
) -> None:
    """The peer accepts the connection and does not speak TLS; nothing of the request was sent."""
    async with opened(make, deaf=True) as (transport, server):
        server.scheme = "https"
        error = await failure_of(transport, request_to(server, connect=0.1))
        assert isinstance(error, Timeout)
        assert error.phase == "connect"
        assert not error.sent


async def test_waiting_for_a_place_runs_into_the_pool_deadline(make: MakeTransport) -> None:
    """One place, taken by an answer that stalls."""
    async with (
        opened(make, sse(b"a", STALL), max_connections=1) as (transport, server),
        transport.send(request_to(server)),
    ):
        error = await failure_of(transport, request_to(server, pool=0.05))
        assert isinstance(error, Timeout)
        assert error.phase == "pool"
        assert not error.sent


async def test_a_steady_drip_is_ended_by_the_total_deadline_only(make: MakeTransport) -> None:
    """Each byte resets the idle deadline; the total one does not care."""
    drip = Drip(b"x" * 10_000, pause=0.02)
    script: Answer = [head(200, {"content-length": "10000"}), drip]
    async with opened(make, script) as (transport, server):
        error = await failure_of(transport, request_to(server, idle=5.0, total=0.3))
        assert isinstance(error, Timeout)
        assert (error.phase, error.seconds) == ("total", 0.3)


async def test_any_byte_resets_the_idle_deadline(make: MakeTransport) -> None:
    """Comments of four bytes, spread over several times the idle deadline (S28)."""
    pings = Drip(chunk(b": p\n") * 8, size=len(chunk(b": p\n")), pause=0.1)
    async with opened(make, [*sse(b"a", end=False), pings, chunk(b"")]) as (transport, server):
        status, body = await ask(transport, request_to(server, idle=0.5))
        assert (status, body) == (200, b"a" + b": p\n" * 8)


async def test_time_that_the_consumer_takes_does_not_count_as_silence(make: MakeTransport) -> None:
    """A reader who thinks for longer than the idle deadline still gets what has arrived since."""
    go = anyio.Event()
    script: Answer = sse(b"one", b"two")
    async with opened(make, script) as (transport, server):
        async with transport.send(request_to(server, idle=0.2)) as response:
            pieces = [await anext(aiter(response))]
            with anyio.move_on_after(0.4):
                await go.wait()
            pieces += [piece async for piece in response]
        assert b"".join(pieces) == b"onetwo"


def test_the_default_deadlines_are_finite_and_each_can_be_set() -> None:
    """No library default of hours hides behind any of them (X14)."""
    usual = Deadlines()
    for name in usual.__struct_fields__:
        assert 0 < getattr(usual, name) <= 600
    short = Deadlines.within(5)
    assert max(getattr(short, name) for name in short.__struct_fields__) == 5
    for bad in (0, -1, float("nan")):
        with pytest.raises(ConfigError, match="idle"):
            Deadlines(idle=bad)


# ── faults ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_refused_connection_says_that_nothing_was_sent(make: MakeTransport) -> None:
    """Nobody listens at the port."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    transport = make()
    request = WireRequest(f"http://127.0.0.1:{port}/v1", SafeHeaders({}), [b"{}"])
    with anyio.fail_after(LIMIT):
        error = await failure_of(transport, request)
    await transport.aclose()
    assert isinstance(error, ConnectFailed)
    assert not error.sent
    assert error.retryable
    assert f"127.0.0.1:{port}" in error.message


async def test_an_unknown_host_is_a_typed_error_that_names_it(make: MakeTransport) -> None:
    """The name is one that no resolver may know (RFC 6761)."""
    transport = make()
    request = WireRequest("http://nowhere.invalid/v1", SafeHeaders({}), [b"{}"])
    with anyio.fail_after(LIMIT):
        error = await failure_of(transport, request)
    await transport.aclose()
    assert isinstance(error, ConnectFailed)
    assert "nowhere.invalid" in error.message
    assert not error.sent


@pytest.mark.parametrize(
    "script",
    [
        [RESET],
        [CLOSE],
        [b"HTTP/1.1 200 OK\r\ncont", CLOSE],
        sse(b"data: 1\n\n", RESET),
        sse(b"data: 1\n\n", CLOSE),
        sse(b"data: 1\n\n", HALF_CLOSE),
        [head(200, {"content-length": "9"}), b"some", CLOSE],
    ],
    ids=["reset", "close", "half-a-head", "reset-mid", "close-mid", "half-close-mid", "short-body"],
)
async def test_a_broken_connection_is_an_error_and_says_that_the_request_was_sent(
    make: MakeTransport, script: Answer
) -> None:
    """Never an answer that looks complete."""
    async with opened(make, script) as (transport, server):
        error = await failure_of(transport, request_to(server))
        assert isinstance(error, ConnectionLost)
        assert error.sent
        assert re.search(r"closed the connection .* \(.+\)$", error.message), "it says how"
        assert len(server.requests) == 1, "a fresh connection's request is not sent twice"


@pytest.mark.parametrize(
    "script",
    [[b"SSH-2.0-OpenSSH_9.6\r\n", CLOSE], [b"\x16\x03\x01\x02\x00\r\n\r\n", CLOSE]],
    ids=["ssh", "tls"],
)
async def test_a_peer_that_speaks_no_http_is_named_as_such(
    make: MakeTransport, script: Answer
) -> None:
    """Garbage instead of a status line."""
    async with opened(make, script) as (transport, server):
        error = await failure_of(transport, request_to(server))
        assert isinstance(error, (MalformedResponse, ConnectionLost))


async def test_garbage_between_chunks_is_an_error(make: MakeTransport) -> None:
    """A chunk whose length is no number. aiohttp keeps that to itself, which is then a silence."""
    script: Answer = [*sse(b"data: 1\n\n", end=False), b"zz-not-hex\r\n", CLOSE]
    async with opened(make, script) as (transport, server):
        error = await failure_of(transport, request_to(server, idle=0.3))
        assert isinstance(error, (MalformedResponse, ConnectionLost, Timeout))


async def test_a_connection_that_died_while_idle_is_replaced_without_an_error_p02(
    make: MakeTransport,
) -> None:
    """The server drops the reused connection instead of answering: sent once more, not
    twice (P02).
    """
    dead: Answer = [CLOSE]
    good = answer(200, b"ok")
    async with opened(make, good, dead, good, dead, dead) as (transport, server):
        assert await ask(transport, request_to(server)) == (200, b"ok")
        assert await ask(transport, request_to(server)) == (200, b"ok")
        assert len(server.requests) == 3
        error = await failure_of(transport, request_to(server))
        assert isinstance(error, ConnectionLost)
        assert len(server.requests) == 5


async def test_a_reused_connection_that_breaks_after_a_byte_is_not_asked_again() -> None:
    """Once a byte has come back the request was seen, so nothing is repeated behind one's back.

    aiohttp does not tell whether half a head had come.
    """
    script = [answer(200, b"ok"), [b"HTTP/1.1 2", CLOSE]]
    async with opened(HttpxTransport, *script) as (transport, server):
        await ask(transport, request_to(server))
        error = await failure_of(transport, request_to(server))
        assert isinstance(error, ConnectionLost)
        assert len(server.requests) == 2


async def test_a_refusal_that_comes_before_the_body_was_taken_is_read() -> None:
    """413 and closing while the client is still sending: the answer is told, not a broken pipe."""
    script: Answer = [*answer(413, b"too large"), CLOSE]
    async with opened(HttpxTransport, script) as (transport, server):
        assert (await ask(transport, request_to(server)))[0] == 413


# ── leaving early, cancellation, closing ──────────────────────────────────────────────────────────


async def test_leaving_the_block_early_closes_the_connection_at_once(make: MakeTransport) -> None:
    """The server sees it go, and the next request gets a fresh one."""
    async with opened(make, sse(b"one", STALL), answer(200, b"ok")) as (transport, server):
        async with transport.send(request_to(server)) as response:
            async for _ in response:
                break
        assert transport.in_flight == 0
        await server.until_open(0)
        assert await ask(transport, request_to(server)) == (200, b"ok")


async def test_an_error_in_the_block_leaves_nothing_behind(make: MakeTransport) -> None:
    """Whatever the consumer does."""
    async with opened(make, sse(b"one", STALL)) as (transport, server):
        with pytest.raises(ZeroDivisionError):
            async with transport.send(request_to(server)) as response:
                async for _ in response:
                    raise ZeroDivisionError
        assert transport.in_flight == 0
        await server.until_open(0)


@pytest.mark.parametrize(
    "script", [[STALL], sse(STALL), sse(b"a", STALL)], ids=["head", "first", "idle"]
)
async def test_cancelling_while_waiting_closes_the_connection(
    make: MakeTransport, script: Answer
) -> None:
    """In each place where an exchange can wait."""
    async with opened(make, script) as (transport, server):
        async with anyio.create_task_group() as group:
            group.start_soon(ask, transport, request_to(server))
            await server.until(lambda: len(server.requests) == 1)
            for _ in range(20):
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        assert transport.in_flight == 0
        await server.until_open(0)


async def test_after_a_storm_of_cancellations_the_next_request_goes_out_at_once_p01(
    make: MakeTransport,
) -> None:
    """Ten places; 300 requests cancelled while they wait for one, connect, or read (P01)."""

    def script(received: Received) -> Answer:
        stormy = received.body == b"storm" and len(server.requests) % 3
        return sse(b"a", STALL) if stormy else answer(200, b"ok")

    with anyio.fail_after(30):
        async with serving(script) as server:
            transport = make(max_connections=10)
            for round_ in range(6):
                async with anyio.create_task_group() as group:
                    for _ in range(50):
                        group.start_soon(ask, transport, request_to(server, body=b"storm"))
                    for _ in range(round_ * 7):
                        await anyio.lowlevel.checkpoint()
                    group.cancel_scope.cancel()
            assert transport.in_flight == 0
            assert await ask(transport, request_to(server, pool=0.5, connect=2.0)) == (200, b"ok")
            await transport.aclose()
            await server.until_open(0)


async def test_a_closed_transport_refuses_requests_and_can_be_closed_again(
    make: MakeTransport,
) -> None:
    """Idempotent, and a typed error says what to do."""
    async with opened(make, answer(200, b"ok")) as (transport, server):
        await ask(transport, request_to(server))
        await transport.aclose()
        await transport.aclose()
        error = await failure_of(transport, request_to(server))
        assert isinstance(error, CallerError)
        assert "closed" in error.message


# ── secrets and addresses ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "script",
    [[RESET], [b"garbage\r\n\r\n", CLOSE], sse(b"a", RESET), [STALL], sse(b"a", STALL)],
    ids=["reset", "garbage", "reset-mid", "silence", "stall"],
)
async def test_no_error_or_log_or_frame_shows_the_key(
    make: MakeTransport, script: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in words nor in the local variables that crash reporters collect (Z10)."""
    caplog.set_level(logging.DEBUG)
    async with opened(make, script) as (transport, server):
        request = request_to(server, idle=0.05, first_byte=0.05)
        error = await failure_of(transport, request)
        report = traceback.TracebackException.from_exception(error, capture_locals=True)
        told = "".join(report.format()) + repr(transport) + repr(request) + repr(error)
        assert CANARY not in told + caplog.text


def test_a_header_that_http_cannot_carry_is_refused_without_showing_it() -> None:
    """A key pasted with its newline is the usual case."""
    for value in (f"Bearer {CANARY}\n", f"Bearer {CANARY}“"):
        with pytest.raises(ConfigError) as caught:
            SafeHeaders({"authorization": value})
        assert "authorization" in caught.value.message
        assert CANARY not in repr(caught.value) + caught.value.message


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.example.com/v1",
        "ftp://example.com",
        "https://",
        "https://user:secret@example.com",
        "https://exa mple.com",
        "http://[::1",
        "http://host:99999",
        "https://a..b/v1",
        "https://example.com/#x",
        "https://example.com/\n",
    ],
)
def test_an_address_that_cannot_work_is_refused_before_anything_is_sent(url: str) -> None:
    """With the form that would work, and without repeating what may be a password."""
    with pytest.raises(ConfigError) as caught:
        checked_base_url(url)
    assert "https://api.example.com/v1" in caught.value.message
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("url", ["127.0.0.1:1/v1", "localhost:8000", "api.example.com", "a:b@c"])
def test_an_address_without_its_beginning_is_told_what_is_missing(url: str) -> None:
    """It is not said to begin with something that it does not begin with."""
    with pytest.raises(ConfigError) as caught:
        checked_base_url(url)
    assert "must begin with http:// or https://, which this one does not" in caught.value.message
    with pytest.raises(ConfigError, match="not ftp://"):
        checked_base_url(f"ftp://{url}")


def test_a_good_address_loses_only_its_closing_slash() -> None:
    """Ports, paths, IPv6 and queries are kept."""
    for url in ("http://localhost:8080", "https://x.example/v1", "http://[::1]:1/a?b=c"):
        assert checked_base_url(url) == url
    assert checked_base_url("https://x.example/v1/") == "https://x.example/v1"
