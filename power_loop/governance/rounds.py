"""What a model has done in its last rounds, as the transcript tells it.

Only the transcript is read, so whatever is concluded from it is the same after a crash, in another
process, and when a run is resumed. What has been read of a round is kept, so that a round costs the
same in a long session.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from msgspec import Struct
from msgspec.structs import force_setattr

from llm_client.types import Message, Text, ToolCall, ToolResult
from power_loop.governance.matching import checked_names
from power_loop.governance.policies import POLICY_META

__all__ = ["REFUSED", "Round", "RoundReader", "ToolKey", "arguments_key"]

REFUSED = "[not run] You are repeating yourself"
"""How the result of a call begins that was refused as a repetition."""

ToolKey = tuple[str, str]
"""A tool's name and its arguments, however they were spelled."""

Normalise = Callable[[str, dict[str, Any]], object]
Alike = Callable[[str, str], str]

_KEPT = 4_096
_PER_ROUND = 4
"""Messages that most rounds have at most: the answer, results, what is said in between."""
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
            polling: tools whose calls are made again and again on purpose, or a function of a name.
            normalise: of a tool's name and arguments, what of them counts; all of them if None.
            alike: of a tool's name and a result's text, what of it counts; all of it if None.

        Raises:
            UsageError: `polling` is no names.
        """
        names: frozenset[str] = frozenset()
        if not callable(polling):
            names = checked_names(given, "polling") if (given := list(polling)) else names
        self._polls = polling if callable(polling) else names.__contains__
        self._normalise = normalise
        self._alike = alike
        # What was read of a round, by session, id of its answer, and whether something follows it.
        self._known: dict[tuple[str, str, bool], Round | None] = {}

    def read(self, session: str, messages: Sequence[Message], count: int) -> list[Round]:
        """The last `count` rounds of a transcript, oldest first, without those that only polled."""
        tail, answers = _tail(messages, count)
        found: list[Round] = []
        refused = False
        for index, start in enumerate(answers):
            stop = answers[index + 1] if index + 1 < len(answers) else len(tail)
            read = self._round(session, tail, start, stop)
            if read is not None:
                found.append(read)
                refused = refused or read.refused
        return _as_before(found) if refused else found

    def _round(
        self, session: str, messages: Sequence[Message], start: int, stop: int
    ) -> Round | None:
        # Results enter the view together; a replay asks again about the time before they did.
        key = (session, messages[start].id, stop > start + 1)
        if key not in self._known:
            while len(self._known) >= _KEPT:
                del self._known[next(iter(self._known))]
            self._known[key] = self._read(messages, start, stop)
        return self._known[key]

    def _read(self, messages: Sequence[Message], start: int, stop: int) -> Round | None:
        answer = messages[start]
        calls = [call for call in answer.tool_calls if not self._polls(call.name)]
        interrupted = answer.meta is not None and "interrupted" in answer.meta
        if interrupted or (not calls and answer.tool_calls):
            return None
        results: dict[str, object] = {}
        for message in messages[start + 1 : stop]:
            for part in message.parts:
                if isinstance(part, ToolResult):
                    results[part.call_id] = part
        settled = all(call.id in results for call in calls)
        keyed = sorted(
            [(self._key(call), self._brought(call, results.get(call.id))) for call in calls],
            key=_order,
        )
        return Round(
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
        others = tuple([part for part in result.content if not isinstance(part, Text)])
        return text, others, result.is_error


def arguments_key(name: str, arguments: str, normalise: Normalise | None = None) -> str:
    """Arguments as JSON with sorted keys and without white space; as they are, if not JSON."""
    try:
        value: object = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        return arguments
    if normalise is not None and isinstance(value, dict):
        value = normalise(name, cast("dict[str, Any]", value))
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), default=repr)
    except (ValueError, RecursionError):
        return arguments


def _tail(messages: Sequence[Message], count: int) -> tuple[Sequence[Message], list[int]]:
    """The end of a transcript with `count` answers and what preceded them, and where they are."""
    length = _PER_ROUND * count + 1
    while count:
        tail = list(messages[-length:])
        answers: list[int] = []
        for at in range(len(tail) - 1, -1, -1):
            if tail[at].role == "assistant":
                if len(answers) == count:
                    break
                answers.append(at)
        else:
            if length < len(messages):
                length *= 2
                continue
        answers.reverse()
        return tail, answers
    return (), []


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
