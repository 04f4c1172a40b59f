"""How a SKILL.md begins: YAML between two lines of `---`."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from power_loop import extensions

__all__ = ["FrontMatter", "FrontMatterInvalid", "parted"]

_FENCE = "---"
_MOST = 16_384
_Name = Annotated[str, Meta(max_length=64, pattern=r"\A[a-z0-9]+(-[a-z0-9]+)*\Z")]


class FrontMatter(Struct, frozen=True, kw_only=True, rename={"allowed_tools": "allowed-tools"}):
    """What a skill says of itself; the form is that of the Agent Skills format.

    Attributes:
        name: lower-case letters, digits and single hyphens, at most 64.
        description: what it does and when to use it, at most 1,024 characters.
        license: the licence, or the file that holds it.
        compatibility: what it needs, at most 500 characters.
        metadata: whatever else; all values are texts, or lists and mappings of such.
        allowed_tools: names of tools that it may use, by its author's word: nothing here goes by
            it.
    """

    name: _Name
    description: Annotated[str, Meta(min_length=1, max_length=1024)]
    license: str = ""
    compatibility: Annotated[str, Meta(max_length=500)] = ""
    metadata: dict[str, Any] = {}
    allowed_tools: str | list[str] = ""


class FrontMatterInvalid(ValueError):
    """A file does not begin as a skill must; `str(error)` says how."""


def parted(text: str) -> tuple[FrontMatter, str]:
    """What a skill says of itself, and its body.

    Raises:
        FrontMatterInvalid: it does not begin with front matter, or that is not of the right form.
    """
    lines = text.split("\n")
    if lines[0].rstrip() != _FENCE:
        raise FrontMatterInvalid(f"the first line is not {_FENCE!r}: there is no front matter")
    end = next((at for at, line in enumerate(lines) if at and line.rstrip() == _FENCE), None)
    if end is None:
        raise FrontMatterInvalid(f"the front matter has no end: a line {_FENCE!r}")
    return _read("\n".join(lines[1:end])), "\n".join(lines[end + 1 :]).strip()


def _read(text: str) -> FrontMatter:
    if len(text) > _MOST:
        raise FrontMatterInvalid(f"the front matter has over {_MOST:,} characters")
    try:
        value = extensions.yaml_texts.yaml_texts(text)
    except ValueError as error:
        raise FrontMatterInvalid(f"the front matter is no YAML: {error}") from error
    try:
        front = msgspec.convert(value, FrontMatter)
    except (msgspec.ValidationError, RecursionError) as error:
        raise FrontMatterInvalid(f"the front matter does not fit: {error}") from error
    if not front.description.strip():
        raise FrontMatterInvalid("the front matter does not fit: the description is blank")
    return front
