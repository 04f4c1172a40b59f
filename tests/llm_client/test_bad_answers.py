"""Answers that no provider should give, to a service of every protocol, over real sockets."""

from __future__ import annotations

import gzip
import logging
import re
import traceback
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from anyio.abc import SocketAttribute, SocketStream

from llm_client.codec import Codec
from llm_client.errors import (
    BadRequest,
    ConnectFailed,
    LLMError,
    MalformedResponse,
    RemoteProtocolError,
    ServerError,
)
from llm_client.http_service import HttpLLMService
from llm_client.protocols import PROTOCOLS, codec_for
from llm_client.stream import Accumulator
from llm_client.transport.deadlines import Deadlines
from llm_client.types import LLMResponse
from tests.llm_client.chat import HELLO
from tests.llm_client.tls_material import server_context
from tests.llm_client.transports import CANARY, DRIVERS, TRANSPORTS
from tests.loopback import Answer, LoopbackServer, answer, chunk, head, serving, sse
from tests.wire_protocols import PROTOCOLS as WIRE
from tests.wire_protocols import WireProtocol

pytestmark = pytest.mark.anyio

MB = 1024 * 1024
TEXT: dict[str, Any] = {"type": "text", "text": "hi"}
DIALECTS = {
    "openai_chat": "compatible",
    "openai_responses": "compatible",
    "anthropic_messages": "anthropic",
    "gemini": "gemini",
    "cohere_chat": "cohere",
    "ollama_native": "ollama-native",
}
WHOLE: Mapping[str, dict[str, Any]] = {
    "openai_chat": {
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "hi"},
                "finish_reason": "stop",
            }
        ]
    },
    "openai_responses": {
        "status": "completed",
        "output": [
            {
                "type": "message",
                "id": "m",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "hi", "annotations": []}],
            }
        ],
    },
    "anthropic_messages": {
        "type": "message",
        "role": "assistant",
        "content": [TEXT],
        "stop_reason": "end_turn",
    },
    "gemini": {
        "candidates": [
            {"content": {"role": "model", "parts": [{"text": "hi"}]}, "finishReason": "STOP"}
        ]
    },
    "cohere_chat": {
        "message": {"role": "assistant", "content": [TEXT]},
        "finish_reason": "COMPLETE",
    },
    "ollama_native": {
        "message": {"role": "assistant", "content": "hi"},
        "done": True,
        "done_reason": "stop",
    },
}
PAGE = b"<!doctype html><html><title>Bad gateway</title>" + b"<p>sorry</p>" * 2000


