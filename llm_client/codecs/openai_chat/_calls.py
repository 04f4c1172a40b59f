"""Puts the fragments of streamed tool calls together, however the server numbers them.

A fragment belongs to the call of its index; a new id under a known index is a new call; without an
index the id decides, and without either the position in the list, or else it continues the latest
call. A call is announced when its id, its name and the beginning of its arguments are known, and
never before the calls that came before it; what is still unknown at the end is made up (ids) or an
error (names).
"""

from __future__ import annotations

import hashlib

import msgspec

from llm_client.codecs._json import is_complete_object
from llm_client.codecs._turns import unique_id
from llm_client.errors import MalformedResponse
from llm_client.stream import StreamEvent, ToolCallDelta, ToolCallStarted

__all__ = ["CallSlots", "Fragment", "tag_of"]

_NONE = "{}"


class Fragment(msgspec.Struct, frozen=True):
    """One piece of one call, as it came. Empty strings stand for what is missing."""

    index: int | None = None
    id: str = ""
    name: str = ""
    arguments: str = ""
    custom: bool = False
    """The arguments are free text, not JSON (OpenAI's custom tools)."""


class _Slot:
    __slots__ = ("custom", "id", "index", "name", "pieces", "place", "size")

    def __init__(self, index: int | None) -> None:
        self.index = index
        self.id = ""
        self.name = ""
        self.pieces: list[str] = []
        self.size = 0
        self.custom = False
        self.place = -1
        """The number under which the call was announced."""

    @property
    def ready(self) -> bool:
        return bool(self.id and self.name and self.pieces and not self.custom) and not self.held

    @property
    def empty(self) -> bool:
        return not (self.id or self.name or self.pieces)

    @property
    def held(self) -> bool:
        """The arguments so far may only stand for those that are to come."""
        return self.pieces == [_NONE]

    def add(self, arguments: str) -> str:
        """Takes more arguments in; what of them is new."""
        if self.held and self.place < 0:
            self.pieces.clear()
            self.size = 0
        elif len(arguments) == self.size and self._repeats(arguments):
            return ""
        self.pieces.append(arguments)
        self.size += len(arguments)
        return arguments

    def _repeats(self, arguments: str) -> bool:
        """Some servers end with all of the arguments once more."""
        return arguments == "".join(self.pieces) and is_complete_object(arguments)

    def starts_anew(self, fragment: Fragment) -> bool:
        """A named fragment without an id, after arguments that are complete, is another call,
        unless it only says the name again."""
        if not (fragment.name and self.name and self.pieces):
            return False
        if fragment.name != self.name:
            return True
        whole = "".join(self.pieces)
        repeats = fragment.arguments in ("", whole)
        return not repeats and is_complete_object(whole)


class CallSlots:
    """The calls of one answer."""

    __slots__ = ("_announced", "_by_id", "_by_index", "_slots", "_used", "tag")

    def __init__(self) -> None:
        self.tag = ""
        """Tells ids that are made up here from those of other answers."""
        self._slots: list[_Slot] = []
        self._by_index: dict[int, _Slot] = {}
        self._by_id: dict[str, _Slot] = {}
        self._used: set[str] = set()
        self._announced = 0

    def __bool__(self) -> bool:
        return any(not slot.empty for slot in self._slots)

    def extend(self, index: int, arguments: str, out: list[StreamEvent]) -> bool:
        """The common case: more arguments for a call already announced. False if it is not that."""
        slot = self._by_index.get(index)
        if slot is None or slot.place < 0:
            return False
        new = slot.add(arguments)
        if new:
            out.append(ToolCallDelta(slot.place, new))
        return True

    def take(
        self, fragment: Fragment, position: int, out: list[StreamEvent], *, alone: bool
    ) -> None:
        """Takes a fragment in. `position` is its place in the chunk's list, `alone` if it is the
        only one there."""
        slot = self._route(fragment, position, alone=alone)
        if fragment.id and not slot.id:
            slot.id = fragment.id
            self._by_id.setdefault(fragment.id, slot)
        if fragment.name and slot.place < 0 and fragment.name != slot.name:
            slot.name += fragment.name
        slot.custom = slot.custom or fragment.custom
        if fragment.arguments:
            new = slot.add(fragment.arguments)
            if new and slot.place >= 0:
                out.append(ToolCallDelta(slot.place, new))
        self._announce(out)

    def add(self, fragment: Fragment, out: list[StreamEvent]) -> None:
        """Takes in a call that came whole."""
        slot = _Slot(None)
        slot.id, slot.name, slot.custom = fragment.id, fragment.name, fragment.custom
        if fragment.arguments:
            slot.add(fragment.arguments)
        self._slots.append(slot)
        self._announce(out)

    def finish(self, out: list[StreamEvent], *, truncated: bool) -> None:
        """Announces what is left.

        A call that never got a name is dropped where the answer was cut off by its own limit.

        Raises:
            MalformedResponse: a call never got a name.
        """
        for slot in self._slots[self._announced :]:
            if slot.empty:
                continue
            if not slot.name:
                if truncated:
                    continue
                raise MalformedResponse(
                    "the answer holds a tool call without a name; ask again, or report it to the "
                    "provider"
                )
            self._start(slot, out)
        if not truncated:
            # No arguments at all is how many servers write a call without parameters.
            bare = [slot.place for slot in self._slots if slot.place >= 0 and not slot.pieces]
            out.extend(ToolCallDelta(place, "{}") for place in bare)

    def _route(self, fragment: Fragment, position: int, *, alone: bool) -> _Slot:
        if fragment.index is not None:
            return self._by_number(fragment, fragment.index)
        if fragment.id:
            return self._by_id.get(fragment.id) or self._open(None)
        if not alone:
            while len(self._slots) <= position:
                self._open(None)
            return self._slots[position]
        latest = self._slots[-1] if self._slots else None
        if latest is None or latest.starts_anew(fragment):
            return self._open(None)
        return latest

    def _by_number(self, fragment: Fragment, index: int) -> _Slot:
        slot = self._by_index.get(index)
        if slot is None:
            return self._open(index)
        if not fragment.id:
            return self._open(index) if slot.starts_anew(fragment) else slot
        if slot.id in ("", fragment.id):
            return slot
        earlier = self._by_id.get(fragment.id)
        if earlier is not None and earlier.index == index:
            return earlier
        return self._open(index)

    def _open(self, index: int | None) -> _Slot:
        slot = _Slot(index)
        self._slots.append(slot)
        if index is not None:
            self._by_index[index] = slot
        return slot

    def _announce(self, out: list[StreamEvent]) -> None:
        while self._announced < len(self._slots) and self._slots[self._announced].ready:
            self._start(self._slots[self._announced], out)
            self._announced += 1

    def _start(self, slot: _Slot, out: list[StreamEvent]) -> None:
        slot.place = len(self._used)
        made_up = f"call_{self.tag}{slot.place}"
        call_id = unique_id(slot.id or made_up, slot.place, self._used)
        out.append(ToolCallStarted(slot.place, call_id, slot.name))
        if slot.custom:
            text = msgspec.json.encode({"input": "".join(slot.pieces)}).decode()
            slot.pieces = [text]
        if slot.pieces:
            out.append(ToolCallDelta(slot.place, "".join(slot.pieces)))


def tag_of(answer: str | None) -> str:
    """What tells the calls of one answer from those of others, made of what names the answer."""
    if not answer:
        return ""
    return hashlib.sha256(answer.encode("utf-8", "replace")).hexdigest()[:8] + "_"
