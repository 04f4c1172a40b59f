"""Figure 2: the programs of figure 1 on PostgreSQL, killed, cut off, and left without its server.

Killed at every named point, and at every exchange with the server: before a batch is sent, in the
middle of it, when it was sent but not answered, in the middle of the answer, after it. Not killed,
but its connections terminated, or the server stopped, or killed, and started again.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from threading import Event
from typing import get_args

import psycopg
from msgspec.structs import replace

from tests.crash.journal import Program
from tests.figures.killing import (
    Bench,
    Killed,
    Spot,
    kill_everywhere,
    named_spots,
    remembering_spots,
    side_by_side,
)
from tests.figures.result import FigureResult
from tests.postgres_proxy import Moment, PostgresProxy
from tests.postgres_server import PostgresServer, new_schema

_LEAST_POINTS = 30
_Names = Mapping[Program, Sequence[str]]
"""Points at which a program can be stopped."""


def run(full: bool) -> FigureResult:
    """20 seeds for every named point; small: a kill each at as many points as must be named."""
    with ExitStack() as stack:
        server = PostgresServer()
        stack.callback(server.close)
        places = [_database(server, n) for n in range(2)]
        benches = [stack.enter_context(Bench(place)) for place in places]
        killed, names = Killed(failures=[]), dict[Program, list[str]]()
        finders: Mapping[Program, Callable[..., dict[str, list[Spot]]]] = {
            "tools": named_spots,
            "summary": remembering_spots,
        }
        for program, find in finders.items():
            spots = find(benches[0], sql=False)
            every = sorted(spots)
            chosen = every if full else every[:: max(1, len(every) // 34)]
            killed.add(kill_everywhere(benches, spots, chosen, 20 if full else 1))
            # A server that was never reached is not waited for.
            names[program] = [name for name in every if not name.endswith("before create")]
        jobs = [partial(_terminate_at, names=names, seed=s) for s in range(200 if full else 4)]
        terminated = side_by_side(benches, jobs)
        on_wire = _kill_on_the_wire(stack, server, full=full)
        restarted = Killed(failures=[])
        for seed in range(60 if full else 3):
            restarted.add(_restart_at(server, benches[0], names, seed))
    parts = (killed, terminated, on_wire, restarted)
    failures = [failure for part in parts for failure in part.failures]
    if killed.points < 2 * _LEAST_POINTS:
        failures.append(f"only {killed.points} named points were reached as often as they must be")
    told = (
        f"SIGKILL at {killed.points} named points, {killed.kills} kills, and "
        f"{on_wire.kills} in the middle of exchanges with the server; connections terminated "
        f"{terminated.kills} times, server restarted {restarted.kills} times"
    )
    return FigureResult(sum(part.kills for part in parts), tuple(failures), told)


def _database(server: PostgresServer, number: int) -> str:
    """A schema in a database of its own, so that its connections can be told from others'."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE kills_{number}".encode())
    return f"{server.url(f'kills_{number}')}#{new_schema()}"


# ── killed in the middle of an exchange ───────────────────────────────────────────────────────────


def _kill_on_the_wire(stack: ExitStack, server: PostgresServer, *, full: bool) -> Killed:
    """Each program is killed at one exchange more than the one before it."""
    lines: list[tuple[Bench, PostgresProxy]] = []
    for _ in range(2):
        proxy = stack.enter_context(PostgresProxy(server))
        bench = stack.enter_context(Bench(f"{proxy.url}#{new_schema()}"))
        lines.append((bench, proxy))
    _, wrong = lines[0][0].judged(lines[0][0].case())
    assert wrong == []
    proxies = {id(bench): proxy for bench, proxy in lines}
    jobs: list[Callable[[Bench], Killed]] = []
    variants: list[tuple[Program, bool]] = [("tools", False), ("tools", True), ("summary", False)]
    for program, hooks in variants:
        exchanges = _exchanges(*lines[0], program, hooks=hooks)
        stride = 1 if full else max(1, exchanges // 2)
        jobs += [
            partial(_kill_in, proxies, program, hooks, number, moment)
            for number in range(1, exchanges, stride)
            for moment in get_args(Moment)
        ]
    return side_by_side([bench for bench, _ in lines], jobs)


def _exchanges(bench: Bench, proxy: PostgresProxy, program: Program, *, hooks: bool) -> int:
    """How often a program that is left alone sends something to the server."""
    proxy.watch()
    _, wrong = bench.judged(bench.case(program, hooks=hooks))
    assert wrong == []
    return proxy.sent


def _kill_in(
    proxies: dict[int, PostgresProxy],
    program: Program,
    hooks: bool,
    number: int,
    moment: Moment,
    bench: Bench,
) -> Killed:
    proxy = proxies[id(bench)]
    case = bench.case(program, hooks=hooks, seed=number)
    proxy.watch()
    pids: list[int] = []
    started = Event()

    def kill() -> None:
        started.wait(30)
        with suppress(ProcessLookupError):
            os.kill(pids[0], signal.SIGKILL)

    proxy.freeze_at(number, moment, kill)
    pids.append(bench.zygote.start(case))
    started.set()
    status = bench.zygote.wait()
    proxy.cut_all()
    _, wrong = bench.judged(case)
    where = f"{program}, exchange {number}, {moment}, hooks={hooks}"
    if status not in (0, -signal.SIGKILL):
        wrong = [f"it ended with {status}", *wrong]
    return Killed(int(status != 0), 0, [f"{where}: {each}" for each in wrong])


# ── not killed ────────────────────────────────────────────────────────────────────────────────────


def _disturb_at(
    bench: Bench, names: _Names, seed: int, disturb: Callable[[], None]
) -> tuple[Killed, int]:
    """Stops the program at a point; disturbs it while it stands still, or when it goes on.

    What is wrong with what came of it, and its exit status.
    """
    rng = random.Random(seed)
    program: Program = "summary" if seed // 2 % 2 else "tools"
    case = bench.case(program, hooks=seed % 2 == 0, seed=seed)
    point = rng.choice(names[program])
    pid = bench.zygote.start(replace(case, kill_on=point, how="stops"))
    status = bench.zygote.wait()
    hit = status == -signal.SIGSTOP
    if hit:
        standing = rng.random() < 0.5
        if standing:
            disturb()
        os.kill(pid, signal.SIGCONT)
        if not standing:
            disturb()
        status = bench.zygote.wait()
    _, wrong = bench.judged(case)
    return Killed(int(hit), 0, [f"{point}, seed {seed}: {each}" for each in wrong]), status


def _terminate_at(bench: Bench, names: _Names, seed: int) -> Killed:
    """All connections of the program are terminated; it does not even notice."""
    url = bench.case().place.partition("#")[0]

    def terminate() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    result, status = _disturb_at(bench, names, seed, terminate)
    if status != 0:
        result.failures.append(f"connections terminated, seed {seed}: it ended with {status}")
    return result


def _restart_at(server: PostgresServer, bench: Bench, names: _Names, seed: int) -> Killed:
    """The server is shut down or crashes, and comes back."""

    def restart() -> None:
        server.tell("stop" if seed % 3 == 0 else "kill")
        server.tell("start")

    result, status = _disturb_at(bench, names, seed, restart)
    if status != 0:
        result.failures.append(f"server restarted, seed {seed}: it ended with {status}")
    return result
