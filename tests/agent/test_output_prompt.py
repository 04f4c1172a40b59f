"""Typed answers from a model that cannot be bound to a schema."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from llm_client.testing import ScriptedLLM, reply
from power_loop import AgentLoop

pytestmark = pytest.mark.anyio


class City(BaseModel):
    """What is asked for."""

    name: str
    people: int


class Unbound(ScriptedLLM):
    """As DeepSeek, whose protocol has no schemas for answers."""

    @property
    def binds_output(self) -> bool:
        """False."""
        return False


ANSWER = '```json\n{"name": "Graz", "people": 302749}\n```'


async def test_a_model_that_cannot_be_bound_is_told_the_schema() -> None:
    """The form stands in the prompt, and the answer is checked all the same."""
    llm = Unbound(reply("Graz"), reply(ANSWER))
    async with AgentLoop(llm) as loop:
        result = await loop.send("The second city of Austria?", output_type=City)
    assert result.output == City(name="Graz", people=302749)
    request = llm.requests[0]
    assert request.output_schema is None
    assert '"people"' in (request.system or "")


async def test_a_model_that_can_be_bound_is_not_told_in_words() -> None:
    """The schema goes where the provider enforces it, strictly if it can be."""
    llm = ScriptedLLM(reply('{"name": "Graz", "people": 302749}'))
    async with AgentLoop(llm) as loop:
        await loop.send("The second city of Austria?", output_type=City)
    request = llm.requests[0]
    assert request.output_schema is not None
    assert request.output_schema.strict
    assert request.system is None
