"""The program dies between an approval and what it allows, and after: at every step there is."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from itertools import count

from msgspec import Struct
from msgspec.structs import replace

from power_loop import Answer, approve, deny
from power_loop.agent.answers import by_token
from power_loop.hooks import TOOL_BEFORE, Suspend
from power_loop.session.outcome import AwaitingApproval
from power_loop.session.records import Record, ToolSettled
from tests.figures.killing import Bench
from tests.pipeline.fakes import FakePorts, FakeTool, Killed
from tests.pipeline.scripts import Handlers, call, calls, plan, send, succeed, text
from tests.postgres_server import new_schema, shared_server
from tests.session.checker import violations

__all__ = ["Deaths", "killed_anywhere"]

_RULE: Handlers = {TOOL_BEFORE: lambda c: Suspend("it costs") if c.name == "pay" else None}
_MOST = 6
"""A run that dies once comes to its end in so many more."""
_EDITED = {"n": 2}


class Deaths(Struct):
    """What came of it."""

    deaths: int
    failures: list[str]
    told: str


def killed_anywhere(*, full: bool) -> Deaths:
    """In memory, at every step of the pipeline, and real processes at every point of theirs."""
    failures: list[str] = []
    steps = 0
    for siblings in range(5 if full else 3):
        for way in ("approve", "edit", "deny"):
            died, wrong = _at_every_step(siblings, way)
            steps += died
            failures += [f"{way}, {siblings} siblings: {each}" for each in wrong]
    killed: list[int] = []
    for place in ("", f"{shared_server().url()}#{new_schema()}"):
        points, wrong = _at_every_point(place, seeds=6 if full else 1)
        killed.append(points)
        failures += [f"{'PostgreSQL' if place else 'SQLite'}: {each}" for each in wrong]
    told = (
        f"died at {steps} steps in memory; killed {killed[0]} times on sqlite and {killed[1]} on "
        "postgres, from the question to the end"
    )
    return Deaths(steps + sum(killed), failures, told)


# ── in memory ─────────────────────────────────────────────────────────────────────────────────────


def _asking(siblings: int) -> FakePorts:
    wanted = [call("pay1", "pay", '{"n":1}')]
    wanted += [call(f"look{n}", "look") for n in range(siblings)]
    return FakePorts([calls(*wanted)], _tools(), _RULE)


def _tools() -> dict[str, FakeTool]:
    return {"pay": FakeTool("paid"), "look": FakeTool("seen")}


def _answered(way: str, token: str) -> Answer:
    if way == "deny":
        return deny(token)
    return approve(token, _EDITED if way == "edit" else None)


def _started(log: Sequence[Record], way: str, prefix: str) -> FakePorts:
    """The program, started once more; whoever is waited for has answered."""
    io = FakePorts([text("ok")], _tools(), _RULE, log=log, prefix=prefix)
    tokens = [c.token for c in io.session.open_calls.values() if c.state == "waiting"]
    io.plan = plan(answers=by_token([_answered(way, token) for token in tokens]))
    return io


def _at_every_step(siblings: int, way: str) -> tuple[int, list[str]]:
    io = _asking(siblings)
    outcome = send(io)
    assert isinstance(outcome, AwaitingApproval)
    log, wrong = io.log[: io.durable], list[str]()
    for step in count(1):
        dying = _started(log, way, "d")
        dying.kill_at = step
        died = False
        try:
            succeed(dying)
        except Killed:
            died = True
        if not died:
            return step - 1, wrong
        # Also when everything committed so far has reached the disk.
        for left in (dying.log, dying.log[: dying.durable]):
            faults = _brought_to_its_end(left, dying.effects, way)
            wrong += [f"step {step}: {each}" for each in faults]
    raise AssertionError("it never came to its end")


def _brought_to_its_end(
    left: Sequence[Record], effects: Sequence[tuple[str, str, str]], way: str
) -> list[str]:
    effects = [*effects]
    for n in range(_MOST):
        io = _started(left, way, f"a{n}.")
        if io.session.run is None and not io.session.open_calls:
            break
        succeed(io)
        effects += io.effects
        left = io.log
    settled = {r.message.id: r.how for r in left if isinstance(r, ToolSettled)}
    paid = [arguments for id, _, arguments in effects if id == "pay1"]
    how = settled.get("pay1.result")
    expected = {
        "approve": [['{"n":1}'], ["finished", "unknown"]],
        "edit": [['{"n":2}'], ["finished", "unknown"]],
        "deny": [[], ["denied"]],
    }[way]
    wrong = violations(left, closed=True)
    if paid != expected[0] and not (paid == [] and how == "unknown"):
        wrong.append(f"it paid {paid}, told as {how}")
    if how not in expected[1]:
        wrong.append(f"it was told as {how}")
    return wrong


# ── real processes ────────────────────────────────────────────────────────────────────────────────


def _at_every_point(place: str, seeds: int) -> tuple[int, list[str]]:
    """Kills the program of `tests.crash` at each point from its question on; it must pay once."""
    kills, wrong = 0, list[str]()
    with Bench(place) as bench:
        for seed in range(seeds):
            whole, faults = bench.judged(bench.case(hooks=True, seed=seed))
            wrong += faults
            first = whole.points.index("asked for approval")
            for at in range(first, len(whole.points) + 1):
                case = bench.case(hooks=True, seed=seed)
                killed = bench.zygote.run(replace(case, kill_at=at + 1)) == -signal.SIGKILL
                kills += killed
                tried, faults = bench.judged(case)
                paid = tried.told("done").count(["pay", "e", f"{case.session}/e", "1"])
                begun = [words[0] for words in tried.told("begin")].count("pay")
                if begun > 1 or (paid != 1 and not killed):
                    faults.append(f"it paid {paid} times, begun {begun} times")
                wrong += [f"point {at}, seed {seed}: {each}" for each in faults]
    return kills, wrong
