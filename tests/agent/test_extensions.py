"""Bundles: hooks, tools, subscribers, prompt sections and a lifespan in one object."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from importlib import invalidate_caches
from pathlib import Path
from typing import Any

import anyio
import pytest

from power_loop import AgentConfig, AgentLoop, Extension, Hooks, Section, Subscription, tool
from power_loop.agent.extensions import installed_extensions
from power_loop.errors import ToolDefinitionError, UsageError
from power_loop.events import Stamped
from power_loop.hooks import ROUND_START
from power_loop.session.records import RunClosed
from power_loop.tools import Tool
from tests.agent.scripted import Scripted, calls, says

pytestmark = pytest.mark.anyio


class Bundle(Extension):
    """One of everything."""

    name = "bundle"

    def __init__(self, told: list[str]) -> None:
        self.told = told

    def hooks(self, hooks: Hooks) -> None:
        hooks.on(ROUND_START, lambda _: self.told.append("round"), name="bundle.round")

    def tools(self) -> Sequence[Tool]:
        @tool
        async def shout(text: str) -> str:
            """Shouts."""
            self.told.append("tool")
            return text.upper()

        return (shout,)

    def subscriptions(self) -> Sequence[Subscription]:
        async def heard(stamped: Stamped) -> None:
            assert "open" in self.told
            assert "closed" not in self.told
            self.told.append("heard")

        return (Subscription(heard, [RunClosed]),)

    def prompt_sections(self) -> Sequence[Section]:
        return (Section("shouting", "You may shout."),)

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
        self.told.append("open")
        try:
            yield
        finally:
            self.told.append("closed")


async def test_an_extension_brings_everything_in_one_use() -> None:
    """And its lifespan outlasts the subscribers, which end with the loop."""
    told: list[str] = []
    llm = Scripted(calls(("a", "shout", {"text": "hi"})), says("ok"))
    with anyio.fail_after(10):
        loop = AgentLoop(llm, config=AgentConfig(system_prompt="You are calm."))
        loop.use(Bundle(told))
        async with loop:
            result = await loop.send("shout")
            assert result.status == "completed"
    assert told == ["open", "round", "tool", "round", "heard", "closed"]
    assert llm.requests[0].system == "You are calm.\n\nYou may shout."


async def test_extensions_cannot_clash_or_come_late() -> None:
    """The error names what is there already."""
    loop = AgentLoop(Scripted(), extensions=[Bundle([])])
    with pytest.raises(UsageError, match="'bundle'"):
        loop.use(Bundle([]))

    class Other(Bundle):
        name = "other"

        def hooks(self, hooks: Hooks) -> None: ...

    with pytest.raises(ToolDefinitionError, match="shout"):
        loop.use(Other([]))
    async with loop:
        with pytest.raises(UsageError, match="before the loop is opened"):
            loop.use(Other([]))


async def test_an_extension_that_clashes_leaves_nothing_of_itself_behind() -> None:
    """Neither its hooks nor its first tools: the loop is as it was."""

    @tool
    async def first() -> str:
        """Is new."""
        return "first"

    @tool
    async def shout(text: str) -> str:
        """Is there already."""
        return text

    told: list[str] = []

    class Clashing(Extension):
        def hooks(self, hooks: Hooks) -> None:
            hooks.on(ROUND_START, lambda _: told.append("clashing"), name="clashing")

        def tools(self) -> Sequence[Tool]:
            return (first, shout)

    llm = Scripted(says("ok"))
    loop = AgentLoop(llm, tools=[shout])
    with pytest.raises(ToolDefinitionError):
        loop.use(Clashing())
    async with loop:
        await loop.send("hi")
    assert [spec.name for spec in llm.requests[0].tools] == ["shout"]
    assert told == []
    assert not loop.hooks.has("clashing")


async def test_lifespans_close_in_the_opposite_order_whatever_happens() -> None:
    """One that cannot be opened closes those before it; its error comes out as it is."""
    told: list[str] = []

    class Life(Extension):
        def __init__(self, name: str, fails: str = "") -> None:
            self.name = name
            self.fails = fails

        @asynccontextmanager
        async def lifespan(self) -> AsyncGenerator[None]:
            if self.fails == "open":
                raise ValueError(f"{self.name} cannot be opened")
            told.append(f"{self.name} open")
            try:
                yield
            finally:
                told.append(f"{self.name} closed")
            if self.fails == "close":
                raise ValueError(f"{self.name} cannot be closed")

    with pytest.raises(ValueError, match="c cannot be opened"):
        async with AgentLoop(Scripted(), extensions=[Life("a"), Life("b"), Life("c", "open")]):
            pass
    assert told == ["a open", "b open", "b closed", "a closed"]
    told.clear()
    with pytest.raises(ValueError, match="b cannot be closed"):
        async with AgentLoop(Scripted(), extensions=[Life("a"), Life("b", "close"), Life("c")]):
            pass
    assert told[-3:] == ["c closed", "b closed", "a closed"]


async def test_a_lifespan_is_open_while_a_cancelled_loop_winds_down() -> None:
    """Runs end, then subscribers, then lifespans, also when the block is cancelled."""
    told: list[str] = []
    llm = Scripted(by=lambda _: says("x"), steps=1)
    with anyio.fail_after(10):
        with anyio.CancelScope() as scope:
            async with AgentLoop(llm, extensions=[Bundle(told)]) as loop:
                await loop.send("hi")
                scope.cancel()
                await anyio.lowlevel.checkpoint()
        assert scope.cancelled_caught
    assert told == ["open", "round", "heard", "closed"]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on sys.path where packages can be installed."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path


def install(site: Path, module: str, source: str, entry: str) -> None:
    """Installs a package that announces an extension."""
    (site / f"{module}.py").write_text(source)
    info = site / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[power_loop.extensions]\n{module} = {entry}\n")
    invalidate_caches()


SOURCE = """
from power_loop import Extension, tool

@tool
async def third() -> str:
    '''Comes from a third party.'''
    return "third"

class Third(Extension):
    name = "third"
    def tools(self):
        return (third,)

instance = Third()
wrong = 5
dict = dict
"""


@pytest.mark.parametrize("what", ["Third", "instance"])
async def test_installed_extensions_are_found(site: Path, what: str) -> None:
    """A class, or an object, announced by an installed distribution."""
    module = f"third_party_{what.lower()}"
    install(site, module, SOURCE, f"{module}:{what}")
    found = [each for each in installed_extensions() if each.name == "third"]
    assert len(found) == 1
    llm = Scripted(calls(("a", "third", {})), says("ok"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, extensions=found) as loop:
            assert (await loop.send("hi")).status == "completed"
    assert "third" in str(list(llm.requests[1].messages)[-1])
    sys.modules.pop(module)


@pytest.mark.parametrize(
    ("what", "why"),
    [("wrong", "TypeError"), ("missing", "AttributeError"), ("dict", "gives a dict")],
)
def test_an_announced_extension_that_is_none_is_named(site: Path, what: str, why: str) -> None:
    """Whose package it is, and what it gives."""
    module = f"bad_party_{what}"
    install(site, module, SOURCE, f"{module}:{what}")
    with pytest.raises(UsageError, match=module) as raised:
        installed_extensions()
    assert why in str(raised.value)


def test_the_type_of_a_bundle_without_a_name_is_its_name() -> None:
    """Two nameless bundles of one class clash."""

    class Nameless(Extension):
        pass

    loop: AgentLoop[Any] = AgentLoop(Scripted(), extensions=[Nameless()])
    with pytest.raises(UsageError, match="Nameless"):
        loop.use(Nameless())
