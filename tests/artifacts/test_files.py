"""Large outputs as files: where they are, who may read them, and what goes wrong."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from power_loop import FileArtifacts, MemoryStore, SQLiteStore
from power_loop.errors import (
    ArtifactNotFound,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreUnavailable,
    UsageError,
)
from power_loop.runtime.stores.pruning import prune
from tests.stores.support import ROOT
from tests.unprivileged import binding_permissions

pytestmark = pytest.mark.anyio


@pytest.fixture
def small_disk(tmp_path: Path) -> Generator[Path]:
    """A file system of its own with 1 MB of room."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1M", "none", str(place)]
    if sys.platform != "linux" or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("only root on Linux can mount a small file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def _all_files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


async def test_nothing_is_made_before_there_is_something_to_keep(tmp_path: Path) -> None:
    """A directory must be named, and looking does not make it."""
    with pytest.raises(UsageError, match="name the directory"):
        FileArtifacts("")
    files = FileArtifacts(tmp_path / "deep" / "down")
    assert await files.list_artifacts("s") == []
    assert await files.delete_artifacts("s") == 0
    with pytest.raises(ArtifactNotFound, match="no text 'h' is kept for session 's'"):
        await files.read_artifact("s", "h")
    assert await files.sweep(MemoryStore()) == 0
    assert _all_files(tmp_path) == []
    await files.put_artifact("s", "h", "text")
    assert (await FileArtifacts(files.directory).read_artifact("s", "h")).text == "text"


async def test_only_this_user_may_read_what_tools_gave(tmp_path: Path) -> None:
    """It may hold anything."""
    files = FileArtifacts(tmp_path / "outputs")
    await files.put_artifact("s", "h", "text")
    assert len(_all_files(tmp_path)) == 2
    for path in files.directory.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    assert stat.S_IMODE(files.directory.stat().st_mode) == 0o700


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, max_size=5))
def test_no_session_id_leads_out_of_the_directory(ids: list[str]) -> None:
    """Whatever it is, its folder lies directly in the directory, and is its own."""
    files = FileArtifacts("/outputs")
    folders = {id: files._folder(id) for id in ids}
    assert {folder.parent for folder in folders.values()} == {Path("/outputs")}
    assert len({str(folder).lower() for folder in folders.values()}) == len(set(ids))
    for folder in folders.values():
        assert folder.name.replace("-", "").replace("_", "").isalnum()
        assert folder.name.isascii()
        assert len(folder.name) < 100


@pytest.mark.parametrize("handle", ["../secret", "/etc/passwd", "session", "..", "h.txt", "h\x00"])
async def test_no_handle_leads_out_of_the_folder_of_its_session(
    handle: str, tmp_path: Path
) -> None:
    """A model may say what it likes."""
    (tmp_path / "secret.txt").write_text("a key")
    files = FileArtifacts(tmp_path / "outputs")
    await files.put_artifact("s", "h", "text")
    with pytest.raises(ArtifactNotFound):
        await files.read_artifact("s", handle)
    assert await files.list_artifacts("s") == ["h"]


async def test_a_full_disk_is_said_to_be_full_and_leaves_nothing_behind(small_disk: Path) -> None:
    """What was kept before is safe, and once there is room it goes on."""
    files = FileArtifacts(small_disk / "outputs")
    await files.put_artifact("s", "before", "x" * 1000)
    for _ in range(2):
        with pytest.raises(StoreFull, match="no space is left"):
            await files.put_artifact("s", "large", "x" * 3_000_000)
    assert await files.list_artifacts("s") == ["before"]
    assert sum(path.stat().st_size for path in _all_files(small_disk)) < 2000
    await files.put_artifact("s", "small", "x")
    assert (await files.read_artifact("s", "before")).total == 1000


