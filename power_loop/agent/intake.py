"""What callers may pass as input, checked at the edge: nothing is stored of what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never, cast

from msgspec.structs import asdict, replace

from llm_client.types import Audio, File, Image, Message, Text
from power_loop.errors import InvalidInput
from power_loop.session.view import COMPACT_NOTE

__all__ = ["Input", "InputPart", "to_message"]

InputPart = str | Text | Image | Audio | File
Input = InputPart | Sequence[InputPart] | Message
"""Text, an image, sound, a file, or several of them in order; or a user's message, for its `name`
and `meta`: it gets an id of its session's."""

MAX_IMAGE_BYTES = 20 * 1024 * 1024
"""No provider takes a larger image; most take 5 MB of base64."""


def to_message(input: Input, message_id: str) -> Message:
    """The user message for `input`.

    Raises:
        InvalidInput: it is empty, holds text that is not valid Unicode, or a part that is of a
            wrong type or has no content; or it is a message that no user can send.
    """
    if isinstance(input, Message):
        _check_message(input)
        return replace(to_message(input.parts, message_id), name=input.name, meta=input.meta)  # pyright: ignore[reportArgumentType]  what is no part of a user's is refused by name
    items = [input] if isinstance(input, InputPart) else _items(input)
    if not items:
        raise InvalidInput("the input is empty; pass text, an image or a file")
    parts = tuple([_part(item) for item in items])
    if not any(_says_something(part) for part in parts):
        raise InvalidInput("the input is empty: it consists of white space only")
    return Message("user", parts, id=message_id)


def _check_message(message: Message) -> None:
    if message.role != "user":
        raise InvalidInput(f"a message of the role {message.role!r} is no input; only a user's is")
    if message.name == COMPACT_NOTE:
        raise InvalidInput(f"the name {COMPACT_NOTE!r} is taken; use another one")
    meta = message.meta or {}
    for text in (message.name or "", *meta, *meta.values()):
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]  callers need not be checked
            raise InvalidInput(f"the name and meta of a message are texts, not {text!r}")
        _valid(text, "the name or meta of the message")


def _items(input: object) -> Sequence[object]:
    if isinstance(input, bytes | bytearray) or not isinstance(input, Sequence):
        raise _unsupported(input)
    return cast("Sequence[object]", input)


def _part(item: object) -> Text | Image | Audio | File:
    match item:
        case str():
            return Text(_valid(item, "the input"))
        case Text() | Image() | Audio() | File():
            _check_fields(item)
            _check_content(item)
            return item
        case _:
            raise _unsupported(item)


def _check_content(part: Text | Image | Audio | File) -> None:
    match part:
        case Text():
            pass
        case Image():
            if (part.data is None) == (part.url is None):
                raise InvalidInput("an image has either data or a url")
            if part.data is not None and not 0 < len(part.data) <= MAX_IMAGE_BYTES:
                raise InvalidInput(
                    f"an image of {len(part.data)} bytes cannot be sent; "
                    f"it must have 1 to {MAX_IMAGE_BYTES} bytes"
                )
        case Audio():
            if not part.data and not part.id:
                raise InvalidInput("a sound has no content; give it data, or the id of one")
        case File():
            if not part.data and not part.url and not part.id:
                raise InvalidInput("a file has no content; give it data, a url, or the id of one")
        case _:
            assert_never(part)


def _check_fields(part: Text | Image | Audio | File) -> None:
    """A field of a wrong type could be stored, but never be sent."""
    kind = type(part).__name__
    for name, value in asdict(part).items():
        if name == "data":
            if value is not None and not isinstance(value, bytes):
                raise InvalidInput(f"{kind}.data is bytes, not {type(value).__name__}")
        elif name in ("seal", "citations"):
            if value:
                raise InvalidInput(f"{kind}.{name} belongs to an answer of a model; leave it out")
        elif isinstance(value, str):
            _valid(value, f"{kind}.{name}")
        elif value is not None or name == "text":
            raise InvalidInput(f"{kind}.{name} is text, not {type(value).__name__}")


def _unsupported(value: object) -> InvalidInput:
    return InvalidInput(
        f"input of type {type(value).__name__} is not supported; "
        "pass text, Text, Image, Audio or File, or a list of them"
    )


def _valid(text: str, where: str) -> str:
    if "\x00" in text:
        raise InvalidInput(
            f"{where} holds a NUL character at position {text.index(chr(0))}; remove it"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"{where} holds a lone surrogate at position {error.start}, which is not valid "
            "Unicode; decode the source with errors='replace', for one"
        ) from None
    return text


def _says_something(part: Text | Image | Audio | File) -> bool:
    match part:
        case Text():
            return bool(part.text.strip())
        case Image() | Audio() | File():
            return True
        case _:
            assert_never(part)
