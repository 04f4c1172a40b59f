"""Strategies one after the other, and compactions one after the other, in the life of a session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from llm_client.errors import ContextOverflow, ServerError
from llm_client.types import LLMRequest, Opaque, Text
from power_loop import AgentConfig, AgentLoop, Hooks, approve, recall_compacted_tool, tool
from power_loop.events import CompactionRejected, Stamped
from power_loop.extensions import pinned
from power_loop.hooks import TOOL_BEFORE, Suspend
from power_loop.runtime.compaction.native import NativeCompactor
from power_loop.runtime.compaction.summary import DefaultCompactor
from power_loop.session.records import ModelAsked, ModelEnded, Record, ViewChanged
from power_loop.tools.context import ToolContext
from tests.agent.scripted import Reply, Scripted, fails
from tests.agent.support import EVERY_STORE, StoreKind, check_log, events_of, opened_store
from tests.agent.test_compaction import SUMMARY, WORDS, calls, is_summary, says, summaries, talk
from tests.session.compactions import compaction_faults

pytestmark = pytest.mark.anyio

CHAIN = (NativeCompactor(), DefaultCompactor())


def strategies(log: Sequence[Record]) -> list[str]:
    """By what the view was made smaller."""
    return [record.by for record in log if isinstance(record, ViewChanged)]


# ── a provider that was to compact by itself ──────────────────────────────────────────────────────


class Willing(Scripted):
    """A provider that takes the wish to compact, whatever it makes of it."""

    def check(self, request: LLMRequest) -> None:
        """It can."""


def with_block(json: str) -> Reply:
    """An answer behind something that calls itself a compaction."""
    return replace(says(WORDS), parts=(Opaque("anthropic", "compaction", json), Text(WORDS)))


@pytest.mark.parametrize(
    "answer",
    [
        lambda: says(WORDS),
        lambda: with_block('{"type":"compaction","content":null,"encrypted_content":null}'),
        lambda: with_block('{"type":"compaction","content":""}'),
        lambda: with_block("[[["),
        lambda: with_block("null"),
    ],
    ids=["nothing", "failed", "empty", "no json", "null"],
)
async def test_where_a_provider_has_not_compacted_the_next_strategy_does(
    answer: Callable[[], Reply],
) -> None:
    """It is wished for in every request but those for a summary, and asked for one summary each
    time the prompt is too large."""
    llm = Willing(by=lambda request: says(SUMMARY) if is_summary(request) else answer())
    config = AgentConfig(context_window=1200, max_output_tokens=100, compactors=CHAIN)
    async with AgentLoop(llm, config=config) as loop:
        session = await talk(loop, 12)
        log = await check_log(loop, session)
        notes = [m for m in await loop.get_messages(session) if m.name == "compact_note"]
    assert compaction_faults(log) == []
    assert strategies(log) == ["summary"] * 2
    assert len(summaries(llm)) == 2
    assert {request.compact_at for request in summaries(llm)} == {None}
    assert {r.compact_at for r in llm.requests if not is_summary(r)} == {720}
    assert len(notes) == 1
    assert llm.illegal == []


async def test_a_provider_that_refuses_a_prompt_it_was_to_compact_is_asked_once_more() -> None:
    """With a summary that the next strategy has made; nobody knew its window."""

    def by(request: LLMRequest) -> Reply:
        if is_summary(request):
            return says(SUMMARY)
        size = sum(len(message.text) for message in request.messages)
        return fails(ContextOverflow("too long", status=400)) if size > 6000 else says(WORDS)

    llm = Willing(by=by)
    native = NativeCompactor(ask_at=700)
    async with AgentLoop(llm, config=AgentConfig(compactors=[native, DefaultCompactor()])) as loop:
        session = await talk(loop, 10)
        log = await check_log(loop, session)
    assert {r.compact_at for r in llm.requests if not is_summary(r)} == {700}
    assert strategies(log) == ["summary"]
    assert [r.status for r in log if isinstance(r, ModelEnded)].count("failed") == 1
    assert len(summaries(llm)) == 1
    assert llm.illegal == []


async def test_where_neither_the_provider_nor_a_summary_helps_one_call_was_made_in_vain() -> None:
    """Each time; the run goes on with what the rules leave, and readers are told by whom."""
    llm = Willing(
        by=lambda request: fails(ServerError("down")) if is_summary(request) else says(WORDS)
    )
    seen: list[Stamped] = []
    config = AgentConfig(
        context_window=1200, max_output_tokens=100, compactors=(*CHAIN, DefaultCompactor())
    )
    async with AgentLoop(llm, config=config) as loop:
        loop.events.subscribe(seen.append)
        session = await talk(loop, 12)
        log = await check_log(loop, session)
    changes = strategies(log)
    assert changes == ["trim"] * 3
    assert len(summaries(llm)) == 3
    told = [event.reason for event in events_of(CompactionRejected, seen)]
    once = "CompactionRefused: the model has been asked once, which is all there is"
    assert told == ["ServerError: down", once] * 3


@pytest.mark.parametrize(("length", "trims"), [(1, 4), (80, 5), (180, 4)])
async def test_a_summary_stays_when_there_is_no_later_one(length: int, trims: int) -> None:
    """What the rules leave out since then is told behind it, and neither as words of the user's.
    Where there is little room a long one loses its middle; how it was made is still known."""
    made = [0]
    told = f"Berth 7 is closed. {'The book is blue. ' * length}Berth 9 is open."

    def by(request: LLMRequest) -> Reply:
        if not is_summary(request):
            return says(WORDS)
        made[0] += 1
        return says(told) if made[0] == 1 else fails(ServerError("down"))

    config = AgentConfig(
        context_window=4000, max_output_tokens=100, compactors=[DefaultCompactor(keep_exchanges=1)]
    )
    async with AgentLoop(Scripted(by=by), config=config) as loop:
        session = await talk(loop, 60)
        log = await check_log(loop, session)
        (note,) = [m for m in await loop.get_messages(session) if m.name == "compact_note"]
    assert compaction_faults(log) == []
    assert strategies(log) == ["summary"] + ["trim"] * trims
    said, _, rest = note.text.partition("\n</summary>\n")
    assert said.startswith("<summary>\nBerth 7 is closed.")
    assert said.endswith("Berth 9 is open.")
    assert (said == f"<summary>\n{told}") == (length < 180)
    assert length < 180 or len(said) < 450
    assert "summary" not in rest
    assert "Berth" not in rest
    assert [line for line in rest.splitlines() if line.startswith("- ")] != []
    assert all(x.startswith("- Message") for x in rest.splitlines() if x.startswith("- "))
    assert dict(note.meta or {}) == {**DefaultCompactor().stamp("scripted"), "strategy": "trim"}


# ── several compactions in one life ───────────────────────────────────────────────────────────────

TASK = "Count all ships; begin at 1."
PIN = "Never moor at berth 7."
STEERED = "Count the boats as well."


class Life:
    """A session that is compacted several times: a person is asked after the first one, and says
    two things after the second."""

    def __init__(self, rounds: int, pays: int, told: int) -> None:
        self.llm = Scripted(by=self._reply)
        self._rounds = rounds
        self._pays = pays
        self._told = told
        self.loop: AgentLoop[Any]

        @tool
        async def look(at: int) -> str:
            """Looks."""
            if at == self._told:
                await self.loop.steer("s", pinned(PIN))
                await self.loop.steer("s", STEERED)
            return f"ship {at}: {WORDS}"

        @tool
        async def pay(amount: int) -> str:
            """Pays."""
            return f"paid {amount}"

        self.tools = [look, pay]

    def _reply(self, request: LLMRequest) -> Reply:
        made = len(summaries(self.llm))
        if is_summary(request):
            return says(f"Summary {made}.")
        at = len(self.llm.requests) - made
        if at == self._pays:
            return calls(("p", "pay", {"amount": 3}))
        if at > self._rounds:
            return says("Done.")
        return calls((f"l{at}", "look", {"at": at}))

    def asked(self) -> list[LLMRequest]:
        """The requests that are no summaries."""
        return [request for request in self.llm.requests if not is_summary(request)]


@pytest.mark.parametrize("kind", EVERY_STORE)
async def test_three_compactions_lose_neither_task_nor_pin_nor_what_was_hidden_first(
    kind: StoreKind, tmp_path: Path
) -> None:
    """With an approval and two messages between them: each summary has the one before it to go by,
    and what the first one hid can be read after the last."""
    hooks = Hooks()
    hooks.on(TOOL_BEFORE, lambda c: Suspend("money") if c.name == "pay" else None, name="money")
    life = Life(rounds=19, pays=9, told=14)
    config = AgentConfig(
        context_window=1600, max_output_tokens=100, max_rounds=60, compactors=CHAIN
    )
    async with opened_store(kind, tmp_path) as store:
        recall = recall_compacted_tool(store)
        async with AgentLoop(
            life.llm, store=store, config=config, tools=[*life.tools, recall], hooks=hooks
        ) as life.loop:
            loop = life.loop
            await store.create("s")
            waiting = await loop.send(TASK, "s")
            (pending,) = await loop.get_pending("s")
            before = await check_log(loop, "s")
            result = await loop.resume("s", answers=[approve(pending.token)])
            log = await check_log(loop, "s")
            view = await loop.get_messages("s")
            context = ToolContext.for_test(session_id="s")
            page = (await recall.invoke('{"search": "ship 1:"}', context)).text
            whole = (await recall.invoke('{"call_id": "l1"}', context)).text
    assert (waiting.status, result.final_text) == ("awaiting_approval", "Done.")
    assert strategies(before) == ["summary"]
    assert strategies(log) == ["summary"] * 3
    assert compaction_faults(log) == []
    assert [r.purpose for r in log if isinstance(r, ModelAsked)].count("compaction") == 3
    shown = [request.messages[0].text for request in summaries(life.llm)]
    for number, text in enumerate(shown):
        assert [f"Summary {n}." in text for n in range(1, 4)] == [n == number for n in range(1, 4)]
        assert PIN not in text
    assert {request.messages[0].text for request in life.asked()} == {TASK}
    told = [[m.text for m in request.messages].count(PIN) for request in life.asked()]
    assert told == [0] * 14 + [1] * 6
    assert sum(STEERED in [m.text for m in request.messages] for request in life.asked()) > 0
    notes = [m.text for m in view if m.name == "compact_note"]
    assert [text.startswith("<summary>\nSummary 3.\n</summary>") for text in notes] == [True]
    assert "ship 1:" not in str([m.parts for m in view])
    assert "recall_compacted" in notes[0]
    assert (page.count("#"), page.count("ship 1:")) == (1, 1)
    assert whole.endswith(f"ship 1: {WORDS}")
    assert life.llm.illegal == []
