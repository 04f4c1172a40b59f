"""Images, sounds and files in wire form, where protocols have the same words for them."""

from __future__ import annotations

import base64

from llm_client.errors import UnsupportedFeature
from llm_client.types import Audio, File, Image

__all__ = ["base64_text", "in_words", "media_url"]


def base64_text(data: bytes) -> str:
    """`data` in base64."""
    return base64.b64encode(data).decode()


def media_url(part: Image | File, usual_type: str) -> str:
    """The address of an image or a file: its own, or a data URL.

    Raises:
        UnsupportedFeature: it has neither data nor an address.
    """
    if part.data is not None:
        return f"data:{part.media_type or usual_type};base64,{base64_text(part.data)}"
    if part.url is not None:
        return part.url
    kind = type(part).__name__.lower()
    raise UnsupportedFeature(f"the {kind} part is empty; give it data or a url")


def in_words(part: Audio | Image | File) -> str:
    """What stands for a part that an assistant message cannot hold."""
    match part:
        case Audio():
            return part.transcript or "[a sound]"
        case Image():
            return "[an image]"
        case File():
            return "[a file]"
