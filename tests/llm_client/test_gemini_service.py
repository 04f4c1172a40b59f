"""A Gemini model asked over a real socket, as the environment describes it."""

from __future__ import annotations

import anyio
import msgspec
import pytest

from llm_client.registry import create_llm_service_from_env
from llm_client.stream import Accumulator
from llm_client.types import Message, StopReason
from tests.gemini_bodies import TOOL, ask
from tests.gemini_streams import USAGE, array, call, chunk, sse, text
from tests.llm_client.transports import CANARY
from tests.loopback import answer, serving
from tests.loopback import sse as events

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("provider", "base", "header", "key"),
    [
        ("gemini", "/v1beta", "x-goog-api-key", CANARY),
        (
            "vertex",
            "/v1beta1/projects/p/locations/global/publishers/google",
            "authorization",
            f"Bearer {CANARY}",
        ),
    ],
)
async def test_a_round_with_a_call_goes_there_and_back(
    provider: str, base: str, header: str, key: str
) -> None:
    """Address, key and body, whole and streamed as events or as an array; the signature returns."""
    called = chunk(call("look_up", {"city": "Paris"}, "c2ln"), finish="STOP", usageMetadata=USAGE)
    said = [chunk(text("Sun")), chunk(text("ny."), finish="STOP")]
    plain = {"content-type": "application/json"}
    answers = (
        answer(200, msgspec.json.encode(called), plain),
        events(sse(*said)),
        answer(200, array(*said), plain),
    )
    with anyio.fail_after(10):
        async with serving(*answers) as server:
            env = {
                "POWER_LOOP_PROVIDER": provider,
                "POWER_LOOP_BASE_URL": server.url + base,
                "POWER_LOOP_API_KEY": CANARY,
                "POWER_LOOP_MODEL": "gemini-3-flash-preview",
            }
            service = create_llm_service_from_env(env)
            first = await service.complete(ask(tools=(TOOL,)))
            assert first.stop_reason is StopReason.TOOL_CALLS
            history = [
                Message.user("hi"),
                Message("assistant", first.parts),
                Message.tool(first.tool_calls[0].id, "sunny"),
            ]
            request = msgspec.structs.replace(ask(tools=(TOOL,)), messages=history)
            for _ in range(2):
                accumulator = Accumulator()
                async with service.stream(request) as stream:
                    async for event in stream:
                        accumulator.add(event)
                assert accumulator.response().text == "Sunny."
            await service.aclose()
    place = f"{base}/models/gemini-3-flash-preview:"
    streaming = f"{place}streamGenerateContent?alt=sse"
    assert [one.target for one in server.requests] == [
        f"{place}generateContent",
        streaming,
        streaming,
    ]
    assert {one.headers[header] for one in server.requests} == {key}
    contents = msgspec.json.decode(server.requests[1].body)["contents"]
    assert contents[1]["parts"][0]["thoughtSignature"] == "c2ln"
