"""A model that answers at once, in three protocols: `python -m …mock_server`.

It prints its port and serves until its standard input ends. The address says the protocol: Chat
Completions, Responses or Messages. The model's name says what it does; tools only in the first:

    text          one sentence
    tools:R:W     R rounds of W calls each after the newest user message, then the sentence
    stream:N      the answer in N chunks, each an HTTP chunk of its own

and the same behind `gpt-4.1-mini:`, for whoever counts tokens by the vocabulary of that model.
It keeps nothing between requests: where a conversation stands is counted in the request itself.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from benchmarks.wire import STREAMS, WHOLE, chat_answer

__all__ = ["main"]

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_PROTOCOLS: Mapping[bytes, str] = MappingProxyType(
    {b"/v1/responses": "responses", b"/v1/messages": "messages"}
)
_MODEL = re.compile(rb'"model": ?"(?:gpt-4\.1-mini:)?([a-z0-9:]+)"')
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
            path = head.split(b" ", 2)[1]
            self._transport.write(answer(body, _PROTOCOLS.get(path, "chat")))


def answer(body: bytes, protocol: str) -> bytes:
    """The whole HTTP answer to a request's body."""
    model = _MODEL.search(body)
    kind, *numbers = (model[1].decode() if model else "text").split(":")
    if kind == "stream":
        return _stream(protocol, int(numbers[0]))
    if kind == "tools":
        rounds, width = map(int, numbers)
        newest = max(body.rfind(_USER), 0)
        if body.count(_RESULT, newest) // width < rounds:
            return _calls(body.count(_RESULT), width)
    return _text(protocol)


@cache
def _text(protocol: str) -> bytes:
    return _whole(WHOLE[protocol]())


def _calls(before: int, width: int) -> bytes:
    calls = [
        {
            "id": f"call_{before + i}",
            "type": "function",
            "function": {"name": "weather", "arguments": f'{{"city":"Rome","days":{before + i}}}'},
        }
        for i in range(width)
    ]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    return _whole(chat_answer(message, "tool_calls"))


def _whole(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


@cache
def _stream(protocol: str, chunks: int) -> bytes:
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    events = STREAMS[protocol](chunks)
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
