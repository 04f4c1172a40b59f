"""write_file and edit_file: whole or not at all, and never over something unseen."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import pytest

from power_loop.tools import ToolError, Workspace, workspace_tools
from power_loop.tools.builtin.paths import told_errors
from power_loop.tools.builtin.writing import WritingTools
from tests.tools.support import call, refusal
from tests.tools.trees import grow, snapshot, tools_of

pytestmark = pytest.mark.anyio


async def test_a_file_is_written_with_its_directories(tmp_path: Path) -> None:
    """And a second time replaced."""
    write = tools_of(tmp_path)["write_file"]
    assert await call(write, path="a/b/c.txt", content="é\n") == "created a/b/c.txt (3 bytes)"
    assert await call(write, path="@workspace/a/b/c.txt", content="") == (
        "replaced a/b/c.txt (0 bytes)"
    )
    assert snapshot(tmp_path) == {"a": b"", "a/b": b"", "a/b/c.txt": b""}


async def test_permissions_of_a_replaced_file_are_kept(tmp_path: Path) -> None:
    """A script stays executable."""
    grow(tmp_path, {"run": "old"})
    (tmp_path / "run").chmod(0o751)
    await call(tools_of(tmp_path)["write_file"], path="run", content="new")
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o751
    assert (tmp_path / "run").read_text() == "new"


async def test_a_link_inside_the_workspace_is_written_through(tmp_path: Path) -> None:
    """The link stays a link; one that leads nowhere is not a way to create a file (Z02)."""
    grow(tmp_path, {"real/a.txt": "old"})
    (tmp_path / "file").symlink_to("real/a.txt")
    (tmp_path / "dir").symlink_to("real")
    (tmp_path / "absolute").symlink_to(tmp_path / "real")
    (tmp_path / "nowhere").symlink_to("real/new.txt")
    (tmp_path / "nodir").symlink_to("missing")
    write = tools_of(tmp_path)["write_file"]
    assert await call(write, path="file", content="1") == "replaced real/a.txt (1 bytes)"
    assert await call(write, path="dir/b.txt", content="2") == "created real/b.txt (1 bytes)"
    assert (
        await call(write, path="absolute/c/d.txt", content="3") == "created real/c/d.txt (1 bytes)"
    )
    assert "through a link" in await refusal(write, path="nowhere", content="4")
    assert "nothing of that name" in await refusal(write, path="nodir/x", content="5")
    assert (tmp_path / "file").is_symlink()
    assert {name for name in snapshot(tmp_path) if name.startswith("real/")} == {
        "real/a.txt",
        "real/b.txt",
        "real/c",
        "real/c/d.txt",
    }
    assert not (tmp_path / "missing").exists()


async def test_what_is_no_file_is_not_written_over(tmp_path: Path) -> None:
    """Directories, pipes, the workspace itself; nothing temporary is left."""
    grow(tmp_path, {"dir/x": "", "file": ""})
    os.mkfifo(tmp_path / "pipe")
    before = snapshot(tmp_path)
    write = tools_of(tmp_path)["write_file"]
    assert "is a directory" in await refusal(write, path="dir", content="")
    assert "is a directory" in await refusal(write, path=".", content="")
    assert "is a named pipe" in await refusal(write, path="pipe", content="")
    assert "is no directory" in await refusal(write, path="file/x", content="")
    assert "too large" in await refusal(write, path="big", content="x" * 10_000_001)
    assert "too long" in await refusal(write, path="x" * 300, content="")
    assert snapshot(tmp_path) == before


def test_text_that_cannot_be_encoded_is_refused(tmp_path: Path) -> None:
    """JSON cannot bring a lone surrogate, another caller may."""
    with pytest.raises(ToolError, match="no text"):
        WritingTools(Workspace(tmp_path)).write_file("a", "\ud800")
    assert snapshot(tmp_path) == {}


# ── edit_file ──


async def test_an_edit_needs_a_reading_before(tmp_path: Path) -> None:
    """Of this very content; writing it counts as knowing it."""
    grow(tmp_path, {"a.txt": "one\ntwo\n"})
    tools = tools_of(tmp_path)
    edit = {"path": "a.txt", "old_text": "two", "new_text": "2"}
    assert "read 'a.txt' with read_file" in await refusal(tools["edit_file"], **edit)
    await call(tools["read_file"], path="a.txt", limit=1)
    (tmp_path / "a.txt").write_text("one\ntwo\nthree\n")
    assert "has changed since it was read" in await refusal(tools["edit_file"], **edit)
    await call(tools["read_file"], path="@workspace/a.txt")
    await call(tools["edit_file"], **edit)
    await call(tools["edit_file"], path="a.txt", old_text="three", new_text="3")
    assert (tmp_path / "a.txt").read_text() == "one\n2\n3\n"
    await call(tools["write_file"], path="b.txt", content="fresh")
    await call(tools["edit_file"], path="b.txt", old_text="fresh", new_text="new")


async def test_two_sets_of_tools_share_what_was_read_only_through_a_workspace(
    tmp_path: Path,
) -> None:
    """What one agent has read, another has not."""
    grow(tmp_path, {"a.txt": "one"})
    workspace = Workspace(tmp_path)
    one, two = workspace_tools(workspace), workspace_tools(workspace)
    other = tools_of(tmp_path)
    edit = {"path": "a.txt", "old_text": "one", "new_text": "1"}
    await call(one[1], path="a.txt")
    assert "read 'a.txt'" in await refusal(other["edit_file"], **edit)
    assert await call(two[5], **edit)


async def test_an_edit_answers_with_a_diff(tmp_path: Path) -> None:
    """Three lines around the change."""
    grow(tmp_path, {"a.txt": "".join(f"line {i}\n" for i in range(1, 21))})
    tools = tools_of(tmp_path)
    await call(tools["read_file"], path="a.txt")
    assert await call(
        tools["edit_file"], path="a.txt", old_text="line 10\n", new_text="ten\nand a half\n"
    ) == (
        "edited a.txt\n--- a.txt\n+++ a.txt\n@@ -7,7 +7,8 @@\n line 7\n line 8\n line 9\n-line 10\n"
        "+ten\n+and a half\n line 11\n line 12\n line 13"
    )


async def test_a_byte_order_mark_and_windows_line_ends_survive(tmp_path: Path) -> None:
    """Whatever the model sends."""
    grow(tmp_path, {"a.txt": b"\xef\xbb\xbfone\r\ntwo\r\nthree\r\n"})
    tools = tools_of(tmp_path)
    await call(tools["read_file"], path="a.txt")
    await call(tools["edit_file"], path="a.txt", old_text="one\ntwo\n", new_text="1\n2\n2b\n")
    assert (tmp_path / "a.txt").read_bytes() == b"\xef\xbb\xbf1\r\n2\r\n2b\r\nthree\r\n"


async def test_all_places_can_be_replaced_at_once(tmp_path: Path) -> None:
    """And are counted."""
    grow(tmp_path, {"a.txt": "x\ny\nx\n"})
    tools = tools_of(tmp_path)
    await call(tools["read_file"], path="a.txt")
    edit = {"path": "a.txt", "old_text": "x", "new_text": "z"}
    assert "there 2 times (lines 1, 3)" in await refusal(tools["edit_file"], **edit)
    assert (await call(tools["edit_file"], **edit, replace_all=True)).startswith(
        "edited a.txt (2 places)"
    )
    assert (tmp_path / "a.txt").read_text() == "z\ny\nz\n"


async def test_a_loose_match_is_named_in_the_answer(tmp_path: Path) -> None:
    """So that the model sees that its quotation was off."""
    grow(tmp_path, {"a.txt": "say “hi”\n"})
    tools = tools_of(tmp_path)
    await call(tools["read_file"], path="a.txt")
    told = await call(tools["edit_file"], path="a.txt", old_text='say "hi"', new_text="bye")
    assert told.startswith("edited a.txt, found without regard to typographic variants")


async def test_what_would_be_damaged_is_not_edited(tmp_path: Path) -> None:
    """Binary files, other encodings, giants."""
    grow(tmp_path, {"bin": b"a\0b", "latin": "café".encode("latin-1"), "big": "x" * 2_000_001})
    tools = tools_of(tmp_path)
    edit = {"old_text": "a", "new_text": "b"}
    await call(tools["read_file"], path="latin")
    assert "is binary" in await refusal(tools["edit_file"], path="bin", **edit)
    assert "is not UTF-8" in await refusal(tools["edit_file"], path="latin", **edit)
    assert "too large" in await refusal(tools["edit_file"], path="big", **edit)


def test_a_file_that_changes_while_it_is_edited_is_left_alone(tmp_path: Path) -> None:
    """Between reading and putting in place; the new content is not lost."""
    grow(tmp_path, {"a.txt": "one"})
    workspace = Workspace(tmp_path)
    for theirs in ("two", "something longer", ""):
        with workspace.entry("a.txt", "edit") as entry:
            data = workspace.read(entry, 100)
            (tmp_path / "a.txt").write_text(theirs)
            with pytest.raises(ToolError, match="changed meanwhile"):
                workspace.write(entry, b"mine", same_as=data)
        assert snapshot(tmp_path) == {"a.txt": theirs.encode()}
        (tmp_path / "a.txt").write_text("one")


async def test_a_disk_that_takes_no_more_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    """The old content stays whole."""
    grow(tmp_path, {"a.txt": "old"})
    write = tools_of(tmp_path)["write_file"]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limits[1]))
    try:
        told = await refusal(write, path="a.txt", content="x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "cannot write 'a.txt'" in told
    assert snapshot(tmp_path) == {"a.txt": b"old"}


@pytest.mark.parametrize(
    ("code", "word"),
    [
        (errno.ENOSPC, "no space is left"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EACCES, "permission denied"),
        (errno.EIO, "Input/output error"),
        (errno.ENOENT, "there is nothing of that name"),
    ],
)
def test_what_the_system_refuses_is_said_in_words(code: int, word: str) -> None:
    """With the path as the model wrote it."""
    with pytest.raises(ToolError, match=f"cannot write 'a/b': {word}"), told_errors("a/b", "write"):
        raise OSError(code, os.strerror(code))
