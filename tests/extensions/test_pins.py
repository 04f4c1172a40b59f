"""Pins: what is noted stays in view, word for word, and nothing is noted twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_client.types import LLMRequest, Message, Text, ToolResult
from power_loop import AgentConfig, AgentLoop, Hooks, MemoryStore, approve
from power_loop.errors import UsageError
from power_loop.extensions import Pins, pinned
from power_loop.extensions.pins import CALL_META
from power_loop.governance import Policies, ToolAllowlist
from power_loop.hooks import SESSION_START, TOOL_BEFORE, SessionStart, Suspend, ToolBefore
from power_loop.session.pins import PINNED_META, standing_pins
from power_loop.session.records import ToolSettled
from power_loop.session.view import POLICY_META
from tests.agent.scripted import Reply, Scripted, calls, says
from tests.agent.support import check_log, log_of
from tests.extensions.histories import History, is_append_only

pytestmark = pytest.mark.anyio


def fact(n: int, *texts: str) -> Reply:
    return calls(*[(f"f{n}.{at}", "pin_fact", {"fact": text}) for at, text in enumerate(texts)])


def failed(n: int, approach: str, why: str) -> Reply:
    return calls((f"x{n}", "note_failed_approach", {"approach": approach, "why": why}))


def said(messages: Sequence[Message]) -> list[str]:
    return [m.text for m in messages if m.meta is not None and CALL_META in m.meta]


def results(request: LLMRequest) -> list[str]:
    return [p.text for m in request.messages for p in m.parts if isinstance(p, ToolResult)]


async def test_notes_are_pinned_as_the_next_round_begins() -> None:
    """In the order in which they were made, and no request is rewritten."""
    llm = Scripted(
        fact(1, "The key is\n 4711.", "Ann decides."),
        failed(1, "Guess the key", "it locks"),
        says("done"),
    )
    with anyio.fail_after(10):
        async with AgentLoop(llm, extensions=[Pins()]) as loop:
            session = (await loop.send("go")).session_id
            await check_log(loop, session)
            messages = await loop.get_messages(session)
    assert (
        said(messages)
        == results(llm.requests[-1])
        == [
            "Pinned fact: The key is 4711.",
            "Pinned fact: Ann decides.",
            "Failed approach, not to be tried again: Guess the key. Why: it locks",
        ]
    )
    assert [m.text for m in standing_pins(messages)] == said(messages)
    metas = [m.meta for m in messages if m.meta is not None]
    # So that no guard takes them for news.
    assert {meta[POLICY_META] for meta in metas} == {"pins"}
    assert is_append_only(llm.requests)
    assert "pin_fact" in (llm.requests[0].system or "")


async def test_limits_are_kept_within_one_answer_too() -> None:
    """What is over them is refused with what there is; so is what is in view already."""
    llm = Scripted(
        fact(1, "one", "one", "two", "three"),
        fact(2, "one", "four"),
        failed(3, "x", "y"),
        says("ok"),
    )
    with anyio.fail_after(10):
        async with AgentLoop(llm, extensions=[Pins(most=3)]) as loop:
            session = (await loop.send("go")).session_id
            await check_log(loop, session)
            messages = await loop.get_messages(session)
    assert said(messages) == ["Pinned fact: one", "Pinned fact: two", "Pinned fact: three"]
    told = results(llm.requests[-1])
    assert told[1] == told[4] == "[not noted] It is in view already."
    assert (
        told[5]
        == told[6]
        == (
            "[not noted] A session may keep 3 notes of 8,000 characters in all, and has 3 of 50. "
            "Go on with those."
        )
    )


async def test_notes_have_so_many_characters_together() -> None:
    """A short one may still fit where a long one does not."""
    llm = Scripted(fact(1, "a" * 20, "b" * 20, "c"), says("ok"))
    async with AgentLoop(llm, extensions=[Pins(characters=50)]) as loop:
        session = (await loop.send("go")).session_id
        await check_log(loop, session)
        assert said(await loop.get_messages(session)) == [
            f"Pinned fact: {'a' * 20}",
            "Pinned fact: c",
        ]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("pin_fact", {"fact": ""}),
        ("pin_fact", {"fact": " \n"}),
        ("pin_fact", {"fact": "x" * 1_001}),
        ("pin_fact", {}),
        ("note_failed_approach", {"approach": "a", "why": " "}),
        ("note_failed_approach", {"approach": "a"}),
        ("pin_fact", "[]"),
    ],
)
async def test_what_is_no_note_is_refused(name: str, arguments: Any) -> None:
    """The model is told, and nothing is pinned."""
    llm = Scripted(calls(("a", name, arguments)), says("oh"))
    async with AgentLoop(llm, extensions=[Pins()]) as loop:
        session = (await loop.send("go")).session_id
        await check_log(loop, session)
        messages = await loop.get_messages(session)
    assert said(messages) == []
    (part,) = [p for m in messages for p in m.parts if isinstance(p, ToolResult)]
    assert part.is_error


@pytest.mark.parametrize(("most", "characters"), [(0, 1), (1, 0), (True, 1), (1, 1.5), ("1", 1)])
def test_limits_are_whole_numbers_over_0(most: Any, characters: Any) -> None:
    """Named, with what was given."""
    with pytest.raises(UsageError, match="must be a whole number from 1"):
        Pins(most=most, characters=characters)


async def test_what_a_policy_has_refused_is_not_pinned() -> None:
    """What counts is that the tool has said so itself."""
    llm = Scripted(fact(1, "one"), says("oh"))
    policies = Policies(ToolAllowlist(["note_failed_approach"]))
    async with AgentLoop(llm, extensions=[Pins(), policies]) as loop:
        session = (await loop.send("go")).session_id
        await check_log(loop, session)
        assert said(await loop.get_messages(session)) == []


async def test_what_a_person_has_made_of_a_note_is_pinned() -> None:
    """Not what the model had asked for."""
    hooks = Hooks()

    @hooks.on(TOOL_BEFORE, order=-1)
    def ask(_: ToolBefore[Any]) -> Suspend:
        return Suspend("a fact?")

    llm = Scripted(fact(1, "It is late."), says("done"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, extensions=[Pins()], hooks=hooks) as loop:
            session = (await loop.send("go")).session_id
            (call,) = await loop.get_pending(session)
            edited = approve(call.token, {"fact": "It is early."})
            assert (await loop.resume(session, answers=[edited])).status == "completed"
            await check_log(loop, session)
    assert said(llm.requests[-1].messages) == ["Pinned fact: It is early."]


async def test_a_crash_right_after_a_note_loses_it_not_and_says_it_once() -> None:
    """Whoever goes on finds in the transcript what is still to be said."""
    store = MemoryStore()
    async with AgentLoop(
        Scripted(fact(1, "one"), says("x")), store=store, extensions=[Pins()]
    ) as loop:
        session = (await loop.send("go")).session_id
        log = await log_of(loop, session)
        at = next(n for n, record in enumerate(log, 1) if isinstance(record, ToolSettled))
        # A copy that ends there is as a process has left it that died there.
        crashed = await loop.fork(session, at)
    llm = Scripted(fact(2, "two"), says("done"), says("again"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, store=store, extensions=[Pins()]) as loop:
            await loop.resume(crashed)
            await loop.send("more", crashed)
            await check_log(loop, crashed, only_last=True)
    assert said(llm.requests[0].messages) == ["Pinned fact: one"]
    assert said(llm.requests[-1].messages) == ["Pinned fact: one", "Pinned fact: two"]


async def test_a_note_of_the_last_round_is_pinned_by_the_next_run() -> None:
    """The last word of a run that has used its rounds up begins no round."""
    llm = Scripted(fact(1, "one"), says("no more rounds"), says("done"))
    config = AgentConfig(max_rounds=1)
    async with AgentLoop(llm, config=config, extensions=[Pins()]) as loop:
        result = await loop.send("go")
        assert result.status == "round_limit"
        await loop.send("more", result.session_id)
        await check_log(loop, result.session_id)
    assert [said(request.messages) for request in llm.requests] == [[], [], ["Pinned fact: one"]]


async def test_what_was_rewound_can_be_noted_again() -> None:
    """It is in view no more."""
    llm = Scripted(says("hi"), fact(1, "one"), says("x"), fact(2, "one"), says("y"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, extensions=[Pins(most=1)]) as loop:
            session = (await loop.send("1")).session_id
            at = len(await loop.store.read(session))
            await loop.send("2", session)
            await loop.rewind(session, at=at)
            assert said(await loop.get_messages(session)) == []
            await loop.send("3", session)
            await check_log(loop, session)
    assert said(llm.requests[-1].messages) == ["Pinned fact: one"]


# ── pins of the host ─────────────────────────────────────────────────────────────────────────────


async def test_a_host_pins_what_it_sends_steers_and_appends() -> None:
    """Under a name, a later one stands in for an earlier one."""
    hooks = Hooks()

    @hooks.on(SESSION_START)
    def start(context: SessionStart[Any]) -> SessionStart[Any]:
        return msgspec.structs.replace(context, append=(pinned("Be careful."),))

    llm = Scripted(says("one"), says("two"))
    async with AgentLoop(llm, hooks=hooks) as loop:
        session = (await loop.send(pinned("The branch is a.", "branch"))).session_id
        await loop.steer(session, pinned("The branch is b.", "branch"))
        await loop.send("go on", session)
        messages = await loop.get_messages(session)
    assert [m.text for m in standing_pins(messages)] == [
        "Be careful.",
        "Be careful.",
        "The branch is b.",
    ]


@pytest.mark.parametrize(("text", "name"), [(" ", ""), ("\x00", ""), ("a", "\ud800")])
def test_a_pin_that_cannot_be_kept_is_refused(text: str, name: str) -> None:
    """Where it is made."""
    with pytest.raises(UsageError, match="pin"):
        pinned(text, name)


def test_only_users_and_the_system_pin() -> None:
    """A model does not keep its own words in view for ever."""
    meta = {PINNED_META: ""}
    messages = [
        Message("assistant", (Text("mine"),), meta=meta),
        Message("system", (Text("theirs"),), meta=meta),
        Message("user", (Text("not"),), meta={"other": ""}),
        Message("user", (Text("ours"),), meta=meta),
    ]
    assert [m.text for m in standing_pins(messages)] == ["theirs", "ours"]


STEPS = st.one_of(
    st.tuples(st.just("pin"), st.integers(0, 9)),
    st.tuples(st.just("refused"), st.integers(0, 9)),
    st.tuples(st.sampled_from(["look", "die"]), st.none()),
    st.tuples(st.sampled_from(["compact", "rewind"]), st.integers(0, 60)),
)


@given(st.lists(STEPS, max_size=25))
def test_each_note_is_in_view_once_whatever_happens(steps: list[tuple[str, Any]]) -> None:
    """Through compactions, crashes and, as far as they go back, rewinds."""
    history = History(Pins)
    history.user("go")
    for kind, value in steps:
        before = said(history.view)
        match kind:
            case "pin":
                history.answer(("pin_fact", {"fact": f"f{value}"}, f"Pinned fact: f{value}"))
                before.append(f"Pinned fact: f{value}")
            case "refused":
                history.answer(("pin_fact", {"fact": f"f{value}"}, "[not noted] No."))
            case "look":
                history.answer(("look", {}, "Pinned fact: a lie"))
            case "die":
                history.die()
            case "compact":
                history.compact(min(value, len(history.backing)))
            case _:
                history.rewind(min(value, len(history.backing)))
                before = said(history.view)
                history.begin_round()
                added = [text for text in said(history.view) if text not in before]
                assert all("lie" not in text for text in added)
                continue
        history.begin_round()
        assert said(history.view) == before
        assert history.begin_round() == []
