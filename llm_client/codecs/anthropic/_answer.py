"""One Messages answer, put together from the frames of a stream or from a whole message.

Frames of the usual shape take a fast path; both paths give the same events.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import structs

from llm_client.codecs._http_errors import error_from_value
from llm_client.codecs._json import as_dict, as_list, is_array, is_object, loads_valid
from llm_client.codecs._usage import read_usage
from llm_client.codecs.anthropic._blocks import (
    CONTAINER,
    Block,
    CallBlock,
    Said,
    TextBlock,
    ThinkingBlock,
    open_block,
    text_of,
)
from llm_client.codecs.anthropic._dialect import AnthropicDialect
from llm_client.codecs.anthropic._frames import JsonPiece, TextPiece, ThinkingPiece, decode_frame
from llm_client.errors import IncompleteStream, LLMError, MalformedResponse, excerpt
from llm_client.parts import COMPACTION
from llm_client.stream import (
    Finished,
    RefusalDelta,
    ResponseStarted,
    StreamEvent,
    UsageReported,
)
from llm_client.types import Opaque, StopReason, Usage

__all__ = ["AnthropicAnswer"]

_STOPS = {
    "end_turn": StopReason.END,
    "tool_use": StopReason.TOOL_CALLS,
    "max_tokens": StopReason.LENGTH,
    "model_context_window_exceeded": StopReason.LENGTH,
    "stop_sequence": StopReason.STOP_SEQUENCE,
    "pause_turn": StopReason.PAUSE,
    COMPACTION: StopReason.PAUSE,
    "refusal": StopReason.REFUSAL,
}

_IMPLICIT = {"text_delta": "text", "thinking_delta": "thinking"}
"""The blocks that a piece may open by itself: some servers leave the start out."""


class AnthropicAnswer:
    """The state of one answer. `take` frames or `take_whole`, then `finish`."""

    __slots__ = (
        "_apart",
        "_begun",
        "_blocks",
        "_container",
        "_counts",
        "_details",
        "_dialect",
        "_said",
        "_spoke",
        "_usage",
        "complete",
        "over",
        "raw_finish",
        "seen",
    )

    def __init__(self, dialect: AnthropicDialect) -> None:
        self._dialect = dialect
        self._begun = False
        self._spoke = False
        self._blocks: dict[int, Block] = {}
        self._said = Said(dialect.origin)
        self._counts = Usage()
        """The counts as the wire has them."""
        self._apart: Usage | None = None
        """What is not in the counts, but was spent on this answer too."""
        self._usage: Usage | None = None
        self._details: dict[str, Any] = {}
        self._container: dict[str, Any] = {}
        self.raw_finish: str | None = None
        self.seen = False
        """Some part of an answer has arrived."""
        self.complete = False
        """The model's own end has been seen; what may follow is only accounting."""
        self.over = False
        """The stream's own end, or an error after the model's: nothing more is worth reading."""

    def take(self, payload: bytes, out: list[StreamEvent]) -> None:
        """Takes the data of the next frame in and appends its events to `out`.

        Raises:
            LLMError: the frame is an error, or makes no sense.
        """
        try:
            frame = decode_frame(payload)
        except (ValueError, RecursionError):
            self._take_unusual(payload, out)
            return
        block = self._blocks.get(frame.index)
        match frame.delta:
            case TextPiece(text) if isinstance(block, TextBlock):
                block.add(text, out)
            case JsonPiece(arguments) if isinstance(block, CallBlock):
                block.add(arguments, out)
            case ThinkingPiece(text) if isinstance(block, ThinkingBlock):
                block.add(text, out)
            case _:
                self._take_unusual(payload, out)

    def take_whole(self, body: object, out: list[StreamEvent]) -> None:
        """Takes in the body of an answer that was not streamed.

        Raises:
            LLMError: it is an error, or makes no sense.
        """
        value = as_dict(next(iter(body), None) if is_array(body) else body)
        if value.get("type") == "error" or value.get("error"):
            raise error_from_value(self._dialect.provider, value)
        if "content" not in value:
            raise MalformedResponse(
                "the answer holds no content; check that the address is a Messages endpoint. It "
                f"holds: {excerpt(str(value), 200)}"
            )
        self._start(value, out)
        self.complete = True

    def finish(self, out: list[StreamEvent]) -> None:
        """Appends the last events.

        Raises:
            IncompleteStream: the answer has not come to its end.
        """
        if not self.complete:
            raise IncompleteStream(
                "the stream ended before the model had finished; what arrived is not an answer. "
                "Ask again"
            )
        for block in self._blocks.values():
            block.close(out)
        if self._container:
            # Whoever goes on with a turn in which code was run must name where it ran.
            json = msgspec.json.encode(self._container).decode()
            self._said.whole(Opaque(self._dialect.origin, CONTAINER, json), out)
        reason = self._reason()
        if reason is not StopReason.LENGTH:
            self._said.fill(out)
        told = self._details.get("explanation")
        if isinstance(told, str) and told:
            out.append(RefusalDelta(told))
        out.append(Finished(reason, self.raw_finish))

    def _reason(self) -> StopReason:
        """The reason in our terms.

        What the provider ran itself are no calls of ours: without any of those "tool_use" is a
        plain end. With some, the answer waits for their results whatever it says, unless code that
        the provider ran has made them and come to its end.
        """
        raw, said = self.raw_finish, self._said
        reason = StopReason.END if raw is None else _STOPS.get(raw, StopReason.OTHER)
        if reason is StopReason.TOOL_CALLS and not said.calls:
            return StopReason.END
        if reason in (StopReason.END, StopReason.PAUSE) and said.asked:
            return StopReason.TOOL_CALLS
        return reason

    # ── any frame ─────────────────────────────────────────────────────────────────────────────────

    def _take_unusual(self, payload: bytes, out: list[StreamEvent]) -> None:
        try:
            value = loads_valid(payload)
            if not is_object(value):
                raise MalformedResponse("a frame of the stream is not a JSON object; ask again")
            self._take_frame(value, out)
        except ValueError as error:
            if not self.complete:
                raise MalformedResponse(
                    "a frame of the stream is not JSON; ask again, or report it to the provider. "
                    f"It begins: {excerpt(payload[:400].decode('utf-8', 'replace'), 200)}"
                ) from error
            self.over = True
        except LLMError:
            # After the model's own end an error takes nothing away from the answer.
            if not self.complete:
                raise
            self.over = True

    def _take_frame(self, value: dict[str, Any], out: list[StreamEvent]) -> None:
        match value.get("type"):
            case "message_start":
                self._take_start(value.get("message"), out)
            case "content_block_start":
                self._take_block(value, out)
            case "content_block_delta":
                self._take_delta(value, out)
            case "content_block_stop":
                block = self._blocks.pop(_index(value), None)
                if block is not None:
                    block.close(out)
            case "message_delta":
                self._begin({}, out)
                self._take_end(as_dict(value.get("delta")))
                self._count(value.get("usage"), out)
            case "message_stop":
                self.complete = self.complete or self._begun
                self.over = self.complete
            case kind:
                # Pings, and kinds that are not known yet.
                if kind == "error" or value.get("error"):
                    raise error_from_value(self._dialect.provider, value)

    def _take_start(self, message: object, out: list[StreamEvent]) -> None:
        if message is not None and not is_object(message):
            raise MalformedResponse("the start of the stream is not an object; ask again")
        if self._spoke:
            raise MalformedResponse(
                "a second answer begins in the middle of the first; ask again, or report it to the "
                "provider"
            )
        self._start(as_dict(message), out)

    def _start(self, message: dict[str, Any], out: list[StreamEvent]) -> None:
        """A message as far as it is known. A stream's first frame may already hold blocks."""
        self._begin(message, out)
        content = message.get("content")
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        if content is not None and not is_array(content):
            raise MalformedResponse("the content of the answer is not a list; ask again")
        for fields in as_list(content):
            self._open(fields, out).close(out)
        self._take_end(message)
        self._count(message.get("usage"), out)

    def _take_block(self, value: dict[str, Any], out: list[StreamEvent]) -> None:
        index = _index(value)
        before = self._blocks.pop(index, None)
        if before is not None:
            before.close(out)
        self._blocks[index] = self._open(value.get("content_block"), out)

    def _take_delta(self, value: dict[str, Any], out: list[StreamEvent]) -> None:
        delta = value.get("delta")
        if not is_object(delta):
            raise MalformedResponse("a piece of a block is not an object; ask again")
        index = _index(value)
        block = self._blocks.get(index)
        if block is None:
            kind = delta.get("type")
            if kind == "input_json_delta":
                raise MalformedResponse(
                    "the stream holds arguments of a tool call that never began; ask again"
                )
            implied = _IMPLICIT.get(kind) if isinstance(kind, str) else None
            if implied is None:
                return
            block = self._blocks[index] = self._open({"type": implied}, out)
        block.take(delta, out)

    def _open(self, fields: object, out: list[StreamEvent]) -> Block:
        if not is_object(fields):
            raise MalformedResponse("a block of the answer is not an object; ask again")
        self._begin({}, out)
        self._spoke = True
        return open_block(self._said, fields, out)

    def _begin(self, message: dict[str, Any], out: list[StreamEvent]) -> None:
        self.seen = True
        if self._begun:
            return
        self._begun = True
        id, model = message.get("id"), message.get("model")
        out.append(
            ResponseStarted(
                id if isinstance(id, str) and id else None,
                model if isinstance(model, str) and model else None,
            )
        )

    def _take_end(self, fields: dict[str, Any]) -> None:
        reason = text_of(fields.get("stop_reason"), "the stop reason")
        if reason:
            self.raw_finish = reason
            self.complete = True
        self._details = as_dict(fields.get("stop_details")) or self._details
        self._container = as_dict(fields.get("container")) or self._container

    def _count(self, raw: object, out: list[StreamEvent]) -> None:
        """A later report has the last word on every count that it names. What was read from the
        cache or written to it is counted beside the input."""
        news = read_usage(raw, trust_total=False)
        if news is None:
            return
        pairs = zip(structs.astuple(self._counts), structs.astuple(news), strict=True)
        usage = self._counts = Usage(*[old if new is None else new for old, new in pairs])
        self._apart = _apart(as_dict(raw)) or self._apart
        usage = _with_cached(usage)
        if self._apart is not None:
            usage += self._apart
        if usage != self._usage:
            self._usage = usage
            out.append(UsageReported(usage))


def _with_cached(usage: Usage) -> Usage:
    if usage.input_tokens is None:
        return usage
    cached = (usage.cached_tokens or 0) + (usage.cache_write_tokens or 0)
    return structs.replace(usage, input_tokens=usage.input_tokens + cached)


def _apart(raw: dict[str, Any]) -> Usage | None:
    """What it took to make a summary of the prompt: it is paid for, but stands in no total."""
    steps = [as_dict(step) for step in as_list(raw.get("iterations"))]
    found = [
        read_usage(step, trust_total=False) for step in steps if step.get("type") == COMPACTION
    ]
    spent = [_with_cached(usage) for usage in found if usage is not None]
    return sum(spent, Usage()) if spent else None


def _index(value: dict[str, Any]) -> int:
    index = value.get("index")
    return index if isinstance(index, int) else 0
