"""A connection must not exist in two processes: each would trip over the other's use of it."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable

__all__ = ["survive_forks"]


def survive_forks(
    before: Callable[[], None], in_parent: Callable[[], None], in_child: Callable[[], None]
) -> None:
    """Has bound methods called around each fork, for as long as their objects live."""
    if sys.platform != "win32":
        os.register_at_fork(
            before=_weakly(before),
            after_in_parent=_weakly(in_parent),
            after_in_child=_weakly(in_child),
        )


def _weakly(method: Callable[[], None]) -> Callable[[], None]:
    """Calls a method while its object lives: what is registered for forks stays for ever."""
    reference = weakref.WeakMethod(method)

    def call() -> None:
        target = reference()
        if target is not None:
            target()

    return call
