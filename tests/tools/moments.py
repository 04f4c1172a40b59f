"""Something done at one precise moment: just before the system is asked to open, make or rename.

The interpreter announces these calls to audit hooks. So a race that a second thread wins once in
ten thousand rounds can be won every time.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any


class Moment:
    """When to act: before `event` ("open", "os.mkdir", "os.rename") on a path called `name`."""

    def __init__(self, event: str, name: str, act: Callable[[], object]) -> None:
        self.event = event
        self.name = name
        self.act = act
        self.came = False

    def see(self, event: str, arguments: tuple[Any, ...]) -> None:
        names = arguments[:2] if event == "os.rename" else arguments[:1]
        if not self.came and event == self.event and self.name in names:
            self.came = True
            self.act()


_armed: list[Moment] = []


@functools.cache
def _listen() -> None:
    """A hook cannot be taken away again; it does nothing while nothing is armed."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        for moment in tuple(_armed):
            moment.see(event, arguments)

    sys.addaudithook(hook)


@contextmanager
def at(event: str, name: str, act: Callable[[], object]) -> Generator[Moment]:
    """Does `act` once, at that moment, if it comes; `came` tells."""
    _listen()
    moment = Moment(event, name, act)
    _armed.append(moment)
    try:
        yield moment
    finally:
        _armed.remove(moment)
