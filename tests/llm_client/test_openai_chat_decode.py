"""Answers of Chat Completions, whole and streamed: text, thinking, sound and token counts."""

from __future__ import annotations

import base64
import re
from typing import Any

import msgspec
import pytest

from llm_client.codecs.openai_chat import OpenAIChatCodec, chat_dialect
from llm_client.errors import LLMError, MalformedResponse
from llm_client.stream import Finished, ResponseStarted
from llm_client.types import (
    Audio,
    LLMResponse,
    Opaque,
    StopReason,
    Text,
    Thinking,
    Usage,
)
from tests.chat_streams import (
    answer,
    both,
    built_streams,
    chunk,
    decode,
    read,
    recorded_streams,
    sse,
    whole,
)
from tests.corpus import need_corpus
from tests.decoding import pieces


def test_a_streamed_answer_has_its_text_its_end_and_its_ids() -> None:
    """The common case."""
    response = answer(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hé"}),
        chunk({"content": "!"}),
        chunk(finish="stop"),
    )
    assert response == LLMResponse(
        (Text("Hé!"),), StopReason.END, "stop", response_id="chatcmpl-1", model="m-1"
    )


def test_no_cut_of_the_bytes_changes_the_text() -> None:
    """S01, S02: characters, lines and events are cut anywhere."""
    body = sse(chunk({"content": "Héllo 🌍 \u2028 wörld"}), chunk(finish="stop"))
    expected = read([body])
    for cut in range(len(body)):
        assert read([body[:cut], body[cut:]]) == expected
    assert read(pieces(body, 1)) == expected


def test_bytes_that_are_no_utf8_are_a_typed_error_s01() -> None:
    """S01: never a replacement character."""
    _, error = read([b'data: {"choices":[{"index":0,"delta":{"content":"\xff"}}]}\n\n'])
    assert isinstance(error, MalformedResponse)
    with pytest.raises(MalformedResponse):
        decode(b'{"choices":[{"message":{"content":"\xff"}}]}')


@pytest.mark.parametrize(
    "field",
    ["reasoning_content", "reasoning", "thinking", "thinking_content", "reasoning_text", "thought"],
)
def test_reasoning_is_found_in_every_field_that_vendors_use(field: str) -> None:
    """And is never mixed into the text."""
    assert both({field: "Hm.", "content": "Yes."}).parts == (Thinking("Hm."), Text("Yes."))


def test_reasoning_that_is_sent_in_two_fields_is_taken_once() -> None:
    """vLLM and OpenRouter fill both for compatibility."""
    assert both({"reasoning": "Hm.", "reasoning_content": "Hm."}).parts == (Thinking("Hm."),)


def test_content_may_be_a_list_of_typed_blocks() -> None:
    """Mistral thinks in blocks; other kinds are kept as they are."""
    content = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}], "closed": True},
        {"type": "text", "text": "Yes"},
        "!",
        {"type": "text", "text": ""},
        {"type": "reference", "reference_ids": [1]},
    ]
    assert both({"content": content}).parts == (
        Thinking("Hm."),
        Text("Yes!"),
        Opaque("compatible", "reference", '{"type":"reference","reference_ids":[1]}'),
    )


@pytest.mark.parametrize(
    "message",
    [
        {"content": None, "refusal": "I won't."},
        {"content": [{"type": "refusal", "refusal": "I won't."}]},
    ],
)
def test_a_refusal_is_no_text_and_ends_as_one(message: dict[str, Any]) -> None:
    """Though the provider's word for it is "stop"."""
    response = both(message)
    assert (response.refusal, response.text) == ("I won't.", "")
    assert (response.stop_reason, response.raw_finish) == (StopReason.REFUSAL, "stop")


def test_empty_fields_say_nothing() -> None:
    """Snowflake sends every field that the protocol knows, empty."""
    response = both(
        {
            "content": "4",
            "refusal": "",
            "audio": {"data": "", "id": "", "transcript": "", "expires_at": 0},
            "function_call": {"name": "", "arguments": ""},
            "tool_calls": None,
            "reasoning_details": [],
        },
        "",
    )
    assert response.parts == (Text("4"),)
    assert (response.stop_reason, response.raw_finish) == (StopReason.END, "")


