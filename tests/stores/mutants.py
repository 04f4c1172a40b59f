"""Stores that are wrong on purpose, each in one way, to see that the conformance suite notices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from threading import Thread
from time import monotonic
from typing import Any, Literal

import anyio
from anyio.lowlevel import checkpoint
from msgspec.structs import replace

from power_loop.errors import Conflict, Fenced, SessionBusy, SessionNotFound, StoreError, UsageError
from power_loop.events import Stamped
from power_loop.runtime.stores.base import (
    Appended,
    CancelRequested,
    Lease,
    Lifecycle,
    Posted,
    Snapshot,
    Steer,
)
from power_loop.runtime.stores.memory import MemoryStore
from power_loop.runtime.stores.sqlite import SQLiteStore
from power_loop.runtime.stores.waiting import Watchers, wake
from tests.stores.mutants_inbox import INBOX_MUTANTS


class NoFenceCheck(MemoryStore):
    """Lets any lease of an existing session write."""

    def _leased(self, lease: Lease) -> Any:
        return self._log(lease.session)


class NoPositionCheck(MemoryStore):
    """Puts records at the end, wherever their writer believed the end to be."""

    async def append(
        self, lease: Lease, expected_seq: int, records: Sequence[Stamped], **options: Any
    ) -> Appended:
        seq = (await self.info(lease.session)).seq
        moved = [replace(r, seq=seq + n) for n, r in enumerate(records, 1)]
        return await super().append(lease, seq, moved, **options)


class ConflictsOnce(MemoryStore):
    """Takes a session that has conflicted for broken."""

    async def append(
        self, lease: Lease, expected_seq: int, records: Sequence[Stamped], **options: Any
    ) -> Appended:
        try:
            return await super().append(lease, expected_seq, records, **options)
        except Conflict:
            for log in self._logs.values():
                log.records.clear()
            raise


class NoRecordCheck(MemoryStore):
    """Stores whatever it is given, wherever it says it belongs."""

    async def append(
        self, lease: Lease, expected_seq: int, records: Sequence[Stamped], **options: Any
    ) -> Appended:
        moved = [
            replace(r, seq=expected_seq + n, session=lease.session, event=_some_record(r))
            for n, r in enumerate(records, 1)
        ]
        return await super().append(lease, expected_seq, moved, **options)


def _some_record(stamped: Stamped) -> Any:
    return CancelRequested("x") if stamped.n else stamped.event


class WritesBeforeItChecks(MemoryStore):
    """Appends first and looks into the inbox afterwards."""

    async def append(
        self,
        lease: Lease,
        expected_seq: int,
        records: Sequence[Stamped],
        *,
        take: Sequence[str] = (),
        **options: Any,
    ) -> Appended:
        await super().append(lease, expected_seq, records)
        return await super().append(lease, expected_seq + len(records), (), take=take, **options)


class WritesOneByOne(MemoryStore):
    """Appends record by record."""

    async def append(
        self, lease: Lease, expected_seq: int, records: Sequence[Stamped], **options: Any
    ) -> Appended:
        landed = await super().append(lease, expected_seq, (), **options)
        for n, record in enumerate(records):
            await checkpoint()
            landed = await super().append(lease, expected_seq + n, [record])
        return landed


class LosesBytes(MemoryStore):
    """Keeps records as text only."""

    async def read(
        self, session: str, after: int = 0, limit: int | None = None
    ) -> Sequence[Stamped]:
        return [replace(r, run=r.run.upper()) for r in await super().read(session, after, limit)]


class DropsARecord(MemoryStore):
    """Acknowledges an append, and has lost its last record when it is read."""

    async def read(
        self, session: str, after: int = 0, limit: int | None = None
    ) -> Sequence[Stamped]:
        records = await super().read(session, after, limit)
        return [r for r in records if r.seq != 3]


class Reorders(MemoryStore):
    """Reads two neighbours in the order in which they did not come."""

    async def read(
        self, session: str, after: int = 0, limit: int | None = None
    ) -> Sequence[Stamped]:
        records = list(await super().read(session, after, limit))
        records[1:3] = records[1:3][::-1]
        return records


class CommitsByHalves(MemoryStore):
    """Appends what an append holds; consuming what it takes is another transaction, and fails."""

    async def append(
        self,
        lease: Lease,
        expected_seq: int,
        records: Sequence[Stamped],
        *,
        take: Sequence[str] = (),
        final: bool = False,
        refuse_if_inbox: bool = False,
    ) -> Appended:
        return await super().append(lease, expected_seq, records, final=final)


class ReadsTheLastAgain(MemoryStore):
    """Reads from a position on, that position included."""

    async def read(
        self, session: str, after: int = 0, limit: int | None = None
    ) -> Sequence[Stamped]:
        return await super().read(session, after - 1, limit)


class IgnoresLimits(MemoryStore):
    """Reads everything."""

    async def read(
        self, session: str, after: int = 0, limit: int | None = None
    ) -> Sequence[Stamped]:
        return await super().read(session, after)


class OrdersEachLogAlone(MemoryStore):
    """Has no order over a tree."""

    def _extend(self, log: Any, records: Sequence[Stamped]) -> None:
        log.root.tree_seq = len(log.records)
        super()._extend(log, records)


class KnowsEverybody(MemoryStore):
    """Takes a session that does not exist for an empty one."""

    async def read(
        self, session: str, after: int = 0, limit: int | None = None
    ) -> Sequence[Stamped]:
        try:
            return await super().read(session, after, limit)
        except SessionNotFound:
            return ()


class CreatesAnew(MemoryStore):
    """Makes a session again when it is created again."""

    async def create(
        self,
        session: str,
        *,
        parent: str | None = None,
        lifecycle: Lifecycle = "linked",
        metadata: Mapping[str, str] | None = None,
        at: float = 0.0,
    ) -> None:
        self._logs.pop(session, None)
        await super().create(session, parent=parent, lifecycle=lifecycle, metadata=metadata, at=at)


class WakesNobody(MemoryStore):
    """Forgets those who wait."""

    async def wait(self, session: str, after: int) -> None:
        await anyio.sleep_forever()


class GrantsEveryClaim(MemoryStore):
    """Takes every lease away from its holder."""

    async def claim(
        self, session: str, *, ttl: float = 30.0, steal: Literal["dead", "never"] = "dead"
    ) -> Lease:
        await checkpoint()
        log = self._log(session)
        log.lease = Lease(session, next(self._fences), "me", len(log.records), log.generation)
        return log.lease


class ClaimsInTwoSteps(MemoryStore):
    """Looks whether a session is free, and takes it a moment later."""

    async def claim(
        self, session: str, *, ttl: float = 30.0, steal: Literal["dead", "never"] = "dead"
    ) -> Lease:
        log = self._log(session)
        if log.lease is not None:
            raise SessionBusy(session, log.lease.owner)
        await checkpoint()
        log.lease = Lease(session, next(self._fences), "me", len(log.records), log.generation)
        return log.lease


class CountsFencesPerSession(MemoryStore):
    """Starts every session's fences at 1."""

    async def claim(
        self, session: str, *, ttl: float = 30.0, steal: Literal["dead", "never"] = "dead"
    ) -> Lease:
        lease = await super().claim(session, ttl=ttl, steal=steal)
        log = self._log(session)
        log.metadata["fence"] = str(int(log.metadata.get("fence", "0")) + 1)
        log.lease = replace(lease, fence=int(log.metadata["fence"]))
        return log.lease


