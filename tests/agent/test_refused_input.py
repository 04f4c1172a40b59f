"""Input that cannot be sent, or that the provider refuses: the session goes on without it."""

from __future__ import annotations

from contextlib import suppress

import pytest

from llm_client.errors import (
    BadRequest,
    ContentFiltered,
    ContextOverflow,
    LLMError,
    RateLimited,
    UnsupportedFeature,
)
from llm_client.registry import create_llm_service_from_env
from llm_client.types import Audio, Image, LLMRequest, Text
from power_loop import AgentConfig, AgentLoop, RetryPolicy, result_of, tool
from power_loop.agent.intake import Input, to_message
from power_loop.tools.base import ToolOutput
from tests.agent.scripted import Reply, Scripted, calls, fails, says
from tests.agent.support import check_log
from tests.model_server import model_server

pytestmark = pytest.mark.anyio

PICTURE = Image(data=b"x" * 10, media_type="image/png")
LONG = "word " * 1000


async def test_what_the_protocol_has_no_form_for_is_refused_before_anything_is_stored() -> None:
    """The real codec is asked, and nobody else: neither a run nor a new session comes of it."""
    with model_server() as env:
        async with AgentLoop(create_llm_service_from_env(env)) as loop:
            with pytest.raises(UnsupportedFeature, match="needs its data"):
                await loop.send(Audio(id="a sound of the model's own"))
            assert await loop.store.list() == []
            session = (await loop.send("hi")).session_id
            before = await loop.store.read(session)
            with pytest.raises(UnsupportedFeature, match="needs its data"):
                await loop.send(["listen", Audio(id="sound")], session)
            with pytest.raises(UnsupportedFeature, match="needs its data"):
                await loop.steer(session, Audio(id="sound"))
            assert await loop.store.read(session) == before
            assert (await loop.send("again", session)).status == "completed"
            await loop.close_llm()


@pytest.mark.parametrize(
    ("error", "sent", "left"),
    [
        (BadRequest("image too large", status=400), ["look", PICTURE], "look[left out"),
        (BadRequest("too large", status=413), ["look", PICTURE, Text(LONG)], "look[left out"),
        (ContextOverflow("too long", status=400), ["sum up", Text(LONG)], "sum up[left out"),
        (ContentFiltered("refused", status=400), ["something vile"], "[left out"),
        (UnsupportedFeature("no images here"), ["look", PICTURE], "look[left out"),
    ],
)
async def test_a_session_goes_on_without_what_the_provider_refused(
    error: LLMError, sent: Input, left: str
) -> None:
    """Sent again with every later message, it would be refused for ever. History keeps it."""
    llm = Scripted(says("hello"), fails(error), says("fine"))
    async with AgentLoop(llm) as loop:
        session = (await loop.send("hi")).session_id
        with pytest.raises(type(error)) as raised:
            await loop.send(sent, session)
        result = result_of(raised.value)
        assert result is not None
        assert result.status == "failed"
        assert (await loop.send("go on", session)).final_text == "fine"
        asked = llm.requests[-1].messages
        assert [message.text for message in asked[:2]] == ["hi", "hello"]
        assert asked[2].text.startswith(left)
        assert type(error).__name__ in asked[2].text
        assert all(isinstance(part, Text) for part in asked[2].parts)
        assert LONG not in asked[2].text
        history = await loop.get_messages(session, include_compacted=True)
        assert history[2].parts == to_message(sent, "m").parts
        await check_log(loop, session)
    assert llm.illegal == []


async def test_a_picture_from_a_tool_that_the_provider_refuses_is_left_out_as_well() -> None:
    """The call keeps its result, with a note in the picture's place."""

    @tool
    async def look() -> ToolOutput:
        """Looks."""
        return ToolOutput((Text("a cat"), PICTURE))

    def model(request: LLMRequest) -> Reply:
        if len(llm.requests) == 1:
            return calls(("c", "look", {}))
        return fails(BadRequest("no", status=400)) if len(llm.requests) == 2 else says("fine")

    llm = Scripted(by=model)
    async with AgentLoop(llm, tools=[look]) as loop:
        with pytest.raises(BadRequest) as raised:
            await loop.send("look")
        result = result_of(raised.value)
        assert result is not None
        resumed = await loop.resume(result.session_id)
        assert resumed.final_text == "fine"
        told = llm.requests[-1].messages[-1].parts[0]
        assert "a cat[left out" in getattr(told, "text", "")
        await check_log(loop, result.session_id)
    assert llm.illegal == []


@pytest.mark.parametrize("error", [BadRequest("bad schema", status=400), RateLimited("wait")])
async def test_an_error_that_is_not_about_the_input_leaves_it_where_it_is(error: LLMError) -> None:
    """What was asked is asked again by whoever resumes."""
    llm = Scripted(fails(error), says("fine"))
    config = AgentConfig(retry=RetryPolicy(max_attempts=1))
    async with AgentLoop(llm, config=config) as loop:
        session = "s"
        await loop.store.create(session)
        with suppress(BadRequest):
            await loop.send(LONG, session)
        assert (await loop.resume(session)).final_text == "fine"
        assert [message.text for message in llm.requests[-1].messages] == [LONG]
