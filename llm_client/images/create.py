"""From a model string to a service for images."""

from __future__ import annotations

from collections.abc import Mapping

from llm_client.config import LLMProviderConfig
from llm_client.errors import ConfigError
from llm_client.images.dashscope import DashScopeImages
from llm_client.images.openai import OpenAIImages
from llm_client.images.service import ImageService
from llm_client.transport.base import Transport, origin_of
from llm_client.transport.httpx_transport import HttpxTransport

__all__ = ["create_image_service"]


def create_image_service(
    model: str, *, env: Mapping[str, str] | None = None, transport: Transport | None = None
) -> ImageService:
    """The service for a model string such as "openai:gpt-image-1" or "qwen:qwen-image".

    The key and the address come from the same variables as for language models; see
    `LLMProviderConfig.from_env`. `transport` replaces the default one.

    Raises:
        ConfigError: the string is malformed, a variable is missing, or the provider's way of making
            images is not known here.
    """
    config = LLMProviderConfig.from_env(env, model=model)
    base_url = config.base_url or ""
    carrier = transport or HttpxTransport(proxy=config.proxy)
    if config.provider == "qwen":
        return DashScopeImages(
            carrier,
            model=config.model,
            api_key=config.api_key,
            base_url=f"{origin_of(base_url)}/api/v1",
        )
    if config.row.protocol not in ("openai_chat", "openai_responses"):
        raise ConfigError(
            f"how provider {config.provider!r} makes images is not known here; known are 'qwen' "
            "and those that speak OpenAI's protocols"
        )
    return OpenAIImages(
        carrier,
        base_url=base_url,
        model=config.model,
        headers=config.auth_headers(),
        provider=config.provider,
    )
