"""Large outputs of a session that is copied, archived, or deleted."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from llm_client.types import LLMRequest
from power_loop import (
    AgentConfig,
    AgentLoop,
    ArtifactStore,
    FileArtifacts,
    MemoryStore,
    Store,
    SubAgent,
    export_session,
    import_session,
    tool,
)
from power_loop.errors import ArchiveInvalid, ArtifactNotFound, SessionNotFound, StoreFull
from power_loop.runtime.artifacts.base import artifacts_of, handle_of
from tests.agent.scripted import Reply, Scripted, calls, says
from tests.agent.support import EVERY_STORE, StoreKind, opened_store

pytestmark = pytest.mark.anyio

WHOLE = "".join(f"<{n}>" for n in range(1000))
HANDLE = handle_of(WHOLE)


@tool
async def huge() -> str:
    """Returns far too much."""
    return WHOLE


HELPER = SubAgent("helper", "Helps.", system_prompt="Help.")


def _answer(request: LLMRequest) -> Reply:
    """Has the first agent and the one below it call the tool."""
    if request.messages[-1].role == "tool":
        return says("done")
    below = request.system == "Help."
    return calls(("a", "huge", {}), *([] if below else [("b", "helper", {"task": "t"})]))


@asynccontextmanager
async def _talked(
    store: Store, artifacts: ArtifactStore | None = None
) -> AsyncGenerator[tuple[AgentLoop[Any], str]]:
    """A loop, and a session of it that has a large output, as the one below has."""
    config = AgentConfig(result_limit=100, artifacts=artifacts)
    llm = Scripted(by=_answer)
    async with AgentLoop(llm, tools=[huge, HELPER], store=store, config=config) as loop:
        result = await loop.send("go")
        assert result.status == "completed"
        yield loop, result.session_id


def _folders(directory: Path) -> list[str]:
    return sorted([path.name for path in directory.glob("*")])


@pytest.mark.parametrize("elsewhere", [False, True], ids=["in the store", "in files"])
@pytest.mark.parametrize("kind", EVERY_STORE)
async def test_a_fork_can_read_what_its_view_tells_of(
    kind: StoreKind, elsewhere: bool, tmp_path: Path
) -> None:
    """Also when what it was made of is gone; and a replay of it is what it was."""
    async with opened_store(kind, tmp_path) as store:
        artifacts = FileArtifacts(tmp_path / "outputs") if elsewhere else None
        async with _talked(store, artifacts) as (loop, session):
            fork = await loop.fork(session)
            await loop.close_session(session)
            kept = artifacts_of(store, artifacts)
            assert kept is not None
            assert HANDLE in str(await loop.get_messages(fork))
            assert (await kept.read_artifact(fork, HANDLE)).text == WHOLE
            assert (await loop.replay(fork)).identical


@pytest.mark.parametrize("elsewhere", [False, True], ids=["in the store", "in files"])
@pytest.mark.parametrize("kind", EVERY_STORE)
async def test_what_is_kept_goes_with_its_session_and_those_below(
    kind: StoreKind, elsewhere: bool, tmp_path: Path
) -> None:
    """Nothing is left of it."""
    async with opened_store(kind, tmp_path) as store:
        artifacts = FileArtifacts(tmp_path / "outputs") if elsewhere else None
        async with _talked(store, artifacts) as (loop, session):
            kept = artifacts_of(store, artifacts)
            assert kept is not None
            for each in (session, f"{session}/b"):
                assert list(await kept.list_artifacts(each)) == [HANDLE]
            assert await loop.close_session(session) == 2
            for each in (session, f"{session}/b"):
                assert list(await kept.list_artifacts(each)) == []
                with pytest.raises(ArtifactNotFound):
                    await kept.read_artifact(each, HANDLE)
    assert _folders(tmp_path / "outputs") == []


async def test_files_that_cannot_be_deleted_do_not_keep_a_session(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The session is gone, the log says what stays, and a sweep finishes it."""

    class Stuck(FileArtifacts):
        """Deletes nothing."""

        async def delete_artifacts(self, session: str) -> int:
            raise StoreFull("stuck")

    store, stuck = MemoryStore(), Stuck(tmp_path)
    async with _talked(store, stuck) as (loop, session):
        assert await loop.close_session(session) == 2
        with pytest.raises(SessionNotFound):
            await store.info(session)
    assert f"large outputs of session {session!r} stay behind: stuck" in caplog.text
    assert await FileArtifacts(tmp_path).sweep(store) == 2


