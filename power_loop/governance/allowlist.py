"""Only some calls may be made."""

from __future__ import annotations

from typing import Any

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

    def before_action(self, context: ToolBefore[Any]) -> Refuse | None:
        """Refuses what is not allowed."""
        if self._allowed(context):
            return None
        return Refuse(f"[not run] This call of {context.name!r} is not allowed here.{self._told}")
