"""What the verbs of time_verbs.py do. Loaded when one of them is first called."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from msgspec.structs import replace

from llm_client.pricing import PriceBook
from llm_client.types import Part, new_id
from power_loop.agent.config import AgentConfig
from power_loop.agent.options import RunOptions
from power_loop.agent.running import Runner
from power_loop.agent.system_prompt import as_recorded
from power_loop.agent.toolset import AnyTool
from power_loop.driver.dispatch import Hooks
from power_loop.driver.tooling import traits_of
from power_loop.errors import SessionError, StoreTooNew
from power_loop.events import Stamped
from power_loop.history.branch import copied, rewound
from power_loop.history.difference import SessionDiff, difference
from power_loop.history.explaining import Log, explanation_of, sessions_below
from power_loop.history.explanation import Explanation
from power_loop.history.replay import Replayed, replay_records
from power_loop.history.storing import Fill, store_new
from power_loop.history.usage import SessionUsage, usage_of, usage_of_tree
from power_loop.pipeline.plan import RunPlan
from power_loop.runtime.artifacts.base import ArtifactStore, artifacts_of
from power_loop.runtime.stores.base import Store
from power_loop.session.machine import Session
from power_loop.session.records import ModelConfigured, Record, RunOpened
from power_loop.tools.registry import ToolRegistry

__all__ = ["Again", "diff", "explain", "fork", "rewinding", "usage"]


async def fork(
    store: Store,
    session_id: str,
    at: int | None,
    overrides: Mapping[str, str | Sequence[Part]],
    metadata: Mapping[str, str] | None,
    artifacts: ArtifactStore | None = None,
) -> str:
    """See `TimeVerbs.fork`. `artifacts` keeps large outputs, if the store does not."""
    fork_id = new_id("sess_")
    log = await store.read(session_id)
    stamped = copied(session_id, log, at, fork_id, overrides, time.time())
    kept = artifacts_of(store, artifacts)
    fill = None if kept is None else Fill(kept, session_id)
    await store_new(store, fork_id, stamped, metadata or {}, time.time(), fill=fill)
    return fork_id


async def rewinding(store: Store, session: Session, at: int) -> tuple[Record, ...]:
    """The records that rewind a session which is ours; see `TimeVerbs.rewind`."""
    return rewound(session, await store.read(session.id), at)


async def diff(store: Store, first: str, second: str) -> SessionDiff:
    """See `TimeVerbs.diff`."""
    return difference(first, await store.read(first), second, await store.read(second))


async def usage(
    store: Store, session_id: str, prices: PriceBook | None, *, children: bool
) -> SessionUsage:
    """See `TimeVerbs.usage`."""
    if children:
        return usage_of_tree(session_id, await store.read_tree(session_id), prices)
    return usage_of(session_id, await store.read(session_id), prices)


async def explain(store: Store, session_id: str, run: str | None) -> Explanation:
    """See `TimeVerbs.explain`."""
    log = await _log(store, session_id)
    below: dict[str, Log] = {}
    await _read_below(store, sessions_below(session_id, log, run), below)
    return explanation_of(session_id, log, run, below)


async def _read_below(store: Store, ids: Sequence[str], logs: dict[str, Log]) -> None:
    for id in ids:
        if id in logs:
            continue
        try:
            logs[id] = await _log(store, id)
            found = sessions_below(id, logs[id])
        except SessionError:
            # It was deleted, or has not begun.
            continue
        await _read_below(store, found, logs)


async def _log(store: Store, session_id: str) -> Log:
    try:
        return Log(await store.read(session_id))
    except StoreTooNew as error:
        return Log(await _readable(store, session_id), str(error))


async def _readable(store: Store, session_id: str) -> Sequence[Stamped]:
    """The records before the first one that this version cannot read."""
    log: list[Stamped] = []
    more = (await store.info(session_id)).seq
    while more:
        more = (more + 1) // 2 if more > 1 else 1
        try:
            found = await store.read(session_id, len(log), more)
        except StoreTooNew:
            more = 0 if more == 1 else more
        else:
            log += found
            more = more if found else 0
    return log


class Again:
    """A loop, as it does stored runs once more."""

    def __init__(
        self,
        runner: Runner,
        config: AgentConfig,
        hooks: Hooks,
        deps: Any,
        tools: Iterable[AnyTool] | ToolRegistry | None,
        output_type: type[Any] | None,
    ) -> None:
        """See `TimeVerbs.replay`."""
        options: RunOptions[Any] = {"deps": deps}
        if tools is not None:
            options["tools"] = tools
        self._config = config
        self._hooks = hooks
        self._settings = runner.settings(output_type, options)

    async def replay(
        self, session_id: str, stamped: Sequence[Stamped], run: str | None = None
    ) -> Replayed:
        """Replays runs of a session, of which `stamped` are all records."""
        return await replay_records(
            session_id,
            stamped,
            self._plan_of,
            hooks=self._hooks,
            traits=partial(traits_of, self._settings.tools.by_name()),
            deps=self._settings.deps,
            run=run,
            continue_prompt=self._config.continue_prompt,
        )

    def _plan_of(self, configured: ModelConfigured, opened: RunOpened) -> RunPlan:
        plan = self._settings.plan
        rounds = int(opened.limits.get("rounds", plan.max_rounds))
        sections = self._settings.sections
        system = as_recorded(plan.template.system, sections, configured.system)
        template = replace(plan.template, model=configured.model, system=system)
        return replace(plan, template=template, max_rounds=rounds)
