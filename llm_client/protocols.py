"""The wire protocols by name, and the codec of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import cast

from llm_client._place import function_at
from llm_client.codec import Codec
from llm_client.errors import ConfigError

__all__ = ["PROTOCOLS", "codec_for"]

PROTOCOLS: Mapping[str, str] = MappingProxyType(
    {
        "openai_chat": "llm_client.codecs.openai_chat:chat_codec",
        "openai_responses": "llm_client.codecs.openai_responses:responses_codec",
        "anthropic_messages": "llm_client.codecs.anthropic:anthropic_codec",
        "gemini": "llm_client.codecs.gemini:gemini_codec",
        "cohere_chat": "llm_client.codecs.cohere:cohere_codec",
        "ollama_native": "llm_client.codecs.ollama:ollama_codec",
    }
)
"""For each protocol "module:function", loaded when first needed. The function makes the codec of a
vendor's dialect under a provider's name."""


def codec_for(protocol: str, dialect: str, provider: str | None = None) -> Codec:
    """The codec that speaks `protocol` as the vendor `dialect` does. Its errors name `provider`, by
    default the vendor.

    `protocol` is a name of `PROTOCOLS`, or the "module:function" of one's own.

    Raises:
        ConfigError: there is no such protocol or function; lists the protocols that exist.
    """
    place = PROTOCOLS.get(protocol, protocol)
    if ":" not in place:
        raise ConfigError(
            f"unknown protocol {protocol!r}; known are {', '.join(sorted(PROTOCOLS))}. For one of "
            "your own give 'module:function'"
        )
    make = cast("Callable[[str, str], Codec]", function_at(place, f"protocol {protocol!r}"))
    return make(dialect, provider or dialect)
