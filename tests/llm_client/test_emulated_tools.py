"""Tools for a model that has only answers bound to a schema."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from llm_client.emulated_tools import EmulatedTools, Emulation
from llm_client.emulated_tools.reader import AnswerReader, JsonString
from llm_client.errors import LocalProtocolError, Overloaded
from llm_client.stream import Accumulator, Finished, StreamEvent, TextDelta, ToolCallDelta
from llm_client.testing import ScriptedLLM, reply
from llm_client.types import (
    Image,
    LLMRequest,
    LLMResponse,
    Message,
    NamedTool,
    OutputSchema,
    StopReason,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    ToolSpec,
    Transcript,
    Usage,
)

pytestmark = pytest.mark.anyio

PATH = {"type": "string", "description": "the file"}
READ = ToolSpec(
    "read_file",
    "Reads a file.\nNothing else.",
    {
        "type": "object",
        "properties": {"path": PATH, "limit": {"type": "integer"}},
        "required": ["path"],
    },
)
LIST = ToolSpec("list_files", "Lists the files.", {"type": "object", "properties": {}})
TOOLS = (LIST, READ)
CALL = '{"tool": "read_file", "arguments": {"path": "a \\"b\\".txt"}}'
SMALL = Emulation(
    describe=False,
    demonstrate=True,
    results_first=True,
    one_result=True,
    calls_per_question=2,
    required_only=True,
    longest_string=80,
)


def asking(text: str = "What is in a.txt?", *rest: Message, **fields: Any) -> LLMRequest:
    return LLMRequest([Message.user(text), *rest], tools=TOOLS, **fields)


def called(arguments: str = '{"path": "a.txt"}', id: str = "c1") -> Message:
    return Message.assistant("", ToolCall(id, "read_file", arguments))


async def schema_for(request: LLMRequest, emulation: Emulation | None = None) -> dict[str, Any]:
    inner = ScriptedLLM("{}")
    await EmulatedTools(inner, emulation).complete(request)
    output = inner.requests[0].output_schema
    assert output is not None
    return output.schema


async def sent_for(request: LLMRequest, emulation: Emulation | None = None) -> LLMRequest:
    inner = ScriptedLLM("{}")
    await EmulatedTools(inner, emulation).complete(request)
    return inner.requests[0]


async def streamed(
    answer: str, request: LLMRequest, chunk: int | None = 1
) -> tuple[list[StreamEvent], LLMResponse]:
    events: list[StreamEvent] = []
    fold = Accumulator()
    async with EmulatedTools(ScriptedLLM(answer, chunk=chunk)).stream(request) as stream:
        async for event in stream:
            events.append(event)
            fold.add(event)
    return events, fold.response()


def read(answer: str, *, cuts: list[int], calls: bool = True, text: bool = True) -> LLMResponse:
    """What a reader makes of `answer`, cut at `cuts`."""
    edges = [0, *sorted(min(cut, len(answer)) for cut in cuts), len(answer)]
    reader = AnswerReader(calls=calls, text=text)
    fold = Accumulator()
    events = [event for a, b in pairwise(edges) for event in reader.feed(answer[a:b])]
    for event in [*events, *reader.close()]:
        fold.add(event)
    return fold.response()


# ── what the model is asked ───────────────────────────────────────────────────────────────────────


async def test_a_request_without_tools_passes_through_untouched() -> None:
    """The wrapper costs nothing where it has nothing to do."""
    inner = ScriptedLLM("Good day.")
    request = LLMRequest([Message.user("Hello"), Message.user("there")], temperature=0.5)
    response = await EmulatedTools(inner).complete(request)
    assert inner.requests[0] is request
    assert response.text == "Good day."


async def test_the_schema_has_one_branch_for_each_tool_and_one_for_the_answer() -> None:
    """The whole schema, as it is sent."""
    assert await schema_for(asking()) == {
        "anyOf": [
            {
                "type": "object",
                "properties": {
                    "tool": {"type": "string", "enum": ["list_files"]},
                    "arguments": {
                        "type": "object",
                        "properties": {},
                        "additionalProperties": False,
                    },
                },
                "required": ["tool", "arguments"],
                "additionalProperties": False,
            },
            {
                "type": "object",
                "properties": {
                    "tool": {"type": "string", "enum": ["read_file"]},
                    "arguments": {
                        "type": "object",
                        "properties": {"path": PATH, "limit": {"type": "integer"}},
                        "required": ["path"],
                        "additionalProperties": False,
                    },
                },
                "required": ["tool", "arguments"],
                "additionalProperties": False,
            },
            {
                "type": "object",
                "properties": {"answer": {"type": "string"}},
                "required": ["answer"],
                "additionalProperties": False,
            },
        ]
    }


async def test_a_small_model_is_offered_less() -> None:
    """Only required parameters, bounded strings, and choices where they are known."""
    emulation = structs.replace(SMALL, choices={"path": ["a.txt", "b.txt"]})
    request = asking(tool_choice=NamedTool("read_file"))
    arguments = (await schema_for(request, emulation))["properties"]["arguments"]
    assert arguments["properties"] == {"path": {**PATH, "enum": ["a.txt", "b.txt"]}}
    arguments = (await schema_for(request, SMALL))["properties"]["arguments"]
    assert arguments["properties"] == {"path": {**PATH, "maxLength": 80}}


async def test_definitions_of_two_tools_do_not_collide() -> None:
    """References are resolved from the root, where both tools' definitions now live."""

    def tool(name: str, kind: str, key: str) -> ToolSpec:
        parameters = {
            "type": "object",
            "properties": {"x": {"$ref": f"#/{key}/X"}},
            key: {"X": {"type": kind, "items": {"$ref": f"#/{key}/X"}}},
        }
        return ToolSpec(name, "Does.", parameters)

    tools = (tool("one", "string", "$defs"), tool("two", "array", "definitions"))
    schema = await schema_for(LLMRequest([Message.user("Go")], tools=tools, tool_choice="required"))
    one, two = (branch["properties"]["arguments"] for branch in schema["anyOf"])
    assert one["properties"]["x"] == {"$ref": "#/$defs/one.defs.X"}
    assert two["properties"]["x"] == {"$ref": "#/$defs/two.definitions.X"}
    assert "$defs" not in one
    assert "definitions" not in two
    assert schema["$defs"]["one.defs.X"]["type"] == "string"
    assert schema["$defs"]["two.definitions.X"] == {
        "type": "array",
        "items": {"$ref": "#/$defs/two.definitions.X"},
    }


