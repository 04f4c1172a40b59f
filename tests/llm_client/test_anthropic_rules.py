"""The checker of transcripts of the Messages protocol, against requests that were accepted.

Each accepted request passes and says the same again; each mutation of one breaks its rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_client.codecs.anthropic import AnthropicCodec
from llm_client.errors import LocalProtocolError
from llm_client.types import (
    CachePoint,
    File,
    Image,
    LLMRequest,
    Message,
    Opaque,
    Part,
    Seal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from tests.anthropic_bodies import NEW, OLD
from tests.anthropic_requests import accepted_requests, meaning, read_request
from tests.legality.anthropic import violations
from tests.telling import Tell

History = list[Message]
Mutation = Callable[[History, int, int], History]


def rule_of(messages: Sequence[Message], model: str = OLD) -> str | None:
    """The rule that `messages` break, None if they are legal."""
    try:
        AnthropicCodec().encode(LLMRequest(messages, model=model), stream=False)
    except LocalProtocolError as error:
        return error.rule
    return None


def test_every_request_that_was_accepted_says_the_same_again(
    tell: Tell,
) -> None:
    """Read into our types and written again: legal, and nothing that the provider needs is lost."""
    codec = AnthropicCodec()
    requests = accepted_requests()
    for id, body in requests:
        encoded = codec.encode(read_request(body), stream=bool(body.get("stream")))
        found = msgspec.json.decode(b"".join(encoded.body), type=dict[str, object])
        assert meaning(found) == meaning(body), id
    tell(f"{len(requests)} requests say the same again")
    assert len(requests) > 260


# ── mutations ─────────────────────────────────────────────────────────────────────────────────────


def batch(messages: History) -> tuple[int, int] | None:
    """The places of the first message with calls and of the last of its results."""
    for start, message in enumerate(messages):
        if message.tool_calls:
            end = start
            while end + 1 < len(messages) and messages[end + 1].role == "tool":
                end += 1
            return start, end
    return None


def parts_of(message: Message, *parts: Part) -> Message:
    """`message` with other parts."""
    return msgspec.structs.replace(message, parts=parts)


def changed(messages: History, place: int, *parts: Part) -> History:
    """`messages` with other parts at `place`."""
    return [*messages[:place], parts_of(messages[place], *parts), *messages[place + 1 :]]


def drop_the_results(messages: History, start: int, end: int) -> History:
    return messages[: start + 1] + messages[end + 1 :]


def drop_the_call(messages: History, start: int, end: int) -> History:
    del end
    return messages[:start] + messages[start + 1 :]


def drop_one_call_of_the_turn(messages: History, start: int, end: int) -> History:
    del end
    first = messages[start].tool_calls[0]
    return changed(messages, start, *[part for part in messages[start].parts if part is not first])


def repeat_a_result(messages: History, start: int, end: int) -> History:
    del start
    return messages[: end + 1] + messages[end:]


def put_a_user_message_between(messages: History, start: int, end: int) -> History:
    del end
    return [*messages[: start + 1], Message.user("well?"), *messages[start + 1 :]]


def put_a_system_message_between(messages: History, start: int, end: int) -> History:
    del end
    return [*messages[: start + 1], Message("system", (Text("!"),)), *messages[start + 1 :]]


def put_the_call_behind_its_result(messages: History, start: int, end: int) -> History:
    moved = [*messages[start + 1 : end + 1], messages[start]]
    return messages[:start] + moved + messages[end + 1 :]


def answer_another_call(messages: History, start: int, end: int) -> History:
    del start
    return changed(messages, end, ToolResult("another", ()))


def end_with_open_calls(messages: History, start: int, end: int) -> History:
    del end
    return messages[: start + 1]


def empty_the_id(messages: History, start: int, end: int) -> History:
    del end
    return changed(messages, start, ToolCall("", "f"))


def use_an_id_twice(messages: History, start: int, end: int) -> History:
    del end
    call = messages[start].tool_calls[0]
    return changed(messages, start, call, call)


def answer_an_older_turn(messages: History, start: int, end: int) -> History:
    del start
    return [*messages[: end + 1], Message.user("next"), messages[end]]


def answer_nothing(messages: History, start: int, end: int) -> History:
    del start
    return changed(messages, end)


def answer_without_an_id(messages: History, start: int, end: int) -> History:
    del start
    return changed(messages, end, ToolResult("", ()))


def put_a_result_into_the_call(messages: History, start: int, end: int) -> History:
    del end
    return changed(messages, start, *messages[start].parts, ToolResult("a", ()))


def break_a_character(messages: History, start: int, end: int) -> History:
    del end
    return changed(messages, start, Text("\ud83d"), *messages[start].parts)


@pytest.mark.parametrize(
    ("mutate", "rules"),
    [
        (drop_the_results, {"A19", "A20"}),
        (drop_the_call, {"A21"}),
        (drop_one_call_of_the_turn, {"A21"}),
        (repeat_a_result, {"A22"}),
        (put_a_user_message_between, {"A20"}),
        (put_a_system_message_between, {"A20"}),
        (put_the_call_behind_its_result, {"A21"}),
        (answer_another_call, {"A21"}),
        (end_with_open_calls, {"A19"}),
        (empty_the_id, {"A12"}),
        (use_an_id_twice, {"A12"}),
        (answer_an_older_turn, {"A21"}),
        (answer_nothing, {"A06"}),
        (answer_without_an_id, {"A21"}),
        (put_a_result_into_the_call, {"A06"}),
        (break_a_character, {"X1"}),
    ],
)
def test_each_mutation_of_an_accepted_request_breaks_its_rule(
    mutate: Mutation, rules: set[str], tell: Tell
) -> None:
    """O09, O12: the checker blocks before sending, and names what is wrong."""
    tried = 0
    for id, body in accepted_requests():
        messages = list(read_request(body).messages)
        places = batch(messages)
        if places is not None:
            tried += 1
            assert rule_of(mutate(messages, *places)) in rules, id
    tell(f"{mutate.__name__}: {tried} mutated requests refused")
    assert tried > 60


def test_no_result_answers_a_call_behind_a_system_message() -> None:
    """It waits for what follows it, and must not slip behind the results."""
    calls = Message.assistant("", ToolCall("a", "f"))
    note = Message("system", (Text("s"),))
    assert rule_of([calls, Message.tool("a", ""), note, Message.tool("a", "")]) == "A21"


def test_shapes_that_are_free_stay_free() -> None:
    """Roles in a row, a system message later on, an assistant first: all accepted."""
    user, assistant = Message.user("u"), Message.assistant("a")
    system, call = Message("system", (Text("s"),)), Message.assistant("t", ToolCall("a", "f"))
    for model in (OLD, NEW):
        for history in (
            [user, user],
            [assistant, user],
            [assistant, user, system, assistant, assistant, user],
            [user, call, Message.tool("a", ""), assistant, user],
            [user, call, Message.tool("a", "")],
            [call, Message.tool("a", ""), system, call, Message.tool("a", ""), user],
        ):
            assert rule_of(history, model) is None


def test_only_models_that_can_go_on_from_their_own_words_are_made_to() -> None:
    """Rule A24: the newer ones refuse it, unless the provider itself had paused the turn."""
    user, prefill = Message.user("u"), Message.assistant("{")
    assert rule_of([user, prefill], OLD) is None
    for model in ("claude-opus-4-6", "claude-sonnet-4-6", NEW, "claude-sonnet-5"):
        assert rule_of([user, prefill], model) == "A24"
        assert rule_of([user, prefill, Message("assistant", (Thinking("x"),))], model) == "A24"
        paused = Opaque("anthropic", "server_tool_use", '{"type":"server_tool_use","id":"s"}')
        assert rule_of([user, Message.assistant("Wait.", paused)], model) is None


@pytest.mark.parametrize(
    ("message", "rule"),
    [
        (Message("user", (ToolCall("a", "f"),)), "A06"),
        (Message("user", (Thinking("x", Seal("anthropic", "s")),)), "A06"),
        (Message("system", (ToolCall("a", "f"),)), "A06"),
        (Message("tool", (Text("x"),)), "A06"),
        (Message("tool", (Opaque("openai", "x", "{}"),)), "A06"),
        (Message("tool", (Opaque("anthropic", "x", '{"type":"x"}'),)), "A06"),
        (Message("tool", (ToolResult("", ()),)), "A21"),
    ],
)
def test_a_message_holds_what_its_role_can_hold(message: Message, rule: str) -> None:
    """Rule A06, and a result must say what it answers."""
    assert rule_of([Message.user("u"), message]) == rule


# ── any history ───────────────────────────────────────────────────────────────────────────────────

_TEXTS = st.sampled_from(["", " ", "Hi", "so \n", "é🌍"]).map(Text)
_ORIGINS = st.sampled_from(["anthropic", "openai", ""])
_SEALS = st.none() | st.builds(Seal, _ORIGINS, st.sampled_from([None, "", "sig"]))
_THOUGHTS = st.builds(Thinking, st.sampled_from(["", "hm"]), _SEALS, st.booleans())
_OPAQUE = st.builds(Opaque, _ORIGINS, st.just("odd"), st.just('{"type":"odd"}'))
_POINTS = st.builds(CachePoint, st.sampled_from(["5m", "1h"]))
_MEDIA: st.SearchStrategy[Part] = st.sampled_from([Image(url="u"), File(id="f")])
_ARGUMENTS = st.sampled_from(["{}", "", '{"a":', "[1]", '{"a":"é"}'])


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Any history that an application can hold: each call is answered, in any order."""
    history: History = []
    for _ in range(draw(st.integers(1, 6))):
        role = draw(st.sampled_from(["user", "assistant", "system"]))
        if role == "user":
            heard = st.lists(_TEXTS | _MEDIA | _POINTS | _OPAQUE, max_size=3)
            history.append(Message("user", tuple(draw(heard))))
        elif role == "system":
            said = st.lists(_TEXTS | _POINTS, max_size=2)
            history.append(Message("system", tuple(draw(said))))
        else:
            history += draw(rounds(len(history)))
    return [*history, Message.user("And now?")]


