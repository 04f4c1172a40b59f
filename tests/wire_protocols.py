"""The wire protocols as the figures see them: what can be decoded, and where an answer is whole.

Where the positive end of a stream lies is said here without any decoder of ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec import Struct, structs

from llm_client.codec import Codec
from llm_client.codecs._json import as_dict, as_list
from llm_client.codecs.anthropic import AnthropicCodec
from llm_client.codecs.cohere import CohereCodec
from llm_client.codecs.gemini import GeminiCodec
from llm_client.codecs.ollama import OllamaCodec
from llm_client.codecs.openai_chat import COMPATIBLE, OpenAIChatCodec
from llm_client.codecs.openai_responses import OpenAIResponsesCodec
from tests import (
    anthropic_streams,
    chat_streams,
    cohere_streams,
    gemini_streams,
    ollama_streams,
    responses_streams,
)
from tests.corpus import corpus_path, read_jsonl

__all__ = ["PROTOCOLS", "WireProtocol"]

_DATA = re.compile(rb"^data: ?(.*?)\r*$", re.MULTILINE)
_LINE = re.compile(rb"^(\{.*?)\r*$", re.MULTILINE)

LF, CRLF, CR = b"\n", b"\r\n", b"\r"


class WireProtocol(Struct, frozen=True):
    """One protocol. `end` says of a frame whether it is the model's own end, None if it is an
    error."""

    name: str
    codec: Callable[[], Codec]
    built: Callable[[], list[bytes]]
    end: Callable[[dict[str, Any]], bool | None]
    lines: bool = False
    """Its frames are lines and not events."""

    @property
    def newlines(self) -> tuple[bytes, ...]:
        """The ends that its lines may have."""
        return (LF, CRLF) if self.lines else (LF, CRLF, CR)

    @property
    def frame(self) -> re.Pattern[bytes]:
        """Finds the data of each frame."""
        return _LINE if self.lines else _DATA

    def streams(self, longest: int) -> list[bytes]:
        """All streams of at most `longest` bytes with LF as line end: built ones, and recorded ones
        where there is a corpus."""
        found = [*self.built(), *self.recorded(longest)]
        return [stream.replace(b"\r\n", b"\n") for stream in found]

    def recorded(self, longest: int) -> list[bytes]:
        """The recorded streams of at most `longest` bytes."""
        path = corpus_path(f"dev.{self.name}.jsonl")
        rows = [] if path is None else read_jsonl(path)
        streams = [
            row["raw_sse"].encode()
            for row in rows
            if row.get("raw_sse") is not None and row["status"] == 200
        ]
        return [stream for stream in streams if len(stream) <= longest]

    def written(self, frames: list[bytes]) -> bytes:
        """A stream of `frames`."""
        if self.lines:
            return b"".join(frame + b"\n" for frame in frames)
        return b"".join(b"data: " + frame + b"\n\n" for frame in frames)

    def positive_end(self, stream: bytes) -> int | None:
        """Where the answer in `stream` is first complete; None if it never is."""
        for match in self.frame.finditer(stream):
            payload = match.group(1)
            if payload == b"[DONE]" and self.name == "openai_chat":
                return match.end(1)
            try:
                ends = self.end(as_dict(msgspec.json.decode(payload)))
            except msgspec.DecodeError:
                continue
            if ends is None:
                return None
            if ends:
                return match.end(1)
        return None


def _chat_end(frame: dict[str, Any]) -> bool | None:
    if frame.get("error"):
        return None
    return any(as_dict(one).get("finish_reason") for one in as_list(frame.get("choices")))


def _responses_end(frame: dict[str, Any]) -> bool | None:
    if frame.get("type") in ("error", "response.failed"):
        return None
    return frame.get("type") in ("response.completed", "response.incomplete")


def _anthropic_end(frame: dict[str, Any]) -> bool | None:
    if frame.get("type") == "error":
        return None
    stop = as_dict(frame.get("delta")).get("stop_reason")
    return frame.get("type") == "message_delta" and bool(stop)


_GEMINI_FAILURES = {"MALFORMED_FUNCTION_CALL", "TOO_MANY_TOOL_CALLS"}


def _gemini_end(frame: dict[str, Any]) -> bool | None:
    if frame.get("error") or as_dict(frame.get("promptFeedback")).get("blockReason"):
        return None
    reasons = {as_dict(one).get("finishReason") for one in as_list(frame.get("candidates"))}
    if reasons & _GEMINI_FAILURES:
        return None
    return bool(reasons - {None, "FINISH_REASON_UNSPECIFIED"})


def _cohere_end(frame: dict[str, Any]) -> bool | None:
    if frame.get("type") != "message-end":
        return False
    delta = as_dict(frame.get("delta"))
    return None if delta.get("error") or delta.get("finish_reason") == "ERROR" else True


def _ollama_end(frame: dict[str, Any]) -> bool | None:
    return None if frame.get("error") else frame.get("done") is True


def _chat() -> Codec:
    return OpenAIChatCodec(structs.replace(COMPATIBLE))


PROTOCOLS = (
    WireProtocol("openai_chat", _chat, chat_streams.built_streams, _chat_end),
    WireProtocol(
        "openai_responses", OpenAIResponsesCodec, responses_streams.built_streams, _responses_end
    ),
    WireProtocol(
        "anthropic_messages", AnthropicCodec, anthropic_streams.built_streams, _anthropic_end
    ),
    WireProtocol("gemini", GeminiCodec, gemini_streams.built_streams, _gemini_end),
    WireProtocol("cohere_chat", CohereCodec, cohere_streams.built_streams, _cohere_end),
    WireProtocol(
        "ollama_native", OllamaCodec, ollama_streams.built_streams, _ollama_end, lines=True
    ),
)


def all_streams(longest: int) -> Iterator[tuple[WireProtocol, int, bytes]]:
    """Every protocol's streams with their numbers."""
    for protocol in PROTOCOLS:
        for number, stream in enumerate(protocol.streams(longest)):
            yield protocol, number, stream
