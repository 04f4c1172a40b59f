"""Asking for a value: three ways, corrections by the model, and answers that are none."""

from __future__ import annotations

from typing import Any, cast

import anyio
import pytest
from msgspec import json, structs
from pydantic import BaseModel, Field

from llm_client import (
    ConfigError,
    LLMRequest,
    Message,
    NamedTool,
    OutputEmpty,
    OutputError,
    OutputFiltered,
    OutputInvalid,
    OutputRefused,
    OutputTruncated,
    Overloaded,
    StopReason,
    StructuredResult,
    Text,
    Thinking,
    ToolSpec,
    UnsupportedFeature,
    Usage,
    complete_as,
    output_spec,
    stream_as,
)
from llm_client.structured import Way
from llm_client.testing import Reply, ScriptedLLM, call, reply
from llm_client.types import OutputSchema, Seal

pytestmark = pytest.mark.anyio


class City(BaseModel):
    """A city."""

    name: str
    people: int = Field(ge=0)


BERN = City(name="Bern", people=134794)
GOOD = '{"name": "Bern", "people": 134794}'
BAD = '{"name": "Bern", "people": -1}'
ASK = LLMRequest([Message.user("The capital of Switzerland?")], system="Be brief.")


class Limited(ScriptedLLM):
    """A service that cannot do everything."""

    def __init__(self, *script: Any, binds: bool, refuses: tuple[str, ...]) -> None:
        super().__init__(*script)
        self._binds = binds
        self._refuses = refuses

    @property
    def binds_output(self) -> bool:
        """As said."""
        return self._binds

    def check(self, request: LLMRequest) -> None:
        """Refuses as said."""
        way = "native" if request.output_schema else "tool" if request.tools else "prompted"
        if way in self._refuses:
            raise UnsupportedFeature("not here")


# ── ways ──────────────────────────────────────────────────────────────────────────────────────────


async def test_an_answer_is_bound_to_the_schema_where_it_can_be() -> None:
    """The value comes with all that was asked and used."""
    llm = ScriptedLLM(reply(GOOD, usage=Usage(7, 5)))
    result = await complete_as(llm, ASK, City)
    assert result.value == BERN
    assert result.way == "native"
    assert result.usage == Usage(7, 5)
    assert [answer.text for answer in result.responses] == [GOOD]
    assert llm.requests == [structs.replace(ASK, output_schema=output_spec(City).schema)]


async def test_one_tool_can_take_the_answer() -> None:
    """It is forced, strict where that is possible, and its arguments are the value."""
    llm = ScriptedLLM(reply("Here.", call("City", GOOD)))
    result = await complete_as(llm, ASK, City, way="tool")
    assert (result.value, result.way) == (BERN, "tool")
    (request,) = llm.requests
    (tool,) = request.tools
    assert request.tool_choice == NamedTool("City")
    assert (tool.name, tool.strict) == ("City", True)
    assert tool.parameters == output_spec(City).schema.schema
    assert request.output_schema is None


async def test_a_forced_call_may_come_as_text() -> None:
    """Some models write the arguments instead of calling."""
    result = await complete_as(ScriptedLLM(GOOD), ASK, City, way="tool")
    assert result.value == BERN


async def test_reasoning_in_the_text_is_not_taken_for_the_value() -> None:
    """However well it fits, in one answer or streamed."""
    text = f'<think>{{"name": "Basel", "people": 1}}</think>{GOOD}'
    assert (await complete_as(ScriptedLLM(text), ASK, City)).value == BERN
    async with stream_as(ScriptedLLM(text, chunk=3), ASK, City) as answer:
        assert "Basel" not in str([partial.value async for partial in answer])
        assert (await answer.result()).value == BERN


async def test_a_model_can_be_asked_in_words() -> None:
    """They follow the system prompt, or are it."""
    for system in ("Be brief.", None):
        llm = ScriptedLLM(f"Gladly:\n```json\n{GOOD}\n```")
        asked = structs.replace(ASK, system=system)
        result = await complete_as(llm, asked, City, way="prompted")
        assert (result.value, result.way) == (BERN, "prompted")
        prompt = output_spec(City).prompt
        assert llm.requests[0].system == (prompt if system is None else f"{system}\n\n{prompt}")
        assert (llm.requests[0].tools, llm.requests[0].output_schema) == ((), None)


