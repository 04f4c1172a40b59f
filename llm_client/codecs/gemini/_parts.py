"""The parts of a Gemini answer that are no plain text and no call, and the sources it cites."""

from __future__ import annotations

import binascii
from typing import Any

import msgspec

from llm_client.codecs._json import as_dict, as_list, is_object
from llm_client.errors import MalformedResponse
from llm_client.types import Audio, Citation, File, Image, Opaque, Part, Seal

__all__ = ["METADATA", "blob_data", "citations_in", "metadata_in", "other_part"]

METADATA = ("groundingMetadata", "urlContextMetadata")
"""What stands beside an answer's parts and is worth keeping. It never goes back."""

_BESIDE = frozenset({"thought", "thoughtSignature", "videoMetadata", "partMetadata"})
_URLSAFE = bytes.maketrans(b"-_", b"+/")


def other_part(fields: dict[str, Any], signature: str | None, origin: str) -> Part | None:
    """What a part without text and without a call comes to, None if there is nothing in it.

    Raises:
        MalformedResponse: its data is not base64.
    """
    kind = next((name for name in fields if name not in _BESIDE), None)
    if kind is None:
        return None
    if kind == "inlineData" and is_object(fields[kind]) and not fields.get("thought"):
        blob = as_dict(fields[kind])
        media_type = blob.get("mimeType")
        media_type = media_type if isinstance(media_type, str) else "application/octet-stream"
        data = blob_data(blob.get("data"))
        if media_type.startswith("image/"):
            # Even without a signature: the seal says that the image is the model's own.
            return Image(data, media_type=media_type, seal=Seal(origin, signature))
        if signature is None:
            if media_type.startswith("audio/"):
                return Audio(data, media_type.removeprefix("audio/"))
            return File(data, media_type=media_type)
    return Opaque(origin, kind, msgspec.json.encode(fields).decode())


def blob_data(value: object) -> bytes:
    """The bytes in base64 of either alphabet, padded or not.

    Raises:
        MalformedResponse: it is none.
    """
    try:
        text = value.encode("ascii") if isinstance(value, str) else b""
        text = text.translate(_URLSAFE).rstrip(b"=")
        return binascii.a2b_base64(text + b"=" * (-len(text) % 4))
    except ValueError as error:
        raise MalformedResponse(
            "a file in the answer is not valid base64; ask again, or report it to the provider"
        ) from error


def metadata_in(candidate: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What a candidate says about its sources, by the field it says it in."""
    found = {name: as_dict(candidate.get(name)) for name in (*METADATA, "citationMetadata")}
    return {name: value for name, value in found.items() if value}


def citations_in(metadata: dict[str, dict[str, Any]]) -> tuple[Citation, ...]:
    """The sources in `metadata`, each once, in order."""
    grounding = metadata.get("groundingMetadata", {})
    found = _grounded(grounding)
    cited = metadata.get("citationMetadata", {})
    for item in as_list(cited.get("citations") or cited.get("citationSources")):
        source = as_dict(item)
        if source:
            url, title = _text(source.get("uri")), _text(source.get("title"))
            found.append(Citation(_json(source), url, title))
    return tuple(dict.fromkeys(found))


def _grounded(grounding: dict[str, Any]) -> list[Citation]:
    """Each passage of the text with each source that supports it; sources that support none."""
    chunks = [as_dict(item) for item in as_list(grounding.get("groundingChunks"))]
    found: list[Citation] = []
    used: set[int] = set()
    for item in as_list(grounding.get("groundingSupports")):
        support = as_dict(item)
        quote = _text(as_dict(support.get("segment")).get("text"))
        for index in as_list(support.get("groundingChunkIndices")):
            if isinstance(index, int) and 0 <= index < len(chunks):
                used.add(index)
                both = {"groundingChunk": chunks[index], "groundingSupport": support}
                found.append(_citation(chunks[index], both, quote))
    for index, chunk in enumerate(chunks):
        if index not in used and chunk:
            found.append(_citation(chunk, {"groundingChunk": chunk}, None))
    return found


def _citation(chunk: dict[str, Any], whole: dict[str, Any], quote: str | None) -> Citation:
    # The one field of a chunk says what kind of source it is: web, maps, retrievedContext.
    source = as_dict(next(iter(chunk.values()), None))
    return Citation(_json(whole), _text(source.get("uri")), _text(source.get("title")), quote)


def _json(value: dict[str, Any]) -> str:
    return msgspec.json.encode(value).decode()


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