class KnowsNoGenerations(MemoryStore):
    """Takes a session that was made again for the one before."""

    async def claim(
        self, session: str, *, ttl: float = 30.0, steal: Literal["dead", "never"] = "dead"
    ) -> Lease:
        lease = await super().claim(session, ttl=ttl, steal=steal)
        log = self._log(session)
        log.lease = replace(lease, generation=1)
        return log.lease


class ForgetsToRenew(MemoryStore):
    """Lets leases run out while they are held."""

    def __init__(self) -> None:
        super().__init__()
        self.expires: dict[str, float] = {}

    async def claim(
        self, session: str, *, ttl: float = 30.0, steal: Literal["dead", "never"] = "dead"
    ) -> Lease:
        if monotonic() > self.expires.get(session, monotonic()):
            self._log(session).lease = None
        lease = await super().claim(session, ttl=ttl, steal=steal)
        self.expires[session] = monotonic() + ttl
        return lease


class NeverReleasesAtTheEnd(MemoryStore):
    """Ignores `final`."""

    async def append(
        self,
        lease: Lease,
        expected_seq: int,
        records: Sequence[Stamped],
        *,
        final: bool = False,
        **options: Any,
    ) -> Appended:
        return await super().append(lease, expected_seq, records, **options)


class ReleasesWhateverHappens(MemoryStore):
    """Gives the lease back before the last append has landed."""

    async def append(
        self,
        lease: Lease,
        expected_seq: int,
        records: Sequence[Stamped],
        *,
        final: bool = False,
        **options: Any,
    ) -> Appended:
        try:
            return await super().append(lease, expected_seq, records, final=final, **options)
        except StoreError:
            if final:
                await self.release(lease)
            raise


