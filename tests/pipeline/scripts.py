"""Scripts for the fake ports: answers, plans, and whole runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from msgspec.structs import replace

from llm_client.errors import LLMError
from llm_client.types import (
    LLMRequest,
    LLMResponse,
    Message,
    Part,
    StopReason,
    Text,
    ToolCall,
    Usage,
)
from power_loop.errors import ToolError
from power_loop.hooks import HookContext, HookPoint
from power_loop.pipeline.plan import RunPlan
from power_loop.pipeline.ports import AttemptFailed
from power_loop.pipeline.run import run_pipeline
from power_loop.session.closing import closing
from power_loop.session.outcome import Crashed, Failed, Outcome
from power_loop.session.records import Record, RunClosed, RunOpened
from tests.pipeline.fakes import FakePorts, Killed

__all__ = [
    "Handlers",
    "Suspended",
    "broken",
    "call",
    "calls",
    "contexts",
    "die",
    "drive",
    "failed",
    "note",
    "plan",
    "run",
    "send",
    "succeed",
    "text",
    "words",
]


C = TypeVar("C", bound=HookContext)

Handlers = dict[HookPoint[Any, Any], Callable[[Any], Any]]


class Suspended(AssertionError):
    """The pipeline suspended, although nothing it was given does."""


def note(words: str = "remember") -> Message:
    """A message that a hook appends; the same value each time."""
    return Message("user", (Text(words),), id="note")


def contexts(io: FakePorts, kind: type[C]) -> list[C]:
    """The contexts of one kind that were fired, in order."""
    return [context for _, context in io.fired if isinstance(context, kind)]


def words(io: FakePorts) -> list[str]:
    """The view, as role and text."""
    return [f"{message.role}: {message.text}" for message in io.session.view]


def text(words: str, stop: StopReason = StopReason.END) -> LLMResponse:
    """An answer of text."""
    return LLMResponse((Text(words),), stop, usage=Usage(10, 5))


def call(id: str, name: str = "read", arguments: str = "{}") -> ToolCall:
    """A call."""
    return ToolCall(id, name, arguments)


def calls(
    *wanted: ToolCall, words: str = "", stop: StopReason = StopReason.TOOL_CALLS
) -> LLMResponse:
    """An answer that asks for tools."""
    parts: tuple[Part, ...] = (Text(words), *wanted) if words else wanted
    return LLMResponse(parts, stop, usage=Usage(10, 5))


def failed(error: LLMError, partial: str = "") -> AttemptFailed:
    """An attempt that failed after part of its answer had arrived."""
    return AttemptFailed(error, partial, Usage(10, None))


def die(_: object) -> str:
    """A tool in which the process dies."""
    raise Killed


def broken(message: str = "no") -> ToolError:
    """What a tool raises."""
    return ToolError(message)


def plan(**changes: Any) -> RunPlan:
    """A plan with `changes`."""
    return replace(RunPlan(template=LLMRequest(()), model="m"), **changes)


# ── runs ──────────────────────────────────────────────────────────────────────────────────────────


def drive(io: FakePorts, *opening: Record) -> Outcome:
    """Runs the pipeline in one `send(None)`.

    Raises:
        Suspended: it did not come to its end in one.
    """
    coroutine = run_pipeline(io, opening)
    try:
        coroutine.send(None)
    except StopIteration as done:
        outcome: Outcome = done.value
        return outcome
    coroutine.close()
    raise Suspended


def send(io: FakePorts, words: str = "go", run: str | None = None) -> Outcome:
    """One run with input."""
    run = run or f"run{len(io.log)}"
    return drive(io, RunOpened(run, (Message("user", (Text(words),), id=f"{run}.input"),)))


def succeed(io: FakePorts, run: str | None = None) -> Outcome:
    """One run that carries on what the last one left, whether it closed or its process died."""
    s = io.session
    run = run or f"run{len(io.log)}"
    if s.run is not None:
        return drive(io, RunClosed(s.run, Crashed()), RunOpened(run, resumes=s.run))
    return drive(io, RunOpened(run, resumes=s.last_run))


def run(io: FakePorts, step: Callable[[FakePorts], Outcome] = send) -> Outcome:
    """One run as a driver would do it: what raises is closed truthfully."""
    try:
        return step(io)
    except Exception as error:  # noqa: BLE001  whatever it is, the run is closed with it
        outcome = Failed(type(error).__name__, str(error))
        ending = closing(io.session, outcome, io.finished())
        io.session.apply(*ending)
        io.log.extend(ending)
        io.durable = len(io.log)
        return outcome
