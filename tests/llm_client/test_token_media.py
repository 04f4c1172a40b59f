"""Tokens of images, sound and files, by the rules that their makers publish."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_client.tokens import ModelTokens
from llm_client.tokens._media import (
    Crops,
    Flat,
    ImageRule,
    Patches,
    Pixels,
    Tiles,
    audio_seconds,
    image_tokens,
    pages,
    pixel_size,
)
from llm_client.types import Audio, File, Image, Message


def png(width: int, height: int) -> bytes:
    """The beginning of a PNG file."""
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", width, height)


def jpeg(width: int, height: int) -> bytes:
    """The beginning of a JPEG file, with two segments and a fill byte before its size."""
    segment = b"\xff\xe0\0\x06abcd\xff\xc4\0\x0ahuffmann"
    return b"\xff\xd8" + segment + b"\xff\xff\xc0\0\x11\x08" + struct.pack(">HH", height, width)


def webp(kind: bytes, rest: bytes) -> bytes:
    """The beginning of a WebP file."""
    return b"RIFF\0\0\0\0WEBP" + kind + b"\0\0\0\0" + rest


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (png(640, 480), (640, 480)),
        (jpeg(640, 480), (640, 480)),
        (b"GIF89a" + struct.pack("<HH", 3, 4), (3, 4)),
        (webp(b"VP8X", b"\0\0\0\0" + b"\x7f\x02\0" + b"\xdf\x01\0"), (640, 480)),
        (webp(b"VP8L", b"\x2f" + struct.pack("<I", 639 | 479 << 14)), (640, 480)),
        (webp(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 640, 480)), (640, 480)),
        (png(0, 7), None),
        (png(640, 480)[:20], None),
        (b"\xff\xd8" + b"\xff" * 10_000_000, None),
        (b"\xff\xd8" + b"\xff" * 2000 + jpeg(640, 480)[2:], None),
        (b"\xff\xd8no", None),
        (b"<svg/>", None),
        (b"", None),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_the_size_of_an_image_is_read_from_its_first_bytes(
    data: bytes, size: tuple[int, int] | None
) -> None:
    """Nothing is decoded, and what cannot be read has no size."""
    assert pixel_size(data) == size


@given(st.binary(max_size=64), st.sampled_from([b"", b"\xff\xd8", b"GIF89a", png(1, 1)[:16]]))
def test_no_bytes_break_the_reading_of_a_size(data: bytes, start: bytes) -> None:
    """A size is two positive numbers, or nothing."""
    size = pixel_size(start + data)
    assert size is None or min(size) > 0


@pytest.mark.parametrize(
    ("rule", "size", "tokens"),
    [
        # OpenAI's guide: 1024x1024 is 765, 2048x4096 is 1105.
        (Tiles(85, 170), (1024, 1024), 765),
        (Tiles(85, 170), (2048, 4096), 1105),
        # Patches of 32 pixels: 1024x1024 is 1024 of them, and there are never more than 1536.
        (Patches(1.0), (1024, 1024), 1024),
        (Patches(1.62), (4000, 4000), 2489),
        # Anthropic's guide: 200x200 is about 54, 1092x1092 about 1590.
        (Pixels(), (200, 200), 54),
        (Pixels(), (1092, 1092), 1590),
        (Pixels(), (8000, 8000), 1600),
        # Google's guide: up to 384 pixels 258; 960x540 is six crops.
        (Crops(), (384, 300), 258),
        (Crops(), (960, 540), 6 * 258),
        (Flat(7), (960, 540), 7),
    ],
)
def test_an_image_counts_by_its_makers_rule(
    rule: ImageRule, size: tuple[int, int], tokens: int
) -> None:
    """As in the examples of their guides."""
    assert image_tokens(Image(png(*size)), rule) == tokens


def test_an_image_of_low_detail_or_unknown_size_has_a_count_too() -> None:
    """Low detail is the base alone; what is behind a URL counts as a usual image."""
    assert image_tokens(Image(png(2000, 2000), detail="low"), Tiles(85, 170)) == 85
    assert image_tokens(Image(url="https://example.org/a.png"), Tiles(85, 170)) == 765


@pytest.mark.parametrize(
    ("audio", "seconds"),
    [
        (
            Audio(
                b"RIFF\0\0\0\0WAVEfmt "
                + struct.pack("<IHHII", 16, 1, 1, 16000, 32000)
                + bytes(63968)
            ),
            2.0,
        ),
        (Audio(bytes(96_000), "pcm16"), 2.0),
        (Audio(bytes(32_000), "mp3"), 2.0),
        (Audio(id="a"), 0.0),
    ],
    ids=["wav", "pcm", "mp3", "none"],
)
def test_sound_counts_by_its_length(audio: Audio, seconds: float) -> None:
    """From its header, else by the usual rate."""
    assert audio_seconds(audio) == pytest.approx(seconds, rel=0.001)


def test_what_a_model_said_counts_as_text() -> None:
    """Its own speech, of which only the words are here."""
    said = Message("assistant", (Audio(id="a", transcript="words " * 100),))
    silent = Message("assistant", (Audio(id="a"),))
    counter = ModelTokens("gpt-4o")
    assert counter.count_message(said) >= counter.count_message(silent) + 100


def test_a_document_counts_by_its_pages() -> None:
    """By the marks of its pages where they can be seen, else by its size; text counts as text."""
    assert pages(File(b"%PDF /Type /Pages /Type /Page /Type/Page ")) == 2
    assert pages(File(bytes(120_000))) == 3
    assert pages(File(id="f")) == 10
    counter = ModelTokens("gemini-2.5-flash")
    text = Message.user("", File(b"a" * 360, media_type="text/plain"))
    assert counter.count_message(text) == 1 + counter.count_text("a" * 360)
