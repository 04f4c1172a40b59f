"""Bad files and full disks: a typed error that says what to do, and nothing silently wrong."""

from __future__ import annotations

import random
import shutil
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from zlib import crc32

import anyio
import pytest
from msgspec.structs import replace

from power_loop.errors import (
    InvalidInput,
    SessionNotFound,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreTooNew,
    StoreUnavailable,
    UsageError,
)
from power_loop.runtime.stores._sqlite_open import Settings, connect, filesystem_of
from power_loop.runtime.stores.sqlite import SQLiteStore
from tests.stores.support import ROOT, said, say, stamped, texts
from tests.unprivileged import binding_permissions

pytestmark = pytest.mark.anyio

WORDS = [f"word {n} " + "x" * (n * 37 % 900) for n in range(60)]


@pytest.fixture
def anyio_backend() -> str:
    """These are about files; the event loop does not matter."""
    return "asyncio"


@pytest.fixture
def small_disk(tmp_path: Path) -> Generator[Path]:
    """A file system of its own with 4 MB of room."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4M", "none", str(place)]
    if sys.platform != "linux" or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("only root on Linux can mount a small file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


async def _written(path: Path) -> None:
    """A file with two sessions in it, and nothing beside it."""
    store = SQLiteStore(path, durability="normal")
    for session in ("a", "b"):
        await store.create(session)
        lease = await store.claim(session)
        seq = 0
        for word in WORDS:
            seq = await say(store, lease, seq, word)
        await store.release(lease)
    await store.aclose()


def _contents(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


async def _told(path: Path, error: type[StoreError]) -> str:
    """What `error` says, with the path, that every way to begin raises alike."""
    said: set[str] = set()
    for attempt in ("create", "read", "list"):
        store = SQLiteStore(path, busy_timeout=0.2)
        with pytest.raises(error) as caught:
            match attempt:
                case "create":
                    await store.create("s")
                case "read":
                    await store.read("s")
                case _:
                    await store.list()
        said.add(str(caught.value))
        await store.aclose()
    (message,) = said
    assert str(path) in message
    return message


async def _refusal(path: Path, error: type[StoreError]) -> str:
    """What is told of a file that is not ours, which must not be touched."""
    before = _contents(path)
    told = await _told(path, error)
    assert _contents(path) == before
    return told


# ── files that are not ours ───────────────────────────────────────────────────────────────────────


async def test_a_file_of_another_kind_is_refused_and_left_alone(tmp_path: Path) -> None:
    """Random bytes, text, and the database of another program."""
    noise = tmp_path / "noise.db"
    noise.write_bytes(random.Random(1).randbytes(20_000))
    told = await _refusal(noise, StoreCorrupt)
    assert "not an SQLite database" in told
    assert "another path" in told
    text = tmp_path / "notes.txt"
    text.write_text("My notes. " * 300)
    assert "not an SQLite database" in await _refusal(text, StoreCorrupt)
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE songs (title)")
    connection.close()
    told = await _refusal(foreign, StoreCorrupt)
    assert "another program" in told
    assert "Choose another path" in told


async def test_a_newer_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    """The message says to upgrade."""
    path = tmp_path / "newer.db"
    await _written(path)
    _change(path, "UPDATE meta SET value = 99 WHERE key = 'schema'")
    told = await _refusal(path, StoreTooNew)
    assert "schema is 99" in told
    assert "pip install --upgrade power-loop" in told


async def test_a_record_of_a_newer_kind_is_said_to_be_newer(tmp_path: Path) -> None:
    """An intact record that this version does not know is no damage."""
    path = tmp_path / "newer.db"
    store = SQLiteStore(path)
    await store.create("s")
    await say(store, await store.claim("s"), 0, "known")
    row = sqlite3.connect(path).execute("SELECT place, tree_seq, at, round, run FROM records")
    place, tree_seq, at, round, run = row.fetchone()
    row.connection.close()
    body = b'{"type":"from_the_future"}'
    fixed = struct.pack("<qqdq", place, tree_seq, at, round)
    crc = crc32(body, crc32(fixed + run.encode()))
    _change(path, "UPDATE records SET body = ?, crc = ?", body, crc)
    with pytest.raises(StoreTooNew, match=r"record 1 of session 's'.*Upgrade"):
        await store.read("s")
    await store.aclose()


async def test_what_cannot_be_a_file_says_why(tmp_path: Path) -> None:
    """A directory, a missing directory, a path that names no file."""
    told = await _refusal(tmp_path, StoreUnavailable)
    assert "is a directory" in told
    assert "Name a file" in told
    told = await _refusal(tmp_path / "no" / "s.db", StoreUnavailable)
    assert "no directory" in told
    assert "Create it" in told
    for path in ("", ":memory:", "file:x.db?mode=memory"):
        with pytest.raises(UsageError, match="MemoryStore"):
            SQLiteStore(path)


# ── damage ────────────────────────────────────────────────────────────────────────────────────────


async def _outcome(path: Path) -> str:
    """What a damaged copy gives: `whole`, `prefix`, or an error's name; never anything else."""
    store = SQLiteStore(path, busy_timeout=0.2)
    seen: set[str] = set()
    failure: StoreError | None = None
    try:
        for session in ("a", "b"):
            try:
                words = texts(await store.read(session))
                await store.claim(session)
            except SessionNotFound:
                seen.add("SessionNotFound")
                continue
            assert words == WORDS[: len(words)], "a changed record was read as if it were whole"
            seen.add("whole" if len(words) == len(WORDS) else "prefix")
        await store.list()
    except StoreError as error:
        failure = error
    finally:
        await store.aclose()
    if failure is None:
        return min(seen)
    assert str(path) in str(failure)
    assert len(str(failure).split(". ")) > 1, f"{failure} does not say what to do"
    return type(failure).__name__


