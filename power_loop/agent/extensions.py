"""Bundles of hooks, tools, subscribers, prompt sections and a lifespan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from power_loop.agent.system_prompt import Section
from power_loop.driver.dispatch import Hooks
from power_loop.errors import UsageError
from power_loop.events import Event, Stamped
from power_loop.tools.base import Tool

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["ENTRY_POINTS", "Extension", "Subscription", "installed_extensions"]

ENTRY_POINTS = "power_loop.extensions"
"""The entry-point group in which third-party packages announce an extension or a maker of one."""


class Subscription(Struct, frozen=True):
    """A handler of events; `types` None means all."""

    handler: Callable[[Stamped], Any]
    types: Sequence[type[Event]] | None = None


class Extension:
    """Base of all extensions: override what yours brings. `name` is unique in a loop."""

    name: str = ""

    def hooks(self, hooks: Hooks) -> None:
        """Registers its handlers."""

    def tools(self) -> Sequence[Tool]:
        """Its tools."""
        return ()

    def subscriptions(self) -> Sequence[Subscription]:
        """Its event subscribers."""
        return ()

    def prompt_sections(self) -> Sequence[Section]:
        """Its sections of the system prompt, which stand behind the loop's own."""
        return ()

    def lifespan(self) -> AbstractAsyncContextManager[Any] | None:
        """What is to be open as long as the loop is."""
        return None


def installed_extensions() -> list[Extension]:
    """The extensions that installed packages announce, by name of their entry point.

    Raises:
        UsageError: one of them cannot be loaded, or gives no Extension; says which.
    """
    # Reading metadata loads the email package, 18 ms that few programs need.
    from importlib.metadata import entry_points  # noqa: PLC0415

    return [_loaded(entry) for entry in sorted(entry_points(group=ENTRY_POINTS), key=_name)]


def _name(entry: EntryPoint) -> str:
    return entry.name


def _loaded(entry: EntryPoint) -> Extension:
    who = f"the entry point {entry.name!r} ({entry.value})"
    try:
        announced = entry.load()
        extension = announced if isinstance(announced, Extension) else announced()
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        raise UsageError(f"{who} gives no extension ({told}); mend or remove it") from error
    if not isinstance(extension, Extension):
        raise UsageError(
            f"{who} gives a {type(extension).__name__}, not a power_loop Extension; "
            "mend or remove it"
        )
    return extension
