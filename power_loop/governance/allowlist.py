"""Only some calls may be made."""

from __future__ import annotations

from collections.abc import Awaitable
from inspect import isawaitable
from typing import Any

from power_loop.governance.checks import truth
from power_loop.governance.matching import Calls, calls_matcher, checked_names
from power_loop.governance.policies import Policy, Refuse
from power_loop.hooks import ToolBefore

__all__ = ["ToolAllowlist"]


class ToolAllowlist(Policy):
    """Refuses every call that is not among those allowed; the model is told which are."""

    name = "tool_allowlist"

    def __init__(self, calls: Calls, *, name: str = "tool_allowlist") -> None:
        """Describes the rule.

        Args:
            calls: what is allowed: names of tools, or a function of a call.
            name: of the policy, where there are several of them.

        Raises:
            UsageError: `calls` are no names, or there are none.
        """
        self.name = name
        self._allowed = calls_matcher(calls, "ToolAllowlist")
        listed = "" if callable(calls) else ", ".join(sorted(checked_names(calls, "")))
        self._told = f" Allowed are: {listed}." if listed else ""

    def before_action(self, context: ToolBefore[Any]) -> Refuse | Awaitable[Refuse | None] | None:
        """Refuses what is not allowed."""
        allowed = self._allowed(context)
        if isawaitable(allowed):
            return self._later(context, allowed)
        return self._judged(context, allowed)

    async def _later(self, context: ToolBefore[Any], allowed: Awaitable[bool]) -> Refuse | None:
        return self._judged(context, await allowed)

    def _judged(self, context: ToolBefore[Any], allowed: bool) -> Refuse | None:  # noqa: FBT001  an answer, not an option
        if truth("what says which calls are allowed", allowed):
            return None
        return Refuse(f"[not run] This call of {context.name!r} is not allowed here.{self._told}")
