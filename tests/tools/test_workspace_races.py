"""What is swapped for a link while a tool works leads it nowhere."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from power_loop.errors import ToolError
from power_loop.tools import ToolContext, Workspace
from power_loop.tools.builtin.reading import ReadingTools
from power_loop.tools.builtin.writing import WritingTools
from tests.tools.moments import at
from tests.tools.trees import SECRET, grow, snapshot

# ── races, won every time ──


def raced(tmp_path: Path) -> tuple[Path, Path, ReadingTools, WritingTools]:
    """A workspace with a directory and a file that will be swapped, and the outside."""
    outside = grow(tmp_path / "outside", {"f": SECRET, "sub/f": SECRET})
    root = grow(tmp_path / "ws", {"place/f": "inside", "place/sub/f": "inside", "file": "inside"})
    workspace = Workspace(root)
    return root, outside, ReadingTools(workspace), WritingTools(workspace)


def swapped(place: Path, trap: Path) -> None:
    """What is at `place` is put away, and a link to `trap` takes its name."""
    place.rename(place.with_name("away"))
    place.symlink_to(trap)


USES: dict[str, Callable[[ReadingTools, WritingTools, str], str]] = {
    "read_file": lambda reading, _, path: reading.read_file(path),
    "list_files": lambda reading, _, path: reading.list_files(ToolContext.for_test(), path),
    "grep": lambda reading, _, path: reading.grep(ToolContext.for_test(), ".", path),
    "glob": lambda reading, _, path: reading.glob(ToolContext.for_test(), "*", path),
    "write_file": lambda _, writing, path: writing.write_file(path, "mine"),
    "edit_file": lambda _, writing, path: writing.edit_file(path, "inside", "mine"),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("path", ["place/f", "place/sub/f", "place/new/f"])
def test_a_directory_that_becomes_a_link_just_before_it_is_opened(
    tmp_path: Path, use: str, path: str
) -> None:
    """After every check there could be, at the call itself."""
    root, outside, reading, writing = raced(tmp_path)
    before = snapshot(outside)
    if use == "edit_file" and "new" not in path:
        reading.read_file(path)
    with (
        at("open", "place", lambda: swapped(root / "place", outside)) as moment,
        pytest.raises(ToolError) as caught,
    ):
        USES[use](reading, writing, path)
    assert moment.came
    assert "a part of the path is no directory" in str(caught.value)
    assert snapshot(outside) == before


@pytest.mark.parametrize("use", ["read_file", "grep", "write_file", "edit_file"])
def test_a_file_that_becomes_a_link_just_before_it_is_opened(tmp_path: Path, use: str) -> None:
    """The last component is opened no differently."""
    root, outside, reading, writing = raced(tmp_path)
    before = snapshot(outside)
    reading.read_file("file")
    event = "os.rename" if use == "write_file" else "open"
    told = ""
    with (
        at(event, "file", lambda: swapped(root / "file", outside / "f")) as moment,
        suppress(ToolError),
    ):
        told = USES[use](reading, writing, "file")
    assert moment.came
    assert SECRET not in told
    assert snapshot(outside) == before
    if use == "write_file":  # the link itself was replaced
        assert (root / "file").read_text() == "mine"
        assert not (root / "file").is_symlink()


def test_a_file_that_becomes_a_pipe_just_before_it_is_opened_does_not_hang(tmp_path: Path) -> None:
    """Opening a pipe would wait for a writer."""
    root, _, reading, _ = raced(tmp_path)

    def swap() -> None:
        (root / "file").unlink()
        os.mkfifo(root / "file")

    with at("open", "file", swap) as moment, pytest.raises(ToolError, match="named pipe"):
        reading.read_file("file")
    assert moment.came


@pytest.mark.parametrize("use", ["grep", "glob", "list_files"])
def test_a_directory_that_becomes_a_link_during_a_search_is_not_entered(
    tmp_path: Path, use: str
) -> None:
    """It was a directory when it was met."""
    root, outside, reading, _ = raced(tmp_path)
    looks: dict[str, Callable[[], str]] = {
        "grep": lambda: reading.grep(ToolContext.for_test(), "."),
        "glob": lambda: reading.glob(ToolContext.for_test(), "f"),
        "list_files": lambda: reading.list_files(ToolContext.for_test(), depth=4),
    }
    with at("open", "sub", lambda: swapped(root / "place/sub", outside)) as moment:
        told = looks[use]()
    assert moment.came
    assert SECRET not in told
    assert "sub/f" not in told


@pytest.mark.parametrize("use", ["grep", "glob", "list_files"])
def test_the_place_to_search_that_becomes_a_link_is_not_searched(tmp_path: Path, use: str) -> None:
    """The beginning of a search is opened like everything else."""
    root, outside, reading, writing = raced(tmp_path)
    with (
        at("open", "place", lambda: swapped(root / "place", outside)) as moment,
        pytest.raises(ToolError, match="no directory"),
    ):
        USES[use](reading, writing, "place")
    assert moment.came


def test_a_name_that_becomes_a_link_just_before_its_directory_is_made(tmp_path: Path) -> None:
    """Nothing is made where it leads."""
    root, outside, _, writing = raced(tmp_path)
    before = snapshot(outside)
    with (
        at("os.mkdir", "new", lambda: (root / "new").symlink_to(outside)) as moment,
        pytest.raises(ToolError),
    ):
        writing.write_file("new/f", "mine")
    assert moment.came
    assert snapshot(outside) == before


def test_a_directory_moved_out_of_the_way_is_still_the_one_that_was_checked(tmp_path: Path) -> None:
    """What was opened is written to, wherever its name leads by now."""
    root, outside, _, writing = raced(tmp_path)
    before = snapshot(outside)
    with at("os.rename", "f", lambda: swapped(root / "place", outside)) as moment:
        writing.write_file("place/f", "mine")
    assert moment.came
    assert snapshot(outside) == before
    assert (root / "away" / "f").read_text() == "mine"


# ── races, left to chance ──


@contextmanager
def swapping(place: Path, real: Path, trap: Path) -> Generator[None]:
    """Another thread that makes `place` a directory and a link to `trap` by turns."""
    stop = threading.Event()
    waste = iter(range(1_000_000))

    def take(one: Path) -> None:
        try:
            one.rename(place)
        except OSError:  # the tool has made a directory there
            place.rename(place.with_name(f"made{next(waste)}"))
        else:
            place.rename(one)

    def swap() -> None:
        while not stop.is_set():
            take(real)
            take(trap)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)


ROUNDS = 1_000
MOST_ROUNDS = 100_000


def test_a_directory_swapped_for_a_link_while_it_is_read_leaks_nothing(tmp_path: Path) -> None:
    """While a reader that checks and then opens is fooled by the very same swapping."""
    outside = grow(tmp_path / "outside", {"f": SECRET})
    root = grow(tmp_path / "ws", {"real/f": "inside"})
    (root / "trap").symlink_to(outside)
    place = root / "place"
    tools = ReadingTools(Workspace(root))
    told: dict[str, int] = {"inside": 0, "refused": 0}
    fooled = 0
    with swapping(place, root / "real", root / "trap"):
        for i in range(MOST_ROUNDS):
            if i > ROUNDS and fooled and min(told.values()) > 0:
                break
            try:
                text = tools.read_file("place/f")
            except ToolError:
                told["refused"] += 1
            else:
                assert text == "     1\tinside"
                told["inside"] += 1
            with suppress(OSError):
                if os.path.realpath(place / "f").startswith(str(root)):
                    fooled += (place / "f").read_text() == SECRET
    assert min(told.values()) > 0, told
    assert fooled > 0, "the swapping never hit; the test shows nothing"


def test_a_directory_swapped_for_a_link_while_it_is_written_to_stays_inside(
    tmp_path: Path,
) -> None:
    """Also with directories that are made on the way, and for edits (Z02)."""
    outside = grow(tmp_path / "outside", {"f": SECRET})
    root = grow(tmp_path / "ws", {"real/f": "inside"})
    (root / "trap").symlink_to(outside)
    workspace = Workspace(root)
    writing, reading = WritingTools(workspace), ReadingTools(workspace)
    done = refused = 0
    with swapping(root / "place", root / "real", root / "trap"):
        for i in range(ROUNDS // 3):
            for attempt in (
                lambda: writing.write_file("place/g", "x"),
                lambda i=i: writing.write_file(f"place/new{i % 5}/g", "x"),
                lambda: reading.read_file("place/f"),
                lambda i=i: writing.edit_file("place/f", "inside", f"inside {i}"),
                lambda: reading.grep(ToolContext.for_test(), "secret", "place"),
            ):
                try:
                    assert "secret of" not in attempt()
                    done += 1
                except ToolError:
                    refused += 1
    assert snapshot(outside) == {"f": SECRET.encode()}
    assert min(done, refused) > 0, (done, refused)
    assert not [name for name in snapshot(root) if name.endswith(".tmp")]


def test_a_file_swapped_for_a_link_or_a_pipe_leaks_nothing_and_does_not_hang(
    tmp_path: Path,
) -> None:
    """The last component is as treacherous as the ones before it."""
    outside = grow(tmp_path / "outside", {"f": SECRET})
    root = grow(tmp_path / "ws", {"real": "inside"})
    tools = ReadingTools(Workspace(root))
    (root / "trap").symlink_to(outside / "f")
    os.mkfifo(root / "pipe")
    for trap in ("trap", "pipe"):
        told: set[str] = set()
        with swapping(root / "place", root / "real", root / trap):
            for _ in range(ROUNDS // 2):
                try:
                    told.add(tools.read_file("place"))
                except ToolError as error:
                    told.update([SECRET] if SECRET in str(error) else [])
        assert told <= {"     1\tinside"}
