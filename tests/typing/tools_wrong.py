"""Only checked, never run: each line that is wrong must be an error of exactly that kind."""

from __future__ import annotations

from typing import Any

from llm_client.types import ToolSpec
from power_loop.tools import (
    JsonSchemaTool,
    OnCancel,
    OutputPolicy,
    Reconciled,
    Reconciler,
    Result,
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


# a tool that can be asked answers in words that are known, or with a Result
def forgets(arguments: dict[str, Any], context: ToolContext[Deps]) -> Result | None: ...
def bare_text(arguments: dict[str, Any], context: ToolContext[Deps]) -> str:
    return "paid"


def by_key(key: str) -> Reconciled:
    return "cannot_tell"


def misspelt(arguments: dict[str, Any], context: ToolContext[Deps]) -> Reconciled:
    return "never"  # pyright: ignore[reportReturnType]


async def of_text(arguments: str, context: ToolContext[Deps]) -> Reconciled:
    return "cannot_tell"


tool(reconcile=forgets)  # pyright: ignore[reportArgumentType]
tool(reconcile=bare_text)  # pyright: ignore[reportArgumentType]
tool(reconcile=by_key)  # pyright: ignore[reportArgumentType]
tool(reconcile=of_text)  # pyright: ignore[reportArgumentType]
tool(reconcile=True)  # pyright: ignore[reportArgumentType]
JsonSchemaTool("b", "B.", {}, lambda a, c: None, reconcile=forgets)  # pyright: ignore[reportArgumentType]


# what is no tool
class Unfinished:
    name = "unfinished"
    exclusive = False
    idempotent = False
    polling = False
    reconcile: Reconciler | None = None
    timeout: float | None = None
    on_cancel: OnCancel = "abort"
    grace = 5.0
    output = OutputPolicy()
    spec = ToolSpec("unfinished", "Unfinished.", {})


class Blocking(Unfinished):
    def invoke(self, arguments: str, context: ToolContext[Any]) -> ToolOutput:
        return ToolOutput.of(arguments)


class Parsed(Unfinished):
    async def invoke(self, arguments: dict[str, Any], context: ToolContext[Any]) -> ToolOutput:
        return ToolOutput.of("")


class Guessing(Unfinished):
    async def invoke(self, arguments: str, context: ToolContext[Any]) -> ToolOutput:
        return ToolOutput.of("")

    async def reconcile(self, arguments: str, context: ToolContext[Any]) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return True


guessing: Tool = Guessing()  # pyright: ignore[reportAssignmentType]
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
