"""Answers of the Messages protocol, whole and streamed: text, thinking, calls, opaque parts."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from llm_client.stream import Finished, PartCompleted, PartSealed, TextDelta, ToolCallDelta
from llm_client.types import (
    Citation,
    LLMResponse,
    Opaque,
    Seal,
    StopReason,
    Text,
    Thinking,
    ToolCall,
    Usage,
)
from tests.anthropic_streams import (
    PING,
    STOP,
    Frame,
    answer,
    block,
    built_streams,
    call,
    decode,
    end,
    read,
    recorded_streams,
    sse,
    start,
    text,
    thinking,
    whole,
)
from tests.corpus import need_corpus
from tests.decoding import accumulate, pieces


def test_a_streamed_answer_has_its_text_its_end_and_its_ids() -> None:
    """The common case."""
    assert answer(start(), PING, text(0, "Hé", "!"), end(), STOP) == LLMResponse(
        (Text("Hé!"),),
        StopReason.END,
        "end_turn",
        Usage(5, 7),
        response_id="msg_1",
        model="m-1",
    )


@pytest.mark.parametrize("number", range(len(built_streams())))
def test_no_cut_of_the_bytes_changes_the_events(number: int) -> None:
    """S01, S02: characters, lines and frames are cut anywhere, in streams of every shape."""
    body = built_streams()[number]
    events, error = read([body])
    for parts in [[body[:cut], body[cut:]] for cut in range(1, len(body))] + [pieces(body, 1)]:
        found, failure = read(parts)
        assert found == events
        assert str(failure) == str(error)


def test_no_cut_of_recorded_bytes_changes_the_events() -> None:
    """S01, S02: each recorded stream at a sample of its places."""
    need_corpus("dev.anthropic_messages.jsonl")
    streams = recorded_streams(16_384)
    assert len(streams) > 30
    for body in streams:
        expected = read([body])
        for cut in range(1, len(body), 211):
            assert read([body[:cut], body[cut:]]) == expected


CITED = {"type": "char_location", "document_title": "Book", "cited_text": "So.", "start": 0}


ANSWERS: list[tuple[list[Frame], str]] = [
    ([{"type": "text", "text": "Hi"}], "end_turn"),
    ([{"type": "text", "text": "a"}, {"type": "text", "text": "b", "citations": [CITED]}], ""),
    ([{"type": "text", "text": ""}, {"type": "text", "text": "b"}], "max_tokens"),
    ([{"type": "thinking", "thinking": "Hm", "signature": "s"}], "end_turn"),
    ([{"type": "thinking", "thinking": "", "signature": "s"}], "end_turn"),
    ([{"type": "redacted_thinking", "data": "d"}], "refusal"),
    ([{"type": "tool_use", "id": "a", "name": "f", "input": {"x": [1.5, "é"]}}], "tool_use"),
    ([{"type": "tool_use", "id": "a", "name": "f", "input": {}}], "tool_use"),
    ([{"type": "tool_use", "id": "a", "name": "f", "input": {}}], "max_tokens"),
    ([{"type": "server_tool_use", "id": "s", "name": "f", "input": {"q": 1}}], "pause_turn"),
    ([{"type": "compaction", "content": "Long ago", "encrypted_content": "e"}], "compaction"),
    ([{"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}}], "end_turn"),
    ([], "end_turn"),
]


@pytest.mark.parametrize(("content", "reason"), ANSWERS)
def test_a_whole_answer_has_the_parts_of_the_same_answer_streamed(
    content: list[Frame], reason: str
) -> None:
    """One place reads both."""
    frames = [frame for index, fields in enumerate(content) for frame in streamed(index, fields)]
    found = answer(start(), frames, end(reason or "end_turn"), STOP)
    assert decode(whole(*content, reason=reason or "end_turn")) == found.replace(request_id="req_1")


def streamed(index: int, fields: dict[str, Any]) -> list[Frame]:
    """A whole block as the stream would give it."""
    match fields:
        case {"type": "text", "text": said}:
            return text(index, said, cited=fields.get("citations", ()))
        case {"type": "thinking", "thinking": thought, "signature": signature}:
            return thinking(index, thought, signature=signature)
        case {"type": "tool_use" | "server_tool_use" as kind, "id": id, "name": name, "input": arg}:
            said = msgspec.json.encode(arg).decode() if arg else ""
            delta = {"type": "input_json_delta", "partial_json": said}
            return block(index, kind, delta, id=id, name=name, input={})
        case {"type": kind}:
            return block(index, **{"kind": kind} | {k: v for k, v in fields.items() if k != "type"})
        case _:
            raise AssertionError(fields)


def test_thinking_keeps_its_signature_and_its_place() -> None:
    """Signed, withheld and redacted blocks, each with the seal that it must go back under."""
    response = answer(
        start(),
        thinking(0, "Let me ", "see.", signature="one"),
        thinking(1, signature="two"),
        block(2, "redacted_thinking", data="three"),
        text(3, "So."),
        end(),
        STOP,
    )
    assert response.parts == (
        Thinking("Let me see.", Seal("anthropic", "one")),
        Thinking("", Seal("anthropic", "two")),
        Thinking("", Seal("anthropic", "three"), redacted=True),
        Text("So."),
    )


def test_a_withheld_thought_does_not_seal_the_text_before_it() -> None:
    """A seal belongs to one part."""
    response = answer(start(), text(0, "a"), thinking(1, signature="s"), text(2, "b"), end(), STOP)
    assert response.parts == (Text("a"), Thinking("", Seal("anthropic", "s")), Text("b"))


def test_blocks_of_one_kind_in_a_row_stay_parts_of_their_own() -> None:
    """What is cited belongs to one of them, and all must go back as they came."""
    cited = {**CITED, "url": "https://example.org", "title": "T"}
    events, _ = read(
        [sse(start(), text(0, "a"), text(1, "b", cited=[cited]), text(2, "c"), end(), STOP)]
    )
    source = Citation(
        msgspec.json.encode(cited).decode(), url="https://example.org", title="T", quote="So."
    )
    assert events[2:7] == [
        TextDelta("a"),
        PartSealed(),
        TextDelta("b"),
        PartSealed(None, (source,)),
        TextDelta("c"),
    ]
    assert accumulate(events).parts == (Text("a"), Text("b", (source,)), Text("c"))
    unsigned = answer(start(), thinking(0, "a"), thinking(1, "b"), end(), STOP)
    assert unsigned.parts == (Thinking("a"), Thinking("b"))


def test_what_the_provider_ran_itself_is_kept_and_is_no_call_of_ours() -> None:
    """F05: it goes back in its place; nothing is to be done about it."""
    found = {"type": "web_search_tool_result_error", "error_code": "unavailable"}
    response = answer(
        start(),
        block(
            0,
            "server_tool_use",
            {"type": "input_json_delta", "partial_json": '{"query": '},
            {"type": "input_json_delta", "partial_json": '"x"}'},
            id="srvtoolu_1",
            name="web_search",
            input={},
        ),
        block(1, "web_search_tool_result", tool_use_id="srvtoolu_1", content=found),
        text(2, "No luck."),
        end("tool_use"),
        STOP,
    )
    use, result, said = response.parts
    assert isinstance(use, Opaque)
    assert isinstance(result, Opaque)
    assert (use.provider, use.kind) == ("anthropic", "server_tool_use")
    assert msgspec.json.decode(use.json)["input"] == {"query": "x"}
    assert msgspec.json.decode(result.json)["content"] == found
    assert said == Text("No luck.")
    assert (response.stop_reason, response.tool_calls) == (StopReason.END, ())


def test_an_input_of_the_providers_own_tool_that_was_cut_off_leaves_what_the_start_held() -> None:
    """The block still goes back as an object."""
    half = {"type": "input_json_delta", "partial_json": '{"query": "x'}
    (part,) = answer(
        start(),
        block(0, "server_tool_use", half, id="s", name="web_search", input={}),
        end("max_tokens"),
        STOP,
    ).parts
    assert isinstance(part, Opaque)
    assert msgspec.json.decode(part.json)["input"] == {}


def test_blocks_and_frames_that_are_not_known_yet_do_no_harm() -> None:
    """Blocks are kept, with whatever their pieces add; other frames say nothing."""
    response = answer(
        start(),
        {"type": "weather_report", "sun": True},
        block(
            0,
            "hologram",
            {"type": "hologram_delta", "data": "ab", "depth": 1},
            {"type": "hologram_delta", "data": "cd", "depth": 2, "note": None},
            data="",
        ),
        [*text(1, "x")[:2], {"type": "content_block_delta", "index": 1, "delta": {"type": "odd"}}],
        end(),
        STOP,
    )
    json = '{"type":"hologram","data":"abcd","depth":2}'
    assert response.parts == (Opaque("anthropic", "hologram", json), Text("x"))


def test_calls_have_their_arguments_however_the_pieces_are_dealt_out() -> None:
    """S18: a piece goes to the block whose index it names."""

    def piece(index: int, said: str) -> Frame:
        delta = {"type": "input_json_delta", "partial_json": said}
        return {"type": "content_block_delta", "index": index, "delta": delta}

    response = answer(
        start(),
        call(1, "a", "f")[0],
        call(2, "b", "g")[0],
        [piece(2, '{"y"'), piece(1, '{"x"'), piece(1, ":1}"), piece(2, ":2}")],
        [{"type": "content_block_stop", "index": index} for index in (2, 1)],
        end("tool_use"),
        STOP,
    )
    assert response.tool_calls == (ToolCall("a", "f", '{"x":1}'), ToolCall("b", "g", '{"y":2}'))


def test_a_call_without_arguments_has_an_empty_object_for_them() -> None:
    """No pieces, an empty piece, no input in the start at all."""
    bare = call(2, "c", "h")
    del bare[0]["content_block"]["input"]
    events, _ = read(
        [sse(start(), call(0, "a", "f"), call(1, "b", "g", ""), bare, end("tool_use"), STOP)]
    )
    assert [event for event in events if isinstance(event, ToolCallDelta)] == [
        ToolCallDelta(0, "{}"),
        ToolCallDelta(1, "{}"),
        ToolCallDelta(2, "{}"),
    ]


def test_arguments_that_came_with_the_start_count_unless_pieces_follow() -> None:
    """Some servers give them at once, some both ways."""
    response = answer(
        start(),
        call(0, "a", "f", input={"x": 1}),
        call(1, "b", "f", '{"x":2}', input={"x": 1}),
        call(2, "c", "f", input='{"x":3}'),
        end("tool_use"),
        STOP,
    )
    assert [one.arguments for one in response.tool_calls] == ['{"x":1}', '{"x":2}', '{"x":3}']


def test_calls_get_ids_where_the_server_gives_none_or_the_same_twice() -> None:
    """S19: each result must find its call."""
    frames = [call(0, "", "f"), call(1, "a", "f"), call(2, "a", "f")]
    response = answer(start(), *frames, end("tool_use"), STOP)
    ids = [one.id for one in response.tool_calls]
    assert ids[:2] == ["call_0", "a"]
    assert len(set(ids)) == 3


def test_a_call_by_code_that_the_provider_runs_names_it() -> None:
    """Whoever answers must say whose call it was; one of the model's own needs no seal."""
    by_code = {"type": "code_execution_20250825", "tool_id": "srvtoolu_1"}
    response = answer(
        start(),
        call(0, "a", "f", caller={"type": "direct"}),
        call(1, "b", "f", caller=by_code),
        end("tool_use"),
        STOP,
    )
    seal = Seal("anthropic", id="srvtoolu_1", kind="code_execution_20250825")
    assert [one.seal for one in response.tool_calls] == [None, seal]
    settled = [call(0, "b", "f", caller=by_code), text(1, "Done.")]
    assert answer(start(), *settled, end(), STOP).stop_reason is StopReason.END


