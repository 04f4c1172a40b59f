"""How long a run is open and how long it works, and when its time is up."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from math import inf

from power_loop.driver.patience import Patience

__all__ = ["Pauses", "Stopwatch"]

Pauses = Callable[[], AbstractContextManager[object]]
"""Makes a context in which a run waits for people, rates or budgets."""

_WALL = "wall_seconds"


class Stopwatch:
    """Measures one run, and bounds the patience that is had with it.

    Attributes:
        limits: seconds left, by the name of the limit, `run.wall_seconds` for one. Those of
            `wall_seconds` pass all the time, those of `working_seconds` not while it is paused.
        matters: whether anybody goes by its pauses.
    """

    __slots__ = (
        "_above",
        "_began",
        "_now",
        "_patience",
        "_pauses",
        "_since",
        "_timeout",
        "_waited",
        "limits",
        "matters",
    )

    def __init__(
        self,
        limits: Mapping[str, float],
        now: Callable[[], float],
        above: Pauses | None = None,
    ) -> None:
        """`above` pauses the stopwatch of the run above, which waits for the same."""
        self.limits = dict(limits)
        self.matters = bool(limits) or above is not None
        self._above = above or nullcontext
        self._now = now
        self._began = self._since = now()
        self._waited = 0.0
        self._pauses = 0
        self._patience: Patience | None = None
        self._timeout = inf

    def start(self, patience: Patience, timeout: float | None) -> None:
        """Begins to measure. `patience` ends after `timeout` seconds, or at a limit."""
        self._began = self._now()
        self._patience = patience
        self._timeout = inf if timeout is None else timeout
        self._set_deadline()

    @property
    def wall(self) -> float:
        """Seconds since the start."""
        return self._now() - self._began

    @property
    def working(self) -> float:
        """Seconds since the start, without those in which it was paused."""
        pause = self._now() - self._since if self._pauses else 0.0
        return self.wall - self._waited - pause

    @contextmanager
    def paused(self) -> Generator[None]:
        """While the run waits for people, rates or budgets. May be nested, and overlap."""
        with self._above():
            yield from self._paused()

    def _paused(self) -> Generator[None]:
        if not self._pauses:
            self._since = self._now()
        self._pauses += 1
        self._set_deadline()
        try:
            yield
        finally:
            self._pauses -= 1
            if not self._pauses:
                self._waited += self._now() - self._since
                self._set_deadline()

    @property
    def exceeded(self) -> str | None:
        """The limit that has been reached first; None if the run has only been timed out."""
        left = self.left
        name = min(left, key=lambda each: left[each], default=None)
        return name if name is not None and left[name] <= max(0.0, self._until_timeout()) else None

    @property
    def left(self) -> dict[str, float]:
        """Seconds left now, by the name of the limit; negative where it has been passed."""
        passed = {True: self.wall, False: self.working}
        return {
            name: seconds - passed[name.endswith(_WALL)] for name, seconds in self.limits.items()
        }

    def _until_timeout(self) -> float:
        return self._timeout - self.wall

    def _set_deadline(self) -> None:
        if self._patience is None or (self._timeout == inf and not self.limits):
            return
        due = [left for name, left in self.left.items() if name.endswith(_WALL) or not self._pauses]
        left = min([self._until_timeout(), *due])
        self._patience.limited_to(left)
