"""The parts of a Chat Completions answer that only some vendors send."""

from __future__ import annotations

import binascii
from typing import Any

import msgspec

from llm_client.codecs._json import as_dict, as_list, is_array, is_object
from llm_client.codecs.openai_chat._calls import Fragment
from llm_client.errors import MalformedResponse
from llm_client.types import Audio, Opaque

__all__ = [
    "REASONING_FIELDS",
    "DetailLog",
    "SoundLog",
    "call_fragment",
    "reasoning_text",
    "text_of",
]

REASONING_FIELDS = (
    "reasoning_content",
    "reasoning",
    "thinking",
    "thinking_content",
    "reasoning_text",
    "thought",
)
"""Where vendors put reasoning. A chunk that fills several of them says the same in each."""


def text_of(value: object, what: str) -> str:
    """`value` as text; None counts as none.

    Raises:
        MalformedResponse: it is anything else.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    raise MalformedResponse(
        f"{what} of the answer should be text but is {type(value).__name__}; ask again, or report "
        "it to the provider"
    )


def reasoning_text(delta: dict[str, Any]) -> str:
    """The reasoning in a delta, from whichever field holds it."""
    for name in REASONING_FIELDS:
        value = delta.get(name)
        if isinstance(value, str) and value:
            return value
        if is_array(value):
            return "".join(block_text(block) for block in as_list(value))
    return ""


def block_text(block: object) -> str:
    """The text in a typed block, or in blocks nested below it (Mistral's `thinking`)."""
    if isinstance(block, str):
        return block
    fields = as_dict(block)
    for name in ("text", "thinking", "reasoning", "content", "summary"):
        value = fields.get(name)
        if isinstance(value, str):
            return value
        if is_array(value):
            return "".join(block_text(item) for item in as_list(value))
    return ""


def call_fragment(value: object) -> Fragment:
    """A tool call, or a piece of one, in the vendor's form.

    Raises:
        MalformedResponse: it is not even an object.
    """
    if not is_object(value):
        raise MalformedResponse("a tool call of the answer is not an object; ask again")
    call = as_dict(value)
    index = call.get("index")
    function = as_dict(call.get("function"))
    custom = as_dict(call.get("custom")) if not function else {}
    body = function or custom
    arguments = body.get("input" if custom else "arguments")
    if is_object(arguments) or is_array(arguments):
        # Some servers send the object itself instead of its text.
        arguments = msgspec.json.encode(arguments).decode()
    call_id = call.get("id")
    return Fragment(
        index if isinstance(index, int) and not isinstance(index, bool) else None,
        str(call_id) if isinstance(call_id, str | int) and not isinstance(call_id, bool) else "",
        text_of(body.get("name"), "a tool call's name"),
        text_of(arguments, "a tool call's arguments"),
        bool(custom),
    )


class DetailLog:
    """OpenRouter's `reasoning_details`, which must go back exactly as they came."""

    __slots__ = ("_items",)

    def __init__(self) -> None:
        self._items: list[dict[str, Any]] = []

    def add(self, value: object) -> str:
        """Takes the details of one chunk in; returns the text in them."""
        text: list[str] = []
        for item in as_list(value):
            detail = as_dict(item)
            if not detail:
                continue
            piece = detail.get("text") or detail.get("summary")
            if isinstance(piece, str):
                text.append(piece)
            if not self._continues(detail):
                self._items.append(dict(detail))
        return "".join(text)

    def _continues(self, detail: dict[str, Any]) -> bool:
        """Streamed text comes in pieces of one block; encrypted data comes whole."""
        last = self._items[-1] if self._items else None
        name = {"reasoning.text": "text", "reasoning.summary": "summary"}.get(
            str(detail.get("type"))
        )
        if last is None or name is None or last.get("type") != detail.get("type"):
            return False
        if last.get("index") != detail.get("index") or last.get("signature"):
            return False
        for key, value in detail.items():
            if key == name:
                last[key] = str(last.get(key) or "") + str(value or "")
            elif value is not None:
                last[key] = value
        return True

    def part(self, provider: str) -> Opaque | None:
        """All details as one part, None if there are none."""
        if not self._items:
            return None
        text = msgspec.json.encode(self._items).decode()
        return Opaque(provider, "reasoning_details", text)


class SoundLog:
    """Speech, whose data and transcript come in pieces."""

    __slots__ = ("_data", "_id", "_transcript")

    def __init__(self) -> None:
        self._id = ""
        self._data: list[bytes] = []
        self._transcript: list[str] = []

    def add(self, value: object) -> None:
        """Takes a piece in.

        Raises:
            MalformedResponse: the data is not base64.
        """
        sound = as_dict(value)
        self._id = text_of(sound.get("id"), "the id of the audio") or self._id
        self._transcript.append(text_of(sound.get("transcript"), "the transcript of the audio"))
        data = text_of(sound.get("data"), "the data of the audio")
        if data:
            try:
                self._data.append(binascii.a2b_base64(data))
            except (binascii.Error, ValueError) as error:
                raise MalformedResponse(
                    "the audio of the answer is not valid base64; ask again"
                ) from error

    def part(self) -> Audio | None:
        """The whole sound, None if there is none."""
        data = b"".join(self._data)
        transcript = "".join(self._transcript)
        if not (self._id or data or transcript):
            return None
        return Audio(data or None, None, self._id or None, transcript or None)
