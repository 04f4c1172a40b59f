"""What a model has done in its last rounds, as the transcript tells it.

Only the transcript is read, so whatever is concluded from it is the same after a crash, in another
process, and when a run is resumed. What has been read of a round is kept, so that a round costs the
same in a long session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from inspect import isawaitable
from typing import Any, cast

import msgspec
from msgspec import Struct
from msgspec.structs import force_setattr

from llm_client.types import Message, Text, ToolCall, ToolResult
from power_loop.errors import HookError
from power_loop.governance.checks import function, kind, truth
from power_loop.governance.matching import checked_names
from power_loop.governance.policies import POLICY_META
from power_loop.hooks import RoundStart, ToolBefore

__all__ = ["REFUSED", "Round", "RoundReader", "ToolKey", "arguments_key"]

REFUSED = "[not run] You are repeating yourself"
"""How the result of a call begins that was refused as a repetition."""

ToolKey = tuple[str, str]
"""A tool's name and its arguments, however they were spelled."""

Normalise = Callable[[str, dict[str, Any]], object]
Alike = Callable[[str, str], str]

_SESSIONS = 1_024
"""Of so many, what was read is kept; what an older one has said is read again."""
_LEAST = 16
_REFUSED_RESULT = (REFUSED,)


class Round(Struct, frozen=True):
    """One answer of the model and what came of it.

    Attributes:
        calls: its calls; polling ones are left out.
        results: what they brought, in the same order; None as long as they have not settled.
        text: what the model said.
        prompts: what it had been told since the round before, but for warnings of policies.
        refused: one of its calls was refused as a repetition.
        brought: all that could be new in it; worked out.
    """

    calls: tuple[ToolKey, ...]
    results: tuple[object, ...] | None
    text: str
    prompts: tuple[str, ...]
    refused: bool = False
    brought: frozenset[object] = frozenset()

    def __post_init__(self) -> None:
        found: set[object] = set(self.prompts)
        if self.calls:
            found.update(zip(self.calls, self.results or (), strict=False))
        else:
            found.add(_plain(self.text))
        force_setattr(self, "brought", frozenset(found))


class RoundReader:
    """Reads rounds from the end of a transcript."""

    def __init__(
        self,
        polling: Iterable[str] | Callable[[str], bool] = (),
        *,
        normalise: Normalise | None = None,
        alike: Alike | None = None,
    ) -> None:
        """Says what counts as the same.

        Args:
            polling: tools whose calls are made again and again on purpose, or a function of a name;
                besides those that say so themselves.
            normalise: of a tool's name and arguments, what of them counts; all of them if None.
            alike: of a tool's name and a result's text, what of it counts; all of it if None.

        Raises:
            UsageError: `polling` is no names, or one of the others no function.
        """
        self._polls = _polls(polling)
        self._normalise = None if normalise is None else function("normalise", normalise)
        self._alike = None if alike is None else function("alike", alike)
        self._known: dict[str, _Known] = {}

    def read_of(self, context: RoundStart[Any] | ToolBefore[Any], count: int) -> list[Round]:
        """See `read`."""
        return self.read(context.session_id, context.messages, count, context.polling)

    def read(
        self,
        session: str,
        messages: Sequence[Message],
        count: int,
        polling: frozenset[str] = frozenset(),
    ) -> list[Round]:
        """The last `count` rounds of a transcript, oldest first, without those that only polled.

        `polling` are the tools that say so themselves.
        """
        known = self._known.get(session)
        if (
            known is None
            or known.polling != polling
            or not known.goes_on_in(messages)
            or known.lacks(count)
        ):
            # More than is asked for: with every round of a task, one more will be.
            start = _start(messages, 2 * max(count, _LEAST))
            known = _Known(start, start, polling)
            while len(self._known) >= _SESSIONS:
                del self._known[next(iter(self._known))]
            self._known[session] = known
        if known.length < len(messages):
            self._read_on(known, messages, max(count, _LEAST))
        found: list[Round] = []
        refused = False
        for round in known.rounds[-count:] if count else ():
            if round is not None:
                found.append(round)
                refused = refused or round.refused
        return _as_before(found) if refused else found

    def _read_on(self, known: _Known, messages: Sequence[Message], most: int) -> None:
        end = len(messages)
        for at in range(known.length, end):
            if messages[at].role == "assistant":
                self._read_newest(known, messages, at)
                answer = messages[at]
                calls = [each for each in answer.tool_calls if not self._is_poll(known, each)]
                known.newest, known.calls = at, [(call, self._key(call)) for call in calls]
                known.rounds.append(None)
        self._read_newest(known, messages, end)
        known.length, known.last, known.first = end, messages[end - 1].id, messages[0].id
        if len(known.rounds) > 2 * most:
            known.begin = known.newest  # there were rounds before those that are kept
            del known.rounds[:-most]

    def _is_poll(self, known: _Known, call: ToolCall) -> bool:
        return call.name in known.polling or self._polls(call.name)

    def _read_newest(self, known: _Known, messages: Sequence[Message], stop: int) -> None:
        """Reads the newest round, which what follows its answer, up to `stop`, belongs to."""
        if not known.rounds:
            return
        start, calls = known.newest, known.calls
        answer = messages[start]
        interrupted = answer.meta is not None and "interrupted" in answer.meta
        if interrupted or (not calls and answer.tool_calls):
            return
        results: dict[str, object] = {}
        for at in range(start + 1, stop):
            for part in messages[at].parts:
                if isinstance(part, ToolResult):
                    results[part.call_id] = part
        settled = all(call.id in results for call, _ in calls)
        keyed = sorted(
            [(key, self._brought(call, results.get(call.id))) for call, key in calls], key=_order
        )
        known.rounds[-1] = Round(
            tuple([key for key, _ in keyed]),
            tuple([result for _, result in keyed]) if settled else None,
            answer.text,
            _prompts(messages, start),
            any(result == _REFUSED_RESULT for _, result in keyed),
        )

    def _key(self, call: ToolCall) -> ToolKey:
        return call.name, arguments_key(call.name, call.arguments, self._normalise)

    def _brought(self, call: ToolCall, result: object) -> object:
        if not isinstance(result, ToolResult):
            return None
        text = result.text
        if text.startswith(REFUSED):
            return _REFUSED_RESULT
        if self._alike is not None:
            text = self._alike(call.name, text)
            if not isinstance(text, str):
                raise HookError(f"alike must answer with a text, not {kind(text)}")
        others = tuple([part for part in result.content if not isinstance(part, Text)])
        return text, others, result.is_error


