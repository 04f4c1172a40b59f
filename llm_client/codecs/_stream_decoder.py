"""Reads one streamed answer: the same for every protocol that comes in frames."""

from __future__ import annotations

from typing import Protocol

from llm_client.codecs._answer import Answer
from llm_client.codecs._http_errors import error_from_body
from llm_client.codecs._json import is_array, is_object, loads_valid
from llm_client.errors import IncompleteStream, LLMError, MalformedResponse, excerpt
from llm_client.sse import BOM, EVENT_LIMIT, SSEParser
from llm_client.stream import StreamEvent

__all__ = ["Frames", "StreamDecoder"]

_HEAD = 1000


class Frames(Protocol):
    """**Protocol**: cuts a byte stream into pairs of a frame's name and its data."""

    @property
    def begins_with(self) -> bytes:
        """First bytes of a frame that could be taken for those of a plain body."""
        ...

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """The frames that `data` completes."""
        ...

    def close(self) -> list[tuple[str, bytes]]:
        """The last frame, if nothing marked its end."""
        ...


class StreamDecoder:
    """A `Decoder` for one stream.

    The answer is complete with `[DONE]`, or with the model's own end at the end of the bytes;
    whatever else ends it is an error. An error that came in the same bytes as good events is
    raised by the next call, so that the events do not depend on how the network cut the bytes.
    """

    __slots__ = (
        "_answer",
        "_body",
        "_error",
        "_frames",
        "_head",
        "_limit",
        "_provider",
        "_size",
        "_started",
        "done",
    )

    def __init__(
        self,
        answer: Answer,
        provider: str,
        frames: Frames | None = None,
        limit: int = EVENT_LIMIT,
    ) -> None:
        self._provider = provider
        self._answer = answer
        self._frames = SSEParser(limit) if frames is None else frames
        self._limit = limit
        self._size = 0
        self._error: LLMError | None = None
        self._head: bytes = b""
        self._body: list[bytes] | None = None
        self._started = False
        self.done = False
        """Nothing more is expected: stop reading and call `close`."""

    def feed(self, data: bytes) -> list[StreamEvent]:
        """The events that `data` completes, in order.

        Raises:
            LLMError: the provider reported an error, or the bytes make no sense.
        """
        if self.done:
            return self._after_end()
        if not self._started:
            data = self._start(data)
        out: list[StreamEvent] = []
        try:
            if self._body is None:
                self._take(self._frames.feed(data), out)
            else:
                self._keep(data)
        except (LLMError, RecursionError) as error:
            failure = self._failed(error)
            if not out:
                raise failure from error
        return out

    def close(self) -> list[StreamEvent]:
        """The last events, at the end of the bytes.

        Raises:
            IncompleteStream: the answer had not come to its end.
            LLMError: what is left is an error, or no answer at all.
        """
        if self.done:
            return self._after_end()
        out: list[StreamEvent] = []
        try:
            self._end_of_bytes(out)
        except (LLMError, RecursionError) as error:
            raise self._failed(error) from error
        return out

    def _failed(self, error: LLMError | RecursionError) -> LLMError:
        """Ends the stream with `error`, which later calls raise."""
        if isinstance(error, RecursionError):
            error = MalformedResponse("the answer is nested too deeply; ask again")
        error.provider = error.provider or self._provider
        self._error = error
        self.done = True
        return error

    def _after_end(self) -> list[StreamEvent]:
        if self._error is not None:
            raise self._error
        return []

    def _start(self, data: bytes) -> bytes:
        """Holds the first bytes until they show whether this is a stream of events at all: some
        servers answer a streaming request with one JSON body, and proxies with a page."""
        data = self._head + data
        begins = data.removeprefix(BOM)
        first = b"" if BOM.startswith(begins) else begins.lstrip()[:1]
        self._started = bool(first) or len(data) > _HEAD
        self._head = data[:_HEAD] if self._started else data
        if first and first in b"{[<" and first not in self._frames.begins_with:
            self._body = []
        return data if self._started else b""

    def _keep(self, data: bytes) -> None:
        assert self._body is not None
        self._body.append(data)
        self._size += len(data)
        if self._size > self._limit:
            raise MalformedResponse(
                f"the answer is larger than {self._limit} bytes; it was given up", retryable=False
            )

    def _take(self, events: list[tuple[str, bytes]], out: list[StreamEvent]) -> None:
        answer = self._answer
        for name, payload in events:
            if payload == b"[DONE]" or payload.strip() == b"[DONE]":
                self._finish(out)
                return
            if name == "error" and not answer.complete:
                raise error_from_body(self._provider, 200, {}, payload)
            if payload and name != "error":
                answer.take(payload, out)
            if answer.over:
                self._finish(out)
                return

    def _end_of_bytes(self, out: list[StreamEvent]) -> None:
        if self._body is not None:
            self._take_body(b"".join(self._body), out)
            return
        try:
            self._take(self._frames.close(), out)
        except MalformedResponse as error:
            # The last event was cut: if the model had finished, nothing of the answer is missing.
            if not self._answer.complete:
                raise self._incomplete() from error
        if not self.done:
            if not self._answer.complete:
                raise self._incomplete()
            self._answer.finish(out)
            self.done = True

    def _finish(self, out: list[StreamEvent]) -> None:
        if not self._answer.seen:
            raise self._incomplete()
        self._answer.finish(out)
        self.done = True

    def _take_body(self, body: bytes, out: list[StreamEvent]) -> None:
        try:
            value = loads_valid(body)
        except ValueError as error:
            raise MalformedResponse(
                "the answer is neither a stream of events nor JSON; check the base address and any "
                f"proxy in between. It begins: {excerpt(body[:2000].decode('utf-8', 'replace'))}"
            ) from error
        if not is_object(value) and not is_array(value):
            raise error_from_body(self._provider, 200, {}, body)
        self._answer.take_whole(value, out)
        self._answer.finish(out)
        self.done = True

    def _incomplete(self) -> LLMError:
        if self._answer.seen:
            return IncompleteStream(
                "the stream ended before the model had finished; what arrived is not an answer. "
                "Ask again"
            )
        head = excerpt(self._head.decode("utf-8", "replace"))
        said = f" It began: {head}" if head else ""
        return IncompleteStream(f"the stream ended without an answer; ask again.{said}")
