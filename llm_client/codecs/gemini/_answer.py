"""One Gemini answer, put together from the chunks of a stream or from a whole body.

A whole body is read as a single large chunk, so that there is one place for every quirk. Chunks of
the usual shape take a fast path; both paths give the same events.
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
from llm_client.codecs.gemini._calls import CallLog
from llm_client.codecs.gemini._chunks import Candidate, Chunk, Counts, decode_chunk
from llm_client.codecs.gemini._dialect import GeminiDialect
from llm_client.codecs.gemini._finish import (
    UNEXPECTED_CALL,
    failure_of,
    read_finish,
    stop_reason,
    tool_use_failed,
)
from llm_client.codecs.gemini._parts import METADATA, citations_in, metadata_in, other_part
from llm_client.codecs.gemini._usage import read_counts, together, usage_of
from llm_client.errors import (
    ContentFiltered,
    IncompleteStream,
    LLMError,
    MalformedResponse,
    excerpt,
)
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
from llm_client.types import Citation, Opaque, Seal, StopReason, Text, Thinking

__all__ = ["GeminiAnswer"]


class GeminiAnswer:
    """The state of one answer. `take` chunks or `take_whole`, then `finish`."""

    __slots__ = (
        "_begun",
        "_calls",
        "_citations",
        "_counts",
        "_dialect",
        "_held",
        "_index",
        "_metadata",
        "_response_id",
        "_said",
        "_seal",
        "_thinking",
        "_whole",
        "over",
        "raw_finish",
        "seen",
    )

    def __init__(self, dialect: GeminiDialect) -> None:
        self._dialect = dialect
        self._begun = False
        self._response_id: str | None = None
        self._index: int | None = None
        self._calls = CallLog(dialect.origin)
        self._counts = Counts()
        self._thinking: bool | None = None
        """Whether the run of deltas that is open is reasoning, None if none is open."""
        self._seal: Seal | None = None
        """What the open run will be sealed with; nothing more belongs to it then."""
        self._metadata: dict[str, dict[str, Any]] = {}
        self._citations: tuple[Citation, ...] = ()
        self._held = False
        self._whole = False
        self._said = ""
        self.raw_finish: str | None = None
        self.seen = False
        """Some part of an answer has arrived."""
        self.over = False
        """An error came after the answer was complete: nothing more is worth reading."""

    @property
    def complete(self) -> bool:
        """The model's own end has been seen; what may follow is only accounting."""
        return self.raw_finish is not None

    def take(self, payload: bytes, out: list[StreamEvent]) -> None:
        """Takes the next chunk in and appends its events to `out`.

        Raises:
            LLMError: the chunk is an error, or makes no sense.
        """
        try:
            chunk = decode_chunk(payload)
        except (ValueError, RecursionError):
            self._take_value(self._loaded(payload), out)
        else:
            self._take_usual(chunk, out)

    def take_whole(self, body: object, out: list[StreamEvent]) -> None:
        """Takes in the body of an answer that was not streamed, or the chunks of one as a list.

        Raises:
            LLMError: it is an error, or makes no sense.
        """
        chunks = body if is_array(body) else [body]
        for chunk in chunks:
            if not is_object(chunk):
                raise MalformedResponse("the answer is not a JSON object; ask again")
            self._take_value(chunk, out)
        if not self.seen:
            raise MalformedResponse(
                "the answer holds no candidate; check that the address is a generateContent "
                f"endpoint. It holds: {excerpt(str(body), 200)}"
            )
        self._whole = not is_array(body)

    def finish(self, out: list[StreamEvent]) -> None:
        """Appends the last events.

        Raises:
            IncompleteStream: no chunk had said why the answer ends.
            ToolUseFailed: the model's call was no call of an offered function, nor readable.
            MalformedResponse: there is nothing in the answer, and no reason for that.
        """
        if self.raw_finish is None and not self._whole:
            raise IncompleteStream(
                "the stream ended before the model had finished; what arrived is not an answer. "
                "Ask again"
            )
        self._calls.close(out)
        self._close(out)
        for name in METADATA:
            if name in self._metadata:
                json = msgspec.json.encode(self._metadata[name]).decode()
                out.append(PartCompleted(Opaque(self._dialect.origin, name, json)))
        if self.raw_finish == UNEXPECTED_CALL and not self._calls.count:
            raise tool_use_failed(UNEXPECTED_CALL, self._said, self._dialect.provider)
        reason = stop_reason(self.raw_finish, calls=self._calls.count > 0)
        if reason is StopReason.END and not self._held:
            raise MalformedResponse(
                "the answer is empty although it ends as if complete; ask again"
            )
        out.append(Finished(reason, self.raw_finish))

    # ── the usual chunk ───────────────────────────────────────────────────────────────────────────

    def _take_usual(self, chunk: Chunk, out: list[StreamEvent]) -> None:
        if not self._begun:
            self._begin(chunk.response_id, chunk.model_version, out)
        if chunk.usage_metadata is not None:
            self._count(chunk.usage_metadata, out)
        for candidate in chunk.candidates:
            if candidate.index == self._index or self._is_ours(candidate.index):
                self._take_usual_candidate(candidate, out)

    def _take_usual_candidate(self, candidate: Candidate, out: list[StreamEvent]) -> None:
        self.seen = True
        reason = candidate.finish_reason
        if reason is not None:
            self._check_end(read_finish(reason), candidate.finish_message or "")
        for part in candidate.content.parts:
            self._held = True
            self._speak(part.text, part.thought_signature, out, thinking=part.thought)
        if reason is not None:
            self._end(read_finish(reason))

    # ── any other chunk ───────────────────────────────────────────────────────────────────────────

    def _loaded(self, payload: bytes) -> dict[str, Any]:
        try:
            value = loads(payload)
        except ValueError as error:
            raise MalformedResponse(
                "a chunk of the stream is not JSON; ask again, or report it to the provider. It "
                f"begins: {excerpt(payload[:400].decode('utf-8', 'replace'), 200)}"
            ) from error
        if is_array(value):
            value = next(iter(value), None)
        if not is_object(value):
            raise MalformedResponse("a chunk of the stream is not a JSON object; ask again")
        return mend_value(value) if SURROGATE_ESCAPE.search(payload) else value

    def _take_value(self, chunk: dict[str, Any], out: list[StreamEvent]) -> None:
        if "usageMetadata" in chunk:
            self._count(read_counts(chunk["usageMetadata"]), out)
        error = self._error_in(chunk)
        if error is not None:
            # After the model's own end an error takes nothing away from the answer.
            self.over = self.complete
            if not self.over:
                raise error
            return
        if not self._begun:
            self._begin(chunk.get("responseId"), chunk.get("modelVersion"), out)
        candidates = chunk.get("candidates")
        if candidates is not None and not is_array(candidates):
            raise MalformedResponse("the candidates of the answer are not a list; ask again")
        for candidate in as_list(candidates):
            if not is_object(candidate):
                raise MalformedResponse("a candidate of the answer is not an object; ask again")
            index = candidate.get("index")
            if self._is_ours(index if isinstance(index, int) else 0):
                self._take_candidate(candidate, out)

    def _take_candidate(self, candidate: dict[str, Any], out: list[StreamEvent]) -> None:
        self.seen = True
        reason = read_finish(candidate.get("finishReason"))
        said = candidate.get("finishMessage")
        self._check_end(reason, said if isinstance(said, str) else "")
        # Before the parts: the text that the sources belong to may end in this very chunk.
        metadata = metadata_in(candidate)
        if metadata:
            self._metadata.update(metadata)
            self._citations = citations_in(self._metadata)
        content = candidate.get("content")
        if content is not None and not is_object(content):
            raise MalformedResponse("the content of the answer is not an object; ask again")
        parts = as_dict(content).get("parts")
        if parts is not None and not is_array(parts):
            raise MalformedResponse("the parts of the answer are not a list; ask again")
        for part in as_list(parts):
            if not is_object(part):
                raise MalformedResponse("a part of the answer is not an object; ask again")
            self._take_part(part, out)
        self._end(reason)

    def _take_part(self, part: dict[str, Any], out: list[StreamEvent]) -> None:
        signature = part.get("thoughtSignature")
        signature = signature if isinstance(signature, str) and signature else None
        text = part.get("text")
        if text is not None and not isinstance(text, str):
            raise MalformedResponse("a text of the answer is no text; ask again")
        call = part.get("functionCall")
        if call is not None:
            self._held = self._held or bool(call)
            self._close(out)
            self._calls.take(call, signature, self._response_id, out)
            return
        other = None if text else other_part(part, signature, self._dialect.origin)
        if text is None and other is not None:
            self._held = True
            self._close(out)
            out.append(PartCompleted(other))
        elif text is not None or signature is not None:
            self._held = True
            self._speak(text or "", signature, out, thinking=bool(part.get("thought")))

    # ── what both have in common ──────────────────────────────────────────────────────────────────

    def _speak(
        self, text: str, signature: str | None, out: list[StreamEvent], *, thinking: bool
    ) -> None:
        """More text or reasoning. A signature belongs to this very part, not to what came before
        it."""
        if signature is None:
            if not text:
                return
            if self._thinking is not thinking or self._seal is not None:
                self._close(out)
                self._thinking = thinking
            out.append(ThinkingDelta(text) if thinking else TextDelta(text))
            return
        seal = Seal(self._dialect.origin, signature)
        if not text:
            self._close(out)
            whole = Thinking("", seal) if thinking else Text("", (), seal)
            out.append(PartCompleted(whole))
            return
        self._close(out, apart=self._thinking is thinking)
        self._thinking, self._seal = thinking, seal
        out.append(ThinkingDelta(text) if thinking else TextDelta(text))

    def _close(self, out: list[StreamEvent], *, apart: bool = False) -> None:
        """Ends the run of deltas that is open; `apart` if one of the same kind follows."""
        if self._thinking is None:
            return
        citations: tuple[Citation, ...] = ()
        if not self._thinking:
            citations, self._citations = self._citations, ()
        if apart or self._seal is not None or citations:
            out.append(PartSealed(self._seal, citations))
        self._thinking, self._seal = None, None

    def _begin(self, id: object, model: object, out: list[StreamEvent]) -> None:
        self._begun = True
        self._response_id = id if isinstance(id, str) and id else None
        named = model if isinstance(model, str) and model else None
        out.append(ResponseStarted(self._response_id, named))

    def _is_ours(self, index: int) -> bool:
        if self._index is None:
            self._index = index
        return index == self._index

    def _count(self, counts: Counts, out: list[StreamEvent]) -> None:
        counts = together(self._counts, counts)
        if counts == self._counts:
            return
        self._counts = counts
        usage = usage_of(counts)
        if usage is not None:
            out.append(UsageReported(usage))

    def _check_end(self, reason: str | None, said: str) -> None:
        """Raises what `reason` stands for, before anything of its chunk is handed out."""
        if reason is not None and not self.complete:
            self._said = said
            failure = failure_of(reason, said, self._dialect.provider)
            if failure is not None:
                raise failure

    def _end(self, reason: str | None) -> None:
        if reason is not None:
            self.raw_finish = reason

    def _error_in(self, chunk: dict[str, Any]) -> LLMError | None:
        """The error that `chunk` reports, None if it is none."""
        if chunk.get("error") or ("candidates" not in chunk and chunk.get("message")):
            return error_from_value(self._dialect.provider, chunk)
        feedback = as_dict(chunk.get("promptFeedback"))
        reason = feedback.get("blockReason")
        if not reason or reason == "BLOCK_REASON_UNSPECIFIED":
            return None
        said = feedback.get("blockReasonMessage")
        told = f" It says: {excerpt(said)}" if isinstance(said, str) and said else ""
        return ContentFiltered(
            f"{self._dialect.provider}: the prompt was refused ({reason}); change what is asked."
            f"{told}",
            code=str(reason),
            provider=self._dialect.provider,
        )
