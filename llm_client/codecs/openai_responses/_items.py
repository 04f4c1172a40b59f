"""The output items of a Responses answer, each put together from its deltas or from its whole form.

What comes whole is only news as far as it goes beyond what came in pieces: servers repeat in the
`done` events what they have streamed.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from llm_client.codecs._json import as_dict, as_list, is_object, mend, mend_value
from llm_client.codecs._turns import unique_id
from llm_client.errors import MalformedResponse
from llm_client.parts import Citation, Image, Opaque, Seal, Thinking
from llm_client.stream import (
    PartCompleted,
    PartSealed,
    RefusalDelta,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStarted,
)

__all__ = [
    "CUSTOM",
    "IMAGE",
    "NAMESPACE",
    "REASONING_TEXT",
    "CallItem",
    "Item",
    "MessageItem",
    "OpaqueItem",
    "ReasoningItem",
    "text_of",
]

CUSTOM = "custom_tool_call"
IMAGE = "image_generation_call"
REASONING_TEXT = "reasoning_text"
NAMESPACE = "namespace:"
"""Begins the kind of a call whose tool lies in a namespace."""


def text_of(value: object) -> str:
    """`value` if it is text, else none. Half characters are kept."""
    return value if isinstance(value, str) else ""


def _name(value: object) -> str | None:
    return mend(value) if isinstance(value, str) and value else None


class _Told:
    """What has been told of an item's sections, which a server numbers as it likes: some skip a
    number while they stream."""

    __slots__ = ("_pieces",)

    def __init__(self) -> None:
        self._pieces: dict[int, list[str]] = {}

    def add(self, section: int, text: str) -> None:
        pieces = self._pieces.get(section)
        if pieces is None:
            pieces = self._pieces[section] = []
        pieces.append(text)

    def rest(self, section: int, whole: object) -> str:
        """What of the `whole` section is still to be told."""
        if not isinstance(whole, str):
            return ""
        told = "".join(self._pieces.get(section, ()))
        whole = mend(whole)
        return whole[len(told) :] if whole.startswith(told) else ""

    def section(self, place: int) -> int:
        """The number of the section that stands at `place` among those with text."""
        numbers = sorted(self._pieces)
        if place < len(numbers):
            return numbers[place]
        return numbers[-1] + 1 if numbers else 0


class Item:
    """One item. What its methods append to `out` belongs behind all earlier items."""

    __slots__ = ("_half", "closed", "id", "kind", "origin", "waiting")

    def __init__(self, origin: str, kind: str, id: str | None) -> None:
        self.origin = origin
        self.kind = kind
        self.id = id
        self.closed = False
        self.waiting: list[StreamEvent] = []
        """Events that came while an earlier item was still open."""
        self._half = ""
        """The first half of a character that the server itself cut in two."""

    def finish(self, fields: dict[str, Any] | None, out: list[StreamEvent]) -> None:
        """Takes the item's whole form in, None if none came, and appends its last events."""

    def _rest(self, told: _Told, section: int, whole: object) -> str:
        """What of the `whole` section is still to be told. It holds the half character as well."""
        rest = told.rest(section, whole)
        if rest:
            self._half = ""
        return rest

    def _lost(self) -> str:
        """What stands for a half character whose other half never came."""
        lost, self._half = "\ufffd" if self._half else "", ""
        return lost

    def _characters(self, text: str) -> str:
        """`text` as valid Unicode. A half character at its end waits for its other half."""
        text = self._half + text
        self._half = text[-1] if text and "\ud800" <= text[-1] <= "\udbff" else ""
        return mend(text.removesuffix(self._half) if self._half else text)


