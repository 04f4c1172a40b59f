"""What callers may pass as input, checked at the edge: nothing is stored of what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from llm_client.types import Audio, File, Image, Message, Text
from power_loop.errors import InvalidInput

__all__ = ["Input", "InputPart", "to_message"]

InputPart = str | Text | Image | Audio | File
Input = InputPart | Sequence[InputPart]
"""Text, an image, sound, a file, or several of them in order."""

MAX_IMAGE_BYTES = 20 * 1024 * 1024
"""No provider takes a larger image; most take 5 MB of base64."""


def to_message(input: Input, message_id: str) -> Message:
    """The user message for `input`.

    Raises:
        InvalidInput: it is empty, holds text that is not valid Unicode, or a part of a wrong type.
    """
    items = [input] if isinstance(input, InputPart) else list(input)
    if not items:
        raise InvalidInput("the input is empty; pass text, an image or a file")
    parts = tuple([_part(item) for item in items])
    if not any(_says_something(part) for part in parts):
        raise InvalidInput("the input is empty: it consists of white space only")
    return Message("user", parts, id=message_id)


def _part(item: object) -> Text | Image | Audio | File:
    match item:
        case str():
            return Text(_valid(item))
        case Text():
            _valid(item.text)
            return item
        case Image():
            if (item.data is None) == (item.url is None):
                raise InvalidInput("an image has either data or a url")
            if item.data is not None and not 0 < len(item.data) <= MAX_IMAGE_BYTES:
                raise InvalidInput(
                    f"an image of {len(item.data)} bytes cannot be sent; "
                    f"it must have 1 to {MAX_IMAGE_BYTES} bytes"
                )
            return item
        case Audio() | File():
            return item
        case _:
            raise InvalidInput(
                f"input of type {type(item).__name__} is not supported; "
                "pass text, Text, Image, Audio or File"
            )


def _valid(text: str) -> str:
    if "\x00" in text:
        raise InvalidInput(
            f"the input holds a NUL character at position {text.index(chr(0))}; remove it"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"the input holds a lone surrogate at position {error.start}, which is not valid "
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
