"""How a tool is asked what became of a call, by its idempotency key."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, cast, get_args

from power_loop import tools as door
from power_loop.errors import ToolDefinitionError, ToolError
from power_loop.tools.base import Result, ToolOutput, Unsettled
from power_loop.tools.context import ToolContext
from power_loop.tools.threads import Threads

__all__ = ["Reconcile", "Reconciled", "Reconciling", "result_output"]

Reconciled = Result | Unsettled
"""What `reconcile=…` may answer: the result, that it never happened, or that it cannot tell."""

Reconcile = Callable[[dict[str, Any], ToolContext[Any]], Reconciled | Awaitable[Reconciled]]
"""Takes the arguments the call was begun with, as the values of their JSON, and its context, whose
`idempotency_key` says which call it is; synchronous or asynchronous."""


class Reconciling:
    """A function of the kind `Reconcile`, asked as the loop asks tools (see `Tool.reconcile`)."""

    def __init__(
        self, function: Reconcile, owner: str, threads: Threads, nothing: str = "null"
    ) -> None:
        """`owner` names the tool in errors; a synchronous function runs in `threads`; `nothing`
        stands for None in a result.

        Raises:
            ToolDefinitionError: it cannot be called with arguments and a context.
        """
        _check(function, owner)
        self._function = function
        self._threads = threads
        self._nothing = nothing
        self._asynchronous = inspect.iscoroutinefunction(function) or (
            not inspect.isroutine(function) and inspect.iscoroutinefunction(type(function).__call__)
        )

    async def __call__(self, arguments: str, context: ToolContext[Any]) -> ToolOutput | Unsettled:
        """Asks.

        Raises:
            ToolError: its answer is none of `Reconciled`, or a result that no model can read.
            Exception: whatever the function raises.
        """
        values = door.parse_object(arguments, context.tool)
        if not self._asynchronous:
            work = functools.partial(self._work, values, context)
            return await self._threads.run(work, context)
        try:
            answer: Reconciled = await cast("Any", self._function)(values, context)
        except SystemExit as error:
            raise _exited(context, error) from error
        return self._read(answer, context)

    def _work(self, values: dict[str, Any], context: ToolContext[Any]) -> ToolOutput | Unsettled:
        try:
            answer = cast("Reconciled", self._function(values, context))
        except SystemExit as error:
            raise _exited(context, error) from error
        return self._read(answer, context)

    def _read(self, answer: Reconciled, context: ToolContext[Any]) -> ToolOutput | Unsettled:
        if isinstance(answer, Result):
            return result_output(answer, context.tool, self._nothing)
        if answer not in get_args(Unsettled):
            raise ToolError(
                f"reconcile of tool {context.tool!r} answers Result(…), 'never_happened' or "
                f"'cannot_tell', not a value of type {type(answer).__name__}"
            )
        return answer


def result_output(result: Result, tool: str, nothing: str = "null") -> ToolOutput:
    """What the model reads of a result: as of what the tool returns.

    Raises:
        ToolError: it cannot be turned into text.
    """
    value = result.value
    if isinstance(value, str):
        # Without pydantic, which a program with no tools of its own need not load.
        return ToolOutput.of(value, is_error=result.is_error)
    output = door.to_output(value, tool, nothing)
    return ToolOutput(output.content, result.is_error or output.is_error)


def _check(function: Reconcile, owner: str) -> None:
    expected = "a function of two parameters: the arguments as a dict, and a ToolContext"
    if not callable(function):
        raise ToolDefinitionError(f"reconcile of tool {owner} must be {expected}, not {function!r}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some callables of C have no signature; they are called as is
        return
    try:
        signature.bind({}, None)
    except TypeError as error:
        raise ToolDefinitionError(
            f"reconcile of tool {owner} must be {expected}; {function!r} is not: {error}"
        ) from None


def _exited(context: ToolContext[Any], error: SystemExit) -> ToolError:
    return ToolError(
        f"reconcile of tool {context.tool!r} tried to exit the process (code {error.code!r})"
    )