class ReleasesForAnybody(MemoryStore):
    """Lets a former holder give back the lease of the present one."""

    async def release(self, lease: Lease) -> None:
        self._log(lease.session).lease = None


class ClosesOnce(MemoryStore):
    """Cannot be closed again."""

    closed = False

    async def aclose(self) -> None:
        if self.closed:
            raise UsageError("closed already")
        self.closed = True


class DeafToOthers(SQLiteStore):
    """Never hears of what another handle appends."""

    async def wait(self, session: str, after: int) -> None:
        await anyio.sleep_forever()


class HintsFromMemory(SQLiteStore):
    """Believes that only its own process posts."""

    def inbox_hint(self, session: str) -> bool:
        return False


class DeafToPosts(SQLiteStore):
    """Tells its watchers only of what it has posted itself."""

    def watch(self, session: str, notify: Callable[[], None]) -> Callable[[], None]:
        return self._watchers_here.add(session, notify)

    def __init__(self, path: Any) -> None:
        super().__init__(path)
        self._watchers_here = Watchers()

    async def post(
        self, session: str, item: Steer | CancelRequested, *, dedupe_key: str | None = None
    ) -> Posted:
        receipt = await super().post(session, item, dedupe_key=dedupe_key)
        wake(self._watchers_here.of(session))
        return receipt


class TellsInAnyThread(SQLiteStore):
    """Calls those who watch from a thread of its own."""

    def watch(self, session: str, notify: Callable[[], None]) -> Callable[[], None]:
        return super().watch(session, lambda: Thread(target=notify).start())


class ForgetsFences(SQLiteStore):
    """Counts fences anew each time it is opened."""

    def __init__(self, path: Any) -> None:
        super().__init__(path)
        self.fences = count(1)
        self.real: defaultdict[int, Lease] = defaultdict()

    async def claim(
        self, session: str, *, ttl: float = 30.0, steal: Literal["dead", "never"] = "dead"
    ) -> Lease:
        lease = await super().claim(session, ttl=ttl, steal=steal)
        told = replace(lease, fence=next(self.fences))
        self.real[told.fence] = lease
        return told

    async def append(
        self, lease: Lease, expected_seq: int, records: Sequence[Stamped], **options: Any
    ) -> Appended:
        return await super().append(self.real[lease.fence], expected_seq, records, **options)


class KeepsSnapshotsByName(SQLiteStore):
    """Gives a session the snapshot of one that had its id before."""

    def __init__(self, path: Any) -> None:
        super().__init__(path)
        self._kept: dict[str, Snapshot] = {}

    async def keep_snapshot(self, session: str, snapshot: Snapshot) -> None:
        self._kept[session] = snapshot

    async def snapshot(self, session: str) -> Snapshot | None:
        return self._kept.get(session)


