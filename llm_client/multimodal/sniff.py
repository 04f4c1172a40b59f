"""What a file is, by its first bytes. What it is called is no evidence."""

from __future__ import annotations

import struct
from types import MappingProxyType
from typing import Literal

from msgspec import Struct

from llm_client.tokens._media import pixel_size

__all__ = ["Kind", "Sniffed", "image_size", "sniff", "text_in"]

Kind = Literal["image", "audio", "text", "file"]


class Sniffed(Struct, frozen=True):
    """What a file is: how a message holds it, and its media type."""

    kind: Kind
    media_type: str


def _image(name: str) -> Sniffed:
    return Sniffed("image", f"image/{name}")


def _audio(name: str) -> Sniffed:
    return Sniffed("audio", f"audio/{name}")


def _file(media_type: str) -> Sniffed:
    return Sniffed("file", media_type)


UNKNOWN = _file("application/octet-stream")
_TEXT = Sniffed("text", "text/plain")
_ZIP = _file("application/zip")
_PDF = _file("application/pdf")

_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", _image("png")),
    (b"\xff\xd8\xff", _image("jpeg")),
    (b"GIF87a", _image("gif")),
    (b"GIF89a", _image("gif")),
    (b"II*\0", _image("tiff")),
    (b"MM\0*", _image("tiff")),
    (b"OggS\0", _audio("ogg")),
    (b"fLaC\0", _audio("flac")),
    (b"PK\x03\x04", _ZIP),
    (b"PK\x05\x06", _ZIP),
    (b"\x1a\x45\xdf\xa3", _file("video/webm")),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _file("application/x-ole-storage")),
    (b"\x1f\x8b\x08", _file("application/gzip")),
)
_RIFF = MappingProxyType({b"WAVE": _audio("wav"), b"WEBP": _image("webp")})
_BRANDS = MappingProxyType(
    {
        b"heic": _image("heic"),
        b"heix": _image("heic"),
        b"hevc": _image("heic"),
        b"heim": _image("heic"),
        b"heis": _image("heic"),
        b"mif1": _image("heif"),
        b"msf1": _image("heif"),
        b"avif": _image("avif"),
        b"avis": _image("avif"),
        b"M4A ": _audio("m4a"),
        b"M4B ": _audio("m4a"),
    }
)
_OFFICE = MappingProxyType(
    {
        ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        ".odt": "application/vnd.oasis.opendocument.text",
        ".ods": "application/vnd.oasis.opendocument.spreadsheet",
        ".odp": "application/vnd.oasis.opendocument.presentation",
        ".epub": "application/epub+zip",
    }
)
_BMP_HEADERS = frozenset({12, 40, 52, 56, 64, 108, 124})
_PDF_WITHIN = 1024
"""Readers take a PDF whose mark does not stand at the very beginning."""


def sniff(data: bytes, name: str | None = None) -> Sniffed:
    """What `data` is. Archives have no mark of what is in them: of those, and only of those, the
    ending of `name` says which office document it is."""
    for beginning, found in _BEGINNINGS:
        if data.startswith(beginning):
            return _office(name) if found is _ZIP else found
    found = _boxed(data) or _by_fields(data)
    if found is not None:
        return found
    if b"%PDF-" in data[:_PDF_WITHIN]:
        return _PDF
    return _TEXT if text_in(data) is not None else UNKNOWN


def _office(name: str | None) -> Sniffed:
    lower = (name or "").lower()
    for ending, media_type in _OFFICE.items():
        if lower.endswith(ending):
            return _file(media_type)
    return _ZIP


def _boxed(data: bytes) -> Sniffed | None:
    """What is in a container that names its content."""
    if data.startswith(b"RIFF"):
        return _RIFF.get(data[8:12])
    if data.startswith(b"FORM") and data[8:12] in (b"AIFF", b"AIFC"):
        return _audio("aiff")
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12], _file("video/mp4"))
    return None


def _by_fields(data: bytes) -> Sniffed | None:
    """What is told by the fields of its header, because its mark alone could begin a text."""
    if len(data) < 4:
        return None
    if data.startswith(b"ID3") and data[3] <= 4:
        return _audio("mp3")
    if data[0] == 0xFF and data[1] & 0xF6 == 0xF0:
        return _audio("aac")
    # The third layer, and neither a bit rate nor a sample rate that does not exist.
    if data[0] == 0xFF and data[1] & 0xE6 == 0xE2 and data[2] >> 4 != 15 and data[2] & 12 != 12:
        return _audio("mp3")
    if data.startswith(b"BM") and len(data) >= 26:
        (header,) = struct.unpack_from("<I", data, 14)
        return _image("bmp") if header in _BMP_HEADERS else None
    return None


_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
    (b"", "utf-8"),
)
_NO_TEXT = frozenset(range(32)) - frozenset(b"\t\n\f\r\x1b")


def text_in(data: bytes) -> str | None:
    """The text that `data` is, in UTF-8 or as its byte order mark says; None if it is none."""
    encoding = next(encoding for mark, encoding in _MARKS if data.startswith(mark))
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return None
    return None if any(code < 32 and code in _NO_TEXT for code in map(ord, set(text))) else text


def image_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a PNG, JPEG, GIF, WebP or BMP image, by its header; None if they cannot
    be read. Nothing is decoded."""
    if data.startswith(b"BM"):
        return _bmp_size(data)
    return pixel_size(data)


def _bmp_size(data: bytes) -> tuple[int, int] | None:
    if len(data) < 26:
        return None
    (header,) = struct.unpack_from("<I", data, 14)
    if header not in _BMP_HEADERS:
        return None
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    # Rows that stand from top to bottom are told by a negative height.
    return (width, abs(height)) if width > 0 and height else None
