"""The system prompt: named sections, what is fixed before what is found out for each run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_client.types import ToolSpec
from power_loop import (
    AgentConfig,
    AgentLoop,
    Extension,
    MemoryStore,
    PromptContext,
    Section,
    SubAgent,
    SystemPrompt,
    tool,
    workspace_tools,
)
from power_loop.agent import prompt_texts
from power_loop.agent.system_prompt import as_recorded, with_dynamic
from power_loop.errors import ToolDefinitionError, UsageError
from power_loop.session.records import ModelConfigured
from tests.agent.scripted import Scripted, calls, says
from tests.agent.support import check_log

pytestmark = pytest.mark.anyio

CONTEXT = PromptContext(session_id="s", model="m")


@tool
async def look() -> str:
    """Looks."""
    return "nothing"


def abc() -> SystemPrompt:
    return SystemPrompt((Section("a", "A."), Section("b", lambda _: "B."), Section("c", "C.")))


def names(prompt: SystemPrompt) -> list[str]:
    return [section.name for section in prompt.sections]


class Brings(Extension):
    """Sections and nothing else."""

    def __init__(self, name: str, *sections: Section) -> None:
        self.name = name
        self._sections = sections

    def prompt_sections(self) -> Sequence[Section]:
        return self._sections


# ── the builder ──────────────────────────────────────────────────────────────────────────────────


def test_what_is_fixed_stands_before_what_is_found_out() -> None:
    """Wherever it was added: what a provider caches ends at the first byte that differs."""
    assert abc().build(CONTEXT) == "A.\n\nC.\n\nB."
    assert SystemPrompt().build(CONTEXT) == ""


def test_sections_are_added_put_in_place_and_left_out() -> None:
    """Each step gives a new prompt and leaves the old one as it was."""
    prompt = abc()
    d = Section("d", "D.")
    assert names(prompt.add(d)) == ["a", "b", "c", "d"]
    assert names(prompt.add(d, before="b")) == ["a", "d", "b", "c"]
    assert names(prompt.add(d, after="b")) == ["a", "b", "d", "c"]
    other = prompt.use(Section("c", "See."), d)
    assert names(other) == ["a", "b", "c", "d"]
    assert other.build(CONTEXT) == "A.\n\nSee.\n\nD.\n\nB."
    assert names(prompt.remove("a", "c")) == ["b"]
    assert prompt == prompt.use()
    assert names(prompt) == ["a", "b", "c"]


WRONG: Any = 3
REFUSED: dict[str, tuple[Callable[[SystemPrompt], object], str]] = {
    "a name again": (lambda p: p.add(Section("a", "Other.")), "named 'a': 'A.' .* and 'Other.'"),
    "before nothing": (
        lambda p: p.add(Section("d", "D."), before="x"),
        "no section 'x'; it has a, b, c",
    ),
    "two places": (lambda p: p.add(Section("d", "D."), before="a", after="b"), "not both"),
    "less nothing": (lambda p: p.remove("x"), "no section 'x'"),
    "one name twice": (lambda p: p.use(Section("d", "D."), Section("d", "E.")), "'D.' .* and 'E.'"),
    "no section": (lambda p: p.use(WRONG), "of type int where a Section"),
    "no sections": (lambda _: SystemPrompt((WRONG,)), "of type int where a Section"),
    "no name": (lambda _: Section("", "A."), "needs a name"),
    "a number for a name": (lambda _: Section(WRONG, "A."), "needs a name"),
    "a blank text": (lambda _: Section("a", " "), "'a' must be a text"),
    "a text with NUL": (lambda _: Section("a", "\x00"), "without NUL"),
    "a number for a text": (lambda _: Section("a", WRONG), "function that gives one"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_step_that_cannot_be_is_refused_by_name(name: str) -> None:
    """And says what there is instead."""
    step, why = REFUSED[name]
    with pytest.raises(UsageError, match=why):
        step(abc())


@given(
    st.lists(
        st.tuples(st.booleans(), st.text("xyz\n", max_size=6)).filter(
            lambda pair: pair[0] or bool(pair[1].strip())
        ),
        max_size=8,
    )
)
def test_any_prompt_is_its_fixed_part_and_then_the_rest(parts: list[tuple[bool, str]]) -> None:
    """And a replay that knows only the fixed part takes the rest from the record."""
    sections = [
        Section(f"s{at}", (lambda _, text=text: text) if dynamic else text)
        for at, (dynamic, text) in enumerate(parts)
    ]
    prompt = SystemPrompt(tuple(sections))
    built = with_dynamic(prompt.fixed, prompt.dynamic, CONTEXT)
    said = [text for dynamic, text in parts if not dynamic]
    said += [text for dynamic, text in parts if dynamic and text.strip()]
    assert (built or "") == "\n\n".join(said) == prompt.build(CONTEXT)
    assert as_recorded(prompt.fixed, prompt.dynamic, built) == built


# ── in a loop ────────────────────────────────────────────────────────────────────────────────────


async def test_a_section_is_asked_once_as_a_run_opens() -> None:
    """All rounds of the run have what it said then; the next one asks anew, as the log has it."""
    asked: list[PromptContext] = []

    def place(context: PromptContext) -> str:
        asked.append(context)
        return f"You are in place {len(asked)}, with {context.deps}."

    prompt = SystemPrompt((Section("place", place), Section("identity", "You are Bo.")))
    llm = Scripted(calls(("a", "look", {})), says("one"), says("two"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[look], config=AgentConfig(system_prompt=prompt)) as loop:
            session = (await loop.send("hi", deps="Ann")).session_id
            await loop.send("go on", session, model="other")
            log = await check_log(loop, session, does_the_same=False)
    assert [request.system for request in llm.requests] == [
        "You are Bo.\n\nYou are in place 1, with Ann.",
        "You are Bo.\n\nYou are in place 1, with Ann.",
        "You are Bo.\n\nYou are in place 2, with None.",
    ]
    assert [r.system for r in log if isinstance(r, ModelConfigured)] == [
        llm.requests[0].system,
        llm.requests[2].system,
    ]
    first, second = asked
    assert (first.session_id, first.model, first.depth) == (session, "scripted", 0)
    assert [spec.name for spec in first.tools] == ["look"]
    assert second.model == "other"


async def test_extensions_stand_behind_the_loops_own_sections() -> None:
    """In the order in which they are used; what they find out stands last."""
    found = Brings("one", Section("when", lambda _: "It is noon."), Section("one", "One."))
    llm = Scripted(says("ok"))
    config = AgentConfig(system_prompt=abc())
    async with AgentLoop(llm, config=config, extensions=[found]) as loop:
        await loop.send("hi")
    assert llm.requests[0].system == "A.\n\nC.\n\nOne.\n\nB.\n\nIt is noon."


def test_two_sections_of_one_name_are_both_named() -> None:
    """Whose they are and how they begin; nothing of the second extension was taken."""
    prompt = AgentConfig(system_prompt=abc())
    loop = AgentLoop(Scripted(), config=prompt, extensions=[Brings("x", Section("x", "X."))])
    for clash, whose in (
        ("a", "'A.' of AgentConfig.system_prompt"),
        ("x", "'X.' of the extension"),
    ):
        with pytest.raises(UsageError, match=whose) as raised:
            loop.use(Brings("late", Section("new", "New."), Section(clash, "Late.")))
        assert "'Late.' of the extension 'late'" in str(raised.value)
    loop.use(Brings("late", Section("new", "New.")))
    with pytest.raises(UsageError, match="'plain' has a value of type str where a Section"):
        loop.use(Brings("plain", cast("Any", "Say please.")))


def fails(_: PromptContext) -> str:
    raise OSError("the disk is gone")


def gives_five(_: PromptContext) -> str:
    return cast("str", 5)


@pytest.mark.parametrize(
    ("gives", "why"),
    [
        (fails, "section 'b' of the system prompt: OSError: the disk is gone"),
        (cast("Callable[[PromptContext], str]", lambda: ""), "section 'b' .*: TypeError"),
        (gives_five, "section 'b' .* must give a text, not a value of type int"),
    ],
)
async def test_a_section_that_fails_is_named_before_anything_is_stored(
    gives: Callable[[PromptContext], str], why: str
) -> None:
    """The caller is told; there is no session that nobody has heard of."""
    config = AgentConfig(system_prompt=abc().use(Section("b", gives)))
    async with AgentLoop(Scripted(), config=config) as loop:
        with pytest.raises(UsageError, match=why):
            await loop.send("hi")
        assert await loop.store.list() == []


async def test_what_a_section_finds_can_be_sent_whatever_it_is() -> None:
    """A name of a file may be no text; a section with nothing to say leaves no gap."""
    prompt = SystemPrompt((Section("a", lambda _: "x\x00\udc80"), Section("b", lambda _: " \n")))
    llm = Scripted(says("ok"))
    async with AgentLoop(llm, config=AgentConfig(system_prompt=prompt)) as loop:
        await check_log(loop, (await loop.send("hi")).session_id)
    assert llm.requests[0].system == "x\u2400\ufffd"


async def test_a_replay_takes_what_was_found_out_from_the_record() -> None:
    """And asks nobody; a fixed section that has changed is found at its field."""
    store = MemoryStore()
    said = iter(["It rains.", "It snows."])

    def loop_of(identity: str) -> AgentLoop[Any]:
        weather = Section("weather", lambda _: next(said))
        prompt = SystemPrompt((Section("identity", identity), weather))
        config = AgentConfig(system_prompt=prompt)
        return AgentLoop(Scripted(says("a"), says("b")), store=store, config=config)

    async with loop_of("You are Bo.") as loop:
        session = (await loop.send("1")).session_id
        await loop.send("2", session)
        assert (await loop.replay(session)).identical
    assert next(said, None) is None
    divergence = (await loop_of("You are Cy.").replay(session)).divergence
    assert divergence is not None
    assert divergence.path == "ModelConfigured.system"
    assert divergence.expected == "You are Bo.\n\nIt rains."


async def test_a_replay_notices_what_is_found_out_no_more() -> None:
    """Without the section, what it had said is a difference."""
    store = MemoryStore()

    def loop_of(prompt: SystemPrompt) -> AgentLoop[Any]:
        return AgentLoop(Scripted(says("a")), store=store, config=AgentConfig(system_prompt=prompt))

    async with loop_of(abc()) as loop:
        session = (await loop.send("1")).session_id
    divergence = (await loop_of(abc().remove("b")).replay(session)).divergence
    assert divergence is not None
    assert (divergence.expected, divergence.actual) == ("A.\n\nC.\n\nB.", "A.\n\nC.")


async def test_the_form_of_an_answer_is_fixed_too() -> None:
    """Where a model must be told it: before what is found out, and a replay finds it there."""

    class Unbound(Scripted):
        binds_output = False

    llm = Unbound(says("5"))
    async with AgentLoop(llm, config=AgentConfig(system_prompt=abc())) as loop:
        result = await loop.send("How many?", output_type=int)
        assert result.output == 5
        await check_log(loop, result.session_id, output_type=int)
    system = llm.requests[0].system or ""
    assert system.startswith("A.\n\nC.\n\n")
    assert system.endswith("\n\nB.")
    assert "JSON" in system


# ── presets and sub-agents ───────────────────────────────────────────────────────────────────────

PRESETS = [SystemPrompt.main, SystemPrompt.sub_agent, SystemPrompt.explore]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_has_the_usual_sections_and_is_short(preset: Callable[[], SystemPrompt]) -> None:
    """Each can be put in place of by its name."""
    prompt = preset()
    usual = ["identity", "style", "workflow", "security", "tool_guide", "paths"]
    assert names(prompt) == usual
    built = prompt.use(Section("identity", "You are Ann's.")).build(CONTEXT)
    assert built.startswith("You are Ann's.\n\n# ")
    assert len(built) < 2_500


def test_of_paths_is_spoken_only_where_there_are_files(tmp_path: Any) -> None:
    """And all names that tell so are names of tools that there are."""
    tools = tuple([each.spec for each in workspace_tools(tmp_path)])
    assert {spec.name for spec in tools} == prompt_texts.FILE_TOOLS
    main = SystemPrompt.main()
    with_files = main.build(PromptContext(session_id="s", model="m", tools=tools[:1]))
    assert with_files == f"{main.build(CONTEXT)}\n\n{prompt_texts.PATHS}"
    other = (ToolSpec("send_mail", "Sends.", {"type": "object"}),)
    assert main.build(PromptContext(session_id="s", model="m", tools=other)) == main.build(CONTEXT)


async def test_a_sub_agent_has_sections_of_its_own() -> None:
    """Found out for its own session; those of the loop and its extensions are not told to it."""
    where: list[PromptContext] = []

    def place(context: PromptContext) -> str:
        where.append(context)
        return f"Depth {context.depth}."

    scout = SubAgent(
        "scout",
        "Looks around.",
        system_prompt=SystemPrompt.explore().add(Section("place", place)),
        tools=[look],
    )
    llm = Scripted(calls(("a", "scout", {"task": "look"})), says("all clear"), says("done"))
    extension = Brings("x", Section("x", "X."), Section("depth", lambda c: f"I am {c.depth}."))
    config = AgentConfig(system_prompt="You are Bo.")
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[scout], config=config, extensions=[extension]) as loop:
            session = (await loop.send("hi")).session_id
            await check_log(loop, session)
    above, below, again = [request.system for request in llm.requests]
    assert above == again == "You are Bo.\n\nX.\n\nI am 0."
    assert below == f"{SystemPrompt.explore().build(CONTEXT)}\n\nDepth 1."
    assert [context.session_id for context in where] == [f"{session}/a"]


async def test_a_sub_agent_without_a_prompt_has_the_loops_with_its_own_depth() -> None:
    """What is found out is found out for it."""
    helper = SubAgent("helper", "Helps.", tools=[look])
    llm = Scripted(calls(("a", "helper", {"task": "help"})), says("helped"), says("done"))
    depth = Section("depth", lambda context: f"I am {context.depth}.")
    config = AgentConfig(system_prompt=SystemPrompt((depth,)))
    async with AgentLoop(llm, tools=[helper], config=config) as loop:
        await loop.send("hi")
    assert [request.system for request in llm.requests] == ["I am 0.", "I am 1.", "I am 0."]


async def test_a_sub_agent_whose_section_fails_fails_its_run() -> None:
    """The program is at fault, not the model: it is not told, and the log says what happened."""
    broken = SystemPrompt((Section("b", lambda _: cast("str", 5)),))
    helper = SubAgent("helper", "Helps.", system_prompt=broken)
    llm = Scripted(calls(("a", "helper", {"task": "help"})))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[helper]) as loop:
            await loop.store.create("s", at=0.0)
            with pytest.raises(UsageError, match="section 'b'"):
                await loop.send("hi", "s")
            await check_log(loop, "s", does_the_same=False)
    with pytest.raises(ToolDefinitionError, match="has sections"):
        SubAgent("helper", "Helps.", system_prompt=SystemPrompt())
