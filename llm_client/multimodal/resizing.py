"""Makes images smaller, and converts those of other types. The only user of Pillow.

Importing this module needs Pillow.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

from llm_client.errors import ConfigError
from llm_client.multimodal.plan import PIXELS

try:
    from PIL import Image, ImageOps
except ModuleNotFoundError as missing:
    raise ConfigError(
        "resizing images needs the extra 'images': pip install 'power-loop[images]'"
    ) from missing

__all__ = ["resized"]

_READ = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")
_PHOTOS = ("JPEG", "MPO")
_QUALITIES = (85, 70, 50)
_DAMAGED = (
    Image.DecompressionBombError,
    Image.UnidentifiedImageError,
    ArithmeticError,
    LookupError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    Warning,
    struct.error,
    zlib.error,
)
"""What the library raises over damaged files; warnings are among it if they are made errors."""


def resized(data: bytes, edge: int | None, most: int | None) -> tuple[bytes, str] | None:
    """The image in `data` with at most `edge` pixels along its longer edge, in at most `most`
    bytes, and its media type; None if it cannot be decoded or made to fit.

    It keeps its proportions and stands upright, as its orientation tag says; all tags are dropped.
    Of a moving one the first picture is left. A photo stays JPEG; all else is PNG if that fits, and
    JPEG if not.
    """
    try:
        opened = _opened(data, edge)
    except _DAMAGED:
        return None
    if opened is None:
        return None
    picture, photo = opened
    longer = max(picture.size)
    while True:
        for packed, media_type in _packed(picture, photo=photo):
            if most is None or len(packed) <= most:
                return packed, media_type
        longer = longer * 3 // 4
        if longer < 1:
            return None
        picture.thumbnail((longer, longer), Image.Resampling.LANCZOS)


def _opened(data: bytes, edge: int | None) -> tuple[Image.Image, bool] | None:
    """The first picture in `data`, upright and no larger than `edge`, and whether it is a photo;
    None if it has too many pixels to be decoded."""
    with Image.open(io.BytesIO(data), formats=_READ) as file:
        if file.width * file.height > PIXELS:
            return None
        photo = file.format in _PHOTOS
        if edge is not None and photo:
            # Decoded to a fraction of its size at once, but to no less than what is merged below.
            file.draft("RGB", (edge * 2, edge * 2))
        picture = ImageOps.exif_transpose(file)
        picture.load()
    if picture.has_transparency_data and picture.mode not in ("LA", "RGBA"):
        picture = picture.convert("RGBA")
    elif picture.mode not in ("L", "LA", "RGB", "RGBA"):
        picture = picture.convert("RGB")
    if edge is not None and max(picture.size) > edge:
        picture.thumbnail((edge, edge), Image.Resampling.LANCZOS)
    return picture, photo


def _packed(picture: Image.Image, *, photo: bool) -> Iterator[tuple[bytes, str]]:
    """`picture` as files, the best first."""
    # What is kept beside the pixels says where and with what a photo was taken.
    picture.info.clear()
    if not photo:
        yield _file(picture, "PNG"), "image/png"
    flat = _flat(picture)
    for quality in _QUALITIES:
        yield _file(flat, "JPEG", quality), "image/jpeg"


def _file(picture: Image.Image, kind: str, quality: int = 0) -> bytes:
    file = io.BytesIO()
    if kind == "PNG":
        picture.save(file, kind)
    else:
        picture.save(file, kind, quality=quality)
    return file.getvalue()


def _flat(picture: Image.Image) -> Image.Image:
    """`picture` on white, where it is transparent."""
    if picture.mode not in ("LA", "RGBA"):
        return picture
    ground = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(ground, picture.convert("RGBA")).convert("RGB")
