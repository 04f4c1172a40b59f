"""What hooks add to a transcript: judged where it comes in, whatever the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from llm_client.types import File, Image, Message, Text, ToolCall
from power_loop import AgentLoop, Hooks, approve, result_of, tool
from power_loop.errors import HookError
from power_loop.hooks import (
    COMPLETE_DECIDE,
    MESSAGE_APPEND,
    ROUND_START,
    SESSION_START,
    TOOL_BEFORE,
    CompleteDecide,
    Continue,
    MessageAppend,
    RoundStart,
    SessionStart,
    Suspend,
    ToolBefore,
    replace,
)
from power_loop.session.outcome import Failed
from power_loop.tools.base import ToolOutput
from tests.agent.scripted import Scripted, calls, says
from tests.agent.support import EVERY_STORE, StoreKind, check_log, opened_store

pytestmark = pytest.mark.anyio

UNFIT: list[tuple[Any, str]] = [
    ((Message.assistant("I am done"),), "role user or system"),
    ((Message("tool", (Text("x"),)),), "role user or system"),
    ((Message("user", (ToolCall("c", "t"),)),), "role user or system"),
    (("text",), "type str"),
    ("text", "type str"),
    (Message.user("x"), "type Message"),
    ((Message("user", ()),), "without parts"),
    ((Message("user", cast("Any", ("text",))),), "without parts, or with something else"),
    ((Message.user("a\ud800"),), "lone surrogate"),
    ((Message.user("a\x00"),), "NUL"),
    ((Message("user", (Text("x"),), id="\ud800"),), "lone surrogate"),
    ((Message("user", (File(data=b"x", name="\ud800"),)),), "lone surrogate"),
    ((Message("user", (Text("x"),), meta={"k": "\ud800"}),), "lone surrogate"),
    ((Message("user", (Text("x"),), name="compact_note"),), "a name that is taken"),
]


def starting(append: Any) -> Hooks:
    hooks = Hooks()
    hooks.on(SESSION_START, adding(SessionStart, append))
    return hooks


def beginning(append: Any) -> Hooks:
    hooks = Hooks()
    hooks.on(ROUND_START, adding(RoundStart, append))
    return hooks


def adding(kind: type[Any], append: Any) -> Callable[[Any], Any]:
    def handler(context: Any) -> Any:
        assert type(context) is kind
        return replace(context, append=append)

    return handler


async def check_ends_failed(hooks: Hooks, told: str, kind: StoreKind, folder: Path) -> None:
    """The run ends `failed`, with its result, closed in the store; and the session goes on."""
    llm = Scripted(says("one"), says("two"), says("three"))
    async with opened_store(kind, folder) as store:
        async with AgentLoop(llm, store=store, hooks=hooks) as loop:
            await store.create("s")
            with pytest.raises(HookError, match=told) as raised:
                await loop.send("hi", "s")
            result = result_of(raised.value)
            assert result is not None
            assert isinstance(result.outcome, Failed)
            assert (await store.info("s")).status == "failed"
            # An answer that no handler let into the log is in no record.
            await check_log(loop, "s", does_the_same="message.append" not in told)
        async with AgentLoop(llm, store=store) as loop:
            assert (await loop.send("again", "s")).status == "completed"
            await check_log(loop, "s", does_the_same=False)
    assert llm.illegal == []


@pytest.mark.parametrize("kind", EVERY_STORE)
@pytest.mark.parametrize("point", [starting, beginning])
@pytest.mark.parametrize(("append", "told"), UNFIT)
async def test_a_message_that_no_transcript_can_hold_ends_the_run_with_an_error_naming_the_point(
    append: Any, told: str, point: Callable[[Any], Hooks], kind: StoreKind, tmp_path: Path
) -> None:
    """Nothing of it reaches the store, which stays in order."""
    name = "session.start" if point is starting else "round.start"
    await check_ends_failed(point(append), f"{name} gave .*{told}", kind, tmp_path)


@pytest.mark.parametrize("kind", EVERY_STORE)
async def test_a_text_to_go_on_with_that_no_provider_takes_ends_the_run(
    kind: StoreKind, tmp_path: Path
) -> None:
    """At complete.decide."""
    hooks = Hooks()

    def go_on(context: CompleteDecide) -> Continue:
        return Continue("a\ud800")

    hooks.on(COMPLETE_DECIDE, go_on)
    await check_ends_failed(hooks, "complete.decide gave text with a lone", kind, tmp_path)


@pytest.mark.parametrize("kind", EVERY_STORE)
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"parts": (Text("\ud800"),)}, "lone surrogate"),
        ({"parts": ()}, "without parts"),
    ],
)
async def test_a_message_made_unfit_while_it_is_appended_ends_the_run(
    change: dict[str, Any], told: str, kind: StoreKind, tmp_path: Path
) -> None:
    """At message.append, here of the model's answer."""
    hooks = Hooks()

    def spoil(context: MessageAppend) -> MessageAppend | None:
        if context.message.role != "assistant":
            return None
        return replace(context, message=replace(context.message, **change))

    hooks.on(MESSAGE_APPEND, spoil)
    await check_ends_failed(hooks, f"message.append made of a message .*{told}", kind, tmp_path)


async def test_messages_that_fit_are_taken() -> None:
    """Of users and of the system, with pictures."""
    fit = (
        Message("system", (Text("be brief"),)),
        Message("user", (Text("look"), Image(url="https://x/y"))),
    )
    llm = Scripted(says("fine"))
    async with AgentLoop(llm, hooks=starting(fit)) as loop:
        result = await loop.send("hi")
        assert [m.parts for m in llm.requests[0].messages][1:] == [m.parts for m in fit]
        await check_log(loop, result.session_id)


@pytest.mark.parametrize("kind", EVERY_STORE)
async def test_a_reason_to_wait_is_stored_in_a_sound_form(kind: StoreKind, tmp_path: Path) -> None:
    """It is words for people only, so it is repaired, as the reason of a Break is."""

    @tool
    async def pay() -> ToolOutput:
        """Pays."""
        return ToolOutput((Text("paid"), File(data=b"x", name="\ud800.pdf")))

    def ask(context: ToolBefore) -> Suspend:
        return Suspend("why\ud800\x00")

    hooks = Hooks()
    hooks.on(TOOL_BEFORE, ask)
    llm = Scripted(calls(("c", "pay", {})), says("done"))
    async with (
        opened_store(kind, tmp_path) as store,
        AgentLoop(llm, tools=[pay], hooks=hooks, store=store) as loop,
    ):
        result = await loop.send("pay")
        assert result.status == "awaiting_approval"
        (pending,) = await loop.get_pending(result.session_id)
        done = await loop.resume(result.session_id, answers=[approve(pending.token)])
        assert done.status == "completed"
        await check_log(loop, result.session_id)
