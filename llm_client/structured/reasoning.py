"""Reasoning that a server without a parser for it leaves in the text: it is no answer.

<think>The user wants {"a": 0}, or …</think>{"a": 1}
"""

from __future__ import annotations

import re

__all__ = ["LeadingReasoning", "without_reasoning"]

_TAGS = ("<think>", "<thinking>", "<thought>")
_LONGEST_TAG = max(map(len, _TAGS))
_OPENED = re.compile("|".join(_TAGS))
_NO_SPACE = re.compile(r"[^\s\ufeff]|\Z")
# Where the template has opened the tag in the prompt, the text only closes it, on a line's own.
_CLOSED_ONLY = re.compile(r"^</think(?:ing)?>|^</thought>", re.MULTILINE)


def without_reasoning(text: str) -> str:
    """`text` from where reasoning in tags ends; nothing if it does not end.

    In a whole text also the reasoning is found that is closed at the beginning of a line and was
    opened in the prompt."""
    rest = LeadingReasoning().feed(text)
    start = 0
    for closed in _CLOSED_ONLY.finditer(rest):
        start = closed.end()
    return rest[start:]


class LeadingReasoning:
    """Takes reasoning in tags away from the beginning of a text, piece by piece.

    What comes after the first word of an answer is handed on as it is, tags included.
    """

    __slots__ = ("_closing", "_held", "_over")

    def __init__(self) -> None:
        self._closing = ""
        self._held = ""
        self._over = False

    def feed(self, text: str) -> str:
        """What `text` adds to the answer."""
        if self._over:
            return text
        held, at = self._held + text, 0
        while True:
            if self._closing:
                end = held.find(self._closing, at)
                if end < 0:
                    self._held = held[max(at, len(held) - len(self._closing) + 1) :]
                    return ""
                at = end + len(self._closing)
                self._closing = ""
            word = _NO_SPACE.search(held, at)
            at = len(held) if word is None else word.start()
            opened = _OPENED.match(held, at)
            if opened is None:
                return self._beginning(held[at:])
            self._closing = f"</{opened.group()[1:]}"
            at = opened.end()

    def _beginning(self, rest: str) -> str:
        """A text that does not begin with a whole tag: what of it is surely the answer."""
        if len(rest) < _LONGEST_TAG and any(tag.startswith(rest) for tag in _TAGS):
            self._held = rest
            return ""
        self._over, self._held = True, ""
        return rest
