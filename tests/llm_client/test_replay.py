"""The replay command, against what the vendor's own SDK made of the same recorded traffic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from llm_client.replay import main
from tests.chat_agreement import DIFFERENT, NO_ANSWERS, agreement
from tests.chat_streams import CORPUS_FILE, EXPECTED_FILE, chunk, sse
from tests.corpus import need_corpus, read_jsonl
from tests.telling import Tell

HARD = {
    "f250c729f27d7b9d": "ToolUseFailed",
    "bb8c573ffdd6a09a": None,
    "31ce82a9f64ecd1b": "MalformedResponse",
    "1c7a33b0b5220ede": "MalformedResponse",
    "e59f464212c732e1": None,
}
"""Exchanges on which the vendor's SDK itself fails, and the error that they hold, if any."""


def run(tmp_path: Path, source: Path, *options: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit code and the rows of a replay."""
    out = tmp_path / "out.jsonl"
    code = main([str(source), "--out", str(out), *options])
    return code, read_jsonl(out)


def recorded(tmp_path: Path, *exchanges: dict[str, Any]) -> Path:
    """A file of exchanges."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"\n".join(map(msgspec.json.encode, exchanges)) + b"\n\n")
    return path


@pytest.mark.parametrize(
    "options", [(), ("--split", "1"), ("--split", "7")], ids=["whole", "1", "7"]
)
def test_recorded_traffic_decodes_to_what_is_expected(
    options: tuple[str, ...], tmp_path: Path, tell: Tell
) -> None:
    """Text, calls, finish, refusal and usage of every exchange; each difference is a named one."""
    expected = {row["id"]: row for row in read_jsonl(need_corpus(EXPECTED_FILE))}
    code, rows = run(tmp_path, need_corpus(CORPUS_FILE), *options)
    found = {row["id"]: row for row in rows}
    assert code == 0
    assert found.keys() == expected.keys()
    counts = {"text": 0, "calls": 0, "finish": 0, "refusal": 0, "usage": 0}
    differ: set[str] = set()
    answered = [row for row in expected.values() if row["ok"]]
    for row in answered:
        for name, agrees in agreement(row, found[row["id"]]).items():
            counts[name] += agrees
            if not agrees:
                assert name == "calls", (row["id"], name)
                differ.add(row["id"])
    told = ", ".join(f"{name} {count}" for name, count in counts.items())
    tell(f"{' '.join(options) or 'whole'}: of {len(answered)} agree: {told}")
    assert differ == DIFFERENT.keys()
    assert {row["id"] for row in answered if not found[row["id"]]["ok"]} == NO_ANSWERS.keys()


def test_what_the_vendors_sdk_fails_on_is_read(tmp_path: Path) -> None:
    """A custom tool call, an error after the end; a mid-stream error and empty bodies are typed."""
    _, rows = run(tmp_path, need_corpus(CORPUS_FILE))
    found = {row["id"]: row for row in rows}
    for id, kind in HARD.items():
        error = found[id]["error"]
        assert (error and error["type"]) == kind, id
        assert found[id]["ok"] is (kind is None)
    assert found["bb8c573ffdd6a09a"]["stop_reason"] == "length"
    assert found["bb8c573ffdd6a09a"]["usage"]["input_tokens"] == 43
    assert found["e59f464212c732e1"]["tool_calls"][0]["args"] == '{"input":"4 + 4"}'


def test_recorded_refusals_keep_their_status(tmp_path: Path) -> None:
    """And the typed error that fits it."""
    expected = read_jsonl(need_corpus(EXPECTED_FILE))
    _, rows = run(tmp_path, need_corpus(CORPUS_FILE))
    found = {row["id"]: row for row in rows}
    refused = [row for row in expected if row.get("status") is not None]
    assert len(refused) == 16
    by_status = {401: "AuthenticationFailed", 404: "NotFound", 429: "RateLimited"}
    for row in refused:
        error = found[row["id"]]["error"]
        assert error["status"] == row["status"]
        assert error["type"] == by_status.get(row["status"], error["type"])
        if row["status"] == 400:
            assert error["type"] in {"BadRequest", "ContextOverflow"}


def test_a_row_holds_everything_that_an_answer_says(tmp_path: Path) -> None:
    """The format, field by field."""
    body = {
        "choices": [
            {
                "message": {
                    "content": "Hi",
                    "reasoning_content": "Hm",
                    "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}],
                },
                "finish_reason": "tool_calls",
            }
        ],
        "usage": {
            "prompt_tokens": 5,
            "completion_tokens": 7,
            "prompt_tokens_details": {"cached_tokens": 3},
        },
    }
    source = recorded(tmp_path, {"api": "openai_chat", "id": "x", "response_body": body})
    code, rows = run(tmp_path, source)
    assert code == 0
    assert rows == [
        {
            "id": "x",
            "ok": True,
            "text": "Hi",
            "tool_calls": [{"id": "a", "name": "f", "args": "{}"}],
            "thinking": ["Hm"],
            "stop_reason": "tool_calls",
            "raw_finish": "tool_calls",
            "refusal": None,
            "usage": {
                "input_tokens": 5,
                "output_tokens": 7,
                "cached_tokens": 3,
                "reasoning_tokens": None,
            },
            "error": None,
        }
    ]


def test_a_failed_stream_gives_its_error_and_what_had_arrived(tmp_path: Path) -> None:
    """Partial text is evidence, not an answer."""
    stream = sse(chunk({"content": "Hel"}), done=False) + b'data: {"error":{"code":529}}\n\n'
    source = recorded(tmp_path, {"api": "openai_chat", "id": "x", "raw_sse": stream.decode()})
    _, (row,) = run(tmp_path, source, "--split", "3")
    assert (row["ok"], row["text"], row["stop_reason"]) == (False, "Hel", None)
    error = row["error"]
    assert (error["type"], error["retryable"], error["status"]) == ("Overloaded", True, 529)


def test_a_refusal_is_a_result_with_its_status_and_wait(tmp_path: Path) -> None:
    """The exit code stays 0: decoding worked."""
    exchange = {
        "api": "openai_chat",
        "id": "x",
        "status": 429,
        "response_headers": {"retry-after": "2"},
        "response_body": {"error": {"message": "slow down"}},
    }
    code, (row,) = run(tmp_path, recorded(tmp_path, exchange))
    assert code == 0
    error = row["error"]
    assert (error["type"], error["retry_after"], error["status"]) == ("RateLimited", 2.0, 429)


def test_another_protocol_is_a_row_that_says_so_and_an_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing crashes, nothing is left out silently."""
    good = {"api": "openai_chat", "id": "b", "raw_sse": sse(chunk({"content": "x"})).decode()}
    source = recorded(tmp_path, {"api": "smoke_signals", "id": "a"}, good)
    code, (first, second) = run(tmp_path, source)
    assert code == 3
    assert (first["id"], first["error"]["type"]) == ("a", "UnsupportedProtocol")
    assert "smoke_signals" in first["error"]["message"]
    assert second["ok"]
    assert capsys.readouterr().err == (
        "2 lines: 1 answers, 0 errors, 1 of an unsupported protocol, "
        "0 that are no recorded exchanges\n"
    )


def test_a_line_that_is_no_exchange_is_a_row_that_names_it_and_an_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A damaged recording must neither hide the rest nor pass for a whole one."""
    source = tmp_path / "in.jsonl"
    good = {"api": "openai_chat", "id": 7, "raw_sse": sse(chunk({"content": "x"})).decode()}
    lines = [
        b"not json",
        b'{"id": 1}',
        b'{"id": "b", "api": "gemini", "status": "fine"}',
        b'{"api": 5, "id": []}',
        b"[" * 100_000,
        msgspec.json.encode({"api": "smoke_signals", "id": "d"}),
        msgspec.json.encode(good),
    ]
    source.write_bytes(b"\n".join(lines))
    code, rows = run(tmp_path, source)
    assert code == 4
    assert [row["error"]["type"] for row in rows[:5]] == ["BadExchange"] * 5
    assert [row["id"] for row in rows] == [None, 1, "b", None, None, "d", 7]
    assert "line 2" in rows[1]["error"]["message"]
    assert capsys.readouterr().err == (
        "7 lines: 1 answers, 0 errors, 1 of an unsupported protocol, "
        "5 that are no recorded exchanges\n"
    )


def test_files_that_cannot_be_read_or_written_are_an_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the system's own words."""
    assert main([str(tmp_path / "none.jsonl"), "--out", str(tmp_path / "out.jsonl")]) == 1
    assert "none.jsonl" in capsys.readouterr().err
    assert main([str(recorded(tmp_path)), "--out", str(tmp_path / "no" / "out.jsonl")]) == 1


@pytest.mark.parametrize("way", ["its name", "symbolic link", "hard link"])
def test_the_input_is_never_written_over(
    way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By whichever name it is given as the output."""
    source = recorded(tmp_path)
    held = source.read_bytes()
    out = source if way == "its name" else tmp_path / "out.jsonl"
    if way == "symbolic link":
        out.symlink_to(source)
    elif way == "hard link":
        out.hardlink_to(source)
    assert main([str(source), "--out", str(out)]) == 1
    assert "is the input" in capsys.readouterr().err
    assert source.read_bytes() == held


@pytest.mark.parametrize("size", ["0", "-1", "x"])
def test_a_size_of_pieces_that_makes_no_sense_is_refused(size: str, tmp_path: Path) -> None:
    """As the command line does."""
    with pytest.raises(SystemExit):
        main([str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--split", size])