def test_the_input_counts_what_was_read_from_the_cache_and_written_to_it() -> None:
    """The wire counts them beside it. Later reports have the last word on what they name."""
    first = start(cache_read_input_tokens=30, cache_creation_input_tokens=4)
    details = {"output_tokens": 9, "output_tokens_details": {"thinking_tokens": 6}}
    response = answer(first, text(0, "x"), end(usage={**details, "input_tokens": None}), STOP)
    assert response.usage == Usage(39, 9, 30, 4, 6)
    more = answer(first, text(0, "x"), end(usage={"input_tokens": 8}), STOP)
    assert more.usage == Usage(42, 1, 30, 4)


def test_blocks_in_the_first_frame_are_read() -> None:
    """The provider gives so what it had kept of calls made by its own code."""
    known = {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}}
    response = answer(start(content=[known]), text(0, "x"), end("tool_use"), STOP)
    assert response.parts == (ToolCall("a", "f", '{"x":1}'), Text("x"))


def test_pieces_without_a_start_open_their_block() -> None:
    """Some servers leave the starts out."""

    def piece(kind: str, **said: str) -> Frame:
        return {"type": "content_block_delta", "index": 0, "delta": {"type": kind, **said}}

    response = answer(piece("text_delta", text="a"), piece("text_delta", text="b"), end(), STOP)
    assert response.parts == (Text("ab"),)
    assert answer(piece("thinking_delta", thinking="a"), end(), STOP).parts == (Thinking("a"),)


