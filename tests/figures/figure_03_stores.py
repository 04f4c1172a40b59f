"""Figure 3 on SQLite and PostgreSQL: cancelled while the store's threads are at work, and when they
have answered but nobody has heard it yet; whole runs, and each verb of a store by itself.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path

import anyio
from msgspec import Struct
from msgspec.structs import replace

from llm_client.types import Message
from power_loop.errors import SessionNotFound
from power_loop.runtime.stores.base import Lease, Steer
from tests.agent.cancel_scenarios import SCENARIOS
from tests.agent.stepping import Backend, Steps, run_stepwise, tasks_alive
from tests.figures.cancelling import WAYS, Case, Kind, Sweep, let_finish
from tests.figures.result import FigureResult
from tests.stores.places import KINDS, DurableStore, new_place, open_place
from tests.stores.support import say, texts

_BACKENDS: tuple[Backend, ...] = ("asyncio", "trio")
_NAMES = (
    "streamed",
    "three tools, one exclusive",
    "hooks everywhere",
    "steering",
    "interrupted",
    "two sessions",
    "approval",
    "given up",
    "three tools, streamed",
    "large outputs",
    "compaction",
    "memory",
)
"""The scenarios in which a store has the most to do."""
_LONG = "interrupted"
"""The one with so many steps that each third has to do."""


def run(full: bool) -> FigureResult:
    """Runs with their loop at every step (small: at some), the verbs at every step."""
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        stores: dict[Kind, DurableStore] = {
            kind: open_place(new_place(kind, Path(folder))) for kind in KINDS
        }
        sweep = Sweep(stores)
        for first, stride in _plan(full=full):
            counts[f"{first.store}: {first.scenario.name}"] += sweep.over(first, stride)
        failures = sweep.failures
        for kind in KINDS:
            for verb in _VERBS:
                for backend in _BACKENDS:
                    for patience in (False, True):
                        tried, wrong = _sweep_verb(stores[kind], verb, backend, patience=patience)
                        counts[f"{kind}: {verb.name}"] += tried
                        failures += [f"{kind}, {verb.name}, {backend}: {each}" for each in wrong]
        anyio.run(_close, stores)
    told = "with real stores: " + ", ".join(f"{name} {count}" for name, count in counts.items())
    return FigureResult(counts.total(), tuple(failures), told)


async def _close(stores: Mapping[Kind, DurableStore]) -> None:
    for store in stores.values():
        await store.aclose()


def _plan(*, full: bool) -> Iterator[tuple[Case, int]]:
    """The first case of each sweep, and its stride."""
    chosen = [scenario for scenario in SCENARIOS if scenario.name in _NAMES]
    for number, scenario in enumerate(chosen):
        for turn, kind in enumerate(KINDS):
            for patience in (False, True):
                ways = WAYS if full else (WAYS[(number + 2 * turn + patience) % len(WAYS)],)
                for backend, way in ways:
                    for second in (0, 2) if full and way != "verb" and not patience else (0,):
                        every = way != "verb" and not patience and not second
                        stride = (1 if every else 3) * (3 if scenario.name == _LONG else 1)
                        first = Case(scenario, backend, way, kind, 1, second, patience)
                        if full:
                            yield first, stride
                        else:
                            yield replace(first, step=1 + number), 9


# ── the verbs of a store ──────────────────────────────────────────────────────────────────────────


class _Stage:
    """A session that holds one record, and what is done with it."""

    def __init__(self, store: DurableStore, session: str) -> None:
        self.store = store
        self.session = session
        self.lease: Lease
        self.done = False
        """The verb returned."""

    async def log(self) -> list[str]:
        return texts(await self.store.read(self.session))


class _Verb(Struct, frozen=True):
    """A verb to be cancelled, and what must be true afterwards. `holds`: under a lease."""

    name: str
    act: Callable[[_Stage], Awaitable[object]]
    check: Callable[[_Stage], Awaitable[bool]]
    holds: bool = False


async def _claim(stage: _Stage) -> None:
    stage.lease = await stage.store.claim(stage.session)


async def _is_claimed_or_free(stage: _Stage) -> bool:
    """It gives back what it got; a claim that returned holds."""
    if not stage.done:
        stage.lease = await stage.store.claim(stage.session)
    return await say(stage.store, stage.lease, 1, "after", final=True) == 2


async def _append(stage: _Stage) -> None:
    await say(stage.store, stage.lease, 1, "a", "b")


async def _is_whole_or_not_there(stage: _Stage) -> bool:
    log = await stage.log()
    whole = log == ["first", "a", "b"]
    seq = await say(stage.store, stage.lease, len(log), "after", final=True)
    return (whole or (log == ["first"] and not stage.done)) and seq == len(log) + 1


async def _append_last(stage: _Stage) -> None:
    await say(stage.store, stage.lease, 1, "a", "b", final=True)


async def _is_whole_and_free_or_neither(stage: _Stage) -> bool:
    log = await stage.log()
    if log == ["first"] and not stage.done:
        await stage.store.release(stage.lease)
    elif log != ["first", "a", "b"]:
        return False
    return (await stage.store.claim(stage.session)).seq == len(log)


async def _release(stage: _Stage) -> None:
    await stage.store.release(stage.lease)


async def _can_be_released(stage: _Stage) -> bool:
    await stage.store.release(stage.lease)
    return (await stage.store.claim(stage.session)).fence > stage.lease.fence


async def _post(stage: _Stage) -> None:
    await stage.store.post(stage.session, Steer(Message.user("hello")), dedupe_key="k")


async def _waits_once(stage: _Stage) -> bool:
    before = len(await stage.store.inbox(stage.session))
    receipt = await stage.store.post(stage.session, Steer(Message.user("hello")), dedupe_key="k")
    items = await stage.store.inbox(stage.session)
    return [item.id for item in items] == [receipt.id] and before >= stage.done


async def _read(stage: _Stage) -> None:
    assert await stage.log() == ["first"]


async def _wait(stage: _Stage) -> None:
    """Waits for what will not come, and is cancelled."""
    with anyio.move_on_after(0.02):
        await stage.store.wait(stage.session, 1)


async def _reads(stage: _Stage) -> bool:
    return await stage.log() == ["first"] and await _nobody_waits(stage)


async def _nobody_waits(stage: _Stage) -> bool:
    return not stage.store._waiters.sessions()


async def _create(stage: _Stage) -> None:
    await stage.store.create(f"{stage.session}-new")


async def _is_made_or_not(stage: _Stage) -> bool:
    try:
        await stage.store.info(f"{stage.session}-new")
    except SessionNotFound:
        if stage.done:
            return False
    await stage.store.create(f"{stage.session}-new")
    return (await stage.store.info(f"{stage.session}-new")).seq == 0


async def _delete(stage: _Stage) -> None:
    await stage.store.delete(stage.session)


async def _is_deleted_or_whole(stage: _Stage) -> bool:
    try:
        return await stage.log() == ["first"] and not stage.done
    except SessionNotFound:
        return True


async def _keep(stage: _Stage) -> None:
    await stage.store.put_artifact(stage.session, "h", "x" * 10_000)


async def _is_kept_or_not(stage: _Stage) -> bool:
    if not await stage.store.list_artifacts(stage.session):
        return not stage.done
    return (await stage.store.read_artifact(stage.session, "h")).text == "x" * 10_000


_VERBS = (
    _Verb("claim", _claim, _is_claimed_or_free),
    _Verb("append", _append, _is_whole_or_not_there, holds=True),
    _Verb("last append", _append_last, _is_whole_and_free_or_neither, holds=True),
    _Verb("release", _release, _can_be_released, holds=True),
    _Verb("post", _post, _waits_once),
    _Verb("read", _read, _reads),
    _Verb("wait", _wait, _reads),
    _Verb("create", _create, _is_made_or_not),
    _Verb("delete", _delete, _is_deleted_or_whole),
    _Verb("keep an output", _keep, _is_kept_or_not),
)


def _sweep_verb(
    store: DurableStore, verb: _Verb, backend: Backend, *, patience: bool
) -> tuple[int, list[str]]:
    """Cancels a verb at every step, until it ends before; how many cases, and what is wrong."""
    found: list[str] = []
    step = 1
    while True:
        session = f"{verb.name} {backend} {patience} {step}"
        trial = _VerbTrial(_Stage(store, session), verb, patience=patience)
        trial.steps.at(step, trial.cancel)
        try:
            run_stepwise(trial.run, trial.steps, backend)
        except Exception as error:  # noqa: BLE001  a failure to report like any other
            trial.bad.append(f"raised {error!r}")
        found += [f"step {step}: {each}" for each in trial.bad]
        if not trial.hit:
            return step, found
        step += 1


class _VerbTrial:
    """A verb as it is cancelled."""

    def __init__(self, stage: _Stage, verb: _Verb, *, patience: bool) -> None:
        self.hit = False
        self.bad: list[str] = []
        self.steps = Steps()
        self._stage = stage
        self._verb = verb
        self._patience = patience
        self._scope: anyio.CancelScope

    async def run(self) -> None:
        """Does it, and looks at what is left."""
        stage, store = self._stage, self._stage.store
        await store.create(stage.session)
        stage.lease = await store.claim(stage.session)
        await say(store, stage.lease, 0, "first", final=not self._verb.holds)
        self._scope = anyio.CancelScope()
        before = tasks_alive()
        with anyio.fail_after(20):
            with self._scope:
                self.steps.counting = True
                try:
                    await self._verb.act(stage)
                    stage.done = True
                finally:
                    self.steps.counting = False
            if tasks_alive() != before:
                self.bad.append(f"{tasks_alive() - before} tasks left")
            # What was cancelled may still take effect, before what is asked after it.
            await store.create(stage.session + " behind it")
            if not await self._verb.check(stage):
                how = "returned" if stage.done else "was cancelled"
                self.bad.append(f"it {how}, but is half done: {await stage.log()}")

    def cancel(self) -> None:
        """Now."""
        self.hit = True
        if self._patience:
            let_finish(self._stage.store)
        self._scope.cancel()