async def test_the_tool_choice_decides_which_branches_there_are() -> None:
    """Required has no answer, a named tool no other, none no tool."""
    required = await schema_for(asking(tool_choice="required"))
    assert [list(one["properties"]) for one in required["anyOf"]] == [["tool", "arguments"]] * 2
    named = await schema_for(asking(tool_choice=NamedTool("list_files")))
    assert named["properties"]["tool"]["enum"] == ["list_files"]
    assert list((await schema_for(asking(tool_choice="none")))["properties"]) == ["answer"]


@pytest.mark.parametrize(
    "request_",
    [
        asking(tool_choice=NamedTool("no_such_tool")),
        LLMRequest([Message.user("x")], tool_choice="required"),
    ],
)
async def test_a_choice_of_no_offered_tool_is_the_callers_error(request_: LLMRequest) -> None:
    """Nothing is sent; the error names the rule."""
    inner = ScriptedLLM("{}")
    with pytest.raises(LocalProtocolError, match="rule C02"):
        await EmulatedTools(inner).complete(request_)
    assert inner.requests == []


async def test_the_system_prompt_tells_the_tools_and_keeps_the_callers_words() -> None:
    """Names, descriptions, schemas and the form of an answer follow what the caller said."""
    system = (await sent_for(asking(system="Be brief."))).system or ""
    assert system.startswith("Be brief.\n\nReply with exactly one JSON object")
    for word in ('"answer"', "- read_file: Reads a file.", "- list_files:", '"limit"'):
        assert word in system


