"""Questions that tools, hooks and models put to people, and what becomes of the answers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest

from power_loop import (
    AgentLoop,
    Hooks,
    InputRequest,
    Store,
    ToolContext,
    answer,
    ask_user_tool,
    tool,
)
from power_loop.errors import AnswerRefused, ToolError
from power_loop.hooks import TOOL_BEFORE, RequestInput, ToolBefore
from power_loop.session.records import CallAnswered, CallWaiting, ToolSettled, ToolStarted
from power_loop.tools import JsonSchemaTool
from tests.agent.scripted import Scripted, calls, says
from tests.agent.support import EVERY_STORE, StoreKind, check_log, opened_store

pytestmark = pytest.mark.anyio

SCHEMA = {"type": "integer", "minimum": 1}


@tool
async def order(what: str, context: ToolContext[Any]) -> str:
    """Orders something."""
    context.request_user_input(f"How many of {what}?", SCHEMA)


@tool
def order_in_a_thread(what: str, context: ToolContext[Any]) -> str:
    """Orders something."""
    context.request_user_input(f"How many of {what}?", SCHEMA)


@tool
async def order_in_a_group(what: str, context: ToolContext[Any]) -> str:
    """Orders something."""

    async def ask() -> None:
        context.request_user_input(f"How many of {what}?", SCHEMA)

    async with anyio.create_task_group() as outer:
        outer.start_soon(anyio.lowlevel.checkpoint)
        async with anyio.create_task_group() as inner:
            inner.start_soon(ask)
    return "never"


@tool
async def look() -> str:
    """Looks."""
    return "seen"


def ordering(name: str) -> Scripted:
    wanted: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("a", name, {"what": "pens"}),
        ("b", "look", {}),
        ("c", "request_user_input", {"question": "Which?", "choices": ["red", "blue"]}),
    )
    return Scripted(calls(*wanted), says("ordered"))


def loop_on(store: Store | None, llm: Scripted, hooks: Hooks | None = None) -> AgentLoop[Any]:
    tools = [order, order_in_a_thread, order_in_a_group, look, ask_user_tool()]
    return AgentLoop[Any](llm, tools=tools, store=store, hooks=hooks)


async def questions(loop: AgentLoop[Any], session: str) -> dict[str, InputRequest]:
    """What is asked in a session, by call id."""
    found: dict[str, InputRequest] = {}
    for call in await loop.get_pending(session):
        assert isinstance(call.request, InputRequest)
        assert call.token == call.request.token
        found[call.call_id] = call.request
    return found


@pytest.mark.parametrize("kind", EVERY_STORE)
@pytest.mark.parametrize("name", ["order", "order_in_a_thread", "order_in_a_group"])
async def test_what_a_person_answers_later_is_the_result_of_the_call(
    kind: StoreKind, name: str, tmp_path: Path
) -> None:
    """In another loop, after several tools of one batch had asked; each tool ran once."""
    async with opened_store(kind, tmp_path) as store:
        async with loop_on(store, ordering(name)) as loop:
            waiting = await loop.send("Order pens")
            session = waiting.session_id
            assert waiting.status == "waiting_for_input"
            assert waiting.resumable
        llm = Scripted(says("ordered"))
        async with loop_on(store, llm) as loop:
            asked = await questions(loop, session)
            assert asked["a"].question == "How many of pens?"
            assert asked["a"].schema == SCHEMA
            assert (asked["a"].tool, asked["a"].by) == (name, name)
            assert asked["c"].schema == {"type": "string", "enum": ["red", "blue"]}
            one = await loop.resume(session, answers=[answer(asked["a"].token, 3, by="ada")])
            assert one.status == "waiting_for_input"
            assert llm.requests == []
            both = await loop.resume(session, answers=[answer(asked["c"].token, "red")])
            assert both.final_text == "ordered"
            log = await check_log(loop, session)
            shown = [m.text for m in await loop.get_messages(session) if m.role == "tool"]
        assert len(shown) == 3
        settled = {r.message.id[0]: r for r in log if isinstance(r, ToolSettled)}
        assert {id: r.how for id, r in settled.items()} == dict.fromkeys("abc", "finished")
        said = {r.call_id: (r.answer, r.by) for r in log if isinstance(r, CallAnswered)}
        assert said == {"a": ("3", "ada"), "c": ("red", "")}
        assert len([r for r in log if isinstance(r, ToolStarted)]) == 3


@pytest.mark.parametrize("given", [0, "many", None, [3], 3.5])
async def test_an_answer_that_does_not_fit_is_refused_and_the_question_stays(given: object) -> None:
    """The caller is told why; the right answer is taken afterwards."""
    llm = Scripted(calls(("a", "order", {"what": "pens"})), says("ordered"))
    async with loop_on(None, llm) as loop:
        session = (await loop.send("Order pens")).session_id
        token = (await questions(loop, session))["a"].token
        with pytest.raises(AnswerRefused, match="does not fit its schema"):
            await loop.resume(session, answers=[answer(token, given)])
        assert (await questions(loop, session))["a"].token == token
        assert (await loop.resume(session, answers=[answer(token, "3")])).final_text == "ordered"
        await check_log(loop, session)


async def test_a_hook_asks_in_place_of_a_tool_that_then_does_not_run() -> None:
    """The model is told the answer, which is not a result of the tool."""

    def ask(context: ToolBefore) -> RequestInput | None:
        return RequestInput("What do you see?") if context.name == "look" else None

    hooks = Hooks()
    hooks.on(TOOL_BEFORE, ask, name="eyes")
    llm = Scripted(calls(("a", "look", {})), says("fine"))
    async with loop_on(None, llm, hooks) as loop:
        session = (await loop.send("Look")).session_id
        request = (await questions(loop, session))["a"]
        assert (request.question, request.schema, request.tool, request.by) == (
            "What do you see?",
            None,
            "look",
            "eyes",
        )
        assert (
            await loop.resume(session, answers=[answer(request.token, "a cat")])
        ).resumable is False
        log = await check_log(loop, session)
    (settled,) = [r for r in log if isinstance(r, ToolSettled)]
    assert settled.how == "skipped"
    assert "a cat" in str(settled.message)
    assert not [r for r in log if isinstance(r, ToolStarted)]


async def test_a_question_that_is_given_up_is_told_as_stopped() -> None:
    """The tool had begun, so the model is not told that nothing happened."""
    llm = Scripted(calls(("a", "order", {"what": "pens"})), says("fine"))
    async with loop_on(None, llm) as loop:
        session = (await loop.send("Order pens")).session_id
        token = (await questions(loop, session))["a"].token
        assert await loop.abort_pending(session, "too late") == 1
        with pytest.raises(AnswerRefused, match="waited for: nothing"):
            await loop.resume(session, answers=[answer(token, 3)])
        assert (await loop.send("And now?", session)).final_text == "fine"
        log = await check_log(loop, session)
    (settled,) = [r for r in log if isinstance(r, ToolSettled)]
    assert settled.how == "interrupted"
    assert "too late" in str(settled.message)


@pytest.mark.parametrize(
    ("question", "schema", "told"),
    [
        ("", None, "not blank"),
        ("  ", None, "not blank"),
        (3, None, "not 3"),
        ("q", {"type": "integer", "minimum": "x"}, "schema of a question cannot be used"),
        ("q", {"type": object()}, "schema of a question cannot be used"),
        ("q", "integer", "schema of a question cannot be used"),
        ("q", [], "no object"),
        ("q", {"type": "foo"}, "'foo' is unknown"),
        ("q", {"type": "integer", "minimum": float("nan")}, "nan is no number"),
        ("q", {"items": {"default": [float("-inf")]}}, "-inf is no number"),
        ("q", {"anyOf": [{"enum": cast("list[object]", [])}]}, "takes no answer"),
    ],
)
def test_a_question_that_cannot_be_put_is_an_error_of_the_tool(
    question: Any, schema: Any, told: str
) -> None:
    """At once, where it is asked; nobody is left waiting for an answer that cannot be."""
    context = ToolContext.for_test()
    with pytest.raises(ToolError, match=told):
        context.request_user_input(question, schema)
    assert context.asked is None


async def test_a_tool_that_swallows_its_question_has_given_its_result(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nobody is asked, and a warning says which tool it was; `except Exception` does not do it."""

    @tool
    async def stubborn(context: ToolContext[Any]) -> str:
        """Asks and goes on."""
        try:
            context.request_user_input("Well?")
        except BaseException:  # noqa: BLE001  that is what is tested
            return "whatever"

    @tool
    async def careful(context: ToolContext[Any]) -> str:
        """Asks, among errors of its own."""
        try:
            context.request_user_input("Well?")
        except Exception:  # noqa: BLE001  that is what is tested
            return "never"

    llm = Scripted(calls(("a", "stubborn", {}), ("b", "careful", {})))
    async with AgentLoop[Any](llm, tools=[stubborn, careful]) as loop:
        with caplog.at_level(logging.WARNING, logger="power_loop"):
            waiting = await loop.send("go")
        assert [*(await questions(loop, waiting.session_id))] == ["b"]
        await check_log(loop, waiting.session_id)
    assert "'stubborn' asked for input and went on" in caplog.text


