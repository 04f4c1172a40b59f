"""One Cohere v2 answer, put together from stream events or from a whole message."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from llm_client.codecs._http_errors import error_from_value
from llm_client.codecs._json import as_dict, as_list, is_object, loads_valid
from llm_client.codecs._usage import read_usage
from llm_client.codecs.openai_chat._calls import CallSlots, tag_of
from llm_client.codecs.openai_chat._parts import call_fragment, text_of
from llm_client.errors import IncompleteStream, LLMError, MalformedResponse, ServerError, excerpt
from llm_client.stream import (
    Finished,
    PartCompleted,
    PartSealed,
    ResponseStarted,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    UsageReported,
)
from llm_client.types import Citation, Opaque, Seal, StopReason

__all__ = ["ORIGIN", "PLAN", "CohereAnswer"]

ORIGIN = "cohere"
PLAN = Seal(ORIGIN, kind="tool_plan")
"""Marks reasoning that came, and goes back, as the plan of the calls that follow it."""
_THOUGHT = Seal(ORIGIN)

_STOPS = {
    "COMPLETE": StopReason.END,
    "STOP_SEQUENCE": StopReason.STOP_SEQUENCE,
    "MAX_TOKENS": StopReason.LENGTH,
    "TOOL_CALL": StopReason.TOOL_CALLS,
    "ERROR_LIMIT": StopReason.LENGTH,
    "ERROR_TOXIC": StopReason.CONTENT_FILTER,
}
_FAILURES = frozenset({"ERROR", "TIMEOUT"})


class _Content(Struct, frozen=True):
    text: str | None = None
    thinking: str | None = None


class _Message(Struct, frozen=True):
    content: _Content | None = None
    tool_plan: str | None = None
    tool_calls: None = None
    citations: None = None


class _Delta(Struct, frozen=True):
    message: _Message | None = None


class _Usual(Struct, frozen=True):
    """The frames that nearly all of a stream consists of."""

    type: str
    delta: _Delta | None = None


_decode_usual = msgspec.json.Decoder(_Usual).decode
_USUAL = frozenset({"content-delta", "tool-plan-delta"})


class CohereAnswer:
    """See `Answer`."""

    __slots__ = (
        "_begun",
        "_calls",
        "_citations",
        "_index",
        "_last",
        "_provider",
        "_stop",
        "over",
        "seen",
    )

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._begun = False
        self._calls = CallSlots()
        self._citations: list[Citation] = []
        self._index: object = None
        self._last = ""
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
        if usual is not None and usual.type in _USUAL and usual.delta and usual.delta.message:
            message = usual.delta.message
            self.seen = True
            self._say("plan", message.tool_plan, out)
            if message.content is not None:
                self._say("thinking", message.content.thinking, out)
                self._say("text", message.content.text, out)
            return
        self._take_unusual(payload, out)

    def take_whole(self, body: object, out: list[StreamEvent]) -> None:
        """See `Answer`."""
        value = as_dict(body)
        message = value.get("message")
        if not is_object(message):
            if value.get("message") or value.get("error"):
                raise error_from_value(self._provider, value)
            raise MalformedResponse(
                "the answer holds no message; check that the address is Cohere's v2 chat endpoint. "
                f"It holds: {excerpt(str(body), 200)}"
            )
        self._begin(value, out)
        self._say("plan", text_of(message.get("tool_plan"), "the tool plan"), out)
        for block in as_list(message.get("content")):
            self._take_block(as_dict(block), out)
        for citation in as_list(message.get("citations")):
            self._cite(citation)
        self._seal(out)
        for call in as_list(message.get("tool_calls")):
            self._calls.add(call_fragment(call), out)
        self._take_end(value, out)

    def finish(self, out: list[StreamEvent]) -> None:
        """See `Answer`."""
        if self._stop is None:
            raise IncompleteStream(
                "the stream ended before the model had finished; what arrived is not an answer. "
                "Ask again"
            )
        self._seal(out)
        reason = _STOPS.get(self._stop, StopReason.OTHER)
        self._calls.finish(out, truncated=reason in (StopReason.LENGTH, StopReason.CONTENT_FILTER))
        if reason in (StopReason.END, StopReason.TOOL_CALLS):
            reason = StopReason.TOOL_CALLS if self._calls else StopReason.END
        out.append(Finished(reason, self._stop))

    # ── frames ────────────────────────────────────────────────────────────────────────────────────

    def _take_unusual(self, payload: bytes, out: list[StreamEvent]) -> None:
        try:
            value = as_dict(loads_valid(payload))
        except ValueError as error:
            raise MalformedResponse(
                "an event of the stream is not JSON; ask again. It begins: "
                f"{excerpt(payload[:400].decode('utf-8', 'replace'), 200)}"
            ) from error
        delta = as_dict(value.get("delta"))
        message = as_dict(delta.get("message"))
        match value.get("type"):
            case "message-start":
                self._begin(value, out)
            case "content-start" | "content-delta":
                if value.get("index") != self._index:
                    self._seal(out)
                    self._index = value.get("index")
                self._take_block(as_dict(message.get("content")), out)
            case "tool-plan-delta":
                self._say("plan", text_of(message.get("tool_plan"), "the tool plan"), out)
            case "tool-call-start" | "tool-call-delta":
                self._seal(out)
                fragment = call_fragment(
                    {**as_dict(message.get("tool_calls")), "index": value.get("index")}
                )
                self._calls.take(fragment, 0, out, alone=True)
                self.seen = True
            case "citation-start":
                self._cite(message.get("citations"))
            case "message-end":
                self._take_end(delta, out)
            case _:
                self._take_other(value)

    def _take_other(self, value: dict[str, Any]) -> None:
        if self.complete:
            return
        if value.get("error") or ("type" not in value and value.get("message")):
            raise error_from_value(self._provider, value)

    # ── what frames and a whole answer have in common ─────────────────────────────────────────────

    def _begin(self, value: dict[str, Any], out: list[StreamEvent]) -> None:
        if self._begun:
            return
        self._begun = True
        id = value.get("id")
        self._calls.tag = tag_of(id if isinstance(id, str) else None)
        out.append(ResponseStarted(id if isinstance(id, str) and id else None, None))

    def _take_block(self, block: dict[str, Any], out: list[StreamEvent]) -> None:
        self.seen = True
        kind = block.get("type")
        if kind in ("text", "thinking", None):
            self._say("thinking", text_of(block.get("thinking"), "the reasoning"), out)
            self._say("text", text_of(block.get("text"), "the text"), out)
        else:
            self._seal(out)
            json = msgspec.json.encode(block).decode()
            out.append(PartCompleted(Opaque(ORIGIN, str(kind), json)))

    def _say(self, kind: str, text: str | None, out: list[StreamEvent]) -> None:
        if not text:
            return
        self.seen = True
        if kind != self._last:
            self._seal(out)
            self._last = kind
        out.append(TextDelta(text) if kind == "text" else ThinkingDelta(text))

    def _seal(self, out: list[StreamEvent]) -> None:
        """Ends the part that the latest deltas belong to."""
        match self._last:
            case "plan":
                out.append(PartSealed(PLAN))
            case "thinking":
                out.append(PartSealed(_THOUGHT))
            case "text" if self._citations:
                out.append(PartSealed(None, tuple(self._citations)))
                self._citations.clear()
            case _:
                return
        self._last = ""

    def _cite(self, value: object) -> None:
        citation = as_dict(value)
        if not citation:
            return
        source = as_dict(next(iter(as_list(citation.get("sources"))), None))
        held = as_dict(source.get("document")) or as_dict(source.get("tool_output"))
        self._citations.append(
            Citation(
                msgspec.json.encode(citation).decode(),
                _text(held.get("url")),
                _text(held.get("title")),
                _text(citation.get("text")),
            )
        )

    def _take_end(self, source: dict[str, Any], out: list[StreamEvent]) -> None:
        usage = as_dict(source.get("usage"))
        counted = read_usage(
            {**as_dict(usage.get("tokens")), "cached_tokens": usage.get("cached_tokens")}
        )
        if counted is not None:
            out.append(UsageReported(counted))
        reason = source.get("finish_reason")
        stop = reason.upper() if isinstance(reason, str) else ""
        if source.get("error") or stop in _FAILURES:
            raise self._failure(source, stop)
        self._stop = stop
        self.seen = True

    def _failure(self, source: dict[str, Any], stop: str) -> LLMError:
        if source.get("error"):
            return error_from_value(self._provider, source)
        return ServerError(
            f"{self._provider}: the provider failed while answering; try again",
            code=stop,
            provider=self._provider,
        )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
