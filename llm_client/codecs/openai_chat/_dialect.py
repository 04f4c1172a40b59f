"""Where the vendors of the Chat Completions protocol deviate from OpenAI: data, not branches.

Each deviation stands here because recorded traffic, the vendor's documentation or its error texts
show it. A vendor without an entry speaks `COMPATIBLE`, the part of the protocol that all accept.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from msgspec import Struct, structs

from llm_client.codecs._names import NINE_LETTERS, IdForm
from llm_client.codecs._sampling import OPENAI_FIXED, FixedSampling

__all__ = ["COMPATIBLE", "DIALECTS", "ChatDialect", "ReasoningEcho", "chat_dialect"]


_LONG = IdForm(r"(?s).{0,64}")
_SHORT = IdForm(r"(?s).{0,40}")


class ReasoningEcho(Struct, frozen=True):
    """How a model's own reasoning is sent back to it.

    `field` is the message's field. With `always`, every assistant message carries it, otherwise
    only those with tool calls. `empty` is sent where there is no reasoning; None leaves the field
    out.
    """

    field: str
    always: bool = False
    empty: str | None = None


class ChatDialect(Struct, frozen=True, kw_only=True):
    """One vendor's way of speaking the protocol.

    Attributes:
        provider: its name, in errors and as the owner of opaque parts.
        path: the address of the endpoint below the base address.
        system_role: the role of system messages.
        max_tokens: the name of the output limit.
        seed: the name of the seed.
        required: the word for "must call some tool".
        stream_options: `stream_options.include_usage` is understood.
        call_id: the form of call ids; others are mapped to it.
        json_schema: the answer can be bound to a schema.
        effort: reasoning effort is a plain parameter, or an object `reasoning`.
        thinking_tokens: the name of the bound on reasoning tokens, None if there is none.
        echo: how reasoning is sent back, None to leave it out.
        reasoning_details: opaque `reasoning_details` are sent back unchanged.
        bridge: a user message may not follow tool results; an assistant message goes between.
        trust_total: use the total to find reasoning that was counted beside the output.
        fixed_sampling: models that take no `temperature` and no `top_p` but 1.
    """

    provider: str
    path: str = "/chat/completions"
    system_role: Literal["system", "developer"] = "system"
    max_tokens: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    seed: Literal["seed", "random_seed"] = "seed"
    required: Literal["required", "any"] = "required"
    stream_options: bool = True
    call_id: IdForm = _LONG
    json_schema: bool = True
    effort: Literal["reasoning_effort", "reasoning"] = "reasoning_effort"
    thinking_tokens: str | None = None
    echo: ReasoningEcho | None = None
    reasoning_details: bool = False
    bridge: bool = False
    trust_total: bool = True
    fixed_sampling: tuple[FixedSampling, ...] = ()


COMPATIBLE = ChatDialect(provider="compatible")

_OPENAI = ChatDialect(
    provider="openai",
    max_tokens="max_completion_tokens",
    call_id=_SHORT,
    fixed_sampling=OPENAI_FIXED,
)

_ALL = (
    COMPATIBLE,
    _OPENAI,
    structs.replace(_OPENAI, provider="azure"),
    # In thinking mode every assistant message of a tool loop must carry the field, "" if it was
    # empty; outside of it the field is ignored. The API knows json_object only.
    ChatDialect(
        provider="deepseek",
        echo=ReasoningEcho("reasoning_content", always=True, empty=""),
        json_schema=False,
    ),
    # "thinking is enabled but reasoning_content is missing in assistant tool call message": an
    # empty string counts as missing.
    ChatDialect(provider="moonshot", echo=ReasoningEcho("reasoning_content", empty=".")),
    # Model Studio gave up max_tokens in 2026.
    ChatDialect(
        provider="qwen", max_tokens="max_completion_tokens", thinking_tokens="thinking_budget"
    ),
    ChatDialect(provider="groq", max_tokens="max_completion_tokens"),
    ChatDialect(
        provider="cerebras", max_tokens="max_completion_tokens", echo=ReasoningEcho("reasoning")
    ),
    # "Tool call id was … but must be a-z, A-Z, 0-9, with a length of 9"; "Unexpected role 'user'
    # after role 'tool'"; streams carry usage without being asked and unknown parameters are
    # refused.
    ChatDialect(
        provider="mistral",
        seed="random_seed",
        required="any",
        stream_options=False,
        call_id=NINE_LETTERS,
        bridge=True,
    ),
    ChatDialect(provider="openrouter", effort="reasoning", reasoning_details=True),
    ChatDialect(provider="ollama", echo=ReasoningEcho("reasoning")),
    ChatDialect(provider="llama.cpp", echo=ReasoningEcho("reasoning_content")),
    ChatDialect(provider="vllm"),
    ChatDialect(provider="together"),
    ChatDialect(provider="xai"),
    ChatDialect(provider="perplexity"),
    ChatDialect(provider="huggingface"),
    ChatDialect(provider="fireworks"),
    ChatDialect(provider="zai"),
    ChatDialect(provider="snowflake"),
)

_ALIASES = {"dashscope": "qwen", "alibaba": "qwen", "local": "llama.cpp", "kimi": "moonshot"}

DIALECTS: Mapping[str, ChatDialect] = MappingProxyType({one.provider: one for one in _ALL})
"""All known dialects by the vendor's name."""


def chat_dialect(provider: str) -> ChatDialect:
    """The dialect of `provider`; an unknown one speaks `COMPATIBLE` under its own name."""
    name = _ALIASES.get(provider, provider)
    return DIALECTS.get(name) or structs.replace(COMPATIBLE, provider=provider)
