"""What is stored, copied, compared, archived and replayed on the command line."""

from __future__ import annotations

from pathlib import Path

import msgspec

from power_loop import Explanation
from tests.cli.stored import died_in
from tests.cli.support import run, session_in
from tests.model_server import model_server


def asked(place: Path) -> str:
    """The id of a session with one answered question."""
    with model_server() as variables:
        done = run(place, "ask", "What is here?", variables=variables)
    assert done.returncode == 0, done.stderr
    return session_in(done.stderr)


def test_a_session_replays_without_a_model_and_says_what_differs(place: Path) -> None:
    """No provider is set, and nothing listens; with other tools it is another prompt."""
    session = asked(place)
    done = run(place, "replay", "--model", "openai:any", session)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("the same: 1 runs, 2 rounds, ")
    other = run(place, "replay", "--model", "openai:any", "--write", session)
    assert other.returncode == 1
    assert "differs in ModelConfigured.tools[" in other.stdout
    unknown = run(place, "replay", "--model", "openai:any", session, "--run", "nope")
    assert unknown.returncode == 1
    assert "no run 'nope'" in unknown.stderr


def test_why_a_session_ended_so_is_told_as_text_and_as_data(place: Path) -> None:
    """By rule, limits and chain; also of a run whose process died, and without a provider."""
    session = asked(place)
    done = run(place, "explain", session)
    assert (done.returncode, done.stderr) == (0, "")
    first, _, why, *_ = done.stdout.splitlines()
    assert first.startswith("# completed: run ")
    assert first.endswith(f" of session {session}")
    assert why == "**Why:** the model answered, and nobody objected"
    found = run(place, "explain", session, "--json").stdout
    told = msgspec.json.decode(found, type=Explanation)
    assert f"{told}\n" == done.stdout
    one = run(place, "explain", session, "--run", told.run_id, "--json")
    assert msgspec.json.decode(one.stdout, type=Explanation) == told
    died_in(place, "d", {"c1": "pay"})
    dead = run(place, "explain", "d")
    assert dead.returncode == 0
    assert dead.stdout.startswith("# running: run r1 of session d\n")
    assert "tool pay was running: its outcome is unknown" in dead.stdout
    for arguments, status, why in (
        ((session, "--run", "nope"), 1, "has no run 'nope'"),
        (("nowhere",), 1, "nowhere"),
        ((), 2, "required"),
    ):
        refused = run(place, "explain", *arguments)
        assert refused.returncode == status
        assert why in refused.stderr
        assert refused.stdout == ""


def test_a_session_is_forked_and_the_two_are_compared(place: Path) -> None:
    """The id that is printed is the fork's; status 1 says that they differ."""
    session = asked(place)
    forked = run(place, "sessions", "fork", session, "--at", "3")
    assert forked.returncode == 0, forked.stderr
    fork = forked.stdout.strip()
    shown = run(place, "sessions", "show", fork).stdout
    assert f"forked from record 3 of {session}" in shown
    assert "model configured: " in shown
    found = run(place, "sessions", "diff", session, fork)
    assert found.returncode == 1
    assert found.stdout.startswith("3 records are the same\nrecord 4 differs in ")
    same = run(place, "sessions", "diff", session, session)
    assert same.returncode == 0
    wrong = run(place, "sessions", "fork", session, "--at", "999")
    assert wrong.returncode == 1
    assert "no record 999" in wrong.stderr


def test_a_session_is_exported_and_imported_under_a_key(place: Path) -> None:
    """What was altered, or is sealed with another key, is refused."""
    session = asked(place)
    key, other = place / "key", place / "other"
    key.write_text("secret\n")
    other.write_text("guessed\n")
    file = place / "session.jsonl"
    out = run(place, "sessions", "export", session, str(file), "--key-file", str(key))
    assert out.returncode == 0, out.stderr
    assert "records in" in out.stderr
    assert (
        "there is a session"
        in run(place, "sessions", "import", str(file), "--key-file", str(key)).stderr
    )
    copied = run(place, "sessions", "import", str(file), "--key-file", str(key), "--as", "another")
    assert (copied.returncode, copied.stdout) == (0, "another\n")
    assert run(place, "sessions", "rm", session).returncode == 0
    for arguments, why in (
        ((), "give that key"),
        (("--key-file", str(other)), "does not fit"),
        (("--key-file", str(place / "nowhere")), "No such file"),
    ):
        refused = run(place, "sessions", "import", str(file), *arguments)
        assert refused.returncode == 1
        assert why in refused.stderr
    back = run(place, "sessions", "import", str(file), "--key-file", str(key))
    assert back.stdout.strip() == session
    other.write_text("\n")
    empty = run(place, "sessions", "export", session, str(file), "--key-file", str(other))
    assert "is empty" in empty.stderr
