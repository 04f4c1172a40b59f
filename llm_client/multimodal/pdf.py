"""The text of a PDF, page by page. The only user of pypdf.

Importing this module needs pypdf.
"""

from __future__ import annotations

import io
import struct
import zlib

from llm_client.errors import ConfigError

try:
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError
except ModuleNotFoundError as missing:
    raise ConfigError(
        "reading the text of a PDF needs the extra 'pdf': pip install 'power-loop[pdf]'"
    ) from missing

__all__ = ["pdf_text"]

_DAMAGED = (
    PyPdfError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What the library raises over damaged and hostile files; recursion is a RuntimeError."""


def pdf_text(data: bytes, most: int) -> str | None:
    """The text of the PDF in `data`, each page below a mark with its number, cut at `most`
    characters with a word about it; None if there is no text, or the file cannot be read."""
    try:
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            return None
        count = len(reader.pages)
    except _DAMAGED:
        return None
    pieces: list[str] = []
    size = 0
    said = False
    for number in range(count):
        text = _page(reader, number)
        said = said or bool(text)
        piece = f"[page {number + 1} of {count}]\n{text}\n"
        if size + len(piece) > most:
            cut = f"\n[cut here: {count} pages have more than {most} characters]"
            pieces.append(piece[: max(0, most - size)] + cut)
            break
        pieces.append(piece)
        size += len(piece)
    return "".join(pieces) if said else None


def _page(reader: PdfReader, number: int) -> str:
    """The text of one page; a damaged one has none."""
    try:
        text = reader.pages[number].extract_text()
    except _DAMAGED:
        return ""
    # Fonts can map to halves of surrogate pairs, which no JSON carries.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").strip()
