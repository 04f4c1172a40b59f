"""Responses streams to test with: built by hand, and recorded where there is a corpus."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from llm_client.codecs.openai_responses import OpenAIResponsesCodec, responses_dialect
from llm_client.errors import LLMError
from llm_client.stream import StreamEvent
from llm_client.types import LLMResponse
from tests.corpus import corpus_path, read_jsonl
from tests.decoding import accumulate, decoded

CORPUS_FILE = "dev.openai_responses.jsonl"
EXPECTED_FILE = "expected.dev.openai_responses.jsonl"

Event = dict[str, Any]

CREATED: Event = {"type": "response.created", "response": {"id": "resp_1", "model": "m-1"}}
USAGE = {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}


def event(kind: str, index: int | None = None, **fields: Any) -> Event:
    """An event of the answer; `index` is the place of the item it is about."""
    place = {} if index is None else {"output_index": index}
    return {"type": f"response.{kind}", **place, **fields}


def added(index: int, kind: str, **fields: Any) -> Event:
    """An item begins."""
    return event("output_item.added", index, item={"type": kind, **fields})


def done(index: int, kind: str, **fields: Any) -> Event:
    """An item is whole."""
    return event("output_item.done", index, item={"type": kind, **fields})


def text(index: int, piece: str, block: int = 0) -> Event:
    """A piece of text."""
    return event("output_text.delta", index, content_index=block, delta=piece)


def arguments(index: int, piece: str) -> Event:
    """A piece of a call's arguments."""
    return event("function_call_arguments.delta", index, delta=piece)


def end(kind: str = "completed", **fields: Any) -> Event:
    """The end of the answer."""
    return event(kind, response={"id": "resp_1", "status": kind, **fields})


def said(value: str, **fields: Any) -> Event:
    """A block of text."""
    return {"type": "output_text", "text": value, **fields}


def message(id: str, *pieces: str, index: int = 0, **fields: Any) -> list[Event]:
    """All events of a message of one block."""
    whole = "".join(pieces)
    return [
        added(index, "message", id=id, role="assistant", content=[], **fields),
        event("content_part.added", index, content_index=0, part=said("")),
        *[text(index, piece) for piece in pieces],
        event("output_text.done", index, content_index=0, text=whole),
        event("content_part.done", index, content_index=0, part=said(whole, annotations=[])),
        done(index, "message", id=id, role="assistant", content=[said(whole)], **fields),
    ]


def function_call(index: int, number: str, name: str, *pieces: str) -> list[Event]:
    """All events of a call."""
    whole = "".join(pieces)
    fields = {"id": f"fc_{number}", "call_id": f"call_{number}", "name": name}
    return [
        added(index, "function_call", arguments="", **fields),
        *[arguments(index, piece) for piece in pieces],
        event("function_call_arguments.done", index, arguments=whole),
        done(index, "function_call", arguments=whole, **fields),
    ]


def sse(*events: Event | str) -> bytes:
    """A stream of `events`; a text stands for itself, as the data of a nameless one."""
    frames: list[str] = []
    for one in events:
        if isinstance(one, str):
            frames.append(f"data: {one}\n\n")
        else:
            frames.append(f"event: {one['type']}\ndata: {msgspec.json.encode(one).decode()}\n\n")
    return "".join(frames).encode()


def read(
    parts: Iterable[bytes], provider: str = "openai"
) -> tuple[list[StreamEvent], LLMError | None]:
    """The events of a stream and the error it ended with."""
    return decoded(OpenAIResponsesCodec(responses_dialect(provider)).decoder(), parts)


def answer(*events: Event | str) -> LLMResponse:
    """The response that a stream of `events` comes to; raises the error it ends with."""
    found, error = read([sse(*events)])
    if error is not None:
        raise error
    return accumulate(found)


def decode(body: Any, provider: str = "openai") -> LLMResponse:
    """A whole answer, decoded."""
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    codec = OpenAIResponsesCodec(responses_dialect(provider))
    return codec.decode(200, {"x-request-id": "req_1"}, data)


def whole(*items: dict[str, Any], status: str = "completed", **more: Any) -> dict[str, Any]:
    """The body of an answer."""
    return {"id": "resp_1", "model": "m-1", "status": status, "output": list(items), **more}


