"""From a path that a model wrote to an open directory and a name in it, never outside the root.

A path is not checked and then opened: whoever can write in the tree could swap a directory for a
link in between. It is *walked*: each directory is opened relative to the one before it, without
following links, and what happens in the end happens relative to the last one. A link is read and
walked like a path, so links inside the workspace work and none leads out of it.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from power_loop.errors import ToolError, UsageError

__all__ = ["DIRECTORY", "Entry", "need_posix", "parse_path", "shown", "told_errors", "walk_to"]

PREFIX = "@workspace"

# Missing on Windows, where `need_posix` refuses before any of them is used.
NO_FOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
DIRECTORY: int = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_MOST_LINKS = 40
_NOWHERE = sys.maxsize


def need_posix() -> None:
    """Raises UsageError where the system cannot open files relative to a directory."""
    if not NO_FOLLOW or os.open not in os.supports_dir_fd:
        raise UsageError(
            "workspace tools need a POSIX system: this one cannot open files relative to a "
            "directory without following links, so nothing could be confined safely"
        )


def shown(parts: tuple[str, ...]) -> str:
    """A place in the workspace, for people and models. Names that are no text are made text."""
    return os.fsencode("/".join(parts)).decode("utf-8", "replace") or "."


def parse_path(path: str, roots: tuple[str, ...]) -> tuple[str, ...]:
    """The components of a path: relative, after `@workspace/`, or absolute below one of `roots`.

    Raises:
        ToolError: it is empty, has `..` or NUL in it, or is absolute and elsewhere.
    """
    if "\0" in path:
        raise ToolError("a path cannot contain a NUL character")
    try:
        os.fsencode(path)
    except UnicodeEncodeError as error:
        raise ToolError("the path is not valid text") from error
    if not path.strip():
        raise ToolError("the path is empty; use '.' for the workspace itself")
    rest = path
    if path == PREFIX or path.startswith(f"{PREFIX}/"):
        rest = path.removeprefix(PREFIX)
    elif path.startswith("/"):
        inside = below(path, roots)
        if inside is None:
            raise ToolError(
                f"{path!r} is outside the workspace; use a path relative to it, as 'notes/a.txt'"
            )
        rest = inside
    parts = tuple([part for part in rest.split("/") if part not in ("", ".")])
    if ".." in parts:
        raise ToolError(f"{path!r} contains '..'; name the place from the workspace's root")
    return parts


def below(path: str, roots: tuple[str, ...]) -> str | None:
    """What is left of an absolute path below one of `roots`; None if it is below none."""
    for root in roots:
        if path == root or path.startswith(f"{root.rstrip('/')}/"):
            return path[len(root) :]
    return None


class Entry:
    """A name in an open directory of the workspace. It may not exist; it was no link when met.

    Attributes:
        directory: the descriptor of the open directory.
        name: the name in it; "." for the directory itself.
        parts: where that is in the workspace, links resolved.
        from_link: whether the name comes out of a link. Such a name must not be created.
    """

    __slots__ = ("directory", "from_link", "name", "parts")

    def __init__(
        self, directory: int, name: str, parts: tuple[str, ...], *, from_link: bool
    ) -> None:
        self.directory = directory
        self.name = name
        self.parts = parts
        self.from_link = from_link


@contextmanager
def walk_to(
    root: Path, roots: tuple[str, ...], path: str, *, make: bool = False
) -> Generator[Entry]:
    """Walks to `path` and keeps the last directory open for as long as the context lasts.

    Args:
        root: the workspace, an absolute path without links.
        roots: the spellings of it that absolute paths may begin with.
        path: as the model wrote it.
        make: create directories that are missing on the way.

    Raises:
        ToolError: the path is refused, leads out of the workspace, or a directory is missing.
    """
    walk = _Walk(root, roots, path, make=make)
    try:
        yield walk.run(parse_path(path, roots))
    finally:
        walk.close()


class _Walk:
    def __init__(self, root: Path, roots: tuple[str, ...], path: str, *, make: bool) -> None:
        self.roots = roots
        self.path = path
        self.make = make
        self.open = [os.open(root, DIRECTORY)]
        self.names: list[str] = []
        self.todo: list[str] = []
        self.links = 0
        # While more than this is to do, the next name comes out of a link.
        self.floor = _NOWHERE

    def close(self) -> None:
        for descriptor in self.open:
            os.close(descriptor)

    def run(self, parts: tuple[str, ...]) -> Entry:
        self.todo = list(reversed(parts))
        while self.todo:
            name = self.todo.pop()
            from_link = len(self.todo) >= self.floor
            if not from_link:
                self.floor = _NOWHERE
            if name == "..":
                self._up()
            elif (target := self._link(name)) is not None:
                self._follow(target)
            elif self.todo:
                self._down(name, from_link=from_link)
            else:
                return Entry(self.open[-1], name, (*self.names, name), from_link=from_link)
        return Entry(self.open[-1], ".", tuple(self.names), from_link=False)

    def _link(self, name: str) -> str | None:
        try:
            return os.readlink(name, dir_fd=self.open[-1])
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return None  # no link, or nothing there
            raise

    def _follow(self, target: str) -> None:
        self.links += 1
        if self.links > _MOST_LINKS:
            raise ToolError(f"{self.path!r} goes through too many symbolic links")
        if target.startswith("/"):
            inside = below(target, self.roots)
            if inside is None:
                raise self._leaves()
            while self.names:
                self._up()
            target = inside
        self.floor = min(self.floor, len(self.todo))
        self.todo += [part for part in reversed(target.split("/")) if part not in ("", ".")]

    def _up(self) -> None:
        if not self.names:
            raise self._leaves()
        # Back to a directory that we came through, whatever its name leads to by now.
        self.names.pop()
        os.close(self.open.pop())

    def _down(self, name: str, *, from_link: bool) -> None:
        if self.make and not from_link:
            with suppress(FileExistsError):
                os.mkdir(name, dir_fd=self.open[-1])
        self.open.append(os.open(name, DIRECTORY | NO_FOLLOW, dir_fd=self.open[-1]))
        self.names.append(name)

    def _leaves(self) -> ToolError:
        return ToolError(f"{self.path!r} leaves the workspace through a symbolic link")


_REASONS = {
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the file system is read-only",
    errno.ENOSPC: "no space is left",
    errno.EDQUOT: "no space is left",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EISDIR: "it is a directory",
    errno.ENOTDIR: "a part of the path is no directory",
    errno.ELOOP: "it changed into a symbolic link meanwhile",
}


@contextmanager
def told_errors(path: str, doing: str) -> Generator[None]:
    """Turns what the system refuses into a ToolError that says so: "cannot read 'x': …"."""
    try:
        yield
    except FileNotFoundError as error:
        raise ToolError(
            f"cannot {doing} {path!r}: there is nothing of that name; list_files shows what is"
        ) from error
    except OSError as error:
        why = _REASONS.get(error.errno or 0) or error.strerror or "the system refused"
        raise ToolError(f"cannot {doing} {path!r}: {why}") from error
