"""What is interrupted in the cancellation sweeps: small programs that use every part of a run."""

from __future__ import annotations

from typing import Any

from llm_client.errors import Overloaded
from llm_client.retry import RetryPolicy
from llm_client.types import LLMRequest
from power_loop import AgentConfig, Hooks
from power_loop.hooks import TOOL_BEFORE, RequestInput, Suspend
from power_loop.session.outcome import (
    AwaitingApproval,
    BudgetExhausted,
    Completed,
    NoProgress,
    RoundLimit,
    WaitingForInput,
)
from tests.agent.cancel_context import CONTEXT
from tests.agent.cancel_world import (
    HELPER,
    SPILLING,
    Scenario,
    abandoned,
    approved,
    both,
    everywhere,
    interrupted,
    send,
    steered,
    stream,
    typed_send,
)
from tests.agent.scripted import Reply, calls, fails, says

__all__ = ["SCENARIOS"]


# ── the model ─────────────────────────────────────────────────────────────────────────────────────


def _last_is_user(request: LLMRequest) -> bool:
    return request.messages[-1].role == "user"


def _text(_: LLMRequest) -> Reply:
    return says("a plain answer", thinking="let me see")


def _one_tool(request: LLMRequest) -> Reply:
    if _last_is_user(request):
        return calls(("a", "work", {"n": 2}), text="I shall work.")
    return says("it is done")


def _three_tools(request: LLMRequest) -> Reply:
    if _last_is_user(request):
        return calls(("a", "work", {"n": 1}), ("b", "alone", {}), ("c", "work", {"n": 3}))
    return says("they are done")


def _threaded(request: LLMRequest) -> Reply:
    return calls(("a", "in_thread", {})) if _last_is_user(request) else says("it is done")


class _FailsAtFirst:
    """Every first try fails."""

    def __init__(self) -> None:
        self._tried: set[int] = set()

    def __call__(self, request: LLMRequest) -> Reply:
        if len(request.messages) not in self._tried:
            self._tried.add(len(request.messages))
            return fails(Overloaded("no capacity", status=529), partial="an answer that")
        self._tried.clear()
        return says("at last")


def _typed(request: LLMRequest) -> Reply:
    asked_again = "does not fit" in request.messages[-1].text
    return says('{"value": 3}' if asked_again else "three")


def _endless(request: LLMRequest) -> Reply:
    return calls(("a", "work", {"n": 1})) if request.tools else says("there is more to do")


def _finishing(request: LLMRequest) -> Reply:
    if _last_is_user(request):
        return calls(("a", "finishing", {"n": 3}), ("b", "work", {"n": 2}))
    return says("they are done")


def _leaving(request: LLMRequest) -> Reply:
    if _last_is_user(request) and len(request.messages) == 1:
        return calls(("a", "left", {"n": 6}), ("b", "work", {"n": 1}))
    return says("they are done, or I shall hear of it")


def _each_kind(request: LLMRequest) -> Reply:
    if _last_is_user(request) and len(request.messages) == 1:
        return calls(
            ("a", "left", {"n": 9}), ("b", "finishing", {"n": 4}), ("c", "work", {"n": 12})
        )
    return says("they are done, or I shall hear of it")


def _handing_on(request: LLMRequest) -> Reply:
    if request.system == HELPER.system_prompt:
        if _last_is_user(request):
            return calls(("p", "work", {"n": 1}), ("q", "finishing", {"n": 2}))
        return says("I helped")
    if len(request.messages) == 1:
        return calls(("a", "helper", {"task": "this"}), ("b", "helper", {"task": "that"}))
    return says("they helped")


def _going_round(request: LLMRequest) -> Reply:
    """The same again and again, and something else once somebody speaks."""
    if [each.text for each in request.messages if each.role == "user"][-1] == "and now?":
        return says("I was going round")
    return calls((f"c{len(request.messages)}", "work", {"n": 1}))


# ── handlers ──────────────────────────────────────────────────────────────────────────────────────


def _guarded() -> Hooks:
    hooks = Hooks()
    hooks.on(TOOL_BEFORE, lambda context: Suspend() if context.name == "work" else None)
    return hooks


def _asking() -> Hooks:
    hooks = Hooks()
    ask = RequestInput("how many?")
    hooks.on(TOOL_BEFORE, lambda context: ask if context.name == "work" else None)
    return hooks


_QUICK = AgentConfig(retry=RetryPolicy(initial=0.0001, jitter=0.0))

_SMALL = AgentConfig(max_output_tokens=600)
_SUSPENDS: Any = {"suspends": True, "endings": (Completed, RoundLimit, AwaitingApproval)}
_ASKS: Any = {"suspends": True, "endings": (Completed, RoundLimit, WaitingForInput)}

SCENARIOS: tuple[Scenario, ...] = (
    Scenario("text", lambda: _text, send),
    Scenario("streamed", lambda: _one_tool, stream),
    Scenario("one tool", lambda: _one_tool, send),
    Scenario("three tools, one exclusive", lambda: _three_tools, send),
    Scenario("tool in a thread", lambda: _threaded, send),
    Scenario("hooks everywhere", lambda: _three_tools, send, hooks=everywhere),
    Scenario("steering", lambda: _one_tool, steered),
    Scenario("interrupted", lambda: _three_tools, interrupted),
    Scenario("retry with backoff", _FailsAtFirst, stream, config=_QUICK),
    Scenario("typed output asked again", lambda: _typed, typed_send),
    Scenario("round limit", lambda: _endless, send, config=AgentConfig(max_rounds=2)),
    Scenario("two sessions", lambda: _one_tool, both, sessions=2),
    Scenario("approval", lambda: _three_tools, approved, hooks=_guarded, runs=2, **_SUSPENDS),
    Scenario("given up", lambda: _one_tool, abandoned, hooks=_guarded, runs=2, **_SUSPENDS),
    Scenario("three tools, streamed", lambda: _three_tools, stream),
    Scenario("tool that finishes", lambda: _finishing, stream),
    Scenario("tool in the background", lambda: _leaving, stream),
    Scenario("each kind of tool, interrupted", lambda: _each_kind, interrupted),
    Scenario("sub-agents", lambda: _handing_on, stream, below=("a", "b")),
    Scenario(
        "sub-agents that ask",
        lambda: _handing_on,
        approved,
        hooks=_guarded,
        runs=2,
        below=("a", "b"),
        **_SUSPENDS,
    ),
    Scenario("large outputs", lambda: _three_tools, stream, config=SPILLING),
    Scenario(
        "large outputs of each kind of tool, interrupted",
        lambda: _each_kind,
        interrupted,
        config=SPILLING,
    ),
    Scenario(
        "large answers of sub-agents",
        lambda: _handing_on,
        stream,
        below=("a", "b"),
        config=SPILLING,
    ),
    Scenario("question", lambda: _three_tools, approved, hooks=_asking, runs=2, **_ASKS),
    Scenario(
        "budget that is waited for",
        lambda: _one_tool,
        both,
        sessions=2,
        config=_SMALL,
        tokens=1_400,
        endings=(Completed, BudgetExhausted),
    ),
    Scenario(
        "policies", lambda: _going_round, stream, policed=True, endings=(Completed, NoProgress)
    ),
    *CONTEXT,
)
