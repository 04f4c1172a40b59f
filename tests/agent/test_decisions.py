"""What a program says when it resumes: only what is waited for, and nothing else counts as a no."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from llm_client.types import ToolSpec
from power_loop import (
    AgentLoop,
    Answer,
    Hooks,
    Result,
    answer,
    approve,
    ask_user_tool,
    deny,
    tool,
)
from power_loop.errors import AnswerRefused, UsageError
from power_loop.hooks import TOOL_BEFORE, Suspend, ToolBefore, replace
from power_loop.session.records import Decided
from tests.agent.scripted import Gate, Reply, Scripted, calls, says
from tests.agent.support import EVERY_STORE, StoreKind, check_log, opened_store

pytestmark = pytest.mark.anyio


def _to(token: str, given: object) -> object:
    """An answer to what really waits."""
    if not isinstance(given, Answer) or given.token != "TOKEN":
        return given
    return replace(given, token=token)


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
        (["TOKEN"], {}, "not values of type str"),
        ([approve("TOKEN"), deny("TOKEN")], {}, "'TOKEN' is answered twice"),
        ([answer("TOKEN", "yes")], {}, "is a request for approval"),
        ([approve("other")], {}, "waits for 'other'; waited for: '"),
        ([approve("TOKEN"), deny("other")], {}, "waits for 'other'"),
        ([], {"other": Result("x")}, "no call 'other' .* open: 'p', 'r'"),
        ([], {"r": 3}, "is 'rerun', 'unknown' or a Result, not a value of type int"),
        ([], {"r": "x"}, "is 'rerun', 'unknown' or a Result, not a value of type str"),
        ([], {"r": "rerun"}, "'r' is not in doubt but not begun"),
        ([], {"r": "unknown"}, "'r' is not in doubt but not begun"),
        ([], {"p": "rerun"}, "'p' is not in doubt but waiting for an approval"),
        ([], {"p": Result("paid")}, "'p' is waiting for an approval .*'TOKEN'"),
        ([approve("TOKEN")], {"p": Result("paid")}, "waiting for an approval"),
        ([], {"r": Result(b"raw")}, "the result of call 'r' is none"),
        ([], [("r", Result("x"))], "decisions is a mapping, not a value of type list"),
        ({"TOKEN": "approve"}, {}, "answers is a list"),
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
        given: Any = answers
        if isinstance(answers, list):
            given = [_to(token, each) for each in cast("list[object]", answers)]
        told = told.replace("TOKEN", token)
        with pytest.raises(UsageError, match=told) as caught:
            await loop.resume(session, answers=given, decisions=decisions)
        with pytest.raises(UsageError, match=told):
            async with loop.stream_resume(session, answers=given, decisions=decisions):
                pass
        # Only an answer that was refused is on record.
        refused = [e.event for e in (await loop.store.read(session))[len(before) :]]
        assert all(isinstance(e, Decided) and e.what == "refused" for e in refused)
        assert len(refused) == (2 if isinstance(caught.value, AnswerRefused) else 0)
        assert all(str(caught.value)[:300] in e.reason for e in refused if isinstance(e, Decided))
        done = await loop.resume(session, answers=[approve(token)], decisions={"r": Result("seen")})
        assert done.final_text == "done"
        with pytest.raises(AnswerRefused):
            await loop.resume(session, answers=[approve(token)])
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


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_does_not_have_is_refused_where_it_is_given(number: float) -> None:
    """It would have become null on its way."""
    with pytest.raises(UsageError, match="the arguments cannot be written as JSON"):
        approve("t", {"amount": number})
    with pytest.raises(UsageError, match="the answer cannot be written as JSON"):
        answer("t", [{"amount": number}])
    assert approve("t", {"amount": 1.5}).arguments == '{"amount":1.5}'


async def test_a_refused_answer_is_on_record_with_its_author_kind_token_and_reason() -> None:
    """As long as it may be, and with whatever in it."""
    ask = calls(("a", "request_user_input", {"question": "How many?"}))
    async with AgentLoop(Scripted(ask), tools=[ask_user_tool()]) as loop:
        session = (await loop.send("hi")).session_id
        (token,) = [call.token for call in await loop.get_pending(session)]
        for given in (
            approve(token, by="ada"),
            answer("x\ud800" * 5_000, "3", by="eve\x00" * 5_000),
            deny("lost"),
        ):
            with pytest.raises(AnswerRefused):
                await loop.resume(session, answers=[given])
        log = [stamped.event for stamped in await loop.store.read(session)][-3:]
        refused = [record for record in log if isinstance(record, Decided)]
        assert [(r.at, r.what) for r in refused] == [("approval", "refused")] * 3
        assert [len(r.by) for r in refused] == [3, 100, 6]
        first, second, third = (r.reason for r in refused)
        assert first.startswith(f"approve to {token!r}: {token!r} is a question")
        assert second.startswith("answer to 'x")
        assert len(second) == 500
        assert third.startswith(f"deny to 'lost': no call of session {session!r} waits for 'lost'")
        steps = [step.text for step in (await loop.explain(session)).steps]
        assert f"approval (ada): refused: {first}"[:120] in "\n".join(steps)
        await check_log(loop, session)