def test_a_character_that_the_server_itself_cut_in_two_is_joined() -> None:
    """Servers that count in UTF-16 cut emoji between two chunks."""
    first = '{"choices":[{"index":0,"delta":{"content":"a\\ud83c"}}]}'
    second = '{"choices":[{"index":0,"delta":{"content":"\\udf0db"}}]}'
    assert answer(first, second, chunk(finish="stop")).text == "a🌍b"
    assert answer(first, chunk({"content": "b"}, "stop")).text == "a\ufffdb"
    assert answer(first).text == "a\ufffd"
    assert decode(b'{"choices":[{"message":{"content":"a\\ud83c"}}]}').text == "a\ufffd"


def test_the_first_of_several_choices_is_taken() -> None:
    """n > 1 is not asked for, but may be forced by extra."""
    two = [
        {"index": 1, "delta": {"content": "other"}, "finish_reason": None},
        {"index": 0, "delta": {"content": "mine"}, "finish_reason": None},
    ]
    response = answer(chunk({"content": "It is "}), {"choices": two}, chunk(finish="stop"))
    assert response.text == "It is mine"
    body = whole({"content": "first"})
    body["choices"].append({"index": 1, "message": {"content": "second"}, "finish_reason": "stop"})
    assert decode(body).text == "first"


def test_a_final_chunk_that_repeats_the_whole_message_adds_nothing() -> None:
    """Perplexity carries the whole message so far in every chunk."""
    last = {"index": 0, "message": {"content": "Hello"}, "finish_reason": "stop"}
    assert answer(chunk({"content": "Hello"}), {"choices": [last]}).text == "Hello"
    assert answer({"choices": [last]}).text == "Hello"
    both_fields = {**last, "delta": {"content": "lo"}}
    assert answer(chunk({"content": "Hel"}), {"choices": [both_fields]}).text == "Hello"


def test_speech_comes_in_pieces_or_whole() -> None:
    """Data, id and transcript together are one part."""
    data = base64.b64encode(b"RIFF").decode()
    response = answer(
        chunk({"audio": {"id": "audio_1", "transcript": "Hel"}}),
        chunk({"audio": {"data": data, "transcript": "lo"}}),
        chunk({"audio": {"data": data}}, "stop"),
    )
    assert response.parts == (Audio(b"RIFFRIFF", None, "audio_1", "Hello"),)
    message = {"content": None, "audio": {"id": "a", "data": data, "transcript": "x"}}
    assert both(message).parts == (Audio(b"RIFF", None, "a", "x"),)
    with pytest.raises(MalformedResponse, match="base64"):
        answer(chunk({"audio": {"data": "x"}}, "stop"))


def test_reasoning_details_are_kept_whole_for_the_way_back() -> None:
    """R05: pieces of one block are joined, signatures stay with their block."""
    text = {"type": "reasoning.text", "index": 0}
    response = answer(
        chunk({"reasoning": "a", "reasoning_details": [{**text, "text": "a"}]}),
        chunk({"reasoning": "b", "reasoning_details": [{**text, "text": "b"}]}),
        chunk({"reasoning_details": [{"type": "reasoning.text", "signature": "s", "index": 0}]}),
        chunk({"reasoning_details": [{"type": "reasoning.encrypted", "data": "x", "index": 1}]}),
        chunk({"reasoning_details": [{"type": "reasoning.encrypted", "data": "y", "index": 1}]}),
        chunk(finish="stop"),
    )
    thinking, opaque = response.parts
    assert thinking == Thinking("ab")
    assert isinstance(opaque, Opaque)
    assert msgspec.json.decode(opaque.json) == [
        {"type": "reasoning.text", "text": "ab", "index": 0, "signature": "s"},
        {"type": "reasoning.encrypted", "data": "x", "index": 1},
        {"type": "reasoning.encrypted", "data": "y", "index": 1},
    ]


