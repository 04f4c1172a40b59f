"""Options of one run: a wrong one is an error that says what is legal, before anything happens."""

from __future__ import annotations

import math
import threading
from typing import Any, get_args, get_type_hints

import anyio
import pytest

from power_loop import AgentLoop, Budget
from power_loop.agent.options import _CHECKS, RunOptions
from power_loop.errors import UsageError
from tests.agent.scripted import Scripted, says

pytestmark = pytest.mark.anyio

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"max_round": 1}, "no option 'max_round'; there are .*max_rounds"),
    ({"on_busy": "bogus"}, "'wait', 'fail', 'steer', not 'bogus'"),
    ({"max_rounds": 0}, "whole number"),
    ({"max_rounds": 2.5}, "whole number"),
    ({"max_rounds": True}, "whole number"),
    ({"timeout": 0}, "over 0"),
    ({"timeout": -1.0}, "over 0"),
    ({"timeout": math.inf}, "over 0"),
    ({"timeout": math.nan}, "over 0"),
    ({"timeout": "5"}, "over 0"),
    ({"model": ""}, "name of a model"),
    ({"model": 3}, "name of a model"),
    ({"model": "openai:gpt-5"}, "bare name: model='gpt-5'"),
    ({"model": "local:smollm2"}, "another loop"),
    ({"budget": 5}, "budget is a Budget, not a value of type int|keeps its budget"),
    ({"tools": None}, "not a value of type NoneType"),
    ({"tools": "search"}, "not a value of type str"),
    ({"cancel": 3}, "an event, a function that returns True to cancel, or None, not .* int"),
    ({"cancel": threading.Event}, "an event or a function of bool, not <class"),
    ({"cancel": anyio.sleep_forever}, "an event or a function of bool, not <function"),
]


@pytest.mark.parametrize(("options", "told"), WRONG)
async def test_a_wrong_option_is_refused_before_anything_is_stored(
    options: dict[str, Any], told: str
) -> None:
    """By every verb that runs."""
    llm = Scripted(says("hi"))
    async with AgentLoop(llm) as loop:
        with pytest.raises(UsageError, match=told):
            await loop.send("hi", **options)
        with pytest.raises(UsageError, match=told):
            async with loop.stream("hi", **options):
                pass
        assert await loop.store.list() == []
        session = (await loop.send("hi")).session_id
        before = await loop.store.read(session)
        with pytest.raises(UsageError, match=told):
            await loop.resume(session, **options)
        assert await loop.store.read(session) == before


async def test_a_wrong_overflow_is_refused() -> None:
    """Merge, wait and drop are all there is."""
    wrong: Any = "bogus"
    async with AgentLoop(Scripted(says("hi"))) as loop:
        with pytest.raises(UsageError, match="overflow is one of"):
            async with loop.stream("hi", overflow=wrong):
                pass


@pytest.mark.parametrize("model", ["gpt-5", "llama3:8b", "mistral:7b", "org/model:free"])
async def test_a_bare_name_is_a_model_of_the_same_service(model: str) -> None:
    """A colon alone names no provider."""
    llm = Scripted(says("hi"))
    async with AgentLoop(llm) as loop:
        await loop.send("hi", model=model, timeout=5)
    assert llm.requests[0].model == model


def test_the_names_told_are_those_of_the_type() -> None:
    """One list, written twice."""
    hints = get_type_hints(RunOptions, None, {"Budget": Budget}, include_extras=True)
    assert tuple(hints) == tuple(_CHECKS)
    assert get_args(hints["on_busy"]) == ("wait", "fail", "steer")
