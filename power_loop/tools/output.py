"""What a model sees of a tool's output when that is long."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, cast

from msgspec import Struct

from power_loop.errors import ToolDefinitionError

if TYPE_CHECKING:
    from power_loop.tools.base import ToolOutput

__all__ = ["PRESERVED", "READ_OUTPUT", "SPILL", "OutputPolicy", "Project"]

READ_OUTPUT = "read_output"
"""The name of the tool that pages through what is kept of an output."""

PRESERVED = 1_000_000
"""Characters of an output that is to be preserved; a longer one is kept elsewhere all the same,
because no model takes it."""

Project = Callable[["ToolOutput"], "ToolOutput | str"]
"""Makes of a tool's whole output what the model is to see of it."""


class OutputPolicy(Struct, frozen=True):
    """What becomes of a tool's output, made by one of the methods below. For `@tool(output=…)`.

    Attributes:
        how: the name of the method.
        limit: characters that the model sees at most; None for the loop's own `result_limit`.
        function: of a projection.

    Raises:
        ToolDefinitionError: the limit is no whole number from 1, or the projection no function.
    """

    how: Literal["spill", "truncate", "preserve", "summarise", "project"] = "spill"
    limit: int | None = None
    function: Project | None = None

    def __post_init__(self) -> None:
        limit = cast("Any", self.limit)
        if limit is not None and (not isinstance(limit, int) or limit is True or limit < 1):
            raise ToolDefinitionError(
                f"the limit of an output is 1 character or more, not {limit!r}"
            )
        if (self.how == "project") != callable(self.function):
            raise ToolDefinitionError(
                "a projection, and nothing else, has a function: use OutputPolicy.project(function)"
            )

    @classmethod
    def spill(cls, limit: int | None = None) -> OutputPolicy:
        """Of a long one the model sees the beginning, the end, and where the whole is kept.

        This is what holds for tools that say nothing. Where nothing is kept it is truncated.
        """
        return cls("spill", limit)

    @classmethod
    def truncate(cls, limit: int | None = None) -> OutputPolicy:
        """Of a long one the model sees the beginning and the end; the rest is kept nowhere."""
        return cls("truncate", limit)

    @classmethod
    def preserve(cls) -> OutputPolicy:
        """The model sees all of it, and it is not shortened later either: up to 1,000,000
        characters. Beyond that it is spilled, as no model takes more."""
        return cls("preserve", PRESERVED)

    @classmethod
    def summarise(cls, limit: int | None = None) -> OutputPolicy:
        """A long one is spilled, and marked as what is to be summarised before the model is asked
        again."""
        return cls("summarise", limit)

    @classmethod
    def project(cls, function: Project, limit: int | None = None) -> OutputPolicy:
        """The model sees what `function` makes of it, and where the whole is kept.

        The function is called in the event loop, so it must be quick. Errors are not projected.
        Where the function fails, the output is spilled.
        """
        return cls("project", limit, function)


SPILL = OutputPolicy()
