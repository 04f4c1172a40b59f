"""Responses answers and requests as they were recorded, and those of a llama.cpp server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from llm_client.codecs._json import as_dict, as_list
from llm_client.codecs.openai_responses import OpenAIResponsesCodec, responses_dialect
from llm_client.replay import main
from llm_client.types import LLMRequest, LLMResponse, Message, StopReason
from tests.corpus import need_corpus, read_jsonl
from tests.decoding import accumulate
from tests.responses_agreement import (
    DIFFERENT,
    EMPTY,
    agreement,
    kinds_in,
    thinking_in,
    thinking_of,
)
from tests.responses_meaning import ids, meaning
from tests.responses_requests import accepted_requests
from tests.responses_streams import (
    CORPUS_FILE,
    EXPECTED_FILE,
    built_streams,
    decode,
    read,
    recorded_streams,
)
from tests.telling import Tell


def answers() -> list[tuple[dict[str, Any], LLMResponse]]:
    """Each recorded exchange that was answered well, with the answer."""
    expected = {row["id"]: row["ok"] for row in read_jsonl(need_corpus(EXPECTED_FILE))}
    found: list[tuple[dict[str, Any], LLMResponse]] = []
    for row in read_jsonl(need_corpus(CORPUS_FILE)):
        if not expected[row["id"]]:
            continue
        if row.get("raw_sse") is None:
            found.append((row, decode(row["response_body"], row["provider"])))
        else:
            events, error = read([row["raw_sse"].encode()], row["provider"])
            assert error is None
            found.append((row, accumulate(events)))
    return found


def items_of(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The items of a recorded answer."""
    if row.get("raw_sse") is None:
        return [as_dict(item) for item in as_list(row["response_body"]["output"])]
    frames = [
        as_dict(msgspec.json.decode(line[6:]))
        for line in row["raw_sse"].splitlines()
        if line.startswith("data: {")
    ]
    done = [one for one in frames if one["type"] == "response.output_item.done"]
    return [one["item"] for one in sorted(done, key=lambda one: one.get("output_index", 0))]


@pytest.mark.parametrize(
    "options", [(), ("--split", "1"), ("--split", "7")], ids=["whole", "1", "7"]
)
def test_recorded_traffic_decodes_to_what_is_expected(
    options: tuple[str, ...], tmp_path: Path, tell: Tell
) -> None:
    """Text, calls, finish and usage of every exchange; each difference is a named one."""
    out = tmp_path / "out.jsonl"
    code = main([str(need_corpus(CORPUS_FILE)), "--out", str(out), *options])
    found = {row["id"]: row for row in read_jsonl(out)}
    expected = {row["id"]: row for row in read_jsonl(need_corpus(EXPECTED_FILE))}
    assert code == 0
    assert found.keys() == expected.keys()
    counts = {"text": 0, "calls": 0, "finish": 0, "usage": 0}
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
    failed = {id for id, row in found.items() if row["error"] is not None}
    assert failed == {id for id, row in expected.items() if not row["ok"]}


def test_recorded_items_and_reasoning_are_all_there(tell: Tell) -> None:
    """R10: each item in its place; reasoning with its text, its id and what was encrypted."""
    expected = {row["id"]: row for row in read_jsonl(need_corpus(EXPECTED_FILE))}
    fewer: set[str] = set()
    thoughts = 0
    for row, response in answers():
        if kinds_in(response) != expected[row["id"]]["items"]:
            fewer.add(row["id"])
        assert thinking_in(response) == thinking_of(items_of(row)), row["id"]
        thoughts += len(thinking_in(response))
    tell(f"{thoughts} reasoning items agree")
    assert fewer == EMPTY.keys()
    assert thoughts > 150


def test_recorded_requests_say_the_same_when_written_again(
    tell: Tell,
) -> None:
    """R08, R10: texts, calls, results, reasoning and opaque items, in order; stored or not."""
    requests = accepted_requests()
    same_ids = 0
    for row, request in requests:
        wire = row["request_body"].get("input")
        for store in (True, False):
            written = sent(request, row, store=store)
            assert meaning(written) == meaning(wire), (row["id"], store)
            same_ids += store and ids(written) == ids(wire)
    tell(f"{len(requests)} requests say the same, {same_ids} of them with the same ids")
    assert len(requests) > 330
    # An empty message has an id, and nothing else to send.
    assert same_ids == len(requests) - 1


def sent(request: LLMRequest, row: dict[str, Any], *, store: bool) -> object:
    """The input of `request` as it is written for the vendor of `row`."""
    dialect = msgspec.structs.replace(responses_dialect(row["provider"]), store=store)
    encoded = OpenAIResponsesCodec(dialect).encode(request, stream=False)
    return msgspec.json.decode(b"".join(encoded.body))["input"]


def test_recorded_answers_can_be_sent_back_r08() -> None:
    """R08: each answer, its calls answered, and another question; nothing but the last reasoning
    of a turn, which may not be sent, is missing."""
    tried = 0
    for row, response in answers():
        results = [Message.tool(call.id, "done") for call in response.tool_calls]
        turn = [Message.user("go"), Message("assistant", response.parts), *results]
        found = meaning(sent(LLMRequest([*turn, Message.user("on")]), row, store=True))
        items = [item for item in meaning(items_of(row)) if item != ("assistant", None, "")]
        while items and items[-1][0] == "reasoning":
            items.pop()
        assert found[1 : 1 + len(items)] == items, row["id"]
        tried += 1
    assert tried > 350


def test_any_two_pieces_give_the_same_events() -> None:
    """S01, S02: wherever the network cuts; a sample of all places."""
    for number, stream in enumerate([*built_streams(), *recorded_streams(16_000)]):
        expected, error = read([stream])
        step = 1 if len(stream) < 1500 else len(stream) // 60
        for cut in range(1 + number % step, len(stream), step):
            found, same = read([stream[:cut], stream[cut:]])
            assert found == expected
            assert (type(same), str(same)) == (type(error), str(error))


@pytest.mark.parametrize("name", ["text", "tool"])
@pytest.mark.parametrize("model", ["smollm2", "smollm2-hermes"])
def test_a_llama_cpp_server_is_understood(model: str, name: str) -> None:
    """No numbers, no places, no model at the beginning: streamed and whole give the same."""
    body = need_corpus(f"local_server/{model}__responses_{name}.json").read_bytes()
    stream = need_corpus(f"local_server/{model}__responses_{name}_stream.sse").read_bytes()
    whole = decode(body, "llama.cpp")
    events, error = read([stream], "llama.cpp")
    assert error is None
    streamed = accumulate(events)
    assert streamed.stop_reason in (StopReason.END, StopReason.TOOL_CALLS)
    assert streamed.text or streamed.tool_calls
    assert whole.usage.input_tokens == streamed.usage.input_tokens