def both(*items: dict[str, Any], **more: Any) -> LLMResponse:
    """What `items` say, checked to be the same whole, item by item and only at the end."""
    decoded = decode(whole(*items, **more))
    stream = [event("output_item.done", place, item=item) for place, item in enumerate(items)]
    kind = str(more.get("status", "completed"))
    for events in (stream, list[Event]()):
        last = event(kind, response=whole(*items, **more))
        assert answer(CREATED, *events, last).replace(request_id="req_1") == decoded
    return decoded


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
    return [
        sse(
            CREATED,
            event("in_progress", response={"id": "resp_1", "status": "in_progress"}),
            *message("msg_1", "Héllo ", "wörld ", "🌍", "\u2028!", phase="final_answer"),
            end(usage=USAGE),
        ),
        sse(CREATED, *_thought(), *_calls(), end(usage=USAGE)),
        sse(CREATED, *_served(), end(usage=USAGE)),
        sse(CREATED, *_unnumbered(), end(usage=USAGE), "[DONE]"),
        sse(
            CREATED,
            *message("msg_1", "cut off"),
            end("incomplete", incomplete_details={"reason": "max_output_tokens"}),
        ),
        sse(CREATED, text(0, "bro"), {"type": "error", "message": "busy", "code": "server_error"}),
        sse(
            CREATED,
            text(0, "bro"),
            end("failed", error={"code": "rate_limit_exceeded", "message": "later"}),
        ),
        sse(CREATED, *message("msg_1", "no end")),
    ]


def _thought() -> list[Event]:
    return [
        added(0, "reasoning", id="rs_1", summary=[], encrypted_content="begun"),
        event("reasoning_summary_part.added", 0, summary_index=0, part={"text": ""}),
        event("reasoning_summary_text.delta", 0, summary_index=0, delta="Let me "),
        event("reasoning_summary_text.delta", 0, summary_index=0, delta="look."),
        event("reasoning_summary_text.done", 0, summary_index=0, text="Let me look."),
        event("reasoning_summary_text.delta", 0, summary_index=1, delta="Thére."),
        done(
            0,
            "reasoning",
            id="rs_1",
            summary=[
                {"type": "summary_text", "text": "Let me look."},
                {"type": "summary_text", "text": "Thére."},
            ],
            encrypted_content="whole",
        ),
    ]


def _calls() -> list[Event]:
    first = function_call(1, "a", "look_up", '{"city": "', 'Paris"}')
    second = function_call(2, "b", "look_up", "{}")
    custom = {"id": "ctc_1", "call_id": "call_c", "name": "sql"}
    return [
        # Interleaved: the second begins before the first is whole.
        *first[:2],
        *second[:2],
        *first[2:],
        *second[2:],
        added(3, "custom_tool_call", input="", **custom),
        event("custom_tool_call_input.delta", 3, delta='SELECT "'),
        event("custom_tool_call_input.delta", 3, delta='é"'),
        done(3, "custom_tool_call", input='SELECT "é"', **custom),
    ]


def _served() -> list[Event]:
    source = {"type": "url_citation", "url": "https://example.org", "title": "Examplé"}
    return [
        added(0, "web_search_call", id="ws_1", status="in_progress"),
        event("web_search_call.searching", 0, item_id="ws_1"),
        done(0, "web_search_call", id="ws_1", status="completed", action={"query": "é"}),
        added(1, "message", id="msg_1", content=[]),
        text(1, "Sée "),
        text(1, "there."),
        event("output_text.annotation.added", 1, content_index=0, annotation=source),
        event("refusal.delta", 1, content_index=1, delta="I "),
        event("refusal.delta", 1, content_index=1, delta="won't."),
        event("refusal.done", 1, content_index=1, refusal="I won't."),
        done(1, "message", id="msg_1", content=[said("Sée there.", annotations=[source])]),
        done(2, "image_generation_call", id="ig_1", result="aGk=", output_format="webp"),
    ]


def _unnumbered() -> list[Event]:
    """Without numbers and places, as a llama.cpp server sends it."""
    item = {"type": "message", "id": "msg_1"}
    return [
        event("output_item.added", item={"type": "reasoning", "id": "rs_1", "summary": []}),
        event("reasoning_text.delta", item_id="rs_1", delta="Hm"),
        event("output_item.done", item={"type": "reasoning", "id": "rs_1", "summary": []}),
        event("output_item.added", item={**item, "content": []}),
        event("output_text.delta", item_id="msg_1", delta="Hi"),
        event("output_text.delta", item_id="msg_1", delta=" thère"),
        event("output_item.done", item={**item, "content": [said("Hi thère")]}),
    ]
