"""The todo list: where it is kept, when it is said, and that nothing makes it get lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_client.types import LLMRequest, Message, ToolResult
from power_loop import AgentConfig, AgentLoop, Hooks, MemoryStore, SubAgent, approve, tool
from power_loop.extensions import Todo, TodoItem, todo_list
from power_loop.extensions.todo import LIST_META, REMINDER_META
from power_loop.governance import Policies, RepetitionGuard
from power_loop.hooks import TOOL_BEFORE, Skip, Suspend, ToolBefore
from power_loop.session.pins import PINNED_META
from power_loop.session.records import ToolSettled
from power_loop.session.view import POLICY_META
from tests.agent.scripted import Reply, Scripted, calls, says
from tests.agent.support import check_log, log_of
from tests.extensions.histories import History, is_append_only

pytestmark = pytest.mark.anyio


@tool
async def look(at: int) -> str:
    """Looks."""
    return f"nothing at {at}"


def items(*given: str) -> dict[str, Any]:
    """`> a` is in progress, `x a` is completed, `a` is pending."""
    marks = {">": "in_progress", "x": "completed"}
    found: list[dict[str, str]] = []
    for each in given:
        mark, _, text = each.partition(" ")
        status = marks.get(mark)
        found.append({"text": text if status else each, "status": status or "pending"})
    return {"items": found}


def writes(n: int, *given: str) -> Reply:
    return calls((f"t{n}", "todo", items(*given)))


def looks(n: int) -> Reply:
    return calls((f"l{n}", "look", {"at": n}))


def said(messages: Sequence[Message], key: str = LIST_META) -> list[str]:
    return [m.text for m in messages if m.meta is not None and key in m.meta]


def results(request: LLMRequest) -> list[str]:
    return [p.text for m in request.messages for p in m.parts if isinstance(p, ToolResult)]


async def test_a_list_is_written_and_said_once_for_each_change() -> None:
    """The result is short; the list itself is a pinned message. No request is rewritten."""
    llm = Scripted(
        writes(1, "> read  the\ncode", "write"),
        looks(1),
        writes(2, "x read the code", "> write"),
        writes(3),
        says("done"),
    )
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[look], extensions=[Todo()]) as loop:
            session = (await loop.send("go")).session_id
            await check_log(loop, session)
            messages = await loop.get_messages(session)
            assert todo_list(messages) == ()
    assert results(llm.requests[-1]) == [
        "Written: 0 of 2 completed; now: read the code",
        "nothing at 1",
        "Written: 1 of 2 completed; now: write",
        "Written: 0 of 0 completed",
    ]
    assert said(messages) == [
        "Your todo list:\n[>] read the code\n[ ] write",
        "Your todo list:\n[x] read the code\n[>] write",
        "Your todo list is empty.",
    ]
    assert {m.meta[PINNED_META] for m in messages if m.meta} == {"todo"}
    assert is_append_only(llm.requests)
    assert {request.system for request in llm.requests} == {llm.requests[0].system}
    assert "# Todo list" in (llm.requests[0].system or "")


async def test_all_that_is_wrong_with_a_list_is_told_at_once() -> None:
    """By path, so that one more call can be right; the list stays what it was."""
    wrong = items("> a", "> b", *["c"] * 19)
    wrong["items"][3] = {"text": " ", "status": "done"}
    wrong["items"][4] = "d"
    llm = Scripted(writes(1, "> one"), calls(("t2", "todo", wrong)), says("oh"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, extensions=[Todo()]) as loop:
            session = (await loop.send("go")).session_id
            await check_log(loop, session)
            assert todo_list(await loop.get_messages(session)) == (TodoItem("one", "in_progress"),)
    told = msgspec.json.decode(results(llm.requests[-1])[-1])
    assert told["error"] == "invalid_arguments"
    assert {problem["path"] for problem in told["problems"]} == {
        "items",
        "items[3].status",
        "items[3].text",
        "items[4]",
    }
    expected = [p["expected"] for p in told["problems"] if p["path"] == "items"]
    assert expected == ["20 items or fewer, not 21", "at most one item that is in_progress"]


async def test_a_list_that_is_written_as_it_was_is_not_said_again() -> None:
    """It is in view; but it has been touched."""
    llm = Scripted(
        *[reply for n in range(3) for reply in (writes(n, "> read"), looks(n), looks(n + 10))],
        says("done"),
    )
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[look], extensions=[Todo()]) as loop:
            await check_log(loop, (await loop.send("go")).session_id)
    assert said(llm.requests[-1].messages) == ["Your todo list:\n[>] read"]
    assert said(llm.requests[-1].messages, REMINDER_META) == []


@pytest.mark.parametrize("arguments", ["[]", '{"items": 3}', '{"items": [3]}', "{}", '{"a": 1}'])
async def test_what_is_no_list_at_all_is_refused(arguments: str) -> None:
    """And is none for the reader of the transcript either."""
    llm = Scripted(calls(("t1", "todo", arguments)), says("oh"))
    async with AgentLoop(llm, extensions=[Todo()]) as loop:
        session = (await loop.send("go")).session_id
        assert todo_list(await loop.get_messages(session)) == ()
        await check_log(loop, session)
    assert said(llm.requests[-1].messages) == []


async def test_a_list_that_is_forgotten_is_brought_to_mind_every_five_rounds() -> None:
    """As long as something is in progress; the reminder stays where it was said."""
    llm = Scripted(writes(1, "> read", "write"), *map(looks, range(12)), says("done"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[look], extensions=[Todo()]) as loop:
            session = (await loop.send("go")).session_id
            await check_log(loop, session)
    counts = [len(said(request.messages, REMINDER_META)) for request in llm.requests]
    assert counts == [0] * 6 + [1] * 5 + [2] * 3
    metas = [m.meta for m in llm.requests[-1].messages if m.meta is not None]
    # So that no guard takes it for news.
    assert {meta[POLICY_META] for meta in metas} == {"todo"}
    assert said(llm.requests[-1].messages, REMINDER_META)[0] == (
        "You have not touched your todo list for 5 rounds. In progress there is: read. "
        "Bring the list up to date if that is not so any more."
    )
    assert is_append_only(llm.requests)


@pytest.mark.parametrize("given", [(), ("read", "write"), ("x read", "write")])
async def test_nobody_is_reminded_while_nothing_is_in_progress(given: Sequence[str]) -> None:
    """A list that rests is not forgotten."""
    llm = Scripted(writes(1, *given), *map(looks, range(7)), says("done"))
    async with AgentLoop(llm, tools=[look], extensions=[Todo()]) as loop:
        await loop.send("go")
    assert said(llm.requests[-1].messages, REMINDER_META) == []


async def test_a_reminder_is_nothing_new_to_a_guard_against_repetition() -> None:
    """A model that goes round in circles is stopped, however often it is told of its list."""
    by = {0: writes(1, "> read")}
    llm = Scripted(
        by=lambda r: by.get(
            n := sum(m.role == "assistant" for m in r.messages),
            calls((f"l{n}", "look", {"at": 1})),
        )
    )
    extensions = [Todo(), Policies(RepetitionGuard(warn=6, refuse=7, stop=8))]
    config = AgentConfig(max_rounds=40)
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[look], extensions=extensions, config=config) as loop:
            result = await loop.send("go")
            await check_log(loop, result.session_id)
    assert result.status == "no_progress"
    assert len(said(llm.requests[-1].messages, REMINDER_META)) >= 1


async def test_a_crash_right_after_a_list_was_written_loses_nothing() -> None:
    """Another process finds the result in the transcript, and says what was still to be said."""
    store = MemoryStore()
    llm = Scripted(writes(1, "> read"), says("done"))
    async with AgentLoop(llm, store=store, extensions=[Todo()]) as loop:
        session = (await loop.send("go")).session_id
        log = await log_of(loop, session)
        at = next(n for n, record in enumerate(log, 1) if isinstance(record, ToolSettled))
        # A copy that ends there is as a process has left it that died there.
        crashed = await loop.fork(session, at)
    later = Scripted(looks(1), says("done"))
    with anyio.fail_after(10):
        async with AgentLoop(later, store=store, tools=[look], extensions=[Todo()]) as loop:
            assert (await loop.resume(crashed)).status == "completed"
            await check_log(loop, crashed, only_last=True)
    assert said(later.requests[0].messages) == ["Your todo list:\n[>] read"]
    assert said(later.requests[-1].messages) == ["Your todo list:\n[>] read"]


async def test_a_rewound_session_has_the_list_of_that_time() -> None:
    """And a later change is said, though a list had been said before in the same process."""
    llm = Scripted(
        writes(1, "> read"), says("one"), writes(2, "x read"), says("two"), writes(3), says("three")
    )
    with anyio.fail_after(10):
        async with AgentLoop(llm, extensions=[Todo()]) as loop:
            session = (await loop.send("1")).session_id
            at = len(await loop.store.read(session))
            await loop.send("2", session)
            assert todo_list(await loop.get_messages(session)) == (TodoItem("read", "completed"),)
            await loop.rewind(session, at=at)
            messages = await loop.get_messages(session)
            assert todo_list(messages) == (TodoItem("read", "in_progress"),)
            await loop.send("3", session)
            await check_log(loop, session)
    assert said(llm.requests[-1].messages) == [
        "Your todo list:\n[>] read",
        "Your todo list is empty.",
    ]


@pytest.mark.parametrize("how", ["skipped", "edited", "rewritten"])
async def test_a_list_that_was_not_written_so_does_not_count(how: str) -> None:
    """Its call was kept from running, or something else was written than what was asked for."""
    hooks = Hooks()

    @hooks.on(TOOL_BEFORE, order=-1)
    def guard(context: ToolBefore[Any]) -> ToolBefore[Any] | Skip | Suspend | None:
        match how:
            case "skipped":
                return Skip("Not now.")
            case "edited":
                return Suspend("may it?")
            case _:
                text = context.arguments.replace('"a"', '"b"')
                return msgspec.structs.replace(context, arguments=text)

    llm = Scripted(writes(1, "> a"), says("done"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, extensions=[Todo()], hooks=hooks) as loop:
            result = await loop.send("go")
            session = result.session_id
            for call in await loop.get_pending(session):
                result = await loop.resume(session, answers=[approve(call.token, items("> b"))])
            assert result.status == "completed"
            await check_log(loop, session)
            assert todo_list(await loop.get_messages(session)) == ()
    assert said(llm.requests[-1].messages) == []


async def test_text_that_no_provider_takes_is_repaired_before_it_is_said() -> None:
    """It comes in as an escape of JSON, which is sound in itself."""
    llm = Scripted(
        calls(("t1", "todo", '{"items": [{"text": "a\\u0000", "status": "pending"}]}')),
        says("done"),
    )
    async with AgentLoop(llm, extensions=[Todo()]) as loop:
        await check_log(loop, (await loop.send("go")).session_id)
    assert said(llm.requests[-1].messages) == ["Your todo list:\n[ ] a\u2400"]


async def test_a_sub_agent_has_a_list_of_its_own() -> None:
    """In its own session; without the tool it is told nothing of lists."""
    worker = SubAgent("worker", "Works.")
    other = SubAgent("other", "Works.", tools=[look])
    by = iter([writes(1, "> mine")])

    def reply(request: LLMRequest) -> Reply:
        task = request.messages[0].text
        if task == "go" and len(request.messages) == 1:
            return calls(("a", "worker", {"task": "work"}))
        if task == "work":
            return next(by, says("worked"))
        if task == "go" and len(request.messages) == 3:
            return calls(("b", "other", {"task": "look"}))
        return says("done")

    llm = Scripted(by=reply)
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[worker, other], extensions=[Todo()]) as loop:
            session = (await loop.send("go")).session_id
            await check_log(loop, session)
            assert todo_list(await loop.get_messages(session)) == ()
            below = await loop.get_messages(f"{session}/a")
            assert todo_list(below) == (TodoItem("mine", "in_progress"),)
    systems = {request.messages[0].text: request.system for request in llm.requests}
    assert systems["go"] == systems["work"]
    assert systems["look"] is None


def test_notes_of_the_application_under_the_same_key_are_its_own() -> None:
    """They are no list, and break nothing."""
    note = Message("user", Message.user("x").parts, meta={LIST_META: "buy milk"})
    assert todo_list([note]) == ()


STEPS = st.one_of(
    st.tuples(st.just("write"), st.lists(st.sampled_from(["a", "> b", "x c"]), max_size=3)),
    st.tuples(st.just("skip"), st.lists(st.sampled_from(["d", "x e"]), max_size=2)),
    st.tuples(st.sampled_from(["look", "talk", "die"]), st.none()),
    st.tuples(st.just("compact"), st.integers(0, 60)),
)


@given(st.lists(STEPS, max_size=25))
def test_no_compaction_and_no_crash_loses_the_list(steps: list[tuple[str, Any]]) -> None:
    """Wherever it cuts: what is in view at a request tells the newest list, and says it once."""
    history = History(Todo)
    newest: tuple[TodoItem, ...] = ()
    history.user("go")
    for kind, value in steps:
        match kind:
            case "write":
                # As the model does it that has read the tool's description.
                values = items(*dict.fromkeys(value))
                newest = tuple([TodoItem(**each) for each in values["items"]])
                done = sum(item.status == "completed" for item in newest)
                doing = "; now: b" if "> b" in value else ""
                told = f"Written: {done} of {len(newest)} completed{doing}"
                history.answer(("todo", values, told))
            case "skip":
                history.answer(("todo", items(*value), "Not now."))
            case "look":
                history.answer(("look", {"at": 1}, "nothing"))
            case "talk":
                history.answer()
                history.user("and now?")
            case "die":
                history.die()
                continue
            case _:
                history.compact(min(value, len(history.backing)))
        history.begin_round()
        assert history.begin_round() == [], "it was said already"
        assert todo_list(history.view) == newest
        shown = [m for m in history.view if m.meta and LIST_META in m.meta]
        if newest:
            assert shown[-1].text.splitlines()[1:] == list(map(str, newest))
