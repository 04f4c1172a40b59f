"""Stores that are wrong on purpose about inboxes, lists and deleting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from anyio.lowlevel import checkpoint
from msgspec.structs import replace

from power_loop.events import Stamped, encode_event
from power_loop.runtime.stores.base import (
    EVERY_SESSION,
    Appended,
    CancelRequested,
    InboxItem,
    Lease,
    Posted,
    SessionInfo,
    SessionQuery,
    Steer,
)
from power_loop.runtime.stores.memory import MemoryStore

Item = Steer | CancelRequested


class LosesItems(MemoryStore):
    """Consumes items before the append that takes them has landed."""

    async def append(
        self,
        lease: Lease,
        expected_seq: int,
        records: Sequence[Stamped],
        *,
        take: Sequence[str] = (),
        **options: Any,
    ) -> Appended:
        inbox = self._log(lease.session).inbox
        for id in take:
            inbox.pop(id, None)
        return await super().append(lease, expected_seq, records, **options)


class DeliversTwice(MemoryStore):
    """Never consumes an item."""

    async def append(
        self,
        lease: Lease,
        expected_seq: int,
        records: Sequence[Stamped],
        *,
        take: Sequence[str] = (),
        **options: Any,
    ) -> Appended:
        return await super().append(lease, expected_seq, records, **options)


class TakesWhatIsNotThere(MemoryStore):
    """Does not mind items that it does not know."""

    async def append(
        self,
        lease: Lease,
        expected_seq: int,
        records: Sequence[Stamped],
        *,
        take: Sequence[str] = (),
        **options: Any,
    ) -> Appended:
        known = [id for id in take if id in self._log(lease.session).inbox]
        return await super().append(lease, expected_seq, records, take=known, **options)


class EndsPastTheInbox(MemoryStore):
    """Ignores `leaving`."""

    async def append(
        self,
        lease: Lease,
        expected_seq: int,
        records: Sequence[Stamped],
        *,
        leaving: Sequence[str] | None = None,
        **options: Any,
    ) -> Appended:
        return await super().append(lease, expected_seq, records, **options)


class IgnoresKeys(MemoryStore):
    """Posts again whatever the key."""

    async def post(self, session: str, item: Item, *, dedupe_key: str | None = None) -> Posted:
        return await super().post(session, item)


class ForgetsKeys(MemoryStore):
    """Knows a key only while its item waits."""

    async def post(self, session: str, item: Item, *, dedupe_key: str | None = None) -> Posted:
        log = self._log(session)
        log.posted = {key: id for key, id in log.posted.items() if id in log.inbox}
        return await super().post(session, item, dedupe_key=dedupe_key)


class NewestFirst(MemoryStore):
    """Hands the inbox out from its end."""

    async def inbox(self, session: str) -> Sequence[InboxItem]:
        return (await super().inbox(session))[::-1]


class SaysNothingWaits(MemoryStore):
    """Denies what waits in an inbox."""

    def inbox_hint(self, session: str) -> bool:
        return False


class ChecksKeysInTwoSteps(MemoryStore):
    """Looks for a key, and posts a moment later."""

    async def post(self, session: str, item: Item, *, dedupe_key: str | None = None) -> Posted:
        known = self._log(session).posted.get(dedupe_key or "")
        await checkpoint()
        if known is not None:
            return Posted(known, duplicate=True, running=False)
        receipt = await super().post(session, item)
        if dedupe_key is not None:
            self._log(session).posted[dedupe_key] = receipt.id
        return receipt


class TellsNobody(MemoryStore):
    """Forgets those who watch."""

    def watch(self, session: str, notify: Callable[[], None]) -> Callable[[], None]:
        super().watch(session, notify)()
        return lambda: None


class TellsOnce(MemoryStore):
    """Tells of the first post only."""

    def watch(self, session: str, notify: Callable[[], None]) -> Callable[[], None]:
        ends: list[Callable[[], None]] = []

        def once() -> None:
            ends.pop()()
            notify()

        ends.append(super().watch(session, once))
        return lambda: None


class TellsForEver(MemoryStore):
    """Goes on telling those who have ended it."""

    def watch(self, session: str, notify: Callable[[], None]) -> Callable[[], None]:
        super().watch(session, notify)
        return lambda: None


class NeverUpdatesStatus(MemoryStore):
    """Says that every session is new."""

    async def info(self, session: str) -> SessionInfo:
        return replace(await super().info(session), status="new")


class ListsInOrderOfCreation(MemoryStore):
    """Does not sort."""

    async def list(
        self,
        query: SessionQuery = EVERY_SESSION,
        *,
        limit: int = 100,
        before: float | None = None,
    ) -> Sequence[SessionInfo]:
        return [log.info() for log in self._logs.values()][:limit]


class FindsWhatIsStored(MemoryStore):
    """Looks for a text in the stored form of records."""

    async def list(
        self,
        query: SessionQuery = EVERY_SESSION,
        *,
        limit: int = 100,
        before: float | None = None,
    ) -> Sequence[SessionInfo]:
        wanted = query.text.lower()
        infos = await super().list(replace(query, text=""), limit=limit, before=before)
        return [
            info
            for info in infos
            if any(wanted in str(encode_event(r)).lower() for r in self._logs[info.id].records)
            or not wanted
        ]


class LeavesDescendants(MemoryStore):
    """Deletes a session and leaves what is below it."""

    async def delete(self, session: str) -> int:
        for log in self._logs.values():
            log.lifecycle = "detached"
        return await super().delete(session)


class IgnoresLifecycles(MemoryStore):
    """Deletes what should have been left."""

    async def delete(self, session: str) -> int:
        for log in self._logs.values():
            log.lifecycle = "linked"
        return await super().delete(session)


class DeletesQuietly(MemoryStore):
    """Deletes without waking those who wait."""

    async def wait(self, session: str, after: int) -> None:
        while session not in self._logs or len(self._logs[session].records) <= after:
            await checkpoint()


INBOX_MUTANTS: Sequence[tuple[Callable[[], MemoryStore], str]] = (
    (NewestFirst, "posted_items_wait_in_order"),
    (SaysNothingWaits, "posted_items_wait_in_order"),
    (LosesItems, "taking_consumes_in_the_same_transaction"),
    (DeliversTwice, "taking_consumes_in_the_same_transaction"),
    (TakesWhatIsNotThere, "nothing_is_taken_twice"),
    (IgnoresKeys, "a_dedupe_key_counts_once_for_ever"),
    (ForgetsKeys, "a_dedupe_key_counts_once_for_ever"),
    (EndsPastTheInbox, "a_run_cannot_end_past_its_inbox"),
    (ChecksKeysInTwoSteps, "concurrent_posts_all_arrive_once"),
    (TellsNobody, "a_watcher_is_told_of_posts"),
    (TellsOnce, "a_watcher_is_told_of_posts"),
    (TellsForEver, "a_watcher_is_told_of_posts"),
    (NeverUpdatesStatus, "a_session_tells_its_status_and_title"),
    (ListsInOrderOfCreation, "sessions_are_listed_by_their_last_change"),
    (FindsWhatIsStored, "sessions_are_found_by_what_is_known_of_them"),
    (LeavesDescendants, "deleting_takes_everything_below_along"),
    (IgnoresLifecycles, "what_is_detached_outlives_what_it_came_from"),
    (DeletesQuietly, "whoever_waits_for_a_deleted_session_is_woken"),
)
