"""Where sessions live: the Store protocol and its implementations."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from power_loop.runtime.stores import memory_notes as memory_notes

_LAZY = ("memory_notes",)
"""Modules that few programs need, although every one imports who uses them."""


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return import_module(f"power_loop.runtime.stores.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
