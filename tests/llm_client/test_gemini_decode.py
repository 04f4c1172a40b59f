"""Answers of Gemini, whole and streamed: text, thinking, signatures, calls, images and sources."""

from __future__ import annotations

import base64
import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_client.codecs.gemini._frames import GeminiFrames
from llm_client.errors import MalformedResponse
from llm_client.stream import PartSealed, ResponseStarted, TextDelta, ThinkingDelta
from llm_client.types import (
    Audio,
    Citation,
    File,
    Image,
    LLMResponse,
    Opaque,
    Seal,
    StopReason,
    Text,
    Thinking,
    ToolCall,
    Usage,
)
from tests.decoding import accumulate, pieces
from tests.gemini_streams import (
    USAGE,
    answer,
    array,
    both,
    built_arrays,
    built_streams,
    call,
    chunk,
    read,
    recorded_streams,
    sse,
    text,
)

SIGNED = Seal("gemini", "c2ln")


def test_a_streamed_answer_has_its_text_its_end_its_ids_and_its_counts() -> None:
    """The common case."""
    response = answer(
        chunk(text("Hé")), chunk(text("!")), chunk(text(""), finish="STOP", usageMetadata=USAGE)
    )
    assert response == LLMResponse(
        (Text("Hé!"),),
        StopReason.END,
        "STOP",
        Usage(5, 7),
        response_id="resp",
        model="gemini-m",
    )


def test_no_cut_of_the_bytes_changes_the_events() -> None:
    """S01, S02: characters, lines, events and chunks are cut anywhere, in all built streams and a
    sample of the recorded ones."""
    tried = 0
    for stream in [*built_streams(), *built_arrays(), *recorded_streams(16_000)]:
        expected = _told(*read([stream]))
        cuts = range(len(stream) + 1)
        for cut in cuts if len(cuts) < 1200 else random.Random(len(stream)).sample(cuts, 60):
            assert _told(*read([stream[:cut], stream[cut:]])) == expected
            tried += 1
        assert _told(*read(pieces(stream, 1))) == expected
    assert tried > 2000


def _told(events: object, error: Exception | None) -> tuple[object, type, str]:
    return events, type(error), str(error)


def test_text_and_thinking_are_told_as_they_come() -> None:
    """Deltas of the same kind are one part, whatever comes between them in time."""
    events, error = read(
        [sse(chunk(text("Hm", thought=True)), chunk(text("Yes")), chunk(text("."), finish="STOP"))]
    )
    assert error is None
    assert events[:4] == [
        ResponseStarted("resp", "gemini-m"),
        ThinkingDelta("Hm"),
        TextDelta("Yes"),
        TextDelta("."),
    ]
    assert accumulate(events).parts == (Thinking("Hm"), Text("Yes."))


def test_a_signature_stays_on_the_very_part_it_came_with() -> None:
    """R05: on text, on empty text, on reasoning; parts without one are not drawn into it."""
    response = both(
        text("think", "dGg=", thought=True),
        text("a"),
        text("b", "c2ln"),
        text("c"),
        text("", "ZW1w"),
        {"thoughtSignature": "YWxvbmU="},
    )
    assert response.parts == (
        Thinking("think", Seal("gemini", "dGg=")),
        Text("a"),
        Text("b", (), SIGNED),
        Text("c"),
        Text("", (), Seal("gemini", "ZW1w")),
        Text("", (), Seal("gemini", "YWxvbmU=")),
    )


def test_two_signed_texts_side_by_side_stay_two() -> None:
    """Their seals differ, so the parts must."""
    response = both(text("a", "MQ=="), text("b", "Mg=="), text("c", "Mw==", thought=True))
    assert [part.seal for part in response.parts if isinstance(part, Text | Thinking)] == [
        Seal("gemini", "MQ=="),
        Seal("gemini", "Mg=="),
        Seal("gemini", "Mw=="),
    ]