@pytest.fixture(params=DRIVERS, ids=lambda pair: "-".join(pair))
def driver(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A transport and the event loop to run it on."""
    pair: tuple[str, str] = request.param
    return pair


@pytest.fixture
def anyio_backend(driver: tuple[str, str]) -> str:
    """The driver's event loop."""
    return driver[1]


@pytest.fixture(params=sorted(PROTOCOLS))
def protocol(request: pytest.FixtureRequest) -> str:
    """The name of each wire protocol."""
    name: str = request.param
    return name


def codec_of(protocol: str) -> Codec:
    """The codec under test."""
    return codec_for(protocol, DIALECTS[protocol])


def wire_of(protocol: str) -> WireProtocol:
    """How its streams look."""
    return next(one for one in WIRE if one.name == protocol)


@asynccontextmanager
async def asking(
    protocol: str, driver: tuple[str, str], *script: Answer, tls: Path | None = None
) -> AsyncGenerator[tuple[HttpLLMService, LoopbackServer]]:
    """A service of a scripted server, within a time limit; afterwards nothing may be open."""
    context = None if tls is None else server_context(tls)
    with anyio.fail_after(60):
        async with serving(*script, tls=context) as server:
            service = service_of(protocol, driver, server.url)
            try:
                yield service, server
            finally:
                await service.aclose()
            await server.until_open(0)


def service_of(protocol: str, driver: tuple[str, str], url: str) -> HttpLLMService:
    """A service that asks `url`."""
    return HttpLLMService(
        codec_of(protocol),
        TRANSPORTS[driver[0]](),
        base_url=url,
        model="m-1",
        headers={"authorization": f"Bearer {CANARY}", "x-api-key": CANARY},
        deadlines=Deadlines(idle=5.0),
    )


async def answer_of(service: HttpLLMService, *, stream: bool) -> LLMResponse:
    """The answer, streamed or whole."""
    if not stream:
        return await service.complete(HELLO)
    arrived = Accumulator()
    async with service.stream(HELLO) as events:
        async for event in events:
            arrived.add(event)
    assert arrived.finished
    return arrived.response()


async def failure_of(service: HttpLLMService, *, stream: bool) -> LLMError:
    """The error in which a request ends."""
    with pytest.raises(LLMError) as caught:
        await answer_of(service, stream=stream)
    return caught.value


BOTH = pytest.mark.parametrize("stream", [True, False], ids=["stream", "complete"])


def good_stream(wire: WireProtocol) -> tuple[bytes, str]:
    """A stream that is an answer with text, and its text."""
    for stream in wire.built():
        decoder, arrived = codec_of(wire.name).decoder(), Accumulator()
        try:
            for event in (*decoder.feed(stream), *decoder.close()):
                arrived.add(event)
        except LLMError:
            continue
        if arrived.finished and arrived.response().text:
            return stream, arrived.response().text
    raise AssertionError(f"no good stream of {wire.name}")


def padded(wire: WireProtocol, stream: bytes, size: int) -> bytes:
    """`stream` whose first event has a field of `size` bytes that nobody knows."""
    found = wire.frame.search(stream)
    assert found is not None
    fields = msgspec.json.decode(found[1])
    fields["padding"] = "x" * size
    return stream[: found.start(1)] + msgspec.json.encode(fields) + stream[found.end(1) :]


def streamed(wire: WireProtocol, stream: bytes) -> Answer:
    """`stream` in pieces of 64 KiB."""
    pieces = [chunk(stream[at : at + 65_536]) for at in range(0, len(stream), 65_536)]
    sort = "application/x-ndjson" if wire.lines else "text/event-stream"
    headers = {"content-type": sort, "transfer-encoding": "chunked"}
    return [head(200, headers), *pieces, chunk(b"")]


ROTATED = [(name, DRIVERS[at % len(DRIVERS)]) for at, name in enumerate(sorted(PROTOCOLS))]
LARGE = pytest.mark.parametrize(
    ("protocol", "driver"),
    ROTATED,
    ids=[f"{name}-{driver[0]}-{driver[1]}" for name, driver in ROTATED],
    indirect=True,
)
"""Each protocol once and each driver twice: what is large takes its time."""

# ── too much ──────────────────────────────────────────────────────────────────────────────────────


@LARGE
@BOTH
async def test_a_body_of_a_hundred_megabytes_is_given_up(
    protocol: str, driver: tuple[str, str], stream: bool
) -> None:
    """Long before its end, and not to be tried again."""
    script: Answer = [
        head(200, {"content-type": "application/json", "content-length": str(100 * MB)}),
        b'{"x":"',
        *([b"x" * MB] * 100),
    ]
    async with asking(protocol, driver, script) as (service, _):
        error = await failure_of(service, stream=stream)
    assert isinstance(error, MalformedResponse)
    assert "larger than" in error.message
    assert not error.retryable


@LARGE
@BOTH
async def test_an_error_of_a_hundred_megabytes_is_told_by_its_beginning(
    protocol: str, driver: tuple[str, str], stream: bool
) -> None:
    """Its status is what counts."""
    script: Answer = [
        head(500, {"content-length": str(100 * MB)}),
        b"oh dear ",
        *([b"x" * MB] * 100),
    ]
    async with asking(protocol, driver, script) as (service, _):
        error = await failure_of(service, stream=stream)
    assert isinstance(error, ServerError)
    assert "oh dear" in error.message
    assert len(error.message) < 1000


@LARGE
async def test_an_event_of_ten_megabytes_is_read(protocol: str, driver: tuple[str, str]) -> None:
    """An image in base64 can be so large."""
    wire = wire_of(protocol)
    stream, text = good_stream(wire)
    script = streamed(wire, padded(wire, stream, 10 * MB))
    async with asking(protocol, driver, script) as (service, _):
        assert (await answer_of(service, stream=True)).text == text


@LARGE
async def test_an_event_of_more_than_sixteen_megabytes_is_given_up(
    protocol: str, driver: tuple[str, str]
) -> None:
    """A server that never ends one would fill the memory."""
    wire = wire_of(protocol)
    script = streamed(wire, padded(wire, good_stream(wire)[0], 17 * MB))
    async with asking(protocol, driver, script) as (service, _):
        error = await failure_of(service, stream=True)
    assert isinstance(error, MalformedResponse)
    assert f"larger than {16 * MB} bytes" in error.message
    assert not error.retryable


@LARGE
@BOTH
async def test_a_body_that_grows_without_measure_when_decompressed_is_given_up(
    protocol: str, driver: tuple[str, str], stream: bool
) -> None:
    """200 kilobytes that stand for 200 megabytes."""
    bomb = gzip.compress(b" " * (200 * MB), 6)
    assert len(bomb) < 250_000
    script = answer(200, bomb, {"content-encoding": "gzip"})
    async with asking(protocol, driver, script) as (service, _):
        error = await failure_of(service, stream=stream)
    assert isinstance(error, MalformedResponse)
    assert re.search(r"larger than|grows too large", error.message)
    assert not error.retryable


# ── not what it should be ─────────────────────────────────────────────────────────────────────────


@LARGE
@BOTH
@pytest.mark.parametrize("opening", [b"[", b'{"a":'], ids=["arrays", "objects"])
async def test_json_that_is_nested_too_deeply_is_an_error(
    protocol: str, driver: tuple[str, str], stream: bool, opening: bytes
) -> None:
    """Whole, in an event, and without its end; never a RecursionError."""
    closing = b"]" if opening == b"[" else b"1}"
    deep = opening * 100_000 + (closing[:-1] + closing[-1:] * 100_000)
    wire = wire_of(protocol)
    event = wire.written([b'{"x":' + deep + b"}"])
    for body in (deep, deep[:90_000], b'{"x":' + deep + b"}", event):
        async with asking(protocol, driver, answer(200, body)) as (service, _):
            error = await failure_of(service, stream=stream)
        assert isinstance(error, RemoteProtocolError)
        assert len(error.message) < 1000


@BOTH
@pytest.mark.parametrize("sort", ["text/html", "application/json", "text/event-stream"])
async def test_a_page_of_a_proxy_is_an_error_that_quotes_it_s29(
    protocol: str, driver: tuple[str, str], stream: bool, sort: str
) -> None:
    """Under a good status, whatever it says it is (S29)."""
    script = answer(200, PAGE, {"content-type": sort})
    async with asking(protocol, driver, script) as (service, _):
        error = await failure_of(service, stream=stream)
    assert isinstance(error, RemoteProtocolError)
    assert "Bad gateway" in error.message
    assert len(error.message) < 1000


@pytest.mark.parametrize("sort", ["text/html", "application/octet-stream", "", "nonsense"])
async def test_a_good_answer_under_a_wrong_content_type_is_one_all_the_same(
    protocol: str, driver: tuple[str, str], sort: str
) -> None:
    """Gateways lose and change it; what counts is what came."""
    wire = wire_of(protocol)
    stream, text = good_stream(wire)
    headers = {"content-type": sort}
    whole = answer(200, msgspec.json.encode(WHOLE[protocol]), headers)
    async with asking(protocol, driver, whole, sse(stream, headers=headers)) as (service, _):
        assert (await answer_of(service, stream=False)).text == "hi"
        assert (await answer_of(service, stream=True)).text == text


# ── elsewhere ─────────────────────────────────────────────────────────────────────────────────────


@BOTH
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_so_that_no_key_reaches_another_host(
    protocol: str, driver: tuple[str, str], stream: bool, status: int
) -> None:
    """The error says what to look at (Z04)."""
    good = answer(200, msgspec.json.encode(WHOLE[protocol]))
    async with serving(good) as other:
        away = answer(status, b"", {"location": f"{other.url}/v1"})
        async with asking(protocol, driver, away) as (service, server):
            error = await failure_of(service, stream=stream)
            assert len(server.requests) == 1
        assert other.connections == 0
    assert isinstance(error, BadRequest)
    assert error.status == status
    assert "check the base address" in error.message
    assert not error.retryable


@BOTH
async def test_a_server_that_nobody_vouches_for_gets_nothing(
    protocol: str,
    driver: tuple[str, str],
    stream: bool,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither the key nor the question; and the key is in no log and no frame (Z10)."""
    caplog.set_level(logging.DEBUG)
    async with asking(protocol, driver, answer(200, b"{}"), tls=tmp_path) as (service, server):
        error = await failure_of(service, stream=stream)
        assert server.requests == []
    assert isinstance(error, ConnectFailed)
    assert "certificate" in error.message.lower()
    assert not error.sent
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    assert CANARY not in "".join(report.format()) + repr(service) + caplog.text


@BOTH
async def test_a_server_that_does_not_speak_tls_gets_nothing(
    protocol: str, driver: tuple[str, str], stream: bool
) -> None:
    """An address with https where there is only http."""
    refusal = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"
    greeting: list[bytes] = []

    async def plain(client: SocketStream) -> None:
        async with client:
            greeting.append(await client.receive())
            await client.send(refusal)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)
    with anyio.fail_after(10):
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, plain)
            service = service_of(protocol, driver, f"https://127.0.0.1:{port}")
            error = await failure_of(service, stream=stream)
            assert isinstance(error, ConnectFailed)
            assert not error.sent
            await service.aclose()
            group.cancel_scope.cancel()
    assert greeting
    assert all(CANARY.encode() not in words for words in greeting)
