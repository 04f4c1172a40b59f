"""From a configuration, the environment or a model string to a service."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from llm_client._place import function_at
from llm_client.config import LLMProviderConfig
from llm_client.http_service import HttpLLMService, RequestDefaults
from llm_client.protocols import codec_for
from llm_client.providers import Provider
from llm_client.service import LLMService
from llm_client.transport.base import Transport
from llm_client.transport.httpx_transport import HttpxTransport

__all__ = [
    "create_llm_service",
    "create_llm_service_from_config",
    "create_llm_service_from_env",
]


def create_llm_service(
    model: str,
    *,
    env: Mapping[str, str] | None = None,
    transport: Transport | None = None,
    providers: Mapping[str, Provider] | None = None,
) -> LLMService:
    """The service for a model string such as "openai:gpt-5" or "local:smollm2".

    The key comes from the provider's usual variable in `env`, by default the process's environment;
    see `LLMProviderConfig.from_env`. `transport` replaces the default one, `providers` the table
    `PROVIDERS`.

    Raises:
        ConfigError: the string is malformed, the provider unknown, or a variable missing; says what
            exists and what is missing.
    """
    config = LLMProviderConfig.from_env(env, model=model, providers=providers)
    return create_llm_service_from_config(config, transport=transport)


def create_llm_service_from_env(
    env: Mapping[str, str] | None = None, *, transport: Transport | None = None
) -> LLMService:
    """The service that the environment describes; see `LLMProviderConfig.from_env`.

    Raises:
        ConfigError: variables are missing or wrong; names every one of them.
    """
    return create_llm_service_from_config(LLMProviderConfig.from_env(env), transport=transport)


def create_llm_service_from_config(
    config: LLMProviderConfig, *, transport: Transport | None = None
) -> LLMService:
    """The service that `config` describes. `transport` replaces the default one, and is closed with
    the service.

    Raises:
        ConfigError: the provider, the address or the proxy cannot be used.
    """
    row = config.row
    if row.factory is not None:
        return _made(row, config.model)
    return HttpLLMService(
        codec_for(row.protocol, row.dialect or row.name, row.name),
        transport or HttpxTransport(max_connections=config.max_connections, proxy=config.proxy),
        base_url=config.base_url or "",
        model=config.model,
        headers=config.auth_headers(),
        deadlines=config.timeouts,
        defaults=RequestDefaults(
            max_output_tokens=config.max_output_tokens,
            temperature=config.temperature,
            extra=config.extra,
        ),
        provider=row.name,
    )


def _made(row: Provider, model: str) -> LLMService:
    place = function_at(row.factory or "", f"the factory of provider {row.name!r}")
    return cast("Callable[[str], LLMService]", place)(model)
