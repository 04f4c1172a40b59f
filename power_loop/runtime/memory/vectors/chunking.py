"""What of a run is worth keeping, in pieces of a size that one vector can stand for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from llm_client.types import Message
from power_loop.runtime.memory.base import MemorySnapshot

__all__ = ["is_worth_keeping", "pieces", "words_of"]

_NOT_SAID = ("memory_", "compact")
"""How the names of messages begin that stand where a user speaks, but were not said."""

_BREAKS = tuple(re.compile(pattern) for pattern in (r"\n\s*\n", r"\n", r"[.!?]\s|[。！？]", r"\s"))
"""Where a text is best cut: between paragraphs, lines, sentences, words."""

_SENTENCE_ENDS = re.compile(r"[.!?]\s|[。！？\n]")


def words_of(snapshot: MemorySnapshot) -> Sequence[tuple[str, str]]:
    """Who said what in the run that ends: "user" or "agent", and the words.

    These are the user's messages and the model's last text. What tools gave is not among them: it
    can be had again, and nobody vouches for it.
    """
    said = [("user", message.text) for message in _heard(snapshot.messages, snapshot.rounds)]
    return [*said, ("agent", snapshot.final_text)]


def is_worth_keeping(text: str, shortest: int) -> bool:
    """Whether somebody may want `text` later.

    It has `shortest` bytes, two or three words, and is more than one question: that would be found
    by the same question, and say nothing.
    """
    flat = text.strip()
    if len(flat.encode("utf-8", "replace")) < shortest:
        return False
    if not flat.endswith(("?", "？")):
        return True
    return _SENTENCE_ENDS.search(flat, 0, len(flat) - 1) is not None


def _heard(messages: Sequence[Message], rounds: int) -> Sequence[Message]:
    """The user's messages of the last `rounds` rounds, and right before them."""
    heard: list[Message] = []
    for message in reversed(messages):
        if message.role == "assistant":
            rounds -= 1
            if rounds < 0:
                break
        elif message.role == "user" and not (message.name or "").startswith(_NOT_SAID):
            heard.append(message)
    return heard[::-1]


def pieces(text: str, size: int) -> Iterator[str]:
    """`text` in pieces of at most `size` characters, cut where it hurts least; none is blank."""
    start = 0
    while len(text) - start > size:
        end = _best_end(text, start, size)
        if piece := text[start:end].strip():
            yield piece
        start = end
    if piece := text[start:].strip():
        yield piece


def _best_end(text: str, start: int, size: int) -> int:
    """Where a piece that begins at `start` ends: in its second half, so that it is not small."""
    half, whole = start + size // 2, start + size
    for pattern in _BREAKS:
        ends = [found.end() for found in pattern.finditer(text, half, whole + 1)]
        # The character beyond is welcome as long as it is a blank, which is taken off.
        while ends and ends[-1] > whole and not text[whole].isspace():
            ends.pop()
        if ends:
            return ends[-1]
    return whole
