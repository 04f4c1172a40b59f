"""Images and documents in the wire form of the Messages protocol."""

from __future__ import annotations

from typing import Any

from llm_client.codecs._media import base64_text
from llm_client.errors import UnsupportedFeature
from llm_client.types import Audio, File, Image

__all__ = ["media_block"]

_PDF = "application/pdf"
_TEXTUAL = ("text/", "application/json", "application/xml", "application/yaml")


def media_block(part: Image | Audio | File) -> dict[str, Any]:
    """An image; a file that is a PDF, a text, an image, or known to the provider by its id; or what
    is said in a sound.

    Raises:
        UnsupportedFeature: it is empty, or of a type that the protocol does not take.
    """
    match part:
        case Image():
            return {"type": "image", "source": _source(part, "image/png")}
        case File():
            return _document(part)
        case Audio(transcript=str(text)) if text.strip():
            return {"type": "text", "text": text}
        case Audio():
            raise UnsupportedFeature(
                "the protocol takes no sound; give the audio part a transcript, or leave it out"
            )


def _document(part: File) -> dict[str, Any]:
    media_type = part.media_type or _PDF
    if media_type.startswith("image/"):
        return {"type": "image", "source": _source(part, media_type)}
    block: dict[str, Any] = {"type": "document", "source": _document_source(part, media_type)}
    if part.name:
        block["title"] = part.name
    return block


def _document_source(part: File, media_type: str) -> dict[str, Any]:
    if part.data is None or media_type == _PDF:
        return _source(part, media_type)
    if media_type.startswith(_TEXTUAL):
        text = part.data.decode("utf-8", "replace")
        return {"type": "text", "media_type": "text/plain", "data": text}
    raise UnsupportedFeature(
        f"the protocol takes PDF, text and images, but the file part is {media_type}; convert it"
    )


def _source(part: Image | File, usual_type: str) -> dict[str, Any]:
    if isinstance(part, File) and part.id is not None:
        return {"type": "file", "file_id": part.id}
    if part.data is not None:
        data = base64_text(part.data)
        return {"type": "base64", "media_type": part.media_type or usual_type, "data": data}
    if part.url is None:
        kind = type(part).__name__.lower()
        raise UnsupportedFeature(f"the {kind} part is empty; give it data or a url")
    head, comma, data = part.url.partition(";base64,")
    if comma and head.startswith("data:"):
        # Other protocols hold data in the address; this one does not.
        return {"type": "base64", "media_type": head.removeprefix("data:"), "data": data}
    return {"type": "url", "url": part.url}
