"""Every event of a run can be written as JSON and read back as it was, whatever is in it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_client.errors import RateLimited
from llm_client.types import Text, Thinking, ToolCall
from power_loop import AgentConfig, AgentLoop, Hooks, RetryPolicy, ToolContext, tool
from power_loop.errors import ToolError
from power_loop.events import (
    HookFailed,
    RetryScheduled,
    Stamped,
    TextDelta,
    ToolCallDelta,
    ToolProgress,
    decode_event,
    encode_event,
)
from power_loop.hooks import ROUND_START, RoundStart
from power_loop.session.records import RunOpened
from tests.agent.scripted import Reply, Scripted, fails, says
from tests.agent.support import events_of

pytestmark = pytest.mark.anyio

BAD = "a\ud800b\x00c"
GOOD = "a\ufffdb\u2400c"


@tool
async def work(context: ToolContext) -> str:
    """Works."""
    context.progress(BAD, 7, {"rows": (1, 2), 3: "x"})
    context.progress("less than nothing", -1)
    return "done"


def complain(context: RoundStart) -> None:
    raise ValueError(BAD)


async def test_events_of_a_run_full_of_bad_text_are_lossless() -> None:
    """From the model, a tool, a hook and an error."""
    wanted = Reply((Thinking(BAD), Text(BAD), ToolCall("c", "work", "{}"), ToolCall("d", BAD, BAD)))
    llm = Scripted(fails(RateLimited(BAD, retry_after=0.0)), wanted, says("fine"), piece=100)
    hooks = Hooks()
    hooks.on(ROUND_START, complain)
    config = AgentConfig(retry=RetryPolicy(initial=0.0))
    async with (
        AgentLoop(llm, tools=[work], hooks=hooks, config=config) as loop,
        loop.stream("hi", timeout=60, max_rounds=5) as run,
    ):
        seen = [event async for event in run]
    for event in seen:
        again = decode_event(encode_event(event))
        assert again == event
        assert encode_event(again) == encode_event(event)
        assert repr(again.event) == repr(event.event)
    assert events_of(RunOpened, seen)[0].limits == {"rounds": 5.0, "seconds": 60.0}
    assert events_of(TextDelta, seen)[0].text == GOOD
    assert {each.name for each in events_of(ToolCallDelta, seen)} == {"work", GOOD}
    assert GOOD in events_of(RetryScheduled, seen)[0].message
    assert events_of(HookFailed, seen)[0].message == GOOD
    assert [(p.message, p.fraction, p.data) for p in events_of(ToolProgress, seen)] == [
        (GOOD, 1.0, {"rows": [1, 2], "3": "x"}),
        ("less than nothing", 0.0, None),
    ]


def recursive() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    ("message", "fraction", "data", "told"),
    [
        (3, None, None, "message of progress is a str"),
        ("x", "half", None, "fraction of progress is a number"),
        ("x", math.nan, None, "fraction of progress is a number"),
        ("x", None, object(), "does not serialise"),
        ("x", None, {"a": "\ud800"}, "does not serialise"),
        ("x", None, recursive(), "does not serialise"),
    ],
)
def test_progress_that_no_event_can_carry_is_the_tools_error(
    message: Any, fraction: Any, data: Any, told: str
) -> None:
    """It is told where it is called."""
    with pytest.raises(ToolError, match=told):
        ToolContext.for_test().progress(message, fraction, data)


@given(
    st.text(st.characters(codec=None)),
    st.none() | st.floats(allow_nan=False),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    ),
)
def test_any_progress_survives_json(message: str, fraction: float | None, data: Any) -> None:
    """What a reader gets is what it can send on."""
    taken: list[ToolProgress] = []

    def report(message: str, fraction: float | None, data: Any) -> None:
        taken.append(ToolProgress("c", message, fraction, data))

    ToolContext.for_test(report=report).progress(message, fraction, data)
    stamped = Stamped("s", 1, 1, "s", 0, 0.0, "r", 1, taken[0])
    assert decode_event(encode_event(stamped)) == stamped
