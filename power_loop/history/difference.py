"""Where two sessions part."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from llm_client.types import Message
from power_loop.events import Stamped, is_record
from power_loop.history.compare import Difference, first_difference, shown
from power_loop.session.records import Record
from power_loop.session.view import full_history

__all__ = ["SessionDiff", "difference"]


class SessionDiff(Struct, frozen=True):
    """How two sessions differ.

    Attributes:
        first, second: their ids.
        common: how many records from the start are the same in both.
        records: how many records each has.
        at: the first field that differs in the first record that does; None if one session ends
            there.
        only_in_first, only_in_second: messages that the other one never had, or had otherwise.
    """

    first: str
    second: str
    common: int
    records: tuple[int, int]
    at: Difference | None
    only_in_first: tuple[Message, ...]
    only_in_second: tuple[Message, ...]

    @property
    def identical(self) -> bool:
        """Whether they have the same records."""
        return self.at is None and self.records[0] == self.records[1]

    def __str__(self) -> str:
        if self.identical:
            return f"{self.first} and {self.second} are the same, {self.common} records"
        lines = [f"{self.common} records are the same"]
        if self.at is not None:
            lines.append(f"record {self.common + 1} differs in {self.at}")
        for name, count in zip((self.first, self.second), self.records, strict=True):
            if count == self.common:
                lines.append(f"{name} ends there")
        lines += [f"- {_line(message)}" for message in self.only_in_first]
        lines += [f"+ {_line(message)}" for message in self.only_in_second]
        return "\n".join(lines)


def difference(
    first: str, log: Sequence[Stamped], second: str, other_log: Sequence[Stamped]
) -> SessionDiff:
    """How two sessions with these logs differ."""
    one, other = _records(log), _records(other_log)
    common = 0
    at: Difference | None = None
    for record, counterpart in zip(one, other, strict=False):
        at = first_difference(record, counterpart) if record != counterpart else None
        if at is not None:
            break
        common += 1
    messages, others = full_history(one), full_history(other)
    return SessionDiff(
        first,
        second,
        common,
        (len(one), len(other)),
        at,
        _missing(messages, others),
        _missing(others, messages),
    )


def _records(log: Sequence[Stamped]) -> list[Record]:
    return [each.event for each in log if is_record(each.event)]


def _missing(messages: Sequence[Message], others: Sequence[Message]) -> tuple[Message, ...]:
    there = {msgspec.json.encode(message) for message in others}
    return tuple([message for message in messages if msgspec.json.encode(message) not in there])


def _line(message: Message) -> str:
    return f"{message.role} {message.id}: {shown([*message.parts])}"
