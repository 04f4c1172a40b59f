"""A session as a file of JSON Lines, sealed by a digest, or by a key that only its owners have.

    {"type":"header", …}     what it is, and of which session
    {"type":"record", …}     one line a record, in order
    {"type":"item", …}       what waits in the inbox
    {"type":"output", …}     a large output of a tool, whole
    {"type":"end", …}        how much there is, and the digest of all bytes before this line

With a key the digest is an HMAC: nobody else can alter a pending call or an approval. All of it is
data. Nothing in a file is ever executed.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio.to_thread
import msgspec
from msgspec import Struct

from power_loop.errors import SessionNotFound, UsageError
from power_loop.events import Stamped, is_record
from power_loop.history.branch import forked
from power_loop.history.storing import Fill, store_new
from power_loop.history.unpacking import (
    FORMAT,
    VERSION,
    ArchivedItem,
    ArchivedOutput,
    ArchivedRecord,
    End,
    Header,
    unpacked,
)
from power_loop.runtime.artifacts.base import ArtifactStore, artifacts_of
from power_loop.runtime.stores.base import InboxItem, SessionInfo, Store
from power_loop.session.records import MessageAppended

__all__ = ["export_session", "import_session"]

_PAGE = 2000


async def export_session(
    store: Store,
    session_id: str,
    path: Path | str,
    *,
    key: bytes | None = None,
    artifacts: ArtifactStore | None = None,
) -> int:
    """Writes a session into a file, in place of one that is there; returns how many records.

    The file appears when it is complete. A session may go on meanwhile: what it had stored by then
    is written, to the last whole step.

    Args:
        store: where the session lives.
        session_id: the session.
        path: the file.
        key: seals the file, so that only who has the key can alter it unnoticed.
        artifacts: where its large outputs are, if they are not in the store.

    Raises:
        SessionNotFound: there is none of that id.
        UsageError: the key is empty, or the session is.
        OSError: the file cannot be written.
    """
    _check_key(key)
    # Before the records: an item that is delivered meanwhile is told by them, and not twice.
    items = await store.inbox(session_id)
    info = await store.info(session_id)
    if not info.seq:
        raise UsageError(f"session {session_id!r} has no records yet")
    # After what says how many records are written: these tell of no other outputs.
    kept = artifacts_of(store, artifacts)
    handles = () if kept is None else await kept.list_artifacts(session_id)
    target = Path(path)
    draft = target.with_name(f".{target.name}.{uuid4().hex[:8]}")
    writer = _Writer(draft, key)
    try:
        await anyio.to_thread.run_sync(writer.begin, info, VERSION if handles else 1)
        while writer.seq < info.seq:
            page = await store.read(session_id, writer.seq, min(_PAGE, info.seq - writer.seq))
            await anyio.to_thread.run_sync(writer.add, page)
        await anyio.to_thread.run_sync(writer.add_items, items)
        for handle in handles:
            assert kept is not None
            page = await kept.read_artifact(session_id, handle)
            await anyio.to_thread.run_sync(writer.add_output, handle, page.text)
        await anyio.to_thread.run_sync(writer.end, target)
    finally:
        writer.close()
        draft.unlink(missing_ok=True)
    return writer.seq


async def import_session(
    store: Store,
    path: Path | str,
    *,
    key: bytes | None = None,
    as_id: str | None = None,
    artifacts: ArtifactStore | None = None,
) -> str:
    """Stores the session of a file that `export_session` wrote; returns its id.

    All of the file is checked, also by the rules of a session, before anything is stored.

    Args:
        store: where it is to live.
        path: the file.
        key: with which the file was sealed; None if it was not.
        as_id: another id; the session is then a fork of the one in the file.
        artifacts: where its large outputs are to be, if not in the store. If that keeps none, they
            are left out.

    Raises:
        ArchiveInvalid: the file is cut short, altered, not ours, of a newer version, or sealed
            otherwise than `key` says; nothing was stored.
        UsageError: a session of that id is there already, or the key is empty.
        OSError: the file cannot be read.
    """
    _check_key(key)
    archive = await anyio.to_thread.run_sync(unpacked, Path(path), key)
    session_id = archive.header.session if as_id is None else as_id
    await _check_free(store, session_id)
    stamped = archive.stamped
    if session_id != archive.header.session:
        records = [each.event for each in stamped if is_record(each.event)]
        stamped = forked(archive.header.session, stamped, records, session_id, time.time())
    header = archive.header
    kept = artifacts_of(store, artifacts)
    fill = None if kept is None else Fill(kept, texts=archive.outputs)
    made = header.metadata, header.created
    await store_new(store, session_id, stamped, *made, archive.items, fill)
    return session_id


def _check_key(key: bytes | None) -> None:
    if key is not None and not key:
        raise UsageError("a key must not be empty: anybody could seal a file with it")


async def _check_free(store: Store, session_id: str) -> None:
    try:
        await store.info(session_id)
    except SessionNotFound:
        return
    raise UsageError(f"there is a session {session_id!r} already; give this one another id")


class _Writer:
    """Writes an archive, line by line."""

    def __init__(self, path: Path, key: bytes | None) -> None:
        self.seq = 0
        self._path = path
        self._key = key
        self._digest: Any = sha256() if key is None else hmac.new(key, digestmod=sha256)
        self._file: Any = None
        self._delivered: set[str] = set()
        self._items = 0
        self._outputs = 0

    def begin(self, info: SessionInfo, version: int) -> None:
        self._file = self._path.open("xb")
        metadata: Mapping[str, str] = info.metadata
        signed = self._key is not None
        self._write(Header(FORMAT, version, info.id, signed, info.created, dict(metadata)))

    def add(self, page: Iterable[Stamped]) -> None:
        for each in page:
            assert is_record(each.event)
            self._write(ArchivedRecord(each.seq, each.at, each.run, each.round, each.event))
            self.seq = each.seq
            if isinstance(each.event, MessageAppended) and each.event.item:
                self._delivered.add(each.event.item)

    def add_items(self, items: Iterable[InboxItem]) -> None:
        for item in items:
            if item.id not in self._delivered:
                self._write(ArchivedItem(item.item))
                self._items += 1

    def add_output(self, handle: str, text: str) -> None:
        self._write(ArchivedOutput(handle, text))
        self._outputs += 1

    def end(self, target: Path) -> None:
        end = End(self.seq, self._items, self._digest.hexdigest(), self._outputs)
        self._file.write(_line(end))
        self._file.close()
        self._path.replace(target)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _write(self, value: Struct) -> None:
        line = _line(value)
        self._digest.update(line)
        self._file.write(line)


def _line(value: Struct) -> bytes:
    return msgspec.json.encode(value) + b"\n"
