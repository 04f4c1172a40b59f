"""What a Responses answer says, streamed and whole."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from llm_client.stream import PartSealed, ResponseStarted, TextDelta, ThinkingDelta
from llm_client.types import Citation, Image, Opaque, Seal, StopReason, Text, Thinking, Usage
from tests.decoding import accumulate, pieces
from tests.responses_streams import (
    CREATED,
    USAGE,
    added,
    answer,
    arguments,
    both,
    decode,
    done,
    end,
    event,
    function_call,
    message,
    read,
    said,
    sse,
    text,
    whole,
)

ORIGIN = "openai.responses"
SOURCE = {"type": "url_citation", "url": "https://example.org", "title": "T", "start_index": 0}


def item(kind: str, **fields: Any) -> dict[str, Any]:
    """An item of an answer."""
    return {"type": kind, **fields}


def summary(*texts: str) -> list[dict[str, str]]:
    """A summary of reasoning in parts."""
    return [{"type": "summary_text", "text": one} for one in texts]


def test_text_comes_as_it_is_written() -> None:
    """Each piece at once; the message is sealed with its id and its phase."""
    events, error = read([sse(CREATED, *message("msg_1", "Hel", "lo", phase="commentary"), end())])
    assert error is None
    assert events[:4] == [
        ResponseStarted("resp_1", "m-1"),
        TextDelta("Hel"),
        TextDelta("lo"),
        PartSealed(Seal(ORIGIN, id="msg_1", kind="commentary")),
    ]
    assert accumulate(events).parts == (
        Text("Hello", (), Seal(ORIGIN, id="msg_1", kind="commentary")),
    )


def test_usage_is_read_in_full() -> None:
    """Cached and reasoning tokens are part of the sums."""
    usage = {
        **USAGE,
        "input_tokens_details": {"cached_tokens": 3},
        "output_tokens_details": {"reasoning_tokens": 4},
    }
    for response in (answer(CREATED, end(usage=usage)), decode(whole(usage=usage))):
        assert response.usage == Usage(5, 7, cached_tokens=3, reasoning_tokens=4)


def test_two_messages_are_two_parts() -> None:
    """A word before a search and the answer after it are not one text."""
    response = both(
        item("message", id="msg_1", content=[said("Let me see.")], phase="commentary"),
        item("message", id="msg_2", content=[said("It rains.")]),
    )
    assert [part.text for part in response.parts if isinstance(part, Text)] == [
        "Let me see.",
        "It rains.",
    ]


def test_blocks_of_one_message_keep_their_own_sources() -> None:
    """Each block is a part with the sealed id of its message."""
    response = both(
        item("message", id="msg_1", content=[said("a", annotations=[SOURCE]), said("b")])
    )
    source = Citation(msgspec.json.encode(SOURCE).decode(), "https://example.org", "T")
    seal = Seal(ORIGIN, id="msg_1")
    assert response.parts == (Text("a", (source,), seal), Text("b", (), seal))


def test_sources_that_come_one_by_one_are_kept() -> None:
    """Where the whole block does not name them again."""
    response = answer(
        CREATED,
        added(0, "message", id="msg_1"),
        text(0, "a"),
        event("output_text.annotation.added", 0, content_index=0, annotation=SOURCE),
        event("output_text.annotation.added", 0, content_index=0, annotation={"filename": "f.pdf"}),
        end(),
    )
    (part,) = response.parts
    assert isinstance(part, Text)
    assert [source.title for source in part.citations] == ["T", "f.pdf"]


def test_a_refusal_is_told_as_one() -> None:
    """Not as text; the reason says so too."""
    response = both(item("message", id="m", content=[{"type": "refusal", "refusal": "No."}]))
    assert response.refusal == "No."
    assert response.text == ""
    assert response.stop_reason is StopReason.REFUSAL
    streamed = answer(
        CREATED,
        added(0, "message", id="m"),
        event("refusal.delta", 0, content_index=0, delta="N"),
        event("refusal.delta", 0, content_index=0, delta="o."),
        event("refusal.done", 0, content_index=0, refusal="No."),
        end(),
    )
    assert streamed.refusal == "No."


def test_a_summary_in_parts_is_read_with_blank_lines_between() -> None:
    """One part of reasoning, with its id and what the provider encrypted."""
    response = both(item("reasoning", id="rs_1", summary=summary("a", "b"), encrypted_content="x"))
    assert response.parts == (Thinking("a\n\nb", Seal(ORIGIN, "x", "rs_1")),)


def test_reasoning_without_a_word_is_kept() -> None:
    """Its seal is all that goes back."""
    response = both(
        item("reasoning", id="rs_1", summary=[], encrypted_content="x"),
        item("reasoning", id="rs_2", summary=[]),
    )
    assert response.parts == (
        Thinking("", Seal(ORIGIN, "x", "rs_1")),
        Thinking("", Seal(ORIGIN, id="rs_2")),
    )


def test_reasoning_of_open_weight_models_is_told_apart() -> None:
    """It is the very text and goes back as such; a summary beside it is a part of its own."""
    raw = [{"type": "reasoning_text", "text": "Hm."}]
    response = both(item("reasoning", id="rs_1", content=raw, summary=summary("Thought.")))
    assert response.parts == (
        Thinking("Hm.", Seal(ORIGIN, id="rs_1", kind="reasoning_text")),
        Thinking("Thought.", Seal(ORIGIN, id="rs_1")),
    )


def test_encrypted_reasoning_is_taken_from_the_whole_item_only() -> None:
    """S25: what the item begins with is not all of it yet."""
    begun = added(0, "reasoning", id="rs_1", summary=[], encrypted_content="half")
    last = done(0, "reasoning", id="rs_1", summary=[], encrypted_content="all")
    response = answer(CREATED, begun, last, end())
    assert response.parts == (Thinking("", Seal(ORIGIN, "all", "rs_1")),)
    cut = answer(CREATED, begun, end("incomplete"))
    assert cut.parts == (Thinking("", Seal(ORIGIN, id="rs_1")),)


def test_what_is_not_modelled_is_kept_in_its_place_r10() -> None:
    """R10: order and contents as received."""
    search = item("web_search_call", id="ws_1", status="completed", action={"query": "q"})
    response = both(
        item("reasoning", id="rs_1", summary=[]),
        search,
        item("reasoning", id="rs_2", summary=[]),
        item("message", id="msg_1", content=[said("a")]),
        item("compaction", id="cmp_1", encrypted_content="c"),
    )
    kinds = [type(part).__name__ for part in response.parts]
    assert kinds == ["Thinking", "Opaque", "Thinking", "Text", "Opaque"]
    assert response.parts[1] == Opaque(
        ORIGIN, "web_search_call", msgspec.json.encode(search).decode()
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"result": "aGk=", "output_format": "webp"}, (b"hi", None, "image/webp")),
        ({"result": "data:image/png;base64,aGk="}, (b"hi", None, "image/png")),
        ({"result": "https://example.org/a.png"}, (None, "https://example.org/a.png", None)),
    ],
)
def test_a_picture_can_be_seen_and_sent_back(
    fields: dict[str, Any], expected: tuple[object, ...]
) -> None:
    """The opaque item stays; the picture comes beside it."""
    response = both(item("image_generation_call", id="ig_1", **fields))
    opaque, image = response.parts
    assert isinstance(opaque, Opaque)
    assert isinstance(image, Image)
    assert (image.data, image.url, image.media_type) == expected
    assert image.seal == Seal(ORIGIN, id="ig_1", kind="image_generation_call")


def test_a_picture_that_is_none_costs_nothing_else() -> None:
    """No bytes, bad base64, nothing at all."""
    for result in ("", "%%%", None, 5):
        response = both(item("image_generation_call", id="ig_1", result=result))
        assert [type(part) for part in response.parts] == [Opaque]


def test_items_are_told_one_after_the_other_s18() -> None:
    """S18: events of several items come mixed up; no piece ends up in the wrong item."""
    first, second = message("msg_1", "a", "b"), message("msg_2", "c", "d", index=2)
    call = function_call(1, "x", "f", '{"a"', ":1}")
    events = [*first[:3], *call[:2], *second[:3], *first[3:], *second[3:], *call[2:]]
    response = answer(CREATED, *events, end())
    assert response == answer(CREATED, *first, *call, *second, end())
    assert response.tool_calls[0].arguments == '{"a":1}'


def test_events_without_numbers_are_routed_by_id_and_else_by_kind() -> None:
    """As a llama.cpp server sends them, and worse."""
    reasoning = event("output_item.added", item={"type": "reasoning", "id": "rs_1"})
    begun = event("output_item.added", item={"type": "message", "id": "msg_1"})
    places: list[dict[str, Any]] = [{"item_id": "msg_1"}, {}]
    for place in places:
        response = answer(
            CREATED,
            reasoning,
            event("reasoning_text.delta", delta="Hm"),
            begun,
            event("output_text.delta", delta="a", **place),
            event("output_text.delta", delta="b", **place),
            end(),
        )
        assert response.text == "ab"
        assert isinstance(response.parts[0], Thinking)


def test_a_server_that_renames_its_items_is_understood() -> None:
    """Copilot's gives an item another id in each event; its place stays."""
    response = answer(
        CREATED,
        added(0, "message", id="one"),
        event("output_text.delta", 0, item_id="two", content_index=0, delta="a"),
        event("output_text.done", 0, item_id="three", content_index=0, text="a"),
        done(0, "message", id="four", content=[said("a")]),
        end(output=[item("message", id="five", content=[said("a")])]),
    )
    assert response.parts == (Text("a", (), Seal(ORIGIN, id="four")),)