async def test_a_truncated_file_gives_a_typed_error_or_a_correct_prefix(tmp_path: Path) -> None:
    """Cut anywhere, at page borders and within pages."""
    whole = tmp_path / "whole.db"
    await _written(whole)
    data = whole.read_bytes()
    outcomes: dict[str, int] = {}
    for n, size in enumerate([0, 1, 99, 100, 511, *range(1024, len(data), 3_571)]):
        path = tmp_path / f"cut{n}.db"
        path.write_bytes(data[:size])
        outcome = await _outcome(path)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    # An empty file is a new store without sessions, and SQLite takes a single byte for nothing.
    assert outcomes.pop("SessionNotFound") == 2
    assert set(outcomes) == {"StoreCorrupt"}
    assert sum(outcomes.values()) > 20


async def test_flipped_bits_are_noticed_or_harmless(tmp_path: Path) -> None:
    """150 copies with one bit flipped each: what is read was written, or an error is raised (D02,
    D04).
    """
    whole = tmp_path / "whole.db"
    await _written(whole)
    data = whole.read_bytes()
    dice = random.Random(7)
    outcomes: dict[str, int] = {}
    for _ in range(150):
        path = tmp_path / "flipped.db"
        changed = bytearray(data)
        changed[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        path.write_bytes(changed)
        outcome = await _outcome(path)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        (tmp_path / "flipped.db-wal").unlink(missing_ok=True)
        (tmp_path / "flipped.db-shm").unlink(missing_ok=True)
    assert set(outcomes) <= {"whole", "StoreCorrupt", "StoreTooNew", "StoreUnavailable"}
    assert outcomes["StoreCorrupt"] > 50


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM records WHERE place & 0xffffffff = 30",
        "DELETE FROM records WHERE place & 0xffffffff > 30",
        "UPDATE records SET body = replace(CAST(body AS TEXT), 'word 7', 'word 8')",
        "UPDATE records SET run = 'another' WHERE place & 0xffffffff = 60",
        "UPDATE records SET at = at + 1 WHERE place & 0xffffffff = 60",
        "UPDATE records SET root = 77 WHERE place = (1 << 32) + 60",
        "UPDATE records SET body = 7 WHERE place & 0xffffffff = 60",
        "UPDATE sessions SET seq = 59",
        "UPDATE sessions SET seq = 61",
        "UPDATE sessions SET root = 77",
        "DELETE FROM sessions WHERE id = 'b'",
    ],
)
async def test_contents_that_contradict_themselves_are_noticed(damage: str, tmp_path: Path) -> None:
    """A missing, added or changed record is noticed by reading, or by the full check."""
    path = tmp_path / "changed.db"
    await _written(path)
    _change(path, damage)
    store = SQLiteStore(path)
    with pytest.raises(StoreCorrupt, match="recover"):
        await store.check()
    if "DELETE FROM sessions" not in damage:
        with pytest.raises(StoreCorrupt, match="session 'a'"):
            await store.read("a")
    await store.aclose()


