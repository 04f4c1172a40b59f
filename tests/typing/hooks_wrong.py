"""Only checked, never run: each line that is wrong must be an error of exactly that kind."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from llm_client.types import Message
from power_loop import Hooks
from power_loop.hooks import (
    COMPLETE_DECIDE,
    LLM_AFTER,
    LLM_BEFORE,
    LLM_ERROR,
    ROUND_DECIDE,
    ROUND_START,
    SESSION_END,
    TOOL_AFTER,
    TOOL_BEFORE,
    TOOLS_BATCH_BEFORE,
    Break,
    CompleteDecide,
    Continue,
    LlmAfter,
    LlmBefore,
    LlmErrorRaised,
    Retry,
    RoundDecide,
    RoundStart,
    SessionEnd,
    ShortCircuit,
    Skip,
    Suspend,
    ToolAfter,
    ToolBefore,
    ToolsBatchBefore,
)


class Deps:
    user: str = "ann"


hooks = Hooks()


# ── directives that are not legal at their point ─────────────────────────────────────────────────


@hooks.on(TOOL_BEFORE)  # pyright: ignore[reportArgumentType]
def retries_a_tool(context: ToolBefore[Any]) -> Retry: ...


@hooks.on(TOOL_BEFORE)  # pyright: ignore[reportArgumentType]
async def continues_a_tool(context: ToolBefore[Any]) -> ToolBefore[Any] | Continue | None: ...


@hooks.on(LLM_BEFORE)  # pyright: ignore[reportArgumentType]
def skips_the_model(context: LlmBefore[Any]) -> Skip | None: ...


@hooks.on(LLM_AFTER)  # pyright: ignore[reportArgumentType]
def retries_an_answer(context: LlmAfter[Any]) -> Retry | None: ...


@hooks.on(LLM_ERROR)  # pyright: ignore[reportArgumentType]
def rewrites_an_error(context: LlmErrorRaised[Any]) -> LlmErrorRaised[Any]: ...


@hooks.on(ROUND_DECIDE)  # pyright: ignore[reportArgumentType]
def suspends_a_round(context: RoundDecide[Any]) -> Suspend | None: ...


@hooks.on(TOOLS_BATCH_BEFORE)  # pyright: ignore[reportArgumentType]
def breaks_a_batch(context: ToolsBatchBefore[Any]) -> Break | None: ...


@hooks.on(TOOL_AFTER)  # pyright: ignore[reportArgumentType]
async def skips_what_has_run(context: ToolAfter[Any]) -> Skip | None: ...


@hooks.on(COMPLETE_DECIDE)  # pyright: ignore[reportArgumentType]
def breaks_the_end(context: CompleteDecide[Any]) -> Break | None: ...


@hooks.on(SESSION_END)  # pyright: ignore[reportArgumentType]
def short_circuits_the_end(context: SessionEnd[Any]) -> ShortCircuit | None: ...


@hooks.on(ROUND_START)  # pyright: ignore[reportArgumentType]
def answers_with_a_bool(context: RoundStart[Any]) -> bool: ...


hooks.on(TOOL_BEFORE, lambda _: Retry())  # pyright: ignore[reportCallIssue, reportArgumentType]


# ── contexts of another point ────────────────────────────────────────────────────────────────────


@hooks.on(TOOL_BEFORE)  # pyright: ignore[reportArgumentType]
def takes_another_context(context: LlmBefore[Any]) -> None: ...


@hooks.on(ROUND_START)  # pyright: ignore[reportArgumentType]
async def takes_no_context() -> None: ...


@hooks.on(ROUND_START)  # pyright: ignore[reportArgumentType]
def takes_two(context: RoundStart[Any], other: int) -> None: ...


@hooks.on(TOOL_BEFORE)  # pyright: ignore[reportArgumentType]
def returns_another_context(context: ToolBefore[Any]) -> LlmBefore[Any] | None: ...


# ── fields and options ───────────────────────────────────────────────────────────────────────────


@hooks.on(TOOL_BEFORE)
def changes_in_place(context: ToolBefore[Deps]) -> None:
    context.arguments = "{}"  # pyright: ignore[reportAttributeAccessIssue]
    print(context.request)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownArgumentType]
    print(context.deps.users)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownArgumentType]


hooks.on("tool.before", lambda _: None)  # pyright: ignore[reportCallIssue, reportArgumentType]
hooks.on(TOOL_BEFORE, changes_in_place, order="first")  # pyright: ignore[reportCallIssue, reportArgumentType]
hooks.on(TOOL_BEFORE, changes_in_place, on_error="ignore")  # pyright: ignore[reportCallIssue, reportArgumentType]
hooks.on(TOOL_BEFORE, changes_in_place, priority=3)  # pyright: ignore[reportCallIssue]
Continue()  # pyright: ignore[reportCallIssue]
ShortCircuit("text")  # pyright: ignore[reportArgumentType]
replace(5, round=3)  # pyright: ignore[reportArgumentType]
Message.user(5)  # pyright: ignore[reportArgumentType]
