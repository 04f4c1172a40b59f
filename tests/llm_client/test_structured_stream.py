"""A value that can be seen while it grows, over scripts, over sockets, and from a real model."""

from __future__ import annotations

from typing import Any, Literal

import anyio
import msgspec
import pytest
from msgspec import Struct
from pydantic import BaseModel

from llm_client import (
    IncompleteStream,
    LLMRequest,
    Message,
    OutputInvalid,
    OutputRefused,
    OutputTruncated,
    Overloaded,
    Retrying,
    RetryPolicy,
    StopReason,
    Usage,
    complete_as,
    stream_as,
)
from llm_client.local import create_local_service
from llm_client.structured import Way
from llm_client.testing import ScriptedLLM, call, reply
from llm_client.transport.httpx_transport import HttpxTransport
from tests.llm_client.chat import DONE, delta, service_at, whole
from tests.local_weights import need_real_model
from tests.loopback import answer, serving, sse

pytestmark = pytest.mark.anyio


class City(BaseModel):
    """A city."""

    name: str
    people: int


class Colour(Struct):
    """A colour of something."""

    thing: str
    colour: Literal["red", "green"]


BERN = City(name="Bern", people=134794)
GOOD = '{"name": "Bern", "people": 134794}'
ASK = LLMRequest([Message.user("The capital of Switzerland?")])


def in_way(way: Way, text: str) -> Any:
    return reply("", call("City", text)) if way == "tool" else reply(text)


@pytest.mark.parametrize("way", ["native", "tool", "prompted"])
async def test_a_value_is_seen_growing(way: Way) -> None:
    """Then it is there, with what it took."""
    llm = ScriptedLLM(in_way(way, GOOD), chunk=4)
    async with stream_as(llm, ASK, City, way=way) as answer:
        seen = [(partial.value, partial.complete) async for partial in answer]
        result = await answer.result()
        assert llm.open_streams == 0
    assert seen == [
        ({}, False),
        ({"name": "Be"}, False),
        ({"name": "Bern"}, False),
        ({"name": "Bern", "people": 134794}, True),
    ]
    assert (result.value, result.way, result.usage) == (BERN, way, Usage(10, 5))
    assert len(result.responses) == 1


async def test_of_several_calls_and_words_the_first_call_is_seen() -> None:
    """It is the answer."""
    llm = ScriptedLLM(reply('So {"x": "y"}', call("City", GOOD), call("City", '{"name": "Ur"}')))
    async with stream_as(llm, ASK, City, way="tool") as answer:
        seen = [partial.value async for partial in answer]
        assert (await answer.result()).value == BERN
    assert all(value.keys() <= {"name", "people"} for value in seen)
    assert seen[-1] == {"name": "Bern", "people": 134794}
    llm = ScriptedLLM(reply("", call("City", '{"name": '), call("City", '"Ur"}')))
    async with stream_as(llm, ASK, City, way="tool") as answer:
        assert [partial.value async for partial in answer] == [{}]


async def test_a_wrapped_value_is_seen_without_its_wrapping() -> None:
    """As it will be in the end, but not validated."""
    llm = ScriptedLLM('{"value": [{"name": "Bern", "people": 1}, {"name": "Ba', chunk=1)
    async with stream_as(llm, ASK, list[City], reasks=0) as answer:
        seen = [partial.value async for partial in answer]
        with pytest.raises(OutputInvalid):
            await answer.result()
    assert seen[0] == []
    assert seen[-1] == [{"name": "Bern", "people": 1}, {"name": "Ba"}]


async def test_the_result_can_be_had_without_looking_and_again() -> None:
    """It reads the rest by itself, and asks once only."""
    llm = ScriptedLLM(GOOD)
    async with stream_as(llm, ASK, City) as answer:
        assert (await answer.result()).value == BERN
        assert await answer.result() is await answer.result()
        assert [partial async for partial in answer] == []
    assert len(llm.requests) == 1


