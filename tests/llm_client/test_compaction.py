"""Prompts that a provider compacts by itself: how it is asked to, and what comes of it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from llm_client.codec import Codec
from llm_client.codecs._json import as_dict, as_list
from llm_client.codecs.anthropic import AnthropicCodec, anthropic_dialect
from llm_client.codecs.cohere import CohereCodec
from llm_client.codecs.gemini import GeminiCodec
from llm_client.codecs.ollama import OllamaCodec
from llm_client.codecs.openai_chat import OpenAIChatCodec
from llm_client.codecs.openai_responses import OpenAIResponsesCodec, responses_dialect
from llm_client.errors import UnsupportedFeature
from llm_client.types import LLMRequest, Message, Opaque, Part, Text, ToolCall, is_compaction
from tests.anthropic_streams import STOP, answer, block, decode, end, read, start, text, whole
from tests.corpus import need_corpus, read_jsonl
from tests.decoding import accumulate
from tests.recorded_turns import recorded_turns
from tests.telling import Tell

MODEL = "claude-opus-4-6"
BETA = "compact-2026-01-12"
SUMMARY = Opaque("anthropic", "compaction", '{"type":"compaction","content":"Long ago"}')
ITEM = Opaque(
    "openai.responses", "compaction", '{"type":"compaction","id":"cmp_1","encrypted_content":"x"}'
)


def asked(codec: Codec, *parts: Part, model: str = MODEL, **fields: Any) -> dict[str, Any]:
    """The body of a request whose history begins with an answer of `parts`."""
    history = (Message("assistant", (*parts, Text("So."))), Message.user("And now?"))
    request = LLMRequest(history if parts else history[1:], model=model, **fields)
    return msgspec.json.decode(b"".join(codec.encode(request, stream=False).body))


# ── asking for it ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("provider", ["anthropic", "bedrock", "vertex", "azure"])
def test_whoever_serves_claude_is_asked_by_an_edit_and_a_beta(provider: str) -> None:
    """The body as it was recorded; the header from the vendor's guide."""
    codec = AnthropicCodec(anthropic_dialect(provider))
    request = LLMRequest((Message.user("a"),), model=MODEL, compact_at=50_000)
    for stream in (False, True):
        sent = codec.encode(request, stream=stream)
        body = msgspec.json.decode(b"".join(sent.body))
        trigger = {"type": "input_tokens", "value": 50_000}
        edit = {"type": "compact_20260112", "trigger": trigger}
        assert body["context_management"] == {"edits": [edit]}
        assert sent.headers["anthropic-beta"] == BETA


@pytest.mark.parametrize("provider", ["openai", "azure", "openrouter"])
def test_responses_are_asked_by_a_threshold(provider: str) -> None:
    """As it was recorded."""
    codec = OpenAIResponsesCodec(responses_dialect(provider))
    wished = [{"type": "compaction", "compact_threshold": 1000}]
    assert asked(codec, compact_at=1000)["context_management"] == wished


def test_nobody_is_asked_unless_it_is_wished() -> None:
    """Neither in the body nor in a header."""
    for codec in (AnthropicCodec(), OpenAIResponsesCodec(responses_dialect("openai"))):
        assert "context_management" not in asked(codec)
        sent = codec.encode(LLMRequest((Message.user("a"),), model=MODEL), stream=True)
        assert "anthropic-beta" not in sent.headers


@pytest.mark.parametrize(
    "codec",
    [
        OpenAIChatCodec(),
        CohereCodec(),
        GeminiCodec(),
        OllamaCodec(),
        OpenAIResponsesCodec(),
        OpenAIResponsesCodec(responses_dialect("xai")),
        AnthropicCodec(anthropic_dialect("llama.cpp")),
        AnthropicCodec(anthropic_dialect("somebody")),
    ],
)
def test_it_is_refused_where_it_would_be_ignored(codec: Codec) -> None:
    """A prompt that is not compacted grows until it fits no more."""
    with pytest.raises(UnsupportedFeature, match="has no parameter for compact_at; leave it out"):
        asked(codec, compact_at=100_000)


def test_what_a_provider_would_refuse_is_refused_here() -> None:
    """A model that cannot, or a prompt that is too short for it."""
    with pytest.raises(UnsupportedFeature, match="claude-sonnet-4-5' compacts no prompts"):
        asked(AnthropicCodec(), model="claude-sonnet-4-5", compact_at=100_000)
    with pytest.raises(UnsupportedFeature, match="less than 50000 tokens is never compacted"):
        asked(AnthropicCodec(), compact_at=49_999)
    codec = OpenAIResponsesCodec(responses_dialect("openai"))
    with pytest.raises(UnsupportedFeature, match="less than 1000 tokens is never compacted"):
        asked(codec, compact_at=999)


# ── what comes of it ──────────────────────────────────────────────────────────────────────────────


def test_a_summary_is_known_by_what_it_holds() -> None:
    """Of one that failed the provider still reads what stands before it."""
    failed = '{"type":"compaction","content":null,"encrypted_content":null}'
    assert is_compaction(SUMMARY)
    assert is_compaction(ITEM)
    others = [
        Text("compaction"),
        Opaque("anthropic", "container", '{"id":"c"}'),
        Opaque("anthropic", "compaction", failed),
        Opaque("anthropic", "compaction", '{"content":'),
        Opaque("anthropic", "compaction", "[]"),
    ]
    assert not any(map(is_compaction, others))


