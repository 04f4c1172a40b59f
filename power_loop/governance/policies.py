"""Policies: rules about rounds and calls, said in their own words and kept by hooks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import isawaitable, iscoroutinefunction
from typing import Any, cast

from msgspec import Struct

from llm_client.types import Message, Text
from power_loop.agent.extensions import Extension
from power_loop.driver.dispatch import Hooks
from power_loop.errors import UsageError
from power_loop.hooks import (
    ROUND_START,
    SESSION_END,
    SESSION_START,
    TOOL_BEFORE,
    Break,
    HookEnding,
    RoundStart,
    SessionEnd,
    SessionStart,
    Skip,
    Suspend,
    ToolBefore,
    replace,
)
from power_loop.session.view import POLICY_META

__all__ = [
    "POLICY_META",
    "ActionDecision",
    "Pause",
    "Policies",
    "Policy",
    "Refuse",
    "RoundDecision",
    "Stop",
    "Warn",
    "said_by",
]


class Stop(Struct, frozen=True):
    """End the run: with status `stopped`, or as `outcome` has it."""

    reason: str
    outcome: HookEnding | None = None


class Pause(Struct, frozen=True):
    """Wait for a person.

    A call waits for an approval of just what it is to run; the fields are those of
    `hooks.Suspend`. A round does not begin: the run ends `stopped` and can be resumed.
    """

    reason: str
    version: str = ""
    world: str = ""
    ttl: float | None = None
    end_on_denial: bool = False


class Refuse(Struct, frozen=True):
    """Do not run the call; `message` is what the model gets for a result. Not legal at a round."""

    message: str


class Warn(Struct, frozen=True):
    """Go on, and tell the model.

    At a round `message` is appended to the transcript before the model is asked. At a call it is
    said at the beginning of the next round; it is not kept if the process dies before.
    """

    message: str


RoundDecision = Stop | Pause | Warn
ActionDecision = Stop | Pause | Refuse | Warn


class Policy:
    """Base of all policies: override one or both methods, synchronous or not.

    None means that the policy has no objection. A policy that raises, or that takes longer than
    `timeout`, forbids its call; at a round it ends the run `stopped`.

    Attributes:
        name: unique among the policies of a loop; the log has it with each decision.
        version: of the rule; an approval that it has asked for is worth nothing under another.
        timeout: seconds that an asynchronous method may take; None for 30.
    """

    name: str = ""
    version: str = ""
    timeout: float | None = None

    def before_round(
        self, context: RoundStart[Any]
    ) -> RoundDecision | Awaitable[RoundDecision | None] | None:
        """Judges the round that is about to begin."""
        return None

    def before_action(
        self, context: ToolBefore[Any]
    ) -> ActionDecision | Awaitable[ActionDecision | None] | None:
        """Judges a call that is about to run."""
        return None


def said_by(policy: str, text: str) -> Message:
    """A message to the model from a policy; the session gives it its id."""
    return Message("user", (Text(text),), id="", meta={POLICY_META: policy})


class Policies(Extension):
    """Policies in their order: each is asked, and the first that stops, pauses or refuses wins.

    Each is a handler of its own, named `policy:<name>` at calls and `policy:<name>:round` at
    rounds, so that the log says who has decided.
    """

    name = "policies"

    def __init__(self, *policies: Policy, order: int = 0) -> None:
        """`order` is that of the handlers among all others of the loop.

        Raises:
            UsageError: a policy is none or has no name, two have one, or one judges nothing.
        """
        self._policies = policies
        self._order = order
        # Of calls that have been let through; by session, then by policy and call.
        self._warnings: dict[str, dict[tuple[str, str], str]] = {}
        for given in cast("tuple[object, ...]", policies):
            if not isinstance(given, Policy):
                raise UsageError(f"Policies takes policies, not {given!r}")
        names = [policy.name for policy in policies]
        for policy in policies:
            what = f"the policy {policy!r}"
            if not isinstance(policy.name, str) or not policy.name:  # pyright: ignore[reportUnnecessaryIsInstance]  # callers need not be checked
                raise UsageError(f"{what} has no name; set `name`")
            if names.count(policy.name) > 1:
                raise UsageError(f"two policies are named {policy.name!r}; give one another name")
            if not _judges_rounds(policy) and not _judges_actions(policy):
                raise UsageError(f"{what} judges nothing; override before_round or before_action")

    def hooks(self, hooks: Hooks) -> None:
        """Registers a handler for each policy and point."""
        if any(map(_judges_actions, self._policies)):
            hooks.on(SESSION_START, self._forget, name="policies:begin", order=self._order)
            hooks.on(ROUND_START, self._say, name="policies:warnings", order=self._order)
            hooks.on(SESSION_END, self._forget, name="policies:end", order=self._order)
        for policy in self._policies:
            name = f"policy:{policy.name}"
            if _judges_actions(policy):
                action = _handler(policy.before_action, self._of_action(policy))
                hooks.on(
                    TOOL_BEFORE,
                    action,
                    name=name,
                    order=self._order,
                    timeout=policy.timeout,
                    on_error="close",
                )
            if _judges_rounds(policy):
                hooks.on(
                    ROUND_START,
                    _handler(policy.before_round, _of_round(policy)),
                    name=f"{name}:round",
                    order=self._order,
                    timeout=policy.timeout,
                    on_error="close",
                )

    def _of_action(self, policy: Policy) -> Callable[[Any, Any], Any]:
        def directive(context: ToolBefore[Any], decision: ActionDecision | None) -> Any:
            match decision:
                case Stop(reason, outcome):
                    return Break(reason, outcome)
                case Pause(reason, version, world, ttl, end_on_denial):
                    return Suspend(reason, version or policy.version, world, ttl, end_on_denial)
                case Refuse(message):
                    return Skip(message)
                case Warn(message):
                    warnings = self._warnings.setdefault(context.session_id, {})
                    warnings[policy.name, context.call.id] = message
                    return None
                case _:
                    # What is not a decision is refused by name where directives are checked.
                    return decision

        return directive

    def _say(self, context: RoundStart[Any]) -> RoundStart[Any] | None:
        warnings = self._warnings.pop(context.session_id, None)
        if not warnings:
            return None
        said = [said_by(policy, message) for (policy, _), message in warnings.items()]
        return replace(context, append=(*context.append, *said))

    def _forget(self, context: SessionStart[Any] | SessionEnd[Any]) -> None:
        self._warnings.pop(context.session_id, None)


def _of_round(policy: Policy) -> Callable[[Any, Any], Any]:
    def directive(context: RoundStart[Any], decision: RoundDecision | None) -> Any:
        match decision:
            case Stop(reason, outcome):
                return Break(reason, outcome)
            case Pause(reason=reason):
                return Break(f"paused by the policy {policy.name!r}: {reason}")
            case Warn(message):
                said = said_by(policy.name, message)
                return replace(context, append=(*context.append, said))
            case _:
                return decision

    return directive


def _handler(
    judge: Callable[[Any], Any], directive: Callable[[Any, Any], Any]
) -> Callable[[Any], Any]:
    """A handler that asks `judge` and says it as a directive; asynchronous only if it must be."""
    if iscoroutinefunction(judge):
        # Known to be asynchronous beforehand, it may have a bound of its own.
        async def awaited(context: Any) -> Any:
            return directive(context, await judge(context))

        return awaited

    def judged(context: Any) -> Any:
        decision = judge(context)
        if decision is not None and isawaitable(decision):
            return _judged_later(directive, context, decision)
        return directive(context, decision)

    return judged


async def _judged_later(
    directive: Callable[[Any, Any], Any], context: Any, decision: Awaitable[Any]
) -> Any:
    return directive(context, await decision)


def _judges_rounds(policy: Policy) -> bool:
    return type(policy).before_round is not Policy.before_round


def _judges_actions(policy: Policy) -> bool:
    return type(policy).before_action is not Policy.before_action
