"""What is measured of power_loop: the same work, done by an `AgentLoop`."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from msgspec import Struct

from benchmarks.measuring import Open, Repeat, Watch, expect, kib_in, per_session, shares
from benchmarks.scenarios import ANSWER, PIECE, Sample, Size
from llm_client.codecs.openai_chat import OpenAIChatCodec
from llm_client.http_service import HttpLLMService
from llm_client.transport.httpx_transport import HttpxTransport
from power_loop import (
    AgentConfig,
    AgentLoop,
    Extension,
    Hooks,
    RunResult,
    SharedBudget,
    SQLiteStore,
    Stamped,
    Store,
    tool,
)
from power_loop.events import MessageAppended, RunClosed, TextDelta, ToolSettled
from power_loop.hooks import (
    LLM_AFTER,
    LLM_BEFORE,
    TOOL_AFTER,
    TOOL_BEFORE,
    LlmAfter,
    LlmBefore,
    ToolAfter,
    ToolBefore,
)

__all__ = [
    "PARTS",
    "Governed",
    "Opener",
    "Watched",
    "opened",
    "served",
    "sessions",
    "streamed",
    "text",
    "tools",
]

ASK = "What is the weather?"


@tool
async def weather(city: str, days: int) -> str:
    """Tells the weather."""
    return f"{city}: sunny for {days} days"


class Watched:
    """Hooks and a subscriber, as an application has them. They count what they see."""

    def __init__(self) -> None:
        self.hooks = Hooks()
        self.models = self.tools = self.events = 0
        self.hooks.on(LLM_BEFORE, self._before_model)
        self.hooks.on(LLM_AFTER, self._after_model)
        self.hooks.on(TOOL_BEFORE, self._before_tool)
        self.hooks.on(TOOL_AFTER, self._after_tool)

    def _before_model(self, context: LlmBefore) -> None:
        self.models += 1

    def _after_model(self, context: LlmAfter) -> None:
        self.models += 1

    def _before_tool(self, context: ToolBefore) -> None:
        self.tools += 1

    def _after_tool(self, context: ToolAfter) -> None:
        self.tools += 1

    def take(self, event: Stamped) -> None:
        self.events += 1


class Governed(Struct, frozen=True):
    """What limits a loop: its settings, what it shares with other loops, and its policies."""

    config: AgentConfig = AgentConfig(max_rounds=10_000)
    budget: SharedBudget | None = None
    extensions: tuple[Extension, ...] = ()


class Opener(Protocol):
    """Opens the loop of a part."""

    def __call__(
        self, url: str, model: str, *, watched: Watched | None = None, store: Store | None = None
    ) -> AbstractAsyncContextManager[AgentLoop]: ...


def served(url: str, model: str) -> HttpLLMService:
    """The client of a model at `url`; its owner closes it."""
    return HttpLLMService(
        OpenAIChatCodec(),
        HttpxTransport(),
        base_url=url,
        model=model,
        headers={"authorization": "Bearer benchmark-key"},
    )


@asynccontextmanager
async def opened(
    url: str,
    model: str,
    *,
    watched: Watched | None = None,
    store: Store | None = None,
    governed: Governed | None = None,
) -> AsyncGenerator[AgentLoop]:
    """A loop with one tool; with `watched`, also hooks and a subscriber."""
    governed = governed or Governed()
    service = served(url, model)
    loop = AgentLoop(
        service,
        tools=[weather],
        store=store,
        config=governed.config,
        budget=governed.budget,
        extensions=governed.extensions,
        hooks=None if watched is None else watched.hooks,
    )
    if watched is not None:
        loop.events.subscribe(watched.take, types={MessageAppended, ToolSettled, RunClosed})
    async with loop:
        yield loop
    await service.aclose()


def check(results: list[RunResult[None]], rounds: int) -> None:
    """Refuses runs that did not complete with the answer."""
    found = {(result.status, result.final_text, result.rounds) for result in results}
    expect(found, {("completed", ANSWER, rounds)}, "the results")


async def check_calls(loop: AgentLoop, session_id: str, calls: int) -> None:
    """Refuses a session without the results of `calls` calls."""
    messages = await loop.get_messages(session_id)
    found = [m.parts for m in messages if m.role == "tool"]
    expect(len(found), calls, "tool results")


@asynccontextmanager
async def text(url: str, size: Size, *, opener: Opener = opened) -> AsyncGenerator[Repeat]:
    watched = Watched()
    async with opener(url, "text", watched=watched) as loop:

        async def repeat() -> Mapping[str, Sample]:
            seen = watched.models
            watch = Watch()
            results = [await loop.send(ASK) for _ in range(size.texts)]
            sample = watch.sample(size.texts)
            check(results, 1)
            expect(watched.models - seen, 2 * size.texts, "hook calls")
            return {"a": sample}

        yield repeat


@asynccontextmanager
async def tools(
    url: str, size: Size, *, part: str, opener: Opener = opened
) -> AsyncGenerator[Repeat]:
    shape = size.tools(part)
    watched = Watched()
    async with opener(url, shape.model, watched=watched) as loop:

        async def repeat() -> Mapping[str, Sample]:
            seen = watched.tools
            watch = Watch()
            results = [await loop.send(ASK) for _ in range(size.loops)]
            sample = watch.sample(size.loops * shape.units)
            check(results, (size.rounds if part == "b" else size.batches) + 1)
            for result in results:
                await check_calls(loop, result.session_id, shape.calls)
            expect(watched.tools - seen, 2 * size.loops * shape.calls, "hook calls")
            return {part: sample}

        yield repeat


@asynccontextmanager
async def streamed(url: str, size: Size, *, opener: Opener = opened) -> AsyncGenerator[Repeat]:
    async with opener(url, f"stream:{size.chunks}") as loop:

        async def repeat() -> Mapping[str, Sample]:
            pieces: list[str] = []
            watch = Watch()
            async with loop.stream(ASK) as run:
                async for stamped in run:
                    event = stamped.event
                    if type(event) is TextDelta:
                        pieces.append(event.text)
            sample = watch.sample(size.chunks, 1e6)
            expect("".join(pieces), PIECE * size.chunks, "the text")
            expect((await run.result()).final_text, PIECE * size.chunks, "the final text")
            return {"d": sample}

        yield repeat


async def _together(loop: AgentLoop, size: Size) -> list[RunResult[None]]:
    sends = [loop.send(f"Session {number}") for number in range(size.sessions)]
    results = await asyncio.gather(*sends)
    check(results, size.steps)
    return results


@asynccontextmanager
async def sessions(url: str, size: Size, *, opener: Opener = opened) -> AsyncGenerator[Repeat]:
    async with opener(url, f"tools:{size.steps - 1}:1") as loop:

        async def repeat() -> Mapping[str, Sample]:
            watch = Watch()
            results = await _together(loop, size)
            sample = watch.sample(size.sessions * size.steps)
            for result in results:
                await check_calls(loop, result.session_id, size.steps - 1)
                await loop.close_session(result.session_id)
            return {"e": sample}

        yield repeat


@asynccontextmanager
async def memory(url: str, size: Size) -> AsyncGenerator[Repeat]:
    async with opened(url, f"tools:{size.steps - 1}:1") as loop:

        async def repeat() -> Mapping[str, Sample]:
            check([await loop.send(ASK)], size.steps)
            return {"e.memory": await per_session(partial(_together, loop, size), size.sessions)}

        yield repeat


@asynccontextmanager
async def history(url: str, size: Size) -> AsyncGenerator[Repeat]:
    async with opened(url, "text") as loop:
        short = (await loop.send(ASK)).session_id
        long = (await loop.send(ASK)).session_id
        for session_id, length in (short, 19), (long, size.history - 1):
            while len(await loop.get_messages(session_id)) < length:
                await loop.send(ASK, session_id)

        async def turns(session_id: str) -> Sample:
            watch = Watch()
            results = [await loop.send(ASK, session_id) for _ in range(size.turns)]
            sample = watch.sample(size.turns)
            check(results, 1)
            return sample

        async def count() -> int:
            return len(await loop.get_messages(long)) - len(await loop.get_messages(short))

        async def repeat() -> Mapping[str, Sample]:
            beside = await count()
            at10, at1000 = await turns(short), await turns(long)
            expect(await count(), beside, "messages of the long history beside the short")
            slope = Sample((at1000.value - at10.value) * 1e3 / beside)
            return {"f": slope, "f.round10": at10, "f.round1000": at1000}

        yield repeat


@asynccontextmanager
async def stored(url: str, size: Size) -> AsyncGenerator[Repeat]:
    async def repeat() -> Mapping[str, Sample]:
        with tempfile.TemporaryDirectory() as name:
            return await _stored(url, size, Path(name))

    yield repeat


async def _stored(url: str, size: Size, directory: Path) -> Mapping[str, Sample]:
    store = SQLiteStore(directory / "ours.sqlite")
    async with opened(url, "tools:1:1", store=store) as loop:
        # The first connection is not what is measured; a floor that stays open has it already.
        session_id = (await loop.send(ASK)).session_id
        results: list[RunResult[None]] = []
        watch = Watch()
        with shares() as laps:
            for _ in range(size.stored - 1):
                results.append(await loop.send(ASK, session_id))
                laps.lap()
        sample = watch.sample(size.stored - 1)
        check(results, 2)
        await check_calls(loop, session_id, size.stored)
    await store.aclose()
    return {"g": sample, "g.growth": Sample(laps.growth()), "g.storage": kib_in(directory)}


PARTS: Mapping[str, Open] = MappingProxyType(
    {
        "a": text,
        "b": partial(tools, part="b"),
        "c": partial(tools, part="c"),
        "d": streamed,
        "e": sessions,
        "e.memory": memory,
        "f": history,
        "g": stored,
    }
)
