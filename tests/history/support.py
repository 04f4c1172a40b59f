"""Replays of what the fake ports have recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from power_loop import Hooks
from power_loop.events import Stamped
from power_loop.history.replay import Replayed, replay_records
from power_loop.hooks import POINTS
from power_loop.pipeline.plan import RunPlan
from power_loop.session.records import ModelConfigured, Record, RunOpened
from tests.pipeline.fakes import FakePorts

__all__ = ["replayed", "stamped_log"]


def stamped_log(records: Sequence[Record], session: str = "s") -> list[Stamped]:
    """The records with their places."""
    return [Stamped(session, n, 0, session, n, 0.0, "", 0, r) for n, r in enumerate(records, 1)]


async def replayed(
    lived: Sequence[FakePorts],
    *,
    records: Sequence[Record] | None = None,
    plan: RunPlan | None = None,
    handlers: Mapping[str, Callable[[Any], Any]] | None = None,
) -> Replayed:
    """What becomes of a session of fake processes; of other `records`, or with another `plan` or
    other `handlers` than those of the last one, if given.
    """
    plans: dict[str, RunPlan] = {}
    seen: set[int] = set()
    for io in lived:
        for record in io.log:
            # A run of which nothing was durable has perhaps left its id to another one.
            if isinstance(record, RunOpened) and id(record) not in seen:
                plans[record.run] = io.plan
            seen.add(id(record))
    last = lived[-1]

    def plan_of(_: ModelConfigured, opened: RunOpened) -> RunPlan:
        return plan or plans[opened.run]

    return await replay_records(
        last.session.id,
        stamped_log(last.log if records is None else records),
        plan_of,
        hooks=_hooks(last.hooks if handlers is None else handlers),
        traits=last.tool,
        deps=last.deps,
    )


def _hooks(handlers: Mapping[str, Callable[[Any], Any]]) -> Hooks:
    hooks = Hooks()
    for point in POINTS:
        if point.name in handlers:
            hooks.on(point, handlers[point.name], name=point.name, on_error="raise")
    return hooks
