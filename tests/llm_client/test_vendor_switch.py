"""History goes from any vendor to any other: what was recorded with one is legal for all."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest

from llm_client.codec import Codec
from llm_client.errors import LocalProtocolError, UnsupportedFeature
from llm_client.protocols import codec_for
from llm_client.types import LLMRequest, ToolResult
from tests.legality import CHECKERS
from tests.recorded_turns import PROTOCOLS, Turn, recorded_turns
from tests.telling import Tell

TARGETS = {
    "openai_chat": ("openai", "gpt-5"),
    "openai_responses": ("openai", "gpt-5"),
    "anthropic_messages": ("anthropic", "claude-sonnet-4-5"),
    "gemini": ("gemini", "gemini-3-pro"),
    "cohere_chat": ("cohere", "command-a"),
    "ollama_native": ("ollama-native", "qwen3"),
}


STRICTER = {"c3707df3f64d2b93": "G03"}
"""Accepted requests that we refuse: one empty text is all that this one says."""


def target(protocol: str) -> tuple[Codec, str]:
    """A codec of the protocol, and a model to ask."""
    dialect, model = TARGETS[protocol]
    return codec_for(protocol, dialect), model


def body(codec: Codec, request: LLMRequest) -> dict[str, Any]:
    """The request in wire form."""
    encoded = codec.encode(request, stream=False)
    return msgspec.json.decode(b"".join(encoded.body), type=dict[str, Any])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_recorded_request_is_legal_when_it_is_written_again(protocol: str, tell: Tell) -> None:
    """Read into our types and encoded for the same protocol; at our own, stricter level."""
    check = CHECKERS[protocol]
    count = 0
    for turn in recorded_turns(protocol):
        if turn.id in STRICTER:
            with pytest.raises(LocalProtocolError, match=STRICTER[turn.id]):
                body(turn.codec, turn.request)
            continue
        found = check(body(turn.codec, turn.request), True)
        # Models before Gemini 3 sign nothing, and need no sentinel.
        assert [rule for rule in found if not rule.startswith("G09")] == [], turn.id
        count += 1
    tell(f"{protocol}: {count} requests written again are legal")
    assert count >= 7


@pytest.mark.parametrize("goal", PROTOCOLS)
@pytest.mark.parametrize("source", PROTOCOLS)
def test_the_history_of_one_vendor_is_legal_for_another(source: str, goal: str, tell: Tell) -> None:
    """After every recorded turn, its calls answered. What a protocol cannot say is refused by
    name, and nothing else is refused."""
    codec, model = target(goal)
    check = CHECKERS[goal]
    counts: Counter[str] = Counter()
    for turn in recorded_turns(source):
        request = LLMRequest(turn.history, turn.request.system, model, max_output_tokens=16_000)
        try:
            written = body(codec, request)
        except UnsupportedFeature as error:
            counts[f"cannot be said ({error.message.partition(';')[0]})"] += 1
            continue
        except LocalProtocolError as error:
            unfit = "" if _was_open_before(turn) else f"{turn.id}: {error.message}"
            counts[unfit or "calls that only its vendor knows"] += 1
            continue
        assert check(written, True) == [], turn.id
        counts["legal"] += 1
    told = ", ".join(f"{name}: {count}" for name, count in counts.most_common())
    tell(f"{source} → {goal}: {told}")
    assert not [name for name in counts if ": " in name]
    assert counts["legal"] >= 6


def _was_open_before(turn: Turn) -> bool:
    """Whether the recorded request itself leaned on calls or results that the vendor keeps."""
    messages = turn.request.messages
    made = {call.id for message in messages for call in message.tool_calls}
    answered = {
        part.call_id
        for message in messages
        for part in message.parts
        if isinstance(part, ToolResult)
    }
    return made != answered
