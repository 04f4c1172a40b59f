"""Images, sounds and files in wire form, where protocols have the same words for them."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import TypeVar

from llm_client.errors import UnsupportedFeature
from llm_client.types import Audio, File, Image

__all__ = ["base64_text", "in_words", "media_url", "shown"]

P = TypeVar("P", Image, Audio, File, Image | File, Image | Audio | File)
T = TypeVar("T")


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


def shown(part: P, write: Callable[[P], T], say: Callable[[str], T]) -> T:
    """`part` as `write` puts it, or what `say` makes of words where the protocol has no form for
    it: history comes from anywhere, and must stay sendable."""
    try:
        return write(part)
    except UnsupportedFeature:
        return say(_unseen(part))


def _unseen(part: Image | Audio | File) -> str:
    match part:
        case Audio(transcript=str(text)) if text:
            return text
        case Audio():
            return "[a sound is here that you cannot hear]"
        case Image():
            return f"[an image is here that you cannot see{_facts(part.media_type, part.url)}]"
        case File():
            facts = _facts(part.name, part.media_type, part.url)
            return f"[a file is here that you cannot read{facts}]"


def _facts(*known: str | None) -> str:
    told = [fact for fact in known if fact and not fact.startswith("data:")]
    return f": {', '.join(told)}" if told else ""
