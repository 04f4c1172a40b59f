"""Only checked, never run: each line that is wrong must be an error of exactly that kind."""

from __future__ import annotations

from typing import Any

from llm_client.types import ToolSpec
from power_loop.tools import (
    JsonSchemaTool,
    Tool,
    ToolContext,
    ToolOutput,
    ToolRegistry,
    nonsense,  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType]
    tool,
    workspace_tools,
)

__all__ = ["nonsense"]


class Deps:
    user: str = "ann"


@tool
def search(query: str, limit: int = 3) -> list[str]:
    """Searches."""
    return [query] * limit


@tool
async def who(context: ToolContext[Deps]) -> str:
    """Says who."""
    return context.deps.users  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]


class Weather:
    @tool
    def forecast(self, days: int) -> str:
        """Forecasts."""
        return str(days)


# a tool is called as its function is
search()  # pyright: ignore[reportCallIssue]
search(3)  # pyright: ignore[reportArgumentType]
search("a", limits=3)  # pyright: ignore[reportCallIssue]
Weather().forecast("two")  # pyright: ignore[reportArgumentType]
who(ToolContext[int].for_test(3))  # pyright: ignore[reportArgumentType, reportUnusedCoroutine]
number: int = search("a")  # pyright: ignore[reportAssignmentType]

# options have names and types
tool(timeout="3")  # pyright: ignore[reportArgumentType]
tool(exclusiv=True)  # pyright: ignore[reportCallIssue]
tool("search")  # pyright: ignore[reportArgumentType]
workspace_tools(3)  # pyright: ignore[reportArgumentType]
workspace_tools(".", True)  # pyright: ignore[reportCallIssue]


# what is no tool
class Unfinished:
    name = "unfinished"
    exclusive = False
    idempotent = False
    reconcile = None
    timeout: float | None = None
    spec = ToolSpec("unfinished", "Unfinished.", {})


class Blocking(Unfinished):
    def invoke(self, arguments: str, context: ToolContext[Any]) -> ToolOutput:
        return ToolOutput.of(arguments)


class Parsed(Unfinished):
    async def invoke(self, arguments: dict[str, Any], context: ToolContext[Any]) -> ToolOutput:
        return ToolOutput.of("")


unfinished: Tool = Unfinished()  # pyright: ignore[reportAssignmentType]
blocking: Tool = Blocking()  # pyright: ignore[reportAssignmentType]
parsed: Tool = Parsed()  # pyright: ignore[reportAssignmentType]
name_only: Tool = "search"  # pyright: ignore[reportAssignmentType]
registry = ToolRegistry(["search"])  # pyright: ignore[reportArgumentType]
registry.add(Unfinished())  # pyright: ignore[reportArgumentType]
registry.get("search").name  # pyright: ignore[reportOptionalMemberAccess]  # noqa: B018
JsonSchemaTool("a", "A.", {"type": "object"}, lambda arguments: None)  # pyright: ignore[reportArgumentType]

# a context is read, not made up
context = ToolContext.for_test(Deps())
context.cancelled = True  # pyright: ignore[reportAttributeAccessIssue]
context.progress(3)  # pyright: ignore[reportArgumentType]
other: ToolContext[int] = context  # pyright: ignore[reportAssignmentType]
ToolOutput("text")  # pyright: ignore[reportArgumentType]