def test_each_of_several_calls_keeps_its_own_signature_r06() -> None:
    """R06: parallel calls do not overwrite each other's; the second has none of its own."""
    response = both(
        call("f", {"x": 1}, "MQ=="), call("g", {}), call("h", {"y": [None]}, "Mw==", id="fc_3")
    )
    assert response.stop_reason is StopReason.TOOL_CALLS
    assert response.parts == (
        ToolCall("resp_0", "f", '{"x":1}', Seal("gemini", "MQ==")),
        ToolCall("resp_1", "g", "{}"),
        ToolCall("fc_3", "h", '{"y":[null]}', Seal("gemini", "Mw==", "fc_3")),
    )


def test_calls_without_ids_get_stable_ones_that_differ() -> None:
    """S19: made of the answer's id and the place in it; a repeated id is told apart."""
    first = both(call("f", {}), call("f", {}))
    assert [one.id for one in first.tool_calls] == ["resp_0", "resp_1"]
    twice = both(call("f", {}, id="x"), call("f", {}, id="x"))
    assert [one.id for one in twice.tool_calls] == ["x", "x_1"]
    assert [one.seal for one in twice.tool_calls] == [Seal("gemini", None, "x")] * 2
    nameless = answer({"candidates": chunk(call("f", {}), finish="STOP")["candidates"]})
    assert nameless.tool_calls[0].id == "call_0"


@pytest.mark.parametrize("arguments", [{}, {"args": None}, {"args": {}}])
def test_a_call_without_arguments_has_an_empty_object(arguments: dict[str, object]) -> None:
    """As every other protocol writes it."""
    response = both({"functionCall": {"name": "f", **arguments}})
    assert response.tool_calls[0].arguments == "{}"


def test_arguments_that_come_one_by_one_are_put_together() -> None:
    """S18: by their paths; a text goes on until it says that it does not."""
    start = {"functionCall": {"name": "cook", "willContinue": True}, "thoughtSignature": "c2ln"}
    told = [
        {"jsonPath": "$.recipe.steps[0]", "stringValue": "Boil", "willContinue": True},
        {"jsonPath": "$.recipe.steps[0]", "stringValue": " water"},
        {"jsonPath": "$.recipe.steps[1]", "stringValue": ""},
        {"jsonPath": "$.recipe['a b'].n", "numberValue": 2.5},
        {"jsonPath": '$["q\\"q"]', "boolValue": True},
        {"jsonPath": "$.none", "nullValue": "NULL_VALUE"},
    ]
    parts = [{"functionCall": {"partialArgs": [one], "willContinue": True}} for one in told]
    response = both(
        start, *parts, {"functionCall": {"willContinue": True}}, {"functionCall": {}}, call("g", {})
    )
    cook, other = response.tool_calls
    assert msgspec.json.decode(cook.arguments) == {
        "recipe": {"steps": ["Boil water", ""], "a b": {"n": 2.5}},
        'q"q': True,
        "none": None,
    }
    assert (cook.name, cook.seal, other.name) == ("cook", SIGNED, "g")


def test_a_call_that_came_one_by_one_ends_with_the_answer_or_the_next_call() -> None:
    """Even if nothing said so."""
    start = {"functionCall": {"name": "f", "willContinue": True}}
    piece = {"functionCall": {"partialArgs": [{"jsonPath": "$.a", "numberValue": 1}]}}
    assert both(start).tool_calls[0].arguments == "{}"
    assert [one.arguments for one in both(start, call("g", {})).tool_calls] == ["{}", "{}"]
    assert both(start, piece).tool_calls[0].arguments == '{"a":1}'


@pytest.mark.parametrize(
    "path", ["", "a", "$", "$.", "$.a[", "$.a[9999999]", "$.a.b", "$[0]", "$" + ".x" * 100]
)
def test_a_path_that_leads_nowhere_is_a_typed_error(path: str) -> None:
    """No list of a billion entries, no crash, no guess."""
    with pytest.raises(MalformedResponse):
        answer(
            chunk({"functionCall": {"name": "f", "willContinue": True}}),
            chunk(
                {
                    "functionCall": {
                        "partialArgs": [
                            {"jsonPath": "$.a", "stringValue": "x"},
                            {"jsonPath": path, "stringValue": "y"},
                        ]
                    }
                }
            ),
            chunk(finish="STOP"),
        )