def test_a_server_that_counts_its_blocks_from_one_is_understood() -> None:
    """Bedrock's does while it streams, and not in the whole item."""
    response = answer(
        CREATED,
        added(0, "message", id="m"),
        text(0, "a", block=1),
        done(0, "message", id="m", content=[said("a", annotations=[SOURCE])]),
        end(),
    )
    (part,) = response.parts
    assert isinstance(part, Text)
    assert part.text == "a"
    assert len(part.citations) == 1


@pytest.mark.parametrize(
    "events",
    [
        [event("output_text.done", 0, content_index=0, text="Hello")],
        [event("content_part.done", 0, content_index=0, part=said("Hello"))],
        [done(0, "message", id="m", content=[said("Hello")])],
        [text(0, "Hel"), done(0, "message", id="m", content=[said("Hello")])],
        [text(0, "Hello"), event("output_text.done", 0, content_index=0, text="Bye")],
        [text(0, "Hello"), done(0, "message", id="m"), done(0, "message", id="m")],
    ],
)
def test_what_did_not_come_in_pieces_is_taken_from_the_whole(events: list[dict[str, Any]]) -> None:
    """And what did come is never said twice."""
    opened = [CREATED, added(0, "message", id="m"), *events]
    assert answer(*opened, end()).text == "Hello"


