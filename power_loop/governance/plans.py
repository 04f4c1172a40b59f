"""Calls that cannot be made are given back with what is wrong, and not for ever.

Each answer of a model is a plan: the calls it wants. One with an unknown tool, or with arguments
that do not fit, is not carried out at all, and the model is told what is wrong, as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

import msgspec
from msgspec import Struct

from llm_client.errors import ConfigError
from llm_client.structured.problems import Problem
from llm_client.structured.validator import SchemaValidator
from llm_client.types import Message, ToolCall, ToolResult, ToolSpec
from power_loop.agent.extensions import Extension
from power_loop.driver.dispatch import Hooks
from power_loop.hooks import (
    LLM_AFTER,
    ROUND_DECIDE,
    ROUND_START,
    SESSION_END,
    Break,
    LlmAfter,
    RoundDecide,
    RoundStart,
    SessionEnd,
    Skip,
)
from power_loop.session.outcome import PlanFailed

__all__ = ["STRIKES", "ValidPlans", "rejections"]

STRIKES = 3
"""Rejections in a row that make a plan invalid; two invalid plans in a row end the run."""

_REJECTED = "plan_invalid"
_MALFORMED = "[not run] the arguments are not"
"""How the result begins of a call whose arguments are no JSON; it never gets to a hook."""
_PROBLEMS = 10
_TOLD = 300


class PlanProblem(Struct, frozen=True):
    """What is wrong with one call."""

    call: str
    tool: str
    path: str
    expected: str
    got: str


class _Asked(Struct, frozen=True):
    tools: tuple[ToolSpec, ...]
    before: int


class ValidPlans(Extension):
    """Gives plans back that cannot be carried out; the run ends `plan_failed` after six in a row.

    The result of each call of such a plan is a JSON object: `error` is "plan_invalid", `attempt` of
    `attempts` says how many are left for this plan, `problems` what is wrong and where.
    """

    name = "valid_plans"

    def __init__(self, *, below: bool = True) -> None:
        """`below` is whether plans of sub-agents are looked at as well."""
        self._below = below
        # Between a model's answer and the decision on it; by session.
        self._asked: dict[str, _Asked] = {}
        self._validators: dict[str, tuple[ToolSpec, SchemaValidator | None]] = {}

    def hooks(self, hooks: Hooks) -> None:
        """Registers its handlers."""
        hooks.on(ROUND_START, self._begin, name=f"{self.name}:round", on_error="close")
        hooks.on(LLM_AFTER, self._answered, name=f"{self.name}:answer")
        hooks.on(ROUND_DECIDE, self._decide, name=self.name)
        hooks.on(SESSION_END, self._forget, name=f"{self.name}:end")

    def _answered(self, context: LlmAfter[Any]) -> None:
        if context.depth and not self._below:
            return
        request = context.request
        before = rejections(request.messages, context.round - 1)
        self._asked[context.session_id] = _Asked(request.tools, before)

    def _begin(self, context: RoundStart[Any]) -> Break | None:
        count = rejections(context.messages, context.round)
        if count < 2 * STRIKES or (context.depth and not self._below):
            return None
        last = context.messages[-1].parts[0]
        told = last.text if isinstance(last, ToolResult) else ""
        reason = f"{count} plans in a row could not be carried out; the last one: {told[:_TOLD]}"
        return Break(reason, PlanFailed(reason))

    def _decide(self, context: RoundDecide[Any]) -> Skip | None:
        asked = self._asked.pop(context.session_id, None)
        if asked is None:
            return None  # a batch that a former process has left: it was let through there
        tools = {tool.name: tool for tool in asked.tools}
        problems = [each for call in context.tool_calls for each in self._problems(call, tools)]
        if not problems:
            return None
        return Skip(_rejection(asked.before % STRIKES + 1, problems, sorted(tools)))

    def _forget(self, context: SessionEnd[Any]) -> None:
        self._asked.pop(context.session_id, None)

    def _problems(self, call: ToolCall, tools: dict[str, ToolSpec]) -> list[PlanProblem]:
        tool = tools.get(call.name)
        if tool is None:
            expected = f"one of these tools: {', '.join(sorted(tools)) or 'there are none'}"
            return [PlanProblem(call.id, call.name, "", expected, repr(call.name))]
        validator = self._validator(tool)
        try:
            value: object = json.loads(call.arguments or "{}")
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            wrong = [Problem("", "a JSON object", call.arguments[:80])]
        elif validator is None:
            wrong = []
        else:
            wrong = validator.check(cast("dict[str, Any]", value))[1]
        return [PlanProblem(call.id, call.name, p.path, p.expected, p.got) for p in wrong]

    def _validator(self, tool: ToolSpec) -> SchemaValidator | None:
        """None for a schema that cannot be read: the tool itself judges its arguments then."""
        known = self._validators.get(tool.name)
        if known is not None and known[0] is tool:
            return known[1]
        try:
            made = SchemaValidator(tool.parameters)
        except ConfigError:
            made = None
        self._validators[tool.name] = (tool, made)
        return made


def _rejection(attempt: int, problems: Sequence[PlanProblem], tools: list[str]) -> str:
    told: dict[str, object] = {
        "error": _REJECTED,
        "attempt": attempt,
        "attempts": STRIKES,
        "problems": problems[:_PROBLEMS],
        "tools": tools,
    }
    return msgspec.json.encode(told).decode()


def rejections(messages: Sequence[Message], rounds: int) -> int:
    """How many of the newest answers in a row were given back, among the last `rounds`."""
    count, results = 0, list[ToolResult]()
    for at in range(len(messages) - 1, -1, -1):
        message = messages[at]
        if message.role == "tool":
            results += [part for part in message.parts if isinstance(part, ToolResult)]
        elif message.role == "assistant":
            if count == rounds or not results or not all(map(_is_rejection, results)):
                break
            count += 1
            results = []
    return count


def _is_rejection(result: ToolResult) -> bool:
    text = result.text
    if result.is_error:
        return text.startswith(_MALFORMED)
    return text.startswith(f'{{"error":"{_REJECTED}",')
