"""From a model string to an embedder."""

from __future__ import annotations

from collections.abc import Mapping

from llm_client.config import LLMProviderConfig
from llm_client.embedding.base import Embedder
from llm_client.embedding.http import HttpEmbedder
from llm_client.errors import ConfigError
from llm_client.transport.base import Transport
from llm_client.transport.httpx_transport import HttpxTransport

__all__ = ["create_embedder"]


def create_embedder(
    model: str,
    *,
    dimensions: int,
    env: Mapping[str, str] | None = None,
    transport: Transport | None = None,
) -> Embedder:
    """The embedder for a model string such as "openai:text-embedding-3-small".

    The key and the address come from the same variables as for language models; see
    `LLMProviderConfig.from_env`. `dimensions` is how many numbers the model's vectors have, 1536
    for this one; `transport` replaces the default one.

    Raises:
        ConfigError: the string is malformed, a variable is missing, or the provider's way of making
            vectors is not known here.
    """
    config = LLMProviderConfig.from_env(env, model=model)
    if config.row.protocol not in ("openai_chat", "openai_responses") or not config.base_url:
        raise ConfigError(
            f"how provider {config.provider!r} makes vectors is not known here; known are those "
            "that speak OpenAI's protocols"
        )
    return HttpEmbedder(
        transport or HttpxTransport(proxy=config.proxy),
        base_url=config.base_url,
        model=config.model,
        dimensions=dimensions,
        headers=config.auth_headers(),
        provider=config.provider,
    )
