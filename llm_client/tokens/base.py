"""What counting tokens gives, and **Protocol** TokenCounter."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from llm_client.types import LLMRequest, Message, Usage

__all__ = ["TokenCounter", "TokenEstimate"]


class TokenEstimate(Struct, frozen=True, gc=False):
    """A number of tokens. `exact` is true if the provider counts just the same."""

    tokens: int
    exact: bool

    def __add__(self, other: TokenEstimate) -> TokenEstimate:
        """Both together: exact if both are."""
        return TokenEstimate(self.tokens + other.tokens, self.exact and other.exact)


class TokenCounter(Protocol):
    """**Protocol**: how many tokens a model makes of what it is sent."""

    async def load(self) -> None:
        """Loads what is needed for counting, off the event loop. Without it, the first count loads
        it then and there."""
        ...

    def count_text(self, text: str) -> int:
        """Tokens of `text` alone."""
        ...

    def count_message(self, message: Message) -> int:
        """Tokens of `message`, with what surrounds it on its way to the model."""
        ...

    def count_request(self, request: LLMRequest) -> TokenEstimate:
        """Tokens of the whole prompt: the system prompt, tools, messages, and what binds the
        answer."""
        ...

    def learn(self, request: LLMRequest, usage: Usage) -> None:
        """Takes note of what the provider counted for `request`, so that later estimates are
        nearer."""
        ...
