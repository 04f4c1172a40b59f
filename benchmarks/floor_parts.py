"""What is measured of the loop written by hand."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from benchmarks.floor import HandWritten, StoredHistory, opened
from benchmarks.measuring import Open, Repeat, Watch, expect, kib_in, per_session, shares
from benchmarks.scenarios import ANSWER, PIECE, Sample, Size

__all__ = ["PARTS"]


def asked(text: str = "What is the weather?") -> list[dict[str, Any]]:
    """A conversation that begins."""
    return [{"role": "user", "content": text}]


@asynccontextmanager
async def text(url: str, size: Size) -> AsyncGenerator[Repeat]:
    async with opened(url, "text") as loop:

        async def repeat() -> Mapping[str, Sample]:
            watch = Watch()
            answers = [await loop.run(asked()) for _ in range(size.texts)]
            sample = watch.sample(size.texts)
            expect(set(answers), {ANSWER}, "the answers")
            return {"a": sample}

        yield repeat


@asynccontextmanager
async def tools(url: str, size: Size, *, part: str) -> AsyncGenerator[Repeat]:
    shape = size.tools(part)
    async with opened(url, shape.model) as loop:

        async def repeat() -> Mapping[str, Sample]:
            used = loop.used
            watch = Watch()
            answers = [await loop.run(asked()) for _ in range(size.loops)]
            sample = watch.sample(size.loops * shape.units)
            expect(set(answers), {ANSWER}, "the answers")
            expect(loop.used - used, size.loops * shape.calls, "tool calls")
            return {part: sample}

        yield repeat


@asynccontextmanager
async def streamed(url: str, size: Size) -> AsyncGenerator[Repeat]:
    async with opened(url, f"stream:{size.chunks}") as loop:

        async def repeat() -> Mapping[str, Sample]:
            watch = Watch()
            pieces = [piece async for piece in loop.stream(asked())]
            sample = watch.sample(size.chunks, 1e6)
            expect("".join(pieces), PIECE * size.chunks, "the text")
            return {"d": sample}

        yield repeat


async def _together(loop: HandWritten, size: Size) -> list[list[dict[str, Any]]]:
    conversations = [asked(f"Session {i}") for i in range(size.sessions)]
    answers = await asyncio.gather(*[loop.run(messages) for messages in conversations])
    expect(set(answers), {ANSWER}, "the answers")
    return conversations


@asynccontextmanager
async def sessions(url: str, size: Size) -> AsyncGenerator[Repeat]:
    async with opened(url, f"tools:{size.steps - 1}:1") as loop:

        async def repeat() -> Mapping[str, Sample]:
            watch = Watch()
            conversations = await _together(loop, size)
            sample = watch.sample(size.sessions * size.steps)
            expect({len(each) for each in conversations}, {2 * size.steps}, "messages")
            return {"e": sample}

        yield repeat


@asynccontextmanager
async def memory(url: str, size: Size) -> AsyncGenerator[Repeat]:
    async with opened(url, f"tools:{size.steps - 1}:1") as loop:

        async def repeat() -> Mapping[str, Sample]:
            await loop.run(asked())
            return {"e.memory": await per_session(partial(_together, loop, size), size.sessions)}

        yield repeat


@asynccontextmanager
async def history(url: str, size: Size) -> AsyncGenerator[Repeat]:
    async with opened(url, "text") as loop:
        short, long = asked(), asked()

        async def fill(messages: list[dict[str, Any]], length: int) -> None:
            while len(messages) < length:
                await loop.run(messages)
                messages += asked()

        await fill(short, 20)
        await fill(long, size.history)

        async def turns(messages: list[dict[str, Any]]) -> Sample:
            watch = Watch()
            for _ in range(size.turns):
                expect(await loop.run(messages), ANSWER, "the answer")
                messages += asked()
            return watch.sample(size.turns)

        async def repeat() -> Mapping[str, Sample]:
            beside = len(long) - len(short)
            at10, at1000 = await turns(short), await turns(long)
            expect(len(long) - len(short), beside, "messages of the long history beside the short")
            slope = Sample((at1000.value - at10.value) * 1e3 / beside)
            return {"f": slope, "f.round10": at10, "f.round1000": at1000}

        yield repeat


@asynccontextmanager
async def stored(url: str, size: Size) -> AsyncGenerator[Repeat]:
    async with opened(url, "tools:1:1") as loop:

        async def repeat() -> Mapping[str, Sample]:
            with tempfile.TemporaryDirectory() as directory:
                return await _stored(loop, size, Path(directory))

        yield repeat


async def _stored(loop: HandWritten, size: Size, directory: Path) -> Mapping[str, Sample]:
    history = StoredHistory(directory / "floor.sqlite")
    save = partial(history.save, "session")
    messages: list[dict[str, Any]] = []
    watch = Watch()
    with shares() as laps:
        for _ in range(size.stored):
            messages += asked()
            await save(messages[-1:])
            expect(await loop.run(messages, save), ANSWER, "the answer")
            laps.lap()
    sample = watch.sample(size.stored)
    expect(history.load("session"), messages, "what is stored")
    expect(len(messages), size.stored * 4, "messages")
    history.close()
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
