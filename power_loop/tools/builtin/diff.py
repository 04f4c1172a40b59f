"""What changed between two texts, as a unified diff."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

__all__ = ["unified_diff"]

_CONTEXT = 3
_COMPARED = 2_000
_SHOWN = 20_000


def unified_diff(old: str, new: str, path: str) -> str:
    """The changed lines with three around them. Takes time in proportion to what changed.

    A long diff is cut, and says so.
    """
    before, after = old.splitlines(), new.splitlines()
    head = _common(before, after)
    tail = min(_common(before[::-1], after[::-1]), len(before) - head, len(after) - head)
    first = max(head - _CONTEXT, 0)
    rest = max(tail - _CONTEXT, 0)
    lines = [f"--- {path}", f"+++ {path}"]
    lines += _hunks(before[first : len(before) - rest], after[first : len(after) - rest], first)
    text = "\n".join(lines)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}\n(the diff goes on)"


def _common(before: list[str], after: list[str]) -> int:
    count = 0
    for one, other in zip(before, after, strict=False):
        if one != other:
            break
        count += 1
    return count


def _hunks(before: list[str], after: list[str], first: int) -> Iterator[str]:
    if max(len(before), len(after)) > _COMPARED:
        # Comparing takes the product of both lengths; so much is better shown whole.
        groups = [[("replace", 0, len(before), 0, len(after))]]
    else:
        matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
        groups = matcher.get_grouped_opcodes(_CONTEXT)
    for group in groups:
        _, old_start, _, new_start, _ = group[0]
        _, _, old_end, _, new_end = group[-1]
        yield (
            f"@@ -{first + old_start + 1},{old_end - old_start} "
            f"+{first + new_start + 1},{new_end - new_start} @@"
        )
        for tag, i, j, k, m in group:
            if tag == "equal":
                yield from [f" {line}" for line in before[i:j]]
            else:
                yield from [f"-{line}" for line in before[i:j]]
                yield from [f"+{line}" for line in after[k:m]]
