"""What a docstring says of a function and of its parameters: Google, NumPy and reST forms."""

from __future__ import annotations

import inspect
import re

from msgspec import Struct

__all__ = ["Documentation", "parse_docstring"]

_REST = re.compile(r"^:(?:param|parameter|arg|argument)\s+(?:[^:]*\s)?\*{0,2}(\w+)\s*:\s*(.*)$")
_REST_FIELD = re.compile(r"^:\w+[^:]*:")
_GOOGLE_HEAD = re.compile(r"^(?:args|arguments|parameters|params)\s*:\s*$", re.IGNORECASE)
_GOOGLE_ITEM = re.compile(r"^\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)$")
_NUMPY_HEAD = re.compile(r"^(?:other\s+)?parameters\s*$", re.IGNORECASE)
_NUMPY_ITEM = re.compile(r"^(\*{0,2}\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::.*)?$")
_UNDERLINE = re.compile(r"^-{3,}\s*$")


class Documentation(Struct, frozen=True):
    """`summary` is the first paragraph on one line; `parameters` says what each one means."""

    summary: str
    parameters: dict[str, str]


def parse_docstring(text: str | None) -> Documentation:
    """Reads a docstring. Whatever is not understood is left out; nothing is an error."""
    lines = inspect.cleandoc(text or "").splitlines()
    found: dict[str, list[str]] = {}
    index = 0
    while index < len(lines):
        line = lines[index]
        if _GOOGLE_HEAD.match(line):
            index = _google(lines, index + 1, found)
        elif _NUMPY_HEAD.match(line) and _underlined(lines, index):
            index = _numpy(lines, index + 2, found)
        elif match := _REST.match(line):
            index = _continued(lines, index + 1, found.setdefault(match[1], [match[2]]))
        else:
            index += 1
    parameters = {name: _joined(words) for name, words in found.items()}
    return Documentation(_summary(lines), {name: text for name, text in parameters.items() if text})


def _summary(lines: list[str]) -> str:
    words: list[str] = []
    for index, line in enumerate(lines):
        if (not line.strip() and words) or _starts_section(lines, index):
            break
        words.append(line)
    return _joined(words)


def _starts_section(lines: list[str], index: int) -> bool:
    line = lines[index]
    return bool(_GOOGLE_HEAD.match(line) or _REST_FIELD.match(line) or _underlined(lines, index))


def _underlined(lines: list[str], index: int) -> bool:
    return index + 1 < len(lines) and _UNDERLINE.match(lines[index + 1]) is not None


def _joined(words: list[str]) -> str:
    return " ".join(" ".join(words).split())


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _google(lines: list[str], index: int, found: dict[str, list[str]]) -> int:
    """Items are indented under the heading; what is indented deeper continues an item."""
    depth = 0
    current: list[str] = []
    while index < len(lines) and (not lines[index].strip() or _indent(lines[index]) > 0):
        line = lines[index]
        depth = depth or _indent(line)
        match = _GOOGLE_ITEM.match(line.strip()) if _indent(line) == depth else None
        if match:
            current = found.setdefault(match[1], [match[2]])
        else:
            current.append(line)
        index += 1
    return index


def _numpy(lines: list[str], index: int, found: dict[str, list[str]]) -> int:
    """Items stand at the margin, one name or several with commas; their text is indented."""
    current: list[list[str]] = []
    while index < len(lines) and not _underlined(lines, index):
        line = lines[index]
        match = _NUMPY_ITEM.match(line) if line and _indent(line) == 0 else None
        if match:
            names = [name.strip().lstrip("*") for name in match[1].split(",")]
            current = [found.setdefault(name, []) for name in names]
        else:
            for words in current:
                words.append(line)
        index += 1
    return index


def _continued(lines: list[str], index: int, words: list[str]) -> int:
    while index < len(lines) and lines[index].strip() and _indent(lines[index]) > 0:
        words.append(lines[index])
        index += 1
    return index
