"""Ids and names as a provider accepts them, made out of any."""

from __future__ import annotations

import hashlib
import re

__all__ = ["NAME", "NINE_LETTERS", "IdForm", "wire_name"]

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""What a tool may be called: the form that all vendors accept."""

_NOT_IN_NAME = re.compile(r"[^a-zA-Z0-9_-]")
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"


class IdForm:
    """What a vendor's call ids look like. Foreign ones are mapped: the same id always becomes the
    same, so that a call and its result still belong together."""

    __slots__ = ("_length", "_pattern", "_prefix")

    def __init__(self, pattern: str, prefix: str = "call_", length: int = 32) -> None:
        self._pattern = re.compile(pattern)
        self._prefix = prefix
        self._length = length

    def __call__(self, call_id: str) -> str:
        if self._pattern.fullmatch(call_id):
            return call_id
        digest = hashlib.sha256(call_id.encode("utf-8", "surrogatepass")).digest()
        number = int.from_bytes(digest)
        digits = [_BASE36[number // 36**place % 36] for place in range(self._length)]
        return self._prefix + "".join(digits)


NINE_LETTERS = IdForm(r"[a-zA-Z0-9]{9}", prefix="", length=9)


def wire_name(name: str) -> str:
    """A tool's name as it may be sent back. A model can make up a name that no tool may have, and
    the history it is in must stay sendable."""
    if NAME.fullmatch(name):
        return name
    return _NOT_IN_NAME.sub("_", name)[:64] or "unnamed"