def _polls(polling: Iterable[str] | Callable[[str], bool]) -> Callable[[str], bool]:
    if callable(polling):
        return lambda name: truth("what says which tools poll", polling(name))
    return checked_names(polling, "polling", some=False).__contains__


def arguments_key(name: str, arguments: str, normalise: Normalise | None = None) -> str:
    """Arguments as JSON with sorted keys and without white space; as they are, if not JSON."""
    try:
        value: object = msgspec.json.decode(arguments or "{}")
    except (msgspec.DecodeError, RecursionError):
        return arguments
    if normalise is not None and isinstance(value, dict):
        value = normalise(name, cast("dict[str, Any]", value))
        if isawaitable(value):
            raise HookError(f"normalise must answer at once, not with {kind(value)}")
    try:
        return msgspec.json.encode(value, enc_hook=repr, order="deterministic").decode()
    except (ValueError, TypeError, RecursionError):
        return arguments


class _Known:
    """What was read of a session: the rounds whose answers are among the messages from `begin` to
    `length`, the last of which has the id `last`, and the first of all `first`. The newest answer
    is at `newest`. Calls of the tools in `polling` were left out."""

    __slots__ = ("begin", "calls", "first", "last", "length", "newest", "polling", "rounds")

    def __init__(self, begin: int, length: int, polling: frozenset[str]) -> None:
        self.begin = begin
        self.length = length
        self.first = self.last = ""
        self.newest = -1
        self.polling = polling
        self.calls: list[tuple[ToolCall, ToolKey]] = []
        self.rounds: list[Round | None] = []

    def goes_on_in(self, messages: Sequence[Message]) -> bool:
        """Whether the view has only grown since: neither a compaction nor a rewind was between."""
        length = self.length
        return (
            0 < length <= len(messages)
            and messages[length - 1].id == self.last
            and messages[0].id == self.first
        )

    def lacks(self, count: int) -> bool:
        """Whether there may be rounds further back that are wanted."""
        return len(self.rounds) < count and self.begin > 0


def _start(messages: Sequence[Message], count: int) -> int:
    """Where the last `count` answers begin; 0 if there are no more."""
    at = len(messages)
    while at > 0 and count > 0:
        at -= 1
        if messages[at].role == "assistant":
            count -= 1
    return at


def _as_before(rounds: Sequence[Round]) -> list[Round]:
    """Rounds in which a refused call has brought what it had brought when it last ran: what was not
    run cannot have been anything new."""
    results: dict[ToolKey, object] = {}
    found: list[Round] = []
    for round in rounds:
        brought = round.results
        if brought is not None and round.refused:
            brought = tuple(
                [
                    results.get(key, result) if result == _REFUSED_RESULT else result
                    for key, result in zip(round.calls, brought, strict=True)
                ]
            )
            round = Round(round.calls, brought, round.text, round.prompts, refused=True)  # noqa: PLW2901  the same one, as it counts
        results.update(zip(round.calls, brought or (), strict=False))
        found.append(round)
    return found


def _prompts(messages: Sequence[Message], start: int) -> tuple[str, ...]:
    found: list[str] = []
    for at in range(start - 1, -1, -1):
        message = messages[at]
        if message.role in ("assistant", "tool"):
            break
        if message.meta is None or POLICY_META not in message.meta:
            found.append(_plain(message.text))
    return tuple(reversed(found))


def _plain(text: str) -> str:
    return " ".join(text.split())


def _order(keyed: tuple[ToolKey, object]) -> ToolKey:
    return keyed[0]