async def test_a_file_without_its_log_is_a_correct_prefix(tmp_path: Path) -> None:
    """A copy of the file alone lacks what is still in the write-ahead log, and nothing else."""
    path, copy = tmp_path / "s.db", tmp_path / "copy.db"
    await _written(path)
    store = SQLiteStore(path)
    lease = await store.claim("a")
    await say(store, lease, lease.seq, "the newest")
    shutil.copy(path, copy)
    assert await _outcome(copy) == "whole"
    await store.aclose()


# ── no room, no right, no turn ────────────────────────────────────────────────────────────────────


async def test_a_full_disk_is_said_to_be_full_and_loses_nothing(small_disk: Path) -> None:
    """Appends fail with StoreFull, whole; what was acknowledged is there, and it goes on when
    there is room again (D04).
    """
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * 3_400_000)
    store = SQLiteStore(small_disk / "s.db")
    await store.create("s")
    lease = await store.claim("s")
    seq = 0
    with pytest.raises(StoreFull, match=r"no space is left.*Free some"):
        for n in range(1_000):
            seq = await say(store, lease, seq, f"{n}" + "y" * 3_000)
    assert seq > 10
    assert len(await store.read("s")) == seq
    filler.unlink()
    assert await say(store, lease, seq, "room again") == seq + 1
    assert await store.check() == seq + 1
    await store.aclose()


