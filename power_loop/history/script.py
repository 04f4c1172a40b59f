"""What a run had recorded, and how far it has been replayed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from math import inf, nextafter

from msgspec import Struct

from llm_client.types import Message
from power_loop.events import Stamped, is_record
from power_loop.history.compare import Difference, first_difference, same_bytes
from power_loop.history.outcomes import result_of_call
from power_loop.pipeline.ports import Interrupted
from power_loop.session.closing import closing, closing_calls, goes_on
from power_loop.session.machine import Session
from power_loop.session.outcome import Cancelled, Outcome
from power_loop.session.records import (
    AT_BUDGET,
    CallAnswered,
    CallWaiting,
    Decided,
    MessageAppended,
    ModelAsked,
    ModelConfigured,
    ModelEnded,
    Record,
    RunClosed,
    RunOpened,
    ToolSettled,
    ToolStarted,
    ViewChanged,
)
from power_loop.session.spent import Spent

__all__ = ["BrokenOff", "Cut", "Diverged", "Divergence", "Script", "call_of"]


class Divergence(Struct, frozen=True):
    """What a replay does otherwise.

    Attributes:
        seq: number of the record at which it parts from what is stored.
        path: the first field that differs, such as `ModelConfigured.system`; the type of the stored
            record if the replay writes another one in its place.
        expected: what is stored there, as plain data.
        actual: what the replay has there; None if it writes nothing.
    """

    seq: int
    path: str
    expected: object
    actual: object

    def __str__(self) -> str:
        where = Difference(self.path, self.expected, self.actual)
        return f"record {self.seq} differs in {where} (stored ≠ replayed)"


class Cut(BaseException):
    """The run had been stopped from outside at this place."""


class BrokenOff(BaseException):
    """A message that could not wait had stopped the model call, or the pause, at this place."""

    def __init__(self, told: Interrupted) -> None:
        super().__init__()
        self.told = told


class Diverged(BaseException):
    """The replay has parted from what is stored."""

    def __init__(self, divergence: Divergence) -> None:
        super().__init__(str(divergence))
        self.divergence = divergence


class Script:
    """The records of one run. `ends` says that its last record closes it.

    Attributes:
        at: when the newest of the replayed records was written, in seconds since the epoch.
    """

    def __init__(self, session: Session, stamped: Sequence[Stamped], *, ends: bool) -> None:
        self.at = stamped[0].at
        self._session = session
        self._stamped = stamped
        self._records = [each.event for each in stamped if is_record(each.event)]
        self._place = 0
        self._ends = ends

    @property
    def next(self) -> Record | None:
        """The next record; None if there is none."""
        return self._records[self._place] if self._place < len(self._records) else None

    @property
    def place(self) -> int:
        """How many records have been replayed."""
        return self._place

    def coming(self) -> Iterator[Record]:
        """The records that are still to come, in order."""
        for index in range(self._place, len(self._records)):
            yield self._records[index]

    def too_late_for(self, call_id: str) -> float:
        """When what a call waits for has just expired; others may have been given longer."""
        call = self._session.open_calls.get(call_id)
        expires = None if call is None or call.waiting is None else call.waiting.expires
        return self.at if expires is None else nextafter(expires, inf)

    def asking(self) -> tuple[ModelAsked | None, Decided | None]:
        """The model call that comes next, if it does, and what a budget had said of it."""
        first, second = (*islice(self.coming(), 2), None, None)[:2]
        if isinstance(first, Decided) and first.at == AT_BUDGET and not first.call_id:
            return second if isinstance(second, ModelAsked) else None, first
        return first if isinstance(first, ModelAsked) else None, None

    # ── taking records ────────────────────────────────────────────────────────────────────────────

    def take(self, records: Sequence[Record]) -> None:
        """Takes a unit that the replay writes.

        Raises:
            Cut: what is stored ends before, as it does when a run is stopped from outside.
            Diverged: something else is stored.
        """
        unit: list[Record] = []
        for offset, record in enumerate(records):
            place = self._place + offset
            stored = self._records[place] if place < len(self._records) else None
            if stored is None or not same_bytes(stored, record):
                self._apply(unit)
                raise self.parting(record)
            unit.append(stored)
        self._apply(unit)

    def _apply(self, unit: list[Record]) -> None:
        if unit:
            self._session.apply(*unit)
            self._place += len(unit)
            self.at = self._stamped[self._place - 1].at

    def parting(self, record: Record | None) -> Cut | Diverged:
        """Why the replay cannot write `record`, or, if None, anything more."""
        stored = self.next
        if stored is None or self.stopped_here():
            return Cut()
        return Diverged(self._divergence(stored, record))

    def _divergence(self, stored: Record, record: Record | None) -> Divergence:
        seq = self._stamped[self._place].seq
        expected: Record = stored
        if isinstance(record, ModelConfigured) and not isinstance(stored, ModelConfigured):
            expected = self._session.configured
        elif isinstance(stored, ModelConfigured) and not isinstance(record, ModelConfigured):
            record = self._session.configured
        if record is None:
            return Divergence(seq, type(stored).__name__, stored, None)
        found = first_difference(expected, record)
        assert found is not None
        return Divergence(seq, found.path, found.first, found.second)

    # ── how a run was stopped ─────────────────────────────────────────────────────────────────────

    def stopped_here(self) -> bool:
        """Whether what is still to come is what closes a run that is cancelled, or dies, now."""
        if self.next is None:
            return not self._ends
        return isinstance(self.outcome, Cancelled) and self.difference_of_ending() is None

    @property
    def seconds(self) -> tuple[float, float]:
        """How long the run was open, and worked, where that was recorded."""
        last = self._records[-1]
        if not isinstance(last, RunClosed):
            return 0.0, 0.0
        return last.wall_seconds, last.working_seconds

    @property
    def unheard(self) -> Spent | None:
        """What sessions below had used of which the run had not heard."""
        last = self._records[-1]
        return last.unheard if isinstance(last, RunClosed) else None

    @property
    def outcome(self) -> Outcome:
        """How the run had ended; cancelled, if nobody has recorded its end."""
        last = self._records[-1]
        return last.outcome if isinstance(last, RunClosed) else Cancelled()

    def difference_of_ending(self, outcome: Outcome | None = None) -> Divergence | None:
        """How what closes the run with `outcome` now differs from what is still to come."""
        ended = self.next
        partial, spent, cost = "", None, 0.0
        if isinstance(ended, ModelEnded):
            partial, spent, cost = ended.partial, ended.usage, ended.cost
        ending = outcome or self.outcome
        records = closing(
            self._session,
            ending,
            self.finished(),
            partial,
            spent,
            cost=cost,
            seconds=self.seconds,
            unheard=self.unheard,
        )
        for index, stored in enumerate(self.coming()):
            record = records[index] if index < len(records) else None
            if record is None or not same_bytes(stored, record):
                seq = self._stamped[self._place + index].seq
                if record is None:
                    return Divergence(seq, type(stored).__name__, stored, None)
                found = first_difference(stored, record)
                assert found is not None
                return Divergence(seq, found.path, found.first, found.second)
        return None

    def finished(self) -> dict[str, Message]:
        """Messages with the results of calls that had run, or gone on, when the run was stopped."""
        results: dict[str, Message] = {}
        for record in self.coming():
            if not isinstance(record, ToolSettled):
                break
            result = result_of_call(record)
            if record.how == "finished" or result == goes_on(result.call_id):
                results[result.call_id] = record.message
        return results

    # ── what is still to come ─────────────────────────────────────────────────────────────────────

    def answer(self, attempt: str) -> Message | None:
        """What became of the answer of a model call; None if nothing."""
        for record in self.coming():
            if isinstance(record, ModelAsked | RunClosed):
                return None
            if isinstance(record, MessageAppended) and record.attempt == attempt:
                return record.message
        return None

    def of_call(self, call_id: str) -> ToolStarted | ToolSettled | None:
        """What comes next of a call."""
        for record in self.coming():
            if call_of(record) == call_id and isinstance(record, ToolStarted | ToolSettled):
                return record
        return None

    def next_of(self, call_id: str) -> Record | None:
        """The record that comes next of a call, whatever it is."""
        return next((r for r in self.coming() if call_of(r) == call_id), None)

    def waits(self, call_id: str) -> CallWaiting | None:
        """What a call comes to wait for before anything else becomes of it."""
        for record in self.coming():
            if isinstance(record, CallWaiting) and record.call_id == call_id:
                return record
            if isinstance(record, ToolStarted | ToolSettled) and call_of(record) == call_id:
                return None
        return None

    def answered(self, call_id: str) -> CallAnswered | None:
        """What came of what a call waits for, if it did."""
        record = self.next_of(call_id)
        return record if isinstance(record, CallAnswered) else None

    def gives_up(self, call_id: str) -> bool:
        """Whether the run ended without waiting for this call any longer."""
        return self.of_call(call_id) is not None or isinstance(self.outcome, Cancelled)

    def decided(self, at: str, call_id: str) -> Decided | None:
        """What was decided about a call, before anything else became of it."""
        record = self.next_of(call_id)
        return record if isinstance(record, Decided) and record.at == at else None

    def steered(self, after: int = 0) -> list[MessageAppended]:
        """The messages from the inbox that come next, or after the next `after` records, and enter
        together."""
        found: list[MessageAppended] = []
        for record in islice(self.coming(), after, None):
            if not isinstance(record, MessageAppended) or not record.item:
                break
            if found and found[0].when_idle != record.when_idle:
                break
            found.append(record)
        return found

    def interrupted(self, *, rewritten: bool) -> bool:
        """Whether the open calls are given up here, for a message that could not wait.

        `rewritten`: handlers may have added something to what the calls are told.
        """
        ending = closing_calls(self._session, self.finished())
        coming = list(islice(self.coming(), len(ending) + 1))
        if len(coming) <= len(ending) or not _is_from_inbox(coming[-1]):
            return False
        same = _tells_the_same if rewritten else same_bytes
        return all(map(same, coming, ending))

    def batch_is_interrupted(self) -> bool:
        """Whether what ends the batch is a message that could not wait, and not the run's end."""
        after = (r for r in self.coming() if call_of(r) is None)
        return _is_from_inbox(next(after, None))

    def cancelled(self, after: int, *, rewritten: bool) -> str | None:
        """Why the run gives up, if all that comes after the next `after` records is that.

        `rewritten`: handlers may have added something to what the calls are told.
        """
        outcome = self.outcome
        if self.next is None or not isinstance(outcome, Cancelled) or not self._ends:
            return None
        count = len(self._records) - self._place - after
        if count > len(self._session.open_calls) + 1:
            return None
        last = self._records[self._place + after :]
        if count > 1 and not (self._gives_up(last) if rewritten else self.stopped_here()):
            return None
        return outcome.reason

    def _gives_up(self, records: Sequence[Record]) -> bool:
        """Whether `records` are how a run that is cancelled now tells of its calls."""
        ending = closing(
            self._session, self.outcome, self.finished(), seconds=self.seconds, unheard=self.unheard
        )
        return len(records) == len(ending) and all(map(_tells_the_same, records, ending))

    def said(self) -> Iterator[Message]:
        """What is said, by neither a model nor the inbox, before the model is asked again."""
        for record in self.coming():
            if isinstance(record, ModelAsked):
                return
            if isinstance(record, MessageAppended) and not record.item and record.attempt is None:
                yield record.message

    def new_ids(self) -> Iterator[str]:
        """The ids of what is still to come that the run has given out itself, perhaps."""
        for record in self.coming():
            match record:
                case ModelAsked():
                    yield record.attempt
                case MessageAppended(item="", message=message):
                    if record.attempt is None:
                        yield from [call.id for call in message.tool_calls]
                    yield message.id
                case CallWaiting():
                    yield record.token
                case RunOpened():
                    yield from [message.id for message in record.input]
                case ViewChanged(note=Message(id=id)):
                    yield id
                case _:
                    pass


def _is_from_inbox(record: Record | None) -> bool:
    return isinstance(record, MessageAppended) and bool(record.item)


def _tells_the_same(record: Record, other: Record) -> bool:
    if isinstance(record, ToolSettled) and isinstance(other, ToolSettled):
        return record.how == other.how and record.message.parts == other.message.parts
    return type(record) is type(other)


def call_of(record: Record | None) -> str | None:
    """The call that a record of a batch is about."""
    match record:
        case ToolStarted() | CallWaiting() | CallAnswered():
            return record.call_id
        case Decided():
            return record.call_id or None
        case ToolSettled():
            return result_of_call(record).call_id
        case _:
            return None
