"""What is interrupted while a view is made smaller, and while a memory recalls and remembers."""

from __future__ import annotations

from collections.abc import Sequence

import anyio.lowlevel
from msgspec.structs import replace

from llm_client.errors import ContextOverflow
from llm_client.types import LLMRequest, Message, Usage
from power_loop import AgentConfig, FactMemory, NoteMemory, ToolContext, tool
from power_loop.runtime.asking import Ask
from power_loop.runtime.memory.base import MemorySnapshot, RecallQuery
from power_loop.runtime.memory.tagging import is_memory
from tests.agent.cancel_world import Scenario, World, everywhere, send, stream
from tests.agent.scripted import Reply, calls, fails, says

__all__ = ["CONTEXT", "FACT", "KNOWN", "is_aside"]

KNOWN = "Berth 7 is closed."
"""What is remembered from before."""
FACT = "Ada counts ships."
"""What is found in each run."""
_ROUNDS = 4
_REFUSED = 3_500
"""Characters that are too many for the provider."""


@tool
async def read(context: ToolContext[World]) -> str:
    """Reads much."""
    context.deps.note("begin", context)
    await anyio.lowlevel.checkpoint()
    context.deps.note("done", context)
    return "A mast of fir, a sail of flax, a hull of oak. " * 25


def is_aside(request: LLMRequest) -> bool:
    """Whether a request is no part of the conversation."""
    return (request.system or "").startswith(("You shorten the record", "You keep the long-term"))


# ── the model ─────────────────────────────────────────────────────────────────────────────────────


def _reading(request: LLMRequest) -> Reply:
    """Reads more than the window holds; whoever asks for a summary or for facts gets them."""
    if is_aside(request):
        short = (request.system or "").startswith("You shorten the record")
        return _uncounted(says("Task: go." if short else f'["{FACT}"]'))
    last = [message for message in request.messages if not is_memory(message)][-1]
    if last.text == "go":
        return _uncounted(calls(("r1", "read", {})))
    done = int(last.id.removeprefix("r").removesuffix(".result")) if last.role == "tool" else 0
    if 0 < done < _ROUNDS:
        return _uncounted(calls((f"r{done + 1}", "read", {})))
    return _uncounted(says("it is read"))


def _refusing(request: LLMRequest) -> Reply:
    """The same, of a provider whose window nobody knows."""
    length = sum(len(str(message.parts)) for message in request.messages)
    if length > _REFUSED and not is_aside(request):
        return fails(ContextOverflow("too long", status=400))
    return _reading(request)


def _uncounted(reply: Reply) -> Reply:
    """What a provider counts would be learnt from."""
    return replace(reply, usage=Usage())


# ── the memory ────────────────────────────────────────────────────────────────────────────────────


class _Memory:
    """Facts and notes of the session, in a place that takes its time."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._notes = NoteMemory(world.store.notes, scopes=("session",))
        self._facts = FactMemory(world.store.notes, scopes=("session",))

    async def recall(self, query: RecallQuery) -> Sequence[Message]:
        await self._wait()
        await self._notes.write(query.scope, KNOWN, key=query.scope.session)
        await self._wait()
        return [*await self._notes.recall(query), *await self._facts.recall(query)]

    async def remember(self, snapshot: MemorySnapshot, ask: Ask | None) -> None:
        told = snapshot.scope.session, snapshot.run_id, snapshot.status
        self._world.remembered.append(told)
        await self._wait()
        await self._facts.remember(snapshot, ask)
        await self._wait()

    async def _wait(self) -> None:
        for _ in range(3):
            await anyio.lowlevel.checkpoint()


# ── the programs ──────────────────────────────────────────────────────────────────────────────────

_SMALL = AgentConfig(context_window=1_400, max_output_tokens=100)
_UNKNOWN = AgentConfig(max_output_tokens=100)

CONTEXT: tuple[Scenario, ...] = (
    Scenario("compaction", lambda: _reading, send, config=_SMALL, tools=(read,)),
    Scenario(
        "compaction with hooks",
        lambda: _reading,
        stream,
        config=_SMALL,
        tools=(read,),
        hooks=everywhere,
    ),
    Scenario("overflow", lambda: _refusing, stream, config=_UNKNOWN, tools=(read,)),
    Scenario("memory", lambda: _reading, send, memory=_Memory, tools=(read,)),
    Scenario(
        "memory and compaction",
        lambda: _reading,
        stream,
        config=_SMALL,
        memory=_Memory,
        tools=(read,),
    ),
)
