"""In any tree of files and links, only what is inside is read or written."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from power_loop.errors import ToolError
from power_loop.tools import ToolContext, Workspace
from power_loop.tools.builtin.reading import ReadingTools
from power_loop.tools.builtin.writing import WritingTools
from tests.tools.trees import SECRET, grow, snapshot

names = st.sampled_from(["a", "b", "c"])
components = st.sampled_from(["a", "b", "c", "..", ".", "", "out"])
targets = st.one_of(
    st.lists(components, min_size=1, max_size=4).map("/".join),
    st.lists(components, max_size=3).map(lambda parts: "/".join(["{root}", *parts])),
    st.lists(components, max_size=3).map(lambda parts: "/".join(["{out}", *parts])),
)
nodes = st.lists(
    st.tuples(
        st.lists(names, min_size=1, max_size=3), st.one_of(st.just(None), st.just(""), targets)
    ),
    max_size=12,
)
requests = st.one_of(
    st.lists(components, min_size=1, max_size=5).map("/".join),
    st.lists(components, max_size=4).map(lambda parts: "/".join(["@workspace", *parts])),
    st.lists(components, max_size=4).map(lambda parts: "/".join(["{root}", *parts])),
)


def plant(root: Path, out: Path, tree: list[tuple[list[str], str | None]]) -> None:
    """Makes directories (None), files ("") and links; what does not fit is left out."""
    for parts, kind in tree:
        path = root.joinpath(*parts)
        # Made through links too, but only where that stays inside.
        if not Path(os.path.realpath(path.parent)).is_relative_to(root):
            continue
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind is None:
                path.mkdir()
            elif kind == "":
                path.open("x").close()
                path.write_text(f"at {os.path.realpath(path)}")
            else:
                path.symlink_to(kind.replace("{root}", str(root)).replace("{out}", str(out)))


@settings(max_examples=100, deadline=None)
@given(tree=nodes, asked=st.lists(requests, min_size=1, max_size=6))
def test_in_any_tree_only_what_is_inside_is_read_or_written(
    tree: list[tuple[list[str], str | None]], asked: list[str]
) -> None:
    """What is read is the file that the path leads to, and it is inside; a plain path works."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder).resolve()
        out = grow(base / "out", {"a": SECRET, "b/c": SECRET})
        root = base / "ws"
        root.mkdir()
        (root / "out").symlink_to(out)
        plant(root, out, tree)
        before = snapshot(out)
        workspace = Workspace(root)
        reading, writing = ReadingTools(workspace), WritingTools(workspace)
        for request in asked:
            path = request.replace("{root}", str(root))
            real = Path(os.path.realpath(root / path.replace("@workspace", ".", 1)))
            try:
                text = reading.read_file(path)
            except ToolError:
                plain = root / path.replace("@workspace", ".", 1)
                clean = ".." not in path.split("/") and os.path.normpath(plain) == str(real)
                assert not (clean and real.is_file()), f"{path!r} was refused"
            else:
                assert text == f"     1\tat {real}"
                assert real.is_relative_to(root)
            with suppress(ToolError):
                told = writing.write_file(path, f"at {real}")
                assert real.is_relative_to(root)
                assert real.read_text() == f"at {real}"
                assert told.endswith(" bytes)")
            with suppress(ToolError):
                assert SECRET not in reading.grep(ToolContext.for_test(), "secret", path)
        assert snapshot(out) == before
