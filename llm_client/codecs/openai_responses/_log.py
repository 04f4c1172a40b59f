"""The output items of a Responses answer in order, and which of them an event is about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from llm_client.codecs._json import as_dict, mend_value
from llm_client.codecs.openai_responses._items import (
    CallItem,
    Item,
    MessageItem,
    OpaqueItem,
    ReasoningItem,
    text_of,
)
from llm_client.stream import StreamEvent

__all__ = ["ItemLog"]

T = TypeVar("T", bound=Item)

_TYPES: Mapping[type[Item], str] = MappingProxyType(
    {MessageItem: "message", ReasoningItem: "reasoning"}
)


class ItemLog:
    """Items are told one after the other in the order in which they begin: what comes of a later
    one while an earlier one is still open waits for it."""

    __slots__ = ("_by_id", "_by_index", "_calls", "_front", "_items", "_origin", "_used")

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._items: list[Item] = []
        self._front = 0
        """The first item that is still open."""
        self._by_index: dict[int, Item] = {}
        self._by_id: dict[str, Item] = {}
        self._calls = 0
        self._used: set[str] = set()
        """Call ids that have been told."""

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    def at(self, index: int | None, id: str | None) -> Item | None:
        """The item with the output index, or without one with the id."""
        if index is not None:
            return self._by_index.get(index)
        return self._by_id.get(id) if id is not None else None

    def place(self, event: dict[str, Any], kind: type[T]) -> T | None:
        """The item of `kind` that `event` is about: by its output index, else by the item's id,
        else the newest that is open."""
        index, id = event.get("output_index"), event.get("item_id")
        item = self.at(
            index if isinstance(index, int) else None, id if isinstance(id, str) else None
        )
        if isinstance(item, kind):
            return item
        fitting = [one for one in self._items if isinstance(one, kind) and not one.closed]
        return fitting[-1] if fitting else None

    def found(self, event: dict[str, Any], kind: type[T], out: list[StreamEvent]) -> T:
        """As `place`; an item that nobody announced begins here."""
        item = self.place(event, kind)
        if item is None:
            fields = {"type": _TYPES[kind], "id": event.get("item_id")}
            added = self.add(fields, event.get("output_index"), out)
            assert isinstance(added, kind)
            return added
        return item

    def known(self, event: dict[str, Any], fields: dict[str, Any]) -> Item | None:
        """The item whose `fields` these are, if it has begun: the same id, or an open one of the
        same type at the same place. Some servers give an item another id in each event."""
        id, index, kind = fields.get("id"), event.get("output_index"), fields.get("type")
        same = self._by_id.get(id) if isinstance(id, str) else None
        if same is not None:
            return same
        if isinstance(index, int):
            placed = self._by_index.get(index)
            fits = placed is not None and not placed.closed and placed.kind == kind
            return placed if fits else None
        for item in self._items:
            if not item.closed and item.kind == kind and not (id and item.id):
                return item
        return None

    def add(self, fields: dict[str, Any], index: object, out: list[StreamEvent]) -> Item:
        """An item begins."""
        self._release(out)
        item = self._made(fields)
        self._items.append(item)
        if isinstance(index, int):
            self._by_index[index] = item
        if item.id is not None:
            self._by_id[item.id] = item
        if isinstance(item, CallItem):
            item.begin(fields, self.behind(item, out))
        return item

    def _made(self, fields: dict[str, Any]) -> Item:
        match fields.get("type"):
            case "message":
                return MessageItem(self._origin, fields)
            case "reasoning":
                return ReasoningItem(self._origin, fields)
            case "function_call" | "custom_tool_call":
                self._calls += 1
                return CallItem(self._origin, fields, self._calls - 1, self._used)
            case _:
                return OpaqueItem(self._origin, fields)

    def _release(self, out: list[StreamEvent]) -> None:
        """Closes reasoning of which no proof is to come, so that nothing has to wait for it: some
        servers say that it is whole only when everything is."""
        while self._front < len(self._items):
            front = self._items[self._front]
            if not (isinstance(front, ReasoningItem) and front.open_weight):
                break
            self.close(front, None, out)

    def behind(self, item: Item, out: list[StreamEvent]) -> list[StreamEvent]:
        """Where events of `item` go: into `out` if all items before it are closed."""
        return out if self._items[self._front] is item else item.waiting

    def close(self, item: Item, fields: dict[str, Any] | None, out: list[StreamEvent]) -> None:
        """The item is whole: `fields`, if they ever came.

        Raises:
            MalformedResponse: it is a tool call without a name.
        """
        if item.closed:
            return
        item.finish(mend_value(fields), self.behind(item, out))
        item.closed = True
        while self._front < len(self._items):
            front = self._items[self._front]
            out.extend(front.waiting)
            front.waiting.clear()
            if not front.closed:
                break
            self._front += 1

    def settle(self, output: list[Any], out: list[StreamEvent]) -> None:
        """Takes in what of the whole output did not come as events."""
        whole = [fields for value in output if text_of((fields := as_dict(value)).get("type"))]
        known = {id(fields): self._by_id.get(text_of(fields.get("id"))) for fields in whole}
        # Some servers give an item another id in each event: what has no partner by id has the next
        # of its kind that has none either.
        left = [one for one in self._items if one not in known.values()]
        for fields in whole:
            item = known[id(fields)]
            if item is None:
                kind = text_of(fields.get("type"))
                item = next((one for one in left if one.kind == kind), None)
                if item is not None:
                    left.remove(item)
            self.close(item or self.add(fields, None, out), fields, out)
