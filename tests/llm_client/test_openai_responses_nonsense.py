"""What is no Responses answer at all: a typed error, never a crash, never half an answer."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_client.codecs.openai_responses import OpenAIResponsesCodec
from llm_client.errors import LLMError, MalformedResponse, Overloaded
from llm_client.stream import Finished
from llm_client.types import Opaque
from tests.decoding import accumulate, pieces
from tests.responses_streams import (
    CREATED,
    answer,
    built_streams,
    decode,
    end,
    message,
    read,
    said,
    sse,
    whole,
)

ITEM = {"type": "message", "id": "m", "content": [said("Hello")]}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><body>502 Bad Gateway</body></html>",
        b"[]",
        b"null",
        b"{}",
        b'"text"',
        b"[" * 100_000 + b"]" * 100_000,
        b'{"output":null}',
        b'{"output":{}}',
        b'{"output":5,"status":"completed"}',
        b'{"output":[{"type":"function_call"}]}',
        b'{"output":[{"type":"function_call","name":5}]}',
        b'{"output":[{"type":"x","y":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}",
    ],
)
def test_a_body_that_is_no_answer_is_a_typed_error(body: bytes) -> None:
    """S29, A07: never a crash; short, with the status and what it begins with."""
    with pytest.raises(LLMError) as found:
        decode(body)
    assert isinstance(found.value, MalformedResponse)
    assert found.value.status == 200
    assert len(str(found.value)) < 900
    events, error = read([body])
    assert isinstance(error, LLMError)
    assert events == [] or not isinstance(events[-1], Finished)


def test_a_body_sent_where_a_stream_was_asked_for_is_read() -> None:
    """Some servers ignore `stream`; a refusal comes so, too."""
    body = msgspec.json.encode(whole(ITEM))
    for parts in ([body], pieces(body, 5), [b"  \n", body]):
        events, error = read(parts)
        assert error is None
        assert accumulate(events).text == "Hello"
    _, error = read([b'{"error":{"message":"Overloaded","code":503}}'])
    assert isinstance(error, Overloaded)


def test_a_stream_sent_where_a_body_was_asked_for_is_read() -> None:
    """Some servers always stream."""
    assert decode(sse(CREATED, *message("m", "Hello"), end())).text == "Hello"


@pytest.mark.parametrize("payload", ["not json", "[]", "null", "5", "[" * 100_000])
def test_an_event_that_makes_no_sense_is_a_typed_error(payload: str) -> None:
    """No JSON, no object, nested without end."""
    with pytest.raises(MalformedResponse):
        answer(CREATED, payload, *message("m", "a"), end())


@pytest.mark.parametrize(
    "payload",
    [
        "{}",
        '{"type":null}',
        '{"type":5}',
        '{"type":"response.output_item.added"}',
        '{"type":"response.output_item.added","item":null}',
        '{"type":"response.output_item.added","item":{"type":5}}',
        '{"type":"response.output_item.done","item":[]}',
        '{"type":"response.output_item.done","item":{"id":"x"}}',
        '{"type":"response.output_text.delta","delta":null}',
        '{"type":"response.output_text.delta","delta":{},"output_index":"0"}',
        '{"type":"response.output_text.delta","delta":"","item_id":[],"content_index":null}',
        '{"type":"response.output_text.done","text":5}',
        '{"type":"response.content_part.done","part":"x","content_index":-1}',
        '{"type":"response.output_text.annotation.added","annotation":NaN}',
        '{"type":"response.function_call_arguments.delta","delta":[]}',
        '{"type":"response.in_progress","response":7,"sequence_number":' + "9" * 5000 + "}",
        '{"type":"response.in_progress","obfuscation":"\\ud800"}',
    ],
)
def test_nonsense_beside_the_answer_does_not_spoil_it(payload: str) -> None:
    """A07: null, wrong types, NaN, endless integers, halves of characters."""
    assert answer(CREATED, payload, *message("m", "a", index=1), payload, end()).text == "a"


@pytest.mark.parametrize(
    "item",
    [
        '{"type":"message","content":null}',
        '{"type":"message","content":[null,5,"x",{"type":"output_text","text":5}]}',
        '{"type":"message","id":5,"phase":{},"content":[{"text":"","annotations":[null,5]}]}',
        '{"type":"reasoning","summary":{},"content":5,"encrypted_content":[]}',
        '{"type":"reasoning","summary":[null,{"text":{}}]}',
        '{"type":"x","\\ud800":"\\udfff","n":NaN,"i":' + "9" * 5000 + "}",
        '{"type":"image_generation_call","result":{"a":1},"output_format":5}',
    ],
)
def test_nonsense_inside_an_item_costs_no_other_item(item: str) -> None:
    """Whole and streamed, with the same result."""
    body = f'{{"status":"completed","output":[{item},{msgspec.json.encode(ITEM).decode()}]}}'
    decoded = decode(body.encode())
    assert decoded.text == "Hello"
    event = f'{{"type":"response.completed","response":{body}}}'
    assert answer(event).parts == decoded.parts
    single = f'{{"type":"response.output_item.done","output_index":0,"item":{item}}}'
    assert answer(CREATED, single, *message("m", "Hello", index=1), end()).parts == decoded.parts


def test_a_refused_stream_stays_refused() -> None:
    """Feeding on after an error gives the same error, not half an answer."""
    decoder = OpenAIResponsesCodec().decoder()
    with pytest.raises(MalformedResponse):
        decoder.feed(b"data: nonsense\n\n")
    assert decoder.done
    with pytest.raises(MalformedResponse):
        decoder.feed(sse(CREATED, end()))
    with pytest.raises(MalformedResponse):
        decoder.close()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(st.data())
def test_any_change_of_a_field_gives_an_answer_or_a_typed_error(data: st.DataObject) -> None:
    """One value somewhere in a good stream becomes any other."""
    stream = data.draw(st.sampled_from(built_streams()))
    frames = [
        msgspec.json.decode(line[6:])
        for line in stream.decode().split("\n")
        if line.startswith("data: {")
    ]
    place = data.draw(st.integers(0, len(frames) - 1))
    target = frames[place]
    while True:
        key = data.draw(st.sampled_from(sorted(target)))
        if isinstance(target[key], dict) and target[key] and data.draw(st.booleans()):
            target = target[key]
            continue
        target[key] = data.draw(JSON)
        break
    changed = "".join(f"data: {msgspec.json.encode(frame).decode()}\n\n" for frame in frames)
    events, error = read([changed.encode()])
    assert error is not None or isinstance(events[-1], Finished)
    again, same = read(pieces(changed.encode(), 9))
    assert (again, type(same)) == (events, type(error))


def test_half_a_character_in_the_name_of_an_unknown_item_is_mended() -> None:
    """What comes out of an answer can always be stored."""
    item = r'{"type":"\ud83d","id":"x_1"}'
    frame = f'{{"type":"response.output_item.done","output_index":0,"item":{item}}}'
    stream = f"data: {frame}\n\n".encode() + sse(end())
    events, error = read([stream])
    assert error is None
    (part,) = accumulate(events).parts
    assert isinstance(part, Opaque)
    assert (part.kind, part.json) == ("\ufffd", '{"type":"\ufffd","id":"x_1"}')
