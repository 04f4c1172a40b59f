"""Gemini streams to test with: built by hand, and recorded where there is a corpus."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from llm_client.codecs.gemini import GeminiCodec
from llm_client.errors import LLMError
from llm_client.stream import StreamEvent
from llm_client.types import LLMResponse
from tests.corpus import corpus_path, read_jsonl
from tests.decoding import accumulate, decoded

CORPUS_FILE = "dev.gemini.jsonl"
EXPECTED_FILE = "expected.dev.gemini.jsonl"

USAGE = {"promptTokenCount": 5, "candidatesTokenCount": 7, "totalTokenCount": 12}


def candidate(*parts: dict[str, Any], finish: Any = None, **more: Any) -> dict[str, Any]:
    """A candidate of `parts`; what is None is left out."""
    ended = {} if finish is None else {"finishReason": finish}
    return {"content": {"parts": list(parts), "role": "model"}, **ended, "index": 0, **more}


def chunk(*parts: dict[str, Any], finish: Any = None, **more: Any) -> dict[str, Any]:
    """A chunk of one candidate with `parts`."""
    return chunk_of(candidate(*parts, finish=finish), **more)


def chunk_of(*candidates: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A chunk of `candidates`."""
    return {
        "candidates": list(candidates),
        "modelVersion": "gemini-m",
        "responseId": "resp",
        **more,
    }


def text(value: str, signature: str | None = None, *, thought: bool = False) -> dict[str, Any]:
    """A part of text."""
    part: dict[str, Any] = {"text": value}
    if thought:
        part["thought"] = True
    return part if signature is None else {**part, "thoughtSignature": signature}


def call(
    name: str, args: dict[str, Any], signature: str | None = None, id: str | None = None
) -> dict[str, Any]:
    """A part that calls a function."""
    function: dict[str, Any] = {"name": name, "args": args}
    part = {"functionCall": function if id is None else {"id": id, **function}}
    return part if signature is None else {**part, "thoughtSignature": signature}


def sse(*chunks: dict[str, Any] | str) -> bytes:
    """A stream of `chunks`; a text stands for itself, as the data of an event."""
    texts = [one if isinstance(one, str) else msgspec.json.encode(one).decode() for one in chunks]
    return "".join(f"data: {one}\r\n\r\n" for one in texts).encode()


def array(*chunks: dict[str, Any]) -> bytes:
    """The same without `alt=sse`: one JSON array."""
    return b"[" + b"\n,\r\n".join(map(msgspec.json.encode, chunks)) + b"]\n"


def read(parts: Iterable[bytes]) -> tuple[list[StreamEvent], LLMError | None]:
    """The events of a stream and the error it ended with."""
    return decoded(GeminiCodec().decoder(), parts)


def answer(*chunks: dict[str, Any] | str) -> LLMResponse:
    """The response that a stream of `chunks` comes to; raises the error it ends with."""
    events, error = read([sse(*chunks)])
    if error is not None:
        raise error
    return accumulate(events)


def decode(body: Any) -> LLMResponse:
    """A whole answer, decoded."""
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return GeminiCodec().decode(200, {"x-request-id": "req_1"}, data)


def both(*parts: dict[str, Any], finish: Any = "STOP", **more: Any) -> LLMResponse:
    """What `parts` say, checked to be the same whole, as one chunk of a stream, and part by part
    as server-sent events and as an array."""
    last = chunk_of(candidate(*parts, finish=finish, **more), usageMetadata=USAGE)
    whole = decode(last).replace(request_id=None)
    assert answer(last) == whole
    one_by_one = [chunk(part) for part in parts]
    end = chunk_of(candidate(finish=finish, **more), usageMetadata=USAGE)
    assert answer(*one_by_one, end) == whole
    events, error = read([array(*one_by_one, end)])
    assert error is None
    assert accumulate(events) == whole
    assert decode([*one_by_one, end]).replace(request_id=None) == whole
    return whole


def recorded_streams(longest: int) -> list[bytes]:
    """All recorded streams of at most `longest` bytes; none where the checkout has no corpus."""
    path = corpus_path(CORPUS_FILE)
    if path is None:
        return []
    rows = read_jsonl(path)
    streams = [row["raw_sse"].encode() for row in rows if row.get("raw_sse") is not None]
    streams += [array(*row["response_body"]) for row in rows if _is_array(row)]
    return [stream for stream in streams if len(stream) <= longest]


def _is_array(row: dict[str, Any]) -> bool:
    return isinstance(row.get("response_body"), list)


def built_streams() -> list[bytes]:
    """Streams that hold every shape once, so that there is something to test without a corpus."""
    said = [chunk(text(piece)) for piece in ("Héllo ", "wörld ", "🌍", "\u2028!")]
    source = {"web": {"uri": "https://example.org", "title": "Example"}}
    support = {"segment": {"text": "Yes.", "endIndex": 4}, "groundingChunkIndices": [0]}
    grounding = {"groundingChunks": [source], "groundingSupports": [support]}
    return [
        sse(*said, chunk(text(""), finish="STOP", usageMetadata=USAGE)),
        sse(
            chunk(text("Let me ", thought=True), usageMetadata={"trafficType": "ON_DEMAND"}),
            chunk(text("look.", thought=True)),
            chunk(call("look_up", {"city": "Pàris"}, "c2lnMQ=="), call("look_up", {}, id="fc_2")),
            chunk(finish="STOP", usageMetadata={**USAGE, "thoughtsTokenCount": 3}),
        ),
        sse(
            chunk({"functionCall": {"name": "cook", "willContinue": True}}),
            chunk(_piece({"jsonPath": "$.a[0].b", "stringValue": "x\"'{", "willContinue": True})),
            chunk(_piece({"jsonPath": "$.a[0].b", "stringValue": "y"}, {"jsonPath": "$['c d']"})),
            chunk({"functionCall": {}}, finish="STOP"),
        ),
        sse(
            chunk({"executableCode": {"code": "1", "language": "PYTHON"}, "thoughtSignature": "s"}),
            chunk({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}}),
            chunk({"inlineData": {"mimeType": "image/png", "data": "aW1n"}}),
            chunk(text("Yes.")),
            chunk_of(candidate(text("", "c2ln"), finish="STOP", groundingMetadata=grounding)),
        ),
        sse(chunk(text("cut")), {"error": {"message": "overloaded", "code": 503}}),
        sse(chunk(text("broken")), chunk(finish="MALFORMED_FUNCTION_CALL")),
        sse({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": USAGE}),
        sse(chunk(text("no end"))),
    ]


def built_arrays() -> list[bytes]:
    """The same as JSON arrays, where they begin well."""
    tricky = chunk(text('a "quoted\\" ] } [ { \\'), text("\\"), finish="STOP")
    return [
        array(chunk(text("Hel")), chunk(text("lo")), tricky),
        b" \n" + array(chunk(text("no end"))),
        array({"error": {"message": "slow down", "code": 429, "status": "RESOURCE_EXHAUSTED"}}),
    ]


def _piece(*arguments: dict[str, Any]) -> dict[str, Any]:
    return {"functionCall": {"partialArgs": list(arguments), "willContinue": True}}
