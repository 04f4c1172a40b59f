"""Recorded Messages traffic: what the replay command makes of it, and what goes back of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from llm_client.codecs._json import as_dict, as_list
from llm_client.codecs.anthropic import AnthropicCodec, anthropic_dialect
from llm_client.errors import ContextOverflow, LLMError, Overloaded
from llm_client.replay import main
from llm_client.types import LLMRequest, LLMResponse, Message, StopReason, Thinking
from tests.anthropic_agreement import agreement
from tests.anthropic_bodies import OLD
from tests.anthropic_requests import CORPUS_FILE, EXPECTED_FILE
from tests.anthropic_streams import read
from tests.corpus import need_corpus, read_jsonl
from tests.decoding import accumulate
from tests.telling import Tell

SIMULATED = "50f44dbcda70badf"
"""An answer that was put together by hand from several: its texts stand behind calls that code of
the provider had made, where a request may have none."""


@pytest.mark.parametrize(
    "options", [(), ("--split", "1"), ("--split", "7")], ids=["whole", "1", "7"]
)
def test_recorded_traffic_decodes_to_what_is_expected(
    options: tuple[str, ...], tmp_path: Path, tell: Tell
) -> None:
    """Text, calls, finish, thinking and usage of every exchange, and the errors of the others."""
    out = tmp_path / "out.jsonl"
    assert main([str(need_corpus(CORPUS_FILE)), "--out", str(out), *options]) == 0
    expected = {row["id"]: row for row in read_jsonl(need_corpus(EXPECTED_FILE))}
    found = {row["id"]: row for row in read_jsonl(out)}
    assert found.keys() == expected.keys()
    counts: dict[str, int] = {}
    answered = [row for row in expected.values() if row["ok"]]
    for row in answered:
        for name, agrees in agreement(row, found[row["id"]]).items():
            counts[name] = counts.get(name, 0) + agrees
            assert agrees, (row["id"], name)
    told = ", ".join(f"{name} {count}" for name, count in counts.items())
    tell(f"{' '.join(options) or 'whole'}: of {len(answered)} agree: {told}")
    refused = {row["id"]: row["status"] for row in expected.values() if not row["ok"]}
    errors = {id: found[id]["error"] for id in refused}
    assert {id: error["status"] for id, error in errors.items()} == refused
    assert {error["type"] for error in errors.values()} == {"NotFound", "AuthenticationFailed"}


def test_every_recorded_answer_goes_back_as_it_came(tell: Tell) -> None:
    """Rule A16: thinking with its signature, opaque blocks, citations and calls, in their order."""
    codec, tried = AnthropicCodec(), 0
    for row in read_jsonl(need_corpus(CORPUS_FILE)):
        body = as_dict(row.get("response_body"))
        if row["status"] != 200 or not body or row["id"] == SIMULATED:
            continue
        tried += 1
        answer = codec.decode(200, {}, msgspec.json.encode(body))
        sent = [_plain(block) for block in as_list(body["content"]) if not _is_blank(block)]
        assert _sent_back(codec, answer) == sent, row["id"]
    tell(f"{tried} recorded answers go back as they came")
    assert tried > 240


def _sent_back(codec: AnthropicCodec, answer: LLMResponse) -> list[dict[str, Any]]:
    """The blocks of the answer's turn in the next request."""
    results = [Message.tool(call.id, "done") for call in answer.tool_calls]
    history = [Message("assistant", answer.parts), *results, Message.user("And now?")]
    encoded = codec.encode(LLMRequest(history, model=OLD), stream=False)
    body = msgspec.json.decode(b"".join(encoded.body), type=dict[str, Any])
    turns = [message for message in body["messages"] if message["role"] == "assistant"]
    return [block for turn in turns for block in turn["content"]]


def _is_blank(block: dict[str, Any]) -> bool:
    return block["type"] == "text" and not block["text"].strip()


def _plain(block: dict[str, Any]) -> dict[str, Any]:
    """The block without what goes without saying."""
    usual: dict[str, tuple[object, ...]] = {"citations": (None, [])}
    if block["type"] == "tool_use":
        usual["caller"] = ({"type": "direct"},)
    return {name: value for name, value in block.items() if value not in usual.get(name, ())}


# ── the local server ──────────────────────────────────────────────────────────────────────────────


def local_server(name: str) -> bytes:
    """What the local server answered."""
    return need_corpus(f"local_server/{name}").read_bytes()


@pytest.mark.parametrize(
    ("name", "reason", "calls"),
    [
        ("smollm2-single__anthropic_tool_use", StopReason.TOOL_CALLS, 1),
        ("smollm2-bias__anthropic_toolcall_bias", StopReason.LENGTH, 0),
        ("smollm2-hermes__anthropic_text", StopReason.END, 0),
        ("smollm2-hermes__anthropic_tool", None, 0),
        ("smollm2__anthropic_text", StopReason.END, 0),
        ("smollm2__anthropic_tool", None, 0),
    ],
)
def test_the_local_servers_answers_are_read_whole_and_streamed(
    name: str, reason: StopReason | None, calls: int
) -> None:
    """Its calls start without an input, and it counts what it had kept of the prompt."""
    codec = AnthropicCodec(anthropic_dialect("llama.cpp"))
    whole = codec.decode(200, {}, local_server(f"{name}.json"))
    events, error = read([local_server(f"{name}_stream.sse")], "llama.cpp")
    assert error is None
    streamed = accumulate(events)
    for answer in (whole, streamed):
        assert reason in {None, answer.stop_reason}
        assert len(answer.tool_calls) == calls
        assert (answer.usage.input_tokens or 0) > (answer.usage.cached_tokens or 0)
        assert not any(isinstance(part, Thinking) for part in answer.parts)
    for call in (*whole.tool_calls, *streamed.tool_calls):
        assert (call.name, msgspec.json.decode(call.arguments)) == (
            "get_weather",
            {"city": "Paris"},
        )


@pytest.mark.parametrize(
    ("name", "status", "kind"),
    [
        ("smollm2-hermes__err_anthropic_context_overflow.json", 400, ContextOverflow),
        ("loading_503/smollm2-hermes__chat_text.json", 503, Overloaded),
    ],
)
def test_the_local_servers_errors_have_their_types_k01(
    name: str, status: int, kind: type[LLMError]
) -> None:
    """K01: in the form of another protocol."""
    codec = AnthropicCodec(anthropic_dialect("llama.cpp"))
    assert type(codec.error(status, {}, local_server(name))) is kind
