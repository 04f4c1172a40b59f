"""Exchanges are recorded without secrets and answered from the record."""

from __future__ import annotations

from pathlib import Path

import anyio
import msgspec
import pytest

from llm_client.codecs.openai_chat import OpenAIChatCodec
from llm_client.errors import ConfigError, ConnectionLost
from llm_client.http_service import HttpLLMService
from llm_client.replay import Exchange, replay
from llm_client.stream import Accumulator
from llm_client.testing import RecordingTransport, ReplayMismatch, ReplayTransport
from llm_client.testing.recorder import RecordedExchange
from llm_client.transport.base import SafeHeaders, WireRequest, read_whole
from llm_client.transport.httpx_transport import HttpxTransport
from llm_client.types import LLMRequest, Message
from tests.corpus import need_corpus, read_jsonl
from tests.llm_client.chat import HELLO, HELLO_WORLD, delta, service_at, whole
from tests.llm_client.transports import CANARY
from tests.loopback import RESET, answer, serving, sse

pytestmark = pytest.mark.anyio

OTHER = LLMRequest([Message.user("something else")])


async def text_of(service: HttpLLMService, request: LLMRequest = HELLO) -> str:
    """The streamed text."""
    answered = Accumulator()
    async with service.stream(request) as events:
        async for event in events:
            answered.add(event)
    return answered.response().text


def replaying(path: Path, split: int | None = None) -> HttpLLMService:
    """A service that is answered from `path`, whatever its address."""
    return HttpLLMService(
        OpenAIChatCodec(),
        ReplayTransport(path, split=split),
        base_url="http://nobody.invalid/v1",
        model="m-1",
    )


async def test_what_was_recorded_is_answered_again_without_a_network(tmp_path: Path) -> None:
    """Streamed, whole and refused; in one piece and byte by byte."""
    path = tmp_path / "record.jsonl"
    refused = answer(429, b'{"error":{"message":"slow down"}}', {"retry-after": "3"})
    with anyio.fail_after(10):
        async with serving(sse(*HELLO_WORLD), answer(200, whole("hi")), refused) as server:
            service = service_at(server, RecordingTransport(HttpxTransport(), path))
            said = [await text_of(service), (await service.complete(HELLO)).text]
            with pytest.raises(Exception, match="slow down"):
                await service.complete(OTHER)
            await service.aclose()
    assert said == ["Hello world", "hi"]
    for split in (None, 1):
        service = replaying(path, split)
        assert [await text_of(service), (await service.complete(HELLO)).text] == said
        with pytest.raises(Exception, match="slow down") as caught:
            await service.complete(OTHER)
        assert getattr(caught.value, "retry_after", None) == 3.0


async def test_the_record_has_the_form_that_replay_reads(tmp_path: Path) -> None:
    """`python -m llm_client.replay` decodes what was recorded."""
    path = tmp_path / "record.jsonl"
    async with serving(sse(*HELLO_WORLD), answer(200, whole("hi"))) as server:
        service = service_at(server, RecordingTransport(HttpxTransport(), path, provider="p"))
        await text_of(service)
        await service.complete(HELLO)
        await service.aclose()
    rows = [replay(msgspec.convert(line, Exchange)) for line in read_jsonl(path)]
    assert [(row.ok, row.text) for row in rows] == [(True, "Hello world"), (True, "hi")]


async def test_no_key_gets_into_the_record(tmp_path: Path) -> None:
    """Not from headers, not from the address, not from a body that quotes it (Z10)."""
    path = tmp_path / "record.jsonl"
    quoted = f'{{"error":{{"message":"bad key {CANARY}"}}}}'.encode()
    async with serving(answer(401, quoted, {"set-cookie": "session=1"})) as server:
        transport = RecordingTransport(HttpxTransport(), path)
        headers = SafeHeaders({"authorization": f"Bearer {CANARY}"})
        url = f"{server.url}/v1/x?api-version=3&key=abc"
        request = WireRequest(url, headers, [b'{"note":"', CANARY.encode(), b'"}'])
        async with transport.send(request) as response:
            assert CANARY in (await read_whole(response, 1000)).decode()
        await transport.aclose()
    text = path.read_text()
    assert CANARY not in text
    assert "abc" not in text
    assert "session" not in text
    (line,) = read_jsonl(path)
    assert line["endpoint"] == "/v1/x?api-version=3&key=%2A%2A%2A"
    assert line["request_body"] == {"note": "***"}


