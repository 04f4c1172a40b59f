"""A directory tree that tools may not leave: reading, writing and looking around in it."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from msgspec import Struct

from power_loop.errors import ToolError, UsageError
from power_loop.tools.builtin.paths import (
    DIRECTORY,
    NO_FOLLOW,
    Entry,
    need_posix,
    shown,
    told_errors,
    walk_to,
)

__all__ = ["IGNORED", "Found", "Workspace", "is_binary"]

IGNORED = frozenset({".git", ".hg", ".svn", "__pycache__", "node_modules"})
"""Directories that searches do not enter. Naming one of them as the place to search does."""

_FILE = os.O_RDONLY | NO_FOLLOW | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_FOLLOW
_CLOEXEC: int = getattr(os, "O_CLOEXEC", 0)
_SNIFFED = 8_192
_REMEMBERED = 10_000
_DEEPEST = 64

_KINDS = (
    (stat.S_ISREG, "file"),
    (stat.S_ISDIR, "directory"),
    (stat.S_ISLNK, "link"),
    (stat.S_ISFIFO, "named pipe"),
    (stat.S_ISSOCK, "socket"),
)


class Found(Struct, frozen=True):
    """One entry met while looking around. `directory` is open only until the next one is met."""

    parts: tuple[str, ...]
    kind: str
    size: int
    changed: int
    directory: int
    depth: int

    @property
    def path(self) -> str:
        """Where it is, relative to the workspace."""
        return shown(self.parts)


class Workspace:
    """A directory that tools are confined to. Links are followed only where they stay inside.

    It remembers which files have been read, so that none is edited unseen. Safe to use from several
    threads.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        """Raises UsageError if `root` is no directory, or on a system that is not POSIX."""
        need_posix()
        given = os.path.abspath(root)  # noqa: PTH100  # a Path would be resolved on the way
        self.root = Path(given).resolve()
        if not self.root.is_dir():
            raise UsageError(f"the workspace {given!r} is no directory; create it first")
        self._roots = (str(self.root), given)
        self._seen: dict[tuple[str, ...], bytes] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Workspace({str(self.root)!r})"

    @contextmanager
    def entry(self, path: str, doing: str, *, make: bool = False) -> Generator[Entry]:
        """Walks to a path, which may not exist. Errors of the system become ToolErrors.

        Args:
            path: relative, `@workspace/…`, or absolute inside the workspace.
            doing: what for, in a word: "read".
            make: create the directories on the way.
        """
        with told_errors(path, doing), walk_to(self.root, self._roots, path, make=make) as entry:
            yield entry

    def read(self, entry: Entry, limit: int) -> bytes:
        """All bytes of a regular file.

        Raises:
            ToolError: it is no regular file, or is longer than `limit` bytes.
            OSError: the system refuses.
        """
        return self.read_at(entry.directory, entry.name, shown(entry.parts), limit)

    def read_at(self, directory: int, name: str, path: str, limit: int) -> bytes:
        """As `read`, for a name in an open directory."""
        _need_file(os.stat(name, dir_fd=directory, follow_symlinks=False), path)
        descriptor = os.open(name, _FILE | _CLOEXEC, dir_fd=directory)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            _need_file(status, path)
            # As much as it holds, and not a buffer of the size allowed for each small file.
            data = file.read(min(status.st_size, limit) + 1)
        size = max(status.st_size, len(data))
        if size > limit:
            raise ToolError(f"{path!r} is too large: {size:,} bytes, {limit:,} are allowed here")
        return data

    def write(self, entry: Entry, data: bytes, *, same_as: bytes | None = None) -> bool:
        """Puts a file in place, whole or not at all. Returns whether it is new.

        Args:
            entry: where.
            data: what.
            same_as: what the file must still hold; None for whatever it holds.

        Raises:
            ToolError: there is something that is no regular file, or the file has changed.
            OSError: the system refuses.
        """
        path = shown(entry.parts)
        if entry.name == ".":
            raise ToolError(f"{path!r} is a directory, not a file")
        mode = _mode_of(entry, path)
        if mode is None and entry.from_link:
            raise ToolError(f"{path!r} does not exist, and no file is created through a link")
        temporary = f".{secrets.token_hex(8)}.tmp"
        try:
            self._fill(entry, temporary, data, mode)
            if same_as is not None:
                self._need_unchanged(entry, same_as)
            os.rename(temporary, entry.name, src_dir_fd=entry.directory, dst_dir_fd=entry.directory)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=entry.directory)
            raise
        self.saw(entry, data)
        return mode is None

    def _fill(self, entry: Entry, temporary: str, data: bytes, mode: int | None) -> None:
        descriptor = os.open(temporary, _NEW | _CLOEXEC, 0o666, dir_fd=entry.directory)
        with os.fdopen(descriptor, "wb") as file:
            if mode is not None:
                os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)

    def _need_unchanged(self, entry: Entry, data: bytes) -> None:
        try:
            same = self.read(entry, len(data)) == data
        except ToolError:
            same = False  # longer by now, or something else
        if not same:
            raise ToolError(f"{shown(entry.parts)!r} changed meanwhile; read it again")

    # ── what has been read ──

    def saw(self, entry: Entry, data: bytes) -> None:
        """Notes that the model knows this content of the file."""
        with self._lock:
            self._seen.pop(entry.parts, None)
            self._seen[entry.parts] = _digest(data)
            while len(self._seen) > _REMEMBERED:
                del self._seen[next(iter(self._seen))]

    def need_seen(self, entry: Entry, data: bytes) -> None:
        """Raises ToolError unless the file was read and still holds what was read."""
        path, known = shown(entry.parts), self._seen.get(entry.parts)
        if known is None:
            raise ToolError(f"read {path!r} with read_file before editing it")
        if known != _digest(data):
            raise ToolError(f"{path!r} has changed since it was read; read it again")

    # ── looking around ──

    def look(self, entry: Entry, depth: int, check: Callable[[], None]) -> Generator[Found]:
        """Everything below a directory, sorted by name, links not followed; a file is itself.

        Args:
            entry: where to begin.
            depth: levels to enter; 1 for the directory's own entries.
            check: called for each entry; may raise to stop.
        """
        status = os.stat(entry.name, dir_fd=entry.directory, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            yield _found(entry.parts, status, entry.directory, 0)
            return
        top = os.open(entry.name, DIRECTORY | NO_FOLLOW, dir_fd=entry.directory)
        yield from _below(top, entry.parts, min(depth, _DEEPEST), 1, check)


def _below(
    directory: int, parts: tuple[str, ...], depth: int, level: int, check: Callable[[], None]
) -> Generator[Found]:
    """Owns the descriptor `directory` and closes it."""
    try:
        for name in sorted(os.listdir(directory)):
            check()
            try:
                status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            except OSError:
                continue  # gone while we were looking
            found = _found((*parts, name), status, directory, level)
            yield found
            inner = _enter(directory, found) if level < depth else None
            if inner is not None:
                yield from _below(inner, found.parts, depth, level + 1, check)
    finally:
        os.close(directory)


def _enter(directory: int, found: Found) -> int | None:
    name = found.parts[-1]
    if found.kind != "directory" or name in IGNORED:
        return None
    try:
        return os.open(name, DIRECTORY | NO_FOLLOW, dir_fd=directory)
    except OSError:
        return None  # gone, swapped for a link, or closed to us


def _found(parts: tuple[str, ...], status: os.stat_result, directory: int, level: int) -> Found:
    return Found(parts, _kind(status.st_mode), status.st_size, status.st_mtime_ns, directory, level)


def _kind(mode: int) -> str:
    return next((name for test, name in _KINDS if test(mode)), "device")


def _need_file(status: os.stat_result, path: str) -> None:
    kind = _kind(status.st_mode)
    if kind == "directory":
        raise ToolError(f"{path!r} is a directory; use list_files")
    if kind != "file":
        raise ToolError(f"{path!r} is a {kind}, not a regular file")


def _mode_of(entry: Entry, path: str) -> int | None:
    """The permissions of the file that is there; None if there is none."""
    try:
        status = os.stat(entry.name, dir_fd=entry.directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    _need_file(status, path)
    return stat.S_IMODE(status.st_mode)


def is_binary(data: bytes) -> bool:
    """Whether bytes are no text: there is a NUL near the beginning."""
    return b"\0" in data[:_SNIFFED]


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
