"""Server-sent events, parsed on bytes.

The result does not depend on how the network cut the bytes. Lines end with LF, CRLF or CR, as the
standard says, and with nothing else: U+2028 or U+0085 inside a JSON string are data.
"""

from __future__ import annotations

from llm_client.errors import MalformedResponse

__all__ = ["BOM", "EVENT_LIMIT", "SSEParser"]

BOM = b"\xef\xbb\xbf"
EVENT_LIMIT = 16 * 1024 * 1024


class SSEParser:
    """Cuts a byte stream into events.

    `feed` each piece as it comes and `close` at the end of the bytes; both return pairs of event
    name ("" when none was given) and data. Comments produce nothing. `limit` bounds the bytes of
    one event, so that a server that never ends one cannot fill the memory.
    """

    __slots__ = ("_after_cr", "_ends_line", "_limit", "_pending", "_size", "_start")

    begins_with = b""
    """No event begins as a JSON body or a page does."""

    def __init__(self, limit: int = EVENT_LIMIT) -> None:
        self._limit = limit
        self._pending: list[bytes] = []
        self._size = 0
        self._ends_line = False
        self._after_cr = False
        self._start: bytes | None = b""

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """The events that `data` completes.

        Raises:
            MalformedResponse: one event is larger than the limit.
        """
        if self._start is not None:
            data = self._skip_bom(data)
        if self._after_cr or b"\r" in data:
            data = self._newlines(data)
        if not data:
            return []
        if self._pending:
            if b"\n\n" not in data and not (self._ends_line and data[0] == 10):
                self._keep(data)
                return []
            self._pending.append(data)
            data = b"".join(self._pending)
            self._pending.clear()
            self._size = 0
        return self._split(data)

    def close(self) -> list[tuple[str, bytes]]:
        """The last event, if the stream ended without the blank line that closes it."""
        data = b"".join(self._pending)
        if self._start:
            data = self._start
        self._pending.clear()
        self._size = 0
        self._start = None
        events: list[tuple[str, bytes]] = []
        if data:
            _parse_block(data, events)
        return events

    def _split(self, data: bytes) -> list[tuple[str, bytes]]:
        events: list[tuple[str, bytes]] = []
        blocks = data.split(b"\n\n")
        tail = blocks.pop()
        if len(data) > self._limit:
            for block in blocks:
                self._check(len(block))
        for block in blocks:
            # Nearly every event of every provider is a single data line.
            if block.startswith(b"data: ") and b"\n" not in block:
                events.append(("", block[6:]))
            elif block:
                _parse_block(block, events)
        if tail:
            self._keep(tail)
        return events

    def _keep(self, data: bytes) -> None:
        self._pending.append(data)
        self._size += len(data)
        self._ends_line = data[-1] == 10
        # The newline that may end the last line is not part of the event.
        self._check(self._size - 1)

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise MalformedResponse(
                f"one event of the stream is larger than {self._limit} bytes; it was given up",
                retryable=False,
            )

    def _skip_bom(self, data: bytes) -> bytes:
        assert self._start is not None
        data = self._start + data
        if len(data) < len(BOM) and BOM.startswith(data):
            self._start = data
            return b""
        self._start = None
        return data.removeprefix(BOM)

    def _newlines(self, data: bytes) -> bytes:
        """`data` with LF alone as line end. A CR at its end counts at once: the LF that may follow
        in the next piece is then skipped, so that a CR stream is not held back."""
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
            self._after_cr = False
        if data:
            self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _parse_block(block: bytes, events: list[tuple[str, bytes]]) -> None:
    name = ""
    data: list[bytes] = []
    for line in block.split(b"\n"):
        field, colon, value = line.partition(b":")
        if not field:
            continue
        if colon and value.startswith(b" "):
            value = value[1:]
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")
        elif field == b"error":
            # No field of the standard, but how llama.cpp servers report a failure in mid-stream.
            events.append(("error", value))
    if data:
        events.append((name, b"\n".join(data)))
