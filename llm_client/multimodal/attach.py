"""From a path, bytes or an address to a part of a message."""

from __future__ import annotations

import binascii
import os
import stat
from functools import partial
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from anyio import to_thread

from llm_client.multimodal.errors import AttachmentTooLarge, AttachmentUnreadable
from llm_client.multimodal.sniff import UNKNOWN, Kind, Sniffed, sniff, text_in
from llm_client.types import Audio, File, Image, Text

__all__ = ["Attachment", "attachment", "data_url", "load_attachment", "shown_name"]

Attachment = Image | Audio | File | Text

LIMIT = 50 * 1024 * 1024
"""Bytes of an attachment, if nothing else is said. No provider takes a larger one in a request."""

_NAME_LENGTH = 200
_ENDINGS = MappingProxyType(
    {
        ".png": "image/png",
        ".jpg": "image/jpeg",
        ".jpeg": "image/jpeg",
        ".gif": "image/gif",
        ".webp": "image/webp",
        ".pdf": "application/pdf",
    }
)


def attachment(
    source: str | os.PathLike[str] | bytes,
    *,
    name: str | None = None,
    media_type: str | None = None,
    limit: int = LIMIT,
) -> Attachment:
    """`source` as a part of a message: bytes, a path, or an address (http, https or data).

    What it is, is told by its first bytes, never by its name alone. Text becomes `Text` that names
    its file; images and sound become `Image` and `Audio`; all else becomes a `File`. A file is read
    here and now: in an event loop use `load_attachment`. What an address holds is fetched by the
    provider and not looked at; there `media_type`, or else the ending, says what it is.

    Args:
        source: what is attached.
        name: what it is called, by default the path's last part.
        media_type: what it is, where its bytes do not tell.
        limit: bytes that it may have.

    Raises:
        AttachmentTooLarge: it has more than `limit` bytes.
        AttachmentUnreadable: it is empty or cannot be read, or is not of `media_type`.
    """
    if isinstance(source, bytes):
        return _part(source, name, media_type, limit)
    if isinstance(source, str):
        scheme = source.partition(":")[0].lower()
        if scheme in ("http", "https"):
            return _addressed(source, name, media_type)
        if scheme == "data":
            data, told = data_url(source)
            return _part(data, name, media_type or told, limit)
    path = Path(source)
    return _part(_read(path, limit), name or path.name, media_type, limit)


async def load_attachment(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    media_type: str | None = None,
    limit: int = LIMIT,
) -> Attachment:
    """As `attachment`, with the file read in a thread, so that the event loop goes on.

    Raises:
        AttachmentTooLarge: it has more than `limit` bytes.
        AttachmentUnreadable: it is empty or cannot be read, or is not of `media_type`.
    """
    read = partial(attachment, path, name=name, media_type=media_type, limit=limit)
    return await to_thread.run_sync(read, abandon_on_cancel=True)


def shown_name(name: str) -> str:
    """`name` as it can stand in brackets within a text: on one line, not endless."""
    flat = "".join(c if c.isprintable() and c not in "[]" else "_" for c in name)
    return flat if len(flat) <= _NAME_LENGTH else f"{flat[:_NAME_LENGTH]}…"


def data_url(url: str) -> tuple[bytes, str | None]:
    """The bytes in a data address, and the media type that it tells.

    Raises:
        AttachmentUnreadable: it is not one, or its base64 is damaged.
    """
    head, comma, body = url.partition(",")
    words = head.partition(":")[2].split(";")
    try:
        data = unquote_to_bytes(body)
        if words[-1].strip().lower() == "base64":
            data = binascii.a2b_base64(data)
    except ValueError as error:
        raise AttachmentUnreadable(f"the base64 of a data address is damaged: {error}") from None
    if not comma:
        raise AttachmentUnreadable("a data address needs a comma before its data")
    return data, words[0].strip().lower() or None


def _read(path: Path, limit: int) -> bytes:
    name = shown_name(path.name)
    try:
        # Opening a pipe would wait for somebody to write.
        if not stat.S_ISREG(path.stat().st_mode):
            raise AttachmentUnreadable(f"{name!r} is not a file; attach a file, or bytes")
        with path.open("rb") as file:
            # Sizes that are told beforehand may be wrong; what is read is bounded.
            return file.read(limit + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise AttachmentUnreadable(f"{name!r} cannot be read: {reason}") from error


def _part(data: bytes, name: str | None, media_type: str | None, limit: int) -> Attachment:
    called = "the attachment" if name is None else repr(shown_name(name))
    if not data:
        raise AttachmentUnreadable(f"{called} is empty; there is nothing to send")
    if len(data) > limit:
        raise AttachmentTooLarge(
            f"{called} has more than {limit} bytes; attach a part of it, or raise the limit",
            name=name or "attachment",
            size=len(data),
            limit=limit,
        )
    found = _agreed(sniff(data, name), media_type, called)
    match found.kind:
        case "image":
            return Image(data, media_type=found.media_type)
        case "audio":
            return Audio(data, found.media_type.removeprefix("audio/"))
        case "text":
            return _text(text_in(data) or "", name)
        case "file":
            return File(data, name=name, media_type=found.media_type)


def _agreed(found: Sniffed, told: str | None, called: str) -> Sniffed:
    """What the bytes are, made more precise by what was told about them.

    Raises:
        AttachmentUnreadable: the two contradict each other.
    """
    if told is None:
        return found
    told = told.lower()
    if found == UNKNOWN or found.kind == "text":
        # Neither says much. But what has a mark of its own has been looked for.
        if _kind_of(told) not in ("image", "audio") and told != "application/pdf":
            return found if found.kind == "text" else Sniffed("file", told)
    elif found.kind == "file" and _kind_of(told) == "file" and found.media_type != _PDF:
        return Sniffed("file", told)
    elif _kind_of(told) == found.kind and (found.kind != "file" or told == found.media_type):
        # Names of image and sound types have spellings; the bytes are what is sent.
        return found
    raise AttachmentUnreadable(
        f"{called} is said to be {told}, but its bytes are {found.media_type}; leave media_type "
        "out, or look at the file"
    )


_PDF = "application/pdf"


def _kind_of(media_type: str) -> Kind:
    match media_type.partition("/")[0]:
        case "image":
            return "file" if media_type == "image/svg+xml" else "image"
        case "audio":
            return "audio"
        case "text":
            return "text"
        case _:
            return "file"


def _text(text: str, name: str | None) -> Text:
    if name is None:
        return Text(text)
    name = shown_name(name)
    return Text(f"[file {name}]\n{text}\n[end of file {name}]")


def _addressed(url: str, name: str | None, media_type: str | None) -> Attachment:
    path = unquote(urlsplit(url).path).lower()
    ending = next((ending for ending in _ENDINGS if path.endswith(ending)), "")
    found = media_type or _ENDINGS.get(ending)
    if found is None:
        raise AttachmentUnreadable(
            "what is at the address cannot be told from it; say it in media_type, or fetch it and "
            "attach its bytes"
        )
    match _kind_of(found):
        case "image":
            return Image(url=url, media_type=found)
        case "file":
            return File(url=url, name=name, media_type=found)
        case "audio" | "text":
            raise AttachmentUnreadable(
                f"providers do not fetch {found} from an address; fetch it and attach its bytes"
            )
