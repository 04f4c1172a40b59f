"""Decodes recorded HTTP exchanges and writes what they say, one JSON line each.

    python -m llm_client.replay IN.jsonl --out OUT.jsonl [--split N]

With `--split N` the bytes reach the decoder in pieces of N bytes. Usage is reported as the provider
counted it. A decoding error is a result like any other. The exit code is 0, or

    1   a file cannot be read or written, or OUT is IN
    3   some exchanges are of a protocol that is not supported
    4   some lines are no recorded exchanges, whatever the others are
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Struct

from llm_client.codec import Codec
from llm_client.codecs.anthropic import AnthropicCodec, anthropic_dialect
from llm_client.codecs.cohere import CohereCodec
from llm_client.codecs.gemini import GeminiCodec, gemini_dialect
from llm_client.codecs.ollama import OllamaCodec
from llm_client.codecs.openai_chat import COMPATIBLE, OpenAIChatCodec
from llm_client.codecs.openai_responses import OpenAIResponsesCodec, responses_dialect
from llm_client.errors import LLMError
from llm_client.stream import Accumulator
from llm_client.types import LLMResponse, Thinking

__all__ = ["Exchange", "main", "replay"]


class Exchange(Struct, frozen=True):
    """One recorded exchange; what replaying does not need is left out."""

    api: str
    id: str | int | None = None
    provider: str = ""
    stream: bool = False
    status: int = 200
    response_headers: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    raw_sse: str | None = None
    response_body: Any = None

    def body(self) -> bytes:
        """The answer's bytes, as near to the recorded ones as the record allows."""
        if self.raw_sse is not None:
            return self.raw_sse.encode()
        if isinstance(self.response_body, str):
            return self.response_body.encode()
        return msgspec.json.encode(self.response_body)


class _Named(Struct, frozen=True):
    id: str | int | None = None


class CallRow(Struct):
    id: str
    name: str
    args: str


class UsageRow(Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class ErrorRow(Struct):
    type: str
    retryable: bool
    retry_after: float | None
    status: int | None
    message: str


class Row(Struct):
    """One line of output. Of a stream that failed it holds what had arrived."""

    id: str | int | None
    ok: bool
    text: str | None = None
    tool_calls: list[CallRow] = msgspec.field(default_factory=list[CallRow])
    thinking: list[str] = msgspec.field(default_factory=list[str])
    stop_reason: str | None = None
    raw_finish: str | None = None
    refusal: str | None = None
    usage: UsageRow | None = None
    error: ErrorRow | None = None


def _chat(provider: str) -> Codec:
    return OpenAIChatCodec(
        msgspec.structs.replace(COMPATIBLE, provider=provider or "recorded", trust_total=False)
    )


def _anthropic(provider: str) -> Codec:
    return AnthropicCodec(anthropic_dialect(provider or "anthropic"))


def _responses(provider: str) -> Codec:
    return OpenAIResponsesCodec(responses_dialect(provider or "openai"))


def _gemini(provider: str) -> Codec:
    return GeminiCodec(gemini_dialect(provider or "gemini"))


_CODECS: Mapping[str, Callable[[str], Codec]] = MappingProxyType(
    {
        "anthropic_messages": _anthropic,
        "gemini": _gemini,
        "openai_chat": _chat,
        "openai_responses": _responses,
        "cohere_chat": CohereCodec,
        "ollama_native": OllamaCodec,
    }
)


def replay(exchange: Exchange, split: int | None = None) -> Row:
    """What `exchange` says; its bytes cut into pieces of `split` bytes, or whole."""
    make = _CODECS.get(exchange.api)
    if make is None:
        known = ", ".join(sorted(_CODECS))
        message = f"the protocol {exchange.api!r} is not supported (supported: {known})"
        return Row(
            exchange.id, False, error=ErrorRow("UnsupportedProtocol", False, None, None, message)
        )
    codec = make(exchange.provider)
    body = exchange.body()
    headers = exchange.response_headers
    if exchange.raw_sse is None or exchange.status != 200:
        try:
            return _row(exchange.id, codec.decode(exchange.status, headers, body))
        except LLMError as error:
            return Row(exchange.id, False, error=_error_row(error))
    return _replay_stream(exchange.id, codec, body, split or max(len(body), 1))


def _replay_stream(id: str | int | None, codec: Codec, body: bytes, size: int) -> Row:
    decoder = codec.decoder()
    accumulator = Accumulator()
    failure: LLMError | None = None
    try:
        for start in range(0, len(body), size):
            for event in decoder.feed(body[start : start + size]):
                accumulator.add(event)
        for event in decoder.close():
            accumulator.add(event)
    except LLMError as error:
        failure = error
    row = _row(id, accumulator.response())
    if failure is not None:
        row.ok, row.stop_reason, row.error = False, None, _error_row(failure)
    return row


def _row(id: str | int | None, response: LLMResponse) -> Row:
    usage = response.usage
    return Row(
        id,
        True,
        response.text,
        [CallRow(call.id, call.name, call.arguments) for call in response.tool_calls],
        [part.text for part in response.parts if isinstance(part, Thinking)],
        response.stop_reason.value,
        response.raw_finish,
        response.refusal,
        UsageRow(
            usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.reasoning_tokens
        ),
    )


def _error_row(error: LLMError) -> ErrorRow:
    return ErrorRow(
        type(error).__name__, error.retryable, error.retry_after, error.status, error.message
    )


def _line(line: bytes, number: int, split: int | None) -> Row:
    try:
        exchange = msgspec.json.decode(line, type=Exchange, strict=False)
    except (ValueError, RecursionError) as error:
        message = f"line {number} is not a recorded exchange: {error}"
        return Row(_id_of(line), False, error=ErrorRow("BadExchange", False, None, None, message))
    return replay(exchange, split)


def _id_of(line: bytes) -> str | int | None:
    try:
        return msgspec.json.decode(line, type=_Named).id
    except (ValueError, RecursionError):
        return None


def _size(text: str) -> int:
    size = int(text)
    if size < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return size


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m llm_client.replay", description=__doc__)
    parser.add_argument("input", type=Path, metavar="IN.jsonl")
    parser.add_argument("--out", type=Path, required=True, metavar="OUT.jsonl")
    parser.add_argument("--split", type=_size, metavar="N", help="cut the bytes into N-byte pieces")
    options = parser.parse_args(argv)
    rows: list[Row] = []
    try:
        if options.out.exists() and options.out.samefile(options.input):
            sys.stderr.write(f"{options.out} is the input, and would be lost; give another --out\n")
            return 1
        with options.input.open("rb") as lines, options.out.open("wb") as out:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    row = _line(line, number, options.split)
                    rows.append(row)
                    out.write(msgspec.json.encode(row) + b"\n")
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    kinds = [row.error.type for row in rows if row.error is not None]
    foreign, bad = kinds.count("UnsupportedProtocol"), kinds.count("BadExchange")
    sys.stderr.write(
        f"{len(rows)} lines: {len(rows) - len(kinds)} answers, {len(kinds) - foreign - bad} errors,"
        f" {foreign} of an unsupported protocol, {bad} that are no recorded exchanges\n"
    )
    return 4 if bad else 3 if foreign else 0


if __name__ == "__main__":
    sys.exit(main())
