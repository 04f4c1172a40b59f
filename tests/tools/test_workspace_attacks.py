"""No path leads a tool out of its workspace: a table of attacks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from power_loop.errors import ToolError
from power_loop.tools import Tool, ToolContext, Workspace
from power_loop.tools.builtin.reading import ReadingTools
from tests.tools.trees import SECRET, grow, snapshot, tools_of

pytestmark = pytest.mark.anyio


def arena(base: Path) -> tuple[Path, Path]:
    """A workspace full of traps, and the outside that they aim at."""
    outside = grow(base / "outside", {"secret.txt": SECRET, "deep/secret.txt": SECRET})
    root = grow(base / "ws", {"in/file.txt": "inside", "in/sub/x.txt": "inside"})
    links = {
        "to_file": "../outside/secret.txt",
        "to_dir": "../outside",
        "to_root": "/",
        "to_etc": "/etc",
        "to_parent": "..",
        "absolute": str(outside),
        "absolute_file": str(outside / "secret.txt"),
        "in/up": "../..",
        "in/sub/far": "../../../outside/deep",
        "hop": "in/up",
        "hop2": "hop/outside",
        "twisted": "in/../../outside",
        "prefix": str(root) + "/../outside",
        "sibling": str(root) + "x",
        "dangling": "../outside/new.txt",
        "dangling_dir": "../outside/newdir",
        "dangling_absolute": str(outside / "new.txt"),
        "self": "self",
        "ping": "pong",
        "pong": "ping",
        "proc": "/proc/self/root",
        "cwd": "/proc/self/cwd",
        "dots": "./.././outside//secret.txt",
        "link_to_link": "to_file",
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    (base / "wsx").mkdir()
    grow(base / "wsx", {"secret.txt": SECRET})
    os.mkfifo(root / "pipe")
    (root / "null").symlink_to("/dev/null")
    return root, outside


LEXICAL = [
    "..",
    "../",
    "../outside/secret.txt",
    "in/../../outside/secret.txt",
    "in/../in/file.txt",
    "./../outside/secret.txt",
    "in/sub/../../../outside/secret.txt",
    "@workspace/../outside/secret.txt",
    "@workspace/in/../../outside/secret.txt",
    "@workspace//..//outside/secret.txt",
    "/etc/passwd",
    "//etc/passwd",
    "/",
    "/proc/self/environ",
    "{outside}/secret.txt",
    "{root}/../outside/secret.txt",
    "{root}x/secret.txt",
    "{root}/in/../../outside/secret.txt",
    "in/file.txt\0",
    "\0",
    "in\0/../../outside/secret.txt",
    "",
    " ",
    "x" * 300,
    "in/" + "y" * 5_000,
    "in/" * 3_000 + "../" * 4_000 + "outside/secret.txt",
    "~/secret.txt",
    "~root/x",
    "$HOME/x",
    "file:///etc/passwd",
    "..\\outside\\secret.txt",
    "%2e%2e/outside/secret.txt",
    "..%2foutside%2fsecret.txt",
    "．．/outside/secret.txt",
    "@workspace@/x",
    "@workspace:/etc/passwd",
]
LINKED = [
    "to_file",
    "to_dir/secret.txt",
    "to_dir/deep/secret.txt",
    "to_dir/new.txt",
    "to_root/etc/passwd",
    "to_etc/passwd",
    "to_parent/outside/secret.txt",
    "to_parent/ws/in/file.txt",
    "absolute/secret.txt",
    "absolute/new.txt",
    "absolute_file",
    "in/up/outside/secret.txt",
    "in/sub/far/secret.txt",
    "hop/outside/secret.txt",
    "hop2/secret.txt",
    "twisted/secret.txt",
    "prefix/secret.txt",
    "sibling/secret.txt",
    "dangling",
    "dangling_dir/x.txt",
    "dangling_absolute",
    "self",
    "self/x",
    "ping/x",
    "proc/etc/passwd",
    "cwd/x",
    "dots",
    "link_to_link",
    "pipe",
    "null",
    "{root}/to_dir/secret.txt",
    "@workspace/to_file",
]


def uses(tools: dict[str, Tool], path: str) -> Iterator[tuple[Tool, dict[str, Any]]]:
    """Every way to use a path."""
    yield tools["read_file"], {"path": path}
    yield tools["list_files"], {"path": path, "depth": 3}
    yield tools["grep"], {"pattern": ".", "path": path}
    yield tools["glob"], {"pattern": "**", "path": path}
    yield tools["write_file"], {"path": path, "content": "overwritten"}
    yield tools["edit_file"], {"path": path, "old_text": "secret", "new_text": "overwritten"}


HARMLESS = ("~", "$", "file:", "..\\", "%2e", "..%2f", "．．", "@workspace@", "@workspace:")
"""Names that mean something elsewhere; here they are names, of files in the workspace."""


async def test_no_attack_on_a_path_gets_out_z03(tmp_path: Path) -> None:
    """Every path with every tool: refused, and nothing outside is read, made or
    changed (Z01, Z03).
    """
    root, outside = arena(tmp_path)
    before = snapshot(outside)
    tools = tools_of(root)
    cases = 0
    for written in (*LEXICAL, *LINKED):
        path = written.replace("{root}", str(root)).replace("{outside}", str(outside))
        for tool, arguments in uses(tools, path):
            cases += 1
            text = msgspec.json.encode(arguments).decode()
            try:
                told = (await tool.invoke(text, ToolContext.for_test())).text
            except ToolError as error:
                told = str(error)
            else:
                made = tool.name == "write_file" and written.startswith(HARMLESS)
                seen = written.startswith((*HARMLESS, "pipe"))
                assert made or seen, f"{tool.name} took {written!r}: {told}"
            assert SECRET not in told, f"{tool.name} told the secret for {written!r}"
            assert "root:" not in told
    assert cases >= 300, cases
    assert snapshot(outside) == before
    assert {name.split("/")[0] for name in snapshot(tmp_path)} == {"outside", "ws", "wsx"}


async def test_searching_does_not_follow_links_z01(tmp_path: Path) -> None:
    """Neither out of the workspace nor round in circles (Z01)."""
    root, _ = arena(tmp_path)
    tools = tools_of(root)
    context = ToolContext.for_test()
    found = (await tools["grep"].invoke('{"pattern":"."}', context)).text
    assert found == "in/file.txt:1: inside\nin/sub/x.txt:1: inside"
    found = (await tools["glob"].invoke('{"pattern":"**"}', context)).text
    assert sorted(found.splitlines()) == ["in/file.txt", "in/sub/x.txt"]


def test_absolute_paths_inside_are_paths_inside(tmp_path: Path) -> None:
    """By the workspace's real name and by the one it was given."""
    root, _ = arena(tmp_path)
    alias = tmp_path / "alias"
    alias.symlink_to(root)
    tools = ReadingTools(Workspace(alias))
    for base in (root, alias):
        assert tools.read_file(f"{base}/in/file.txt") == "     1\tinside"
    assert tools.read_file("@workspace/./in//file.txt") == "     1\tinside"
