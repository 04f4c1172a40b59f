"""The providers that a model string can name: one row each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct, structs

from llm_client.errors import ConfigError

__all__ = ["PROVIDERS", "Provider", "provider_for_url", "provider_named", "split_model"]


class Provider(Struct, frozen=True, kw_only=True):
    """Where a provider is reached and how it is spoken to.

    Attributes:
        name: what stands before the colon of a model string.
        base_url: its usual address, None if every user has one of his own.
        key_env: the environment variable in which its users keep their key.
        needs_key: False if it usually runs without one, as servers on the own machine do.
        key_header: the header that carries the key; "authorization" carries it as a bearer token.
        protocol: how it is spoken to: a name of `llm_client.protocols.PROTOCOLS`, or the
            "module:function" of a codec of one's own.
        dialect: whose dialect of that protocol it speaks, where it is not `name`'s.
        factory: "module:function", imported when first needed, that makes the service from what
            stands after the colon; for a provider that is not reached over HTTP.
    """

    name: str
    base_url: str | None = None
    key_env: str | None = None
    needs_key: bool = True
    key_header: str = "authorization"
    protocol: str = "openai_chat"
    dialect: str | None = None
    factory: str | None = None


def _hosted(name: str, base_url: str, key_env: str) -> Provider:
    return Provider(name=name, base_url=base_url, key_env=key_env)


def _own(name: str, base_url: str, key_env: str, dialect: str | None = None) -> Provider:
    return Provider(name=name, base_url=base_url, key_env=key_env, needs_key=False, dialect=dialect)


def _also(row: Provider, ending: str, protocol: str) -> Provider:
    """The same provider by another of the protocols that it speaks."""
    address = row.base_url
    if protocol == "anthropic_messages" and address is not None:
        # The version is part of that protocol's path.
        address = address.removesuffix("/v1")
    return structs.replace(
        row,
        name=f"{row.name}-{ending}",
        base_url=address,
        protocol=protocol,
        dialect=row.dialect or row.name,
    )


_CHAT = (
    _hosted("openai", "https://api.openai.com/v1", "OPENAI_API_KEY"),
    # Every user has a resource of his own: https://NAME.openai.azure.com/openai/v1
    Provider(name="azure", key_env="AZURE_OPENAI_API_KEY", key_header="api-key"),
    _hosted("cerebras", "https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
    _hosted("deepseek", "https://api.deepseek.com", "DEEPSEEK_API_KEY"),
    _hosted("fireworks", "https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    _hosted("groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    _hosted("huggingface", "https://router.huggingface.co/v1", "HF_TOKEN"),
    _hosted("mistral", "https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    _hosted("moonshot", "https://api.moonshot.ai/v1", "MOONSHOT_API_KEY"),
    _hosted("openrouter", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    _hosted("perplexity", "https://api.perplexity.ai", "PERPLEXITY_API_KEY"),
    _hosted("qwen", "https://dashscope.aliyuncs.com/compatible-mode/v1", "DASHSCOPE_API_KEY"),
    _hosted("together", "https://api.together.xyz/v1", "TOGETHER_API_KEY"),
    _hosted("xai", "https://api.x.ai/v1", "XAI_API_KEY"),
    _hosted("zai", "https://api.z.ai/api/paas/v4", "ZAI_API_KEY"),
    _own("llamacpp", "http://127.0.0.1:8080/v1", "LLAMA_API_KEY", dialect="llama.cpp"),
    _own("ollama", "http://127.0.0.1:11434/v1", "OLLAMA_API_KEY"),
    _own("vllm", "http://127.0.0.1:8000/v1", "VLLM_API_KEY"),
    # Anything else that speaks the protocol.
    Provider(name="compatible", needs_key=False),
)
_CHAT_BY_NAME = {row.name: row for row in _CHAT}
_RESPONSES = ("openai", "azure", "xai", "openrouter", "llamacpp", "compatible")
_MESSAGES = ("llamacpp", "compatible")

_OTHERS = (
    Provider(
        name="anthropic",
        base_url="https://api.anthropic.com",
        key_env="ANTHROPIC_API_KEY",
        key_header="x-api-key",
        protocol="anthropic_messages",
    ),
    Provider(
        name="gemini",
        base_url="https://generativelanguage.googleapis.com/v1beta",
        key_env="GEMINI_API_KEY",
        key_header="x-goog-api-key",
        protocol="gemini",
    ),
    # Every user has a project of his own:
    # https://LOCATION-aiplatform.googleapis.com/v1beta1/projects/PROJECT/locations/LOCATION/publishers/google
    Provider(name="vertex", key_env="VERTEX_ACCESS_TOKEN", protocol="gemini"),
    # The same without /publishers/google at its end.
    Provider(
        name="vertex-messages",
        key_env="VERTEX_ACCESS_TOKEN",
        protocol="anthropic_messages",
        dialect="vertex",
    ),
    Provider(
        name="cohere",
        base_url="https://api.cohere.com",
        key_env="COHERE_API_KEY",
        protocol="cohere_chat",
    ),
    Provider(
        name="ollama-native",
        base_url="http://127.0.0.1:11434",
        key_env="OLLAMA_API_KEY",
        needs_key=False,
        protocol="ollama_native",
    ),
    Provider(name="local", needs_key=False, factory="llm_client.local:create_local_service"),
)

_ROWS = (
    *_CHAT,
    *_OTHERS,
    *(_also(_CHAT_BY_NAME[name], "responses", "openai_responses") for name in _RESPONSES),
    *(_also(_CHAT_BY_NAME[name], "messages", "anthropic_messages") for name in _MESSAGES),
)

PROVIDERS: Mapping[str, Provider] = MappingProxyType({row.name: row for row in _ROWS})
"""All providers by name. To add one, pass `{**PROVIDERS, "mine": Provider(...)}` where a function
takes `providers`."""


def provider_named(name: str, providers: Mapping[str, Provider] | None = None) -> Provider:
    """The row of `providers`, by default `PROVIDERS`, that is called `name`.

    Raises:
        ConfigError: there is none; lists those that exist.
    """
    known = PROVIDERS if providers is None else providers
    row = known.get(name)
    if row is None:
        raise ConfigError(
            f"unknown provider {name!r}; known are {', '.join(sorted(known))}. For any other "
            "server use 'compatible', 'compatible-responses' or 'compatible-messages' with a base "
            "URL, after the protocol that it speaks"
        )
    return row


def split_model(
    model: str, providers: Mapping[str, Provider] | None = None
) -> tuple[Provider, str]:
    """The provider and the model's name in a model string such as "openai:gpt-5".

    Raises:
        ConfigError: it has another form, or names an unknown provider.
    """
    name, colon, rest = model.partition(":")
    if not colon or not rest.strip() or not name.strip():
        known = PROVIDERS if providers is None else providers
        raise ConfigError(
            f"{model!r} is not a model string; expected 'provider:model', for example "
            f"'openai:gpt-5' or 'local:smollm2'. Providers: {', '.join(sorted(known))}"
        )
    return provider_named(name.strip().lower(), providers), rest.strip()


def provider_for_url(url: str, providers: Mapping[str, Provider] | None = None) -> Provider:
    """The provider whose usual address lies at the host of `url`, else `compatible`."""
    from urllib.parse import urlsplit  # noqa: PLC0415  2 ms for a question that is seldom asked

    place = urlsplit(url).netloc
    for row in (PROVIDERS if providers is None else providers).values():
        if row.base_url is not None and urlsplit(row.base_url).netloc == place:
            return row
    return provider_named("compatible", providers)
