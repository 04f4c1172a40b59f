"""Models that sample as they choose: what they would refuse is never sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest
from genai_prices.data_snapshot import get_snapshot

from llm_client import (
    LLMProviderConfig,
    LLMRequest,
    Message,
    UnsupportedFeature,
    capabilities,
    codec_for,
    create_llm_service_from_config,
)
from power_loop import AgentConfig, AgentLoop
from tests import chat_bodies, responses_bodies
from tests.llm_client.transports import CANARY
from tests.loopback import serving

pytestmark = pytest.mark.anyio

PARAMS: dict[str, Callable[..., dict[str, Any]]] = {
    "openai_chat": chat_bodies.params,
    "openai_responses": responses_bodies.params,
}
PROTOCOLS = {
    **dict.fromkeys(("openai", "azure"), tuple(PARAMS)),
    "anthropic": ("anthropic_messages",),
}
FIXED = (
    "o1",
    "o1-2024-12-17",
    "o1-mini",
    "o1-preview-2024-09-12",
    "o1-pro",
    "o3",
    "o3-mini-2025-01-31",
    "o3-pro",
    "o4-mini-2025-04-16",
    "gpt-5",
    "gpt-5-2025-08-07",
    "gpt-5-mini",
    "gpt-5-nano-2025-08-07",
    "gpt-5-codex",
    "gpt-5-pro",
    "openai/gpt-5",
)
FREE = ("gpt-4o", "gpt-4.1-mini", "gpt-5-chat-latest", "gpt-oss-120b", "gpt-50", "my-o3", "o30", "")
ADAPTING = ("gpt-5.1", "gpt-5.1-codex-max", "gpt-5.2-2025-12-11", "gpt-5.2-pro", "gpt-5.4-nano")


def ask(model: str, **fields: Any) -> LLMRequest:
    return LLMRequest([Message.user("hi")], model=model, **fields)


@pytest.mark.parametrize("protocol", PARAMS)
@pytest.mark.parametrize("vendor", ["openai", "azure"])
@pytest.mark.parametrize("model", FIXED)
def test_what_a_model_does_not_take_is_refused_by_name(
    model: str, vendor: str, protocol: str
) -> None:
    """The model and the parameter, streamed or not; a 1 is what it does anyway."""
    for name in ("temperature", "top_p"):
        for stream in (False, True):
            with pytest.raises(UnsupportedFeature, match=f"{model!r} takes no {name} but 1"):
                PARAMS[protocol](ask(model, **{name: 0.2}), vendor, stream=stream)
    taken = PARAMS[protocol](ask(model, temperature=1, top_p=1.0), vendor)
    assert (taken["temperature"], taken["top_p"]) == (1, 1.0)
    assert "temperature" not in PARAMS[protocol](ask(model), vendor)


@pytest.mark.parametrize("protocol", PARAMS)
@pytest.mark.parametrize("model", FREE)
def test_other_models_are_left_alone(model: str, protocol: str) -> None:
    """However much they are called like one."""
    taken = PARAMS[protocol](ask(model, temperature=0.2, top_p=0.5), "openai")
    assert (taken["temperature"], taken["top_p"]) == (0.2, 0.5)


@pytest.mark.parametrize("protocol", PARAMS)
@pytest.mark.parametrize("model", ADAPTING)
def test_some_models_are_fixed_only_while_they_reason(model: str, protocol: str) -> None:
    """With no effort, or none, they take both."""
    for effort in (None, "none"):
        request = ask(model, temperature=0, reasoning_effort=effort)
        assert PARAMS[protocol](request, "openai")["temperature"] == 0
    with pytest.raises(UnsupportedFeature, match="or ask for no reasoning"):
        PARAMS[protocol](ask(model, temperature=0, reasoning_effort="low"), "openai")


@pytest.mark.parametrize("protocol", PARAMS)
def test_it_is_a_matter_of_the_vendor(protocol: str) -> None:
    """Others have models of these names, and gateways drop what a model does not take."""
    for vendor in ("openrouter", "compatible", "xai"):
        assert PARAMS[protocol](ask("openai/gpt-5", temperature=0.2), vendor)["temperature"] == 0.2


def test_codecs_and_the_table_of_capabilities_agree() -> None:
    """What the one says is refused the other refuses, and what it says is taken is sent."""
    listed = {
        provider.id: [model.id for model in provider.models]
        for provider in get_snapshot().providers
    }
    names = {
        "openai": (*FIXED, *FREE, *ADAPTING, *listed["openai"]),
        "azure": (*FIXED, *FREE, *ADAPTING, *listed["azure"]),
        "anthropic": listed["anthropic"],
    }
    refused = 0
    for vendor, protocols in PROTOCOLS.items():
        for protocol in protocols:
            codec = codec_for(protocol, vendor)
            for model in names[vendor]:
                known = capabilities(vendor, model).temperature
                try:
                    codec.encode(ask(model, temperature=0.2), stream=False)
                except UnsupportedFeature:
                    assert known is not True, (vendor, model)
                    refused += 1
                else:
                    assert known is not False, (vendor, model)
    assert refused >= 4 * len(FIXED)


async def test_a_temperature_that_is_filled_in_is_refused_as_clearly() -> None:
    """Whether by the configuration or by a loop's; nothing is sent."""
    async with serving() as server:
        config = LLMProviderConfig(
            provider="openai",
            model="gpt-5",
            base_url=server.url,
            api_key=CANARY,
            temperature=0.2,
        )
        service = create_llm_service_from_config(config)
        with pytest.raises(UnsupportedFeature, match="'gpt-5' takes no temperature but 1"):
            service.check(ask("gpt-5"))
        with (
            anyio.fail_after(10),
            pytest.raises(UnsupportedFeature, match="settings that fill it in"),
        ):
            await service.complete(LLMRequest([Message.user("hi")]))
        await service.aclose()
        plain = create_llm_service_from_config(
            LLMProviderConfig(provider="openai", model="gpt-5", base_url=server.url, api_key=CANARY)
        )
        async with AgentLoop(plain, config=AgentConfig(temperature=0.2)) as loop:
            with anyio.fail_after(10), pytest.raises(UnsupportedFeature, match="temperature"):
                await loop.send("hi")
        assert server.requests == []