async def test_calls_and_results_become_a_dialogue() -> None:
    """The assistant's own JSON, then the result as the user's words; turns stay alternating."""
    request = asking(
        "Which files?",
        called(id="c1"),
        Message.tool("c1", "cannot read", is_error=True),
        called('{"path": "b', id="c2"),
        Message("tool", (*Message.tool("c2", "fine").parts, Image(url="https://example.org/i"))),
        Message.user("Go on."),
    )
    sent = await sent_for(request)
    assert [message.role for message in sent.messages] == [
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    said = [message.text for message in sent.messages]
    assert said[1] == '{"tool": "read_file", "arguments": {"path": "a.txt"}}'
    assert said[2] == "read_file failed:\ncannot read"
    assert json.loads(said[3])["arguments"] == '{"path": "b'
    assert sent.messages[4].parts == (
        Text("read_file returned:\nfine"),
        Image(url="https://example.org/i"),
        Text("Go on."),
    )
    assert sent.tools == ()
    assert not any(message.tool_calls for message in sent.messages)


async def test_results_first_puts_them_before_their_question() -> None:
    """Each question carries its own results, and the answer is asked for as plain text."""
    request = asking(
        "First?",
        called(id="c1"),
        Message.tool("c1", "one"),
        Message.assistant("It is one."),
        Message.user("Second?"),
        called(id="c2"),
        Message.tool("c2", "two"),
    )
    sent = await sent_for(request, SMALL)
    assert [(message.role, message.text) for message in sent.messages] == [
        ("user", "Context (read_file a.txt):\none\n\nQuestion: First?"),
        ("assistant", "It is one."),
        ("user", "Context (read_file a.txt):\ntwo\n\nQuestion: Second?"),
    ]
    assert sent.output_schema is None


REMEMBERED = Message.user("Remembered: b.txt is old.")


async def test_results_first_puts_what_memory_brings_up_before_the_question_too() -> None:
    """A small model answers what stands last. Nothing of it stays for the next question."""
    said = [Message.user("Is b.txt old?"), called('{"path": "b.txt"}'), Message.tool("c1", "1912")]
    sent = await sent_for(LLMRequest(Transcript(said, tail=(REMEMBERED,)), tools=TOOLS), SMALL)
    assert [message.text for message in sent.messages] == [
        "Remembered: b.txt is old.\n\nContext (read_file b.txt):\n1912\n\nQuestion: Is b.txt old?"
    ]
    said = [*said, Message.assistant("Yes."), Message.user("And a.txt?")]
    sent = await sent_for(LLMRequest(Transcript(said, tail=(REMEMBERED,))), SMALL)
    assert [message.text for message in sent.messages] == [
        "Context (read_file b.txt):\n1912\n\nQuestion: Is b.txt old?",
        "Yes.",
        "Remembered: b.txt is old.\n\nQuestion: And a.txt?",
    ]


async def test_without_results_first_what_memory_brings_up_follows_the_question() -> None:
    """As it does for a model that has tools of its own; without tools nothing is touched."""
    request = LLMRequest(Transcript([Message.user("Is b.txt old?")], tail=(REMEMBERED,)))
    assert await sent_for(request, Emulation()) is request
    sent = await sent_for(structs.replace(request, tools=TOOLS), Emulation())
    assert sent.messages[-1].text == "Is b.txt old?\n\nRemembered: b.txt is old."


async def test_a_long_result_is_cut_and_says_so() -> None:
    """The model sees its beginning and how much is missing; an image beside it stays."""
    picture = Image(url="https://example.org/i")
    result = ToolResult("c1", (Text("x" * 30), picture, Text("short")))
    request = asking("What?", called(), Message("tool", (result,)))
    sent = await sent_for(request, Emulation(longest_result=20))
    assert sent.messages[-1].parts == (
        Text(f"read_file returned:\n{'x' * 20}\n(… 10 characters left out)"),
        picture,
        Text("short"),
    )


async def test_demonstrations_come_first_and_favour_no_choice() -> None:
    """One exchange for each tool, made from its description alone."""
    emulation = structs.replace(SMALL, choices={"path": ["a.txt", "b.txt"]})
    sent = await sent_for(asking(), emulation)
    assert [message.text for message in sent.messages] == [
        "Lists the files.",
        '{"tool": "list_files", "arguments": {}}',
        "Reads a file: alpha",
        '{"tool": "read_file", "arguments": {"path": "alpha"}}',
        "What is in a.txt?",
    ]


async def test_sampling_for_bound_answers_gives_way_to_the_callers_own() -> None:
    """`bound_extra` fills in; what the request says stays."""
    emulation = Emulation(bound_extra={"a": 1, "b": 1})
    sent = await sent_for(asking(extra={"b": 2}), emulation)
    assert dict(sent.extra) == {"a": 1, "b": 2}
    assert dict((await sent_for(LLMRequest([Message.user("x")]), emulation)).extra) == {}


# ── who decides ───────────────────────────────────────────────────────────────────────────────────


async def must(request: LLMRequest, emulation: Emulation) -> str:
    """What `emulation` allows in answer to `request`."""
    output = (await sent_for(request, emulation)).output_schema
    if output is None:
        return "answer"
    text = json.dumps(output.schema)
    return "either" if '"answer"' in text and '"tool"' in text else "call"


async def test_one_result_makes_the_model_call_until_a_call_has_succeeded() -> None:
    """Then it answers; the next question begins anew; the number of tries is bounded."""
    question = asking()
    failed = (called(id="c1"), Message.tool("c1", "no such file", is_error=True))
    found = (called(id="c2"), Message.tool("c2", "text"))
    again = (called(id="c3"), Message.tool("c3", "no", is_error=True))
    for messages, expected in (
        ((), "call"),
        (failed, "call"),
        (found, "answer"),
        ((*failed, *found), "answer"),
        ((*failed, *again), "answer"),
        ((*found, Message.assistant("Text."), Message.user("And b.txt?")), "call"),
    ):
        request = structs.replace(question, messages=[*question.messages, *messages])
        assert await must(request, SMALL) == expected, messages


async def test_what_memory_brings_up_is_no_question_that_needs_a_call() -> None:
    """Else a call would be asked for after every result, until the run's rounds are used up."""
    found = [Message.user("x"), called(), Message.tool("c1", "text")]
    request = LLMRequest(Transcript(found, tail=(REMEMBERED,)), tools=TOOLS)
    assert await must(request, SMALL) == "answer"
    assert await must(request, Emulation(results_first=True, calls_per_question=1)) == "answer"


async def test_without_a_policy_the_model_decides_every_time() -> None:
    """Also after results, until the limit of calls."""
    after = asking("x", called(), Message.tool("c1", "text"))
    assert await must(asking(), Emulation(results_first=True)) == "either"
    assert await must(after, Emulation(results_first=True)) == "either"
    assert await must(after, Emulation(results_first=True, calls_per_question=1)) == "answer"


async def test_an_explicit_tool_choice_is_stronger_than_the_policy() -> None:
    """The policy narrows "auto" only."""
    after = asking("x", called(), Message.tool("c1", "text"), tool_choice="required")
    assert await must(after, SMALL) == "call"
    assert await must(asking(tool_choice="none"), SMALL) == "answer"


async def test_an_impossible_limit_is_refused() -> None:
    """Zero calls are said by tool_choice, not by a limit."""
    with pytest.raises(ValueError, match="calls_per_question"):
        Emulation(calls_per_question=0)
    with pytest.raises(ValueError, match="longest_string"):
        Emulation(longest_string=0)
    with pytest.raises(ValueError, match="longest_result"):
        Emulation(longest_result=0)


# ── what comes back ───────────────────────────────────────────────────────────────────────────────


async def test_a_call_is_read_whole() -> None:
    """A tool call with an id of its own and the arguments as they were written."""
    response = await EmulatedTools(ScriptedLLM(CALL)).complete(asking())
    (call,) = response.tool_calls
    assert (call.name, call.arguments) == ("read_file", '{"path": "a \\"b\\".txt"}')
    assert call.id
    assert (response.text, response.stop_reason) == ("", StopReason.TOOL_CALLS)
    assert response.usage.output_tokens is not None


async def test_a_call_is_streamed_while_its_arguments_arrive() -> None:
    """The start as soon as the name is known, then the arguments in pieces."""
    events, response = await streamed(CALL, asking())
    assert len([event for event in events if isinstance(event, ToolCallDelta)]) > 10
    assert response.tool_calls[0].arguments == '{"path": "a \\"b\\".txt"}'
    assert response.stop_reason is StopReason.TOOL_CALLS
    assert not any(isinstance(event, TextDelta) for event in events)


async def test_a_final_answer_is_streamed_as_text() -> None:
    """Character by character, without the JSON around it."""
    events, response = await streamed('{"answer": "It says \\"hi\\".\\n"}', asking())
    pieces = [event.text for event in events if isinstance(event, TextDelta)]
    assert pieces == list('It says "hi".\n')
    assert (response.text, response.stop_reason) == ('It says "hi".\n', StopReason.END)
    assert response.tool_calls == ()


async def test_an_answer_bound_to_a_schema_keeps_its_json() -> None:
    """With tools and an output schema, the final answer's text is the JSON of that schema."""
    output = OutputSchema("point", {"type": "object", "properties": {"x": {"type": "integer"}}})
    request = asking(output_schema=output)
    schema = await schema_for(request)
    assert schema["anyOf"][-1]["properties"]["answer"] == output.schema
    _, response = await streamed('{ "answer" : {"x": [1, "}"]} }', request)
    assert response.text == '{"x": [1, "}"]}'


async def test_what_is_not_the_wanted_form_is_the_models_text() -> None:
    """A server that enforces nothing still gets its answer through."""
    for said in ("Just text.", '{"name": "x"}', "[1]", '{"answer": 5}', "{", "", '{"tool": "re'):
        response = await EmulatedTools(ScriptedLLM(said)).complete(asking())
        assert (response.text, response.tool_calls) == (said, ()), said


async def test_a_fence_or_another_order_of_keys_is_understood() -> None:
    """What models do that are only asked nicely."""
    for said in (
        f"```json\n{CALL}\n```",
        '{"arguments": {"path": "a \\"b\\".txt"}, "tool": "read_file"}',
    ):
        response = await EmulatedTools(ScriptedLLM(said)).complete(asking())
        assert json.loads(response.tool_calls[0].arguments) == {"path": 'a "b".txt'}


async def test_no_call_comes_back_where_none_was_allowed() -> None:
    """With tool_choice none, JSON of that form is text."""
    response = await EmulatedTools(ScriptedLLM(CALL)).complete(asking(tool_choice="none"))
    assert (response.tool_calls, response.text) == ((), CALL)


async def test_a_call_cut_off_by_the_limit_says_so() -> None:
    """The arguments stay incomplete and the stop reason stays LENGTH, so nobody runs it."""
    cut = reply('{"tool": "read_file", "arguments": {"path": "a', stop_reason=StopReason.LENGTH)
    response = await EmulatedTools(ScriptedLLM(cut)).complete(asking())
    assert response.truncated
    assert response.tool_calls[0].arguments == '{"path": "a'


async def test_thinking_and_usage_reach_the_caller() -> None:
    """Only the text of the answer is translated."""
    inner = ScriptedLLM(reply(CALL, thinking="Hm.", usage=Usage(7, 3)))
    async with EmulatedTools(inner).stream(asking()) as stream:
        fold = Accumulator()
        async for event in stream:
            fold.add(event)
    assert fold.response().parts[0] == Thinking("Hm.")
    assert fold.usage == Usage(7, 3)
    whole = ScriptedLLM(reply(CALL, thinking="Hm."))
    assert (await EmulatedTools(whole).complete(asking())).parts[0] == Thinking("Hm.")


async def test_errors_pass_and_a_stream_left_early_closes_the_inner_one() -> None:
    """The wrapper holds nothing of its own."""
    inner = ScriptedLLM(Overloaded("busy"), CALL)
    service = EmulatedTools(inner)
    with pytest.raises(Overloaded):
        await service.complete(asking())
    async with service.stream(asking()) as stream:
        await anext(stream)
        assert inner.open_streams == 1
    assert inner.open_streams == 0
    await service.aclose()
    assert inner.closed
    assert (service.model, service.retries) == ("scripted", False)


async def test_the_positive_end_comes_last_and_once() -> None:
    """Whatever is still to be said comes before Finished."""
    events, _ = await streamed('{"answer"', asking())
    assert isinstance(events[-1], Finished)
    assert [type(event) for event in events].count(Finished) == 1


# ── for any answer, cut anywhere ──────────────────────────────────────────────────────────────────

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
CUTS = st.lists(st.integers(0, 80), max_size=12)


@given(arguments=st.dictionaries(st.text(), JSON, max_size=4), cuts=CUTS, indent=st.booleans())
def test_any_arguments_survive_any_cutting(
    arguments: dict[str, Any], cuts: list[int], indent: bool
) -> None:
    """The arguments' JSON means the same, wherever the stream was cut."""
    answer = json.dumps({"tool": "t", "arguments": arguments}, indent=2 if indent else None)
    (call,) = read(answer, cuts=cuts).tool_calls
    assert json.loads(call.arguments) == arguments


@given(text=st.text(), cuts=CUTS, ascii_only=st.booleans())
def test_any_answer_survives_any_cutting(text: str, cuts: list[int], ascii_only: bool) -> None:
    """The text is the same, wherever the stream was cut, escaped or not."""
    answer = json.dumps({"answer": text}, ensure_ascii=ascii_only)
    assert read(answer, cuts=cuts).text == text


@given(value=JSON, cuts=CUTS)
def test_any_structured_answer_survives_any_cutting(value: Any, cuts: list[int]) -> None:
    """Numbers, literals, strings, arrays and objects alike."""
    answer = json.dumps({"answer": value}) + "\n"
    assert json.loads(read(answer, cuts=cuts, text=False).text) == value


@given(answer=st.text(alphabet='{}[]":\\, `toolarguments\n'), cuts=CUTS)
def test_cutting_changes_nothing_about_nonsense(answer: str, cuts: list[int]) -> None:
    """The same characters give the same answer however they arrive, and nothing crashes."""
    whole, cut = read(answer, cuts=[]), read(answer, cuts=cuts)
    assert cut.text == whole.text
    assert [call.arguments for call in cut.tool_calls] == [
        call.arguments for call in whole.tool_calls
    ]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (r"\ud83d\ude00", "😀"),
        (r"\ud83d", "\ufffd"),
        (r"\ude00", "\ufffd"),
        (r"\ud83dx", "\ufffdx"),
        (r"\ud83d\n", "\ufffd\n"),
        (r"\ud83d\u0041", "\ufffdA"),
        (r"\uZZZZ", "\ufffdZZZZ"),
        (r"\q\/", "q/"),
        ("a\nb", "a\nb"),
    ],
)
async def test_escapes_that_json_does_not_know_do_no_harm(written: str, meant: str) -> None:
    """Half a surrogate pair becomes U+FFFD, in one piece and character by character."""
    assert JsonString().feed(written + '"') == meant
    single = JsonString()
    assert "".join([single.feed(character) for character in written + '"']) == meant
    assert single.closed
