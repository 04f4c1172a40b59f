"""Reading an archive: first its seal, then what is in it, and nothing on trust."""

from __future__ import annotations

import hmac
from collections.abc import Generator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec
from msgspec import Struct

from power_loop.errors import ArchiveInvalid, UsageError
from power_loop.events import Stamped
from power_loop.runtime.artifacts.base import check_artifact
from power_loop.runtime.stores.base import CancelRequested, Steer
from power_loop.session.machine import IllegalRecord, Session
from power_loop.session.records import Record

__all__ = [
    "FORMAT",
    "VERSION",
    "Archive",
    "ArchivedItem",
    "ArchivedOutput",
    "ArchivedRecord",
    "End",
    "Header",
    "unpacked",
]

T = TypeVar("T")

FORMAT = "power_loop session"
VERSION = 2
"""Of a file that has large outputs; one without them is of version 1, which older programs read."""
_HEADER_LIMIT = 1_000_000
"""Bytes; a first line that is longer is no header of ours."""


class Header(Struct, frozen=True, tag="header"):
    """What the file is. `signed`: it is sealed with a key. `created`: seconds since the epoch."""

    format: str
    version: int
    session: str
    signed: bool
    created: float
    metadata: dict[str, str]


class ArchivedRecord(Struct, frozen=True, tag="record"):
    """A record with its place; see `Stamped`."""

    seq: int
    at: float
    run: str
    round: int
    record: Record


class ArchivedItem(Struct, frozen=True, tag="item"):
    """What waits in the inbox."""

    item: Steer | CancelRequested


class ArchivedOutput(Struct, frozen=True, tag="output"):
    """A large output of a tool, by its handle."""

    handle: str
    text: str


class End(Struct, frozen=True, omit_defaults=True, tag="end"):
    """How much there is. `digest`: SHA-256 of all bytes before this line, or HMAC-SHA256."""

    records: int
    items: int
    digest: str
    outputs: int = 0


class Archive(Struct, frozen=True):
    """A session, as a file had it."""

    header: Header
    stamped: list[Stamped]
    items: list[Steer | CancelRequested]
    outputs: dict[str, str]


class _Version(Struct):
    """What every version of the header has."""

    format: str
    version: int
    signed: bool


def unpacked(path: Path, key: bytes | None) -> Archive:
    """Reads and checks an archive.

    Raises:
        ArchiveInvalid: it is not one, or not as it was written.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        reader = _Reader(path, file)
        reader.check_header(key)
        end, lines = reader.check_seal(key)
        return reader.contents(end, lines)


class _Reader:
    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file

    def _bad(self, why: str, line: int | None = None) -> ArchiveInvalid:
        where = "" if line is None else f", line {line}"
        return ArchiveInvalid(f"{str(self._path)!r}{where}: {why}")

    def check_header(self, key: bytes | None) -> None:
        line = self._file.readline(_HEADER_LIMIT)
        try:
            found = msgspec.json.decode(line, type=_Version)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise self._bad("this is not an archive of a session") from error
        if found.format != FORMAT:
            raise self._bad("this is not an archive of a session")
        if found.version > VERSION:
            raise self._bad(
                f"it was written by a newer version (format {found.version}, known: {VERSION}); "
                "update this program"
            )
        if found.signed and key is None:
            raise self._bad("it is sealed with a key; give that key")
        if not found.signed and key is not None:
            raise self._bad("it is not sealed with a key, so it may be anybody's; give no key")

    def check_seal(self, key: bytes | None) -> tuple[End, int]:
        """What the last line says, and how many come before it."""
        digest: Any = sha256() if key is None else hmac.new(key, digestmod=sha256)
        self._file.seek(0)
        last, lines = b"", 0
        for line in self._file:
            if last:
                digest.update(last)
                lines += 1
            last = line
        try:
            end = msgspec.json.decode(last, type=End)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise self._bad("it is cut short: its last line is missing", lines + 1) from error
        if msgspec.json.encode(end) + b"\n" != last:
            raise self._bad("its last line is not as it was written", lines + 1)
        if not hmac.compare_digest(end.digest.encode(), digest.hexdigest().encode()):
            how = "its seal does not fit: it was altered, or the key is another one"
            raise self._bad("its digest does not fit: it was altered" if key is None else how)
        return end, lines

    def contents(self, end: End, lines: int) -> Archive:
        self._file.seek(0)
        number = 0
        with self._typed(1):
            header = msgspec.json.decode(self._file.readline(), type=Header)
        entries = msgspec.json.Decoder(ArchivedRecord | ArchivedItem | ArchivedOutput)
        session = Session(header.session)
        stamped: list[Stamped] = []
        items: list[Steer | CancelRequested] = []
        outputs: dict[str, str] = {}
        for number, line in zip(range(2, lines + 1), self._file, strict=False):
            with self._typed(number):
                entry = entries.decode(line)
            if isinstance(entry, ArchivedItem):
                items.append(entry.item)
                continue
            if isinstance(entry, ArchivedOutput):
                with self._typed(number):
                    check_artifact(entry.handle, entry.text)
                outputs[entry.handle] = entry.text
                continue
            if entry.seq != len(stamped) + 1 or items:
                raise self._bad(f"record {entry.seq} is out of order", number)
            try:
                session.apply(entry.record)
            except IllegalRecord as error:
                raise self._bad(f"this cannot have happened: {error}", number) from error
            stamped.append(_stamped(header.session, entry))
        if (len(stamped), len(items), len(outputs)) != (end.records, end.items, end.outputs):
            raise self._bad(
                f"it says that it has {end.records} records and {end.items} items, "
                f"and {end.outputs} outputs"
            )
        if not stamped:
            raise self._bad("it has no records")
        return Archive(header, stamped, items, outputs)

    @contextmanager
    def _typed(self, number: int) -> Generator[None]:
        try:
            yield
        except (msgspec.DecodeError, UsageError, ValueError, RecursionError) as error:
            raise self._bad(f"this is no line of an archive: {error}", number) from error


def _stamped(session: str, entry: ArchivedRecord) -> Stamped:
    return Stamped(
        session, entry.seq, 0, session, 0, entry.at, entry.run, entry.round, entry.record
    )
