"""**Protocol** Store: an append-only log per session, a lease, and an inbox.

A store knows nothing of phases or of what records mean. It promises four things: an append lands
whole or not at all, at the position its writer expects, under a lease that is still valid; a reader
sees only what is durable; an inbox item is consumed in the very transaction that appends what came
of it; and a fence number is never given out twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from llm_client.types import Message
from power_loop.events import Stamped

__all__ = [
    "EVERY_SESSION",
    "Appended",
    "CancelRequested",
    "InboxItem",
    "Lease",
    "Lifecycle",
    "Posted",
    "SessionInfo",
    "SessionQuery",
    "Snapshot",
    "Steer",
    "SteerMode",
    "Store",
]

SteerMode = Literal["next_round", "when_idle", "interrupt"]
"""When a message enters that is for a run that goes on: at its next round; when it has answered and
would end; or at once, stopping what it is doing."""


class Steer(Struct, frozen=True, omit_defaults=True, tag="steer"):
    """A user message for a session, to enter when `mode` says."""

    message: Message
    mode: SteerMode = "next_round"


class CancelRequested(Struct, frozen=True, tag="cancel"):
    """Somebody wants the session's run cancelled."""

    reason: str


class InboxItem(Struct, frozen=True):
    """Something posted to a session. `id` is unique in the store."""

    id: str
    item: Steer | CancelRequested


class Posted(Struct, frozen=True):
    """Receipt of a post. `duplicate` when its dedupe key had been posted before; `running` when a
    live lease exists, so that somebody will take it soon.
    """

    id: str
    duplicate: bool
    running: bool


class Lease(Struct, frozen=True):
    """The right to append to a session. `fence` grows with every claim and is never reused."""

    session: str
    fence: int
    owner: str
    seq: int
    """Position of the session's log when the lease was claimed."""
    generation: int
    """A number that no other session of the store has had, nor this id before it was deleted."""


class Snapshot(Struct, frozen=True):
    """What the first `seq` records of a session come to; only its keeper understands the body."""

    generation: int
    seq: int
    body: bytes


class Appended(Struct, frozen=True):
    """Where an append landed: position of its last record in the session and in the tree.

    The records of one append lie together in both.
    """

    seq: int
    tree_seq: int


Lifecycle = Literal["linked", "ephemeral", "detached"]
"""What becomes of a session when the one above it is deleted: it goes along, or it stays.

An ephemeral one goes along too; besides, it has served its purpose once it has completed, and is
pruned then however young it is.
"""


class SessionQuery(Struct, frozen=True, kw_only=True):
    """Which sessions are wanted: those for which all of it holds.

    Attributes:
        text: some message of a user or of the assistant holds it; A to Z in either case.
        metadata: they have these keys with these values, and perhaps others.
        status: see `SessionInfo.status`.
        parent: they are directly below this session.
        lifecycle: see `Lifecycle`.
    """

    text: str = ""
    metadata: Mapping[str, str] = {}
    status: str | None = None
    parent: str | None = None
    lifecycle: Lifecycle | None = None


EVERY_SESSION = SessionQuery()


class SessionInfo(Struct, frozen=True):
    """A session as a store lists it. Times are seconds since the epoch."""

    id: str
    root: str
    parent: str | None
    created: float
    updated: float
    seq: int
    status: str
    """`running` while its last run is open, `new` before its first, `forked` if it was copied in
    the middle of one that has not been carried on here, else that run's outcome tag."""
    title: str
    """The first line of the first user message, cut short."""
    metadata: Mapping[str, str]
    lifecycle: Lifecycle = "linked"


