"""The command line, as a person runs it: real processes, a real server, a real database."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from llm_client.local import LOCAL_MODELS
from power_loop.events import decode_event, is_record
from tests.cli.support import COMMAND, SECONDS, environment, run, session_in, started
from tests.local_weights import need_real_model
from tests.model_server import Gate, model_server, refusing_server


def test_ask_shows_the_call_its_result_and_the_answer(place: Path) -> None:
    """The tool call, what it gave, the answer, and the session to go on with."""
    with model_server() as variables:
        done = run(place, "ask", "What is here?", variables=variables)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("→ list_files")
    assert "notes.txt" in lines[1]
    assert "The tool says:" in done.stdout
    assert lines[-1] == "[completed] tokens: 24 in, 10 out"
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
    again = done.stdout.splitlines()[-1]
    elsewhere = environment(place)
    del elsewhere["POWER_LOOP_DB"]
    shown = subprocess.run(
        again, shell=True, cwd="/", env=elsewhere, capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.strip()
    assert shown.stdout in done.stdout


def test_doctor_says_what_is_installed_and_who_answers(place: Path) -> None:
    """Versions, the store, and a real question to the provider."""
    with model_server() as variables:
        done = run(place, "doctor", variables=variables)
    assert done.returncode == 0, done.stderr
    assert "httpcore" in done.stdout
    assert "scripted answers: 'Hello from the scripted model.'" in done.stdout


def test_doctor_probes_what_the_model_can_do(place: Path) -> None:
    """A line a capability, with the evidence; a schema is obeyed, one tool is called at a time."""
    with model_server() as variables:
        done = run(place, "doctor", "--probe", variables=variables)
    assert done.returncode == 0, done.stderr
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    told = {words[0]: words[1:] for words in lines if len(words) == 3}
    assert told["answer"] == ["yes", "'Hello from the scripted model.'"]
    assert told["tools"][0] == "yes"
    assert told["tools"][1].startswith("report_colour(")
    assert told["parallel_tools"][0] == "inconclusive"
    assert told["json_schema"][0] == "yes"
    assert told["images"][0] == "inconclusive"
    assert "scripted, asked what it can do (119 tokens)" in done.stdout


def test_doctor_says_what_blocks_a_probe(place: Path) -> None:
    """A server that does not know the key, and one that is not there."""
    with refusing_server(401) as variables:
        done = run(place, "doctor", "--probe", variables=variables)
    assert done.returncode == 1
    assert "auth: the key is missing, wrong or revoked" in done.stdout
    unreachable = {**variables, "POWER_LOOP_BASE_URL": "http://127.0.0.1:9/v1"}
    silent = run(place, "doctor", "--probe", variables=unreachable)
    assert silent.returncode == 1
    assert "inconclusive" in silent.stdout
    assert "Traceback" not in silent.stderr


def test_doctor_says_which_local_model_is_cached_and_whether_it_is_whole(place: Path) -> None:
    """Not fetched, half there, and damaged: for that it need not be started."""
    (model,) = LOCAL_MODELS.values()
    weights = place / "cache" / "models" / model.file
    variables = {"POWER_LOOP_CACHE_DIR": str(place / "cache"), "GROQ_API_KEY": "k"}
    missing = run(place, "doctor", variables=variables)
    assert missing.returncode == 0, missing.stderr
    assert "SmolLM2-135M-Instruct (Q4_1) is not cached" in missing.stdout
    assert "xllamacpp" in missing.stdout
    assert "the default is local:smollm2" in missing.stdout
    assert "ready for --model groq:NAME" in missing.stdout
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"half")
    asked = run(place, "doctor", "--model", "local:smollm2", variables=variables)
    assert "is incomplete" in asked.stdout
    assert "is not asked" in asked.stdout
    os.truncate(weights, model.size)
    damaged = run(place, "doctor", variables=variables)
    assert damaged.returncode == 1
    assert "98 MB, its checksum is WRONG" in damaged.stdout
    assert str(weights) in damaged.stdout


def test_doctor_says_that_the_weights_that_were_fetched_are_whole(place: Path) -> None:
    """With the real ones."""
    cache = need_real_model().cache_dir
    done = run(place, "doctor", variables={"POWER_LOOP_CACHE_DIR": str(cache)})
    assert done.returncode == 0, done.stderr
    assert "98 MB, its checksum is right" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "variables", "says"),
    [
        (("ask", "hi"), {"POWER_LOOP_BASE_URL": "http://127.0.0.1:9/v1"}, "POWER_LOOP_"),
        (("ask", "hi", "--model", "openai:gpt-5"), {}, "OPENAI_API_KEY"),
        (("ask", "hi", "--model", "nobody:x"), {}, "nobody"),
        (("ask", "hi", "--workspace", "nowhere"), {}, "not a directory"),
        (("sessions", "show", "sess_0"), {}, "there is no session 'sess_0'"),
        (("sessions", "show", ""), {}, "there is no session ''"),
        (("sessions", "list", "--db", "."), {}, "power-loop:"),
        (("events", "sess_0", "--follow"), {}, "there is no session 'sess_0'"),
        (("ask", " ", "--model", "vllm:x"), {}, "the input is empty"),
        (("ask", "hi"), {"POWER_LOOP_BASE_URL": "127.0.0.1:1", "POWER_LOOP_MODEL": "m"}, "API_KEY"),
        (("chat", "--model", "vllm:x"), {"POWER_LOOP_BASE_URL": "127.0.0.1:1"}, "must begin with"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    place: Path, arguments: tuple[str, ...], variables: dict[str, str], says: str
) -> None:
    """No traceback: what is wrong, and what to do."""
    assert run(place, "store", "migrate").returncode == 0
    done = run(place, *arguments, variables=variables)
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("ask", "hi", "--max-rounds", "0"),
        ("chat", "--max-rounds", "many"),
        ("demo", "--max-rounds", "9" * 30),
        ("sessions", "list", "--limit", "0"),
        ("sessions", "list", "--limit", "-1"),
        ("events", "sess_0", "--after", "-1"),
        ("events", "sess_0", "--after", "9" * 30),
        ("nonsense",),
        (),
    ],
)
def test_wrong_arguments_are_told_with_the_usage(place: Path, arguments: tuple[str, ...]) -> None:
    """Exit status 2, and the last line names the argument."""
    done = run(place, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: power-loop")
    assert "error:" in done.stderr.splitlines()[-1]
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
    last = done.stdout.splitlines()[-1]
    assert last.startswith("[degraded] ")
    assert "resume the session when the provider is back" in last
    assert "to go on: " in done.stderr
    assert " resume sess_" in done.stderr
    assert "degraded" in run(place, "sessions", "list").stdout


def closed_pipe() -> int:
    """The writing end of a pipe that nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def run_unread(
    place: Path, *arguments: str, variables: dict[str, str] | None = None
) -> tuple[int, str]:
    """Runs a command whose output is not read; its exit status, and what it complains of."""
    output = closed_pipe()
    try:
        done = subprocess.run(
            [*COMMAND, *arguments],
            cwd=place,
            env=environment(place, variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    finally:
        os.close(output)
    return done.returncode, done.stderr


def test_a_reader_that_leaves_ends_the_command_quietly(place: Path) -> None:
    """As with `| head`: no traceback, and a run is closed as cancelled."""
    with model_server() as variables:
        status, complaint = run_unread(place, "ask", "--json", "hi", variables=variables)
        assert (status, complaint) == (141, "")
        listed = run(place, "sessions", "list").stdout
        assert "cancelled" in listed
        session = session_in(listed)
        assert run_unread(place, "events", session) == (141, "")
        assert run_unread(place, "events", session, "--json", "--follow") == (141, "")
        assert run_unread(place, "sessions", "list") == (141, "")
        assert run_unread(place, "chat", variables=variables)[0] == 141
        assert run_unread(place, "demo", variables=variables) == (141, "")


def test_ctrl_c_ends_ask_and_leaves_a_session_that_goes_on(place: Path) -> None:
    """Exit status 130; the run is closed as cancelled, and its id was told before."""
    gate = Gate()
    with (
        model_server(gate) as variables,
        started(place, "ask", "hi", variables=variables) as process,
    ):
        assert gate.asked.wait(SECONDS)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "run closed: cancelled" in run(place, "sessions", "show", session_in(errors)).stdout


def test_output_that_the_encoding_cannot_carry_is_no_error(place: Path) -> None:
    """Arrows become question marks."""
    with model_server() as variables:
        plain = {**variables, "PYTHONIOENCODING": "ascii"}
        done = run(place, "ask", "What is here?", variables=plain)
    assert done.returncode == 0, done.stderr
    assert "? list_files" in done.stdout
