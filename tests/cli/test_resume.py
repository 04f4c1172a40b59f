"""A run that was interrupted is carried on or given up, and people are told how to decide."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from power_loop.runtime.stores.base import Store
from power_loop.session.records import CallAnswered, Decided, RunClosed, ToolSettled
from tests.agent.crashed import left_behind
from tests.cli.stored import died_in, in_store, records_of, waiting_for
from tests.cli.support import SECONDS, environment, run, session_in
from tests.model_server import model_server


def as_printed(place: Path, text: str, option: str, variables: dict[str, str]) -> str:
    """What comes of the command in `text` that has `option`, typed into a shell as it stands."""
    (command,) = [line.split(": ")[-1] for line in text.splitlines() if option in line]
    elsewhere = environment(place, variables)
    del elsewhere["POWER_LOOP_DB"]
    done = subprocess.run(
        command,
        shell=True,
        cwd=place,
        env=elsewhere,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_run_whose_provider_was_away_is_carried_on_by_the_command_it_named(place: Path) -> None:
    """The same display, the same tools."""
    away = {
        "POWER_LOOP_BASE_URL": "http://127.0.0.1:9/v1",
        "POWER_LOOP_API_KEY": "k",
        "POWER_LOOP_MODEL": "m",
    }
    cut = run(place, "ask", "What is here?", variables=away)
    assert cut.returncode == 1
    with model_server() as variables:
        shown = as_printed(place, cut.stderr, " resume ", variables)
        assert "→ list_files" in shown
        assert "[completed]" in shown
        over = run(place, "resume", session_in(cut.stderr), variables=variables)
    assert over.returncode == 1
    assert "ended completed" in over.stderr
    assert "send the next message" in over.stderr


def test_a_call_in_doubt_is_decided_by_a_person(place: Path) -> None:
    """What is open is told with the commands that decide it; one that cannot be run again here is
    not offered to be."""
    died_in(place, "s", {"c1": "pay", "c2": "pay"})
    with model_server() as variables:
        asked = run(place, "resume", "s", variables=variables)
        assert asked.returncode == 1
        assert (
            'c1  pay({"n":1}) (a tool of another program)  was running when its process died'
            in asked.stderr
        )
        assert "rerun" not in asked.stderr
        assert "abort s" in asked.stderr
        shown = as_printed(
            place, asked.stderr, "--decide c1=unknown --decide c2=unknown", variables
        )
    assert "[unknown] The program that ran this call died" in shown
    assert "[completed]" in shown


def test_a_call_in_doubt_is_run_again_or_given_its_result(place: Path) -> None:
    """Where the command has the tool; what was given to the first command is in the second."""
    (place / "below").mkdir()
    died_in(place, "s", {"c1": "edit_file"})
    died_in(place, "t", {"c1": "pay"})
    with model_server() as variables:
        asked = run(place, "resume", "s", "--write", "--workspace", "below", variables=variables)
        assert asked.returncode == 1
        shown = as_printed(place, asked.stderr, "--decide c1=rerun", variables)
        assert "→ edit_file" in shown
        given = run(place, "resume", "t", "--result", "c1=paid 3=4", variables=variables)
        assert given.returncode == 0, given.stderr
    assert "The tool says: paid 3=4" in given.stdout


@pytest.mark.parametrize(("option", "how"), [("--approve", "finished"), ("--deny", "denied")])
def test_a_call_that_waits_is_approved_or_denied(place: Path, option: str, how: str) -> None:
    """Without an answer nothing happens but that the way to answer is told."""
    waiting_for(place, "s", "list_files")
    before = len(records_of(place, "s"))
    with model_server() as variables:
        asked = run(place, "resume", "s", variables=variables)
        assert asked.returncode == 1
        assert "c1  list_files({})  waits for an answer to k1" in asked.stderr
        assert "it looks around (asked by guard) (until " in asked.stderr
        assert len(records_of(place, "s")) == before
        shown = as_printed(place, asked.stderr, f"{option} k1", variables)
    assert "[completed]" in shown
    records = records_of(place, "s")
    assert [r.token for r in records if isinstance(r, CallAnswered)] == ["k1"]
    assert [r.how for r in records if isinstance(r, ToolSettled)] == [how]


def test_a_run_that_still_waits_after_it_was_resumed_says_for_what(place: Path) -> None:
    """An answer to one question leaves the other open."""
    waiting_for(place, "s", "list_files", "list_files")
    with model_server() as variables:
        asked = run(place, "resume", "s", "--approve", "k1", variables=variables)
        assert asked.returncode == 1
        assert "[awaiting_approval]" in asked.stdout
        assert "waits for an answer to k1" not in asked.stderr
        assert "[completed]" in as_printed(place, asked.stderr, "--deny k2", variables)


def test_a_call_of_another_programs_tool_is_not_begun_here(place: Path) -> None:
    """It can be denied or given up here; what would lose it is not offered."""
    waiting_for(place, "s", "pay")
    with model_server() as variables:
        asked = run(place, "resume", "s", variables=variables)
        assert "c1  pay({}) (a tool of another program)  waits for" in asked.stderr
        assert "--approve" not in asked.stderr
        assert "[completed]" in as_printed(place, asked.stderr, "--deny k1", variables)

    async def leave(store: Store) -> None:
        await left_behind(store, "t", {"c1": "pay", "c2": "pay"}, begun=["c1"])

    in_store(place, leave)
    asked = run(place, "ask", "--session", "t", "And now?", variables=variables)
    assert asked.returncode == 1
    assert 'c2  pay({"n":1}) (a tool of another program)  has not begun' in asked.stderr
    assert "it can go on in that program" in asked.stderr
    assert " resume " not in asked.stderr
    assert " abort t" in asked.stderr


def test_a_call_in_doubt_that_may_be_run_again_is_nobodys_to_decide(place: Path) -> None:
    """A tool that only reads is run once more; for the other one a person has decided."""
    died_in(place, "s", {"c1": "pay", "c2": "list_files"})
    with model_server() as variables:
        asked = run(place, "resume", "s", "--decide", "c1=unknown", variables=variables)
    assert asked.returncode == 0, asked.stderr
    assert "[completed]" in asked.stdout


def test_a_message_to_a_session_with_open_calls_says_what_is_open(place: Path) -> None:
    """As `resume` does; the message is not stored."""
    waiting_for(place, "s", "list_files")
    with model_server() as variables:
        asked = run(place, "ask", "--session", "s", "And now?", variables=variables)
    assert asked.returncode == 1
    assert "resume s --approve k1" in asked.stderr
    assert "resume s --deny k1" in asked.stderr
    assert "And now?" not in run(place, "sessions", "show", "s").stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--approve", "k1"), "needs the tool 'pay', which is not one of this command's"),
        (("--approve", "k2"), "waits for 'k2'"),
        (("--approve", "k1", "--deny", "k1"), "'k1' is answered twice"),
        (("--decide", "c1=unknown"), "is not in doubt"),
        (("--result", "c9=x"), "no call 'c9'"),
    ],
)
def test_a_decision_that_does_not_fit_is_refused(
    place: Path, arguments: tuple[str, ...], says: str
) -> None:
    """In a line; nothing is stored but that somebody tried to answer what nobody had asked."""
    waiting_for(place, "s", "pay")
    before = len(records_of(place, "s"))
    with model_server() as variables:
        done = run(place, "resume", "s", *arguments, variables=variables)
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    added = records_of(place, "s")[before:]
    assert [r.what for r in added if isinstance(r, Decided)] == ["refused"] * ("k2" in says)
    assert len(added) == ("k2" in says)


@pytest.mark.parametrize(
    "arguments", [("--decide", "c1=perhaps"), ("--decide", "rerun"), ("--result", "c1")]
)
def test_a_decision_that_is_none_is_told_with_the_usage(
    place: Path, arguments: tuple[str, ...]
) -> None:
    """Exit status 2, as for other wrong arguments."""
    done = run(place, "resume", "s", *arguments)
    assert done.returncode == 2
    assert arguments[1] in done.stderr.splitlines()[-1]


def test_open_calls_are_given_up_and_the_model_is_told_the_truth(place: Path) -> None:
    """How many, and what is told of each; no model is needed for that."""
    died_in(place, "s", {"c1": "pay"})
    done = run(place, "abort", "s", "--reason", "too late")
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.splitlines()
    assert first == "gave up 1 open call"
    assert second.startswith("  c1: [unknown] ")
    assert second.endswith("It was given up: too late")
    assert isinstance(records_of(place, "s")[-1], RunClosed)
    assert run(place, "abort", "s").stdout == "gave up 0 open calls\n"
    missing = run(place, "abort", "nobody")
    assert missing.returncode == 1
    assert "there is no session 'nobody'" in missing.stderr
    assert [path.name for path in (place / "db").iterdir()] == ["sessions.db"]


def test_a_session_below_another_is_not_resumed_or_given_up_by_itself(place: Path) -> None:
    """Whoever tries is told which one to use, and no command that would be refused as well."""

    async def below(store: Store) -> None:
        await store.create("s")
        await store.create("s/c1", parent="s")

    in_store(place, below)
    waiting_for(place, "s/c1", "pay")
    before = records_of(place, "s/c1")
    for command in (("resume", "s/c1"), ("resume", "s/c1", "--approve", "k1"), ("abort", "s/c1")):
        refused = run(place, *command)
        assert refused.returncode == 1
        assert "use session 's' instead" in refused.stderr
        assert "one of these goes on" not in refused.stderr
    assert records_of(place, "s/c1") == before
