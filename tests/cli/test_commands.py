"""The command line, as a person runs it: real processes, a real server, a real database."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from power_loop.events import decode_event, is_record
from tests.model_server import Gate, model_server

ROOT = Path(__file__).resolve().parent.parent.parent
COMMAND = [sys.executable, "-W", "error", "-c", "from power_loop.cli import main; exit(main())"]
SECONDS = 60


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with one file, to be the workspace."""
    (tmp_path / "notes.txt").write_text("The meeting is on Tuesday.\n")
    return tmp_path


def environment(place: Path, variables: dict[str, str] | None = None) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("POWER_LOOP", "OPENAI"))}
    database = str(place / "db" / "sessions.db")
    return {**clean, "PYTHONPATH": str(ROOT), "POWER_LOOP_DB": database, **(variables or {})}


def run(
    place: Path, *arguments: str, variables: dict[str, str] | None = None, typed: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=place,
        env=environment(place, variables),
        input=typed,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def session_in(text: str) -> str:
    found = re.search(r"sess_[0-9a-f]+", text)
    assert found is not None, text
    return found.group()


def test_ask_shows_the_call_its_result_and_the_answer(place: Path) -> None:
    """The tool call, what it gave, the answer, and the session to go on with."""
    with model_server() as variables:
        done = run(place, "ask", "What is here?", variables=variables)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("→ list_files")
    assert "notes.txt" in lines[1]
    assert "The tool says:" in done.stdout
    assert lines[-1] == "[completed]"
    assert "sess_" in done.stderr


def test_ask_as_json_is_the_event_stream(place: Path) -> None:
    """Each line is an event; the records are numbered without a gap."""
    with model_server() as variables:
        done = run(place, "ask", "--json", "What is here?", variables=variables)
    assert done.returncode == 0, done.stderr
    stamped = [decode_event(line) for line in done.stdout.splitlines()]
    numbers = [each.seq for each in stamped if is_record(each.event)]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_session_is_gone_on_with_listed_shown_followed_and_deleted(place: Path) -> None:
    """What `ask` stored is there for every other command."""
    with model_server() as variables:
        first = run(place, "ask", "What is here?", variables=variables)
        session = session_in(first.stderr)
        second = run(place, "ask", "--session", session, "And now?", variables=variables)
    assert second.returncode == 0, second.stderr
    assert session_in(second.stderr) == session
    listed = run(place, "sessions", "list").stdout
    assert session in listed
    assert "What is here?" in listed
    shown = run(place, "sessions", "show", session).stdout
    assert "run opened: What is here?" in shown
    assert "run opened: And now?" in shown
    events = run(place, "events", session, "--after", "3", "--json").stdout.splitlines()
    assert [json.loads(line)["seq"] for line in events][:2] == [4, 5]
    assert run(place, "sessions", "rm", session).stdout == "deleted 1 session\n"
    gone = run(place, "sessions", "show", session)
    assert gone.returncode == 1
    assert "there is no session" in gone.stderr


def test_the_demo_shows_the_steps_and_what_is_stored(place: Path) -> None:
    """With a provider in the environment, no download."""
    with model_server() as variables:
        done = run(place, "demo", variables=variables)
    assert done.returncode == 0, done.stderr
    assert "→ list_files" in done.stdout
    assert "tool finished" in done.stdout
    assert "run closed: completed" in done.stdout


def test_doctor_says_what_is_installed_and_who_answers(place: Path) -> None:
    """Versions, the store, and a real question to the provider."""
    with model_server() as variables:
        done = run(place, "doctor", variables=variables)
    assert done.returncode == 0, done.stderr
    assert "httpcore" in done.stdout
    assert "scripted answers: 'Hello from the scripted model.'" in done.stdout
    alone = run(place, "doctor")
    assert "local:smollm2" in alone.stdout


@pytest.mark.parametrize(
    ("arguments", "variables", "says"),
    [
        (("ask", "hi"), {"POWER_LOOP_BASE_URL": "http://127.0.0.1:9/v1"}, "POWER_LOOP_"),
        (("ask", "hi", "--model", "openai:gpt-5"), {}, "OPENAI_API_KEY"),
        (("ask", "hi", "--model", "nobody:x"), {}, "nobody"),
        (("ask", "hi", "--workspace", "nowhere"), {}, "not a directory"),
        (("sessions", "show", "sess_0"), {}, "there is no session 'sess_0'"),
        (("sessions", "list", "--db", "."), {}, "power-loop:"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    place: Path, arguments: tuple[str, ...], variables: dict[str, str], says: str
) -> None:
    """No traceback: what is wrong, and what to do."""
    done = run(place, *arguments, variables=variables)
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unreachable_provider_ends_degraded_and_the_session_stays(place: Path) -> None:
    """The message is stored; `resume` in a chat would go on."""
    variables = {
        "POWER_LOOP_BASE_URL": "http://127.0.0.1:9/v1",
        "POWER_LOOP_API_KEY": "k",
        "POWER_LOOP_MODEL": "m",
    }
    done = run(place, "ask", "hi", variables=variables)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "[degraded]"
    assert "degraded" in run(place, "sessions", "list").stdout


def test_a_chat_answers_obeys_commands_and_ends(place: Path) -> None:
    """Messages, commands, and unknown commands, read from standard input."""
    with model_server() as variables:
        typed = "/help\n/session\n/resume\nHello there\n/session\n/nonsense\n/quit\n"
        done = run(place, "chat", variables=variables, typed=typed)
    assert done.returncode == 0, done.stderr
    assert "/steer TEXT" in done.stdout
    assert "none yet" in done.stdout
    assert "[completed]" in done.stdout
    assert "sess_" in done.stdout
    assert "there is no command /nonsense" in done.stderr


def test_ctrl_c_in_a_chat_cancels_the_run_and_not_the_program(place: Path) -> None:
    """The run ends cancelled, and the next line is still read."""
    gate = Gate()
    with model_server(gate) as variables:
        chat = subprocess.Popen(
            [*COMMAND, "chat"],
            cwd=place,
            env=environment(place, variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert chat.stdin is not None
        chat.stdin.write("Hello\n")
        chat.stdin.flush()
        assert gate.asked.wait(SECONDS)
        chat.send_signal(signal.SIGINT)
        gate_closed_output: list[str] = []
        assert chat.stdout is not None
        for line in chat.stdout:
            gate_closed_output.append(line)
            if "[cancelled]" in line:
                break
        gate.open.set()
        rest, errors = chat.communicate("/resume\n/quit\n", timeout=SECONDS)
    assert chat.returncode == 0, errors
    assert any("[cancelled]" in line for line in gate_closed_output)
    assert "[completed]" in rest


def test_steering_in_a_chat_reaches_the_next_round(place: Path) -> None:
    """What is said with /steer while the model works is in the transcript of the same run."""
    gate = Gate()
    with model_server(gate) as variables:
        chat = subprocess.Popen(
            [*COMMAND, "chat"],
            cwd=place,
            env=environment(place, variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert chat.stdin is not None
        chat.stdin.write("Hello\n")
        chat.stdin.flush()
        assert gate.asked.wait(SECONDS)
        chat.stdin.write("/steer look at notes.txt\n/session\n/quit\n")
        chat.stdin.flush()
        assert chat.stderr is not None
        said = chat.stderr.readline()
        gate.open.set()
        out, errors = chat.communicate(timeout=SECONDS)
    assert chat.returncode == 0, errors
    assert said == "(it will hear: look at notes.txt)\n"
    shown = run(place, "sessions", "show", session_in(out)).stdout
    assert shown.count("run opened") == 1
    assert "user: look at notes.txt" in shown
