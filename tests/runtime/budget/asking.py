"""Reserving without an event loop, where nobody has to wait."""

from __future__ import annotations

from power_loop.runtime.budget.accounts import Shortfall
from power_loop.runtime.budget.claims import Need
from power_loop.runtime.budget.meter import Meter
from power_loop.runtime.budget.queue import Hold

__all__ = ["reserved_at_once"]


def reserved_at_once(meter: Meter, need: Need) -> Hold | Shortfall:
    """What `Meter.reserve` comes to; it must not wait."""
    reserving = meter.reserve(need)
    try:
        reserving.send(None)
    except StopIteration as done:
        found: Hold | Shortfall = done.value
        return found
    reserving.close()
    raise AssertionError("it waits for what others may give back")
