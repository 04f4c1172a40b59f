"""Where the recorded provider traffic lies, if this checkout has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT.parent / "shared" / "corpus"


def corpus_path(name: str) -> Path | None:
    """The recorded file `name`, or None where the checkout has no corpus beside it."""
    path = CORPUS / name
    return path if path.exists() else None


def need_corpus(name: str) -> Path:
    """The recorded file `name`; skips the test, saying why, where there is none."""
    path = corpus_path(name)
    if path is None:
        pytest.skip(
            f"recorded traffic {name!r} is not in this checkout (expected in {CORPUS.name}/)"
        )
    return path


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """All objects of a JSON Lines file."""
    lines = path.read_bytes().splitlines()
    return [msgspec.json.decode(line, type=dict[str, Any]) for line in lines if line.strip()]