class StealsFromOthers(SQLiteStore):
    """Takes a lease away from another handle."""

    async def claim(
        self, session: str, *, ttl: float = 30.0, steal: Literal["dead", "never"] = "dead"
    ) -> Lease:
        try:
            return await super().claim(session, ttl=ttl, steal=steal)
        except SessionBusy as busy:
            lease = Lease(session, 1, busy.owner, 0, 1)
            await self.release(lease)
            return await super().claim(session, ttl=ttl, steal=steal)


class AppendsNothingRefused(MemoryStore):
    """Turns a stale writer away with the wrong words."""

    async def append(
        self, lease: Lease, expected_seq: int, records: Sequence[Stamped], **options: Any
    ) -> Appended:
        try:
            return await super().append(lease, expected_seq, records, **options)
        except Fenced:
            raise Conflict(lease.session, expected_seq, 0) from None


MEMORY_MUTANTS: Sequence[tuple[Callable[[], MemoryStore], str]] = (
    (DropsARecord, "what_is_appended_is_read_back_whole"),
    (Reorders, "what_is_appended_is_read_back_whole"),
    (CommitsByHalves, "taking_consumes_in_the_same_transaction"),
    (LosesBytes, "what_is_appended_is_read_back_whole"),
    (ReadsTheLastAgain, "a_log_is_read_in_order_from_a_position_up_to_a_limit"),
    (IgnoresLimits, "a_log_is_read_in_order_from_a_position_up_to_a_limit"),
    (NoPositionCheck, "an_append_at_another_position_is_refused"),
    (NoPositionCheck, "of_two_appends_at_one_position_one_lands"),
    (ConflictsOnce, "a_refused_append_does_not_hurt_its_neighbours"),
    (OrdersEachLogAlone, "a_tree_has_one_order"),
    (NoRecordCheck, "records_that_are_not_next_are_refused"),
    (KnowsEverybody, "an_unknown_session_is_said_to_be_unknown"),
    (CreatesAnew, "creating_twice_changes_nothing"),
    (WakesNobody, "waiting_ends_when_the_log_has_grown"),
    (WritesOneByOne, "a_reader_beside_a_writer_sees_a_growing_prefix"),
    (GrantsEveryClaim, "a_session_has_one_holder"),
    (ClaimsInTwoSteps, "of_many_claims_one_is_granted"),
    (CountsFencesPerSession, "a_fence_is_never_given_out_twice"),
    (KnowsNoGenerations, "a_session_made_again_is_another_generation"),
    (NoFenceCheck, "a_former_holder_can_write_nothing"),
    (AppendsNothingRefused, "a_former_holder_can_write_nothing"),
    (ReleasesForAnybody, "a_former_holder_can_write_nothing"),
    (CountsFencesPerSession, "a_lease_does_not_outlive_its_session"),
    (NeverReleasesAtTheEnd, "a_final_append_gives_the_lease_back"),
    (ReleasesWhateverHappens, "a_final_append_gives_the_lease_back"),
    (ForgetsToRenew, "a_lease_is_kept_while_it_is_held"),
    (WritesBeforeItChecks, "nothing_is_taken_twice"),
    *INBOX_MUTANTS,
    (ClosesOnce, "closing_twice_is_fine"),
)
"""A wrong store, and the check that must notice it."""

SQLITE_MUTANTS: Sequence[tuple[Callable[[Any], SQLiteStore], str]] = (
    (DeafToOthers, "what_is_acknowledged_is_there_for_others"),
    (KeepsSnapshotsByName, "a_snapshot_is_of_its_session_and_no_older_than_another"),
    (ForgetsFences, "what_is_acknowledged_outlives_the_handle"),
    (StealsFromOthers, "a_holder_keeps_other_handles_out"),
    (DeafToPosts, "a_watcher_is_told_of_posts_by_other_handles"),
    (TellsInAnyThread, "a_watcher_is_told_of_posts_by_other_handles"),
    (HintsFromMemory, "a_post_is_seen_by_other_handles_at_once"),
)
