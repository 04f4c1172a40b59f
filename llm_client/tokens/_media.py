"""Tokens of what is not text: images by their size in pixels, sound by its length, files by pages.

The size of an image is read from the first bytes of its file; nothing is decoded.
"""

from __future__ import annotations

import math
import re
import struct

from msgspec import Struct

from llm_client.types import Audio, File, Image

__all__ = [
    "Crops",
    "Flat",
    "ImageRule",
    "Patches",
    "Pixels",
    "Tiles",
    "audio_seconds",
    "image_tokens",
    "pages",
    "pixel_size",
]

UNKNOWN_SIZE = (1024, 1024)
"""An image whose size is not known, such as one behind a URL, counts as one of this size."""


class Tiles(Struct, frozen=True):
    """`base`, and `tile` for each square of 512 pixels that the scaled image touches."""

    base: int
    tile: int


class Patches(Struct, frozen=True):
    """`factor` for each square of 32 pixels, of which there are at most 1,536."""

    factor: float


class Pixels(Struct, frozen=True):
    """One token for `per` pixels, once the longer edge is at most `edge`; `most` in all."""

    per: int = 750
    edge: int = 1568
    most: int = 1600


class Crops(Struct, frozen=True):
    """`each` for each crop that a larger image is cut into."""

    each: int = 258


class Flat(Struct, frozen=True):
    """`tokens` for any image."""

    tokens: int = 765


ImageRule = Tiles | Patches | Pixels | Crops | Flat


def image_tokens(image: Image, rule: ImageRule) -> int:
    """Tokens of `image`."""
    size = None if image.data is None else pixel_size(image.data)
    width, height = size or UNKNOWN_SIZE
    match rule:
        case Tiles():
            return _tiles(width, height, rule, low=image.detail == "low")
        case Patches():
            return math.ceil(_patches(width, height) * rule.factor)
        case Pixels():
            scale = min(1.0, rule.edge / max(width, height))
            return max(1, min(rule.most, math.ceil(width * height * scale * scale / rule.per)))
        case Crops():
            return rule.each * _crops(width, height)
        case Flat():
            return rule.tokens


def _tiles(width: int, height: int, rule: Tiles, *, low: bool) -> int:
    if low:
        return rule.base
    # First into a square of 2,048, then until the shorter edge has 768.
    scale = min(1.0, 2048 / max(width, height))
    scale *= min(1.0, 768 / (min(width, height) * scale))
    columns = math.ceil(width * scale / 512)
    return rule.base + rule.tile * columns * math.ceil(height * scale / 512)


def _patches(width: int, height: int) -> int:
    return min(1536, math.ceil(width / 32) * math.ceil(height / 32))


def _crops(width: int, height: int) -> int:
    if max(width, height) <= 384:
        return 1
    edge = min(max(min(width, height) // 1.5, 256), 768)
    return math.ceil(width / edge) * math.ceil(height / edge)


# ── sizes ─────────────────────────────────────────────────────────────────────────────────────────


def pixel_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a PNG, JPEG, GIF or WebP image; None if they cannot be read."""
    try:
        width, height = _size_of(data)
    except struct.error:
        return None
    return (width, height) if width > 0 and height > 0 else None


def _size_of(data: bytes) -> tuple[int, int]:
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return struct.unpack_from(">II", data, 16)
    if data.startswith((b"GIF87a", b"GIF89a")):
        return struct.unpack_from("<HH", data, 6)
    if data.startswith(b"\xff\xd8"):
        return _jpeg_size(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp_size(data)
    return 0, 0


_SEGMENTS = 1000
"""No camera writes more of them before the picture."""


def _jpeg_size(data: bytes) -> tuple[int, int]:
    at = 2
    for _ in range(_SEGMENTS):
        mark, kind, length = struct.unpack_from(">BBH", data, at)
        if mark != 0xFF:
            return 0, 0
        if kind == 0xFF:
            at += 1
        elif 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        else:
            at += 2 + length
    return 0, 0


def _webp_size(data: bytes) -> tuple[int, int]:
    match data[12:16]:
        case b"VP8X":
            wide, high = data[24:27] + b"\0", data[27:30] + b"\0"
            width, height = struct.unpack("<II", wide + high)
            return width + 1, height + 1
        case b"VP8L":
            (bits,) = struct.unpack_from("<I", data, 21)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", data, 26)
            return width & 0x3FFF, height & 0x3FFF
        case _:
            return 0, 0


_BYTES_PER_SECOND = 16_000
"""Of compressed sound at the usual 128 kbit/s."""

_PCM_BYTES_PER_SECOND = 48_000
"""Of bare samples: 16 bits, 24 kHz, one channel."""


def audio_seconds(audio: Audio) -> float:
    """How long `audio` lasts, about; 0 if its sound is not here."""
    if audio.data is None:
        return 0.0
    data = audio.data
    rate = _BYTES_PER_SECOND
    if data.startswith(b"RIFF") and data[8:16] == b"WAVEfmt " and len(data) >= 32:
        (rate,) = struct.unpack_from("<I", data, 28)
    elif audio.format is not None and audio.format.startswith("pcm"):
        rate = _PCM_BYTES_PER_SECOND
    return len(data) / (rate or _BYTES_PER_SECOND)


_PAGE = re.compile(rb"/Type\s{0,8}/Page\b")
_BYTES_PER_PAGE = 50_000
_PAGES_OF_UNKNOWN = 10


def pages(file: File) -> int:
    """Pages of a PDF, about; of what is not here, 10."""
    if file.data is None:
        return _PAGES_OF_UNKNOWN
    return len(_PAGE.findall(file.data)) or math.ceil(len(file.data) / _BYTES_PER_PAGE)