def test_a_summary_that_goes_back_is_announced_though_no_other_is_wished() -> None:
    """The provider knows the block by the beta alone, however long ago it was."""
    codec = AnthropicCodec()
    history = (Message("assistant", (SUMMARY, Text("So."))), Message.user("a"))
    call = Message.assistant("", ToolCall("x", "f"))
    for messages in (history, (*history, call, Message.tool("x", ""), Message.user("b"))):
        sent = codec.encode(LLMRequest(messages, model=MODEL), stream=True)
        assert sent.headers["anthropic-beta"] == BETA
        body = msgspec.json.decode(b"".join(sent.body))
        assert body["messages"][0]["content"][0] == {"type": "compaction", "content": "Long ago"}
        assert "context_management" not in body
    elsewhere = LLMRequest((Message("assistant", (ITEM, Text("a"))), Message.user("b")))
    assert "anthropic-beta" not in codec.encode(elsewhere, stream=True).headers


def test_a_summary_is_streamed_like_it_is_given_whole() -> None:
    """One piece with the text and the encrypted content; the start has neither."""
    fields = {"content": "Long ago", "encrypted_content": "e"}
    begun = block(
        0,
        "compaction",
        {"type": "compaction_delta", **fields},
        content=None,
        encrypted_content=None,
    )
    streamed = answer(start(), begun, text(1, "Hi"), end(), STOP)
    given = decode(whole({"type": "compaction", **fields}, {"type": "text", "text": "Hi"}))
    assert streamed.parts == given.parts
    assert [is_compaction(part) for part in streamed.parts] == [True, False]


def test_what_a_summary_has_cost_is_counted() -> None:
    """Anthropic leaves it out of its totals, though it is paid for like the rest."""
    spent = {"input_tokens": 60_000, "output_tokens": 500, "cache_read_input_tokens": 1000}
    steps = [{"type": "compaction", **spent}, {"type": "message", "input_tokens": 600}]
    usage = {"input_tokens": 600, "output_tokens": 90, "iterations": steps}
    found = answer(start(), text(0, "Hi"), end(usage=usage), STOP).usage
    assert (found.input_tokens, found.output_tokens, found.cached_tokens) == (61_600, 590, 1000)


OTHERS = (
    AnthropicCodec(),
    OpenAIResponsesCodec(responses_dialect("openai")),
    OpenAIChatCodec(),
    GeminiCodec(),
    CohereCodec(),
    OllamaCodec(),
)


def body(codec: Codec, history: tuple[Message, ...], model: str) -> dict[str, Any]:
    """The body of a request of `history`."""
    request = LLMRequest(history, model=model)
    return msgspec.json.decode(b"".join(codec.encode(request, stream=False).body))


def items(body: dict[str, Any]) -> list[Any]:
    """The items or blocks that a body holds."""
    turns = [as_dict(turn) for turn in as_list(body.get("messages"))]
    return [*as_list(body.get("input")), *(b for t in turns for b in as_list(t.get("content")))]


@pytest.mark.parametrize(("source", "least"), [("anthropic_messages", 3), ("openai_responses", 3)])
def test_a_recorded_summary_goes_back_as_it_came_and_to_nobody_else(
    source: str, least: int, tell: Tell
) -> None:
    """Answers that brought one, and requests that took one back."""
    found = 0
    for turn in recorded_turns(source):
        summaries = [
            part for message in turn.history for part in message.parts if is_compaction(part)
        ]
        if not summaries:
            continue
        found += 1
        own, model = turn.codec, turn.request.model or MODEL
        for summary in summaries:
            assert isinstance(summary, Opaque)
            held = msgspec.json.decode(summary.json)
            assert held in items(body(own, turn.history, model))
            for other in OTHERS:
                if not isinstance(own, type(other)):
                    told = str(body(other, turn.history, "gemini-3-pro"))
                    assert held.get("encrypted_content") or held["content"] not in told
                    assert '"compaction"' not in told
    tell(f"{source}: {found} recorded turns with a summary")
    assert found >= least


def test_recorded_answers_that_begin_with_a_summary_are_known_by_it() -> None:
    """Streamed and whole, with a text that can be read and with one that cannot."""
    rows = read_jsonl(need_corpus("dev.anthropic_messages.jsonl"))
    found = [row for row in rows if "block_compaction" in row["kinds"]]
    for row in found:
        if row.get("raw_sse") is None:
            given = decode(row["response_body"])
        else:
            events, error = read([row["raw_sse"].encode()])
            assert error is None
            given = accumulate(events)
        assert [is_compaction(part) for part in given.parts] == [True, False], row["id"]
        history = (Message("assistant", given.parts), Message.user("a"))
        sent = items(body(AnthropicCodec(), history, MODEL))
        assert sent[0]["type"] == "compaction"
        assert sent[0]["content"]
    assert len(found) >= 5
