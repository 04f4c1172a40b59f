"""Puts images into a folder."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from anyio import to_thread

from llm_client.images.service import ImagesResult
from llm_client.multimodal.sniff import sniff
from llm_client.types import Image

__all__ = ["save_images"]

_ENDINGS = {"image/jpeg": "jpg", "image/svg+xml": "svg"}
_LONGEST = 80


async def save_images(
    result: ImagesResult, folder: str | os.PathLike[str], stem: str = "image"
) -> tuple[Path, ...]:
    """Writes the images of `result` into `folder`, which is made if need be, and returns where they
    are: `stem`, a number and the ending of what they are. No file that exists is touched.

    Of `stem` only letters, digits, "-" and "_" are left, so that it cannot lead elsewhere.

    Raises:
        OSError: the files cannot be written.
    """
    write = partial(_write_all, result.images, Path(folder), _safe(stem))
    return await to_thread.run_sync(write)


def _safe(stem: str) -> str:
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in stem)
    return kept.strip("-")[:_LONGEST] or "image"


def _write_all(images: tuple[Image, ...], folder: Path, stem: str) -> tuple[Path, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    paths: list[Path] = []
    for image in images:
        data = image.data or b""
        media_type = sniff(data).media_type
        ending = _ENDINGS.get(media_type, media_type.rpartition("/")[2])
        while True:
            number += 1
            path = folder / f"{stem}-{number}.{ending}"
            try:
                # Makes the file or fails; it neither overwrites nor follows a link.
                with path.open("xb") as file:
                    file.write(data)
            except FileExistsError:
                continue
            break
        paths.append(path)
    return tuple(paths)
