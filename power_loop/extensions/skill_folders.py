"""Skills in a directory: which there are, what is wrong with others, and the files of each."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Literal

from msgspec import Struct

from power_loop import extensions
from power_loop.errors import ToolError, UsageError
from power_loop.extensions.front_matter import FrontMatter, FrontMatterInvalid, parted
from power_loop.tools.builtin.paths import Entry, parse_path, shown
from power_loop.tools.builtin.reading import READ_LIMIT, decode
from power_loop.tools.builtin.workspace import IGNORED, Found, Workspace, is_binary

__all__ = ["SKILL_FILE", "ProblemKind", "Skill", "SkillFolders", "SkillProblem"]

SKILL_FILE = "SKILL.md"

ProblemKind = Literal[
    "front_matter", "name", "too_large", "not_text", "outside", "unreadable", "shadowed", "too_many"
]

_BYTES = 64_000
_FOLDERS = 1_000
_FILES = 50
_ENTRIES = 1_000
_DEPTH = 4


class Skill(Struct, frozen=True):
    """Instructions for a kind of task.

    Attributes:
        about: what it says of itself.
        folder: where it is.
        parts: the same, from the directory that it was found in, with links resolved.
    """

    about: FrontMatter
    folder: Path
    parts: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its name, which is that of its folder."""
        return self.about.name


class SkillProblem(Struct, frozen=True):
    """Why a skill was left out.

    Attributes:
        path: its file or folder.
        kind: what is wrong, in a word: `front_matter` does not begin as it must; `name` is not that
            of its folder; `not_text` is no UTF-8, or binary; `outside` leads out of its directory;
            `shadowed` has the name of one that comes first; `too_many` is beyond what a model is
            told.
        reason: what is wrong, for people.
    """

    path: Path
    kind: ProblemKind
    reason: str

    def __str__(self) -> str:
        return f"{str(self.path)!r}: {self.reason}"


class SkillFolders:
    """The skills of one directory, which no path leads out of. Safe to use from several threads."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        """Opens nothing yet.

        Raises:
            UsageError: `directory` is none, PyYAML is missing, or this is no POSIX system.
        """
        _ = extensions.yaml_texts  # what is missing is said now, and not with the first skill
        if not Path(directory).is_dir():
            raise UsageError(
                f"the directory of skills {os.fspath(directory)!r} does not exist; create it, or "
                "leave it out"
            )
        self._workspace = Workspace(directory)

    @property
    def root(self) -> Path:
        """The directory."""
        return self._workspace.root

    def look(self) -> Iterator[Skill | SkillProblem]:
        """All skills by name, and what is wrong with folders that would be some.

        Raises:
            UsageError: the directory is gone, or cannot be read.
        """
        try:
            names = list(islice(self._names(), _FOLDERS + 1))
        except ToolError as error:
            raise UsageError(f"the skills in {str(self.root)!r}: {error}") from error
        for name in names[:_FOLDERS]:
            found = self._skill(name)
            if found is not None:
                yield found
        if len(names) > _FOLDERS:
            reason = f"there are more than {_FOLDERS:,} folders; those from {names[-1]!r} are left"
            yield SkillProblem(self.root, "too_many", f"{reason} out")

    def body(self, skill: Skill) -> str:
        """The instructions of a skill, as they are by now.

        Raises:
            ToolError: they cannot be read any more.
        """
        found = self._read("/".join((*skill.parts, SKILL_FILE)))
        if isinstance(found, SkillProblem) or found is None:
            raise ToolError(f"{SKILL_FILE}: {'it is gone' if found is None else found.reason}")
        try:
            return parted(found[0])[1]
        except FrontMatterInvalid as error:
            raise ToolError(f"{SKILL_FILE}: {error}") from error

    def text(self, skill: Skill, path: str) -> str:
        """A file of a skill's folder.

        Raises:
            ToolError: there is none, it leads out of the folder, or is no text.
        """
        parts = (*skill.parts, *parse_path(path, ()))
        try:
            with self._workspace.entry("/".join(parts), "read") as entry:
                _need_inside(entry, skill, path)
                data = self._workspace.read(entry, READ_LIMIT)
        except ToolError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise ToolError(f"there is no file {path!r} in the skill {skill.name!r}") from error
            raise
        return decode(data, path)

    def files(self, skill: Skill) -> tuple[list[str], bool]:
        """Names of the files beside the instructions, with their sizes, and whether that is all.

        Raises:
            ToolError: the folder cannot be read any more.
        """
        found: list[str] = []
        with closing(self._below("/".join(skill.parts), _DEPTH)) as below:
            for count, each in enumerate(below, 1):
                if len(found) == _FILES or count == _ENTRIES:
                    return found, False
                inside = each.parts[len(skill.parts) :]
                if each.kind == "file" and inside != (SKILL_FILE,):
                    found.append(f"{shown(inside)} ({each.size:,} bytes)")
        return found, True

    # ── looking ──

    def _names(self) -> Iterator[str]:
        for found in self._below(".", 1):
            name = found.parts[-1]
            hidden = name.startswith(".") or name in IGNORED
            if found.kind in ("directory", "link") and not hidden:
                yield name

    def _below(self, path: str, depth: int) -> Generator[Found]:
        with (
            self._workspace.entry(path, "search") as entry,
            closing(self._workspace.look(entry, depth, _never)) as met,
        ):
            yield from met

    def _skill(self, name: str) -> Skill | SkillProblem | None:
        path = self.root / name / SKILL_FILE
        found = self._read(f"{name}/{SKILL_FILE}")
        if found is None or isinstance(found, SkillProblem):
            return found
        text, parts = found
        try:
            about, _ = parted(text)
        except FrontMatterInvalid as error:
            return SkillProblem(path, "front_matter", str(error))
        if about.name != name:
            reason = f"it is named {about.name!r}, but its folder {name!r}; both must be the same"
            return SkillProblem(path, "name", reason)
        return Skill(about, self.root.joinpath(*parts[:-1]), parts[:-1])

    def _read(self, path: str) -> tuple[str, tuple[str, ...]] | SkillProblem | None:
        """The text of a skill's file, and where it really is; None if there is none."""
        where = self.root / path
        inside = False
        try:
            with self._workspace.entry(path, "read") as entry:
                inside = True
                if _size(entry) > _BYTES:
                    return SkillProblem(where, "too_large", f"it has over {_BYTES:,} bytes")
                data = self._workspace.read(entry, _BYTES)
                parts = entry.parts
        except ToolError as error:
            if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
                return None
            # What is refused on the way leads out, if it was not the system that refused.
            kind = "unreadable" if inside or error.__cause__ is not None else "outside"
            return SkillProblem(where, kind, str(error))
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            return SkillProblem(where, "not_text", f"it is no UTF-8, from byte {error.start} on")
        if is_binary(data):
            return SkillProblem(where, "not_text", "it is binary")
        return text.replace("\r\n", "\n"), parts


def _never() -> None:
    """Looking around is bounded by whoever looks."""


def _size(entry: Entry) -> int:
    status = os.stat(entry.name, dir_fd=entry.directory, follow_symlinks=False)
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def _need_inside(entry: Entry, skill: Skill, path: str) -> None:
    if entry.parts[: len(skill.parts)] != skill.parts:
        raise ToolError(f"{path!r} leads out of the folder of the skill {skill.name!r}")
    status = os.stat(entry.name, dir_fd=entry.directory, follow_symlinks=False)
    if stat.S_ISDIR(status.st_mode):
        raise ToolError(f"{path!r} is a directory; load_skill names the files")
