"""**Protocol** Embedder, and what every embedder looks at."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

from llm_client.errors import CallerError

__all__ = ["Embedder", "TextKind", "Vector", "checked_texts", "is_direction"]

Vector: TypeAlias = "array[float]"
"""Numbers of 32 bits each: `array("f")`."""

TextKind = Literal["query", "document"]
"""What a text is for: to find something, or to be found."""


class Embedder(Protocol):
    """**Protocol**: turns texts into vectors. Safe for use by many tasks at once.

    Attributes:
        model: who makes the vectors. Those of two models cannot be compared.
        dimensions: how many numbers a vector has.
        floor: the cosine of two texts that have nothing to do with each other, or a little more;
            it lies somewhere else for each model. 0 where nobody has measured it.
    """

    @property
    def model(self) -> str: ...
    @property
    def dimensions(self) -> int: ...
    @property
    def floor(self) -> float: ...

    async def embed(self, texts: Sequence[str], *, kind: TextKind = "query") -> Sequence[Vector]:
        """A vector for each of `texts`, in their order. What is beyond the model's window does not
        count.

        Raises:
            CallerError: a text is empty.
            LLMError: it failed.
        """
        ...

    async def aclose(self) -> None:
        """Gives back what it holds. Idempotent."""
        ...


def checked_texts(texts: Sequence[str]) -> Sequence[str]:
    """`texts`, each of which says something.

    Raises:
        CallerError: one is empty.
    """
    for number, text in enumerate(texts, 1):
        if not text.strip():
            raise CallerError(f"text {number} of {len(texts)} is empty, and has no vector")
    return texts


def is_direction(vector: Vector) -> bool:
    """Whether `vector` points anywhere: finite, and not all zeros."""
    return all(map(math.isfinite, vector)) and any(vector)