def test_an_answer_that_comes_with_its_end_only_is_read() -> None:
    """Some servers send no deltas at all."""
    output = [item("message", id="m", content=[said("Hello")])]
    assert answer(CREATED, end(output=output)).text == "Hello"
    assert answer(end(output=output)).text == "Hello"


def test_a_second_beginning_says_nothing_new_s22() -> None:
    """S22: messages that begin twice are one; so are answers."""
    twice = added(0, "message", id="m")
    response = answer(CREATED, CREATED, twice, text(0, "a"), twice, text(0, "b"), CREATED, end())
    assert response.text == "ab"
    assert len(response.parts) == 1


def test_unknown_events_and_fields_are_passed_over() -> None:
    """The protocol grows."""
    response = answer(
        CREATED,
        event("keepalive"),
        {"type": "codex.rate_limits", "plan": {}},
        "{}",
        *message("m", "a", unknown=[1]),
        event("web_search_call.searching", 7),
        end(unknown={}),
    )
    assert response.text == "a"


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_a_character_cut_in_two_is_whole_again(size: int) -> None:
    """S01: whatever the network does to its bytes."""
    stream = sse(CREATED, *message("m", "Zoë ", "🌍🌍"), end())
    assert read(pieces(stream, size)) == read([stream])
    assert accumulate(read([stream])[0]).text == "Zoë 🌍🌍"