@st.composite
def rounds(draw: st.DrawFn, number: int) -> History:
    """An assistant message with parts in any order, and the results of its calls."""
    ids = draw(st.sets(st.sampled_from(["a", "b.1", "ü"]), max_size=3))
    calls = [ToolCall(f"{id}{number}", "f f", draw(_ARGUMENTS)) for id in sorted(ids)]
    others = draw(st.lists(_TEXTS | _THOUGHTS | _OPAQUE | _POINTS | _MEDIA, max_size=4))
    parts = draw(st.permutations([*calls, *others]))
    results: list[Part] = [ToolResult(call.id, (draw(_TEXTS),)) for call in calls]
    results = draw(st.permutations(results))
    cut = draw(st.integers(0, len(results)))
    told = [results[:cut], results[cut:]]
    return [
        Message("assistant", tuple(parts)),
        *[Message("tool", tuple(some)) for some in told if some],
    ]


@given(histories(), st.sampled_from([OLD, NEW]), st.sampled_from([None, "5m", "1h"]))
def test_any_history_goes_out_legal(
    history: History, model: str, cache: Literal["5m", "1h"] | None
) -> None:
    """I02, R03: judged by a checker that shares nothing with this one."""
    request = LLMRequest(history, "Be brief.", model=model, cache=cache)
    encoded = b"".join(AnthropicCodec().encode(request, stream=False).body)
    assert violations(msgspec.json.decode(encoded, type=dict[str, Any]), True) == []
