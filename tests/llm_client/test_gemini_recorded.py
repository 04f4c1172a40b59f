"""Recorded Gemini traffic: what it says, and what becomes of accepted requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from llm_client.codecs._json import as_dict, as_list, is_array
from llm_client.codecs.gemini import GeminiCodec, gemini_dialect
from llm_client.errors import LocalProtocolError
from llm_client.replay import main
from llm_client.types import LLMRequest, Message
from tests.corpus import need_corpus, read_jsonl
from tests.gemini_agreement import DIFFERENT, NO_ANSWERS, agreement
from tests.gemini_requests import accepted_requests, camel, facts
from tests.gemini_streams import CORPUS_FILE, EXPECTED_FILE
from tests.telling import Tell

EMPTY = "c3707df3f64d2b93"
"""A request of one empty text, which Gemini accepts and we do not send."""


@pytest.mark.parametrize(
    "options", [(), ("--split", "1"), ("--split", "7")], ids=["whole", "1", "7"]
)
def test_recorded_traffic_decodes_to_what_is_expected(
    options: tuple[str, ...], tmp_path: Path, tell: Tell
) -> None:
    """Text, calls, finish and usage of every exchange; each difference is a named one."""
    expected = {row["id"]: row for row in read_jsonl(need_corpus(EXPECTED_FILE))}
    out = tmp_path / "out.jsonl"
    assert main([str(need_corpus(CORPUS_FILE)), "--out", str(out), *options]) == 0
    found = {row["id"]: row for row in read_jsonl(out)}
    assert found.keys() == expected.keys()
    answered = {id: row for id, row in expected.items() if row["ok"] and id not in NO_ANSWERS}
    counts = {"text": 0, "calls": 0, "finish": 0, "usage": 0}
    differ: set[str] = set()
    for id, row in answered.items():
        assert found[id]["ok"], id
        for name, agrees in agreement(row, found[id]).items():
            counts[name] += agrees
            if not agrees:
                assert name == "calls", (id, name)
                differ.add(id)
    told = ", ".join(f"{name} {count}" for name, count in counts.items())
    tell(f"{' '.join(options) or 'whole'}: of {len(answered)} agree: {told}")
    assert differ == DIFFERENT.keys()
    assert {id for id in NO_ANSWERS if found[id]["error"]["type"] == "ContentFiltered"} == (
        NO_ANSWERS.keys()
    )
    refused = [found[id]["error"]["type"] for id, row in expected.items() if not row["ok"]]
    assert sorted(refused) == [
        "BadRequest",
        "BadRequest",
        "ContextOverflow",
        *["NotFound"] * 5,
        "RateLimited",
    ]


def test_every_recorded_part_goes_back_as_it_was_received(
    tell: Tell,
) -> None:
    """Signatures, calls, code, traces of tools and images of each answer, in order (R05, R06)."""
    codec = GeminiCodec()
    compared = signed = 0
    for row in read_jsonl(need_corpus(CORPUS_FILE)):
        chunks = _chunks(row)
        parts = [part for chunk in chunks for part in _parts_of(chunk)]
        pieced = any("willContinue" in as_dict(part.get("functionCall")) for part in parts)
        if row["status"] != 200 or not parts or pieced:
            continue
        response = codec.decode(200, {}, msgspec.json.encode(chunks))
        results = [Message.tool(call.id, "ok") for call in response.tool_calls]
        said = Message("assistant", response.parts)
        request = LLMRequest((Message.user("?"), said, *results), model="gemini-3-flash")
        sent = msgspec.json.decode(b"".join(codec.encode(request, stream=False).body))
        received = {"contents": [{"role": "model", "parts": parts}]}
        back = {"contents": sent["contents"][1:2]}
        assert _joined(facts(back)) == _joined(facts(received)), row["id"]
        compared += 1
        signed += sum("thoughtSignature" in part for part in parts)
    tell(f"{compared} answers go back, with {signed} signatures")
    assert compared > 360
    assert signed > 200


def test_every_accepted_request_is_legal_and_says_the_same(
    tell: Tell,
) -> None:
    """Texts, files, calls, results, ids and signatures in order, and each parameter."""
    same = 0
    for id, body, request in accepted_requests():
        codec = GeminiCodec(gemini_dialect("vertex"))
        if id == EMPTY:
            with pytest.raises(LocalProtocolError, match="G03"):
                codec.encode(request, stream=False)
            continue
        sent = msgspec.json.decode(b"".join(codec.encode(request, stream=False).body))
        assert facts(sent) == facts(body), id
        assert as_dict(sent.get("toolConfig")) == as_dict(body.get("toolConfig")), id
        asked = {k: v for k, v in camel(as_dict(body.get("generationConfig"))).items() if v != []}
        assert as_dict(sent.get("generationConfig")) == asked, id
        assert _names(sent) == _names(body), id
        same += 1
    tell(f"{same} accepted requests are legal and say the same")
    assert same == 357


def test_a_spoilt_history_is_refused_by_the_rule_that_it_breaks(
    tell: Tell,
) -> None:
    """Accepted requests with a result dropped, doubled, put elsewhere, or without its call (O12,
    O09)."""
    tried = 0
    for id, _, request in accepted_requests():
        messages = list(request.messages)
        for place, message in enumerate(messages):
            if message.role != "tool":
                continue
            before, after = messages[:place], messages[place + 1 :]
            spoilt = {
                "dropped": ([*before, *after], "G05"),
                "doubled": ([*before, message, message, *after], "G06"),
                "late": ([*before, Message.user("and?"), message, *after], "G05"),
            }
            if before[-1].role == "assistant":
                spoilt["early"] = [*before[:-1], message, before[-1], *after], "G07"
                spoilt["without its call"] = [*before[:-1], message, *after], "G07"
            for name, (history, rule) in spoilt.items():
                changed = msgspec.structs.replace(request, messages=history)
                with pytest.raises(LocalProtocolError) as found:
                    GeminiCodec().encode(changed, stream=False)
                assert found.value.rule == rule, (id, place, name)
                tried += 1
    tell(f"{tried} spoilt histories are refused")
    assert tried > 500


def _chunks(row: dict[str, Any]) -> list[dict[str, Any]]:
    sse = row.get("raw_sse")
    if sse is None:
        body: Any = row["response_body"]
        return body if is_array(body) else [body]
    lines = [line[5:] for line in sse.splitlines() if line.startswith("data:")]
    return [msgspec.json.decode(line) for line in lines if line.strip()]


def _parts_of(chunk: dict[str, Any]) -> list[dict[str, Any]]:
    candidates = [as_dict(one) for one in as_list(chunk.get("candidates"))]
    contents = [as_dict(one.get("content")) for one in candidates]
    return [as_dict(part) for content in contents for part in as_list(content.get("parts"))]


def _joined(said: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """Unsigned texts side by side are one, however they came."""
    found: list[tuple[object, ...]] = []
    for fact in said:
        role, kind, value, signature = fact
        if found and kind == "text" and signature is None and found[-1][1::2] == ("text", None):
            fact = (role, kind, f"{found.pop()[2]}{value}", None)
        found.append(fact)
    return found


def _names(body: dict[str, Any]) -> list[object]:
    """The functions and the kinds of other tools that are offered."""
    tools = [camel(as_dict(tool)) for tool in as_list(body.get("tools"))]
    declared = [one for tool in tools for one in as_list(tool.get("functionDeclarations"))]
    served = [name for tool in tools for name in tool if name != "functionDeclarations"]
    return [*(one["name"] for one in declared), *served]
