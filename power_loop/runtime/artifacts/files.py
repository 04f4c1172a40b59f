"""Large outputs as files: one folder a session, one file a text."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import anyio.to_thread

from power_loop.errors import (
    ArtifactNotFound,
    SessionNotFound,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreUnavailable,
    UsageError,
)
from power_loop.runtime.artifacts.base import ArtifactPage, check_artifact, is_handle, page_of
from power_loop.runtime.stores.base import Store

__all__ = ["FileArtifacts"]

T = TypeVar("T")

_OWNER = "session"
"""The file in a folder that holds the id of its session."""
_TEXT = ".txt"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_READABLE = 40
"""Characters of a session's id that its folder shows."""
_TRIES = 3


class FileArtifacts:
    """An `ArtifactStore` in the folder `directory`, which is made when it is first needed.

    For outputs that are not to be in the database of the sessions. Each session has a folder of its
    own, whose name follows from its id and can leave `directory` by no trick; only this user may
    read it. A file appears when it is complete and on the disk.

    `AgentLoop.close_session` deletes a session's files as well. What deletes sessions without a
    loop, as the command line and `prune` do, leaves them until `sweep`.

    Raises:
        UsageError: no directory is named.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        name = os.fspath(directory)
        if not name:
            raise UsageError("name the directory that large outputs are to be kept in")
        self.directory = Path(name).absolute()

    def __repr__(self) -> str:
        return f"FileArtifacts({str(self.directory)!r})"

    async def put_artifact(self, session: str, handle: str, text: str) -> None:
        """See `ArtifactStore.put_artifact`. Does not know which sessions there are."""
        check_artifact(handle, text)
        await self._do(partial(self._put, session, handle, text))

    async def read_artifact(
        self, session: str, handle: str, offset: int = 0, length: int | None = None
    ) -> ArtifactPage:
        """See `ArtifactStore.read_artifact`."""
        page = partial(page_of, offset=offset, length=length)
        return await self._do(lambda: page(self._read(session, handle)))

    async def list_artifacts(self, session: str) -> Sequence[str]:
        """See `ArtifactStore.list_artifacts`."""
        return await self._do(lambda: _handles(self._folder(session)))

    async def copy_artifacts(self, session: str, to: str) -> int:
        """See `ArtifactStore.copy_artifacts`."""
        return await self._do(partial(self._copy, session, to))

    async def delete_artifacts(self, session: str) -> int:
        """See `ArtifactStore.delete_artifacts`."""
        return await self._do(lambda: _removed(self._folder(session)))

    async def sweep(self, store: Store) -> int:
        """Deletes the texts of sessions that are gone; returns how many.

        `store` must be the one in which all sessions live that keep texts here.

        Raises:
            StoreError: the store or the directory failed; what was deleted by then is gone.
        """
        count = 0
        for folder, session in await self._do(self._owners):
            try:
                await store.info(session)
            except SessionNotFound:
                count += await self._do(partial(_removed, folder))
        return count

    async def _do(self, work: Callable[[], T]) -> T:
        """Does `work` in a thread. One that hangs is left behind when the call is cancelled."""
        try:
            return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
        except OSError as error:
            raise self._typed(error) from error

    def _typed(self, error: OSError) -> StoreError:
        if error.errno in _FULL:
            return StoreFull(f"no space is left in {self.directory} ({error.strerror}). Free some")
        return StoreUnavailable(
            f"{self.directory} cannot be used ({error.strerror}). Make it a directory in which "
            "this user may read, write and create files, or choose another one"
        )

    # ── in a thread ───────────────────────────────────────────────────────────────────────────────

    def _folder(self, session: str) -> Path:
        """The name tells people whose it is, and its digest makes it unique."""
        readable = re.sub(r"[^A-Za-z0-9-]", "_", session[:_READABLE])
        digest = sha256(session.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        return self.directory / f"{readable}-{digest}"

    def _put(self, session: str, handle: str, text: str) -> None:
        folder = self._folder(session)
        for tries in range(1, _TRIES + 1):
            try:
                self._open(folder, session)
                _write(folder, f"{handle}{_TEXT}", text)
            except FileNotFoundError:  # somebody has just deleted the folder
                if tries == _TRIES:
                    raise
            else:
                return

    def _open(self, folder: Path, session: str) -> None:
        if (folder / _OWNER).exists():
            return
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        _write(folder, _OWNER, session)

    def _read(self, session: str, handle: str) -> str:
        if not is_handle(handle):
            raise ArtifactNotFound(session, handle)
        path = self._folder(session) / f"{handle}{_TEXT}"
        try:
            return path.read_bytes().decode()
        except FileNotFoundError:
            raise ArtifactNotFound(session, handle) from None
        except UnicodeDecodeError as error:
            raise StoreCorrupt(f"{path} is damaged: it is not valid UTF-8. Delete it") from error

    def _copy(self, session: str, to: str) -> int:
        handles = _handles(self._folder(session))
        for handle in handles:
            self._put(to, handle, self._read(session, handle))
        return len(handles)

    def _owners(self) -> list[tuple[Path, str]]:
        """The folders of sessions, with the ids of these."""
        found: list[tuple[Path, str]] = []
        with suppress(FileNotFoundError):
            for folder in sorted(self.directory.iterdir()):
                owner = folder / _OWNER
                if not owner.is_file():
                    continue
                session = owner.read_bytes().decode("utf-8", "replace")
                # What is not a folder of ours is left alone.
                if folder == self._folder(session):
                    found.append((folder, session))
        return found


def _handles(folder: Path) -> list[str]:
    try:
        names = [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []
    return sorted([name.removesuffix(_TEXT) for name in names if name.endswith(_TEXT)])


def _removed(folder: Path) -> int:
    """Deletes a folder; returns how many texts it had."""
    count = len(_handles(folder))
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)
    return count


def _write(folder: Path, name: str, text: str) -> None:
    """Writes a file that appears when it is complete and on the disk."""
    draft = folder / f".{name}.{uuid4().hex[:8]}"
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(folder / name)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    _settle(folder)


def _settle(folder: Path) -> None:
    """Has the name of a new file survive a loss of power, too."""
    if os.name == "nt":  # its directories cannot be opened, and need not be
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
