"""Which transcripts may be sent to Gemini, and how legal ones look."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_client.codecs.gemini import GeminiCodec
from llm_client.errors import LocalProtocolError
from llm_client.types import LLMRequest, Message, Text, ToolCall, ToolResult, Transcript
from tests.gemini_bodies import NEW, OLD, body, called, own, wire


def refused(*messages: Message) -> str:
    """The rule that a transcript breaks."""
    with pytest.raises(LocalProtocolError) as found:
        wire(*messages)
    assert f"(rule {found.value.rule})" in found.value.message
    return found.value.rule


HI = Message.user("hi")
CALL = called(own("a"), ToolCall("b", "other"))


def test_results_go_out_together_in_the_order_of_the_calls() -> None:
    """G05, G06: same number and names, whatever order they came in."""
    together = Message("tool", (ToolResult("b", (Text("2"),)), ToolResult("a", (Text("1"),))))
    apart = (Message.tool("b", "2"), Message.tool("a", "1"))
    for results in ((together,), apart):
        contents = wire(HI, CALL, *results, Message.assistant("done"))
        assert [content["role"] for content in contents] == ["user", "model", "user", "model"]
        assert [part["functionResponse"] for part in contents[2]["parts"]] == [
            {"name": "look_up", "response": {"output": "1"}},
            {"name": "other", "response": {"output": "2"}},
        ]


@pytest.mark.parametrize(
    "next_one", [Message.user("and?"), Message.assistant("so"), called(own("c")), Message.user("")]
)
def test_nothing_stands_between_calls_and_their_results(next_one: Message) -> None:
    """O12: each call has its result in the next turn."""
    assert refused(HI, CALL, next_one, Message.tool("a", "1"), Message.tool("b", "2")) == "G05"
    assert refused(HI, CALL, Message.tool("a", "1"), next_one) == "G05"


def test_no_transcript_ends_with_open_calls() -> None:
    """It names those that are open."""
    assert refused(HI, CALL) == "G05"
    with pytest.raises(LocalProtocolError, match="'b'"):
        wire(HI, CALL, Message.tool("a", "1"))


def test_a_result_needs_its_call_just_before_it_o09() -> None:
    """O09: not in an older turn, not nowhere."""
    done = (Message.tool("a", "1"), Message.tool("b", "2"))
    assert refused(HI, Message.tool("a", "1")) == "G07"
    assert refused(HI, CALL, Message.tool("c", "1")) == "G07"
    assert refused(HI, CALL, *done, Message.user("and?"), Message.tool("a", "1")) == "G07"
    assert refused(HI, CALL, *done, called(own("c")), Message.tool("a", "1")) == "G07"


def test_a_call_is_answered_once() -> None:
    """Also when all others are."""
    assert refused(HI, CALL, Message.tool("a", "1"), Message.tool("a", "1")) == "G06"
    done = (Message.tool("a", "1"), Message.tool("b", "2"))
    assert refused(HI, CALL, *done, Message.tool("b", "2")) == "G06"


def test_calls_and_results_have_ids() -> None:
    """The call's is unique in its turn."""
    assert refused(HI, called(ToolCall("", "f"))) == "G05"
    assert refused(HI, called(own("a"), own("a"))) == "G05"
    assert refused(HI, CALL, Message("tool", (ToolResult("", ()),))) == "G07"
    assert refused(HI, CALL, Message("tool", ())) == "G07"


def test_a_turn_of_calls_always_follows_one_of_the_user() -> None:
    """G04: where there is none, a word of the user goes between."""
    bridge = {"role": "user", "parts": [{"text": "Go on."}]}
    call = (called(own("a")), Message.tool("a", "1"))
    assert wire(HI, Message.assistant("first"), *call)[2] == bridge
    assert wire(*call)[0] == bridge
    assert bridge not in wire(HI, *call, called(own("b")), Message.tool("b", "1"))
    assert bridge not in wire(HI, Message.assistant("a"), Message.assistant("b"))


