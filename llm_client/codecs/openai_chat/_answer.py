"""One Chat Completions answer, put together from chunks or from a whole message.

A whole message is read as a single large delta, so that there is one place for every quirk. Chunks
of the usual shape take a fast path; both paths give the same events.
"""

from __future__ import annotations

from typing import Any

import msgspec

from llm_client.codecs._http_errors import error_from_value
from llm_client.codecs._json import (
    SURROGATE_ESCAPE,
    as_dict,
    as_list,
    is_array,
    is_object,
    loads,
    mend_value,
)
from llm_client.codecs._usage import read_usage
from llm_client.codecs.openai_chat._calls import CallSlots, Fragment, tag_of
from llm_client.codecs.openai_chat._chunks import Call, Chunk, Delta, decode_chunk
from llm_client.codecs.openai_chat._dialect import ChatDialect
from llm_client.codecs.openai_chat._finish import failure_of, stop_reason
from llm_client.codecs.openai_chat._parts import (
    DetailLog,
    SoundLog,
    block_text,
    call_fragment,
    reasoning_text,
    text_of,
)
from llm_client.errors import LLMError, MalformedResponse, excerpt
from llm_client.stream import (
    Finished,
    PartCompleted,
    RefusalDelta,
    ResponseStarted,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    UsageReported,
)
from llm_client.types import Opaque, StopReason, Usage

__all__ = ["ChatAnswer"]

_UNUSUAL_ENOUGH = 3
"""After so many chunks of unusual shape the fast path is not tried any more."""


