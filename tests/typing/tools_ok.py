"""Only checked, never run: what a type checker must know of tools."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, assert_type

from llm_client.types import ToolSpec
from power_loop.tools import (
    FunctionTool,
    JsonSchemaTool,
    OnCancel,
    OutputPolicy,
    Reconciled,
    Reconciler,
    Result,
    Threads,
    Tool,
    ToolContext,
    ToolOutput,
    ToolRegistry,
    Unsettled,
    tool,
    workspace_tools,
)


class Deps:
    user: str = "ann"


@tool
def bare(query: str, limit: int = 3) -> list[str]:
    """Bare."""
    return [query] * limit


@tool(name="other", exclusive=True, timeout=3, threads=Threads(2))
async def optioned(query: str, context: ToolContext[Deps]) -> int:
    """With options."""
    assert_type(context.deps, Deps)
    assert_type(context.cancel_reason, str | None)
    return len(context.deps.user)


def look_up(arguments: dict[str, Any], context: ToolContext[Deps]) -> Reconciled:
    assert_type(context.deps, Deps)
    assert_type(context.idempotency_key, str)
    return Result({"receipt": arguments["n"]}) if context.attempt == 1 else "cannot_tell"


async def look_up_later(arguments: dict[str, Any], context: ToolContext) -> Reconciled:
    return "never_happened" if arguments else Result(None, is_error=True)


@tool(reconcile=look_up, idempotent=True)
def asked(n: int) -> int:
    """Can be asked."""
    return n


@tool(reconcile=look_up_later)
async def asked_later(n: int) -> int:
    """Can be asked, asynchronously."""
    return n


class Weather:
    @tool
    def forecast(self, days: int) -> str:
        """Forecasts."""
        return str(days)


def plain(x: int) -> int:
    """Plain."""
    return x


# calling a tool is calling its function
assert_type(bare("a"), list[str])
assert_type(asked(3), int)
assert_type(bare("a", limit=2), list[str])
assert_type(Weather().forecast(2), str)
assert_type(Weather().forecast(days=2), str)


async def main(context: ToolContext[Deps]) -> None:
    assert_type(await optioned("a", context), int)
    assert_type(await bare.invoke("{}", context), ToolOutput)
    pending: Coroutine[Any, Any, int] = optioned("a", ToolContext.for_test(Deps()))
    await pending


# what is a tool
class Own:
    name = "own"
    exclusive = False
    idempotent = True
    polling = False
    reconcile: Reconciler | None = None
    timeout: float | None = None
    on_cancel: OnCancel = "abort"
    grace = 5.0
    output = OutputPolicy()
    spec = ToolSpec("own", "Own.", {})

    async def invoke(self, arguments: str, context: ToolContext[Any]) -> ToolOutput:
        return ToolOutput.of(arguments)


class Knowing:
    name = "knowing"
    exclusive = False
    idempotent = False
    polling = False
    timeout: float | None = None
    on_cancel: OnCancel = "abort"
    grace = 5.0
    output = OutputPolicy()
    spec = ToolSpec("knowing", "Knowing.", {})

    async def invoke(self, arguments: str, context: ToolContext[Any]) -> ToolOutput:
        return ToolOutput.of(arguments)

    async def reconcile(self, arguments: str, context: ToolContext[Any]) -> ToolOutput | Unsettled:
        return ToolOutput.of(arguments) if arguments else "cannot_tell"


async def handler(arguments: dict[str, Any], context: ToolContext[Any]) -> str:
    return context.call_id


tools: list[Tool] = [
    bare,
    optioned,
    Weather().forecast,
    Own(),
    Knowing(),
    asked,
    asked_later,
    JsonSchemaTool("a", "A.", {"type": "object"}, handler),
    JsonSchemaTool("b", "B.", {"type": "object"}, handler, reconcile=look_up),
    *workspace_tools("."),
]
registry = ToolRegistry([*tools, plain])
assert_type(registry.get("a"), Tool | None)
assert_type(registry.specs, tuple[ToolSpec, ...])
assert_type(ToolContext.for_test(Deps()), ToolContext[Deps])
assert_type(ToolContext.for_test(3).deps, int)


def takes_any_deps(context: ToolContext) -> ToolContext[Any]:
    return context


registered: FunctionTool[[int], int] = tool(plain)
