"""The tools of a loop, or of one call, as the driver and the model need them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from llm_client.types import ToolSpec
from power_loop.errors import ToolDefinitionError
from power_loop.tools.base import Delegates, Tool
from power_loop.tools.registry import ToolRegistry

__all__ = ["AnyTool", "Toolset"]

AnyTool = Tool | Callable[..., Any] | ToolSpec
"""A tool, a typed function that becomes one, or the bare spec of a tool that the caller runs."""


class Toolset:
    """Tools by name. `specs` is the same object until the tools change, so that encoders can cache.

    A registry that was passed stays live: what is added to it later counts.
    """

    def __init__(self, tools: Iterable[AnyTool] | ToolRegistry = ()) -> None:
        """Raises ToolDefinitionError: two tools have one name, or something cannot be a tool."""
        self._external: dict[str, ToolSpec] = {}
        self._specs: tuple[ToolSpec, ...] = ()
        self._seen: tuple[ToolSpec, ...] | None = None
        self._polling: frozenset[str] = frozenset()
        self._summarised = False
        if isinstance(tools, ToolRegistry):
            self.registry = tools
            return
        self.registry = ToolRegistry()
        for tool in tools:
            self.add(tool)

    def add(self, tool: AnyTool) -> str:
        """Adds one tool; returns its name.

        Raises:
            ToolDefinitionError: its name is taken, or it cannot be a tool.
        """
        if not isinstance(tool, ToolSpec):
            name = self.registry.add(tool).name
            if name in self._external:
                self.registry.remove(name)
                raise ToolDefinitionError(f"a tool named {name!r} is there already")
            return name
        if tool.name in self.by_name():
            raise ToolDefinitionError(f"a tool named {tool.name!r} is there already")
        self._external[tool.name] = tool
        self._seen = None
        return tool.name

    def remove(self, name: str) -> None:
        """Removes the tool of that name, if it is there."""
        if self._external.pop(name, None) is not None:
            self._seen = None
        elif self.registry.has(name):
            self.registry.remove(name)

    def by_name(self) -> dict[str, Tool | ToolSpec]:
        """All tools, by name."""
        return {**{tool.name: tool for tool in self.registry}, **self._external}

    @property
    def delegates(self) -> bool:
        """Whether some tool's calls are sessions of their own."""
        return any(isinstance(tool, Delegates) for tool in self.registry)

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """All tools, as the model sees them."""
        self._look()
        return self._specs

    @property
    def polling(self) -> frozenset[str]:
        """The names of those that are called again and again on purpose."""
        self._look()
        return self._polling

    @property
    def summarised(self) -> bool:
        """Whether some tool wants its long outputs summarised."""
        self._look()
        return self._summarised

    def _look(self) -> None:
        current = self.registry.specs
        if current is not self._seen:
            self._seen = current
            self._specs = (*current, *self._external.values())
            self._summarised = any(tool.output.how == "summarise" for tool in self.registry)
            self._polling = frozenset([tool.name for tool in self.registry if tool.polling])
