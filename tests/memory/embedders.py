"""An embedder whose vectors are known: two texts are alike as far as they share words."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from zlib import crc32

import anyio
from anyio.lowlevel import checkpoint

from llm_client.embedding import TextKind, Vector
from llm_client.errors import ServerError

__all__ = ["WordEmbedder"]

_WORDS = 512


class WordEmbedder:
    """Counts words.

    Attributes:
        asked: all texts, each with its kind.
        fails: whether the next call does.
        gate: where a call waits, if there is one.
    """

    def __init__(self, model: str = "words", floor: float = 0.1) -> None:
        self.model = model
        self.dimensions = _WORDS
        self.floor = floor
        self.asked: list[tuple[str, TextKind]] = []
        self.fails = False
        self.gate: anyio.Event | None = None
        self.reached = anyio.Event()
        self.closed = False

    async def embed(self, texts: Sequence[str], *, kind: TextKind = "query") -> Sequence[Vector]:
        """See `Embedder.embed`."""
        await checkpoint()
        for text in texts:
            self.asked.append((text, kind))
        self.reached.set()
        if self.fails:
            raise ServerError("the embedder is down")
        if self.gate is not None:
            await self.gate.wait()
        return [_vector(text) for text in texts]

    async def aclose(self) -> None:
        """See `Embedder.aclose`."""
        self.closed = True


def _vector(text: str) -> Vector:
    vector = array("f", bytes(4 * _WORDS))
    for word in text.lower().split():
        vector[crc32(word.strip(".,;:!?").encode()) % _WORDS] += 1
    return vector