async def test_one_that_does_not_fit_does_not_keep_out_those_that_do(tmp_path: Path) -> None:
    """A file that may not grow: the huge append fails, its neighbours in the same moment land."""

    def limit(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA max_page_count = 60")

    store = SQLiteStore(tmp_path / "s.db", prepare=limit)
    names = [f"s{n}" for n in range(8)]
    for name in names:
        await store.create(name)
    leases = [await store.claim(name) for name in names]
    failed: list[str] = []

    async def write(n: int) -> None:
        try:
            await say(store, leases[n], 0, "z" * (400_000 if n == 3 else 50))
        except StoreFull:
            failed.append(names[n])

    async with anyio.create_task_group() as group:
        for n in range(8):
            group.start_soon(write, n)
    assert failed == ["s3"]
    assert [len(await store.read(name)) for name in names] == [1, 1, 1, 0, 1, 1, 1, 1]
    await store.aclose()


async def test_a_record_that_cannot_be_stored_keeps_nobody_out(tmp_path: Path) -> None:
    """A lone surrogate in text, and one in an id, are the caller's error alone."""
    store = SQLiteStore(tmp_path / "s.db")
    for name in ("good", "bad", "worse"):
        await store.create(name)
    leases = {name: await store.claim(name) for name in ("good", "bad", "worse")}
    refusals: list[str] = []

    async def write(name: str, word: str, run: str) -> None:
        record = stamped(name, 1, said(word))
        try:
            await store.append(
                leases[name], 0, [record, replace(stamped(name, 2, said("second")), run=run)]
            )
        except InvalidInput as error:
            refusals.append(f"{name}: {error}")

    async with anyio.create_task_group() as group:
        group.start_soon(write, "worse", "first", "run \ud800")
        group.start_soon(write, "bad", "lone \ud800", "run")
        group.start_soon(write, "good", "first", "run")
    assert sorted(refusal.split(":")[0] for refusal in refusals) == ["bad", "worse"]
    assert texts(await store.read("good")) == ["first", "second"]
    assert await store.read("bad") == await store.read("worse") == []
    with pytest.raises(UsageError, match="lone surrogate"):
        await store.create("\ud800")
    await store.aclose()


async def test_a_read_only_place_says_so(small_disk: Path) -> None:
    """A file system that cannot be written: existing files and new ones alike."""
    path = small_disk / "s.db"
    await _written(path)
    await anyio.run_process(["mount", "-o", "remount,ro", str(small_disk)])
    assert "read and write" in await _refusal(small_disk / "new.db", StoreUnavailable)
    store = SQLiteStore(path, busy_timeout=0.2)
    with pytest.raises(StoreUnavailable, match=r"cannot be (written|opened).*(writable|write)"):
        await store.create("s")
    await store.aclose()


async def test_a_file_without_permission_says_so() -> None:
    """And what to see to."""
    with binding_permissions() as place:
        path = place / "s.db"
        await _written(path)
        path.chmod(0o000)
        assert "read and write" in await _told(path, StoreUnavailable)


async def test_a_file_size_limit_is_said_to_be_one_d04(tmp_path: Path) -> None:
    """The process may not write more: a typed error, and what was acknowledged is there (D04)."""
    path = tmp_path / "s.db"
    await _written(path)
    program = (
        "import resource, anyio\n"
        "from power_loop.errors import StoreError\n"
        "from power_loop.runtime.stores.sqlite import SQLiteStore\n"
        "from tests.stores.support import say\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "async def main():\n"
        f"    store = SQLiteStore({str(path)!r})\n"
        "    lease = await store.claim('a')\n"
        "    seq = lease.seq\n"
        "    try:\n"
        "        while True: seq = await say(store, lease, seq, 'more')\n"
        "    except StoreError as error: print(seq, type(error).__name__)\n"
        "    await store.aclose()\n"
        "anyio.run(main)\n"
    )
    with anyio.fail_after(60):
        done = await anyio.run_process([sys.executable, "-c", program], cwd=ROOT)
    assert done.stderr == b""
    seq, error = done.stdout.decode().split()
    assert error in {"StoreFull", "StoreUnavailable"}
    store = SQLiteStore(path)
    assert len(await store.read("a")) == int(seq)
    await store.aclose()


async def test_a_lock_that_is_never_released_is_reported_in_time(tmp_path: Path) -> None:
    """Another process in an endless transaction: writes fail saying so, reads go on, and all is
    well once it ends.
    """
    path = tmp_path / "s.db"
    store = SQLiteStore(path, busy_timeout=0.2)
    await store.create("s")
    lease = await store.claim("s")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with anyio.fail_after(10):
        with pytest.raises(StoreUnavailable, match=r"locked by another process for 0\.2 s"):
            await say(store, lease, 0, "kept out")
        assert await store.read("s") == []
        other.execute("ROLLBACK")
        other.close()
        assert await say(store, lease, 0, "in time") == 1
    await store.aclose()


# ── file systems ──────────────────────────────────────────────────────────────────────────────────

_MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
23 22 0:30 / /data rw shared:7 - nfs4 server:/data rw
24 23 0:31 / /data/local\\040disk rw - xfs /dev/vdb rw
25 22 0:32 / /mnt rw - tmpfs none rw
26 22 0:33 / /mnt rw - virtiofs share rw
"""


@pytest.mark.parametrize(
    ("path", "filesystem"),
    [
        ("/var/s.db", "ext4"),
        ("/data/s.db", "nfs4"),
        ("/datastore/s.db", "ext4"),
        ("/data/local disk/s.db", "xfs"),
        ("/mnt/s.db", "virtiofs"),
    ],
)
def test_the_file_system_of_a_path_is_that_of_its_deepest_mount(path: str, filesystem: str) -> None:
    """Names with spaces, nested mounts, and one mount on top of another."""
    assert filesystem_of(path, _MOUNTS) == filesystem


def test_a_network_file_system_is_refused_d02(tmp_path: Path) -> None:
    """Where the write-ahead log would corrupt, nothing is created (D02)."""
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(f"22 1 0:30 / {tmp_path} rw - nfs4 server:/ rw\n")
    path = tmp_path / "s.db"
    if sys.platform == "linux":
        with pytest.raises(StoreUnavailable, match=r"lies on nfs4.*local disk"):
            connect(Settings(str(path), mountinfo=str(mountinfo)))
        assert not path.exists()


def _change(path: Path, statement: str, *values: object) -> None:
    """Does to a file what no store would."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(statement, values)
    connection.close()
