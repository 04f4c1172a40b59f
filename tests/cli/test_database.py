"""Where the command keeps its sessions: a path, a URL, or what is none; never a password shown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from power_loop.cli.database import Database
from tests.cli.stored import new_database
from tests.cli.support import SECONDS, environment, run, session_in
from tests.model_server import model_server
from tests.postgres_server import shared_server


def test_a_url_of_a_file_is_the_file(place: Path) -> None:
    """Beside the program, or by its absolute path; its directory is made."""
    with model_server() as variables:
        done = run(place, "ask", "hi", "--db", "sqlite:///here/s.db", variables=variables)
    assert done.returncode == 0, done.stderr
    listed = run(place, "sessions", "list", "--db", f"sqlite:///{place}/here/s.db").stdout
    assert session_in(done.stderr) in listed
    assert listed == run(place, "sessions", "list", "--db", "here/s.db").stdout


@pytest.mark.parametrize("where", ["--db", "POWER_LOOP_DB"])
def test_sessions_live_on_a_server_and_the_password_is_never_shown(place: Path, where: str) -> None:
    """Every command works there; a command that is told can be typed, by whoever has the
    password."""
    name = new_database()
    url = shared_server().tcp_url(name, "hidden", name)
    given = ("--db", url) if where == "--db" else ()
    theirs = {} if given else {"POWER_LOOP_DB": url}
    with model_server() as model:
        variables = {**model, **theirs}
        demo = run(place, "demo", "What is here?", *given, variables=variables)
        assert demo.returncode == 0, demo.stderr
        doctor = run(place, "doctor", *given, variables=variables)
        usage = run(place, "ask", "--help", variables=variables)
    session = session_in(demo.stdout)
    for words in (("list",), ("show", session), ("search", "scripted"), ("usage", session)):
        assert run(place, "sessions", *words, *given, variables=theirs).returncode == 0
    shown = url.replace(":hidden", "")
    assert f"store       {shown}: 1 session" in doctor.stdout
    assert "psycopg" in doctor.stdout
    assert (shown in usage.stdout) is not bool(given)
    for done in (demo, doctor, usage):
        assert "hidden" not in done.stdout + done.stderr
    again = subprocess.run(
        demo.stdout.splitlines()[-1],
        shell=True,
        cwd=place,
        env={**environment(place), **theirs, "PGPASSWORD": "hidden"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    assert again.stdout in demo.stdout


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://u:hidden@host/db", "no sessions can be kept in 'mysql://u@host/db'"),
        ("sqlite://two-slashes.db", "no sessions can be kept in"),
        ("memory:", "no sessions can be kept in 'memory:'"),
        ("postgresql://u:hidden@host:nowhere/db", "the PostgreSQL URL cannot be read"),
        ("sqlite:///", "no sessions can be kept in"),
    ],
)
def test_a_place_that_is_none_is_told_in_a_line(place: Path, url: str, says: str) -> None:
    """With the forms that there are, and nothing of a password."""
    done = run(place, "sessions", "list", "--db", url)
    assert done.returncode == 1
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "hidden" not in done.stderr
    assert [path.name for path in place.iterdir()] == ["notes.txt"]


def test_wrong_credentials_are_told_in_a_line(place: Path) -> None:
    """Who was refused, and where; not with which password."""
    name = new_database()
    done = run(place, "sessions", "list", "--db", shared_server().tcp_url(name, "guessed", name))
    assert done.returncode == 1
    assert "refuses this user" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "guessed" not in done.stderr


def test_a_missing_extra_is_told_in_a_line(place: Path) -> None:
    """With what installs it."""
    (place / "without.py").write_text(
        "import sys\n"
        "from importlib import util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'psycopg' else find(name, *rest)\n"
        "from power_loop.cli import main\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "without.py", "sessions", "list", "--db", "postgresql://u:hidden@h/d"],
        cwd=place,
        env=environment(place),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "power-loop: PostgresStore needs the extra 'postgres': pip install 'power-loop[postgres]'\n"
    )


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:hidden@h:5432/d", "postgresql://u@h:5432/d"),
        ("postgresql://u:hid?d#en@h/d", "postgresql://u@h/d"),
        ("postgresql://u:hid/d@en@h/d", "postgresql://u@h/d"),
        ("postgresql://u@h/d?sslmode=require", "postgresql://u@h/d?sslmode=require"),
        ("postgresql:///d?host=/run&password=hidden&port=1", "postgresql:///d?host=/run&port=1"),
        ("postgresql://h?pass%77ord=hidden", "postgresql://h"),
        ("postgresql://u:hidden@a,b/d", "postgresql://u@a,b/d"),
        ("some/hidden:file@here", "some/hidden:file@here"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    """However it is written; what it needs otherwise to be of use stays."""
    database = Database(url)
    assert str(database) == shown
    assert repr(database) == f"Database({shown!r})"
    assert database.has_secret == (url != shown)
