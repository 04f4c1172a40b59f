"""The real server on this machine, asked in each of its three protocols, streamed and whole."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import msgspec
import pytest
from msgspec import structs

from llm_client import create_llm_service_from_config
from llm_client.errors import AuthenticationFailed, ContextOverflow
from llm_client.local import LocalServer, LocalSettings, local_model, local_server
from llm_client.service import LLMService
from llm_client.stream import Accumulator
from llm_client.types import (
    LLMRequest,
    LLMResponse,
    Message,
    OutputSchema,
    StopReason,
    ToolCall,
    ToolSpec,
)
from tests.local_weights import need_real_model

pytestmark = pytest.mark.anyio

PROTOCOLS = ("llamacpp", "llamacpp-responses", "llamacpp-messages")

# What is told apart here happens in the server, which knows nothing of event loops.
once = pytest.mark.parametrize("anyio_backend", ["asyncio"])

WEATHER = ToolSpec(
    "get_weather",
    "Get the current weather for a city",
    {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
)


@pytest.fixture(scope="module")
def settings() -> LocalSettings:
    return structs.replace(need_real_model(), parallel=1)


@asynccontextmanager
async def serving(settings: LocalSettings) -> AsyncGenerator[LocalServer]:
    with anyio.fail_after(90):
        # A penalty on repetition keeps so small a model from writing down what it is told to.
        model = structs.replace(local_model("smollm2"), repeat_penalty=1.0)
        async with local_server(model, settings) as server:
            yield server


@asynccontextmanager
async def speaking(server: LocalServer, protocol: str) -> AsyncGenerator[LLMService]:
    service = create_llm_service_from_config(server.config(protocol))
    try:
        yield service
    finally:
        await service.aclose()


async def ask(service: LLMService, request: LLMRequest, *, streamed: bool) -> LLMResponse:
    """The answer, one way or the other."""
    if not streamed:
        return await service.complete(request)
    fold = Accumulator()
    async with service.stream(request) as events:
        async for event in events:
            fold.add(event)
    assert fold.finished
    return fold.response()


async def test_the_server_answers_in_each_of_its_protocols(settings: LocalSettings) -> None:
    """The same text whichever is spoken, streamed or whole, with usage and a reason for its end."""
    request = LLMRequest(
        (Message.user("Name the capital of France."),),
        "You are brief.",
        max_output_tokens=24,
        temperature=0.0,
    )
    texts: set[str] = set()
    async with serving(settings) as server:
        for protocol in PROTOCOLS:
            async with speaking(server, protocol) as service:
                for streamed in (True, False):
                    answer = await ask(service, request, streamed=streamed)
                    assert answer.stop_reason in (StopReason.END, StopReason.LENGTH)
                    assert (answer.usage.input_tokens or 0) > 10
                    assert 0 < (answer.usage.output_tokens or 0) <= 24
                    texts.add(answer.text[:30])
    assert len(texts) == 1, texts
    assert "Paris" in texts.pop()


@once
async def test_a_call_that_the_model_makes_is_read_in_each_protocol(
    settings: LocalSettings,
) -> None:
    """A model of this size calls when told how; the call, its result and an answer are real."""
    question = Message.user(
        "Repeat exactly this text:\n<tool_call>\n"
        '{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
    )
    request = LLMRequest(
        (question,),
        tools=(WEATHER,),
        tool_choice="required",
        max_output_tokens=96,
        temperature=0.0,
    )
    async with serving(settings) as server:
        for protocol in PROTOCOLS:
            async with speaking(server, protocol) as service:
                for streamed in (True, False):
                    asked = await ask(service, request, streamed=streamed)
                    assert asked.stop_reason is StopReason.TOOL_CALLS, protocol
                    call = asked.tool_calls[0]
                    assert call.name == "get_weather"
                    assert json.loads(call.arguments) == {"city": "Paris"}
                    results = [Message.tool(one.id, "Sunny.") for one in asked.tool_calls]
                    history = (question, Message("assistant", asked.parts), *results)
                    after = structs.replace(request, messages=history, tool_choice="auto")
                    answer = await ask(service, after, streamed=streamed)
                    assert answer.text or answer.tool_calls


@once
async def test_a_made_up_call_is_accepted_in_each_protocol(settings: LocalSettings) -> None:
    """History with a call and its result is legal everywhere, whoever made it."""
    request = LLMRequest(
        (
            Message.user("What is the weather in Paris?"),
            Message.assistant("", ToolCall("call_1", "get_weather", '{"city":"Paris"}')),
            Message.tool("call_1", "Sunny, 21 degrees."),
        ),
        tools=(WEATHER,),
        max_output_tokens=24,
        temperature=0.0,
    )
    async with serving(settings) as server:
        for protocol in PROTOCOLS:
            async with speaking(server, protocol) as service:
                for streamed in (True, False):
                    answer = await ask(service, request, streamed=streamed)
                    assert answer.text or answer.tool_calls


@once
async def test_an_answer_is_bound_to_a_schema(settings: LocalSettings) -> None:
    """Where the server offers it: on Chat Completions and on Responses."""
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}, "big": {"type": "boolean"}},
        "required": ["city", "big"],
        "additionalProperties": False,
    }
    request = LLMRequest(
        (Message.user("Which is the capital of France?"),),
        output_schema=OutputSchema("capital", schema),
        max_output_tokens=64,
        temperature=0.0,
    )
    async with serving(settings) as server:
        for protocol in ("llamacpp", "llamacpp-responses"):
            async with speaking(server, protocol) as service:
                assert service.binds_output
                for streamed in (True, False):
                    answer = await ask(service, request, streamed=streamed)
                    value = msgspec.json.decode(answer.text)
                    assert value["city"] in ("Paris", "Rome")
                    assert isinstance(value["big"], bool)
        async with speaking(server, "llamacpp-messages") as service:
            assert not service.binds_output


@once
async def test_refusals_are_typed_in_each_protocol(settings: LocalSettings) -> None:
    """A prompt beyond the window, and a wrong key: the server words them as OpenAI does."""
    long = LLMRequest((Message.user("word " * 20_000),), max_output_tokens=8)
    short = LLMRequest((Message.user("Hi"),), max_output_tokens=8)
    async with serving(settings) as server:
        stranger = structs.replace(server, key="another")
        for protocol in PROTOCOLS:
            for streamed in (True, False):
                async with speaking(server, protocol) as service:
                    with pytest.raises(ContextOverflow):
                        await ask(service, long, streamed=streamed)
                async with speaking(stranger, protocol) as service:
                    with pytest.raises(AuthenticationFailed):
                        await ask(service, short, streamed=streamed)
