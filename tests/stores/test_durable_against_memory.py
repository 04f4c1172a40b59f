"""Any history of calls: a durable store answers, and refuses, as the one in memory does."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

from anyio.from_thread import start_blocking_portal
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from llm_client.types import Message
from power_loop.errors import PowerLoopError
from power_loop.events import Stamped
from power_loop.runtime.stores.base import (
    CancelRequested,
    Lease,
    Lifecycle,
    SessionInfo,
    SessionQuery,
    Store,
)
from power_loop.runtime.stores.memory import MemoryStore
from power_loop.session.outcome import Cancelled
from power_loop.session.records import Record, RunClosed, RunOpened
from tests.stores.places import Kind, new_place, open_place
from tests.stores.support import said

NAMES = st.sampled_from(["a", "b", "a/1", "a/2", "a/1/x"])
POSITIONS = st.integers(0, 12)
LIFECYCLES = st.sampled_from(["linked", "ephemeral", "detached"])
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=5)
EVENTS = st.lists(
    st.one_of(
        TEXT.map(said),
        st.just(RunClosed("run", Cancelled("enough"))),
        st.sampled_from(["", " two\nlines ", "x" * 200]).map(
            lambda text: RunOpened("run", (Message("user", (), id="m"), Message.user(text)))
        ),
    ),
    max_size=3,
)


class BothStores(RuleBasedStateMachine):
    """The store in memory is the model of a durable one."""

    kind: Kind

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        directory = Path(tempfile.mkdtemp())
        self.stack.callback(shutil.rmtree, directory)
        self.portal = self.stack.enter_context(start_blocking_portal())
        self.place = new_place(self.kind, directory)
        self.memory: Store = MemoryStore()
        self.durable: Store = open_place(self.place)
        self.leases: list[tuple[Lease, Lease]] = []
        self.clock = 0.0

    def teardown(self) -> None:
        """Closes everything."""
        self.portal.call(self.durable.aclose)
        self.stack.close()

    def both(self, call: Callable[[Store], Awaitable[Any]]) -> Any:
        """Makes a call to both stores; they must agree."""
        return self.pair(call, call)[0]

    def pair(
        self,
        on_memory: Callable[[Store], Awaitable[Any]],
        on_durable: Callable[[Store], Awaitable[Any]],
    ) -> tuple[Any, Any]:
        """Makes a call to each; they must agree."""
        expected = self.portal.call(_outcome, on_memory, self.memory)
        actual = self.portal.call(_outcome, on_durable, self.durable)
        assert _comparable(actual) == _comparable(expected)
        return expected, actual

    @rule(name=NAMES, parent=st.one_of(st.none(), NAMES), lifecycle=LIFECYCLES)
    def create(self, name: str, parent: str | None, lifecycle: Lifecycle) -> None:
        """Also under parents that do not exist."""
        self.clock += 1
        at, known = self.clock, {"n": name, "l": lifecycle}
        self.both(
            lambda store: store.create(
                name, parent=parent, lifecycle=lifecycle, metadata=known, at=at
            )
        )

    @rule(name=NAMES)
    def claim(self, name: str) -> None:
        """Free or held."""
        memory, durable = self.pair(lambda s: s.claim(name), lambda s: s.claim(name))
        if isinstance(memory, Lease):
            self.leases.append((memory, durable))

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), release=st.booleans())
    def use_lease(self, data: st.DataObject, release: bool) -> None:
        """Releases or renews a lease, whether or not it is still valid."""
        mine, other = data.draw(st.sampled_from(self.leases))
        if release:
            self.pair(lambda s: s.release(mine), lambda s: s.release(other))
        else:
            self.pair(lambda s: s.renew(mine), lambda s: s.renew(other))

    @precondition(lambda self: self.leases)
    @rule(
        data=st.data(),
        events=EVENTS,
        off=st.sampled_from([0, 0, 0, 0, -1, 1]),
        final=st.booleans(),
        leave=st.sampled_from([None, None, 0, 1, 9]),
    )
    def append(
        self, data: st.DataObject, events: list[Record], off: int, final: bool, leave: int | None
    ) -> None:
        """At the right place or beside it, taking some of what waits, under any lease ever had."""
        mine, other = data.draw(st.sampled_from(self.leases))
        name = mine.session
        length, waiting = self.portal.call(_state, self.memory, name)
        after = max(0, length + off)
        take = data.draw(st.lists(st.sampled_from([*waiting, "nothing"]), unique=True, max_size=2))
        self.clock += 1
        records = [
            Stamped(name, after + n, 0, "?", 0, self.clock, "run", n, event)
            for n, event in enumerate(events, 1)
        ]
        leaving = None if leave is None else [*waiting[:leave], "nothing"]
        options: dict[str, Any] = {"take": take, "final": final, "leaving": leaving}
        self.pair(
            lambda s: s.append(mine, after, records, **options),
            lambda s: s.append(other, after, records, **options),
        )

    @rule(name=NAMES, key=st.sampled_from([None, "k", "l"]))
    def post(self, name: str, key: str | None) -> None:
        """With and without a key."""
        self.both(lambda store: store.post(name, CancelRequested(name), dedupe_key=key))

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        """Held or not, with what is bound to it."""
        self.both(lambda store: store.delete(name))

    @rule(
        text=st.one_of(st.just(""), st.sampled_from(["X", "lines", "\n", "Ä"]), TEXT),
        metadata=st.dictionaries(st.sampled_from(["n", "l", "x"]), NAMES, max_size=1),
        status=st.sampled_from([None, None, "new", "running", "cancelled"]),
        parent=st.one_of(st.none(), NAMES),
        lifecycle=st.one_of(st.none(), LIFECYCLES),
        limit=st.integers(0, 3),
    )
    def find(self, limit: int, **query: Any) -> None:
        """By everything that a query can say."""
        wanted = SessionQuery(**query)
        self.both(lambda store: store.list(wanted, limit=limit, before=self.clock))

    @rule(name=NAMES, after=POSITIONS, limit=st.one_of(st.none(), st.integers(0, 5)))
    def read(self, name: str, after: int, limit: int | None) -> None:
        """A part of a log, and of a tree."""
        self.both(lambda store: store.read(name, after, limit))
        self.both(lambda store: store.read_tree(name, after, limit))

    @rule()
    def reopen(self) -> None:
        """Closing gives all leases back."""
        self.portal.call(self.durable.aclose)
        self.durable = open_place(self.place)
        for lease, _ in self.leases:
            self.portal.call(self.memory.release, lease)

    @invariant()
    def everything_is_equal(self) -> None:
        """All that can be seen of all sessions."""
        listed: list[SessionInfo] = self.both(lambda store: store.list())
        for info in listed:
            self.both(lambda store, name=info.id: store.read(name))
            self.both(lambda store, name=info.root: store.read_tree(name))
            self.both(lambda store, name=info.id: store.inbox(name))
            hint = self.durable.inbox_hint(info.id)
            assert hint or not self.memory.inbox_hint(info.id)


async def _outcome(call: Callable[[Store], Awaitable[Any]], store: Store) -> Any:
    try:
        return await call(store)
    except PowerLoopError as error:
        return error


async def _state(store: Store, session: str) -> tuple[int, list[str]]:
    try:
        info = await store.info(session)
        return info.seq, [item.id for item in await store.inbox(session)]
    except PowerLoopError:
        return 0, []


def _comparable(outcome: Any) -> Any:
    if isinstance(outcome, PowerLoopError):
        return type(outcome)
    if isinstance(outcome, Lease):
        return replace(outcome, owner="")
    if isinstance(outcome, tuple):
        return [*cast("tuple[object, ...]", outcome)]
    return outcome


class OnSQLite(BothStores):
    """A file."""

    kind = "sqlite"


class OnPostgres(BothStores):
    """A server."""

    kind = "postgres"


SETTINGS = settings(max_examples=25, stateful_step_count=30, deadline=None)
OnSQLite.TestCase.settings = SETTINGS
OnPostgres.TestCase.settings = SETTINGS
TestOnSQLite = OnSQLite.TestCase
TestOnPostgres = OnPostgres.TestCase