@pytest.mark.parametrize(
    ("binds", "refuses", "way"),
    [
        (True, (), "native"),
        (False, (), "tool"),
        (True, ("native",), "tool"),
        (False, ("tool",), "prompted"),
        (True, ("native", "tool"), "prompted"),
    ],
)
async def test_the_first_way_that_the_service_can_say_is_taken(
    binds: bool, refuses: tuple[str, ...], way: Way
) -> None:
    """Found out without a request."""
    line = reply("", call("City", GOOD)) if way == "tool" else reply(GOOD)
    llm = Limited(line, binds=binds, refuses=refuses)
    result = await complete_as(llm, ASK, City)
    assert (result.value, result.way) == (BERN, way)
    assert len(llm.requests) == 1


async def test_a_schema_or_a_spec_will_do() -> None:
    """For programs that have no type, or keep the spec."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    assert (await complete_as(ScriptedLLM('{"n": 3}'), ASK, schema)).value == {"n": 3}
    spec = output_spec(City)
    result: StructuredResult[City] = await complete_as(ScriptedLLM(GOOD), ASK, spec)
    assert result.value == BERN
    assert (await complete_as(ScriptedLLM("[1, 2]"), ASK, list[int])).value == [1, 2]


@pytest.mark.parametrize(
    "request_",
    [
        structs.replace(ASK, tools=(ToolSpec("t", "", {}),)),
        structs.replace(ASK, output_schema=OutputSchema("x", {"type": "object"})),
    ],
)
async def test_a_request_with_a_form_of_its_own_is_refused(request_: LLMRequest) -> None:
    """Before anything is sent."""
    llm = ScriptedLLM()
    with pytest.raises(UnsupportedFeature, match="leave them out"):
        await complete_as(llm, request_, City)
    assert llm.requests == []


async def test_a_call_beside_a_bound_answer_is_passed_by() -> None:
    """Nobody asked for it."""
    assert (await complete_as(ScriptedLLM(reply(GOOD, call("ghost"))), ASK, City)).value == BERN


# ── corrections ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", ["native", "prompted"])
async def test_a_wrong_answer_goes_back_with_what_is_wrong(way: Way) -> None:
    """As the model's own words and a user's; usage counts every answer."""
    sealed = Thinking("hm", Seal("x", "s"))
    llm = ScriptedLLM(
        Reply(parts=(sealed, Text(BAD)), usage=Usage(10, 5)),
        reply("Bern", usage=Usage(20, 6)),
        reply(GOOD, usage=Usage(30, None)),
    )
    result = await complete_as(llm, ASK, City, way=way)
    assert result.value == BERN
    assert result.usage == Usage(60, 11)
    assert len(result.responses) == 3
    first, second, third = llm.requests
    assert list(second.messages[:1]) == list(first.messages)
    assert [message.role for message in third.messages] == [
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    assert second.messages[1].parts == (sealed, Text(BAD))
    told = second.messages[2].text
    assert "people: Input should be greater than or equal to 0" in told
    assert "valid JSON only" in told
    assert "no JSON object" in third.messages[4].text
    assert structs.replace(third, messages=first.messages) == first


async def test_a_wrong_call_goes_back_as_its_failed_result() -> None:
    """Every call has its result, so that the history stays legal."""
    first, second = call("City", BAD, id="a"), call("City", GOOD, id="b")
    llm = ScriptedLLM(reply("So:", first, second), reply("", call("City", GOOD)))
    assert (await complete_as(llm, ASK, City, way="tool")).value == BERN
    said, one, two = llm.requests[1].messages[1:]
    assert said.tool_calls == (first, second)
    results = [message.parts[0] for message in (one, two)]
    assert [(result.call_id, result.is_error) for result in results] == [("a", True), ("b", True)]  # type: ignore[union-attr]
    assert "people: Input should be greater" in json.encode(results[0]).decode()
    assert "one call only" in json.encode(results[1]).decode()


async def test_a_call_that_nobody_asked_for_is_not_replayed() -> None:
    """It would need a result, and a tool that it belongs to."""
    llm = ScriptedLLM(reply("I call", call("ghost")), reply("", call("ghost")), reply(GOOD))
    assert (await complete_as(llm, ASK, City)).value == BERN
    assert [message.role for message in llm.requests[2].messages] == [
        "user",
        "assistant",
        "user",
        "user",
    ]
    assert not any(message.tool_calls for message in llm.requests[2].messages)


@pytest.mark.parametrize("reasks", [0, 1, 3])
async def test_corrections_have_an_end(reasks: int) -> None:
    """Then the error holds the last answer, all faults, and what it took."""
    llm = ScriptedLLM(*[reply(BAD)] * reasks, reply("x" * 10_000, usage=Usage(1, 1)))
    with pytest.raises(OutputInvalid) as caught:
        await complete_as(llm, ASK, City, reasks=reasks)
    error = caught.value
    assert len(llm.requests) == reasks + 1
    assert len(error.faults) == reasks + 1
    assert "people" in error.faults[0] or not reasks
    assert "no JSON object" in str(error)
    assert error.text.startswith("xxx")
    assert len(error.text) < 600
    assert error.usage == Usage(10 * reasks + 1, 5 * reasks + 1)
    assert not error.retryable


async def test_an_empty_answer_is_asked_for_again() -> None:
    """Without an empty message in between, which no provider takes."""
    llm = ScriptedLLM(reply(""), Reply(parts=(Thinking("hm"),)), reply(GOOD))
    assert (await complete_as(llm, ASK, City)).value == BERN
    assert [message.role for message in llm.requests[2].messages] == ["user"] * 3
    with pytest.raises(OutputEmpty, match="the answer is empty"):
        await complete_as(ScriptedLLM(" ", repeat=True), ASK, City)


async def test_a_turn_that_the_provider_paused_goes_on() -> None:
    """It gets its own words back, and nothing else; it cannot pause for ever."""
    paused = reply("Searching …", stop_reason=StopReason.PAUSE)
    llm = ScriptedLLM(paused, reply(GOOD))
    assert (await complete_as(llm, ASK, City)).value == BERN
    assert [message.role for message in llm.requests[1].messages] == ["user", "assistant"]
    with pytest.raises(OutputInvalid, match="paused"):
        await complete_as(ScriptedLLM(paused, repeat=True), ASK, City)


# ── answers that are none ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (reply("", refusal="I will not."), OutputRefused),
        (reply("I will not.", stop_reason=StopReason.REFUSAL), OutputRefused),
        (reply(GOOD, stop_reason=StopReason.CONTENT_FILTER), OutputFiltered),
        (reply(GOOD, stop_reason=StopReason.LENGTH), OutputTruncated),
        (reply('{"name": "Be', stop_reason=StopReason.LENGTH), OutputTruncated),
        (reply("", call("City", GOOD), stop_reason=StopReason.LENGTH), OutputTruncated),
    ],
)
@pytest.mark.parametrize("way", ["native", "tool", "prompted"])
async def test_an_answer_that_is_none_is_an_error_of_its_own(
    line: Reply, kind: type[OutputError], way: Way
) -> None:
    """The model is not asked again: it would say the same, and it would be paid for. What was cut
    off is never taken for whole (F04)."""
    llm = ScriptedLLM(line, GOOD)
    with pytest.raises(kind) as caught:
        await complete_as(llm, ASK, City, way=way)
    assert type(caught.value) is kind
    assert caught.value.usage == Usage(10, 5)
    assert len(llm.requests) == 1


async def test_a_failed_request_is_its_own_error() -> None:
    """Trying again is the business of whoever has a retry law."""
    llm = ScriptedLLM(BAD, Overloaded("too busy"), GOOD)
    with pytest.raises(Overloaded):
        await complete_as(llm, ASK, City)
    assert len(llm.requests) == 2


async def test_waiting_for_a_value_can_be_cancelled() -> None:
    """In the first answer or in a correction; nothing is asked afterwards."""
    entered = anyio.Event()

    async def hang(request: LLMRequest) -> str:
        entered.set()
        await anyio.sleep_forever()
        return GOOD

    llm = ScriptedLLM(BAD, hang, GOOD)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(complete_as, llm, ASK, City)
            await entered.wait()
            group.cancel_scope.cancel()
    assert len(llm.requests) == 2


async def test_a_way_that_does_not_exist_is_refused_with_those_that_do() -> None:
    llm = ScriptedLLM(GOOD)
    with pytest.raises(ConfigError, match="no way 'nope'; choose auto, native, tool, prompted"):
        await complete_as(llm, ASK, City, way=cast("Any", "nope"))
    assert llm.requests == []
