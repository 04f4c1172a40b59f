"""Where those who speak the Messages protocol deviate from Anthropic: data, not branches."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

__all__ = ["ANTHROPIC", "DIALECTS", "AnthropicDialect", "anthropic_dialect"]


class AnthropicDialect(Struct, frozen=True, kw_only=True):
    """One vendor's way of speaking the protocol.

    Attributes:
        provider: its name, in errors.
        origin: who seals its thinking and owns its opaque parts. Whoever serves Anthropic's own
            models shares one origin: they accept each other's signatures.
        path: the address of the endpoint below the base address; "{model}" stands for the model.
        stream_path: the same for streams, None where it does not differ.
        version: the value of the header `anthropic-version`, None to leave it out.
        body_version: the value of the body's `anthropic_version`, None to leave it out.
        betas: features to ask for in the header `anthropic-beta`.
        model_in_body: the model is named in the body; otherwise it is in the path only.
        max_tokens: the output limit where the request sets none; the protocol demands one.
        json_schema: the answer can be bound to a schema.
        system_turns: models that take system messages in mid-transcript do so here, too.
        cache: the prompt cache is told where to keep what.
        compacts: a long prompt is made a summary of by the vendor itself, when it is asked to.
    """

    provider: str
    origin: str
    path: str = "/v1/messages"
    stream_path: str | None = None
    version: str | None = "2023-06-01"
    body_version: str | None = None
    betas: tuple[str, ...] = ()
    model_in_body: bool = True
    max_tokens: int = 8192
    json_schema: bool = True
    system_turns: bool = False
    cache: bool = True
    compacts: bool = False


ANTHROPIC = AnthropicDialect(
    provider="anthropic", origin="anthropic", system_turns=True, compacts=True
)

_ALL = (
    ANTHROPIC,
    # Bedrock's own address for this protocol; the older one of InvokeModel does not stream events.
    AnthropicDialect(provider="bedrock", origin="anthropic", compacts=True),
    AnthropicDialect(provider="azure", origin="anthropic", compacts=True),
    AnthropicDialect(
        provider="vertex",
        origin="anthropic",
        path="/publishers/anthropic/models/{model}:rawPredict",
        stream_path="/publishers/anthropic/models/{model}:streamRawPredict",
        version=None,
        body_version="vertex-2023-10-16",
        model_in_body=False,
        compacts=True,
    ),
    # The local server binds answers to a schema on its other protocols only.
    AnthropicDialect(provider="llama.cpp", origin="llama.cpp", json_schema=False, cache=False),
)

_ALIASES = {"local": "llama.cpp"}

DIALECTS: Mapping[str, AnthropicDialect] = MappingProxyType({one.provider: one for one in _ALL})
"""All known dialects by the vendor's name."""


def anthropic_dialect(provider: str) -> AnthropicDialect:
    """The dialect of `provider`. An unknown one speaks the protocol under its own name, without
    what only Anthropic is known to have."""
    known = DIALECTS.get(_ALIASES.get(provider, provider))
    if known is not None:
        return known
    return AnthropicDialect(provider=provider, origin=provider, json_schema=False)
