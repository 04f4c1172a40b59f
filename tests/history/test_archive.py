"""A session as a file: whole and unaltered, or refused before anything is stored."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import anyio
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_client.testing import call, reply
from power_loop import MemoryStore, SQLiteStore, Store, approve, export_session, import_session
from power_loop.errors import ArchiveInvalid, SessionNotFound, UsageError
from power_loop.history.unpacking import unpacked
from power_loop.session.records import Forked
from power_loop.testing import ReplayDiverged, replay_session
from tests.history.loops import careful, log_of, loop_on, talk
from tests.session.checker import violations

pytestmark = pytest.mark.anyio

KEY = b"a key that only we have"


async def paused(store: Store) -> str:
    """A session in which a call waits for an approval and something waits in the inbox; its id."""
    session = await talk(store)
    async with loop_on(
        store, reply("", call("pay", {"amount": 4}, id="c9")), hooks=careful()
    ) as loop:
        await loop.send("Pay again.", session)
        await loop.steer(session, "And hurry.")
    return session


@pytest.mark.parametrize("key", [None, KEY])
async def test_a_session_comes_back_as_it_was(key: bytes | None, tmp_path: Path) -> None:
    """Into a store of another kind: records, places, metadata, and what waits."""
    here, there = MemoryStore(), SQLiteStore(tmp_path / "there.db")
    session = await paused(here)
    file = tmp_path / "session.jsonl"
    count = await export_session(here, session, file, key=key)
    assert await import_session(there, file, key=key) == session
    old, new = await here.read(session), await there.read(session)
    assert count == len(old)
    assert [msgspec.json.encode(each) for each in old] == [msgspec.json.encode(e) for e in new]
    assert [i.item for i in await there.inbox(session)] == [
        i.item for i in await here.inbox(session)
    ]
    async with loop_on(there, reply("Paid."), hooks=careful()) as loop:
        (pending,) = await loop.get_pending(session)
        done = await loop.resume(session, answers=[approve(pending.token)])
    assert done.status == "completed"
    assert violations(await log_of(there, session), closed=True) == []
    await there.aclose()


async def test_a_session_of_that_id_is_not_overwritten_but_can_be_copied(tmp_path: Path) -> None:
    """A copy says where it came from, and replays under the name it was recorded under."""
    store = MemoryStore()
    session = await talk(store)
    file = tmp_path / "session.jsonl"
    await export_session(store, session, file)
    before = await store.read(session)
    with pytest.raises(UsageError, match="there is a session"):
        await import_session(store, file)
    assert await import_session(store, file, as_id="copy") == "copy"
    log = await log_of(store, "copy")
    assert log[-1] == Forked(session, len(before))
    assert log[:-1] == await log_of(store, session)
    assert await store.read(session) == before
    loop = loop_on(store, hooks=careful())
    assert (await loop.replay("copy")).identical


async def test_a_recorded_file_is_a_regression_test(tmp_path: Path) -> None:
    """`replay_session` takes a file, and no store is needed."""
    store = MemoryStore()
    session = await talk(store)
    file = tmp_path / "session.jsonl"
    await export_session(store, session, file, key=KEY)
    done = await replay_session(loop_on(hooks=careful()), file, key=KEY)
    assert done.runs == 3
    with pytest.raises(ReplayDiverged):
        await replay_session(loop_on(), file, key=KEY)
    with pytest.raises(ArchiveInvalid, match="sealed with a key"):
        await replay_session(loop_on(), file)


async def test_what_is_no_session_is_not_exported(tmp_path: Path) -> None:
    """No file is left behind."""
    store = MemoryStore()
    with pytest.raises(SessionNotFound):
        await export_session(store, "nobody", tmp_path / "a")
    await store.create("empty")
    with pytest.raises(UsageError, match="no records"):
        await export_session(store, "empty", tmp_path / "a")
    with pytest.raises(UsageError, match="key"):
        await export_session(store, "empty", tmp_path / "a", key=b"")
    session = await talk(store)
    with pytest.raises(FileNotFoundError):
        await export_session(store, session, tmp_path / "nowhere" / "a")
    assert [each async for each in anyio.Path(tmp_path).iterdir()] == []


# ── what is refused ───────────────────────────────────────────────────────────────────────────────


async def refused(file: Path, data: bytes, key: bytes | None = None) -> str:
    """Why a file of these bytes is refused; nothing is stored then."""
    await anyio.Path(file).write_bytes(data)
    store = MemoryStore()
    with pytest.raises(ArchiveInvalid) as raised:
        await import_session(store, file, key=key)
    assert await store.list() == []
    return str(raised.value)


def resealed(lines: list[bytes], records: int, items: int, key: bytes | None = None) -> bytes:
    """These lines with an end that fits them, as somebody makes it who knows how."""
    body = b"".join(lines)
    digest = sha256(body) if key is None else hmac.new(key, body, sha256)
    end = {"type": "end", "records": records, "items": items, "digest": digest.hexdigest()}
    return body + msgspec.json.encode(end) + b"\n"


async def small(file: Path, key: bytes | None = None) -> bytes:
    """The archive of a small session."""
    store = MemoryStore()
    async with loop_on(store, reply("hi")) as loop:
        session = (await loop.send("hello")).session_id
    await export_session(store, session, file, key=key)
    return await anyio.Path(file).read_bytes()


@pytest.mark.parametrize("key", [None, KEY])
def test_no_byte_can_be_changed_and_no_end_be_missing(key: bytes | None, tmp_path: Path) -> None:
    """Every byte of a small archive, and every place where it could be cut off."""
    file = tmp_path / "a"
    good = anyio.run(small, file, key)
    tried = 0
    for at in range(len(good)):
        for bad in (good[:at], good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]):
            file.write_bytes(bad)
            with pytest.raises(ArchiveInvalid):
                unpacked(file, key)
            tried += 1
    file.write_bytes(good)
    assert len(unpacked(file, key).stamped) == 6
    assert tried == 2 * len(good)


@given(st.data())
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_nothing_but_the_archive_itself_is_taken(tmp_path: Path, data: st.DataObject) -> None:
    """Bytes changed, put in, taken out, lines exchanged."""
    file = tmp_path / "b"
    good = GOOD.get(tmp_path) or GOOD.setdefault(tmp_path, anyio.run(small, file, KEY))
    start = data.draw(st.integers(0, len(good)))
    stop = data.draw(st.integers(start, len(good)))
    bad = good[:start] + data.draw(st.binary(max_size=40)) + good[stop:]
    lines = good.splitlines(keepends=True)
    shuffled = b"".join(data.draw(st.permutations(lines)))
    for tried in (bad, shuffled, good + bad, bad + good):
        file.write_bytes(tried)
        if tried == good:
            assert unpacked(file, KEY).stamped
            continue
        with pytest.raises(ArchiveInvalid):
            unpacked(file, KEY)


GOOD: dict[Path, bytes] = {}


Change = Callable[[list[bytes]], list[bytes]]

STORIES: dict[str, tuple[Change, str]] = {
    "another program's file": (lambda _: [b"PNG\n"], "not an archive"),
    "an archive of something else": (
        lambda lines: [lines[0].replace(b"power_loop session", b"mail"), *lines[1:]],
        "not an archive",
    ),
    "a newer version": (
        lambda lines: [lines[0].replace(b'"version":1', b'"version":3'), *lines[1:]],
        "newer version",
    ),
    "a record is missing": (lambda lines: [*lines[:3], *lines[4:]], "line 4: record 4 is out of"),
    "two records are exchanged": (
        lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]],
        "line 3: record 3 is out of order",
    ),
    "a record twice": (lambda lines: [*lines[:3], *lines[2:]], "record 2 is out of order"),
    "what cannot have happened": (
        lambda lines: [*lines[:2], renumbered(lines[5], 2)],
        "line 3: this cannot have happened",
    ),
    "a tag that is not known": (
        lambda lines: [*lines[:2], lines[2].replace(b"model_configured", b"pickle")],
        "line 3: this is no line of an archive",
    ),
    "no records": (lambda lines: lines[:1], "no records"),
    "too deep": (lambda lines: [lines[0], b"[" * 100_000 + b"\n"], "line 2: this is no line"),
}


def renumbered(line: bytes, seq: int) -> bytes:
    """A line with another number."""
    value = msgspec.json.decode(line)
    return msgspec.json.encode({**value, "seq": seq}) + b"\n"


@pytest.mark.parametrize("name", STORIES)
async def test_what_is_wrong_is_said_even_where_the_digest_fits(name: str, tmp_path: Path) -> None:
    """A digest without a key is no proof: what is in the file is judged all the same."""
    change, why = STORIES[name]
    lines = (await small(tmp_path / "a")).splitlines(keepends=True)[:-1]
    changed = change(lines)
    data = resealed(changed, len(changed) - 1, 0)
    assert why in await refused(tmp_path / "b", data)


async def test_counts_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    """The end says how much there must be."""
    lines = (await small(tmp_path / "a")).splitlines(keepends=True)[:-1]
    assert "says that it has 7 records" in await refused(tmp_path / "b", resealed(lines, 7, 0))
    assert "cut short" in await refused(tmp_path / "b", b"".join(lines))
    assert "not an archive" in await refused(tmp_path / "b", b"")


async def test_a_key_must_be_the_right_one_and_be_there_and_only_then(tmp_path: Path) -> None:
    """A wrong key, none for a sealed file, one for a file that is not."""
    sealed, plain = await small(tmp_path / "a", KEY), await small(tmp_path / "b")
    assert "another one" in await refused(tmp_path / "c", sealed, b"another key")
    assert "give that key" in await refused(tmp_path / "c", sealed)
    assert "give no key" in await refused(tmp_path / "c", plain, KEY)


async def test_a_pending_call_cannot_be_tampered_with_under_a_key(tmp_path: Path) -> None:
    """Not even by somebody who makes the plain digest fit; without a key, anybody could."""
    store = MemoryStore()
    session = await paused(store)
    file = tmp_path / "a"
    await export_session(store, session, file, key=KEY)
    lines = (await anyio.Path(file).read_bytes()).splitlines(keepends=True)
    count = len(await store.read(session))
    assert any(b'{\\"amount\\":4}' in line for line in lines)
    evil = [line.replace(b'{\\"amount\\":4}', b'{\\"amount\\":9}') for line in lines[:-1]]
    assert evil != lines[:-1]
    assert "altered" in await refused(tmp_path / "b", resealed(evil, count, 1), KEY)
    assert "altered" in await refused(tmp_path / "b", resealed(evil, count, 1, b"guessed"), KEY)
    unsigned = [evil[0].replace(b'"signed":true', b'"signed":false'), *evil[1:]]
    assert "give no key" in await refused(tmp_path / "b", resealed(unsigned, count, 1), KEY)
    granted = [line.replace(b"call_waiting", b"call_answered") for line in lines[:-1]]
    assert "altered" in await refused(tmp_path / "b", resealed(granted, count, 1), KEY)
