"""Large outputs in memory."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

from power_loop.errors import ArtifactNotFound, SessionNotFound
from power_loop.runtime.artifacts.base import ArtifactPage, check_artifact, page_of

__all__ = ["MemoryArtifacts"]


class MemoryArtifacts:
    """What makes a `MemoryStore` an `ArtifactStore`."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[str, str]] = {}
        """Texts by handle, of all sessions that there are."""
        self._kept_lock = Lock()

    async def put_artifact(self, session: str, handle: str, text: str) -> None:
        """See `ArtifactStore.put_artifact`."""
        check_artifact(handle, text)
        with self._kept_lock:
            self._texts(session)[handle] = text

    async def read_artifact(
        self, session: str, handle: str, offset: int = 0, length: int | None = None
    ) -> ArtifactPage:
        """See `ArtifactStore.read_artifact`."""
        text = self._kept.get(session, {}).get(handle)
        if text is None:
            raise ArtifactNotFound(session, handle)
        return page_of(text, offset, length)

    async def list_artifacts(self, session: str) -> Sequence[str]:
        """See `ArtifactStore.list_artifacts`."""
        with self._kept_lock:
            return sorted(self._kept.get(session, ()))

    async def copy_artifacts(self, session: str, to: str) -> int:
        """See `ArtifactStore.copy_artifacts`."""
        with self._kept_lock:
            found = self._kept.get(session, {})
            self._texts(to).update(found)
            return len(found)

    async def delete_artifacts(self, session: str) -> int:
        """See `ArtifactStore.delete_artifacts`."""
        with self._kept_lock:
            if session not in self._kept:
                return 0
            gone, self._kept[session] = self._kept[session], {}
        return len(gone)

    def _texts(self, session: str) -> dict[str, str]:
        if session not in self._kept:
            raise SessionNotFound(session)
        return self._kept[session]