async def test_an_answer_that_broke_off_breaks_off_again(tmp_path: Path) -> None:
    """At the same place."""
    path = tmp_path / "record.jsonl"
    async with serving(sse(delta("Hel"), RESET)) as server:
        service = service_at(server, RecordingTransport(HttpxTransport(), path))
        with pytest.raises(ConnectionLost):
            await text_of(service)
        await service.aclose()
    with pytest.raises(ConnectionLost) as caught:
        await text_of(replaying(path))
    assert caught.value.after_output


async def test_bytes_that_are_no_text_survive_the_record(tmp_path: Path) -> None:
    """Compressed answers, or text cut within a character."""
    path = tmp_path / "record.jsonl"
    async with serving(answer(200, b"\xff\x00\xe2\x82")) as server:
        transport = RecordingTransport(HttpxTransport(), path)
        request = WireRequest(f"{server.url}/v1/x", SafeHeaders({}), [b"not json"])
        async with transport.send(request) as response:
            await read_whole(response, 100)
        await transport.aclose()
    async with ReplayTransport(path).send(request) as response:
        assert await read_whole(response, 100) == b"\xff\x00\xe2\x82"


def _recorded(body: object, endpoint: str = "/v1/chat/completions") -> RecordedExchange:
    return RecordedExchange(
        id="1",
        api="openai_chat",
        provider="",
        endpoint=endpoint,
        stream=False,
        request_body=body,
        status=200,
        response_body="{}",
    )


def _request(body: object, path: str = "/v1/chat/completions") -> WireRequest:
    return WireRequest(f"http://x{path}", SafeHeaders({}), [msgspec.json.encode(body)])


def test_the_order_of_keys_does_not_matter_but_each_exchange_answers_once() -> None:
    """What a codec writes first may change; how often it asks may not."""
    transport = ReplayTransport([_recorded({"a": 1, "b": [{"c": 2, "d": 3}]})])
    same = _request({"b": [{"d": 3, "c": 2}], "a": 1})
    transport.send(same)
    assert transport.left == 0
    with pytest.raises(ReplayMismatch, match="as often as it was recorded"):
        transport.send(same)


def test_a_request_that_is_not_in_the_record_is_shown_beside_the_nearest() -> None:
    """With the lines that differ, and no more of them than one can read."""
    near = {"model": "m-1", "messages": [{"role": "user", "content": "hello"}]}
    far = {"something": list(range(100))}
    transport = ReplayTransport([_recorded(far), _recorded(near)])
    with pytest.raises(ReplayMismatch) as caught:
        transport.send(_request({**near, "model": "m-2"}))
    lines = caught.value.message.splitlines()
    assert '- "model": "m-1"' in lines
    assert '+ "model": "m-2"' in lines
    with pytest.raises(ReplayMismatch, match="more lines"):
        transport.send(_request({"something": list(range(100, 200))}))


def test_an_unknown_address_names_those_that_were_recorded() -> None:
    """Usually the base address is wrong."""
    with pytest.raises(ReplayMismatch, match="knows /v1/chat/completions"):
        ReplayTransport([_recorded({})]).send(_request({}, "/v2/other"))


def test_a_file_that_is_no_record_names_the_line(tmp_path: Path) -> None:
    """Or says that there is no such file."""
    with pytest.raises(ConfigError, match="cannot be read"):
        ReplayTransport(tmp_path / "missing.jsonl")
    bad = tmp_path / "bad.jsonl"
    bad.write_text('\n{"id": 1}\n')
    with pytest.raises(ConfigError, match="line 2"):
        ReplayTransport(bad)


def test_recorded_provider_traffic_can_be_replayed_from_its_files() -> None:
    """The corpus has the same form."""
    transport = ReplayTransport(need_corpus("dev.openai_chat.jsonl"))
    assert transport.left > 400
