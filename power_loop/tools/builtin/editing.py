"""Replacing a passage of a text that a model quotes, more or less exactly. Pure.

The quotation is looked for as it is, then with line ends alike, then with typographic variants
(quotes, dashes, spaces, composed letters) alike, at last line by line without indentation. It must
be found once. The first way that finds it at all decides.
"""

from __future__ import annotations

import unicodedata
from array import array
from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

from power_loop.errors import ToolError

__all__ = ["Edited", "edit_text"]

_VARIANTS = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛′", "'"),
        **dict.fromkeys("“”„‟″", '"'),
        **dict.fromkeys("‐‑‒–—―−", "-"),
        **dict.fromkeys("\u200b\u2060\ufeff\u00ad", ""),
    }
)


class Edited(Struct, frozen=True):
    """The new text; how many passages were replaced; how they were found, "" for exactly."""

    text: str
    count: int
    how: str


class _Folded(Struct, frozen=True):
    """A text made comparable. `starts[i]` is where its character i begins in the original."""

    text: str
    starts: Sequence[int]


Finder = Callable[[str, str], list[tuple[int, int]]]


def edit_text(text: str, old: str, new: str, *, replace_all: bool = False) -> Edited:
    """Replaces `old` by `new`. Line ends of `new` become those that most lines of `text` have.

    Raises:
        ToolError: `old` is empty, not there, there several times (unless `replace_all`), or is what
            `new` is.
    """
    if not old.strip("\r\n"):
        raise ToolError("old_text is empty; quote the passage to replace, or use write_file")
    if old == new:
        raise ToolError("old_text and new_text are the same; there is nothing to do")
    for how, find in _ways(text):
        spans = find(text, old)
        if not spans:
            continue
        if len(spans) > 1 and not replace_all:
            lines = ", ".join([str(text.count("\n", 0, start) + 1) for start, _ in spans[:10]])
            raise ToolError(
                f"old_text is there {len(spans)} times (lines {lines}); quote more of what is "
                "around the one that is meant, or set replace_all"
            )
        fitted = new
        if how == _LINES:
            fitted = _indented(new, old, text[spans[0][0] : spans[0][1]])
            spans, fitted = _whole_lines(text, spans, old, fitted)
        fitted = _with_line_ends(fitted, text)
        return Edited(_replaced(text, spans, fitted), len(spans), how)
    raise ToolError("old_text is not there; read the file again and quote it exactly")


_LINES = "without regard to indentation"


def _ways(text: str) -> Iterator[tuple[str, Finder]]:
    if "\r\n" not in text:  # otherwise a match could begin between \r and \n
        yield "", _exact
    yield "without regard to line ends" if "\r\n" not in text else "", _like_lines
    yield "without regard to typographic variants", _like_characters
    yield _LINES, _like_stripped


def _exact(text: str, old: str) -> list[tuple[int, int]]:
    return [(start, start + len(old)) for start in _occurrences(text, old)]


def _occurrences(text: str, part: str) -> Iterator[int]:
    start = text.find(part)
    while start >= 0:
        yield start
        start = text.find(part, start + len(part))


# ── folding ──


def _fold_lines(text: str) -> _Folded:
    starts = array("q")
    position = 0
    for piece in text.split("\r\n"):
        starts.extend(range(position, position + len(piece) + 1))
        position += len(piece) + 2
    return _Folded(text.replace("\r\n", "\n"), starts)


def _fold_characters(text: str) -> _Folded:
    lines = _fold_lines(text)
    if text.isascii():
        return lines
    folded: list[str] = []
    starts = array("q")
    for start, cluster in _clusters(lines.text):
        plain = unicodedata.normalize("NFKC", cluster.translate(_VARIANTS))
        folded.append(plain)
        starts.extend([lines.starts[start]] * len(plain))
    starts.append(len(text))
    return _Folded("".join(folded), starts)


def _clusters(text: str) -> Iterator[tuple[int, str]]:
    """Each character with the combining marks behind it."""
    start = 0
    for index in range(1, len(text) + 1):
        if index == len(text) or not unicodedata.combining(text[index]):
            yield start, text[start:index]
            start = index


def _find_folded(folded: _Folded, old: str) -> list[tuple[int, int]]:
    starts = folded.starts
    spans: list[tuple[int, int]] = []
    for first in _occurrences(folded.text, old) if old else ():
        last = first + len(old)
        whole = all(place == 0 or starts[place] != starts[place - 1] for place in (first, last))
        if whole:  # not half of a ligature
            spans.append((starts[first], starts[last]))
    return spans


def _like_lines(text: str, old: str) -> list[tuple[int, int]]:
    return _find_folded(_fold_lines(text), _fold_lines(old).text)


def _like_characters(text: str, old: str) -> list[tuple[int, int]]:
    return _find_folded(_fold_characters(text), _fold_characters(old).text)


# ── line by line ──


def _like_stripped(text: str, old: str) -> list[tuple[int, int]]:
    wanted = [_bare(line) for line in old.strip("\r\n").split("\n")]
    while wanted and not wanted[0]:
        wanted.pop(0)
    while wanted and not wanted[-1]:
        wanted.pop()
    if not wanted:
        return []
    lines = text.split("\n")
    bare = [_bare(line) for line in lines]
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    spans: list[tuple[int, int]] = []
    index = 0
    while index + len(wanted) <= len(lines):
        if bare[index : index + len(wanted)] == wanted:
            last = index + len(wanted) - 1
            spans.append((starts[index], starts[last] + len(lines[last].removesuffix("\r"))))
            index += len(wanted)
        else:
            index += 1
    return spans


def _whole_lines(
    text: str, spans: list[tuple[int, int]], old: str, new: str
) -> tuple[list[tuple[int, int]], str]:
    """The last line end stays, whether or not it was quoted; unless the lines are to go."""
    if not new and old.endswith("\n"):
        return [(start, _behind_line_end(text, end)) for start, end in spans], new
    return spans, new.removesuffix("\n").removesuffix("\r") if old.endswith("\n") else new


def _behind_line_end(text: str, end: int) -> int:
    return end + (2 if text.startswith("\r\n", end) else text.startswith("\n", end))


def _bare(line: str) -> str:
    return _fold_characters(line).text.strip()


def _indented(new: str, old: str, found: str) -> str:
    """The new text, moved by as much as the quotation's indentation was off."""
    quoted, actual = _indentation(old), _indentation(found)
    if actual == quoted:
        return new
    lines = new.split("\n")
    if actual.endswith(quoted):
        more = actual[: len(actual) - len(quoted)]
        return "\n".join([more + line if line.strip() else line for line in lines])
    less = quoted.removesuffix(actual)
    return "\n".join([line.removeprefix(less) for line in lines])


def _indentation(text: str) -> str:
    line = next((line for line in text.split("\n") if line.strip()), "")
    return line[: len(line) - len(line.lstrip())]


# ── putting in ──


def _with_line_ends(new: str, text: str) -> str:
    plain = new.replace("\r\n", "\n")
    windows = text.count("\r\n")
    return plain.replace("\n", "\r\n") if windows * 2 > text.count("\n") else plain


def _replaced(text: str, spans: list[tuple[int, int]], new: str) -> str:
    pieces: list[str] = []
    position = 0
    for start, end in spans:
        pieces += [text[position:start], new]
        position = end
    return "".join([*pieces, text[position:]])