def test_reasoning_details_alone_are_thinking_too() -> None:
    """Where the vendor fills no plain field."""
    details = [{"type": "reasoning.summary", "summary": "Hm."}]
    assert both({"reasoning_details": details}).parts[0] == Thinking("Hm.")


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}, Usage(5, 7)),
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 7,
                "prompt_tokens_details": {
                    "cached_tokens": 3,
                    "audio_tokens": 1,
                    "cache_write_tokens": 2,
                },
                "completion_tokens_details": {"reasoning_tokens": 4, "audio_tokens": 2},
            },
            Usage(5, 7, 3, 2, 4, 3),
        ),
        ({"prompt_tokens": 5, "prompt_cache_hit_tokens": 4}, Usage(5, None, 4)),
        ({"prompt_tokens": 5, "cached_tokens": 4}, Usage(5, None, 4)),
        ({"prompt_tokens": 5, "num_cached_tokens": 4}, Usage(5, None, 4)),
        ({"input_tokens": 5, "output_tokens": 7}, Usage(5, 7)),
        ({"promptTokens": 5, "completionTokens": 7}, Usage(5, 7)),
        (
            {"promptTokenCount": 5, "candidatesTokenCount": 7, "thoughtsTokenCount": 2},
            Usage(5, 7, None, None, 2),
        ),
        ({"prompt_tokens": 5, "total_tokens": 12}, Usage(5, 7)),
        ({"completion_tokens": 7, "total_tokens": 12}, Usage(5, 7)),
        ({"prompt_tokens": 5.0, "completion_tokens": "7"}, Usage(5)),
        ({"prompt_tokens": True, "completion_tokens": -1}, Usage()),
        ({"prompt_tokens": 10**30, "completion_tokens": None}, Usage()),
        ({"completion_tokens_details": None, "prompt_tokens": 1}, Usage(1)),
        ([], Usage()),
    ],
)
def test_token_counts_are_read_under_every_name_and_unknown_ones_stay_unknown(
    usage: object, expected: Usage
) -> None:
    """None is not 0, and nonsense is not a count."""
    assert decode(whole({"content": "x"}, usage=usage)).usage == expected
    assert (
        answer(chunk({"content": "x"}, "stop"), {"choices": [], "usage": usage}).usage == expected
    )


def test_reasoning_counted_beside_the_output_is_added_to_it() -> None:
    """xAI's total shows that its output leaves the reasoning out; a budget must not."""
    usage = {
        "prompt_tokens": 12,
        "completion_tokens": 1,
        "total_tokens": 303,
        "completion_tokens_details": {"reasoning_tokens": 290},
    }
    assert decode(whole({"content": "x"}, usage=usage)).usage == Usage(12, 291, None, None, 290)
    usage["total_tokens"] = 13
    assert decode(whole({"content": "x"}, usage=usage)).usage.output_tokens == 1


def test_usage_is_found_wherever_it_is_put() -> None:
    """At the end, in each chunk (the last counts), in the choice (Kimi), at Groq's own place."""
    counts = {"prompt_tokens": 5, "completion_tokens": 7}
    early = {"prompt_tokens": 5, "completion_tokens": 1}
    in_choice = {"index": 0, "delta": {}, "finish_reason": "stop", "usage": counts}
    streams: list[list[dict[str, Any]]] = [
        [chunk({"content": "x"}, "stop"), {"choices": [], "usage": counts}],
        [chunk({"content": "x"}, usage=early), chunk(finish="stop", usage=counts)],
        [chunk({"content": "x"}), {"choices": [in_choice]}],
        [chunk({"content": "x"}), chunk(finish="stop", x_groq={"id": "r", "usage": counts})],
    ]
    for chunks in streams:
        assert answer(*chunks).usage == Usage(5, 7)


def test_every_recorded_chunk_says_the_same_on_the_fast_and_on_the_tolerant_path() -> None:
    """After three chunks of unusual shape the decoder reads every chunk the tolerant way."""
    for stream in [*built_streams(), *recorded_streams(200_000)]:
        # Ids that are made up tell which answer they belong to.
        id = re.search(rb'"id": ?("[^"]*")', stream)
        odd = b'data: {"id":%s,"choices":null}\n\n' % (id.group(1) if id else b"null") * 3
        usual, error = read([stream])
        tolerant, other = read([odd, stream])
        assert [event for event in tolerant if not isinstance(event, ResponseStarted)] == [
            event for event in usual if not isinstance(event, ResponseStarted)
        ]
        assert repr(error) == repr(other)


def test_the_answers_of_a_local_server_are_read_whole_and_streamed() -> None:
    """Recorded from llama.cpp; what it refuses is a typed error."""
    directory = need_corpus("local_server")
    codec = OpenAIChatCodec(chat_dialect("llama.cpp"))
    kinds: set[str] = set()
    for path in sorted(directory.rglob("*.meta.json")):
        meta = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        if meta["path"] != "/v1/chat/completions":
            continue
        body, stream = (
            path.with_name(path.name.replace(".meta.json", end)) for end in (".json", ".sse")
        )
        if stream.exists():
            events, error = read(pieces(stream.read_bytes(), 5))
            assert error is None
            assert isinstance(events[-1], Finished)
        else:
            try:
                codec.decode(meta["status"], {}, body.read_bytes())
            except LLMError as error:
                kinds.add(type(error).__name__)
                assert meta["status"] != 200
    assert kinds == {"BadRequest", "ContextOverflow", "Overloaded"}