def test_images_sounds_and_files_that_the_model_makes_are_parts() -> None:
    """In base64 of either alphabet; images carry a seal even without a signature."""
    data = b"\xff\xef\xbe\x01"
    plain, urlsafe = base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()
    response = both(
        {"inlineData": {"mimeType": "image/png", "data": urlsafe.rstrip("=")}},
        {"inlineData": {"mimeType": "image/png", "data": plain}, "thoughtSignature": "c2ln"},
        {"inlineData": {"mimeType": "audio/L16;rate=24000", "data": plain}},
        {"inlineData": {"mimeType": "application/pdf", "data": plain}},
    )
    assert response.parts == (
        Image(data, media_type="image/png", seal=Seal("gemini")),
        Image(data, media_type="image/png", seal=SIGNED),
        Audio(data, "L16;rate=24000"),
        File(data, media_type="application/pdf"),
    )


def test_what_is_not_modelled_is_kept_in_its_place_exactly_f05() -> None:
    """F05: code that the provider ran, its own tools and their results; none is a call of ours."""
    run = {"executableCode": {"code": "print(1)", "language": "PYTHON"}, "thoughtSignature": "c2ln"}
    ran = {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1\n"}}
    tool = {"toolCall": {"id": "t", "toolType": "FILE_SEARCH"}, "thoughtSignature": "dA=="}
    unknown = {"somethingNew": {"of": "tomorrow"}}
    response = both(text("a"), run, ran, tool, unknown, text("b"))
    assert response.stop_reason is StopReason.END
    assert response.tool_calls == ()
    kept = [part for part in response.parts if isinstance(part, Opaque)]
    assert [part.kind for part in kept] == [
        "executableCode",
        "codeExecutionResult",
        "toolCall",
        "somethingNew",
    ]
    assert [msgspec.json.decode(part.json) for part in kept] == [run, ran, tool, unknown]
    assert isinstance(response.parts[0], Text)
    assert isinstance(response.parts[-1], Text)


def test_sources_stand_on_the_text_they_support() -> None:
    """With address, title and passage; what the display of a search needs is kept beside."""
    web = {"web": {"uri": "https://a.example", "title": "A"}}
    store = {"retrievedContext": {"title": "doc.pdf", "text": "…"}}
    unused = {"web": {"uri": "https://b.example"}}
    support = {"segment": {"text": "Yes."}, "groundingChunkIndices": [0, 1, 7]}
    grounding = {"groundingChunks": [web, store, unused], "groundingSupports": [support]}
    cited = {"citations": [{}, {"uri": "https://c.example"}, {"uri": "https://c.example"}]}
    response = both(
        text("Hm", thought=True),
        text("Yes."),
        groundingMetadata=grounding,
        citationMetadata=cited,
        urlContextMetadata={},
    )
    said = response.parts[1]
    assert isinstance(said, Text)
    assert [(one.url, one.title, one.quote) for one in said.citations] == [
        ("https://a.example", "A", "Yes."),
        (None, "doc.pdf", "Yes."),
        ("https://b.example", None, None),
        ("https://c.example", None, None),
    ]
    assert msgspec.json.decode(said.citations[0].json) == {
        "groundingChunk": web,
        "groundingSupport": support,
    }
    assert said.citations[3] == Citation('{"uri":"https://c.example"}', "https://c.example")
    last = response.parts[-1]
    assert isinstance(last, Opaque)
    assert (last.kind, msgspec.json.decode(last.json)) == ("groundingMetadata", grounding)


def test_sources_and_a_signature_end_the_same_text_at_once() -> None:
    """One seal, not two."""
    cited = {"citations": [{"uri": "u"}]}
    events, _ = read([sse(chunk(text("a", "c2ln"), finish="STOP"))])
    assert events[-2] == PartSealed(SIGNED)
    response = both(text("a", "c2ln"), citationMetadata=cited)
    assert response.parts == (Text("a", (Citation('{"uri":"u"}', "u"),), SIGNED),)


@pytest.mark.parametrize(
    ("counts", "usage"),
    [
        ({}, Usage()),
        ({"trafficType": "ON_DEMAND"}, Usage()),
        ({"promptTokenCount": 3}, Usage(3)),
        (
            {
                "promptTokenCount": 100,
                "toolUsePromptTokenCount": 20,
                "candidatesTokenCount": 7,
                "thoughtsTokenCount": 30,
                "cachedContentTokenCount": 64,
                "totalTokenCount": 157,
            },
            Usage(120, 37, 64, None, 30),
        ),
        ({"promptTokenCount": 3, "thoughtsTokenCount": 30}, Usage(3, 30, None, None, 30)),
        ({"promptTokenCount": 3.0, "candidatesTokenCount": "7"}, Usage(3)),
        ({"promptTokenCount": -1, "candidatesTokenCount": 2**80, "thoughtsTokenCount": True}, None),
    ],
)
def test_output_includes_reasoning_and_input_what_tools_read(
    counts: dict[str, object], usage: Usage | None
) -> None:
    """Gemini counts both beside; what is no count counts as not said."""
    found = answer(chunk(text("x"), finish="STOP", usageMetadata=counts)).usage
    assert found == (usage or Usage())


def test_the_latest_counts_hold() -> None:
    """Also those that come behind the end, and smaller ones."""
    response = answer(
        chunk(text("x"), usageMetadata={"promptTokenCount": 169}),
        chunk(finish="STOP"),
        {"usageMetadata": {"promptTokenCount": 79, "candidatesTokenCount": 1}},
    )
    assert response.usage == Usage(79, 1)


def test_only_the_first_of_several_candidates_is_read() -> None:
    """Two answers must not be mixed into one."""
    mixed = chunk(text("a"))
    mixed["candidates"].append({**chunk(text("B"))["candidates"][0], "index": 1})
    odd = chunk(text("b", None), groundingMetadata=None, finish="STOP")
    odd["candidates"].append({"index": 1, "content": None, "finishReason": "SAFETY"})
    assert answer(mixed, odd).text == "ab"


def test_a_chunk_with_something_unusual_is_read_like_any_other() -> None:
    """The fast path takes what it knows only; both give the same text."""
    odd = chunk(text("o"), newField=[1])
    odd["candidates"][0]["content"]["parts"][0]["partMetadata"] = {"a": 1}
    response = answer(chunk(text("u")), odd, chunk(text("u")), odd, chunk(finish="STOP"))
    assert response.parts == (Text("uouo"),)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text('a"\\{}[],: é', max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text('"\\}]', max_size=3), inner)
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.dictionaries(st.text('k"\\', max_size=3), _JSON, max_size=3), max_size=4),
    st.integers(1, 9),
    st.sampled_from([None, 1]),
)
def test_an_array_is_cut_into_its_objects_however_it_is_written(
    values: list[dict[str, object]], size: int, indent: int | None
) -> None:
    """Quotes, escapes and brackets in texts; pieces of any size; white space anywhere."""
    body = b" \n" + msgspec.json.encode(values)
    if indent is not None:
        body = msgspec.json.format(body, indent=indent)
    frames = GeminiFrames()
    found: list[tuple[str, bytes]] = []
    for piece in [body[:3], *pieces(body[3:], size)]:
        found += frames.feed(piece)
    found += frames.close()
    assert [msgspec.json.decode(data) for _, data in found] == values


def test_a_chunk_of_an_array_that_never_ends_is_given_up() -> None:
    """The memory is bounded."""
    frames = GeminiFrames(limit=100)
    with pytest.raises(MalformedResponse) as found:
        for _ in range(100):
            frames.feed(b'[{"a":"' + b"x" * 10)
    assert not found.value.retryable


def test_an_array_gives_its_text_before_it_ends() -> None:
    """Not all at once at the last bracket."""
    body = array(chunk(text("Hel")), chunk(text("lo"), finish="STOP"))
    events, error = read([body[: body.index(b"lo")]])
    assert events[-1] == TextDelta("Hel")
    assert error is not None