class MessageItem(Item):
    """What the model says: blocks of text with their sources, and refusals."""

    __slots__ = ("_block", "_phase", "_refusals", "_said", "_sources", "_texts", "refused")

    def __init__(self, origin: str, fields: dict[str, Any]) -> None:
        super().__init__(origin, "message", _name(fields.get("id")))
        self._phase = _name(fields.get("phase"))
        self._block = 0
        self._said = False
        """The present block has text."""
        self._texts = _Told()
        self._refusals = _Told()
        self._sources: dict[int, list[Any]] = {}
        self.refused = False

    def say(self, block: int, text: str, out: list[StreamEvent]) -> None:
        """More text of `block`."""
        if self._half or not text.isascii():
            text = self._characters(text)
        if text:
            if block != self._block:
                self._seal(out)
                self._block = block
            self._said = True
            self._texts.add(block, text)
            out.append(TextDelta(text))

    def refuse(self, block: int, text: str, out: list[StreamEvent]) -> None:
        """More of the refusal in `block`."""
        text = self._characters(text)
        if text:
            self.refused = True
            self._refusals.add(block, text)
            out.append(RefusalDelta(text))

    def cite(self, block: int, source: object) -> None:
        """One more source of `block`."""
        self._sources.setdefault(block, []).append(source)

    def take_block(self, block: int, fields: dict[str, Any], out: list[StreamEvent]) -> None:
        """The whole of `block`."""
        sources = as_list(fields.get("annotations"))
        if sources:
            self._sources[block] = sources
        self.say(block, self._rest(self._texts, block, fields.get("text")), out)
        self.refuse(block, self._rest(self._refusals, block, fields.get("refusal")), out)

    def finish(self, fields: dict[str, Any] | None, out: list[StreamEvent]) -> None:
        if fields is not None:
            self.id = _name(fields.get("id")) or self.id
            self._phase = _name(fields.get("phase")) or self._phase
            content = fields.get("content")
            blocks = [{"text": content}] if isinstance(content, str) else as_list(content)
            self._take_blocks([as_dict(block) for block in blocks], out)
        self.say(self._block, self._lost(), out)
        self._seal(out)

    def _take_blocks(self, blocks: list[dict[str, Any]], out: list[StreamEvent]) -> None:
        said = [block for block in blocks if block.get("text")]
        for place, block in enumerate(said):
            self.take_block(self._texts.section(place), block, out)
        refused = [block for block in blocks if block.get("refusal")]
        for place, block in enumerate(refused):
            self.take_block(self._refusals.section(place), {"refusal": block["refusal"]}, out)

    def _seal(self, out: list[StreamEvent]) -> None:
        if not self._said:
            return
        self._said = False
        known = self.id is not None or self._phase is not None
        seal = Seal(self.origin, id=self.id, kind=self._phase) if known else None
        sources = self._sources.get(self._block, ())
        cited = [_citation(mend_value(one)) for one in sources if is_object(one)]
        out.append(PartSealed(seal, tuple(cited)))


def _citation(source: dict[str, Any]) -> Citation:
    return Citation(
        msgspec.json.encode(source).decode(),
        _name(source.get("url")),
        _name(source.get("title")) or _name(source.get("filename")),
    )


class ReasoningItem(Item):
    """The model's reasoning: a summary in parts, or of open-weight models its very text.

    Only the whole form tells the encrypted content: what comes before it is incomplete.
    """

    __slots__ = ("_section", "_told")

    def __init__(self, origin: str, fields: dict[str, Any]) -> None:
        super().__init__(origin, "reasoning", _name(fields.get("id")))
        self._section: tuple[str, int] | None = None
        self._told = {"content": _Told(), "summary": _Told()}

    @property
    def open_weight(self) -> bool:
        """What has come is the very text, which needs no proof."""
        return self._section is not None and self._section[0] == "content"

    def think(self, field: str, part: int, text: str, out: list[StreamEvent]) -> None:
        """More of one `part` of `field`, which is the summary or the content."""
        text = self._characters(text)
        if not text:
            return
        self._told[field].add(part, text)
        before, self._section = self._section, (field, part)
        if before is not None and before[0] != field:
            out.append(PartSealed(self._made_seal(None, before[0])))
        elif before is not None and before[1] != part:
            text = f"\n\n{text}"
        out.append(ThinkingDelta(text))

    def think_whole(self, field: str, part: int, text: object, out: list[StreamEvent]) -> None:
        """The whole of one `part` of `field`."""
        self.think(field, part, self._rest(self._told[field], part, text), out)

    def finish(self, fields: dict[str, Any] | None, out: list[StreamEvent]) -> None:
        signature = None
        if fields is not None:
            self.id = _name(fields.get("id")) or self.id
            signature = _name(fields.get("encrypted_content"))
            for field, told in self._told.items():
                texts = [as_dict(part).get("text") for part in as_list(fields.get(field))]
                for place, text in enumerate(text for text in texts if text):
                    self.think_whole(field, told.section(place), text, out)
        if self._section is not None:
            self.think(*self._section, self._lost(), out)
        if self._section is not None:
            out.append(PartSealed(self._made_seal(signature, self._section[0])))
        elif self.id is not None or signature is not None:
            out.append(PartCompleted(Thinking("", self._made_seal(signature, "summary"))))

    def _made_seal(self, signature: str | None, field: str) -> Seal:
        kind = REASONING_TEXT if field == "content" else None
        return Seal(self.origin, signature, self.id, kind)


