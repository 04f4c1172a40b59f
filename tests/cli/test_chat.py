"""A conversation at a keyboard: messages, commands, Ctrl-C, and a session that others use."""

from __future__ import annotations

from pathlib import Path

from tests.cli.support import SECONDS, Terminal, run, session_in, started
from tests.model_server import Gate, model_server

CTRL_C = "\x03"


def test_a_chat_answers_obeys_commands_and_ends(place: Path) -> None:
    """Messages, commands, and unknown commands, read from standard input."""
    with model_server() as variables:
        typed = "/help\n/session\n/resume\nHello there\n/session\n/nonsense\n/steer\n/quit\n"
        done = run(place, "chat", variables=variables, typed=typed)
    assert done.returncode == 0, done.stderr
    assert "/steer TEXT" in done.stdout
    assert "none yet" in done.stdout
    assert "[completed]" in done.stdout
    assert "sess_" in done.stdout
    assert "there is no command /nonsense" in done.stderr
    assert "/steer TEXT says something" in done.stderr


def test_a_chat_takes_any_input_and_ends_with_it(place: Path) -> None:
    """Bytes that are no text, a last line without an end, and no input at all."""
    with model_server() as variables:
        done = run(place, "chat", variables=variables, typed="a\x00b\n\nHello")
        assert done.returncode == 0, done.stderr
        assert "NUL character" in done.stderr
        assert "[completed]" in done.stdout
        assert run(place, "chat", variables=variables).returncode == 0


def test_ctrl_c_cancels_the_run_and_not_the_program(place: Path) -> None:
    """However often; at an idle prompt it says how to leave, and only twice there leaves."""
    gate = Gate()
    with (
        model_server(gate) as variables,
        Terminal(place, "chat", variables=variables) as terminal,
    ):
        terminal.expect("> ")
        terminal.type("Hello\n")
        assert gate.asked.wait(SECONDS)
        terminal.type(CTRL_C + CTRL_C)
        terminal.expect("[cancelled] Ctrl-C")
        terminal.type("/session\n")
        terminal.expect("sess_")
        terminal.type(CTRL_C)
        terminal.expect("Ctrl-C once more leaves")
        gate.open.set()
        terminal.type("/resume\n")
        terminal.expect("[completed]")
        terminal.expect("> ")
        terminal.type(CTRL_C)
        terminal.expect("Ctrl-C once more leaves")
        terminal.type(CTRL_C)
        assert terminal.end() == 0
    assert "Traceback" not in terminal.shown


def test_what_is_said_while_the_agent_works_reaches_the_same_run(place: Path) -> None:
    """It enters at the next round; other lines wait for the end of the run."""
    gate = Gate()
    with model_server(gate) as variables, started(place, "chat", variables=variables) as chat:
        assert chat.stdin is not None
        assert chat.stderr is not None
        chat.stdin.write("Hello\n")
        chat.stdin.flush()
        assert gate.asked.wait(SECONDS)
        chat.stdin.write("/steer look at notes.txt\n/session\n/quit\n")
        chat.stdin.flush()
        assert chat.stderr.readline() == "(it will hear: look at notes.txt)\n"
        gate.open.set()
        out, errors = chat.communicate(timeout=SECONDS)
        assert chat.returncode == 0, errors
    shown = run(place, "sessions", "show", session_in(out)).stdout
    assert shown.count("run opened") == 1
    assert "user: look at notes.txt" in shown


def test_what_cannot_wait_stops_what_the_agent_is_doing(place: Path) -> None:
    """The answer under way is closed; the next one knows what was said."""
    gate = Gate()
    with model_server(gate) as variables, started(place, "chat", variables=variables) as chat:
        assert chat.stdin is not None
        assert chat.stderr is not None
        chat.stdin.write("Hello\n")
        chat.stdin.flush()
        assert gate.asked.wait(SECONDS)
        gate.asked.clear()
        chat.stdin.write("/steer! look at notes.txt\n")
        chat.stdin.flush()
        assert chat.stderr.readline() == "(it will hear: look at notes.txt)\n"
        assert gate.asked.wait(SECONDS), "it was not asked again"
        gate.open.set()
        chat.stdin.write("/session\n/steer!\n/quit\n")
        chat.stdin.flush()
        out, errors = chat.communicate(timeout=SECONDS)
        assert chat.returncode == 0, errors
        assert "/steer! TEXT says something" in errors
    shown = run(place, "sessions", "show", session_in(out)).stdout
    assert shown.count("run opened") == 1
    assert "user: look at notes.txt" in shown


def test_what_is_said_while_a_resumed_run_works_reaches_it_too(place: Path) -> None:
    """`/resume` is a run like any other: it is shown, steered and cancelled."""
    gate = Gate()
    with (
        model_server(gate) as variables,
        Terminal(place, "chat", variables=variables) as terminal,
    ):
        terminal.expect("> ")
        terminal.type("Hello\n")
        for _ in range(2):
            assert gate.asked.wait(SECONDS)
            gate.asked.clear()
            terminal.type(CTRL_C)
            terminal.expect("[cancelled]")
            terminal.expect("> ")
            terminal.type("/resume\n")
        assert gate.asked.wait(SECONDS)
        terminal.type("/steer look at notes.txt\n")
        terminal.expect("(it will hear: look at notes.txt)")
        gate.open.set()
        terminal.expect("[completed]")
        terminal.type("/session\n/quit\n")
        assert terminal.end() == 0
    shown = run(place, "sessions", "show", session_in(terminal.shown)).stdout
    assert shown.count("run opened, resumes") == 2
    assert "user: look at notes.txt" in shown


def test_ctrl_c_while_another_process_has_the_session_leaves_that_run_alone(place: Path) -> None:
    """It gives up waiting; whoever waits on gets its turn."""
    gate = Gate()
    with model_server() as quick, model_server(gate) as held:
        session = session_in(run(place, "ask", "Hello", variables=quick).stderr)
        with (
            started(place, "ask", "--session", session, "Take long", variables=held) as other,
            Terminal(place, "chat", "--session", session, variables=quick) as terminal,
        ):
            assert gate.asked.wait(SECONDS)
            terminal.expect("> ")
            terminal.type("Not sent\n")
            terminal.expect("is busy")
            terminal.type(CTRL_C)
            terminal.expect("gave up waiting")
            terminal.type("Sent later\n")
            terminal.expect("is busy")
            terminal.type("/steer and be brief\n")
            terminal.expect("(it will hear: and be brief)")
            gate.open.set()
            out, errors = other.communicate(timeout=SECONDS)
            assert other.returncode == 0, errors
            assert "[completed]" in out
            terminal.expect("[completed]")
            terminal.type("/quit\n")
            assert terminal.end() == 0
    shown = run(place, "sessions", "show", session).stdout
    assert "Not sent" not in shown
    assert shown.index("Take long") < shown.index("and be brief") < shown.index("Sent later")
    assert "cancelled" not in shown
