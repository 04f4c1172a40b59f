"""Typed answers from a model that cannot be bound to a schema."""

from __future__ import annotations

import pytest
from msgspec import Struct
from pydantic import BaseModel

from llm_client.errors import UnsupportedFeature
from llm_client.testing import Reply, ScriptedLLM, reply
from llm_client.types import LLMRequest, StopReason
from power_loop import AgentLoop
from power_loop.errors import OutputInvalid

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


class Choosy(ScriptedLLM):
    """As Anthropic's protocol, which binds to closed objects only, or Gemini's, which does not
    everywhere bind beside tools."""

    def check(self, request: LLMRequest) -> None:
        """Refuses open objects."""
        output = request.output_schema
        if output is not None and output.schema.get("additionalProperties") is not None:
            raise UnsupportedFeature("the schema allows any value")


async def test_a_schema_that_the_service_cannot_bind_stands_in_the_prompt() -> None:
    """Found out before the first request; another schema is bound by the same service."""
    llm = Choosy(reply('{"Graz": 302749}'), reply('{"name": "Graz", "people": 302749}'))
    async with AgentLoop(llm) as loop:
        assert (await loop.send("How large?", output_type=dict[str, int])).output == {
            "Graz": 302749
        }
        assert (await loop.send("And?", output_type=City)).output == City(
            name="Graz", people=302749
        )
    first, second = llm.requests
    assert first.output_schema is None
    assert '"integer"' in (first.system or "")
    assert second.output_schema is not None


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (reply("3", stop_reason=StopReason.LENGTH), "cut off"),
        (reply("I will not.", stop_reason=StopReason.REFUSAL), "declined"),
        (reply("", refusal="I will not.", stop_reason=StopReason.REFUSAL), "declined"),
        (reply("3", stop_reason=StopReason.CONTENT_FILTER), "withheld"),
    ],
)
async def test_an_answer_that_is_none_is_not_asked_for_again(line: Reply, told: str) -> None:
    """Nor taken for one: 3 may be the beginning of 302749 (F04)."""
    llm = ScriptedLLM(line, "4")
    async with AgentLoop(llm) as loop:
        with pytest.raises(OutputInvalid, match=told):
            await loop.send("How many?", output_type=int)
    assert len(llm.requests) == 1


class Stop(Struct):
    """A Struct, of which pydantic knows nothing."""

    name: str


async def test_a_struct_can_be_asked_for() -> None:
    """As everywhere in the client."""
    async with AgentLoop(ScriptedLLM(reply('{"name": "Graz"}'))) as loop:
        assert (await loop.send("Which?", output_type=Stop)).output == Stop("Graz")


async def test_a_model_that_can_be_bound_is_not_told_in_words() -> None:
    """The schema goes where the provider enforces it, strictly if it can be."""
    llm = ScriptedLLM(reply('{"name": "Graz", "people": 302749}'))
    async with AgentLoop(llm) as loop:
        await loop.send("The second city of Austria?", output_type=City)
    request = llm.requests[0]
    assert request.output_schema is not None
    assert request.output_schema.strict
    assert request.system is None
