"""The embeddings API of OpenAI, which most vendors and local servers speak as well."""

from __future__ import annotations

import binascii
import sys
from array import array
from base64 import b64decode
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from llm_client._json_endpoint import JsonAnswer, JsonEndpoint
from llm_client.codecs._http_errors import error_from_body
from llm_client.codecs._json import as_dict, as_list, encode, is_array, mend
from llm_client.embedding.base import TextKind, Vector, checked_texts, is_direction
from llm_client.errors import ConfigError, MalformedResponse
from llm_client.transport.base import Transport
from llm_client.transport.deadlines import Deadlines

__all__ = ["HttpEmbedder"]


class HttpEmbedder:
    """An `Embedder` that asks an address below which /embeddings lies.

    Args:
        transport: carries the requests; closed together with the embedder.
        base_url: such as "https://api.openai.com/v1".
        model: such as "text-embedding-3-small".
        dimensions: how many numbers its vectors have; an answer of other vectors is an error.
        headers: sent with every request; the provider's key is among them.
        prefixes: what is put before the texts of each kind, for models that want it.
        extra: parameters added to the body of every request, such as `{"dimensions": 512}` where
            the model can shorten its vectors, or `{"encoding_format": "base64"}`.
        batch: texts of one request, at most; further ones go into requests that follow it.
        floor: see `Embedder`.
        deadlines: how long each phase of a request may take; by default 30 seconds in all.
        provider: the provider's name, for errors.

    Raises:
        ConfigError: a setting cannot be used.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        base_url: str,
        model: str,
        dimensions: int,
        headers: Mapping[str, str] | None = None,
        prefixes: Mapping[TextKind, str] | None = None,
        extra: Mapping[str, Any] | None = None,
        batch: int = 64,
        floor: float = 0.0,
        deadlines: Deadlines | None = None,
        provider: str = "openai",
    ) -> None:
        if dimensions < 1 or batch < 1:
            raise ConfigError(
                f"dimensions and batch must be at least 1, are {dimensions} and {batch}"
            )
        self._endpoint = JsonEndpoint(
            transport,
            base_url=base_url,
            headers=headers or {},
            deadlines=deadlines or Deadlines.within(30),
            provider=provider,
            refused=partial(error_from_body, provider),
        )
        self.model = model
        self.dimensions = dimensions
        self.floor = floor
        self._prefixes = prefixes or {}
        self._extra = extra or {}
        self._batch = batch

    def __repr__(self) -> str:
        return f"HttpEmbedder({self._endpoint!r}, model {self.model!r})"

    async def embed(self, texts: Sequence[str], *, kind: TextKind = "query") -> Sequence[Vector]:
        """See `Embedder.embed`. Nothing is tried again.

        Raises:
            MalformedResponse: the answer holds other vectors than were asked for.
        """
        prefix = self._prefixes.get(kind, "")
        whole = [mend(prefix + text) for text in checked_texts(texts)]
        vectors: list[Vector] = []
        for start in range(0, len(whole), self._batch):
            vectors += await self._ask(whole[start : start + self._batch])
        return vectors

    async def _ask(self, texts: Sequence[str]) -> Sequence[Vector]:
        fields = {"model": self.model, "input": texts, **self._extra}
        return await self._endpoint.ask(
            "/embeddings",
            lambda answer: self._read(answer, len(texts)),
            [encode(fields, "the request for vectors")],
            content_type="application/json",
        )

    def _read(self, answer: JsonAnswer, count: int) -> Sequence[Vector]:
        """The vectors of an answer, which need not be in order."""
        rows = [as_dict(row) for row in as_list(answer.value.get("data"))]
        places = [row.get("index", place) for place, row in enumerate(rows)]
        found = {
            place: row.get("embedding")
            for place, row in zip(places, rows, strict=True)
            if isinstance(place, int)
        }
        if len(rows) != count or found.keys() != set(range(count)):
            raise MalformedResponse(
                f"the answer does not hold one vector for each of {count} texts; check that "
                f"{self.model!r} makes vectors, and the base address"
            )
        return [self._vector(found[index]) for index in range(count)]

    def _vector(self, value: object) -> Vector:
        vector = _unpacked(value) if isinstance(value, str) else _listed(value)
        if vector is None or not is_direction(vector):
            raise MalformedResponse(
                f"what {self.model!r} answered is no vector: neither numbers nor their base64, or "
                "not finite, or all zeros"
            )
        if len(vector) != self.dimensions:
            raise MalformedResponse(
                f"the vectors of {self.model!r} have {len(vector)} dimensions, not "
                f"{self.dimensions}; make the embedder with dimensions={len(vector)}",
                retryable=False,
            )
        return vector

    async def aclose(self) -> None:
        """Closes all connections. Idempotent."""
        await self._endpoint.aclose()


def _listed(value: object) -> Vector | None:
    try:
        return array("f", value) if is_array(value) else None
    except (TypeError, OverflowError):
        return None


def _unpacked(value: str) -> Vector | None:
    """Base64 holds the numbers as they lie in memory, the low byte first."""
    vector: Vector = array("f")
    try:
        vector.frombytes(b64decode(value, validate=True))
    except (binascii.Error, ValueError):
        return None
    if sys.byteorder == "big":
        vector.byteswap()
    return vector