class CallItem(Item):
    """A call of a function, or of a custom tool, whose plain input becomes `{"input": …}`."""

    __slots__ = ("_begun", "_held", "_told", "_used", "any", "index")

    def __init__(self, origin: str, fields: dict[str, Any], index: int, used: set[str]) -> None:
        super().__init__(origin, mend(text_of(fields.get("type"))), _name(fields.get("id")))
        self.index = index
        self._used = used
        self._begun = False
        self._held: list[str] = []
        """Arguments that came before the name they are for."""
        self._told = _Told()
        self.any = False
        """Some of the arguments came."""

    def begin(self, fields: dict[str, Any], out: list[StreamEvent], *, last: bool = False) -> None:
        """Tells of the call once its name and id are known; what is not known at `last` never
        will be, and an id is made up."""
        name, call_id = _name(fields.get("name")), _name(fields.get("call_id"))
        if self._begun or name is None or not (call_id or last):
            return
        self._begun = True
        call_id = unique_id(call_id or self.id or f"call_{self.index}", self.index, self._used)
        namespace = _name(fields.get("namespace"))
        kind = CUSTOM if self.kind == CUSTOM else namespace and NAMESPACE + namespace
        known = self.id is not None or kind is not None
        seal = Seal(self.origin, id=self.id, kind=kind) if known else None
        out.append(ToolCallStarted(self.index, call_id, name, seal))
        out.extend(ToolCallDelta(self.index, piece) for piece in self._held)
        self._held.clear()

    def extend(self, text: str, out: list[StreamEvent]) -> None:
        """More of the arguments."""
        text = self._characters(text)
        if text:
            self._told.add(0, text)
            if self.kind == CUSTOM:
                text = msgspec.json.encode(text).decode()[1:-1]
                text = text if self.any else f'{{"input":"{text}'
            self.any = True
            self._tell(text, out)

    def extend_whole(self, fields: dict[str, Any], out: list[StreamEvent]) -> None:
        """All of the arguments, in an event or in the item itself."""
        arguments = fields.get("input" if self.kind == CUSTOM else "arguments")
        if is_object(arguments):
            arguments = msgspec.json.encode(mend_value(arguments)).decode()
        self.extend(self._rest(self._told, 0, arguments), out)

    def finish(self, fields: dict[str, Any] | None, out: list[StreamEvent]) -> None:
        fields = fields or {}
        self.begin(fields, out, last=True)
        self.extend_whole(fields, out)
        self.extend(self._lost(), out)
        if not self._begun:
            raise MalformedResponse("a tool call of the answer has no name; ask again")
        if self.kind == CUSTOM and fields and fields.get("status") != "incomplete":
            self._tell('"}' if self.any else '{"input":""}', out)
            self.any = True

    def _tell(self, text: str, out: list[StreamEvent]) -> None:
        if self._begun:
            out.append(ToolCallDelta(self.index, text))
        else:
            self._held.append(text)


class OpaqueItem(Item):
    """Anything else, kept as it is. A picture that was made can be seen as well."""

    __slots__ = ()

    def __init__(self, origin: str, fields: dict[str, Any]) -> None:
        super().__init__(origin, mend(text_of(fields.get("type"))), _name(fields.get("id")))

    def finish(self, fields: dict[str, Any] | None, out: list[StreamEvent]) -> None:
        if fields is None:
            return  # What was announced is incomplete and could not be sent back.
        json = msgspec.json.encode(fields).decode()
        out.append(PartCompleted(Opaque(self.origin, self.kind, json)))
        if self.kind == IMAGE:
            image = _image(fields, Seal(self.origin, id=self.id, kind=IMAGE))
            if image is not None:
                out.append(PartCompleted(image))


def _image(fields: dict[str, Any], seal: Seal) -> Image | None:
    result = text_of(fields.get("result"))
    media_type = f"image/{_name(fields.get('output_format')) or 'png'}"
    if result.startswith(("http://", "https://")):
        return Image(url=result, seal=seal)
    if result.startswith("data:"):
        result = result.partition(",")[2]
    try:
        data = base64.b64decode(result, validate=True)
    except (binascii.Error, ValueError):
        return None
    return Image(data, media_type=media_type, seal=seal) if data else None
