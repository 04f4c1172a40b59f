"""Typed answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import anyio
import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from power_loop import AgentConfig, AgentLoop, result_of, tool
from power_loop.errors import OutputInvalid, UsageError
from tests.agent.scripted import Scripted, calls, says
from tests.agent.support import check_log

pytestmark = pytest.mark.anyio


class City(BaseModel):
    """A city."""

    name: str
    people: int = Field(ge=0)


@dataclass
class Point:
    x: int
    y: int


class Named(TypedDict):
    name: str


@tool
async def noop() -> str:
    """Does nothing."""
    return "nothing"


@pytest.mark.parametrize(
    ("output_type", "answer", "value"),
    [
        (City, '{"name": "Bern", "people": 134794}', City(name="Bern", people=134794)),
        (City, '```json\n{"name": "Bern", "people": 1}\n```', City(name="Bern", people=1)),
        (City, 'Here: {"name": "Bern", "people": 1}. Good?', City(name="Bern", people=1)),
        (Point, '{"x": 1, "y": 2}', Point(1, 2)),
        (Named, '{"name": "x"}', {"name": "x"}),
        (int, '{"value": 3}', 3),
        (list[City], '{"value": [{"name": "Bern", "people": 1}]}', [City(name="Bern", people=1)]),
        (Literal["yes", "no"], '{"value": "yes"}', "yes"),
        (dict[str, int], '{"a": 1}', {"a": 1}),
        (City | None, '{"value": null}', None),
    ],
)
async def test_an_answer_becomes_a_value_of_the_type(
    output_type: Any, answer: str, value: Any
) -> None:
    """The request carries an object schema; the answer may be wrapped in words."""
    llm = Scripted(says(answer))
    with anyio.fail_after(10):
        async with AgentLoop(llm) as loop:
            result = await loop.send("which?", output_type=output_type)
            assert result.output == value
            assert result.final_text == answer
    schema = llm.requests[0].output_schema
    assert schema is not None
    assert schema.schema["type"] == "object"


async def test_a_wrong_answer_is_given_back_with_what_is_wrong() -> None:
    """Bounded; the re-asks are part of the history."""
    llm = Scripted(
        says('{"name": "Bern", "people": -1}'), says("Bern"), says('{"name": "Bern", "people": 1}')
    )
    with anyio.fail_after(10):
        async with AgentLoop(llm) as loop:
            result = await loop.send("which?", output_type=City)
            assert result.output == City(name="Bern", people=1)
            assert "people: Input should be greater than or equal to 0" in (
                llm.requests[1].messages[-1].text
            )
            assert "no JSON object" in llm.requests[2].messages[-1].text
            await check_log(loop, result.session_id, output_type=City)


async def test_an_answer_that_never_fits_is_an_error_with_the_result() -> None:
    """After all re-asks; the session goes on."""
    llm = Scripted(*[says("nonsense")] * 3, says("fine"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, config=AgentConfig(output_reasks=2)) as loop:
            with pytest.raises(OutputInvalid) as raised:
                await loop.send("which?", output_type=City)
            assert raised.value.text == "nonsense"
            result = result_of(raised.value)
            assert result is not None
            assert (result.status, result.output) == ("failed", None)
            assert len(llm.requests) == 3
            assert (await loop.send("never mind", result.session_id)).output is None
            await check_log(loop, result.session_id, does_the_same=False)


async def test_tools_may_come_before_a_typed_answer() -> None:
    """Only the final answer is checked, and one that broke off has no output."""
    llm = Scripted(calls(("a", "noop", {}), text="not JSON"), says('{"value": 3}'))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[noop]) as loop:
            assert (await loop.send("how many?", output_type=int)).output == 3
    llm = Scripted(by=lambda r: calls(("a", "noop", {})) if r.tools else says("no idea"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[noop]) as loop:
            result = await loop.send("how many?", output_type=int, max_rounds=1)
            assert (result.status, result.output) == ("round_limit", None)


async def test_a_streamed_run_has_a_typed_result_as_well() -> None:
    """The same options, the same output."""
    llm = Scripted(says('{"value": 3}'))
    with anyio.fail_after(10):
        async with AgentLoop(llm) as loop, loop.stream("how many?", output_type=int) as run:
            async for _ in run:
                pass
            assert (await run.result()).output == 3


class Foreign:
    """Something that pydantic knows nothing of."""


@pytest.mark.parametrize("wrong", [Foreign, 5, "Nowhere"])
async def test_a_type_that_cannot_be_asked_for_is_refused_before_anything_happens(
    wrong: Any,
) -> None:
    """A typed error that says what can."""
    llm = Scripted()
    with anyio.fail_after(10):
        async with AgentLoop(llm) as loop:
            with pytest.raises(UsageError, match="output_type"):
                await loop.send("which?", output_type=wrong)
            assert await loop.store.list() in ([], ())
    assert llm.requests == []