def test_parts_of_another_vendor_bear_its_name() -> None:
    """R03: a signature means something to whoever made it only."""
    frames = (start(), thinking(0, "a", signature="s"), block(1, "odd"), end(), STOP)
    thought, odd = answer(*frames, provider="minimax").parts
    assert thought == Thinking("a", Seal("minimax", "s"))
    assert odd == Opaque("minimax", "odd", '{"type":"odd"}')
    thought, _ = answer(*frames, provider="bedrock").parts
    assert thought == Thinking("a", Seal("anthropic", "s"))


def test_opaque_parts_come_when_their_block_has_ended() -> None:
    """And in order with everything else."""
    events, _ = read([sse(start(), block(0, "odd"), text(1, "x"), end(), STOP)])
    kinds = [type(event) for event in events if not isinstance(event, Finished)]
    assert kinds.index(PartCompleted) < kinds.index(TextDelta)


def test_the_container_in_which_code_has_run_is_kept_with_the_answer() -> None:
    """Streamed and whole; none is none."""
    container = {"id": "container_1", "expires_at": "2026-05-22T23:31:03Z"}
    streamed = answer(start(), text(0, "x"), end(container=container), STOP)
    assert streamed.parts[1:] == (
        Opaque("anthropic", "container", msgspec.json.encode(container).decode()),
    )
    said = {"type": "text", "text": "x"}
    assert decode(whole(said, container=container)).parts == streamed.parts
    assert len(decode(whole(said, container=None)).parts) == 1


def test_a_block_that_begins_where_another_was_open_ends_that_one() -> None:
    """Some servers leave the ends out, some number every block 0."""
    response = answer(
        start(),
        thinking(0, "a", signature="s")[:-1],
        text(0, "b")[:-1],
        call(0, "x", "f", "{}")[:-1],
        end("tool_use"),
        STOP,
    )
    assert response.parts == (Thinking("a", Seal("anthropic", "s")), Text("b"), ToolCall("x", "f"))
