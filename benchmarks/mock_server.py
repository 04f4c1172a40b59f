"""A model behind the Chat Completions protocol that answers at once: `python -m …mock_server`.

It prints its port and serves until its standard input ends. The model's name says what it does:

    text          one sentence
    tools:R:W     R rounds of W calls each after the newest user message, then the sentence
    stream:N      the answer in N chunks, each an HTTP chunk of its own

It keeps nothing between requests: where a conversation stands is counted in the request itself.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from functools import cache
from typing import Any

from benchmarks.scenarios import ANSWER, PIECE

__all__ = ["main"]

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_MODEL = re.compile(rb'"model": ?"([a-z0-9:]+)"')
_USER = b'"role":"user"'
_RESULT = b'"tool_call_id"'


class _Connection(asyncio.Protocol):
    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while True:
            head, gap, rest = self._buffer.partition(b"\r\n\r\n")
            length = _LENGTH.search(head)
            if not gap or length is None or len(rest) < int(length[1]):
                return
            body, self._buffer = rest[: int(length[1])], rest[int(length[1]) :]
            self._transport.write(answer(body))


def answer(body: bytes) -> bytes:
    """The whole HTTP answer to a request's body."""
    model = _MODEL.search(body)
    kind, *numbers = (model[1].decode() if model else "text").split(":")
    if kind == "stream":
        return _stream(int(numbers[0]))
    if kind == "tools":
        rounds, width = map(int, numbers)
        newest = max(body.rfind(_USER), 0)
        if body.count(_RESULT, newest) // width < rounds:
            return _calls(body.count(_RESULT), width)
    return _text()


@cache
def _text() -> bytes:
    return _whole({"role": "assistant", "content": ANSWER}, "stop")


def _calls(before: int, width: int) -> bytes:
    calls = [
        {
            "id": f"call_{before + i}",
            "type": "function",
            "function": {"name": "weather", "arguments": f'{{"city":"Rome","days":{i + 1}}}'},
        }
        for i in range(width)
    ]
    return _whole({"role": "assistant", "content": None, "tool_calls": calls}, "tool_calls")


def _whole(message: dict[str, Any], finish: str) -> bytes:
    value = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1750000000,
        "model": "mock",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }
    body = json.dumps(value, separators=(",", ":")).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


@cache
def _stream(chunks: int) -> bytes:
    def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
        value = {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1750000000,
            "model": "mock",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        }
        return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"

    events = [event({"role": "assistant", "content": ""})]
    events += [event({"content": PIECE})] * chunks
    events += [event({}, "stop"), b"data: [DONE]\n\n"]
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    return head + b"".join(b"%x\r\n%b\r\n" % (len(e), e) for e in events) + b"0\r\n\r\n"


async def main() -> None:
    """Serves until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
