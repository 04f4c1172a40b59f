"""Chat Completions streams to test with: built by hand, and recorded where there is a corpus."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from llm_client.codecs.openai_chat import OpenAIChatCodec, chat_dialect
from llm_client.errors import LLMError
from llm_client.stream import StreamEvent
from llm_client.types import LLMResponse
from tests.corpus import corpus_path, read_jsonl
from tests.decoding import accumulate, decoded

CORPUS_FILE = "dev.openai_chat.jsonl"
EXPECTED_FILE = "expected.dev.openai_chat.jsonl"


def chunk(
    delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any
) -> dict[str, Any]:
    """A chunk with one choice."""
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return {"id": "chatcmpl-1", "model": "m-1", "choices": [choice], **more}


def call(
    index: int | None = None,
    id: str | None = None,
    name: str | None = None,
    arguments: str | None = None,
) -> dict[str, Any]:
    """A fragment of a tool call; what is None is left out."""
    function = {"name": name, "arguments": arguments}
    fragment: dict[str, Any] = {"index": index, "id": id}
    fragment = {key: value for key, value in fragment.items() if value is not None}
    fragment["function"] = {key: value for key, value in function.items() if value is not None}
    return fragment


def calls(*fragments: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    """A chunk of tool-call fragments."""
    return chunk({"tool_calls": list(fragments)}, finish)


def sse(*chunks: dict[str, Any] | str, done: bool = True) -> bytes:
    """A stream of `chunks`; a text stands for itself, as the data of an event."""
    texts = [one if isinstance(one, str) else msgspec.json.encode(one).decode() for one in chunks]
    if done:
        texts.append("[DONE]")
    return "".join(f"data: {text}\n\n" for text in texts).encode()


def read(
    parts: Iterable[bytes], provider: str = "compatible"
) -> tuple[list[StreamEvent], LLMError | None]:
    """The events of a stream and the error it ended with."""
    return decoded(OpenAIChatCodec(chat_dialect(provider)).decoder(), parts)


def answer(*chunks: dict[str, Any] | str, done: bool = True) -> LLMResponse:
    """The response that a stream of `chunks` comes to; raises the error it ends with."""
    events, error = read([sse(*chunks, done=done)])
    if error is not None:
        raise error
    return accumulate(events)


def decode(body: Any, provider: str = "compatible") -> LLMResponse:
    """A whole answer, decoded."""
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return OpenAIChatCodec(chat_dialect(provider)).decode(200, {"x-request-id": "req_1"}, data)


def whole(message: dict[str, Any], finish: str | None = "stop", **more: Any) -> dict[str, Any]:
    """The body of an answer."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return {"id": "chatcmpl-1", "model": "m-1", "choices": [choice], **more}


def both(message: dict[str, Any], finish: str | None = "stop") -> LLMResponse:
    """What `message` says, checked to be the same whole and as a single chunk of a stream."""
    streamed = answer(chunk(message, finish))
    decoded = decode(whole(message, finish))
    assert decoded == streamed.replace(request_id="req_1")
    return streamed


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
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    text = [chunk({"role": "assistant", "content": ""})]
    text += [chunk({"content": piece}) for piece in ("Héllo ", "wörld ", "🌍", "\u2028!")]
    return [
        sse(*text, chunk(finish="stop"), {"choices": [], "usage": usage}),
        sse(
            chunk({"reasoning_content": "Let me "}),
            chunk({"reasoning_content": "look."}),
            calls(call(0, "call_a", "look_up", "")),
            calls(call(0, arguments='{"city": "')),
            calls(call(1, "call_b", "look_up", "{}")),
            calls(call(0, arguments='Paris"}')),
            chunk(finish="tool_calls"),
        ),
        sse(
            chunk(
                {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}]}
            ),
            chunk({"content": "a", "reasoning_details": [{"type": "reasoning.text", "text": "x"}]}),
            calls(call(name="f", arguments='{"a":'), call(name="g", arguments="{}")),
            calls(call(arguments="1}"), call()),
            chunk(finish="stop", usage=usage),
        ),
        sse(chunk({"content": "cut"}), {"error": {"message": "overloaded", "code": 503}}),
        sse(chunk({"content": "no end"}), done=False),
    ]
