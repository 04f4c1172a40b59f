"""Only checked, never run: everything here is right, and its types are what they should be."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, assert_type

from msgspec.structs import replace

from llm_client.types import LLMRequest, LLMResponse, Message
from power_loop import AgentLoop, Extension, Hooks
from power_loop.hooks import (
    APPROVAL_REQUESTED,
    COMPLETE_DECIDE,
    LLM_AFTER,
    LLM_BEFORE,
    LLM_ERROR,
    MESSAGE_APPEND,
    ROUND_DECIDE,
    ROUND_START,
    SESSION_END,
    SESSION_START,
    TOOL_AFTER,
    TOOL_BEFORE,
    TOOL_ERROR,
    TOOLS_BATCH_BEFORE,
    ApprovalRequested,
    Break,
    CompleteDecide,
    Continue,
    LlmAfter,
    LlmBefore,
    LlmErrorRaised,
    MessageAppend,
    Retry,
    RoundDecide,
    RoundStart,
    SessionEnd,
    SessionStart,
    ShortCircuit,
    Skip,
    Suspend,
    ToolAfter,
    ToolBefore,
    ToolErrorRaised,
    ToolsBatchBefore,
)
from power_loop.session.outcome import Outcome


class Deps:
    user: str = "ann"


hooks = Hooks()


@hooks.on(SESSION_START)
def start(context: SessionStart[Deps]) -> SessionStart[Deps] | None:
    assert_type(context.deps.user, str)
    return replace(context, append=(Message.user("hello"),))


@hooks.on(ROUND_START, order=3, name="round", timeout=2.0, on_error="close")
async def round_start(context: RoundStart[Deps]) -> RoundStart[Deps] | Break | Skip | None:
    return Break() if context.round > 3 else None


@hooks.on(LLM_BEFORE)
async def ask(context: LlmBefore[Deps]) -> LlmBefore[Deps] | ShortCircuit | Break | None:
    assert_type(context.request, LLMRequest)
    return replace(context, request=context.request)


@hooks.on(LLM_AFTER)
def answered(context: LlmAfter[Deps]) -> Break | None:
    assert_type(context.response, LLMResponse)


@hooks.on(LLM_ERROR)
async def failed(context: LlmErrorRaised[Deps]) -> Retry | ShortCircuit | Break | None: ...


@hooks.on(ROUND_DECIDE)
def decide(context: RoundDecide[Deps]) -> Skip | Break | None: ...


@hooks.on(TOOLS_BATCH_BEFORE)
def batch(context: ToolsBatchBefore[Deps]) -> Skip | None: ...


@hooks.on(TOOL_BEFORE)
def guard(context: ToolBefore[Deps]) -> ToolBefore[Deps] | Skip | Suspend | None:
    return Suspend("dangerous")


@hooks.on(TOOL_AFTER)
async def ran(context: ToolAfter[Deps]) -> ToolAfter[Deps] | Break | None: ...


@hooks.on(TOOL_ERROR)
def broke(context: ToolErrorRaised[Deps]) -> Retry: ...


@hooks.on(COMPLETE_DECIDE)
def more(context: CompleteDecide[Deps]) -> Continue | None: ...


@hooks.on(MESSAGE_APPEND)
def redact(context: MessageAppend[Deps]) -> MessageAppend[Deps]: ...


@hooks.on(APPROVAL_REQUESTED)
async def tell(context: ApprovalRequested[Deps]) -> None: ...


@hooks.on(SESSION_END)
def end(context: SessionEnd[Deps]) -> None:
    assert_type(context.outcome, Outcome)


# A registered function stays what it was, or nearly: something that takes the point's context.
def use(context: ToolBefore[Any]) -> None:
    guard(context)


# Without a decorator, with what is not annotated, and with a method.
class Policy:
    def check(self, context: ToolBefore[Any]) -> Skip | None: ...

    async def look(self, context: RoundStart[Any]) -> None: ...

    def later(self, context: ToolBefore[Any]) -> Awaitable[Skip | None]: ...


hooks.on(TOOL_BEFORE, Policy().check, name="policy")
hooks.on(TOOL_BEFORE, Policy().later)
hooks.on(ROUND_START, Policy().look)
hooks.on(TOOL_BEFORE, lambda context: Skip() if context.name == "rm" else None)


class Mine(Extension):
    def hooks(self, hooks: Hooks) -> None:
        hooks.on(TOOL_BEFORE, Policy().check)


loop = AgentLoop[Deps]("openai:gpt-5", hooks=hooks, extensions=[Mine()])