async def test_a_question_among_other_errors_of_a_task_group_is_a_failure() -> None:
    """What went wrong besides must not be lost behind a question."""

    @tool
    async def torn(context: ToolContext[Any]) -> str:
        """Asks and fails at once."""

        async def ask() -> None:
            context.request_user_input("Well?")

        async def fail() -> None:
            raise OSError("the disk is gone")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            tasks.start_soon(fail)
        return "never"

    llm = Scripted(calls(("a", "torn", {})), says("fine"))
    async with AgentLoop[Any](llm, tools=[torn]) as loop:
        result = await loop.send("go")
        assert result.status == "completed"
        log = await check_log(loop, result.session_id)
    (settled,) = [r for r in log if isinstance(r, ToolSettled)]
    assert "ExceptionGroup" in str(settled.message)
    assert not [r for r in log if isinstance(r, CallWaiting)]


async def test_a_handler_of_a_schema_tool_asks_as_well() -> None:
    """A synchronous one, out of its thread."""

    def handler(_: dict[str, Any], context: ToolContext[Any]) -> str:
        context.request_user_input("Well?")

    asking = JsonSchemaTool("asking", "Asks.", {"type": "object"}, handler)
    llm = Scripted(calls(("a", "asking", {})), says("fine"))
    async with AgentLoop[Any](llm, tools=[asking]) as loop:
        session = (await loop.send("go")).session_id
        token = (await questions(loop, session))["a"].token
        done = await loop.resume(session, answers=[answer(token, "well")])
        assert done.final_text == "fine"
        assert asking.threads.abandoned == 0
        await check_log(loop, session)
