"""What is known of one model, and what the environment says of it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from msgspec import Struct, structs

from llm_client.errors import ConfigError

__all__ = ["ModelCapabilities"]

_PREFIXES = ("POWER_LOOP_", "OPENAI_COMPAT_")
_YES = frozenset(("1", "true", "yes", "on", "y", "t"))
_NO = frozenset(("0", "false", "no", "off", "n", "f"))


class ModelCapabilities(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one model can do; None means that it is not known.

    Attributes:
        context_window: tokens of prompt and answer together.
        max_output_tokens: tokens of an answer, reasoning included.
        tools: it can call tools.
        parallel_tools: it may call several at once.
        json_schema: an answer can be bound to a JSON Schema.
        images: it reads images.
        pdf: it reads PDF files as they are.
        audio: it takes sound.
        thinking: it reasons before it answers, or can be asked to.
        prompt_cache: the beginning of a prompt that was sent before can cost less.
        temperature: requests may set a temperature.
        system_prompt: requests may have a system prompt.
    """

    context_window: int | None = None
    max_output_tokens: int | None = None
    tools: bool | None = None
    parallel_tools: bool | None = None
    json_schema: bool | None = None
    images: bool | None = None
    pdf: bool | None = None
    audio: bool | None = None
    thinking: bool | None = None
    prompt_cache: bool | None = None
    temperature: bool | None = None
    system_prompt: bool | None = None

    def overridden(self, overrides: ModelCapabilities) -> ModelCapabilities:
        """With all that is known in `overrides`."""
        known = {
            name: value for name, value in structs.asdict(overrides).items() if value is not None
        }
        return structs.replace(self, **known)

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> ModelCapabilities:
        """What the environment says of the model that it configures.

        POWER_LOOP_SUPPORTS_ followed by TOOLS, PARALLEL_TOOLS, JSON_SCHEMA, IMAGES, PDF, AUDIO,
        THINKING, PROMPT_CACHE, TEMPERATURE or SYSTEM_PROMPT is 1, true, yes, on or 0, false, no,
        off. POWER_LOOP_CONTEXT_WINDOW and POWER_LOOP_MAX_OUTPUT_TOKENS are numbers. Where one is
        not set, the same is read with OPENAI_COMPAT_ in front.

        Raises:
            ConfigError: a value is neither; names every one of them.
        """
        environ = os.environ if env is None else env
        found: dict[str, bool | int] = {}
        wrong: list[str] = []
        for name in cls.__struct_fields__:
            counted = name in _COUNTS
            variable, text = _read(environ, name.upper() if counted else f"SUPPORTS_{name.upper()}")
            if not text:
                continue
            value = _count(text) if counted else _switch(text)
            if value is None:
                kind = "a positive whole number" if counted else "yes or no"
                wrong.append(f"{variable} must be {kind}, is {text!r}")
            else:
                found[name] = value
        if wrong:
            raise ConfigError("; ".join(wrong))
        return structs.replace(cls(), **found)


_COUNTS = frozenset(("context_window", "max_output_tokens"))


def _read(environ: Mapping[str, str], name: str) -> tuple[str, str]:
    for prefix in _PREFIXES:
        text = environ.get(prefix + name, "").strip()
        if text:
            return prefix + name, text
    return name, ""


def _switch(text: str) -> bool | None:
    word = text.lower()
    return True if word in _YES else False if word in _NO else None


def _count(text: str) -> int | None:
    return (
        int(text)
        if text.isascii() and text.isdigit() and 0 < len(text) < 10 and int(text)
        else None
    )
