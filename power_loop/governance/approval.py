"""A person is asked before a call runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import sha256
from inspect import isawaitable
from typing import Any, Literal

import msgspec

from power_loop.errors import HookError, UsageError
from power_loop.governance.checks import function, kind, over_zero, text, truth
from power_loop.governance.matching import Calls, calls_matcher
from power_loop.governance.policies import Pause, Policy
from power_loop.hooks import ToolBefore

__all__ = ["RequireApproval", "World"]

_WHO = "what says which calls need an approval"

World = Callable[[ToolBefore[Any]], "object | Awaitable[object]"]
"""What an approval depends on outside of its call, as values of JSON; synchronous or not."""


class RequireApproval(Policy):
    """Lets calls wait for a person's approval of just these arguments, in just this world."""

    name = "require_approval"

    def __init__(
        self,
        calls: Calls,
        reason: str | Callable[[ToolBefore[Any]], str] = "approval required",
        *,
        version: str = "",
        world: World | None = None,
        ttl: float | None = None,
        on_denial: Literal["tell", "end"] = "tell",
        name: str = "require_approval",
    ) -> None:
        """Describes the rule.

        Args:
            calls: which calls: names of tools, or a function of a call.
            reason: what the person is told, or a function that says it of a call.
            version: of the rule; an approval under another one is worth nothing.
            world: observed when the approval is asked for, and again when the call is to run; if
                it differs then, the approval is worth nothing and is asked for anew.
            ttl: seconds for which the request can be answered; None for ever.
            on_denial: after a no, the model is told ("tell"), or the run ends `approval_denied`.
            name: of the policy, where there are several of them.

        Raises:
            UsageError: one of them is none that can be.
        """
        if on_denial not in ("tell", "end"):
            raise UsageError(f'on_denial must be "tell" or "end", not {on_denial!r}')
        self.name = name
        self.version = text("version", version)
        self._meant = calls_matcher(calls, "RequireApproval")
        self._reason = reason if callable(reason) else text("reason", reason)
        self._world = None if world is None else function("world", world)
        self._ttl = None if ttl is None else over_zero("ttl", ttl, "seconds")
        self._ends = on_denial == "end"

    def before_action(self, context: ToolBefore[Any]) -> Pause | Awaitable[Pause | None] | None:
        """Asks for an approval of the calls that are meant."""
        meant = self._meant(context)
        if isawaitable(meant):
            return self._later(context, meant)
        return self._asked(context) if truth(_WHO, meant) else None

    async def _later(self, context: ToolBefore[Any], meant: Awaitable[bool]) -> Pause | None:
        if not truth(_WHO, await meant):
            return None
        asked = self._asked(context)
        return await asked if isawaitable(asked) else asked

    def _asked(self, context: ToolBefore[Any]) -> Pause | Awaitable[Pause]:
        reason = self._reason if isinstance(self._reason, str) else self._reason(context)
        if not isinstance(reason, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # foreign code
            raise HookError(f"the reason for an approval must be a text, not {kind(reason)}")
        if self._world is None:
            return self._pause(reason, "")
        observed = self._world(context)
        if isawaitable(observed):
            return self._observed(reason, observed)
        return self._pause(reason, self._digest(observed))

    async def _observed(self, reason: str, observed: Awaitable[object]) -> Pause:
        return self._pause(reason, self._digest(await observed))

    def _pause(self, reason: str, world: str) -> Pause:
        return Pause(reason, self.version, world, self._ttl, self._ends)

    def _digest(self, observed: object) -> str:
        try:
            encoded = msgspec.json.encode(observed, order="deterministic")
        except (TypeError, ValueError, RecursionError) as error:
            raise HookError(
                f"the world of the policy {self.name!r} is not of values of JSON: {error}"
            ) from error
        return sha256(encoded).hexdigest()[:32]