class Store(Protocol):
    """**Protocol**: where sessions live. Safe for use by many runs, tasks and processes at once.

    All methods raise `power_loop.errors.StoreError` subclasses when the store itself fails. One
    that changes something does so whole or not at all, also when the call is cancelled; whoever
    must know which shields the call. A store proves itself with `power_loop.testing.check_store`.
    """

    immediate: bool
    """True if `append` never suspends, so that a caller may run it to its end at once."""

    async def create(
        self,
        session: str,
        *,
        parent: str | None = None,
        lifecycle: Lifecycle = "linked",
        metadata: Mapping[str, str] | None = None,
        at: float = 0.0,
    ) -> None:
        """Makes an empty session; its root is its parent's root. Does nothing if it exists.

        Raises:
            SessionNotFound: no such parent.
            UsageError: the id is empty, it or the metadata is not valid text without NUL, or there
                is no such lifecycle.
        """
        ...

    async def claim(
        self, session: str, *, ttl: float = 30.0, steal: Literal["dead", "never"] = "dead"
    ) -> Lease:
        """Takes the session's lease. It is renewed by the store itself until released.

        A lease whose owner is known to be dead (same host and boot, but its process is gone), or
        that has expired, is taken over.

        Raises:
            SessionNotFound: no such session.
            SessionBusy: somebody else holds it.
        """
        ...

    async def renew(self, lease: Lease) -> None:
        """Extends a lease. Only needed by those who hold one without the store's own keeper.

        Raises:
            Fenced: it has been taken over.
        """
        ...

    async def release(self, lease: Lease) -> None:
        """Gives a lease back. Idempotent; does nothing if it has been taken over."""
        ...

    async def append(
        self,
        lease: Lease,
        expected_seq: int,
        records: Sequence[Stamped],
        *,
        take: Sequence[str] = (),
        final: bool = False,
        leaving: Sequence[str] | None = None,
    ) -> Appended:
        """Appends records, consumes the inbox items `take`, as one transaction.

        `records` carry everything but their tree order, which the store assigns. `final` also
        releases the lease. `leaving` are items of the inbox that may stay there: the append is
        refused when others than these and `take` wait; None lets any wait.

        Raises:
            Conflict: the log is not at `expected_seq`.
            Fenced: the lease is not valid any more.
            Undelivered: the inbox holds an item that it neither takes nor leaves.
            UsageError: a record is not the next of this session, or an item does not wait.
        """
        ...

    async def read(
        self, session: str, after: int = 0, limit: int | None = None
    ) -> Sequence[Stamped]:
        """The session's records with seq > `after`, in order, at most `limit`.

        Raises:
            SessionNotFound: no such session.
        """
        ...

    async def read_tree(
        self, root: str, after: int = 0, limit: int | None = None
    ) -> Sequence[Stamped]:
        """Records of a root session and all sessions below it, by tree order > `after`.

        Raises:
            SessionNotFound: no such session.
            UsageError: it is below another one.
        """
        ...

    async def keep_snapshot(self, session: str, snapshot: Snapshot) -> None:
        """Keeps a snapshot in place of an older one. Does nothing if the session is not of that
        generation any more, or a newer one is kept.

        It is derived from the records: a store may forget it at any time, or keep none at all.
        """
        ...

    async def snapshot(self, session: str) -> Snapshot | None:
        """The newest snapshot that is kept of the session; None if there is none, or no session."""
        ...

    async def wait(self, session: str, after: int) -> None:
        """Returns once the session's log is beyond `after`, also when another process wrote.

        May return early; the caller reads again. Cancellable.
        """
        ...

    async def post(
        self, session: str, item: Steer | CancelRequested, *, dedupe_key: str | None = None
    ) -> Posted:
        """Puts an item into the session's inbox, durably.

        Raises:
            SessionNotFound: no such session.
        """
        ...

    async def inbox(self, session: str) -> Sequence[InboxItem]:
        """Items that wait, oldest first.

        Raises:
            SessionNotFound: no such session.
        """
        ...

    def inbox_hint(self, session: str) -> bool:
        """False if the inbox is certainly empty, without waiting. True means: look.

        What another process has posted before counts too. A store that cannot know without waiting
        answers True.
        """
        ...

    def watch(self, session: str, notify: Callable[[], None]) -> Callable[[], None]:
        """Has `notify` called whenever something is posted to the session, by any process.

        To be called in an event loop, and `notify` is called in its thread, in a task or not, soon
        after each post that is made from now on; several posts may share one call, and one may come
        without cause. It is not told what was posted: it looks into the inbox. It must neither
        raise nor wait. A post may be in the inbox, or even gone from it, before the call comes.

        Returns what ends it, to be called in the same event loop; no call comes after that.
        Neither waits nor raises: a store that cannot hear of posts for a while makes up for it with
        a call once it can. A session that does not exist is one to which nothing is posted.
        """
        ...

    async def info(self, session: str) -> SessionInfo:
        """What the store knows of one session.

        Raises:
            SessionNotFound: no such session.
        """
        ...

    async def list(
        self,
        query: SessionQuery = EVERY_SESSION,
        *,
        limit: int = 100,
        before: float | None = None,
    ) -> Sequence[SessionInfo]:
        """Sessions, most recently updated first; `before` pages on by `updated`.

        A text is looked for in all that was said in the sessions that fit otherwise.
        """
        ...

    async def delete(self, session: str) -> int:
        """Deletes a session and those below it; detached ones become roots, with all below them.

        Returns the number of sessions deleted.

        Raises:
            SessionNotFound: no such session.
            SessionBusy: a live lease exists on one of them.
        """
        ...

    async def aclose(self) -> None:
        """Releases everything. Idempotent."""
        ...
