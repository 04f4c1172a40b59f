"""Tools: typed functions that a model can call.

    base.py        Tool, ToolOutput, the errors a tool may raise
    context.py     ToolContext: what a tool knows of its call
    function.py    @tool: a function as a tool (signature, docstring → arguments, schema → results)
    json_tool.py   JsonSchemaTool: a schema and a handler
    reconciling.py how a tool is asked what became of a call
    asking.py      how a tool asks a person
    output.py      what a model sees of a long output
    registry.py    ToolRegistry
    builtin/       files of a workspace, and a question to the user

What needs pydantic is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from power_loop.errors import ToolDefinitionError, ToolError
from power_loop.tools.base import (
    InvalidArguments,
    OnCancel,
    Problem,
    Reconciler,
    Result,
    Tool,
    ToolContent,
    ToolOutput,
    Unsettled,
)
from power_loop.tools.context import DepsT, ToolCancelled, ToolContext
from power_loop.tools.output import OutputPolicy

if TYPE_CHECKING:
    from power_loop.tools.arguments import Arguments as Arguments
    from power_loop.tools.arguments import parse_object as parse_object
    from power_loop.tools.builtin import Workspace, ask_user_tool, workspace_tools
    from power_loop.tools.docstring import parse_docstring as parse_docstring
    from power_loop.tools.function import FunctionTool, ToolDecorator, tool
    from power_loop.tools.json_tool import JsonSchemaHandler, JsonSchemaTool
    from power_loop.tools.reconciling import Reconcile, Reconciled
    from power_loop.tools.reconciling import result_output as result_output
    from power_loop.tools.registry import ToolRegistry
    from power_loop.tools.results import to_output
    from power_loop.tools.threads import Threads

__all__ = [  # noqa: RUF022  # grouped by use
    # making tools
    "FunctionTool",
    "JsonSchemaHandler",
    "JsonSchemaTool",
    "Reconcile",
    "Reconciled",
    "ToolDecorator",
    "ToolRegistry",
    "tool",
    # inside a tool
    "DepsT",
    "Result",
    "ToolContent",
    "ToolContext",
    "ToolOutput",
    # implementing or running tools
    "OnCancel",
    "OutputPolicy",
    "Reconciler",
    "Threads",
    "Tool",
    "Unsettled",
    "to_output",
    # errors
    "InvalidArguments",
    "Problem",
    "ToolCancelled",
    "ToolDefinitionError",
    "ToolError",
    # built in
    "Workspace",
    "ask_user_tool",
    "workspace_tools",
]

_LAZY = {
    "Arguments": "arguments",
    "FunctionTool": "function",
    "JsonSchemaHandler": "json_tool",
    "JsonSchemaTool": "json_tool",
    "Reconcile": "reconciling",
    "Reconciled": "reconciling",
    "Threads": "threads",
    "ToolDecorator": "function",
    "ToolRegistry": "registry",
    "Workspace": "builtin",
    "parse_docstring": "docstring",
    "parse_object": "arguments",
    "result_output": "reconciling",
    "to_output": "results",
    "ask_user_tool": "builtin",
    "tool": "function",
    "workspace_tools": "builtin",
}


if not TYPE_CHECKING:  # a type checker shall know the names, and only them

    def __getattr__(name: str) -> Any:
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
        globals()[name] = value
        return value
