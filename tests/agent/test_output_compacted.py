"""Typed answers of runs that outgrow their window on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import BaseModel, Field

from llm_client.errors import ContextOverflow
from llm_client.types import LLMRequest
from power_loop import AgentConfig, AgentLoop, SubAgent, tool
from power_loop.errors import OutputInvalid
from power_loop.session.records import ModelAsked, ModelEnded, Record, ViewChanged
from tests.agent.scripted import Reply, Scripted, fails
from tests.agent.support import check_log, log_of
from tests.agent.test_compaction import SUMMARY, WORDS, calls, is_summary, says
from tests.session.compactions import compaction_faults

pytestmark = pytest.mark.anyio

TASK = "Count the ships of the harbour."
TOO_LONG = ContextOverflow("too long", status=400)


class Count(BaseModel):
    """How many ships there are."""

    ships: int = Field(ge=0)


@tool
async def look(at: int) -> str:
    """Looks."""
    return f"{at}: {WORDS}"


class Model(Scripted):
    """Looks so many times, then answers with each of `answers`."""

    def __init__(self, rounds: int, *answers: Reply, binds: bool = True) -> None:
        super().__init__(by=self._reply)
        self.binds_output = binds
        self._rounds = rounds
        self._answers = [*answers]

    def _reply(self, request: LLMRequest) -> Reply:
        if is_summary(request):
            return says(SUMMARY)
        made = len(self.asked())
        if made <= self._rounds:
            return calls((f"c{made}", "look", {"at": made}))
        return self._answers.pop(0)

    def asked(self) -> list[LLMRequest]:
        """The requests that are no summaries."""
        return [request for request in self.requests if not is_summary(request)]


def config(**options: Any) -> AgentConfig:
    """A small window."""
    return AgentConfig(context_window=2000, max_output_tokens=100, **options)


def strategies(log: Sequence[Record]) -> list[str]:
    """By what the view was made smaller."""
    return [record.by for record in log if isinstance(record, ViewChanged)]


def says_the_type(request: LLMRequest) -> bool:
    """Whether a request says of which type the answer is to be, in one of two ways."""
    bound = request.output_schema is not None and "ships" in str(request.output_schema.schema)
    told = "ships" in (request.system or "")
    return bound != told


@pytest.mark.parametrize("binds", [True, False])
async def test_a_typed_answer_comes_at_the_end_of_a_run_that_was_compacted(binds: bool) -> None:
    """Each request says what is wanted, but for those for summaries, which are free text."""
    llm = Model(22, says('{"ships": 22}'), binds=binds)
    async with AgentLoop(llm, tools=[look], config=config(system_prompt="Be brief.")) as loop:
        result = await loop.send(TASK, output_type=Count)
        log = await check_log(loop, result.session_id, output_type=Count)
    assert result.output == Count(ships=22)
    assert compaction_faults(log) == []
    assert strategies(log) == ["summary"] * 2
    assert len(llm.requests) == 23 + 2
    assert all(says_the_type(request) for request in llm.asked())
    assert not any(says_the_type(request) for request in llm.requests if is_summary(request))
    assert {request.messages[0].text for request in llm.asked()} == {TASK}
    assert llm.illegal == []


@pytest.mark.parametrize("binds", [True, False])
async def test_an_overflow_at_the_last_attempt_costs_no_attempt(binds: bool) -> None:
    """The view shrinks once, what was wrong is still said last, and the answer is taken."""
    llm = Model(
        6, says("many"), says('{"ships": -1}'), fails(TOO_LONG), says('{"ships": 6}'), binds=binds
    )
    async with AgentLoop(llm, tools=[look], config=config(output_reasks=2)) as loop:
        result = await loop.send(TASK, output_type=Count)
        log = await check_log(loop, result.session_id, output_type=Count)
    assert result.output == Count(ships=6)
    assert strategies(log)[-1:] == ["summary"]
    assert [r.status for r in log if isinstance(r, ModelEnded)].count("failed") == 1
    refused, taken = llm.asked()[-2:]
    assert says_the_type(refused)
    assert says_the_type(taken)
    assert "greater than or equal to 0" in taken.messages[-1].text
    assert taken.messages[-1] is refused.messages[-1]
    assert taken.messages[0].text == TASK
    assert len(taken.messages) < len(refused.messages)
    assert llm.illegal == []


async def test_a_wrong_answer_after_such_an_overflow_is_the_last_one() -> None:
    """It gives nobody another attempt; the session goes on afterwards."""
    llm = Model(6, says("many"), fails(TOO_LONG), says("still many"), says("fine"))
    async with AgentLoop(llm, tools=[look], config=config(output_reasks=1)) as loop:
        await loop.store.create("s")
        with pytest.raises(OutputInvalid, match="after 1 re-asks") as raised:
            await loop.send(TASK, "s", output_type=Count)
        assert raised.value.text == "still many"
        assert strategies(await check_log(loop, "s", output_type=Count)) == ["summary"]
        assert (await loop.send("Never mind.", "s")).final_text == "fine"
    assert llm.illegal == []


async def test_a_prompt_that_is_refused_twice_fails_a_typed_run_which_can_be_resumed() -> None:
    """With its type: nothing of what was asked is lost."""
    llm = Model(6, fails(TOO_LONG), fails(TOO_LONG), says('{"ships": 6}'))
    async with AgentLoop(llm, tools=[look], config=config()) as loop:
        await loop.store.create("s")
        with pytest.raises(ContextOverflow):
            await loop.send(TASK, "s", output_type=Count)
        assert len(llm.asked()) == 8
        result = await loop.resume("s", output_type=Count)
        log = await check_log(loop, "s", output_type=Count)
    assert result.output == Count(ships=6)
    asked = [record for record in log if isinstance(record, ModelAsked) and record.purpose]
    assert len(asked) == len(strategies(log))
    assert llm.asked()[-1].messages[0].text == TASK
    assert says_the_type(llm.asked()[-1])


async def test_a_typed_run_takes_the_answer_of_an_agent_that_was_compacted() -> None:
    """The agent is told of no type, and its answer is none."""
    below = "Look 12 times."

    def by(request: LLMRequest) -> Reply:
        if is_summary(request):
            return says(SUMMARY)
        if request.messages[0].text == TASK:
            if len(request.messages) == 1:
                return calls(("c", "helper", {"task": below}))
            return says('{"ships": 12}')
        made = sum(r.messages[0].text == below for r in llm.requests)
        return says("12 ships") if made > 12 else calls((f"l{made}", "look", {"at": made}))

    llm = Scripted(by=by)
    helper = SubAgent("helper", "Looks.", system_prompt="You look.", tools=[look], max_rounds=20)
    async with AgentLoop(llm, tools=[helper], config=config()) as loop:
        await loop.store.create("s")
        result = await loop.send(TASK, "s", output_type=Count)
        assert strategies(await check_log(loop, "s", output_type=Count)) == []
        assert strategies(await log_of(loop, "s/c")) == ["summary"]
    assert result.output == Count(ships=12)
    of_type = [request.messages[0].text for request in llm.requests if says_the_type(request)]
    assert of_type == [TASK] * 2
