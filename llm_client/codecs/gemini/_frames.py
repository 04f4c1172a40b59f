"""Cuts a streamed Gemini answer into chunks: server-sent events, or the items of one JSON array.

Which of the two a server sends depends on `alt=sse` in the address, and on proxies in between.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from llm_client.errors import MalformedResponse
from llm_client.sse import EVENT_LIMIT, SSEParser

__all__ = ["GeminiFrames"]

_MARKS = re.compile(rb'["\\{}\[\]]')
_QUOTE, _BACKSLASH, _BRACKET = b'"\\['


class GeminiFrames:
    """A `Frames`. `limit` bounds the bytes of one chunk."""

    __slots__ = ("_limit", "_parser")

    begins_with = b"["
    """An array begins as a plain body may."""

    def __init__(self, limit: int = EVENT_LIMIT) -> None:
        self._limit = limit
        self._parser: SSEParser | _ArrayItems | None = None

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """The chunks that `data` completes.

        Raises:
            MalformedResponse: one chunk is larger than the limit.
        """
        parser = self._parser
        if parser is None:
            if not data:
                return []
            is_array = data.lstrip().startswith(b"[")
            parser = _ArrayItems(self._limit) if is_array else SSEParser(self._limit)
            self._parser = parser
        return parser.feed(data)

    def close(self) -> list[tuple[str, bytes]]:
        """The last chunk, if nothing marked its end."""
        return [] if self._parser is None else self._parser.close()


class _ArrayItems:
    """Cuts a JSON array into the objects in it, without reading them."""

    __slots__ = ("_depth", "_escaped", "_in_text", "_limit", "_pending", "_size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pending: list[bytes] = []
        self._size = 0
        self._depth = 0
        self._in_text = False
        self._escaped = False
        """The first byte of the next piece belongs to an escape."""

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        items: list[tuple[str, bytes]] = []
        start = 0
        for place, mark in self._marks(data):
            if mark in b"{[":
                if self._depth == 0 and mark == _BRACKET:
                    continue  # the array itself
                if self._depth == 0:
                    start = place
                self._depth += 1
            elif self._depth:
                self._depth -= 1
                if self._depth == 0:
                    items.append(("", self._taken(data[start : place + 1])))
        if self._depth:
            self._keep(data[start:])
        return items

    def _marks(self, data: bytes) -> Iterator[tuple[int, int]]:
        """The braces and brackets that stand in no text."""
        literal = 0 if self._escaped else -1
        for match in _MARKS.finditer(data):
            place = match.start()
            mark = data[place]
            if place == literal:
                continue
            if mark == _QUOTE:
                self._in_text = not self._in_text
            elif mark == _BACKSLASH:
                literal = place + 1
            elif not self._in_text:
                yield place, mark
        if data:
            self._escaped = literal == len(data)

    def close(self) -> list[tuple[str, bytes]]:
        rest = self._taken(b"")
        return [("", rest)] if rest else []

    def _taken(self, last: bytes) -> bytes:
        self._keep(last)
        item = b"".join(self._pending)
        self._pending.clear()
        self._size = 0
        return item

    def _keep(self, data: bytes) -> None:
        self._pending.append(data)
        self._size += len(data)
        if self._size > self._limit:
            raise MalformedResponse(
                f"one chunk of the stream is larger than {self._limit} bytes; it was given up",
                retryable=False,
            )
