"""Events of a tool's own making."""

from __future__ import annotations

import anyio.to_thread
import pytest

from llm_client.testing import ScriptedLLM, call, reply
from power_loop import AgentLoop, ToolContext, tool
from power_loop.errors import ToolError
from power_loop.events import ToolEmitted

pytestmark = pytest.mark.anyio


@tool
async def downloads(context: ToolContext) -> str:
    """Downloads something."""
    context.emit("downloaded", {"bytes": 3, "from": ("a", "b")})
    await anyio.to_thread.run_sync(context.emit, "from a thread")
    return "done"


async def test_readers_hear_what_a_tool_emits_from_any_thread() -> None:
    """With the call it belongs to, and the values of its JSON."""
    llm = ScriptedLLM(reply("", call("downloads")), reply("ok"))
    async with AgentLoop(llm, tools=[downloads]) as loop, loop.stream("go") as run:
        heard = [s.event async for s in run if isinstance(s.event, ToolEmitted)]
    ids = {event.call_id for event in heard}
    assert len(ids) == 1
    assert [(event.name, event.data) for event in heard] == [
        ("downloaded", {"bytes": 3, "from": ["a", "b"]}),
        ("from a thread", None),
    ]


def test_what_cannot_be_an_event_is_an_error_of_the_tool() -> None:
    """It says what is wrong."""
    context = ToolContext.for_test()
    with pytest.raises(ToolError, match="not empty"):
        context.emit("")
    with pytest.raises(ToolError, match="does not serialise"):
        context.emit("x", object())
    context.emit("nobody listens", 1)
