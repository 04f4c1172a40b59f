"""The text of a PDF, page by page. The only user of pypdf.

Importing this module needs pypdf.
"""

from __future__ import annotations

import io
import logging
import pkgutil
import struct
import threading
import zlib
from collections.abc import Generator
from contextlib import contextmanager

from llm_client.errors import ConfigError

try:
    import pypdf
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
    with _hushed():
        return _text(data, most)


def _text(data: bytes, most: int) -> str | None:
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


class _Hush(logging.Filter):
    """Drops what is logged by the thread that made it."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        return threading.get_ident() != self._thread


@contextmanager
def _hushed() -> Generator[None]:
    """Holds back what the library logs in this thread: that a file is damaged is no news of a
    program, and whoever asked for the file's text learns it."""
    hush = _Hush()
    # Each module has a logger of its own, and filters are not inherited.
    names = [module.name for module in pkgutil.walk_packages(pypdf.__path__, "pypdf.")]
    loggers = [logging.getLogger(name) for name in ("pypdf", *names)]
    for logger in loggers:
        logger.addFilter(hush)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(hush)
