"""**Protocol** ArtifactStore: where texts are kept that are too long for the model's view."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from msgspec import Struct

from llm_client.types import Text
from power_loop.errors import InvalidInput, UsageError
from power_loop.runtime.stores.base import Store
from power_loop.session.text import is_sound

__all__ = [
    "ArtifactPage",
    "ArtifactStore",
    "artifacts_of",
    "check_artifact",
    "check_page",
    "handle_of",
    "is_handle",
    "page_of",
]

_HANDLE = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


class ArtifactPage(Struct, frozen=True):
    """A part of a text that is kept; `total` is how many characters the whole text has."""

    text: str
    total: int


@runtime_checkable
class ArtifactStore(Protocol):
    """**Protocol**: texts of sessions, by a handle that is unique in its session.

    Safe for use by many runs, tasks and processes at once. All methods raise `StoreError`
    subclasses when the store itself fails. One that changes something does so whole or not at all,
    also when the call is cancelled. A text belongs to one session: no other sees it, and a store of
    sessions that keeps texts as well deletes them with their session. A store proves itself with
    `power_loop.testing.check_artifacts`.
    """

    async def put_artifact(self, session: str, handle: str, text: str) -> None:
        """Keeps a text, durably, in place of one of that handle.

        Raises:
            SessionNotFound: there is no such session, where the store can tell.
            UsageError: it is no handle: up to 64 of letters, digits, `_` and `-`.
            InvalidInput: the text holds a NUL or a lone surrogate.
        """
        ...

    async def read_artifact(
        self, session: str, handle: str, offset: int = 0, length: int | None = None
    ) -> ArtifactPage:
        """At most `length` characters of a text, from the character `offset` on, counted from 0.

        All that follows if `length` is None; nothing where `offset` is beyond the end.

        Raises:
            ArtifactNotFound: the session has none of that handle, or there is no such session.
            UsageError: `offset` or `length` is negative.
        """
        ...

    async def list_artifacts(self, session: str) -> Sequence[str]:
        """The handles of a session's texts, sorted; none if there is no such session."""
        ...

    async def copy_artifacts(self, session: str, to: str) -> int:
        """Copies all texts of a session to another one; returns how many.

        Raises:
            SessionNotFound: there is no session `to`, where the store can tell.
        """
        ...

    async def delete_artifacts(self, session: str) -> int:
        """Deletes all texts of a session; returns how many there were. Idempotent."""
        ...


def artifacts_of(store: Store, artifacts: ArtifactStore | None) -> ArtifactStore | None:
    """Where large outputs are kept: in `artifacts`, else in the store, if it keeps any.

    Raises:
        UsageError: `artifacts` is something else.
    """
    if artifacts is None:
        return store if isinstance(store, ArtifactStore) else None
    if not isinstance(artifacts, ArtifactStore):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers need not be checked
        raise UsageError(
            f"artifacts={artifacts!r} cannot keep large outputs; use FileArtifacts(directory), say"
        )
    return artifacts


def handle_of(text: str) -> str:
    """The handle under which an output is kept.

    It follows from the text alone: the same output has the same handle, in whichever call it came,
    so that who compares results still sees that nothing has changed.
    """
    from hashlib import sha256  # noqa: PLC0415  it loads OpenSSL, which most programs spare

    return f"output_{sha256(text.encode()).hexdigest()[:16]}"


def is_handle(handle: str) -> bool:
    """Whether a text may be kept under this name."""
    return _HANDLE.fullmatch(handle) is not None


def check_artifact(handle: str, text: str) -> None:
    """Refuses what cannot be kept.

    Raises:
        UsageError: it is no handle.
        InvalidInput: the text holds a NUL or a lone surrogate.
    """
    if not is_handle(handle):
        raise UsageError(
            f"{handle!r} is no handle: use 1 to 64 of a-z, A-Z, 0-9, _ and -, as handle_of() does"
        )
    if not is_sound(Text(text)):
        raise InvalidInput("a text that is kept must not hold a NUL or a lone surrogate")


def check_page(offset: int, length: int | None) -> None:
    """Raises UsageError: `offset` or `length` is negative."""
    if offset < 0 or (length is not None and length < 0):
        raise UsageError(f"a page cannot begin at {offset} and have {length} characters")


def page_of(text: str, offset: int, length: int | None) -> ArtifactPage:
    """A page of a text that is at hand.

    Raises:
        UsageError: `offset` or `length` is negative.
    """
    check_page(offset, length)
    end = None if length is None else offset + length
    return ArtifactPage(text[offset:end], len(text))
