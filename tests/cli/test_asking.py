"""What calls wait for is told to people, and they answer it: as arguments, or at the terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from power_loop.session.records import CallAnswered, ToolSettled, ToolStarted
from tests.cli.stored import asking_in, records_of, waiting_for
from tests.cli.support import Terminal, run
from tests.model_server import model_server

COLOURS = '{"type":"string","enum":["red","blue"]}'


def answered(place: Path, session: str) -> list[tuple[str, str, str, str]]:
    """What was answered: the word, by whom, with which note, with which arguments."""
    records = [r for r in records_of(place, session) if isinstance(r, CallAnswered)]
    return [(r.answer, r.by, r.note, r.arguments) for r in records]


def settled(place: Path, session: str) -> list[str]:
    """How calls ended."""
    return [r.how for r in records_of(place, session) if isinstance(r, ToolSettled)]


def test_an_approval_may_change_the_arguments_and_says_whose_it_is(place: Path) -> None:
    """The tool runs with what the person wrote, and the log has both."""
    waiting_for(place, "s", "read_file", arguments='{"path":"a.txt"}')
    (place / "b.txt").write_text("the other file")
    edited = '{"path": "b.txt"}'
    with model_server() as variables:
        words = ("resume", "s", "--approve", f"k1={edited}", "--by", "ada")
        done = run(place, *words, variables=variables)
    assert done.returncode == 0, done.stderr
    assert "the other file" in done.stdout
    assert answered(place, "s") == [("approve", "ada", "", '{"path":"b.txt"}')]
    (started,) = [r for r in records_of(place, "s") if isinstance(r, ToolStarted)]
    assert started.arguments == '{"path":"b.txt"}'


def test_a_denial_carries_its_note_to_the_model(place: Path) -> None:
    """The scripted model repeats what it was told."""
    waiting_for(place, "s", "list_files")
    with model_server() as variables:
        done = run(place, "resume", "s", "--deny", "k1=not = today", variables=variables)
    assert done.returncode == 0, done.stderr
    assert "They say: not = today" in done.stdout
    assert answered(place, "s") == [("deny", "command line", "not = today", "")]


def test_a_question_is_told_with_what_may_be_answered(place: Path) -> None:
    """And with the command that answers it; another answer is refused in a line."""
    asking_in(place, "s", "Which colour?", COLOURS)
    with model_server() as variables:
        asked = run(place, "resume", "s", variables=variables)
        assert asked.returncode == 1
        assert "Which colour?" in asked.stderr
        assert 'to fit {"type": "string", "enum": ["red", "blue"]}' in asked.stderr
        assert "resume s --answer k1=TEXT" in asked.stderr
        assert "--approve" not in asked.stderr
        assert "--deny" not in asked.stderr
        wrong = run(place, "resume", "s", "--answer", "k1=green", variables=variables)
        assert wrong.returncode == 1
        assert "does not fit its schema" in wrong.stderr
        done = run(place, "resume", "s", "--answer", "k1=blue", variables=variables)
    assert done.returncode == 0, done.stderr
    assert answered(place, "s") == [("blue", "command line", "", "")]


@pytest.mark.parametrize("given", ["k1={", "k1=[1]", "k1=3", 'k1={"a":}'])
def test_arguments_that_are_no_object_are_refused_with_the_usage(place: Path, given: str) -> None:
    """Before anything is opened."""
    waiting_for(place, "s", "list_files")
    before = len(records_of(place, "s"))
    done = run(place, "resume", "s", "--approve", given)
    assert done.returncode == 2
    assert "no JSON object" in done.stderr.splitlines()[-1]
    assert len(records_of(place, "s")) == before


def test_whoever_is_at_the_terminal_is_asked_when_a_run_is_carried_on(place: Path) -> None:
    """Nonsense is asked for again; arguments that are none are told; then the call runs."""
    waiting_for(place, "s", "read_file", arguments='{"path":"a.txt"}')
    (place / "b.txt").write_text("the other file")
    with (
        model_server() as variables,
        Terminal(place, "resume", "s", variables=variables) as terminal,
    ):
        before = terminal.expect("y to allow it")
        assert "read_file {" in before
        assert '"path": "a.txt"' in before
        assert "it looks around (until " in before
        terminal.type("perhaps\n")
        terminal.expect("y to allow it")
        terminal.type("e\n")
        terminal.expect("the arguments as a JSON object")
        terminal.type("[]\n")
        terminal.expect("that cannot be")
        terminal.type('{"path": "b.txt"}\n')
        terminal.expect("the other file")
        terminal.expect("[completed]")
        assert terminal.end() == 0
    assert answered(place, "s") == [("approve", "command line", "", '{"path":"b.txt"}')]


def test_who_decides_later_leaves_the_call_open(place: Path) -> None:
    """The command says how to decide then, and nothing has run."""
    waiting_for(place, "s", "list_files")
    with (
        model_server() as variables,
        Terminal(place, "resume", "s", variables=variables) as terminal,
    ):
        terminal.expect("l to decide later: ")
        terminal.type("l\n")
        terminal.expect("[awaiting_approval]")
        terminal.expect("--approve k1")
        assert terminal.end() == 1
    assert answered(place, "s") == []
    assert settled(place, "s") == []


def test_a_chat_puts_questions_between_its_messages(place: Path) -> None:
    """What is typed while one is open is the answer; afterwards it is a message again."""
    waiting_for(place, "s", "list_files")
    with (
        model_server() as variables,
        Terminal(place, "chat", "--session", "s", variables=variables) as terminal,
    ):
        terminal.expect("> ")
        terminal.type("/resume\n")
        terminal.expect("l to decide later: ")
        terminal.type("n too early\n")
        terminal.expect("say: too early")
        terminal.expect("[completed]")
        terminal.expect("> ")
        terminal.type("Hello there\n")
        terminal.expect("→ list_files")
        terminal.expect("[completed]")
        terminal.expect("> ")
        terminal.type("/quit\n")
        assert terminal.end() == 0
    assert answered(place, "s") == [("deny", "command line", "too early", "")]


def test_with_confirm_no_file_is_written_that_nobody_has_allowed(place: Path) -> None:
    """Not even where somebody had allowed it to another program's rule."""
    content = '{"path":"new.txt","content":"written"}'
    waiting_for(place, "s", "write_file", arguments=content)
    with model_server() as variables:
        words = ("resume", "s", "--write", "--confirm")
        asked = run(place, *words, "--approve", "k1", variables=variables)
        assert asked.returncode == 1
        assert "it changes files (asked by " in asked.stderr
        assert "--write --confirm" in asked.stderr
        assert not (place / "new.txt").exists()
        with Terminal(place, *words, variables=variables) as terminal:
            terminal.expect("l to decide later: ")
            terminal.type("y\n")
            terminal.expect("[completed]")
            assert terminal.end() == 0
    assert (place / "new.txt").read_text() == "written"


def test_ctrl_c_at_a_question_cancels_the_run_and_not_the_chat(place: Path) -> None:
    """The call is given up, and what is typed next is a message."""
    waiting_for(place, "s", "list_files")
    with (
        model_server() as variables,
        Terminal(place, "chat", "--session", "s", variables=variables) as terminal,
    ):
        terminal.expect("> ")
        terminal.type("/resume\n")
        terminal.expect("l to decide later: ")
        terminal.type("\x03")
        terminal.expect("[cancelled] Ctrl-C")
        terminal.expect("> ")
        terminal.type("Hello there\n")
        terminal.expect("[completed]")
        terminal.type("/quit\n")
        assert terminal.end() == 0
    assert answered(place, "s") == []
    assert settled(place, "s")[0] == "not_run"
