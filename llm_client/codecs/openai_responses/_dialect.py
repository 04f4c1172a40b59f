"""Where the vendors of the Responses protocol deviate from OpenAI: data, not branches.

A vendor without an entry speaks `COMPATIBLE`, the part of the protocol that all accept.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from msgspec import Struct, structs

from llm_client.codecs._sampling import OPENAI_FIXED, FixedSampling

__all__ = ["COMPATIBLE", "DIALECTS", "ResponsesDialect", "responses_dialect"]


class ResponsesDialect(Struct, frozen=True, kw_only=True):
    """One vendor's way of speaking the protocol.

    Attributes:
        provider: its name, in errors.
        origin: who seals its parts; what one vendor has encrypted another cannot read.
        path: the address of the endpoint below the base address.
        store: the vendor keeps the answers, and its items go back by their ids. Otherwise nothing
            is kept there, and reasoning goes back encrypted.
        encrypted: reasoning comes encrypted when asked for.
        format: where the form of the answer stands; llama.cpp ignores the protocol's own place.
        prompt_cache_key: requests of one conversation can be named, so that they meet the same
            prompt cache.
        compacts: the vendor makes a summary of a long prompt by itself, when asked to.
        fixed_sampling: models that take no `temperature` and no `top_p` but 1.
    """

    provider: str
    origin: str
    path: str = "/responses"
    store: bool = False
    encrypted: bool = False
    format: Literal["text", "response_format"] = "text"
    prompt_cache_key: bool = False
    compacts: bool = False
    fixed_sampling: tuple[FixedSampling, ...] = ()


def _made(
    provider: str, *, encrypted: bool = False, keyed: bool = False, compacts: bool = False
) -> ResponsesDialect:
    return ResponsesDialect(
        provider=provider,
        origin=f"{provider}.responses",
        encrypted=encrypted,
        prompt_cache_key=keyed,
        compacts=compacts,
    )


def _openai(provider: str) -> ResponsesDialect:
    made = _made(provider, encrypted=True, keyed=True, compacts=True)
    return structs.replace(made, fixed_sampling=OPENAI_FIXED)


COMPATIBLE = _made("compatible")

_ALL = (
    COMPATIBLE,
    _openai("openai"),
    _openai("azure"),
    _made("xai", encrypted=True, keyed=True),
    _made("bedrock", encrypted=True),
    # It hands the wish on to those that know it, and drops it for the others.
    _made("openrouter", encrypted=True, compacts=True),
    structs.replace(_made("llama.cpp"), format="response_format"),
)

DIALECTS: Mapping[str, ResponsesDialect] = MappingProxyType({one.provider: one for one in _ALL})
"""All known dialects by the vendor's name."""


def responses_dialect(provider: str) -> ResponsesDialect:
    """The dialect of `provider`; an unknown one speaks `COMPATIBLE` under its own name."""
    return DIALECTS.get(provider) or structs.replace(
        COMPATIBLE, provider=provider, origin=f"{provider}.responses"
    )
