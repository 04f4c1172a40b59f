"""Sessions found by what is known of them, deleted when they are old, and what they cost."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from llm_client.types import Usage
from power_loop.cli.database import Database
from power_loop.runtime.stores.base import Store
from power_loop.session.records import ModelAsked, ModelEnded, RunOpened
from tests.agent.crashed import write
from tests.cli.stored import died_in, in_store, new_database
from tests.cli.support import Terminal, run, session_in
from tests.model_server import model_server
from tests.postgres_server import shared_server


async def several(store: Store) -> None:
    """Two old sessions, one of them with another below it, and a young one."""
    await store.create("old", metadata={"user": "ann", "topic": "x=y"}, at=10.0)
    await store.create("older", metadata={"user": "bob"}, at=5.0)
    await store.create("below", parent="older", at=5.0)
    await store.create("young", at=1e11)


@pytest.fixture(params=["sqlite", "postgres"])
def filled(place: Path, request: pytest.FixtureRequest) -> str:
    """A place to say to `--db`, with `several` sessions."""
    url = str(place / "s.db")
    if request.param == "postgres":
        url = shared_server().url(new_database())

    async def fill(act: Callable[[Store], Awaitable[None]]) -> None:
        async with Database(url).open("create", may_be_new=True) as store:
            await act(store)

    anyio.run(fill, several)
    return url


def found(place: Path, url: str, *arguments: str) -> list[str]:
    """The ids that a search prints, in order."""
    done = run(place, "sessions", "search", "--db", url, *arguments)
    assert done.returncode == 0, done.stderr
    return [line.split()[0] for line in done.stdout.splitlines()]


def test_sessions_are_found_by_all_that_is_said_of_them(place: Path, filled: str) -> None:
    """The newest first; metadata may hold what separates."""
    assert found(place, filled)[:2] == ["young", "old"]
    assert found(place, filled, "--limit", "1") == ["young"]
    assert found(place, filled, "--metadata", "user=ann", "--metadata", "topic=x=y") == ["old"]
    assert found(place, filled, "--metadata", "user=ann", "--metadata", "topic=z") == []
    assert found(place, filled, "--parent", "older") == ["below"]
    assert len(found(place, filled, "--status", "new")) == 4
    assert found(place, filled, "--status", "completed") == []


def test_sessions_are_found_by_what_was_said_in_them(place: Path) -> None:
    """In either case of A to Z; and what is found by nothing is said so."""
    with model_server() as variables:
        done = run(place, "ask", "What is here?", variables=variables)
    session = session_in(done.stderr)
    assert session in run(place, "sessions", "search", "the TOOL says").stdout
    nothing = run(place, "sessions", "search", "nobody said this")
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert nothing.stderr == "no session is like that\n"


def test_old_sessions_are_deleted_after_it_was_said_which(place: Path, filled: str) -> None:
    """Not without --yes where nobody can be asked; a session that is run is left and named."""
    prune = ("sessions", "prune", "--db", filled, "--older-than")
    dry = run(place, *prune, "30d", "--dry-run")
    assert dry.returncode == 0
    first, *ids = dry.stdout.splitlines()
    assert (first, sorted(ids)) == ("would delete 2 sessions, with all below", ["old", "older"])
    refused = run(place, *prune, "30d")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "say it with --yes" in refused.stderr
    assert len(found(place, filled)) == 4
    one = run(place, *prune, "8w", "--metadata", "user=ann", "--yes")
    assert (one.returncode, one.stdout) == (0, "deleted 1 session\n")
    none = run(place, *prune, "90s", "--status", "failed", "--yes")
    assert (none.returncode, none.stdout) == (0, "nothing is that old\n")
    rest = run(place, *prune, "12h", "--yes")
    assert (rest.returncode, rest.stdout) == (0, "deleted 2 sessions\n")
    assert found(place, filled) == ["young"]


def test_a_session_that_is_run_is_not_pruned_and_named(place: Path) -> None:
    """By whichever process holds it."""

    async def hold(store: Store) -> str:
        await several(store)
        await store.claim("old")
        done = await anyio.to_thread.run_sync(
            lambda: run(place, "sessions", "prune", "--older-than", "1m", "--yes")
        )
        assert (done.returncode, done.stdout) == (0, "deleted 2 sessions\n")
        return done.stderr

    assert in_store(place, hold) == "not deleted, somebody is running it: old\n"


def test_a_person_is_asked_before_sessions_are_deleted(place: Path) -> None:
    """Anything but yes leaves them, and Ctrl-C ends the command."""
    in_store(place, several)
    prune = ("sessions", "prune", "--older-than", "30d")
    with Terminal(place, *prune, variables={}) as terminal:
        terminal.expect("[y/N] ")
        terminal.type("\x03")
        assert terminal.end() == 130
    for answer, status in (("\n", 1), ("no\n", 1), ("y\n", 0)):
        with Terminal(place, *prune, variables={}) as terminal:
            terminal.expect("Delete 2 sessions, with all below? [y/N] ")
            terminal.type(answer)
            terminal.expect("nothing was deleted" if status else "deleted 3 sessions")
            assert terminal.end() == status


@pytest.mark.parametrize(
    "arguments",
    [
        ("search", "--metadata", "user"),
        ("search", "--status", "asleep"),
        ("search", "--limit", "0"),
        ("prune", "--older-than", "30"),
        ("prune", "--older-than", "many d"),
        ("prune", "--yes"),
    ],
)
def test_what_cannot_be_looked_for_is_told_with_the_usage(
    place: Path, arguments: tuple[str, ...]
) -> None:
    """Exit status 2."""
    done = run(place, "sessions", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: power-loop sessions ")


def test_what_a_session_cost_is_told_by_run_and_round(place: Path) -> None:
    """Of a model that the price list knows; and as JSON."""
    with model_server() as variables:
        known = {**variables, "POWER_LOOP_MODEL": "gpt-4o"}
        session = session_in(run(place, "ask", "What is here?", variables=known).stderr)
    done = run(place, "sessions", "usage", session)
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0] == f"session {session}"
    assert lines[1].endswith(" completed")
    assert lines[2].startswith("round 1 ok gpt-4o 12 in 5 out $0.0000")
    assert lines[3].startswith("round 2 ok gpt-4o 12 in 5 out $0.0000")
    assert lines[4] == lines[5]
    assert lines[5].startswith("total 2 attempts: 24 in 10 out $0.000")
    told = json.loads(run(place, "sessions", "usage", session, "--json").stdout)
    assert told["totals"]["ok"] == 2
    assert told["totals"]["unpriced"] == 0
    assert float(told["totals"]["amount"]) > 0


def test_a_cost_that_is_not_known_is_told_so(place: Path) -> None:
    """A model without a price, an estimate, an attempt that died; and the sub-agents' sessions.
    What came from a cache is told where it is known."""
    died_in(place, "s", {"c1": "pay"})
    records = (
        RunOpened("r1"),
        ModelAsked("t1", 1, "nobody-knows"),
        ModelEnded("t1", "failed", Usage(7, 3), measured=False),
        ModelAsked("t2", 1, "nobody-knows"),
        ModelEnded("t2", "failed", Usage(200, 0, cached_tokens=150)),
        ModelAsked("t3", 1, "nobody-knows"),
    )

    async def leave(store: Store) -> None:
        await store.create("child", parent="s")
        await write(store, "child", records)

    in_store(place, leave)
    done = run(place, "sessions", "usage", "s", "--children")
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "round 1 failed nobody-knows 7 in 3 out cost unknown estimated" in lines
    assert "round 1 lost nobody-knows ? in ? out cost unknown estimated" in lines
    assert lines[-2] == "all 2 sessions"
    assert "round 1 failed nobody-knows 200 in 0 out 75% cached cost unknown" in lines
    assert lines[-1].startswith("total 4 attempts: 207 in 3 out 75% cached cost unknown 10 tokens")
    assert lines[-1].endswith("estimated (4 without a price)")
    missing = run(place, "sessions", "usage", "nobody")
    assert missing.returncode == 1
    assert "there is no session 'nobody'" in missing.stderr
