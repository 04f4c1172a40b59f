"""Lets whoever makes a request know that it waits for an allowance, not for a provider."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar

__all__ = ["WAITING"]

WAITING: ContextVar[Callable[[], AbstractContextManager[object]]] = ContextVar(
    "llm_client.waiting", default=nullcontext
)
"""What is entered while a request waits for its share of a rate, and left when it is its turn."""
