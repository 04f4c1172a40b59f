"""Messages streams to test with: built by hand, and recorded where there is a corpus."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from llm_client.codecs.anthropic import AnthropicCodec, anthropic_dialect
from llm_client.errors import LLMError
from llm_client.stream import StreamEvent
from llm_client.types import LLMResponse
from tests.anthropic_requests import CORPUS_FILE
from tests.corpus import corpus_path, read_jsonl
from tests.decoding import accumulate, decoded

Frame = dict[str, Any]

STOP: Frame = {"type": "message_stop"}
PING: Frame = {"type": "ping"}
OVERLOADED: Frame = {
    "type": "error",
    "error": {"type": "overloaded_error", "message": "Overloaded"},
}


def start(id: str = "msg_1", content: Sequence[Frame] = (), **usage: int) -> Frame:
    """The first frame; `usage` adds to its counts."""
    message = {"id": id, "type": "message", "role": "assistant", "model": "m-1"}
    counts = {"input_tokens": 5, "output_tokens": 1, **usage}
    return {
        "type": "message_start",
        "message": {**message, "content": list(content), "stop_reason": None, "usage": counts},
    }


def block(index: int, kind: str, *deltas: Frame, **fields: Any) -> list[Frame]:
    """All frames of one block: its start with `fields`, its pieces, its end."""
    begun = {"type": "content_block_start", "index": index}
    return [
        {**begun, "content_block": {"type": kind, **fields}},
        *[{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas],
        {"type": "content_block_stop", "index": index},
    ]


def text(index: int, *said: str, cited: Sequence[Frame] = ()) -> list[Frame]:
    """A block of text that comes in pieces, with the citations that come before it."""
    deltas = [{"type": "citations_delta", "citation": citation} for citation in cited]
    deltas += [{"type": "text_delta", "text": piece} for piece in said]
    return block(index, "text", *deltas, text="")


def thinking(index: int, *thought: str, signature: str | None = None) -> list[Frame]:
    """A block of thinking, signed at its end or not at all."""
    deltas = [{"type": "thinking_delta", "thinking": piece} for piece in thought]
    if signature is not None:
        deltas.append({"type": "signature_delta", "signature": signature})
    return block(index, "thinking", *deltas, thinking="", signature="")


def call(index: int, id: str, name: str, *arguments: str, **fields: Any) -> list[Frame]:
    """A tool call whose arguments come in pieces."""
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in arguments]
    return block(index, "tool_use", *deltas, **({"id": id, "name": name, "input": {}} | fields))


def end(reason: str | None = "end_turn", **fields: Any) -> Frame:
    """The model's own end."""
    usage = fields.pop("usage", {"output_tokens": 7})
    delta = {"stop_reason": reason, "stop_sequence": None, **fields}
    return {"type": "message_delta", "delta": delta, "usage": usage}


def sse(*frames: Frame | list[Frame] | str) -> bytes:
    """A stream of `frames`; lists are taken apart, a text stands for itself as the data of a frame
    without a name."""
    written: list[str] = []
    for one in frames:
        for frame in one if isinstance(one, list) else [one]:
            if isinstance(frame, str):
                written.append(f"data: {frame}\n\n")
            else:
                data = msgspec.json.encode(frame).decode()
                written.append(f"event: {frame['type']}\ndata: {data}\n\n")
    return "".join(written).encode()


def read(
    parts: Iterable[bytes], provider: str = "anthropic"
) -> tuple[list[StreamEvent], LLMError | None]:
    """The events of a stream and the error it ended with."""
    return decoded(AnthropicCodec(anthropic_dialect(provider)).decoder(), parts)


def answer(*frames: Frame | list[Frame] | str, provider: str = "anthropic") -> LLMResponse:
    """The response that a stream of `frames` comes to; raises the error it ends with."""
    events, error = read([sse(*frames)], provider)
    if error is not None:
        raise error
    return accumulate(events)


def decode(body: Any, provider: str = "anthropic") -> LLMResponse:
    """A whole answer, decoded."""
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return AnthropicCodec(anthropic_dialect(provider)).decode(200, {"request-id": "req_1"}, data)


def whole(*content: Frame, reason: str | None = "end_turn", **more: Any) -> Frame:
    """The body of an answer that was not streamed."""
    usage = {"input_tokens": 5, "output_tokens": 7}
    body = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m-1", "usage": usage}
    return {**body, "content": list(content), "stop_reason": reason, "stop_sequence": None, **more}


def recorded_streams(longest: int) -> list[bytes]:
    """All recorded streams of at most `longest` bytes; none where the checkout has no corpus."""
    path = corpus_path(CORPUS_FILE)
    if path is None:
        return []
    rows = read_jsonl(path)
    streams = [row["raw_sse"].encode() for row in rows if row.get("raw_sse") is not None]
    return [stream for stream in streams if len(stream) <= longest]


def built_streams() -> list[bytes]:
    """Streams that hold every shape once, so that there is something to test without a corpus."""
    source = {
        "type": "web_search_result_location",
        "url": "https://example.org",
        "title": "Example",
        "cited_text": "So it is.",
        "encrypted_index": "Eo8B",
    }
    hits = [{"type": "web_search_result", "url": "https://example.org", "encrypted_content": "x"}]
    return [
        sse(start(), PING, text(0, "Héllo ", "wörld ", "🌍", "\u2028!"), end(), STOP),
        sse(
            start(cache_read_input_tokens=3, cache_creation_input_tokens=2),
            thinking(0, "Let me ", "look.", signature="sig=="),
            block(1, "redacted_thinking", data="c2VjcmV0"),
            thinking(2, signature="hidden"),
            text(3, "I look it up."),
            call(4, "toolu_a", "look_up", "", '{"city": "', 'Paris"}'),
            call(5, "toolu_b", "look_up"),
            end("tool_use"),
            STOP,
        ),
        sse(
            start(),
            text(0, "I search."),
            block(
                1,
                "server_tool_use",
                {"type": "input_json_delta", "partial_json": '{"query":'},
                {"type": "input_json_delta", "partial_json": '"it"}'},
                id="srvtoolu_1",
                name="web_search",
                input={},
            ),
            block(2, "web_search_tool_result", tool_use_id="srvtoolu_1", content=hits),
            text(3, "Found: "),
            text(4, "so it ", "is", cited=[source]),
            text(5, "."),
            end("pause_turn", usage={"input_tokens": 9, "output_tokens": 12}),
            STOP,
        ),
        sse(
            start(),
            block(
                0,
                "compaction",
                {"type": "compaction_delta", "content": "Earlier: ", "encrypted_content": None},
                {"type": "compaction_delta", "content": "much.", "encrypted_content": "AbC"},
                content=None,
                encrypted_content=None,
            ),
            block(1, "something_new", {"type": "new_delta", "bits": [1]}, bits=[], name="n"),
            {"type": "new_event", "x": 1},
            text(2, "Go on."),
            end("refusal", stop_details={"type": "refusal", "explanation": "No."}),
            STOP,
        ),
        sse(start(), text(0, "cut"), OVERLOADED),
        sse(start(), text(0, "no end")),
        sse(start(), call(0, "toolu_a", "look_up", '{"city": "Pa'), end("max_tokens"), STOP),
    ]
