"""What a program says when it resumes: only what is waited for, and nothing else counts as a no."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from llm_client.types import ToolSpec
from power_loop import AgentLoop, Hooks, Result, tool
from power_loop.errors import NothingToResume, UsageError
from power_loop.hooks import TOOL_BEFORE, Suspend, ToolBefore
from tests.agent.scripted import Gate, Reply, Scripted, calls, says
from tests.agent.support import EVERY_STORE, StoreKind, check_log, opened_store

pytestmark = pytest.mark.anyio

_Answers = dict[str, Any]

REMOTE = ToolSpec("remote", "Run elsewhere.", {"type": "object", "properties": {}})


@tool
async def pay() -> str:
    """Pays."""
    return "paid"


def ask(context: ToolBefore) -> Suspend | None:
    return Suspend() if context.name == "pay" else None


@pytest.mark.parametrize(
    ("answers", "decisions", "told"),
    [
        ({"TOKEN": "yes"}, {}, "'approve' or 'deny', not 'yes'"),
        ({"TOKEN": True}, {}, "'approve' or 'deny', not True"),
        ({"TOKEN": "Approve"}, {}, "'approve' or 'deny'"),
        ({"other": "approve"}, {}, "waits for 'other'; waited for: '"),
        ({"TOKEN": "approve", "other": "deny"}, {}, "waits for 'other'"),
        ({}, {"other": Result("x")}, "no call 'other' .* open: 'p', 'r'"),
        ({}, {"r": 3}, "is 'rerun', 'unknown' or a Result, not a value of type int"),
        ({}, {"r": "x"}, "is 'rerun', 'unknown' or a Result, not a value of type str"),
        ({}, {"r": "rerun"}, "'r' is not in doubt but not begun"),
        ({}, {"r": "unknown"}, "'r' is not in doubt but not begun"),
        ({}, {"p": "rerun"}, "'p' is not in doubt but waiting for an approval"),
        ({}, {"p": Result("paid")}, "'p' is waiting for an approval .*'TOKEN'"),
        ({"TOKEN": "approve"}, {"p": Result("paid")}, "waiting for an approval"),
        ({}, {"r": Result(b"raw")}, "the result of call 'r' is none"),
        ({}, [("r", Result("x"))], "decisions is a mapping, not a value of type list"),
        (["TOKEN"], {}, "answers is a mapping"),
    ],
)
async def test_what_nobody_waits_for_is_refused_before_anything_is_stored(
    answers: Any, decisions: Any, told: str
) -> None:
    """The call still waits, and the right answer is taken afterwards."""
    llm = Scripted(calls(("p", "pay", {}), ("r", "remote", {})), says("done"))
    hooks = Hooks()
    hooks.on(TOOL_BEFORE, ask)
    async with AgentLoop(llm, tools=[pay, REMOTE], hooks=hooks) as loop:
        session = (await loop.send("pay")).session_id
        token = next(call.token for call in await loop.get_pending(session) if call.token)
        before = await loop.store.read(session)
        given = answers
        if isinstance(answers, dict):
            given = {k.replace("TOKEN", token): v for k, v in cast("_Answers", answers).items()}
        told = told.replace("TOKEN", token)
        with pytest.raises(UsageError, match=told):
            await loop.resume(session, answers=given, decisions=decisions)
        with pytest.raises(UsageError, match=told):
            async with loop.stream_resume(session, answers=given, decisions=decisions):
                pass
        assert await loop.store.read(session) == before
        done = await loop.resume(
            session, answers={token: "approve"}, decisions={"r": Result("seen")}
        )
        assert done.final_text == "done"
        with pytest.raises(NothingToResume):
            await loop.resume(session, answers={token: "approve"})
        await check_log(loop, session)


@pytest.mark.parametrize("kind", EVERY_STORE)
async def test_a_reason_is_stored_in_a_sound_form(kind: StoreKind, tmp_path: Path) -> None:
    """It is for people; nothing may keep a session from being put in order."""
    llm = Scripted(calls(("r", "remote", {})), says("fine"))
    async with (
        opened_store(kind, tmp_path) as store,
        AgentLoop(llm, tools=[REMOTE], store=store) as loop,
    ):
        session = (await loop.send("go")).session_id
        assert await loop.abort_pending(session, "a\ud800\x00") == 1
        assert (await loop.send("again", session)).status == "completed"
        await check_log(loop, session)


@pytest.mark.parametrize("kind", EVERY_STORE)
async def test_a_reason_to_cancel_from_elsewhere_is_stored_in_a_sound_form(
    kind: StoreKind, tmp_path: Path
) -> None:
    """The run that takes it ends as it should."""
    gate = Gate()
    llm = Scripted(Reply(calls(("p", "pay", {})).parts, gate=gate), says("never"))
    statuses: list[str] = []
    with anyio.fail_after(10):
        async with (
            opened_store(kind, tmp_path) as store,
            AgentLoop(llm, tools=[pay], store=store) as here,
            AgentLoop(Scripted(), store=store) as elsewhere,
        ):
            await store.create("s")

            async def send() -> None:
                statuses.append(str((await here.send("go", "s")).outcome))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send)
                await gate.reached.wait()
                assert await elsewhere.cancel("s", "b\ud800")
                gate.opened.set()
            assert statuses == ["cancelled(reason='b\ufffd')"]
            await check_log(here, "s")