async def test_a_wrong_answer_is_corrected_after_the_stream() -> None:
    """The correction is not streamed; the connection of the first answer is given back before."""
    open_streams: list[int] = []

    def second(request: LLMRequest) -> str:
        open_streams.append(llm.open_streams)
        return GOOD

    llm = ScriptedLLM('{"name": "Bern", "people": "many"}', second)
    async with stream_as(llm, ASK, City) as answer:
        seen = [partial.value async for partial in answer]
        result = await answer.result()
    assert seen[-1] == {"name": "Bern", "people": "many"}
    assert (result.value, len(result.responses), result.usage) == (BERN, 2, Usage(20, 10))
    assert open_streams == [0]
    assert "people: Input should be a valid integer" in llm.requests[1].messages[-1].text


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (reply('{"name": "Be', stop_reason=StopReason.LENGTH), OutputTruncated),
        (reply('{"name": "Be', refusal="No."), OutputRefused),
        (reply('{"name": "Be', break_after=3), IncompleteStream),
    ],
)
async def test_what_ends_badly_says_so_in_the_end(line: Any, kind: type[Exception]) -> None:
    """Whatever was seen before; each time one asks."""
    llm = ScriptedLLM(line, chunk=4)
    async with stream_as(llm, ASK, City) as answer:
        with pytest.raises(kind):
            await answer.result()
        if kind is not IncompleteStream:
            with pytest.raises(kind):
                await answer.result()
    assert len(llm.requests) == 1
    assert llm.open_streams == 0


async def test_an_attempt_that_is_void_begins_anew() -> None:
    """Of what it had shown nothing is left in the result."""
    broken = reply('{"name": "Ber', break_after=4, error=Overloaded("busy"))
    llm = ScriptedLLM(broken, GOOD, chunk=4)

    async def at_once(seconds: float) -> None:
        await anyio.lowlevel.checkpoint()

    service = Retrying(llm, RetryPolicy(), restart_streams=True, sleep=at_once)
    async with stream_as(service, ASK, City) as answer:
        seen = [partial.value async for partial in answer]
        assert (await answer.result()).value == BERN
    assert seen.count({}) == 2
    assert seen[-1] == {"name": "Bern", "people": 134794}


async def test_leaving_early_closes_the_stream() -> None:
    """As with any stream, by leaving the block or by being cancelled in it."""
    llm = ScriptedLLM(GOOD, GOOD, chunk=1)
    async with stream_as(llm, ASK, City) as answer:
        await anext(answer)
        assert llm.open_streams == 1
    assert (llm.open_streams, llm.abandoned) == (0, 1)
    with anyio.CancelScope() as scope:
        async with stream_as(llm, ASK, City) as answer:
            async for _ in answer:
                scope.cancel()
    assert scope.cancelled_caught
    assert (llm.open_streams, llm.abandoned) == (0, 2)


async def test_over_a_socket_a_value_grows_and_is_corrected() -> None:
    """Bound to the strict form of its schema, on the wire."""
    bad = ('{"name": ', '"Bern"', ', "people"', ': "?"}')
    frames = [*map(delta, bad), delta(finish="stop"), DONE]
    async with serving(sse(*frames), answer(200, whole(GOOD))) as server:
        service = service_at(server, HttpxTransport())
        with anyio.fail_after(10):
            async with stream_as(service, ASK, City) as value:
                seen = [partial.value async for partial in value]
                result = await value.result()
        await service.aclose()
        bodies = [msgspec.json.decode(request.body) for request in server.requests]
    assert seen[-1] == {"name": "Bern", "people": "?"}
    assert (result.value, result.way) == (BERN, "native")
    for body in bodies:
        form = body["response_format"]["json_schema"]
        assert (form["strict"], form["schema"]["additionalProperties"]) == (True, False)
    assert [message["role"] for message in bodies[1]["messages"]] == ["user", "assistant", "user"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_real_model_gives_a_value_of_the_type() -> None:
    """Its server enforces the schema; whole, streamed, and through a forced tool."""
    service = create_local_service("smollm2", need_real_model())
    question = LLMRequest([Message.user("What colour is grass?")], max_output_tokens=60)
    try:
        with anyio.fail_after(120):
            bound = await complete_as(service, question, Colour)
            assert bound.way == "native"
            forced = await complete_as(service, question, Colour, way="tool")
            async with stream_as(service, question, Colour) as answer:
                seen = [partial.value async for partial in answer]
                streamed = await answer.result()
    finally:
        await service.aclose()
    for result in (bound, forced, streamed):
        assert isinstance(result.value, Colour)
        assert result.value.colour in ("red", "green")
        assert (result.usage.output_tokens or 0) > 0
    assert seen[-1] == msgspec.to_builtins(streamed.value)
    assert len(seen) > 2
