"""One answer of Ollama's own protocol: its lines and the whole of it look the same."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from llm_client.codecs._http_errors import error_from_value
from llm_client.codecs._json import as_dict, as_list, is_object, loads_valid
from llm_client.codecs._usage import read_usage
from llm_client.codecs.openai_chat._calls import CallSlots, tag_of
from llm_client.codecs.openai_chat._parts import call_fragment, text_of
from llm_client.errors import IncompleteStream, MalformedResponse, excerpt
from llm_client.stream import (
    Finished,
    ResponseStarted,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    UsageReported,
)
from llm_client.types import StopReason

__all__ = ["OllamaAnswer"]

_STOPS = {"stop": StopReason.END, "length": StopReason.LENGTH}


class _Message(Struct, frozen=True):
    content: str | None = None
    thinking: str | None = None
    tool_calls: None = None


class _Usual(Struct, frozen=True):
    """The lines that nearly all of a stream consists of."""

    message: _Message
    done: bool = False
    model: str | None = None
    created_at: str | None = None
    error: None = None


_decode_usual = msgspec.json.Decoder(_Usual).decode


class OllamaAnswer:
    """See `Answer`."""

    __slots__ = ("_begun", "_calls", "_provider", "_stop", "over", "seen")

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._begun = False
        self._calls = CallSlots()
        self._stop: str | None = None
        self.seen = False
        self.over = False

    @property
    def complete(self) -> bool:
        """See `Answer`."""
        return self._stop is not None

    def take(self, payload: bytes, out: list[StreamEvent]) -> None:
        """See `Answer`."""
        try:
            usual = _decode_usual(payload)
        except (ValueError, RecursionError):
            usual = None
        if usual is None or usual.done:
            self._take_unusual(payload, out)
            return
        self._begin(usual.model, usual.created_at, out)
        if usual.message.thinking:
            out.append(ThinkingDelta(usual.message.thinking))
        if usual.message.content:
            out.append(TextDelta(usual.message.content))

    def take_whole(self, body: object, out: list[StreamEvent]) -> None:
        """See `Answer`."""
        self._take_value(body, out)
        if not self.seen:
            raise MalformedResponse(
                "the answer holds no message; check that the address is Ollama's chat endpoint. It "
                f"holds: {excerpt(str(body), 200)}"
            )

    def finish(self, out: list[StreamEvent]) -> None:
        """See `Answer`."""
        if self._stop is None:
            raise IncompleteStream(
                "the stream ended before the model had finished; what arrived is not an answer. "
                "Ask again"
            )
        reason = _STOPS.get(self._stop or "stop", StopReason.OTHER)
        self._calls.finish(out, truncated=reason is StopReason.LENGTH)
        if reason is StopReason.END and self._calls:
            reason = StopReason.TOOL_CALLS
        out.append(Finished(reason, self._stop))

    def _take_unusual(self, payload: bytes, out: list[StreamEvent]) -> None:
        try:
            value = loads_valid(payload)
        except ValueError as error:
            raise MalformedResponse(
                "a line of the stream is not JSON; ask again. It begins: "
                f"{excerpt(payload[:400].decode('utf-8', 'replace'), 200)}"
            ) from error
        self._take_value(value, out)

    def _take_value(self, value: object, out: list[StreamEvent]) -> None:
        if self.complete:
            return
        if not is_object(value):
            raise MalformedResponse("a line of the stream is not a JSON object; ask again")
        if value.get("error"):
            raise error_from_value(self._provider, value)
        message = value.get("message")
        if is_object(message):
            self._begin(value.get("model"), value.get("created_at"), out)
            self._take_message(message, out)
        if value.get("done") is True:
            self._take_end(value, out)

    def _begin(self, model: object, at: object, out: list[StreamEvent]) -> None:
        self.seen = True
        if not self._begun:
            self._begun = True
            # These answers have no id; the time at which they began tells them apart.
            self._calls.tag = tag_of(at if isinstance(at, str) else None)
            out.append(ResponseStarted(None, model if isinstance(model, str) and model else None))

    def _take_message(self, message: dict[str, Any], out: list[StreamEvent]) -> None:
        thinking = text_of(message.get("thinking"), "the reasoning")
        if thinking:
            out.append(ThinkingDelta(thinking))
        text = text_of(message.get("content"), "the content")
        if text:
            out.append(TextDelta(text))
        for call in as_list(message.get("tool_calls")):
            # Calls come whole, and older servers number each of them 0.
            self._calls.add(call_fragment(call), out)

    def _take_end(self, value: dict[str, Any], out: list[StreamEvent]) -> None:
        usage = read_usage(
            {
                "prompt_tokens": value.get("prompt_eval_count"),
                "completion_tokens": value.get("eval_count"),
            }
        )
        if usage is not None:
            out.append(UsageReported(usage))
        reason = as_dict(value).get("done_reason")
        self._stop = reason if isinstance(reason, str) else ""