async def test_a_fork_whose_outputs_cannot_be_copied_is_not_made(tmp_path: Path) -> None:
    """Nothing is left of it, and the session is as it was."""

    class Full(FileArtifacts):
        """Has no room for copies."""

        async def copy_artifacts(self, session: str, to: str) -> int:
            await super().copy_artifacts(session, to)
            raise StoreFull("no space is left")

    store, full = MemoryStore(), Full(tmp_path)
    async with _talked(store, full) as (loop, session):
        before = [info.id for info in await store.list()]
        with pytest.raises(StoreFull):
            await loop.fork(session)
        assert [info.id for info in await store.list()] == before
        assert len(_folders(tmp_path)) == 2


@pytest.mark.parametrize("key", [None, b"ours"], ids=["open", "sealed"])
async def test_an_archive_carries_what_its_session_tells_of(
    key: bytes | None, tmp_path: Path
) -> None:
    """Into any store that keeps outputs, under any id."""
    file = tmp_path / "session.jsonl"
    store, files = MemoryStore(), FileArtifacts(tmp_path / "outputs")
    async with _talked(store) as (_, session):
        await export_session(store, session, file, key=key)
    there = MemoryStore()
    for id in (None, "another"):
        made = await import_session(there, file, key=key, as_id=id)
        assert (await there.read_artifact(made, HANDLE)).text == WHOLE
    made = await import_session(MemoryStore(), file, key=key, artifacts=files)
    assert (await files.read_artifact(made, HANDLE)).text == WHOLE
    await export_session(there, "another", file, key=key, artifacts=files)
    assert '"version":1' in file.read_text().splitlines()[0]


async def test_an_archive_without_large_outputs_is_of_the_version_it_always_was(
    tmp_path: Path,
) -> None:
    """Older programs read it; one with such outputs they refuse by its version."""
    file = tmp_path / "session.jsonl"
    store = MemoryStore()
    async with _talked(store) as (loop, session):
        await export_session(store, session, file)
        lines = file.read_text().splitlines()
        assert '"version":2' in lines[0]
        assert f'{{"type":"output","handle":"{HANDLE}"' in lines[-2]
        assert '"outputs":1' in lines[-1]
        await store.delete_artifacts(session)
        await export_session(store, session, file)
        assert await loop.replay(session) is not None
    lines = file.read_text().splitlines()
    assert '"version":1' in lines[0]
    assert "outputs" not in lines[-1]
    there = MemoryStore()
    await import_session(there, file)
    assert list(await there.list_artifacts(session)) == []


async def test_outputs_of_an_archive_are_left_out_where_nothing_is_kept(tmp_path: Path) -> None:
    """The session is there all the same."""

    class Plain:
        """A store that keeps sessions only."""

        def __init__(self) -> None:
            self.sessions = MemoryStore()

        def __getattr__(self, name: str) -> Any:
            if "artifact" in name:
                raise AttributeError(name)
            return getattr(self.sessions, name)

    file = tmp_path / "session.jsonl"
    store, plain = MemoryStore(), Plain()
    async with _talked(store) as (_, session):
        await export_session(store, session, file)
    assert await import_session(cast("Store", plain), file) == session
    assert (await plain.sessions.info(session)).status == "completed"
    assert list(await plain.sessions.list_artifacts(session)) == []


async def test_an_archived_output_that_no_store_would_take_is_refused(tmp_path: Path) -> None:
    """With its line, and before anything is stored."""
    file = tmp_path / "session.jsonl"
    store = MemoryStore()
    async with _talked(store) as (_, session):
        store._kept[session] = {"../h": "text"}
        await export_session(store, session, file)
    there = MemoryStore()
    with pytest.raises(ArchiveInvalid, match=r"no line of an archive: '\.\./h' is no handle"):
        await import_session(there, file)
    assert await there.list() == []
