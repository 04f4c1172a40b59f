"""Small files of every kind, made here."""

from __future__ import annotations

import io
import random
import struct
import zlib

from PIL import Image

__all__ = ["bare_png", "noise", "pdf", "picture"]


def picture(
    kind: str = "PNG", size: tuple[int, int] = (64, 48), mode: str = "RGB", **options: object
) -> bytes:
    """An image of one colour as a file."""
    file = io.BytesIO()
    Image.new(mode, size, 1 if mode == "1" else "teal").save(file, kind, **options)
    return file.getvalue()


def noise(kind: str, size: tuple[int, int]) -> bytes:
    """An image that cannot be packed well."""
    file = io.BytesIO()
    data = random.Random(7).randbytes(size[0] * size[1] * 3)
    Image.frombytes("RGB", size, data).save(file, kind)
    return file.getvalue()


def bare_png(width: int, height: int) -> bytes:
    """The head of a PNG of that size, and one line of what would be a picture."""

    def block(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    picture = block(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + block(b"IHDR", head) + picture + block(b"IEND", b"")


def pdf(*pages: str) -> bytes:
    """A PDF with a line of text on each page."""
    count = len(pages)
    kids = " ".join(f"{3 + 2 * number} 0 R" for number in range(count))
    font = 3 + 2 * count
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {count} >>",
    ]
    for number, text in enumerate(pages):
        line = f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET"
        place, fonts = f"/Contents {4 + 2 * number} 0 R", f"<< /Font << /F1 {font} 0 R >> >>"
        page = f"/Type /Page /Parent 2 0 R /MediaBox [0 0 300 200] {place} /Resources {fonts}"
        content = f"<< /Length {len(line)} >>\nstream\n{line}\nendstream"
        objects += [f"<< {page} >>", content]
    objects.append("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
    data = b"%PDF-1.4\n"
    places: list[int] = []
    for number, body in enumerate(objects, 1):
        places.append(len(data))
        data += f"{number} 0 obj\n{body}\nendobj\n".encode()
    at = len(data)
    data += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    data += b"".join(f"{place:010} 00000 n \n".encode() for place in places)
    data += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\n".encode()
    return data + f"startxref\n{at}\n%%EOF\n".encode()