def test_system_messages_join_the_system_prompt_or_stand_in_their_place() -> None:
    """There is no turn of a system; a later one must not change the beginning of the request."""
    before = (Message("system", (Text("One."),)), Message("system", (Text("Two."),)))
    found = body(LLMRequest((*before, HI), "Zero."))
    assert found["systemInstruction"] == {
        "parts": [{"text": "Zero."}, {"text": "One."}, {"text": "Two."}]
    }
    assert found["contents"] == [{"role": "user", "parts": [{"text": "hi"}]}]
    later = body(LLMRequest((HI, before[0])))
    assert "systemInstruction" not in later
    assert later["contents"][1] == {
        "role": "user",
        "parts": [{"text": "<system>"}, {"text": "One."}, {"text": "</system>"}],
    }


@pytest.mark.parametrize(
    "messages", [(), (Message.user(""),), (Message("system", (Text("x"),)),)], ids=["0", "1", "2"]
)
def test_a_request_without_any_contents_is_refused(messages: tuple[Message, ...]) -> None:
    """G03: there is nothing to answer."""
    assert refused(*messages) == "G03"


_TEXT = st.sampled_from(["", "x", "{}", "é"])
_CALLS = st.lists(st.booleans(), min_size=1, max_size=3)
_ROUND = st.tuples(
    st.sampled_from(["user", "assistant", "system", "calls"]), _TEXT, _CALLS, st.randoms()
)


@settings(max_examples=120, deadline=None)
@given(st.lists(_ROUND, max_size=8), st.sampled_from([OLD, NEW]))
def test_whatever_is_sent_keeps_to_the_rules(
    rounds: list[tuple[str, str, list[bool], object]], model: str
) -> None:
    """Any mixture of turns with complete calls: number, names, order, signatures, roles."""
    messages = [Message.user("begin")]
    for number, (kind, text, signed, _) in enumerate(rounds):
        if kind == "user":
            messages.append(Message.user(text))
        elif kind == "system":
            messages.append(Message("system", (Text(text),)))
        elif kind == "assistant":
            messages.append(Message.assistant(text))
        else:
            ids = [f"{number}_{place}" for place in range(len(signed))]
            calls = [
                own(id, f"f{id}") if sign else ToolCall(id, f"f{id}")
                for id, sign in zip(ids, signed, strict=True)
            ]
            messages.append(Message.assistant(text, *calls))
            messages += [Message.tool(id, text) for id in reversed(ids)]
    open_names: list[str] = []
    last = ""
    for content in wire(*messages, model=model):
        parts = content["parts"]
        assert parts
        names = [part["functionCall"]["name"] for part in parts if "functionCall" in part]
        answered = [
            part["functionResponse"]["name"] for part in parts if "functionResponse" in part
        ]
        assert answered == open_names
        assert not (names and last != "user")
        first = next((part for part in parts if "functionCall" in part), None)
        assert first is None or first["thoughtSignature"]
        open_names, last = names, content["role"]
    assert open_names == []


def test_a_round_more_leaves_the_bytes_before_it_as_they_were() -> None:
    """The prompt cache of the provider lives on that."""
    codec = GeminiCodec()
    backing = [HI]
    before = b""
    for number in range(40):
        backing += [called(own(f"c{number}")), Message.tool(f"c{number}", "x" * 9000)]
        request = LLMRequest(Transcript(backing), "Be brief.", NEW, cache_key="k")
        sent = b"".join(codec.encode(request, stream=True).body)
        assert sent.startswith(before)
        assert sent == b"".join(GeminiCodec().encode(request, stream=True).body)
        other = msgspec.structs.replace(request, model=OLD)
        assert b"".join(codec.encode(other, stream=True).body) == sent
        before = sent.removesuffix(b"]}")
    assert codec.kept_conversations == 2
