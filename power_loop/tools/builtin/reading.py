"""Tools that look at a workspace and change nothing: list_files, read_file, glob, grep."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from contextlib import closing
from typing import Annotated, Any

from pydantic import Field

from power_loop.errors import ToolError
from power_loop.tools.builtin.matching import compile_pattern
from power_loop.tools.builtin.searching import Bounds, Matcher, Stopped, compile_regex
from power_loop.tools.builtin.workspace import Found, Workspace, is_binary
from power_loop.tools.context import ToolContext
from power_loop.tools.function import tool

__all__ = ["READ_LIMIT", "ReadingTools", "decode", "page"]

READ_LIMIT = 20_000_000
"""Bytes of the largest file that can be read or edited."""

_SEARCHED = 5_000_000
_LISTED = 200
_GLOBBED = 50
_LINE = 2_000
_OUTPUT = 200_000
_GREP_LINE = 10_000
_GREP_SHOWN = 300
_SECONDS = 10.0

Depth = Annotated[int, Field(ge=1, le=8)]
Count = Annotated[int, Field(ge=1)]


class ReadingTools:
    """The reading tools of one workspace."""

    def __init__(self, workspace: Workspace, *, seconds: float = _SECONDS) -> None:
        """`seconds` bounds one listing or search."""
        self._workspace = workspace
        self._seconds = seconds

    @tool(idempotent=True)
    def list_files(self, context: ToolContext[Any], path: str = ".", depth: Depth = 1) -> str:
        """Lists the files and directories in a directory of the workspace, with sizes in bytes.

        Args:
            context: this call.
            path: the directory, relative to the workspace; "." is the workspace itself.
            depth: how many levels to show; 1 shows the directory's own entries.
        """
        lines: list[str] = []
        note = ""
        try:
            for found in self._look(context, path, depth):
                if len(lines) == _LISTED:
                    note = f"(stopped after {_LISTED} entries; list a subdirectory)"
                    break
                lines.append(_listed(found))
        except Stopped as stopped:
            note = f"({stopped})"
        return "\n".join([*lines, note] if note else lines) or "(the directory is empty)"

    @tool(idempotent=True)
    def read_file(self, path: str, offset: Count = 1, limit: Count = 2_000) -> str:
        """Reads a text file of the workspace. Each line is shown behind its number and a tab.

        Args:
            path: the file, relative to the workspace.
            offset: the number of the first line to show.
            limit: how many lines to show at most.
        """
        workspace = self._workspace
        with workspace.entry(path, "read") as entry:
            data = workspace.read(entry, READ_LIMIT)
            text = decode(data, path)
            workspace.saw(entry, data)
        return page(text, path, offset, limit)

    @tool(idempotent=True)
    def glob(self, context: ToolContext[Any], pattern: str, path: str = ".") -> str:
        """Finds files by name, the most recently changed first, at most 50.

        Args:
            context: this call.
            pattern: such as "*.py" (at any depth) or "docs/**/*.md".
            path: the directory to search, relative to the workspace.
        """
        fits = compile_pattern(pattern)
        hits: list[tuple[int, str]] = []
        note = ""
        try:
            for found, inside in self._files(context, path):
                if fits(inside):
                    hits.append((found.changed, found.path))
        except Stopped as stopped:
            note = f"({stopped})"
        lines = [name for _, name in heapq.nlargest(_GLOBBED, hits)]
        if len(hits) > _GLOBBED:
            lines.append(f"({len(hits) - _GLOBBED} more; use a narrower pattern)")
        return "\n".join([*lines, note] if note else lines) or "(no file matches)"

    @tool(idempotent=True)
    def grep(
        self,
        context: ToolContext[Any],
        pattern: str,
        path: str = ".",
        include: str | None = None,
        *,
        ignore_case: bool = False,
        limit: Annotated[int, Field(ge=1, le=500)] = 50,
    ) -> str:
        """Searches the lines of text files with a regular expression. Shows `file:line: text`.

        Args:
            context: this call.
            pattern: the regular expression.
            path: the file or directory to search, relative to the workspace.
            include: search only files whose name matches this pattern, such as "*.py".
            ignore_case: take upper and lower case for the same.
            limit: how many lines to show at most.
        """
        matcher = compile_regex(pattern, ignore_case=ignore_case)
        fits = compile_pattern(include) if include else _anything
        search = _Search(self._workspace, matcher, Bounds(context, self._seconds), limit)
        try:
            for found, inside in self._files(context, path):
                if fits(inside):
                    search.file(found)
        except Stopped as stopped:
            search.notes.append(str(stopped))
        return search.told()

    def _files(
        self, context: ToolContext[Any], path: str
    ) -> Iterator[tuple[Found, tuple[str, ...]]]:
        """All files below a directory, each with its path from there; a file is itself."""
        base: int | None = None
        for found in self._look(context, path, 64):
            if base is None:
                base = len(found.parts) - max(found.depth, 1)
            if found.kind == "file":
                yield found, found.parts[base:]

    def _look(self, context: ToolContext[Any], path: str, depth: int) -> Iterator[Found]:
        bounds = Bounds(context, self._seconds)
        workspace = self._workspace
        with (
            workspace.entry(path, "search") as entry,
            closing(workspace.look(entry, depth, bounds.step)) as met,
        ):
            yield from met


class _Search:
    """One grep: what it has found, and what it had to leave out."""

    def __init__(self, workspace: Workspace, matcher: Matcher, bounds: Bounds, limit: int) -> None:
        self.workspace = workspace
        self.matcher = matcher
        self.bounds = bounds
        self.limit = limit
        self.lines: list[str] = []
        self.notes: list[str] = []
        self.large = 0

    def file(self, found: Found) -> None:
        self.bounds.context.check_cancelled()
        if found.size > _SEARCHED:
            self.large += 1
            return
        try:
            data = self.workspace.read_at(found.directory, found.parts[-1], found.path, _SEARCHED)
        except (OSError, ToolError):
            return  # gone, unreadable, or no file any more
        if is_binary(data):
            return
        text = data.decode("utf-8-sig", "replace")
        for number, line in enumerate(text.split("\n"), 1):
            if self.hit(line[:_GREP_LINE]):
                self.lines.append(f"{found.path}:{number}: {_cut(line.rstrip(), _GREP_SHOWN)}")
                if len(self.lines) == self.limit:
                    raise Stopped(f"stopped after {self.limit} matches; there may be more")

    def hit(self, line: str) -> bool:
        left = self.bounds.left()
        try:
            return self.matcher.search(line, timeout=left, concurrent=True) is not None
        except TimeoutError as error:
            raise Stopped(
                f"stopped after {self.bounds.seconds:g} s: the pattern takes too long; simplify it"
            ) from error

    def told(self) -> str:
        if self.large:
            self.notes.append(f"left out {self.large} files of more than {_SEARCHED:,} bytes")
        notes = [f"({note})" for note in self.notes]
        return "\n".join([*self.lines, *notes] if self.lines else ["(no match)", *notes])


def decode(data: bytes, path: str) -> str:
    """The text of a file, without a byte order mark; bytes that are no UTF-8 become U+FFFD.

    Raises:
        ToolError: it is binary.
    """
    if is_binary(data):
        raise ToolError(f"{path!r} is binary ({len(data):,} bytes) and cannot be shown as text")
    return data.decode("utf-8-sig", "replace")


def page(text: str, path: str, offset: int, limit: int) -> str:
    """Lines of a file behind their numbers, and how to go on where that is not all of it.

    Raises:
        ToolError: there is no line `offset`.
    """
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    if not lines:
        return "(the file is empty)"
    if offset > len(lines):
        raise ToolError(f"{path!r} has {len(lines)} lines; offset {offset} is behind its end")
    return _numbered(lines, offset, limit)


def _anything(_path: tuple[str, ...]) -> bool:
    return True


def _listed(found: Found) -> str:
    if found.kind == "directory":
        return f"{found.path}/"
    if found.kind == "file":
        return f"{found.path}  {found.size:,}"
    return f"{found.path}  ({found.kind})"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}… ({len(text) - length:,} more)"


def _numbered(lines: list[str], offset: int, limit: int) -> str:
    shown_lines: list[str] = []
    size = 0
    last = offset - 1
    for number, line in enumerate(lines[offset - 1 : offset - 1 + limit], offset):
        text = f"{number:>6}\t{_cut(line.removesuffix(chr(13)), _LINE)}"
        size += len(text) + 1
        if size > _OUTPUT:
            break
        shown_lines.append(text)
        last = number
    left = len(lines) - last
    if left:
        shown_lines.append(
            f"({left:,} more lines, {len(lines):,} in all; go on with offset={last + 1})"
        )
    return "\n".join(shown_lines)
