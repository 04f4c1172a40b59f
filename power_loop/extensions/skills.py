"""Skills: the model knows their names, and reads what it needs when it needs it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Self

from msgspec import Struct
from pydantic import Field

from power_loop.agent.extensions import Extension
from power_loop.agent.system_prompt import PromptContext, Section
from power_loop.errors import ToolError
from power_loop.extensions.skill_folders import SKILL_FILE, Skill, SkillFolders, SkillProblem
from power_loop.log import logger
from power_loop.tools.base import Tool
from power_loop.tools.builtin.reading import page
from power_loop.tools.function import tool

__all__ = ["Skills"]

_VARIABLE = "POWER_LOOP_SKILLS_DIR"
_TOLD = 40_000

_INTRODUCTION = """\
# Skills
A skill is a folder with instructions for one kind of task. When a task fits one of these, call \
load_skill with its name before you begin, and do as it says. Files that it speaks of are read \
with read_skill_file."""

Count = Annotated[int, Field(ge=1)]


class Skills(Extension):
    """Skills from directories of `*/SKILL.md`, in the format that other agents' skills have.

    The model is told their names and descriptions. `load_skill` gives it the instructions of one,
    and `read_skill_file` what else is in its folder, which no path leads out of. A skill that
    cannot be used is left out, with a warning; `problems` says why. Of two with one name, the one
    in the directory that was given first counts.
    """

    name = "skills"

    def __init__(self, *directories: str | os.PathLike[str]) -> None:
        """Reads the directories.

        Raises:
            UsageError: one of them does not exist or cannot be read, PyYAML is not installed, or
                this is no POSIX system.
        """
        self._directories = tuple([SkillFolders(directory) for directory in directories])
        self._known = _Known()
        self.reload()

    @classmethod
    def from_env(cls) -> Self:
        """Skills from the directories in POWER_LOOP_SKILLS_DIR, which are parted as in PATH; none
        if it is not set.

        Raises:
            UsageError: one of them does not exist or cannot be read.
        """
        given = os.environ.get(_VARIABLE, "")
        return cls(*[directory for directory in given.split(os.pathsep) if directory])

    @property
    def found(self) -> Mapping[str, Skill]:
        """The skills that can be used, by name."""
        return MappingProxyType({name: skill for name, (skill, _) in self._known.skills.items()})

    @property
    def problems(self) -> tuple[SkillProblem, ...]:
        """Why others were left out."""
        return self._known.problems

    def reload(self) -> None:
        """Reads the directories again. Runs that open from now on are told of what is there now;
        one that is under way keeps the names that it was told, and its log has them.

        Raises:
            UsageError: a directory is gone or cannot be read; all is as it was.
        """
        skills: dict[str, tuple[Skill, SkillFolders]] = {}
        problems: list[SkillProblem] = []
        for folders in self._directories:
            for found in folders.look():
                if isinstance(found, SkillProblem):
                    problems.append(found)
                elif found.name in skills:
                    first = skills[found.name][0].folder
                    problems.append(
                        SkillProblem(found.folder, "shadowed", f"{first} comes first in the list")
                    )
                else:
                    skills[found.name] = found, folders
        problems += _left_out(skills)
        for problem in problems:
            logger.warning("a skill was left out: %s", problem)
        self._known = _Known(dict(sorted(skills.items())), tuple(problems))

    def tools(self) -> Sequence[Tool]:
        """Two tools, if there are directories."""
        return (self.load_skill, self.read_skill_file) if self._directories else ()

    def prompt_sections(self) -> Sequence[Section]:
        """Names and descriptions, where the tools are."""
        return (Section(self.name, self._listed),)

    @tool(idempotent=True)
    def load_skill(self, name: str) -> str:
        """Gives the instructions of a skill, and the names of its other files.

        Args:
            name: one of the skills that you were told of.
        """
        skill, folders = self._skill(name)
        body = folders.body(skill)
        needs = skill.about.compatibility
        said = [f'<skill name="{name}" folder="{skill.folder}">', body, "</skill>"]
        if needs:
            said.insert(1, f"It needs: {needs}\n")
        files, all_of_them = folders.files(skill)
        if files:
            more = "" if all_of_them else "\n(and more)"
            said.append("\n".join(["Its other files, for read_skill_file:", *files]) + more)
        return "\n".join(said)

    @tool(idempotent=True)
    def read_skill_file(self, name: str, path: str, offset: Count = 1, limit: Count = 500) -> str:
        """Reads a text file of a skill. Each line is shown behind its number and a tab.

        Args:
            name: the skill.
            path: the file, relative to the skill's folder.
            offset: the number of the first line to show.
            limit: how many lines to show at most.
        """
        skill, folders = self._skill(name)
        return page(folders.text(skill, path), path, offset, limit)

    def _skill(self, name: str) -> tuple[Skill, SkillFolders]:
        known = self._known.skills
        if name not in known:
            raise ToolError(f"there is no skill {name!r}; there are: {', '.join(known) or 'none'}")
        return known[name]

    def _listed(self, context: PromptContext) -> str:
        can_load = any(spec.name == self.load_skill.name for spec in context.tools)
        skills = self._known.skills.values()
        lines = [_line(skill) for skill, _ in skills]
        return "\n".join([_INTRODUCTION, *lines]) if lines and can_load else ""


class _Known(Struct, frozen=True):
    skills: Mapping[str, tuple[Skill, SkillFolders]] = {}
    problems: tuple[SkillProblem, ...] = ()


def _line(skill: Skill) -> str:
    return f"- {skill.name}: {' '.join(skill.about.description.split())}"


def _left_out(skills: dict[str, tuple[Skill, SkillFolders]]) -> list[SkillProblem]:
    """Takes out those that a model would be told too much with."""
    problems: list[SkillProblem] = []
    told = 0
    for name, (skill, _) in list(skills.items()):
        told += len(_line(skill)) + 1
        if told > _TOLD:
            del skills[name]
            reason = f"the skills before it have {_TOLD:,} characters of descriptions; shorten them"
            problems.append(SkillProblem(skill.folder / SKILL_FILE, "too_many", reason))
    return problems