async def test_a_file_size_limit_is_a_typed_error_too(tmp_path: Path) -> None:
    """As a quota is."""
    program = (
        "import resource, anyio\n"
        "from power_loop import FileArtifacts\n"
        "from power_loop.errors import StoreError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "async def main():\n"
        f"    files = FileArtifacts({str(tmp_path)!r})\n"
        "    try: await files.put_artifact('s', 'h', 'x' * 20_000)\n"
        "    except StoreError as error: print(type(error).__name__)\n"
        "    print(await files.list_artifacts('s'))\n"
        "anyio.run(main)\n"
    )
    with anyio.fail_after(60):
        done = await anyio.run_process(
            [sys.executable, "-c", program], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}
        )
    assert done.stdout.decode().split() == ["StoreFull", "[]"]


async def test_a_directory_that_may_not_be_written_is_said_to_be_that() -> None:
    """Before there is anything, and after; what is there can still be read."""
    with binding_permissions() as place:
        files = FileArtifacts(place / "outputs")
        await files.put_artifact("s", "h", "text")
        folder = next(path for path in files.directory.iterdir())
        folder.chmod(0o500)
        files.directory.chmod(0o500)
        try:
            for session in ("s", "t"):
                with pytest.raises(StoreUnavailable, match="may read, write and create files"):
                    await files.put_artifact(session, "new", "text")
            with pytest.raises(StoreUnavailable):
                await files.delete_artifacts("s")
            assert (await files.read_artifact("s", "h")).text == "text"
        finally:
            files.directory.chmod(0o700)
            folder.chmod(0o700)


async def test_what_is_no_directory_or_damaged_is_told_by_name(tmp_path: Path) -> None:
    """Nothing is overwritten."""
    (tmp_path / "file").write_text("mine")
    files = FileArtifacts(tmp_path / "file")
    with pytest.raises(StoreError, match="file cannot be used"):
        await files.put_artifact("s", "h", "text")
    assert (tmp_path / "file").read_text() == "mine"
    files = FileArtifacts(tmp_path / "outputs")
    await files.put_artifact("s", "h", "text")
    (path,) = [path for path in _all_files(files.directory) if path.name == "h.txt"]
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(StoreCorrupt, match=r"h\.txt is damaged"):
        await files.read_artifact("s", "h")


async def test_what_was_deleted_without_a_loop_is_swept(tmp_path: Path) -> None:
    """Folders of sessions that are gone go; those of others, and what is not ours, stay."""
    files = FileArtifacts(tmp_path / "outputs")
    async with SQLiteStore(tmp_path / "s.db", durability="normal") as store:
        for session in ("old", "young"):
            await store.create(session, at=1.0 if session == "old" else 1e9)
            await files.put_artifact(session, "h", session)
            await files.put_artifact(session, "i", session)
        (files.directory / "not ours").mkdir()
        (files.directory / "not ours" / "session").write_text("nobody")
        (files.directory / "a file").write_text("mine")
        assert await files.sweep(store) == 0
        assert (await prune(store, 1e6)).sessions == ("old",)
        assert await files.sweep(store) == 2
        assert await files.sweep(store) == 0
    assert await files.list_artifacts("old") == []
    assert await files.list_artifacts("young") == ["h", "i"]
    assert (files.directory / "not ours" / "session").exists()
    assert (files.directory / "a file").exists()


async def test_a_call_that_is_cancelled_does_not_wait_for_a_hanging_disk(tmp_path: Path) -> None:
    """Its thread is left behind."""
    files = FileArtifacts(tmp_path / "outputs")
    await files.put_artifact("s", "h", "text")
    (path,) = [path for path in _all_files(files.directory) if path.name == "h.txt"]
    path.unlink()
    os.mkfifo(path)
    with anyio.move_on_after(0.05) as scope:
        await files.read_artifact("s", "h")
    # Nobody writes into the pipe before this: the thread that reads it can end now.
    with path.open("w") as pipe:
        pipe.write("late")
    assert scope.cancelled_caught