def test_a_character_that_the_server_itself_cut_is_joined() -> None:
    """Servers that count in UTF-16 send half of a pair; half of one alone becomes U+FFFD."""
    begun = added(0, "message", id="m")
    halves = [
        '{"type":"response.output_text.delta","output_index":0,"delta":"a\\ud83c"}',
        '{"type":"response.output_text.delta","output_index":0,"delta":"\\udf0db"}',
    ]
    assert answer(CREATED, begun, *halves, end()).text == "a🌍b"
    assert answer(CREATED, begun, halves[0], end()).text == "a\ufffd"
    whole_text = done(0, "message", id="m", content=[said("a🌍b")])
    assert answer(CREATED, begun, halves[0], whole_text, end()).text == "a🌍b"


def test_reasoning_comes_as_it_is_thought() -> None:
    """Each piece at once, a blank line before each further part."""
    events, _ = read(
        [
            sse(
                CREATED,
                added(0, "reasoning", id="r", summary=[]),
                event("reasoning_summary_text.delta", 0, summary_index=0, delta="a"),
                event("reasoning_summary_text.delta", 0, summary_index=1, delta="b"),
                event("reasoning_summary_text.done", 0, summary_index=1, text="b"),
                end(),
            )
        ]
    )
    assert [one.text for one in events if isinstance(one, ThinkingDelta)] == ["a", "\n\nb"]


def test_text_does_not_wait_for_reasoning_that_needs_no_proof() -> None:
    """OpenRouter says only at the very end that the reasoning of open-weight models is whole."""
    raw = [{"type": "reasoning_text", "text": "Hm."}]
    begun = [
        CREATED,
        added(0, "reasoning", id="rs_1", summary=[]),
        event("reasoning_text.delta", 0, content_index=0, delta="Hm."),
        added(1, "message", id="msg_1"),
        text(1, "Hello"),
    ]
    assert TextDelta("Hello") in read([sse(*begun)])[0]
    late = done(0, "reasoning", id="rs_1", summary=[], content=raw)
    response = answer(*begun, done(1, "message", id="msg_1", content=[said("Hello")]), late, end())
    seal = Seal(ORIGIN, id="rs_1", kind="reasoning_text")
    assert response.parts == (Thinking("Hm.", seal), Text("Hello", (), Seal(ORIGIN, id="msg_1")))


def test_text_waits_for_the_proof_of_the_reasoning_before_it_s25() -> None:
    """S25: a later item may not take the seal of an earlier one."""
    begun = [CREATED, added(0, "reasoning", id="rs_1", summary=[]), *message("m", "a", index=1)]
    assert TextDelta("a") not in read([sse(*begun)])[0]
    late = done(0, "reasoning", id="rs_1", summary=[], encrypted_content="x")
    response = answer(*begun, late, end())
    assert response.parts[0] == Thinking("", Seal(ORIGIN, "x", "rs_1"))
    assert response.text == "a"


def test_pieces_of_items_that_are_closed_or_unknown_change_nothing() -> None:
    """Late repetitions."""
    response = answer(
        CREATED,
        *message("m", "a"),
        text(0, "late"),
        arguments(0, "{"),
        arguments(9, "{"),
        event("output_text.annotation.added", 9, annotation=SOURCE),
        event("refusal.delta", 0, content_index=0, delta="late"),
        event("content_part.done", 0, content_index=3, part=said("late")),
        end(),
    )
    assert response.text == "a"
    assert response.refusal is None
    assert response.tool_calls == ()