class ChatAnswer:
    """The state of one answer. `take` chunks or `take_whole`, then `finish`."""

    __slots__ = (
        "_begun",
        "_calls",
        "_details",
        "_dialect",
        "_half",
        "_index",
        "_refused",
        "_sound",
        "_spoke",
        "_stop_text",
        "_unusual",
        "_usage",
        "over",
        "raw_finish",
        "seen",
    )

    def __init__(self, dialect: ChatDialect) -> None:
        self._dialect = dialect
        self._begun = False
        self._index: int | None = None
        self._calls = CallSlots()
        self._details = DetailLog()
        self._sound = SoundLog()
        self._usage: Usage | None = None
        self._refused = False
        self._spoke = False
        self._stop_text = False
        self._unusual = 0
        self._half = ""
        """The first half of a character that the server itself cut in two."""
        self.raw_finish: str | None = None
        self.seen = False
        """Some part of an answer has arrived."""
        self.over = False
        """An error came after the answer was complete: nothing more is worth reading."""

    @property
    def complete(self) -> bool:
        """The model's own end has been seen; what may follow is only accounting."""
        return bool(self.raw_finish)

    def take(self, payload: bytes, out: list[StreamEvent]) -> None:
        """Takes the next chunk in and appends its events to `out`.

        Raises:
            LLMError: the chunk is an error, or makes no sense.
        """
        if self._unusual < _UNUSUAL_ENOUGH and not self._half:
            try:
                chunk = decode_chunk(payload)
            except (ValueError, RecursionError):
                self._unusual += 1
            else:
                self._take_usual(chunk, out)
                return
        self._take_unusual(payload, out)

    def take_whole(self, body: object, out: list[StreamEvent]) -> None:
        """Takes in the body of an answer that was not streamed.

        Raises:
            LLMError: it is an error, or makes no sense.
        """
        # Gemini's compatible endpoint puts its errors into a list.
        value = as_dict(next(iter(body), None) if is_array(body) else body)
        error = self._error_in(value)
        if error is not None:
            raise error
        choice = as_dict(next(iter(as_list(value.get("choices"))), None))
        message = choice.get("message") or choice.get("delta")
        if not is_object(message):
            raise MalformedResponse(
                "the answer holds no message; check that the address is a Chat Completions "
                f"endpoint. It holds: {excerpt(str(value), 200)}"
            )
        self._begin(value.get("id"), value.get("model"), out)
        self._take_delta(as_dict(message), out, whole=True)
        self._take_end(choice)
        self._count(_usage_of(value, choice), out)

    def finish(self, out: list[StreamEvent]) -> None:
        """Appends the last events.

        Raises:
            MalformedResponse: a tool call never got a name.
        """
        if self._half:
            out.append(TextDelta("\ufffd"))
        parts = (self._details.part(self._dialect.provider), self._sound.part())
        out.extend(PartCompleted(part) for part in parts if part is not None)
        reason = stop_reason(
            self.raw_finish,
            calls=bool(self._calls),
            refused=self._refused,
            stop_text=self._stop_text,
        )
        truncated = reason in (StopReason.LENGTH, StopReason.CONTENT_FILTER)
        self._calls.finish(out, truncated=truncated)
        out.append(Finished(reason, self.raw_finish))

    # ── the usual chunk ───────────────────────────────────────────────────────────────────────────

    def _take_usual(self, chunk: Chunk, out: list[StreamEvent]) -> None:
        if not self._begun:
            self._begin(chunk.id, chunk.model, out)
        for choice in chunk.choices:
            if choice.index != self._index and not self._is_ours(choice.index):
                continue
            self.seen = True
            if choice.delta is not None:
                self._take_usual_delta(choice.delta, out)
            if choice.finish_reason is not None:
                self._end(choice.finish_reason)
        if chunk.usage is not None:
            self._count(chunk.usage, out)
        elif chunk.x_groq is not None and chunk.x_groq.usage is not None:
            self._count(chunk.x_groq.usage, out)

    def _take_usual_delta(self, delta: Delta, out: list[StreamEvent]) -> None:
        thinking = delta.reasoning_content or delta.reasoning
        if thinking:
            self._spoke = True
            out.append(ThinkingDelta(thinking))
        if delta.content:
            self._spoke = True
            out.append(TextDelta(delta.content))
        if delta.tool_calls:
            self._take_calls(delta.tool_calls, out)
        if delta.refusal:
            self._refuse(delta.refusal, out)

    def _take_calls(self, calls: list[Call], out: list[StreamEvent]) -> None:
        alone = len(calls) == 1
        for position, call in enumerate(calls):
            function = call.function
            name = (function and function.name) or ""
            arguments = (function and function.arguments) or ""
            if (
                call.index is not None
                and not call.id
                and not name
                and arguments
                and self._calls.extend(call.index, arguments, out)
            ):
                continue
            fragment = Fragment(call.index, call.id or "", name, arguments)
            self._calls.take(fragment, position, out, alone=alone)

    # ── any other chunk ───────────────────────────────────────────────────────────────────────────

    def _take_unusual(self, payload: bytes, out: list[StreamEvent]) -> None:
        try:
            value = loads(payload)
        except ValueError as error:
            raise MalformedResponse(
                "a chunk of the stream is not JSON; ask again, or report it to the provider. It "
                f"begins: {excerpt(payload[:400].decode('utf-8', 'replace'), 200)}"
            ) from error
        if not is_object(value):
            raise MalformedResponse("a chunk of the stream is not a JSON object; ask again")
        chunk = as_dict(value)
        if self._half or SURROGATE_ESCAPE.search(payload):
            chunk = self._rejoined(chunk)
        error = self._error_in(chunk)
        if error is None:
            self._take_choices(chunk, out)
        self._count(_usage_of(chunk, {}), out)
        if error is not None and not self.complete:
            raise error
        # After the model's own end an error takes nothing away from the answer.
        self.over = error is not None

    def _take_choices(self, chunk: dict[str, Any], out: list[StreamEvent]) -> None:
        choices = chunk.get("choices")
        if choices is not None and not is_array(choices):
            raise MalformedResponse("the choices of a chunk are not a list; ask again")
        if not self._begun:
            self._begin(chunk.get("id"), chunk.get("model"), out)
        for item in as_list(choices):
            if not is_object(item):
                raise MalformedResponse("a choice of a chunk is not an object; ask again")
            choice = as_dict(item)
            index = choice.get("index")
            if not self._is_ours(index if isinstance(index, int) else 0):
                continue
            self.seen = True
            delta = choice.get("delta")
            if delta is None and not self._spoke and not self._calls:
                # Some servers end with the whole message; it is news only if nothing came before.
                delta = choice.get("message")
            if delta is not None and not is_object(delta):
                raise MalformedResponse("the delta of a chunk is not an object; ask again")
            self._take_delta(as_dict(delta), out, whole=False)
            self._take_end(choice)
            self._count(choice.get("usage"), out)

    def _take_delta(self, delta: dict[str, Any], out: list[StreamEvent], *, whole: bool) -> None:
        self.seen = True
        details = delta.get("reasoning_details")
        told = self._details.add(details) if details else ""
        thinking = reasoning_text(delta) or told
        if thinking:
            self._spoke = True
            out.append(ThinkingDelta(thinking))
        self._take_content(delta.get("content"), out)
        calls = delta.get("tool_calls")
        if calls is not None and not is_array(calls):
            raise MalformedResponse("the tool calls of the answer are not a list; ask again")
        fragments = [call_fragment(call) for call in as_list(calls)]
        for position, fragment in enumerate(fragments):
            if whole:
                self._calls.add(fragment, out)
            else:
                self._calls.take(fragment, position, out, alone=len(fragments) == 1)
        if delta.get("function_call"):
            legacy = call_fragment({"index": -1, "function": delta["function_call"]})
            if legacy.name or legacy.arguments:
                self._calls.take(legacy, 0, out, alone=True)
        self._refuse(text_of(delta.get("refusal"), "the refusal"), out)
        if delta.get("audio"):
            self._sound.add(delta["audio"])

    def _take_content(self, content: object, out: list[StreamEvent]) -> None:
        if not is_array(content):
            text = text_of(content, "the content")
            if text:
                self._spoke = True
                out.append(TextDelta(text))
            return
        for block in content:
            if not is_object(block) and not isinstance(block, str):
                raise MalformedResponse("the content holds a block that is none; ask again")
            fields = as_dict(block)
            kind = fields.get("type")
            kind = kind if isinstance(kind, str) else ""
            text = block_text(block)
            if any(word in kind for word in ("reason", "think", "thought")):
                if text:
                    out.append(ThinkingDelta(text))
            elif kind == "refusal":
                self._refuse(text_of(fields.get("refusal"), "the refusal"), out)
            elif text and (not fields or "text" in fields):
                self._spoke = True
                out.append(TextDelta(text))
            elif fields and "text" not in fields:
                json = msgspec.json.encode(fields).decode()
                out.append(PartCompleted(Opaque(self._dialect.provider, kind, json)))

    # ── what both have in common ──────────────────────────────────────────────────────────────────

    def _begin(self, id: object, model: object, out: list[StreamEvent]) -> None:
        self._begun = True
        self._calls.tag = tag_of(id if isinstance(id, str) else None)
        out.append(
            ResponseStarted(
                id if isinstance(id, str) and id else None,
                model if isinstance(model, str) and model else None,
            )
        )

    def _is_ours(self, index: int) -> bool:
        if self._index is None:
            self._index = index
        return index == self._index

    def _refuse(self, text: str, out: list[StreamEvent]) -> None:
        if text:
            self._refused = True
            out.append(RefusalDelta(text))

    def _take_end(self, choice: dict[str, Any]) -> None:
        reason = text_of(choice.get("finish_reason"), "the finish reason")
        if choice.get("finish_reason") is not None:
            self._stop_text = isinstance(choice.get("stop_reason"), str)
            self._end(reason)

    def _end(self, reason: str) -> None:
        failure = failure_of(reason, self._dialect.provider)
        if failure is not None and not self.complete:
            raise failure
        if failure is None and (reason or self.raw_finish is None):
            self.raw_finish = reason

    def _count(self, raw: object, out: list[StreamEvent]) -> None:
        usage = read_usage(raw, trust_total=self._dialect.trust_total)
        if usage is not None and usage != self._usage:
            self._usage = usage
            out.append(UsageReported(usage))

    def _error_in(self, value: dict[str, Any]) -> LLMError | None:
        """The error that `value` reports, None if it is none."""
        bare = "choices" not in value and "usage" not in value
        told = value.get("message") or value.get("detail")
        if value.get("error") or value.get("object") == "error" or (bare and told):
            return error_from_value(self._dialect.provider, value)
        return None

    def _rejoined(self, chunk: dict[str, Any]) -> dict[str, Any]:
        """`chunk` with valid text throughout. A half character at the end of the content waits for
        its other half: servers that count in UTF-16 cut emoji in two."""
        for choice in as_list(chunk.get("choices")):
            delta = as_dict(as_dict(choice).get("delta"))
            text = delta.get("content")
            if isinstance(text, str) and text:
                text = self._half + text
                self._half = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
                delta["content"] = text.removesuffix(self._half) if self._half else text
        return mend_value(chunk)


def _usage_of(value: dict[str, Any], choice: dict[str, Any]) -> object:
    """The usage object, wherever the vendor puts it."""
    return value.get("usage") or as_dict(value.get("x_groq")).get("usage") or choice.get("usage")
