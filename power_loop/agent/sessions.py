"""One run at a time per session: in this process by a lock, beyond it by the store's lease."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Literal

import anyio
from msgspec import Struct, field

from power_loop.driver.shield import to_the_end
from power_loop.errors import SessionBusy, StoreError
from power_loop.events import is_record
from power_loop.log import logger
from power_loop.runtime.stores.base import Lease, Snapshot, Store
from power_loop.session.machine import Session
from power_loop.session.snapshot import is_due, restored, snapshot_of

if TYPE_CHECKING:
    from llm_client.tokens import ModelTokens
    from power_loop.runtime.compaction.base import PromptKeeper

__all__ = ["Derived", "Owned", "Sessions", "WaitOrFail"]

WaitOrFail = Literal["wait", "fail"]
"""What whoever wants a busy session does: wait for its turn, or fail with `SessionBusy`."""

_READ_PAGE = 2000
_RETRY_SECONDS = 0.2
"""Another process's lease is looked at again at least this often."""


class Derived(Struct):
    """What stays with a folded session, so that it is found out once and not once a run.

    `counters` count its tokens, by model; `keeper` keeps its prompts within their window.
    """

    counters: dict[str, ModelTokens] = field(default_factory=dict[str, "ModelTokens"])
    keeper: PromptKeeper | None = None


class Owned(Struct):
    """A session that is ours while its lease is held. `released` once the store has the lease back.

    `derived` is what was found out about it.
    """

    session: Session
    lease: Lease
    derived: Derived
    released: bool = False


class _Folded(Struct):
    """A session in memory, and how many of its records the newest snapshot spares to read."""

    generation: int
    session: Session
    kept: int
    derived: Derived = field(default_factory=Derived)


class _Turn:
    """One holds it, others wait in a queue, which is made for the first of them.

    `users` counts them all.
    """

    __slots__ = ("_queue", "users")

    def __init__(self) -> None:
        self.users = 0
        self._queue: anyio.Semaphore | None = None

    async def wait(self) -> None:
        """Returns once nobody counted before the caller has it."""
        if self.users > 1:
            self._queue = self._queue or anyio.Semaphore(0)
            await self._queue.acquire()

    def pass_on(self) -> None:
        """Gives it to whoever waits longest."""
        if self._queue is not None:
            self._queue.release()


class Sessions:
    """Folded sessions of one loop, and whose turn it is."""

    def __init__(self, store: Store, *, lease_seconds: float, cached: int) -> None:
        self._store = store
        self._lease_seconds = lease_seconds
        self._cached = cached
        self._folded: OrderedDict[str, _Folded] = OrderedDict()
        self._turns: dict[str, _Turn] = {}

    @asynccontextmanager
    async def owned(self, session_id: str, on_busy: WaitOrFail) -> AsyncGenerator[Owned]:
        """The session, folded up to date, for as long as the block lasts.

        Raises:
            SessionNotFound: there is none of that id.
            SessionBusy: `fail`, and somebody else has it.
        """
        turn = self._turns.get(session_id)
        if turn is None:
            turn = self._turns[session_id] = _Turn()
        elif on_busy == "fail":
            raise SessionBusy(session_id, "this process")
        turn.users += 1
        try:
            await turn.wait()
            try:
                lease = await self._claim(session_id, on_busy)
                folded = await self._fold_or_release(lease)
                owned = Owned(folded.session, lease, folded.derived)
                try:
                    yield owned
                finally:
                    if not owned.released:
                        await self._give_back(lease)
                await self._keep(owned)
            finally:
                turn.pass_on()
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[session_id]

    def forget(self, session_id: str) -> None:
        """Throws the folded session away; the next turn folds it from the store."""
        self._folded.pop(session_id, None)

    async def snapshot(self, session_id: str) -> Session:
        """The session as the store has it now, to look at only."""
        return await self._fold((await self._begun(session_id))[0])

    async def _keep(self, owned: Owned) -> None:
        """Keeps a snapshot, if that is due."""
        session = owned.session
        folded = self._folded.get(session.id)
        if folded is None or folded.session is not session or not is_due(session, folded.kept):
            return
        kept = Snapshot(folded.generation, session.seq, snapshot_of(session))
        try:
            await self._store.keep_snapshot(session.id, kept)
        except StoreError as error:
            logger.warning("no snapshot of session %r was kept: %s", session.id, error)
        else:
            folded.kept = session.seq

    async def _claim(self, session_id: str, on_busy: WaitOrFail) -> Lease:
        while True:
            try:
                return await self._store.claim(session_id, ttl=self._lease_seconds)
            except SessionBusy:
                if on_busy == "fail":
                    raise
            info = await self._store.info(session_id)
            with anyio.move_on_after(_RETRY_SECONDS):
                await self._store.wait(session_id, info.seq)

    async def _fold_or_release(self, lease: Lease) -> _Folded:
        try:
            return await self._folded_to(lease)
        except BaseException:
            await self._give_back(lease)
            raise

    async def _give_back(self, lease: Lease) -> None:
        try:
            await to_the_end(partial(self._store.release, lease))
        except StoreError as error:
            # What led here is the news; a lease that stays behind expires with its owner.
            logger.warning("the lease of session %r is still held: %s", lease.session, error)

    async def _folded_to(self, lease: Lease) -> _Folded:
        session_id, seq = lease.session, lease.seq
        known = self._folded.get(session_id)
        if known is None or known.session.seq > seq or known.generation != lease.generation:
            session, kept = await self._begun(session_id) if seq else (Session(session_id), 0)
            known = self._folded[session_id] = _Folded(lease.generation, session, kept)
            while len(self._folded) > self._cached:
                self._folded.popitem(last=False)
        self._folded.move_to_end(session_id)
        if known.session.seq != seq:
            await self._fold(known.session)
        return known

    async def _begun(self, session_id: str) -> tuple[Session, int]:
        """The session as its newest snapshot has it, and how many records that spares to read."""
        kept = await self._store.snapshot(session_id)
        session = None if kept is None else restored(session_id, kept.seq, kept.body)
        return (session, session.seq) if session is not None else (Session(session_id), 0)

    async def _fold(self, session: Session) -> Session:
        while True:
            page = await self._store.read(session.id, session.seq, _READ_PAGE)
            for stamped in page:
                assert is_record(stamped.event)
                session.apply(stamped.event)
            if len(page) < _READ_PAGE:
                return session
