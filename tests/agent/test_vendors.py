"""A session goes on with another vendor, and each gets back what it had signed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from llm_client import LLMProviderConfig, create_llm_service_from_config
from power_loop import AgentConfig, AgentLoop, SQLiteStore, tool
from tests.legality import CHECKERS
from tests.llm_client.transports import CANARY
from tests.loopback import LoopbackServer, answer, serving

pytestmark = pytest.mark.anyio

PROTOCOLS = {
    "anthropic": "anthropic_messages",
    "gemini": "gemini",
    "openai-responses": "openai_responses",
    "openai": "openai_chat",
    "cohere": "cohere_chat",
    "ollama-native": "ollama_native",
}

ANTHROPIC = (
    {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "I pay.", "signature": "anthropic-signature"},
            {"type": "tool_use", "id": "toolu_1", "name": "pay", "input": {"amount": 1}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 10, "output_tokens": 5},
    },
    {
        "id": "msg_2",
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": "Paid by anthropic."}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 20, "output_tokens": 5},
    },
)
GEMINI = (
    {
        "candidates": [
            {
                "content": {
                    "role": "model",
                    "parts": [
                        {
                            "functionCall": {"name": "pay", "args": {"amount": 2}},
                            "thoughtSignature": "gemini-signature",
                        },
                        {"functionCall": {"name": "pay", "args": {"amount": 3}}},
                    ],
                },
                "finishReason": "STOP",
            }
        ],
        "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 5},
        "responseId": "g1",
    },
    {
        "candidates": [
            {
                "content": {"role": "model", "parts": [{"text": "Paid by gemini."}]},
                "finishReason": "STOP",
            }
        ],
        "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 5},
        "responseId": "g2",
    },
)
RESPONSES: tuple[dict[str, Any], ...] = (
    {
        "id": "resp_1",
        "status": "completed",
        "output": [
            {
                "type": "reasoning",
                "id": "rs_1",
                "summary": [],
                "encrypted_content": "responses-signature",
            },
            {
                "type": "function_call",
                "id": "fc_1",
                "call_id": "call_1",
                "name": "pay",
                "arguments": '{"amount":4}',
            },
        ],
        "usage": {"input_tokens": 10, "output_tokens": 5},
    },
    {
        "id": "resp_2",
        "status": "completed",
        "output": [
            {
                "type": "message",
                "id": "msg_1",
                "role": "assistant",
                "content": [
                    {"type": "output_text", "text": "Paid by responses.", "annotations": []}
                ],
            }
        ],
        "usage": {"input_tokens": 10, "output_tokens": 5},
    },
)
ANSWERS: dict[str, tuple[dict[str, Any], ...]] = {
    "anthropic": ANTHROPIC,
    "gemini": GEMINI,
    "openai-responses": RESPONSES,
}
SIGNATURES = {
    "anthropic": "anthropic-signature",
    "gemini": "gemini-signature",
    "openai-responses": "responses-signature",
}
SHORT: dict[str, dict[str, Any]] = {
    "openai": {
        "id": "c1",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Done."},
                "finish_reason": "stop",
            }
        ],
    },
    "cohere": {
        "id": "c1",
        "message": {"role": "assistant", "content": [{"type": "text", "text": "Done."}]},
        "finish_reason": "COMPLETE",
    },
    "ollama-native": {
        "model": "m",
        "message": {"role": "assistant", "content": "Done."},
        "done": True,
        "done_reason": "stop",
    },
    **{name: answers[1] for name, answers in ANSWERS.items()},
}


@tool
async def pay(amount: int) -> str:
    """Pays.

    Args:
        amount: how much.
    """
    return f"paid {amount}"


@asynccontextmanager
async def asking(
    store: SQLiteStore,
    provider: str,
    *bodies: dict[str, Any],
    config: AgentConfig | None = None,
) -> AsyncGenerator[tuple[AgentLoop[None], LoopbackServer]]:
    """A loop that asks `provider`, which answers with `bodies`."""
    async with serving(*(answer(200, msgspec.json.encode(body)) for body in bodies)) as server:
        address = LLMProviderConfig(
            model="claude-sonnet-4-5" if provider == "anthropic" else "m-1",
            provider=provider,
            base_url=server.url,
            api_key=CANARY,
        )
        llm = create_llm_service_from_config(address)
        loop = AgentLoop[None](llm, tools=[pay], store=store, config=config)
        try:
            async with loop:
                yield loop, server
        finally:
            await loop.close_llm()


def sent(server: LoopbackServer, protocol: str) -> list[dict[str, Any]]:
    """The requests that came, each legal for its protocol."""
    bodies = [msgspec.json.decode(request.body) for request in server.requests]
    for body in bodies:
        assert CHECKERS[protocol](body, True) == []
    return bodies


@pytest.mark.parametrize("provider", ANSWERS)
async def test_what_a_vendor_signed_comes_back_to_it_from_the_store_r05(
    provider: str, tmp_path: Path
) -> None:
    """Also to another program that only finds it there (R05)."""
    signature = SIGNATURES[provider].encode()
    with anyio.fail_after(20):
        async with (
            SQLiteStore(tmp_path / "s.db") as store,
            asking(store, provider, *ANSWERS[provider]) as (loop, server),
        ):
            first = await loop.send("Pay.")
            assert first.status == "completed"
            assert signature in server.requests[1].body
        async with (
            SQLiteStore(tmp_path / "s.db") as store,
            asking(store, provider, SHORT[provider]) as (loop, server),
        ):
            assert (await loop.send("And now?", first.session_id)).status == "completed"
            assert signature in server.requests[0].body
            sent(server, PROTOCOLS[provider])


@pytest.mark.parametrize("second", PROTOCOLS)
@pytest.mark.parametrize("first", ANSWERS)
async def test_a_session_goes_on_with_another_vendor_r03(
    first: str, second: str, tmp_path: Path
) -> None:
    """In the middle of it, with calls and reasoning behind: each request is legal, and no vendor
    sees what another one signed (R03)."""
    with anyio.fail_after(20):
        async with SQLiteStore(tmp_path / "s.db") as store:
            async with asking(store, first, *ANSWERS[first]) as (loop, server):
                begun = await loop.send("Pay.")
                assert begun.status == "completed"
                sent(server, PROTOCOLS[first])
            async with asking(store, second, SHORT[second]) as (loop, server):
                assert (await loop.send("And now?", begun.session_id)).status == "completed"
                (request,) = sent(server, PROTOCOLS[second])
                text = msgspec.json.encode(request).decode()
                for name, signature in SIGNATURES.items():
                    assert (signature in text) is (name == first == second)
                assert "paid" in text


async def test_a_loop_asks_for_caching_and_reasoning_where_its_settings_say_so(
    tmp_path: Path,
) -> None:
    """The history up to here is kept by the provider, and paid for once."""
    config = AgentConfig(prompt_cache="5m", reasoning_effort="low")
    with anyio.fail_after(20):
        async with (
            SQLiteStore(tmp_path / "s.db") as store,
            asking(store, "anthropic", *ANTHROPIC, config=config) as (loop, server),
        ):
            assert (await loop.send("Pay.")).status == "completed"
            first, second = sent(server, "anthropic_messages")
    assert first["thinking"]["type"] == "enabled"
    for body in (first, second):
        *before, last = [block for message in body["messages"] for block in message["content"]]
        assert last["cache_control"] == {"type": "ephemeral", "ttl": "5m"}
        assert not any("cache_control" in block for block in before)
