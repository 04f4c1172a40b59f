"""list_files, read_file, glob, grep: what they show, and where they stop."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import anyio
import pytest

from power_loop.errors import UsageError
from power_loop.tools import (
    ToolCancelled,
    ToolContext,
    ToolRegistry,
    Workspace,
    workspace_tools,
)
from power_loop.tools.builtin.reading import ReadingTools
from tests.tools.support import call, invalid, refusal
from tests.tools.trees import grow, tools_of
from tests.unprivileged import binding_permissions

pytestmark = pytest.mark.anyio

FDS = Path("/proc/self/fd")
HAS_PROC = FDS.exists()


def open_descriptors() -> int:
    """How many files this process has open."""
    return len(list(FDS.iterdir()))


def test_the_set_of_tools_and_what_they_promise(tmp_path: Path) -> None:
    """Reading is idempotent; writing runs alone; writing the same again changes nothing."""
    tools = tools_of(tmp_path)
    assert {name: (tool.idempotent, tool.exclusive) for name, tool in tools.items()} == {
        "list_files": (True, False),
        "read_file": (True, False),
        "glob": (True, False),
        "grep": (True, False),
        "write_file": (True, True),
        "edit_file": (False, True),
    }
    reading = ToolRegistry(workspace_tools(tmp_path, read_only=True))
    assert reading.names == ("list_files", "read_file", "glob", "grep")


def test_a_workspace_must_be_a_directory(tmp_path: Path) -> None:
    """Said at once, not at the first call."""
    with pytest.raises(UsageError, match="is no directory"):
        Workspace(tmp_path / "missing")
    with pytest.raises(UsageError, match="is no directory"):
        workspace_tools(grow(tmp_path, {"f": ""}) / "f")
    assert repr(Workspace(tmp_path)) == f"Workspace({str(tmp_path.resolve())!r})"


# ── list_files ──


async def test_a_listing_shows_kinds_and_sizes_by_name(tmp_path: Path) -> None:
    """Directories end in a slash; links, pipes and sockets are named as what they are."""
    grow(tmp_path, {"b.txt": "x" * 1234, "a/inner.md": "hi"})
    (tmp_path / "link").symlink_to("a")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(tmp_path)  # a socket's path may only be short
        try:
            listener.bind("sock")
        finally:
            os.chdir(here)
        listing = await call(tools_of(tmp_path)["list_files"])
    assert listing.splitlines() == [
        "a/",
        "b.txt  1,234",
        "link  (link)",
        "pipe  (named pipe)",
        "sock  (socket)",
    ]


async def test_a_listing_goes_as_deep_as_it_is_told(tmp_path: Path) -> None:
    """Links are not followed; what is ignored is shown, not entered."""
    grow(tmp_path, {"a/b/c.txt": "", "a/d.txt": "", ".git/config": "", "node_modules/x/y.js": ""})
    (tmp_path / "loop").symlink_to(".")
    listing = tools_of(tmp_path)["list_files"]
    assert (await call(listing, depth=3)).splitlines() == [
        ".git/",
        "a/",
        "a/b/",
        "a/b/c.txt  0",
        "a/d.txt  0",
        "loop  (link)",
        "node_modules/",
    ]
    assert await call(listing, path="a") == "a/b/\na/d.txt  0"
    assert await call(listing, path="@workspace/a/b/") == "a/b/c.txt  0"
    assert await call(listing, path="node_modules") == "node_modules/x/"
    assert await call(listing, path="a/d.txt") == "a/d.txt  0"
    await invalid(listing, '{"depth":0}')


async def test_an_empty_and_an_endless_directory_are_said_to_be_so(tmp_path: Path) -> None:
    """No empty result, no flood."""
    (tmp_path / "empty").mkdir()
    grow(tmp_path, {f"many/{i:04}": "" for i in range(300)})
    listing = tools_of(tmp_path)["list_files"]
    assert await call(listing, path="empty") == "(the directory is empty)"
    lines = (await call(listing, path="many")).splitlines()
    assert len(lines) == 201
    assert lines[-1] == "(stopped after 200 entries; list a subdirectory)"


# ── read_file ──


async def test_lines_are_numbered_and_the_rest_is_announced(tmp_path: Path) -> None:
    """With the offset to go on with."""
    grow(tmp_path, {"a.txt": "one\ntwo\r\nthree\nfour"})
    read = tools_of(tmp_path)["read_file"]
    assert await call(read, path="a.txt") == "     1\tone\n     2\ttwo\n     3\tthree\n     4\tfour"
    assert await call(read, path="a.txt", offset=2, limit=2) == (
        "     2\ttwo\n     3\tthree\n(1 more lines, 4 in all; go on with offset=4)"
    )
    assert "is behind its end" in await refusal(read, path="a.txt", offset=5)


async def test_an_empty_file_is_said_to_be_empty(tmp_path: Path) -> None:
    """A last line end makes no further line."""
    grow(tmp_path, {"a": "", "b": "\n", "c": "x\n"})
    read = tools_of(tmp_path)["read_file"]
    assert await call(read, path="a") == "(the file is empty)"
    assert await call(read, path="b") == "     1\t"
    assert await call(read, path="c") == "     1\tx"


async def test_long_lines_and_much_text_are_cut_with_a_word(tmp_path: Path) -> None:
    """A result stays of a size that a model can take."""
    grow(tmp_path, {"wide": "x" * 5_000, "tall": ("y" * 999 + "\n") * 1_000})
    read = tools_of(tmp_path)["read_file"]
    assert (await call(read, path="wide")).endswith("x… (3,000 more)")
    tall = await call(read, path="tall")
    assert len(tall) < 201_000
    assert "(802 more lines, 1,000 in all; go on with offset=199)" in tall


async def test_a_byte_order_mark_is_left_out_and_odd_bytes_are_marked(tmp_path: Path) -> None:
    """Text that is not quite UTF-8 can be read, but see edit_file."""
    grow(tmp_path, {"bom": b"\xef\xbb\xbfhi", "latin": "café".encode("latin-1")})
    read = tools_of(tmp_path)["read_file"]
    assert await call(read, path="bom") == "     1\thi"
    assert await call(read, path="latin") == "     1\tcaf\ufffd"


async def test_what_is_no_text_file_is_refused(tmp_path: Path) -> None:
    """Directories, pipes (without hanging), binaries, giants; each says what it is."""
    grow(tmp_path, {"bin": b"a\0b", "dir/x": ""})
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "giant").open("wb") as file:
        file.truncate(20_000_001)
    read = tools_of(tmp_path)["read_file"]
    with anyio.fail_after(5):
        assert "is binary (3 bytes)" in await refusal(read, path="bin")
        assert "is a directory; use list_files" in await refusal(read, path="dir")
        assert "is a named pipe" in await refusal(read, path="pipe")
        assert "too large: 20,000,001 bytes" in await refusal(read, path="giant")
        assert "there is nothing of that name" in await refusal(read, path="dir/y")
        assert "is no directory" in await refusal(read, path="bin/y")
        assert "too long" in await refusal(read, path="x" * 300)


async def test_what_may_not_be_read_says_so() -> None:
    """In the system's words, not as a traceback."""
    with binding_permissions() as place:
        grow(place, {"secret": "x"})
        (place / "secret").chmod(0)
        assert "permission denied" in await refusal(tools_of(place)["read_file"], path="secret")


