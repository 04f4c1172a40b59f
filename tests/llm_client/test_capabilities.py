"""What models can do: declared or unknown, never guessed."""

from __future__ import annotations

import math
import subprocess
import sys

import msgspec
import pytest
from genai_prices.data_snapshot import get_snapshot

from llm_client.errors import ConfigError
from llm_client.known_models import ModelCapabilities, capabilities, capabilities_from_env

NOTHING = ModelCapabilities()

# Their names in the table of genai-prices.
THERE = {
    "openai": "openai",
    "anthropic": "anthropic",
    "google": "gemini",
    "mistral": "mistral",
    "x-ai": "xai",
    "moonshotai": "moonshot",
}


@pytest.mark.parametrize(
    ("provider", "model", "known"),
    [
        ("openai", "gpt-4o", {"context_window": 128_000, "images": True, "audio": False}),
        ("openai", "gpt-4o-audio-preview", {"audio": True, "images": False}),
        ("azure", "gpt-4o-2024-05-13", {"max_output_tokens": 4_096, "json_schema": False}),
        ("openrouter", "openai/gpt-4.1-mini", {"context_window": 1_047_576, "thinking": False}),
        ("openai", "gpt-5-mini-2025-08-07", {"temperature": False, "thinking": True}),
        ("openai", "gpt-5-chat-latest", {"temperature": True, "thinking": False}),
        ("openai", "gpt-5.1-chat-latest", {"temperature": None, "tools": True}),
        ("openai-responses", "gpt-5.2", {"temperature": None, "context_window": 400_000}),
        ("openai", "o1-mini", {"tools": False, "system_prompt": False}),
        ("openai", "o3-mini", {"images": False, "json_schema": True}),
        ("openai", "o4-mini-2025-04-16", {"images": True, "max_output_tokens": 100_000}),
        ("openai", "ft:gpt-4o-mini:me::x", {"tools": True}),
        ("ollama", "gpt-oss:20b", {"thinking": True, "images": False}),
        ("anthropic", "claude-3-5-sonnet-latest", {"thinking": False, "max_output_tokens": 8_192}),
        ("bedrock", "us.anthropic.claude-sonnet-4-20250514-v1:0", {"json_schema": False}),
        ("anthropic", "claude-sonnet-4-5", {"json_schema": True, "max_output_tokens": 64_000}),
        ("anthropic", "claude-opus-4-7", {"temperature": False, "context_window": 1_000_000}),
        ("gemini", "models/gemini-2.5-flash", {"audio": True, "thinking": True}),
        ("gemini", "gemini-1.5-pro", {"context_window": 2_097_152, "thinking": False}),
        ("deepseek", "deepseek-chat", {"images": False, "json_schema": False}),
        ("together", "deepseek-ai/DeepSeek-V3", {"images": False, "json_schema": None}),
        ("mistral", "mistral-large-2411", {"images": False, "parallel_tools": True}),
        ("mistral", "pixtral-12b", {"images": True}),
        ("qwen", "qwen2.5-vl-72b-instruct", {"images": True}),
        ("groq", "qwen/qwen3-32b", {"thinking": True, "images": False}),
        ("moonshot", "kimi-k2-thinking", {"thinking": True, "context_window": 262_144}),
        ("xai", "grok-4-fast-non-reasoning", {"thinking": False, "images": True}),
        ("cohere", "command-a-03-2025", {"context_window": 256_000, "images": False}),
        ("groq-responses", "llama-3.3-70b-versatile", {"max_output_tokens": 32_768}),
        ("cerebras", "llama-3.3-70b", {"context_window": 128_000}),
        ("groq", "meta-llama/llama-4-scout-17b-16e-instruct", {"images": True}),
        ("zai", "glm-4.6", {"thinking": True}),
        ("perplexity", "sonar-pro", {"tools": False}),
        ("local", "smollm2", {"context_window": 8_192, "parallel_tools": False}),
    ],
)
def test_what_is_declared_is_known(
    provider: str, model: str, known: dict[str, bool | int | None]
) -> None:
    """Under the names that gateways give a model, too."""
    found = msgspec.structs.asdict(capabilities(provider, model))
    assert {name: found[name] for name in known} == known


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("compatible", "my-model"),
        ("openai", ""),
        ("openai", "gpt-99"),
        ("openai", "not-gpt-4o"),
        ("gemini", "gemini-2.5-flash-image"),
        ("ollama", "smollm2"),
        ("vllm", "./gpt"),
        ("local", "gpt-4o"),
        ("anthropic", "gpt-4o"),
        ("groq", "gpt-4o"),
        ("openai", "claude-sonnet-4-5"),
        ("zzz", "claude-sonnet-4-5"),
        ("openai", "gpt-oss-20b"),
        ("openai", "gpt-4o-nonsense"),
        ("openai", "gpt-4o-mini-realtime-preview"),
        ("openai", "gpt-4o-2024-08-06-nonsense"),
        ("anthropic", "claude-opus-4-99"),
        ("openrouter", "gpt-4o"),
        ("openrouter", "somebody/gpt-4o"),
        ("openrouter", "nvidia/llama-3.1-nemotron-70b-instruct"),
        ("groq", "somebody/qwen3-32b"),
        ("local", "smollm2-1.7b"),
    ],
)
def test_what_is_not_declared_is_not_guessed(provider: str, model: str) -> None:
    """All of it is None; what holds for one provider's service holds for no other's, and what holds
    for a model holds for none whose name only begins like its own."""
    assert capabilities(provider, model) == NOTHING


