"""Tools by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from llm_client.types import ToolSpec
from power_loop import tools as door
from power_loop.errors import ToolDefinitionError
from power_loop.tools.base import Tool
from power_loop.tools.naming import check_name

__all__ = ["ToolRegistry"]


class ToolRegistry:
    """An ordered set of tools with distinct names. Tools may come and go while a loop runs."""

    def __init__(self, tools: Iterable[Tool | Callable[..., Any]] = ()) -> None:
        """Raises ToolDefinitionError as `add` does."""
        self._tools: dict[str, Tool] = {}
        self._specs: tuple[ToolSpec, ...] | None = None
        for item in tools:
            self.add(item)

    def add(self, tool: Tool | Callable[..., Any], *, replace: bool = False) -> Tool:
        """Adds a tool, or a plain typed function as one; returns the tool.

        Args:
            tool: what to add.
            replace: put it in the place of a tool of the same name.

        Raises:
            ToolDefinitionError: the name is taken (names both tools) or not a legal one; or it is
                neither a tool nor a function that can be one.
        """
        added = self._as_tool(tool)
        name = check_name(added.name, repr(added))
        if added.spec.name != name:
            raise ToolDefinitionError(
                f"tool {added!r} is called {name!r} but tells the model {added.spec.name!r}"
            )
        other = self._tools.get(name)
        if other is not None and not replace:
            raise ToolDefinitionError(
                f"two tools are called {name!r}: {other!r} and {added!r}; rename one (`name=…`), "
                "or add it with replace=True"
            )
        self._tools[name] = added
        self._specs = None
        return added

    def _as_tool(self, tool: Tool | Callable[..., Any]) -> Tool:
        if isinstance(tool, type):
            raise ToolDefinitionError(f"{tool!r} is a class; add an instance of it")
        if isinstance(tool, Tool):
            return tool
        if callable(tool):
            # Through the door, so that pydantic is loaded only when a function has to be read.
            return door.tool(tool)
        raise ToolDefinitionError(
            f"{tool!r} is no tool: add a function, a JsonSchemaTool, or an object with the "
            "members of power_loop.tools.Tool"
        )

    def remove(self, name: str) -> Tool:
        """Takes a tool out and returns it.

        Raises:
            ToolDefinitionError: there is none of that name.
        """
        if name not in self._tools:
            raise self._unknown(name)
        self._specs = None
        return self._tools.pop(name)

    def get(self, name: str) -> Tool | None:
        """The tool called `name`, or None."""
        return self._tools.get(name)

    def has(self, name: str) -> bool:
        """Whether there is a tool called `name`."""
        return name in self._tools

    def subset(self, names: Iterable[str]) -> ToolRegistry:
        """A new registry of the named tools only, in that order.

        Raises:
            ToolDefinitionError: there is no tool of one of the names.
        """
        found: list[Tool] = []
        for name in names:
            if name not in self._tools:
                raise self._unknown(name)
            found.append(self._tools[name])
        return ToolRegistry(found)

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in the order in which the tools were added."""
        return tuple(self._tools)

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """The tools as a model sees them: the same object until a tool is added or removed."""
        specs = self._specs
        if specs is None:
            specs = self._specs = tuple([tool.spec for tool in self._tools.values()])
        return specs

    def _unknown(self, name: str) -> ToolDefinitionError:
        import difflib  # noqa: PLC0415  for this message only

        close = difflib.get_close_matches(name, self._tools, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(self._tools)}"
        return ToolDefinitionError(f"there is no tool called {name!r}; {hint}")

    def __iter__(self) -> Iterator[Tool]:
        return iter(tuple(self._tools.values()))

    def __len__(self) -> int:
        return len(self._tools)

    def __contains__(self, name: object) -> bool:
        return name in self._tools

    def __repr__(self) -> str:
        return f"ToolRegistry({', '.join(self._tools)})"
