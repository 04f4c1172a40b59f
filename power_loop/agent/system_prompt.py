"""The system prompt: named sections in their order, what stays the same before what may change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self, cast

from msgspec import Struct
from msgspec.structs import replace

from llm_client.types import Text, ToolSpec
from power_loop.agent import prompt_texts
from power_loop.errors import UsageError
from power_loop.session.text import is_sound, repaired_text

__all__ = [
    "PromptContext",
    "Section",
    "SystemPrompt",
    "as_recorded",
    "as_system_prompt",
    "checked_sections",
    "with_dynamic",
]

_BREAK = "\n\n"
_SHOWN = 40


class PromptContext(Struct, frozen=True, kw_only=True):
    """What a section may go by, as a run opens.

    Attributes:
        session_id: the run's session.
        model: the model that is asked first.
        tools: what the model can call.
        depth: how far the run is below another one, whose sub-agent it is; 0 for a run of its own.
        deps: what the caller of `send` passed.
    """

    session_id: str
    model: str
    tools: tuple[ToolSpec, ...] = ()
    depth: int = 0
    deps: Any = None


class Section(Struct, frozen=True):
    """A part of the system prompt.

    Attributes:
        name: unique in its prompt; the model is not told it.
        text: what is said. A function is asked once for each run, as it opens, and must answer at
            once; if it answers with nothing, the section is left out. What it says stands behind
            all that is fixed, so that a provider's cache holds as much as it can.

    Raises:
        UsageError: the name is no text or blank, or the text is neither a function nor a text that
            can be sent.
    """

    name: str
    text: str | Callable[[PromptContext], str]

    def __post_init__(self) -> None:
        name = cast("object", self.name)
        if not isinstance(name, str) or not name.strip():
            raise UsageError(f"a section of the system prompt needs a name, not {name!r}")
        text = cast("object", self.text)
        if isinstance(text, str):
            fits = bool(text.strip()) and is_sound(Text(text))
        else:
            fits = callable(text)
        if not fits:
            raise UsageError(
                f"the section {name!r} must be a text, without NUL and lone surrogates, or a "
                "function that gives one"
            )

    @property
    def is_dynamic(self) -> bool:
        """Whether what it says is found out for each run."""
        return not isinstance(self.text, str)

    def said(self, context: PromptContext) -> str:
        """What it says to a run; "" for nothing.

        Raises:
            UsageError: its function raised, or gave no text.
        """
        if isinstance(self.text, str):
            return self.text
        try:
            text = cast("object", self.text(context))
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
            raise UsageError(f"the section {self.name!r} of the system prompt: {told}") from error
        if not isinstance(text, str):
            raise UsageError(
                f"the section {self.name!r} of the system prompt must give a text, "
                f"not a value of type {type(text).__name__}"
            )
        return repaired_text(text) if text.strip() else ""

    def __str__(self) -> str:
        """Its beginning, for whoever looks for it."""
        if not isinstance(self.text, str):
            return getattr(self.text, "__qualname__", repr(self.text))
        start = self.text[:_SHOWN]
        return repr(start if start == self.text else f"{start}…")


class SystemPrompt(Struct, frozen=True):
    """A system prompt of named sections. Each method gives a new one::

        prompt = SystemPrompt.main().use(Section("identity", "You are Ann's gardener."))

    Attributes:
        sections: in their order; fixed ones are sent before those that are found out for each run.

    Raises:
        UsageError: two sections have one name, or something is no section.
    """

    sections: tuple[Section, ...] = ()

    def __post_init__(self) -> None:
        checked_sections("SystemPrompt.sections", self.sections)

    def add(self, section: Section, *, before: str | None = None, after: str | None = None) -> Self:
        """With one section more: at the end, or beside the one that is named.

        Raises:
            UsageError: there is a section of that name, none to stand beside, or two of them.
        """
        if before is not None and after is not None:
            raise UsageError(f"add {section.name!r} before {before!r} or after {after!r}, not both")
        place = len(self.sections)
        if before is not None:
            place = self._place(before)
        elif after is not None:
            place = self._place(after) + 1
        return replace(self, sections=(*self.sections[:place], section, *self.sections[place:]))

    def use(self, *sections: Section) -> Self:
        """With these in the places of those of the same names; at the end where there is none.

        Raises:
            UsageError: two of them have one name, or something is no section.
        """
        checked_sections("SystemPrompt.use", sections)
        given = {section.name: section for section in sections}
        old = [given.pop(section.name, section) for section in self.sections]
        return replace(self, sections=(*old, *given.values()))

    def remove(self, *names: str) -> Self:
        """Without the sections of these names.

        Raises:
            UsageError: there is none of a name.
        """
        places = {self._place(name) for name in names}
        kept = [section for at, section in enumerate(self.sections) if at not in places]
        return replace(self, sections=tuple(kept))

    def build(self, context: PromptContext) -> str:
        """The text that a run gets; "" if nothing is said.

        Raises:
            UsageError: the function of a section failed.
        """
        return with_dynamic(self.fixed, self.dynamic, context) or ""

    @property
    def fixed(self) -> str | None:
        """What all runs are told; None for nothing."""
        return _joined([section.text for section in self.sections if isinstance(section.text, str)])

    @property
    def dynamic(self) -> tuple[Section, ...]:
        """The sections that are found out for each run."""
        return tuple([section for section in self.sections if section.is_dynamic])

    @classmethod
    def main(cls) -> Self:
        """For an agent of one's own: identity, style, workflow, security, tool_guide, paths.

        `paths` speaks only where there are tools for files. Extensions bring what their own tools
        need, as `todo_discipline` and `skills`.
        """
        return cls(
            (
                Section("identity", prompt_texts.MAIN_IDENTITY),
                Section("style", prompt_texts.STYLE),
                Section("workflow", prompt_texts.WORKFLOW),
                *_COMMON,
            )
        )

    @classmethod
    def sub_agent(cls) -> Self:
        """For a `SubAgent`: its answer is all that is heard of it. Sections as in `main`."""
        return cls(
            (
                Section("identity", prompt_texts.SUB_AGENT_IDENTITY),
                Section("style", prompt_texts.ANSWER),
                Section("workflow", prompt_texts.WORKFLOW),
                *_COMMON,
            )
        )

    @classmethod
    def explore(cls) -> Self:
        """For a `SubAgent` that only looks. Sections as in `main`."""
        return cls(
            (
                Section("identity", prompt_texts.EXPLORE_IDENTITY),
                Section("style", prompt_texts.ANSWER),
                Section("workflow", prompt_texts.EXPLORE_WORKFLOW),
                *_COMMON,
            )
        )

    def _place(self, name: str) -> int:
        names = [section.name for section in self.sections]
        if name not in names:
            raise UsageError(
                f"the system prompt has no section {name!r}; it has {', '.join(names) or 'none'}"
            )
        return names.index(name)


def _paths(context: PromptContext) -> str:
    has_files = any(tool.name in prompt_texts.FILE_TOOLS for tool in context.tools)
    return prompt_texts.PATHS if has_files else ""


_COMMON = (
    Section("security", prompt_texts.SECURITY),
    Section("tool_guide", prompt_texts.TOOL_GUIDE),
    Section("paths", _paths),
)


def as_system_prompt(given: str | SystemPrompt | None) -> SystemPrompt:
    """A prompt of one section, named `system_prompt`, for a text; none for nothing."""
    if isinstance(given, SystemPrompt):
        return given
    return SystemPrompt((Section("system_prompt", given),) if given else ())


def checked_sections(
    owner: str, sections: Iterable[object], known: Sequence[tuple[str, Section]] = ()
) -> list[tuple[str, Section]]:
    """`sections`, each with its owner, behind those that are `known`.

    Raises:
        UsageError: one of them is no section, or has the name of another one; names both.
    """
    found = {section.name: (whose, section) for whose, section in known}
    for section in sections:
        if not isinstance(section, Section):
            kind = type(section).__name__
            raise UsageError(
                f"{owner} has a value of type {kind} where a Section(name, text) belongs"
            )
        if section.name in found:
            whose, other = found[section.name]
            raise UsageError(
                f"two sections of the system prompt are named {section.name!r}: {other} of {whose} "
                f"and {section} of {owner}; rename one, leave it out with remove(), or put it in "
                "the other's place with use()"
            )
        found[section.name] = (owner, section)
    return list(found.values())


def with_dynamic(
    fixed: str | None, sections: Sequence[Section], context: PromptContext
) -> str | None:
    """The system prompt of a run: what is fixed, and behind it what `sections` say to it.

    Raises:
        UsageError: the function of a section failed.
    """
    return _joined([fixed or "", *[section.said(context) for section in sections]])


def as_recorded(fixed: str | None, sections: Sequence[Section], recorded: str | None) -> str | None:
    """What a replay goes by: what `sections` had said comes from outside, as it is `recorded`.

    What is fixed must be the same; if it is not, it is given back alone, and so found to differ.
    """
    if not sections or recorded is None:
        return fixed
    begins = fixed is None or recorded == fixed or recorded.startswith(fixed + _BREAK)
    return recorded if begins else fixed


def _joined(texts: Iterable[str]) -> str | None:
    return _BREAK.join(filter(None, texts)) or None
