"""What a session, a task or a run has used of everything that can be limited."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

__all__ = ["Spent"]


class Spent(Struct, frozen=True, omit_defaults=True, gc=False):
    """Amounts used. They only grow.

    Attributes:
        rounds: rounds in which a model was asked.
        llm_calls: requests to a model, each attempt counted.
        tool_calls: calls of tools that have begun, each attempt counted.
        children: sessions of sub-agents that were opened, at any depth.
        input_tokens, output_tokens: as the provider counted them, else as estimated; for a call
            whose end nobody saw, what was set aside for it.
        cost: US dollars, of calls whose price was known when they were made.
        wall_seconds: how long runs were open; those of the session itself, as the other time.
        working_seconds: the same without what they waited for people, rates and budgets.
    """

    rounds: int = 0
    llm_calls: int = 0
    tool_calls: int = 0
    children: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    wall_seconds: float = 0.0
    working_seconds: float = 0.0

    @property
    def tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens

    @property
    def without_times(self) -> Spent:
        """What counts above as well: a run measures its own time, whatever runs below meanwhile."""
        return replace(self, wall_seconds=0.0, working_seconds=0.0)

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.rounds + other.rounds,
            self.llm_calls + other.llm_calls,
            self.tool_calls + other.tool_calls,
            self.children + other.children,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cost + other.cost,
            self.wall_seconds + other.wall_seconds,
            self.working_seconds + other.working_seconds,
        )
