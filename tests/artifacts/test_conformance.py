"""All stores of large outputs keep every promise, and the suite that says so notices liars."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import get_args

import anyio
import pytest

from power_loop import ArtifactStore, FileArtifacts, MemoryStore
from power_loop.runtime.artifacts.base import ArtifactPage
from power_loop.testing import ARTIFACT_CHECKS, StoreDefect, check_artifacts
from power_loop.testing.artifact_conformance import ArtifactCheck, MakeArtifacts
from tests.agent.support import EVERY_STORE, StoreKind, opened_store

pytestmark = pytest.mark.anyio


def _name(value: object) -> str:
    return getattr(value, "__name__", str(value))


@asynccontextmanager
async def _opening(kind: str, folder: Path) -> AsyncGenerator[MakeArtifacts]:
    """What opens stores of this kind, which are closed afterwards."""
    async with AsyncExitStack() as stack:
        numbers = count()

        async def make(sessions: Sequence[str]) -> ArtifactStore:
            place = folder / str(next(numbers))
            if kind == "files":
                return FileArtifacts(place)
            place.mkdir()
            (found,) = [each for each in get_args(StoreKind) if each == kind]
            store = await stack.enter_async_context(opened_store(found, place))
            for session in sessions:
                await store.create(session)
            assert isinstance(store, ArtifactStore)
            return store

        yield make


@pytest.mark.parametrize("check", ARTIFACT_CHECKS, ids=_name)
@pytest.mark.parametrize("kind", [*EVERY_STORE, "files"])
async def test_every_store_of_large_outputs_keeps_the_promise(
    kind: str, check: ArtifactCheck, tmp_path: Path
) -> None:
    """Memory, SQLite, PostgreSQL, files."""
    async with _opening(kind, tmp_path) as make:
        with anyio.fail_after(60):
            kept = await check(make)
    assert kept is None


# ── stores that are wrong on purpose ──────────────────────────────────────────────────────────────


class Forgets(MemoryStore):
    """Keeps nothing."""

    async def put_artifact(self, session: str, handle: str, text: str) -> None:
        """Does nothing."""


class CountsBytes(MemoryStore):
    """Takes pages for bytes."""

    async def read_artifact(
        self, session: str, handle: str, offset: int = 0, length: int | None = None
    ) -> ArtifactPage:
        page = await super().read_artifact(session, handle)
        end = None if length is None else offset + length
        text = page.text.encode()[offset:end].decode("utf-8", "replace")
        await super().read_artifact(session, handle, offset, length)
        return ArtifactPage(text, page.total)


class KeepsTheFirst(MemoryStore):
    """Never lets go of what it has."""

    async def put_artifact(self, session: str, handle: str, text: str) -> None:
        if handle not in await self.list_artifacts(session):
            await super().put_artifact(session, handle, text)


class TakesAnything(MemoryStore):
    """Asks no questions."""

    async def put_artifact(self, session: str, handle: str, text: str) -> None:
        self._kept[session][handle] = text


class OneForAll(MemoryStore):
    """Has sessions whose ids differ in their case only share."""

    async def put_artifact(self, session: str, handle: str, text: str) -> None:
        await super().put_artifact(session.lower(), handle, text)

    async def read_artifact(
        self, session: str, handle: str, offset: int = 0, length: int | None = None
    ) -> ArtifactPage:
        return await super().read_artifact(session.lower(), handle, offset, length)


class ListsAsTheyCame(MemoryStore):
    """Does not sort."""

    async def list_artifacts(self, session: str) -> Sequence[str]:
        return list(self._kept.get(session, ()))


class CopiesShallowly(MemoryStore):
    """Gives a copy the original's own."""

    async def copy_artifacts(self, session: str, to: str) -> int:
        self._kept[to] = self._kept.get(session, {})
        return len(self._kept[to])


class Mixes(MemoryStore):
    """Lets another write come between the name of a text and the text."""

    _writing = ""

    async def put_artifact(self, session: str, handle: str, text: str) -> None:
        self._writing = text
        await anyio.lowlevel.checkpoint()
        await super().put_artifact(session, handle, self._writing)


MUTANTS: tuple[tuple[Callable[[], MemoryStore], str], ...] = (
    (Forgets, "a_text_comes_back_as_it_was"),
    (CountsBytes, "pages_are_counted_in_characters"),
    (KeepsTheFirst, "a_text_takes_the_place_of_another"),
    (TakesAnything, "what_cannot_be_kept_is_refused"),
    (OneForAll, "sessions_do_not_see_each_other"),
    (ListsAsTheyCame, "all_are_listed_and_deleted"),
    (CopiesShallowly, "a_copy_has_texts_of_its_own"),
    (Mixes, "many_at_once_do_not_mix"),
)


@pytest.mark.parametrize(("mutant", "promise"), MUTANTS, ids=_name)
async def test_a_wrong_store_is_noticed(mutant: Callable[[], MemoryStore], promise: str) -> None:
    """By the check that names the broken promise."""

    async def make(sessions: Sequence[str]) -> ArtifactStore:
        store = mutant()
        for session in sessions:
            await store.create(session)
        return store

    with pytest.raises(StoreDefect, match=promise):
        await check_artifacts(make)


def test_every_check_has_caught_somebody() -> None:
    """A check that no wrong store fails proves nothing."""
    assert {promise for _, promise in MUTANTS} == {_name(check) for check in ARTIFACT_CHECKS}


async def test_a_store_that_hangs_is_a_wrong_one() -> None:
    """The suite does not hang with it."""

    async def make(sessions: Sequence[str]) -> ArtifactStore:
        await anyio.sleep_forever()
        raise AssertionError(sessions)

    hanging: Callable[..., Awaitable[ArtifactStore]] = make
    with pytest.raises(StoreDefect, match="nothing happened for"):
        await check_artifacts(hanging, patience=0.01)
