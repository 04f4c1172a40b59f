"""Short ways to call a tool and to see what it says."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from power_loop.tools import InvalidArguments, Tool, ToolContext, ToolError


async def call(tool: Tool, /, **arguments: Any) -> str:
    """The text of the tool's output, called as a model would."""
    text = msgspec.json.encode(arguments).decode()
    return (await tool.invoke(text, ToolContext.for_test(tool=tool.name))).text


async def refusal(tool: Tool, /, **arguments: Any) -> str:
    """What the tool says when it refuses, which it must."""
    with pytest.raises(ToolError) as caught:
        await call(tool, **arguments)
    return str(caught.value)


async def invalid(tool: Tool, arguments: str) -> InvalidArguments:
    """The error for arguments that do not fit, which they must not."""
    with pytest.raises(InvalidArguments) as caught:
        await tool.invoke(arguments, ToolContext.for_test(tool=tool.name))
    return caught.value
