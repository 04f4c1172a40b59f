"""Newline-delimited JSON, cut into its lines on bytes."""

from __future__ import annotations

from llm_client.errors import MalformedResponse
from llm_client.sse import EVENT_LIMIT

__all__ = ["NDJSONParser"]


class NDJSONParser:
    """Cuts a byte stream into lines, in the form of events without a name. Blank lines say nothing.

    `limit` bounds the bytes of one line, so that a server that never ends one cannot fill the
    memory.
    """

    __slots__ = ("_limit", "_pending", "_size")

    begins_with = b"{"

    def __init__(self, limit: int = EVENT_LIMIT) -> None:
        self._limit = limit
        self._pending: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """The lines that `data` completes.

        Raises:
            MalformedResponse: one line is larger than the limit.
        """
        head, newline, tail = data.rpartition(b"\n")
        if not newline:
            self._keep(data)
            return []
        lines = b"".join([*self._pending, head]).split(b"\n")
        self._pending.clear()
        self._size = 0
        if tail:
            self._keep(tail)
        return [("", line) for line in lines if line.strip()]

    def close(self) -> list[tuple[str, bytes]]:
        """The last line, if no newline ended it."""
        line = b"".join(self._pending)
        self._pending.clear()
        self._size = 0
        return [("", line)] if line.strip() else []

    def _keep(self, data: bytes) -> None:
        self._pending.append(data)
        self._size += len(data)
        if self._size > self._limit:
            raise MalformedResponse(
                f"one line of the stream is larger than {self._limit} bytes; it was given up",
                retryable=False,
            )