# ── glob ──


async def test_glob_finds_by_name_newest_first(tmp_path: Path) -> None:
    """A pattern without a slash is about the name at any depth."""
    grow(
        tmp_path,
        {"old.py": "", "a/new.py": "", "a/b/mid.py": "", "a/other.md": "", ".git/x.py": ""},
    )
    for age, name in enumerate(["old.py", "a/b/mid.py", "a/new.py"]):
        os.utime(tmp_path / name, (age, age))
    find = tools_of(tmp_path)["glob"]
    assert await call(find, pattern="*.py") == "a/new.py\na/b/mid.py\nold.py"
    assert await call(find, pattern="a/*.py") == "a/new.py"
    assert await call(find, pattern="a/**/*.py") == "a/new.py\na/b/mid.py"
    assert await call(find, pattern="b/*.py", path="a") == "a/b/mid.py"
    assert await call(find, pattern="*.rs") == "(no file matches)"


async def test_glob_shows_fifty_and_counts_the_rest(tmp_path: Path) -> None:
    """The newest fifty."""
    grow(tmp_path, {f"{i:03}.txt": "" for i in range(60)})
    for i in range(60):
        os.utime(tmp_path / f"{i:03}.txt", (i, i))
    lines = (await call(tools_of(tmp_path)["glob"], pattern="*.txt")).splitlines()
    assert lines[0] == "059.txt"
    assert lines[-1] == "(10 more; use a narrower pattern)"
    assert len(lines) == 51


@pytest.mark.parametrize("pattern", ["", "/etc/*", "../*", "a/../*", "x" * 501])
async def test_a_pattern_that_cannot_be_meant_is_refused(tmp_path: Path, pattern: str) -> None:
    """With an example of one that can."""
    assert "write for example" in await refusal(tools_of(tmp_path)["glob"], pattern=pattern)


# ── grep ──


