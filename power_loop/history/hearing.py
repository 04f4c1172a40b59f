"""Hooks in a replay: they are run, and what came from outside is left as it is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from msgspec.structs import replace

from llm_client.types import LLMResponse, Message, ToolCall
from power_loop.driver.dispatch import Hooks
from power_loop.events import HookFailed
from power_loop.history.outcomes import result_of_call
from power_loop.history.script import Script
from power_loop.hooks import (
    LLM_AFTER,
    MEMORY_RECALLED,
    TOOL_BEFORE,
    TOOL_ERROR,
    Break,
    Diverted,
    HookEnding,
    HookPoint,
    LlmAfter,
    MemoryRecalled,
    MessageAppend,
    Retry,
    RoundStart,
    SessionStart,
    ShortCircuit,
    Skip,
    Suspend,
    ToolAfter,
    ToolBefore,
    ToolErrorRaised,
)
from power_loop.log import logger
from power_loop.pipeline.progress import rewriting_fault
from power_loop.session.machine import Session
from power_loop.session.records import Decided, ToolSettled
from power_loop.session.text import repaired_text

__all__ = ["Hearing"]

C = TypeVar("C")
R = TypeVar("R")

Passes = Callable[[Diverted[C, R]], bool]


class Hearing:
    """Runs the handlers of one replayed run.

    Attributes:
        given: messages from outside, as they are stored, by id.
        handed: ids that the run has given out.
        own: ids of calls that a hook has made up.
        outside: whether the newest answer came from a model.
    """

    def __init__(
        self, session: Session, script: Script, hooks: Hooks, given: Mapping[str, Message]
    ) -> None:
        self.given = dict(given)
        self.handed: set[str] = set()
        self.own: set[str] = set()
        self.outside = False
        self._session = session
        self._script = script
        self._hooks = hooks

    async def fire(
        self, point: HookPoint[C, R], context: C, passes: Passes[C, R] | None
    ) -> C | Diverted[C, R]:
        """Runs the handlers of `point`."""
        if point.name == TOOL_ERROR.name:
            return cast("Diverted[C, R]", self._after_error(cast("ToolErrorRaised[Any]", context)))
        dropped = self._script.next
        if isinstance(dropped, Decided) and dropped.at == point.name == MEMORY_RECALLED.name:
            return Diverted(cast("R", Skip(dropped.reason)), dropped.by, context)
        if point.name == TOOL_BEFORE.name and passes is not None:
            passes = self._as_observed(passes)
        result: Any = await self._hooks.fire(point, context, _hook_failed, passes)
        match result:
            case SessionStart() | RoundStart():
                started = cast("SessionStart[Any] | RoundStart[Any]", result)
                result = replace(started, append=self._named(started.append))
            case Diverted(directive=ShortCircuit(response=LLMResponse(parts=parts))):
                self.own.update([repaired_text(p.id) for p in parts if isinstance(p, ToolCall)])
            case Diverted(directive=Suspend() as asks, context=ToolBefore()):
                result = self._as_asked(cast("Diverted[ToolBefore[Any], Any]", result), asks)
            case MessageAppend():
                appended = cast("MessageAppend[Any]", result)
                result = self._as_stored(cast("MessageAppend[Any]", context), appended)
            case LlmAfter() if self.outside:
                result = self._kept(context)
            case ToolAfter() | MemoryRecalled():
                result = context
            case _:
                pass
        return cast("C | Diverted[C, R]", result)

    def _after_error(self, context: ToolErrorRaised[Any]) -> object:
        """What a handler had answered; it is not run, because no record has the exception."""
        call_id = context.call.id
        decided = self._script.decided(TOOL_ERROR.name, call_id)
        if decided is None:
            return context
        if decided.what == "retry":
            return Diverted(Retry(), decided.by, context)
        settled = self._script.of_call(call_id)
        said = result_of_call(settled).text if isinstance(settled, ToolSettled) else ""
        return Diverted(Skip(said), decided.by, context)

    # ── approvals: what the world was like is in the record ───────────────────────────────────────

    def _as_observed(self, passes: Passes[C, R]) -> Passes[C, R]:
        def as_then(diverted: Diverted[C, R]) -> bool:
            asks, found = diverted.directive, diverted.context
            if not isinstance(asks, Suspend) or not isinstance(found, ToolBefore):
                return passes(diverted)
            call_id = cast("ToolBefore[Any]", found).call.id
            void = self._script.decided("approval", call_id)
            changed = void is not None and void.by == diverted.by
            call = self._session.open_calls[call_id]
            worlds = [grant.world for grant in call.grants if grant.by == diverted.by]
            world = f"not {worlds[0]}" if changed and worlds else (worlds or [asks.world])[0]
            asked = replace(asks, world=world)
            return passes(replace(diverted, directive=cast("R", asked)))

        return as_then

    def _as_asked(
        self, diverted: Diverted[ToolBefore[Any], Any], asks: Suspend
    ) -> Diverted[ToolBefore[Any], Any]:
        waiting = self._script.waits(diverted.context.call.id)
        if waiting is None:
            return diverted
        return replace(diverted, directive=replace(asks, world=waiting.world))

    # ── what came from outside ────────────────────────────────────────────────────────────────────

    def _named(self, messages: object) -> Any:
        """What a handler appends, under the ids that are stored: a new message has a new id."""
        if not isinstance(messages, tuple | list):
            return messages
        said = [each for each in self._script.said() if each.id not in self.handed]
        named: list[object] = []
        for message in cast("Sequence[object]", messages):
            if isinstance(message, Message) and said:
                alike = [each for each in said if _says_the_same(each, message)]
                stored = (alike or said)[0]
                said.remove(stored)
                self.handed.add(stored.id)
                named.append(replace(message, id=stored.id))
            else:
                named.append(message)
        return tuple(named)

    def _as_stored(self, context: MessageAppend[Any], result: MessageAppend[Any]) -> object:
        """A message from outside as it is stored, unless what is made of it cannot be stored."""
        given = self.given.pop(context.message.id, None)
        changed = result.message is not context.message
        if given is None or (changed and rewriting_fault(context.message, result.message)):
            return result
        return replace(context, message=given)

    def _kept(self, context: object) -> object:
        """The answer as it is stored; a handler may have broken the run off because of it."""
        decided = self._script.next
        if not isinstance(decided, Decided) or decided.at != LLM_AFTER.name:
            return context
        ending = self._script.outcome
        broken = Break(outcome=ending) if isinstance(ending, HookEnding) else Break()
        return Diverted(broken, decided.by, context)


def _says_the_same(message: Message, other: Message) -> bool:
    return message.role == other.role and message.parts == other.parts


def _hook_failed(failed: HookFailed) -> None:
    logger.warning("hook %r of %s failed: %s", failed.handler, failed.point, failed.message)