@pytest.mark.parametrize(
    ("provider", "model", "same"),
    [
        ("azure-responses", "gpt-4o", ("openai", "gpt-4o")),
        ("openrouter-responses", "openai/gpt-4o:free", ("openai", "gpt-4o")),
        ("vertex-messages", "claude-opus-4-1@20250805", ("anthropic", "claude-opus-4-1")),
        ("openrouter", "anthropic/claude-sonnet-4.5", ("anthropic", "claude-sonnet-4-5")),
        ("vertex", "gemini-2.5-pro-preview-05-06", ("gemini", "gemini-2.5-pro")),
        ("ollama-native", "qwen3:8b-q4_K_M", ("ollama", "qwen3:8b")),
        ("fireworks", "accounts/fireworks/models/gpt-oss-20b", ("groq", "openai/gpt-oss-20b")),
        ("openai", "gpt-5.1-2025-11-13", ("openai", "gpt-5.1")),
    ],
)
def test_a_model_is_the_same_wherever_it_is_declared_to_be_served(
    provider: str, model: str, same: tuple[str, str]
) -> None:
    """By other protocols, by resellers, and in versions that are named by their day."""
    assert capabilities(provider, model) == capabilities(*same) != NOTHING


def test_windows_agree_with_another_table() -> None:
    """With that of genai-prices, where a million may be 1,048,576. The 2 M of gemini-1.5-pro are in
    Google's own documentation."""
    compared = 0
    for provider in get_snapshot().providers:
        if provider.id not in THERE:
            continue
        for model in provider.models:
            ours = capabilities(THERE[provider.id], model.id).context_window
            if model.id == "gemini-1.5-pro":
                continue
            if ours is not None and model.context_window is not None:
                assert math.isclose(ours, model.context_window, rel_tol=0.06), model.id
                compared += 1
    assert compared >= 40


def test_what_is_said_in_code_comes_first() -> None:
    """And only what is said: False is said, None is not."""
    mine = ModelCapabilities(images=False, context_window=1000)
    found = capabilities("openai", "gpt-4o", mine)
    assert (found.images, found.context_window, found.tools) == (False, 1000, True)
    assert capabilities("compatible", "my-model", mine) == mine


def test_what_is_said_in_the_environment_comes_first() -> None:
    """In all the usual words, and with the older prefix where the newer one is silent."""
    env = {
        "POWER_LOOP_SUPPORTS_IMAGES": "off",
        "POWER_LOOP_SUPPORTS_TOOLS": " YES ",
        "OPENAI_COMPAT_SUPPORTS_TOOLS": "no",
        "OPENAI_COMPAT_SUPPORTS_PDF": "1",
        "POWER_LOOP_CONTEXT_WINDOW": "32768",
        "POWER_LOOP_MAX_OUTPUT_TOKENS": "",
    }
    assert capabilities_from_env("compatible", "my-model", env) == ModelCapabilities(
        images=False, tools=True, pdf=True, context_window=32_768
    )
    assert capabilities_from_env("openai", "gpt-4o", env).max_output_tokens == 16_384


@pytest.mark.parametrize("yes", ["1", "true", "True", "yes", "on", "y", "t"])
def test_yes_has_many_words(yes: str) -> None:
    """As people write it."""
    env = {"POWER_LOOP_SUPPORTS_AUDIO": yes}
    assert capabilities_from_env("compatible", "m", env) == ModelCapabilities(audio=True)


def test_every_wrong_variable_is_named_at_once() -> None:
    """With what it should be."""
    env = {
        "POWER_LOOP_SUPPORTS_IMAGES": "maybe",
        "OPENAI_COMPAT_CONTEXT_WINDOW": "-5",
        "POWER_LOOP_MAX_OUTPUT_TOKENS": "9" * 5000,
    }
    for odd in ("²", "0", "1e5", "12 000"):
        with pytest.raises(ConfigError, match="positive whole number"):
            capabilities_from_env("openai", "gpt-4o", {"POWER_LOOP_CONTEXT_WINDOW": odd})
    with pytest.raises(ConfigError) as caught:
        capabilities_from_env("openai", "gpt-4o", env)
    told = str(caught.value)
    assert "POWER_LOOP_SUPPORTS_IMAGES must be yes or no, is 'maybe'" in told
    assert "OPENAI_COMPAT_CONTEXT_WINDOW must be a positive whole number, is '-5'" in told
    assert "POWER_LOOP_MAX_OUTPUT_TOKENS" in told


def test_the_environment_is_that_of_the_process_unless_another_is_given() -> None:
    """Read when asked, not when imported."""
    code = (
        "import os, llm_client\n"
        "os.environ['POWER_LOOP_SUPPORTS_IMAGES'] = 'on'\n"
        "print(llm_client.capabilities_from_env('compatible', 'm').images)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_capabilities_are_written_without_what_is_not_known() -> None:
    """And read again."""
    known = ModelCapabilities(images=True, context_window=5)
    assert msgspec.json.encode(known) == b'{"context_window":5,"images":true}'
    assert msgspec.json.decode(msgspec.json.encode(known), type=ModelCapabilities) == known