async def test_grep_shows_file_line_and_text(tmp_path: Path) -> None:
    """In text files only; repositories' own directories are left out unless named."""
    grow(
        tmp_path,
        {
            "a.py": "import os\ndef main(): pass\r\n",
            "b/c.md": "no def here\nMAIN",
            "bin": b"def main\0",
            ".git/x": "def main",
        },
    )
    find = tools_of(tmp_path)["grep"]
    assert await call(find, pattern=r"def \w+\(") == "a.py:2: def main(): pass"
    assert await call(find, pattern="main", ignore_case=True) == (
        "a.py:2: def main(): pass\nb/c.md:2: MAIN"
    )
    assert await call(find, pattern="def", include="*.md") == "b/c.md:1: no def here"
    assert await call(find, pattern="def", path=".git") == ".git/x:1: def main"
    assert await call(find, pattern="import", path="a.py") == "a.py:1: import os"
    assert await call(find, pattern="nothing") == "(no match)"


async def test_grep_stops_where_it_is_told_and_says_what_it_left_out(tmp_path: Path) -> None:
    """Matches, long lines, large files."""
    grow(tmp_path, {"many": "x\n" * 200, "wide": "y" * 5_000})
    with (tmp_path / "giant").open("wb") as file:
        file.truncate(5_000_001)
    find = tools_of(tmp_path)["grep"]
    lines = (await call(find, pattern="x", path="many")).splitlines()
    assert lines[-1] == "(stopped after 50 matches; there may be more)"
    assert len(lines) == 51
    assert len((await call(find, pattern="x", path="many", limit=3)).splitlines()) == 4
    assert (await call(find, pattern="y")).splitlines() == [
        f"wide:1: {'y' * 300}… (4,700 more)",
        "(left out 1 files of more than 5,000,000 bytes)",
    ]


@pytest.mark.parametrize("pattern", ["(", "[z-a]", "*", "", "a{3,1}", "(" * 500, "x" * 1_001])
async def test_a_broken_expression_is_told_with_advice(tmp_path: Path, pattern: str) -> None:
    """Never a bare error of the engine."""
    told = await refusal(tools_of(tmp_path)["grep"], pattern=pattern)
    assert "no regular expression" in told or "must have 1 to 1000 characters" in told


async def test_an_expression_that_backtracks_for_ever_is_stopped(tmp_path: Path) -> None:
    """And the event loop runs on meanwhile."""
    grow(tmp_path, {"a": "found\n" + "a" * 5_000 + "x"})
    tools = ReadingTools(Workspace(tmp_path), seconds=0.3)
    turns = 0
    answer: list[str] = []

    async def search() -> None:
        answer.append(await call(tools.grep, pattern="found|(a|aa)+c"))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(search)
            while not answer:
                turns += 1
                await anyio.lowlevel.checkpoint()
    assert answer == ["a:1: found\n(stopped after 0.3 s: the pattern takes too long; simplify it)"]
    assert turns > 100


async def test_searches_end_when_the_call_is_cancelled(tmp_path: Path) -> None:
    """Each asks now and then."""
    grow(tmp_path, {"a": "x"})
    context = ToolContext.for_test(cancel_reason=lambda: "enough")
    tools = tools_of(tmp_path)
    for name, arguments in {
        "list_files": "{}",
        "glob": '{"pattern":"*"}',
        "grep": '{"pattern":"x"}',
    }.items():
        with pytest.raises(ToolCancelled, match="enough"):
            await tools[name].invoke(arguments, context)


async def test_searches_end_when_their_time_is_up(tmp_path: Path) -> None:
    """With what they have, and a word."""
    grow(tmp_path, {"a": "x"})
    tools = ReadingTools(Workspace(tmp_path), seconds=-1)
    assert "stopped after -1 s" in await call(tools.list_files)
    assert "stopped after -1 s" in await call(tools.glob, pattern="*")
    assert "stopped after -1 s" in await call(tools.grep, pattern="x")


async def test_names_that_are_no_text_can_be_listed(tmp_path: Path) -> None:
    """As the character for what cannot be shown."""
    (tmp_path / os.fsdecode(b"caf\xe9")).write_text("x")
    tools = tools_of(tmp_path)
    assert await call(tools["list_files"]) == "caf\ufffd  1"
    assert await call(tools["grep"], pattern="x") == "caf\ufffd:1: x"


async def test_searching_leaves_no_descriptor_open(tmp_path: Path) -> None:
    """Also when it stops early."""
    if not HAS_PROC:
        pytest.skip("open descriptors are counted in /proc, which this system does not have")
    grow(tmp_path, {f"{a}/{b}/{c}.txt": "x\n" * 100 for a in "ab" for b in "cd" for c in "ef"})
    tools = tools_of(tmp_path)
    await call(tools["grep"], pattern="x", limit=1)
    before = open_descriptors()
    for _ in range(20):
        await call(tools["grep"], pattern="x", limit=1)
        await call(tools["glob"], pattern="*")
        await call(tools["list_files"], depth=3)
        await refusal(tools["read_file"], path="a/c")
        await refusal(tools["read_file"], path="a/c/e.txt/none")
    assert open_descriptors() == before
