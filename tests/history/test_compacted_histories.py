"""Back in a session that was compacted several times, with a memory and outputs kept elsewhere."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from llm_client.types import LLMRequest, Message
from power_loop import (
    AgentConfig,
    AgentLoop,
    FactMemory,
    MemoryStore,
    OutputPolicy,
    export_session,
    import_session,
    recall_compacted_tool,
    tool,
)
from power_loop.errors import UsageError
from power_loop.runtime.compaction.results import ToolResultCompactor
from power_loop.runtime.compaction.summary import DefaultCompactor
from power_loop.session.machine import Session
from power_loop.session.records import ModelAsked, Recalled, Record, ToolSettled, ViewChanged
from power_loop.session.view import ARTIFACT_META
from power_loop.tools.context import ToolContext
from tests.agent.scripted import Reply, Scripted
from tests.agent.stores import records_of
from tests.agent.support import EVERY_STORE, StoreKind, check_log, log_of, opened_store
from tests.agent.test_compaction import SUMMARY, WORDS, calls, is_summary, says
from tests.session.checker import violations
from tests.session.compactions import compaction_faults

pytestmark = pytest.mark.anyio

LOOKS = 6
"""Calls in each of three runs."""
CHANGES = ["tool_results", "summary"] * 2


@tool(idempotent=True, output=OutputPolicy.spill(600))
async def look(at: int) -> str:
    """Looks; each third time at more than can be shown."""
    return f"ship {at}: {WORDS * (9 if at % 3 == 0 else 1)}"


class Model(Scripted):
    """Looks some times in each run, then answers; has facts and summaries where it is asked."""

    def __init__(self) -> None:
        super().__init__(by=self._reply)

    def _reply(self, request: LLMRequest) -> Reply:
        if is_summary(request):
            return says(SUMMARY)
        if (request.system or "").startswith("You keep the long-term memory"):
            return says('["Ada counts ships"]')
        said = [m for m in request.messages if m.name is None]
        seen = [str(m.parts) for m in said if m.role == "tool"]
        at = int(seen[-1].split("ship ")[1].split(":")[0]) if seen else 0
        if said[-1].role == "tool" and at % LOOKS == 0:
            return says("All is counted.")
        return calls((f"c{len(self.requests)}", "look", {"at": at + 1}))


@asynccontextmanager
async def loop_on(store: Any) -> AsyncGenerator[AgentLoop[Any]]:
    """A loop in a process of its own."""
    config = AgentConfig(
        context_window=1600,
        max_output_tokens=100,
        memory=FactMemory(store.notes),
        compactors=[ToolResultCompactor(keep_newest=1, size_limit=500), DefaultCompactor()],
    )
    llm = Model()
    async with AgentLoop(llm, tools=[look], store=store, config=config) as loop:
        yield loop
    assert llm.illegal == []


async def talked(store: Any) -> str:
    """A session of three runs."""
    await store.create("s")
    async with loop_on(store) as loop:
        for number in range(3):
            result = await loop.send(f"Count on, {number}.", "s", user="ada")
            assert result.final_text == "All is counted."
    return "s"


def changes(log: Sequence[Record]) -> list[str]:
    """By what the view was made smaller."""
    return [record.by for record in log if isinstance(record, ViewChanged)]


def views(log: Sequence[Record]) -> list[list[Message] | None]:
    """What a session showed after each of its records; None where calls were open."""
    past, found = Session("s"), list[list[Message] | None]()
    for record in log:
        past.apply(record)
        found.append(None if past.open_calls else list(past.view))
    return found


@pytest.mark.parametrize("kind", EVERY_STORE)
async def test_it_replays_to_the_byte_also_from_an_archive(kind: StoreKind, tmp_path: Path) -> None:
    """In a process, and a store, that have lived nothing of it; no model is asked."""
    async with opened_store(kind, tmp_path) as store:
        session = await talked(store)
        async with loop_on(store) as loop:
            log = await check_log(loop, session)
            view = await loop.get_messages(session)
        await export_session(store, session, tmp_path / "s.jsonl")
    assert compaction_faults(log) == []
    assert changes(log) == CHANGES
    assert [type(r) for r in log].count(Recalled) == 2, "nothing was known at first"
    asked = [record.purpose for record in log if isinstance(record, ModelAsked)]
    assert (asked.count("compaction"), asked.count("memory")) == (CHANGES.count("summary"), 3)
    elsewhere = MemoryStore()
    copy = await import_session(elsewhere, tmp_path / "s.jsonl")
    async with loop_on(elsewhere) as loop:
        assert await check_log(loop, copy) == log
        assert list(await loop.get_messages(copy)) == list(view)


async def test_wherever_it_is_forked_the_copy_goes_on_and_replays() -> None:
    """With the view that there was, and all outputs that were kept by then, also in the middle of a
    summary or of what memory asks."""
    store = MemoryStore()
    session = await talked(store)
    log = records_of(await store.read(session))
    shown = views(log)
    in_the_middle = kept_elsewhere = 0
    for at, record in enumerate(log, 1):
        async with loop_on(store) as loop:
            fork = await loop.fork(session, at)
            view = shown[at - 1]
            assert view is None or list(await loop.get_messages(fork)) == view
            if (await store.info(fork)).status == "forked":
                await loop.resume(fork)
            done = await loop.send("And on.", fork, user="ada")
            assert done.status == "completed"
            copied = await check_log(loop, fork)
            for each in copied:
                kept_elsewhere += await can_be_read(store, fork, each)
        assert copied[:at] == log[:at]
        assert compaction_faults(copied) == [], at
        in_the_middle += isinstance(record, ModelAsked) and bool(record.purpose)
    assert kept_elsewhere > len(log)
    assert in_the_middle == CHANGES.count("summary") + 3


async def can_be_read(store: MemoryStore, session: str, record: Record) -> bool:
    """Reads what is kept of a result elsewhere, whole; whether something is."""
    meta = record.message.meta if isinstance(record, ToolSettled) else None
    if meta is None or ARTIFACT_META not in meta:
        return False
    page = await store.read_artifact(session, meta[ARTIFACT_META])
    assert page.text.endswith(WORDS * 9)
    return True


async def test_wherever_it_is_rewound_to_it_shows_what_it_had_shown() -> None:
    """To before any of the compactions, and back again to after them; it goes on from either."""
    store = MemoryStore()
    session = await talked(store)
    log = records_of(await store.read(session))
    shown = views(log)
    async with loop_on(store) as loop:
        for at, view in enumerate(shown[:-1], 1):
            if view is None:
                with pytest.raises(UsageError, match="calls of session 's' were open"):
                    await loop.rewind(session, at=at)
                continue
            await loop.rewind(session, at=at)
            assert list(await loop.get_messages(session)) == view
            await loop.rewind(session, at=len(log))
            assert list(await loop.get_messages(session)) == shown[-1]
        gone_back = await log_of(loop, session)
        assert gone_back[: len(log)] == log
        assert violations(gone_back, closed=True) == []
        first = next(at for at, record in enumerate(log) if isinstance(record, ViewChanged))
        await loop.rewind(session, at=first)
        assert not any(m.name == "compact_note" for m in await loop.get_messages(session))
        done = await loop.send("And on.", session, user="ada")
        assert done.final_text == "All is counted."
        await check_log(loop, session)


async def test_a_copy_reads_again_what_had_left_the_view_of_its_original() -> None:
    """And one of before the first compaction has nothing to read again."""
    store = MemoryStore()
    session = await talked(store)
    log = records_of(await store.read(session))
    first = next(at for at, record in enumerate(log) if isinstance(record, ViewChanged))
    recall = recall_compacted_tool(store)
    async with loop_on(store) as loop:
        whole, before = await loop.fork(session), await loop.fork(session, first)
        told = [
            (await recall.invoke('{"search": "ship 1:"}', ToolContext.for_test(session_id=id))).text
            for id in (session, whole, before)
        ]
    assert told[0] == told[1]
    assert told[0].count("ship 1:") == 1
    assert told[2] == "[Nothing with 'ship 1:' has left your view from message 0 on]"
