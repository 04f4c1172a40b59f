"""What providers accept, judged on the wire form alone. Shares no code with what it judges.

Two levels: what a provider would refuse is not `legal`; what this library holds itself to beyond
that is `canonical`. Rules are named as in the codecs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from tests.legality import anthropic, chat, cohere, gemini, ollama, responses

__all__ = ["CHECKERS"]

CHECKERS: Mapping[str, Callable[[dict[str, Any], bool], list[str]]] = MappingProxyType(
    {
        "openai_chat": chat.violations,
        "openai_responses": responses.violations,
        "anthropic_messages": anthropic.violations,
        "gemini": gemini.violations,
        "cohere_chat": cohere.violations,
        "ollama_native": ollama.violations,
    }
)
"""For each protocol: the rules that a request's body breaks; with True, at the canonical level."""
