"""Skills: what is found, what is left out and why, and what a model gets to see."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_client.types import ToolResult
from power_loop import AgentConfig, AgentLoop, MemoryStore, PromptContext, ToolContext
from power_loop.errors import ToolError, UsageError
from power_loop.extensions import Skill, SkillProblem, Skills
from power_loop.extensions.front_matter import FrontMatterInvalid, parted
from power_loop.extensions.skill_folders import ProblemKind
from power_loop.session.records import ModelConfigured
from tests.agent.scripted import Scripted, calls, says
from tests.agent.support import check_log
from tests.tools.trees import SECRET, grow

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parent.parent.parent


def skill(name: str, description: str = "Does it.", more: str = "", body: str = "Do it.") -> str:
    return f"---\nname: {name}\ndescription: {description}\n{more}---\n\n{body}\n"


PDF = skill(
    "pdf",
    "Fills forms in. Use for any PDF.",
    "license: MIT\ncompatibility: needs python\nmetadata:\n  version: 1.0\n  by: {who: ann}\n"
    "allowed-tools: Bash Read\nanything: else\n",
    "# Forms\nRead forms.md first.",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return grow(
        tmp_path / "skills",
        {
            "pdf/SKILL.md": PDF,
            "pdf/forms.md": "one\ntwo\nthree\n",
            "pdf/scripts/fill.py": "print()\n",
            "git-log/SKILL.md": skill("git-log", "Reads\n  histories."),
        },
    )


def listed(skills: Skills) -> str:
    (section,) = skills.prompt_sections()
    specs = tuple([each.spec for each in skills.tools()])
    return section.said(PromptContext(session_id="s", model="m", tools=specs))


async def use(skills: Skills, tool: str, arguments: str) -> str:
    (found,) = [each for each in skills.tools() if each.name == tool]
    return (await found.invoke(arguments, ToolContext.for_test(tool=tool))).text


# ── what is found ────────────────────────────────────────────────────────────────────────────────


def test_skills_are_found_with_all_that_they_say_of_themselves(folder: Path) -> None:
    """Numbers and dates stay the texts that they were written as."""
    skills = Skills(folder)
    assert list(skills.found) == ["git-log", "pdf"]
    pdf = skills.found["pdf"]
    assert isinstance(pdf, Skill)
    assert (pdf.name, pdf.folder) == ("pdf", folder / "pdf")
    assert (pdf.about.license, pdf.about.compatibility) == ("MIT", "needs python")
    assert pdf.about.metadata == {"version": "1.0", "by": {"who": "ann"}}
    assert pdf.about.allowed_tools == "Bash Read"
    assert skills.problems == ()
    assert listed(skills).splitlines()[-2:] == [
        "- git-log: Reads histories.",
        "- pdf: Fills forms in. Use for any PDF.",
    ]


def test_what_is_no_skill_is_passed_over_in_silence(folder: Path) -> None:
    """Files, folders without the file, hidden ones, and those of other programs."""
    grow(
        folder,
        {
            "README.md": "hello",
            "notes/a.txt": "a",
            ".draft/SKILL.md": "no",
            "__pycache__/SKILL.md": "no",
            "lower/skill.md": "no",
        },
    )
    (folder / "file-link").symlink_to("README.md")
    skills = Skills(folder)
    assert (list(skills.found), skills.problems) == (["git-log", "pdf"], ())


BROKEN: Mapping[str, tuple[str | bytes, ProblemKind, str]] = {
    "no-front": ("# Hello\n", "front_matter", "no front matter"),
    "empty": ("", "front_matter", "no front matter"),
    "no-end": ("---\nname: no-end\n", "front_matter", "has no end"),
    "no-yaml": ("---\nname: [\n---\n", "front_matter", "is no YAML"),
    "colon": (skill("colon", "Use when: asked"), "front_matter", "mapping values"),
    "a-list": ("---\n- name\n---\n", "front_matter", "Expected `object`, got `array`"),
    "nothing": ("---\n---\n", "front_matter", "Expected `object`"),
    "no-name": ("---\ndescription: x\n---\n", "front_matter", "missing required field `name`"),
    "no-words": ("---\nname: no-words\n---\n", "front_matter", "required field `description`"),
    "blank": ("---\nname: blank\ndescription: ' '\n---\n", "front_matter", "blank"),
    "long-words": (skill("long-words", "x" * 1025), "front_matter", "length <= 1024"),
    "Upper": (skill("Upper"), "front_matter", "matching regex"),
    "two--hyphens": (skill("two--hyphens"), "front_matter", "matching regex"),
    "x" * 65: (skill("x" * 65), "front_matter", "length <= 64"),
    "a-map": ("---\nname: {a: b}\ndescription: x\n---\n", "front_matter", r"\$.name"),
    "needs": (skill("needs", more=f"compatibility: {'x' * 501}\n"), "front_matter", "<= 500"),
    "alias": (skill("alias", more="a: &a [x]\nb: [*a, *a]\n"), "front_matter", "an alias"),
    "deep": (skill("deep", more=f"a: {'[' * 9_000}\n"), "front_matter", "is no YAML"),
    "big-front": (skill("big-front", more=f"a: {'x' * 17_000}\n"), "front_matter", "16,384"),
    "other": (skill("another"), "name", "named 'another', but its folder 'other'"),
    "huge": (skill("huge", body="x" * 64_000), "too_large", "64,000 bytes"),
    "latin": (skill("latin", "caf\u00e9").encode("latin-1"), "not_text", "no UTF-8, from byte 32"),
    "binary": (skill("binary", body="\x00"), "not_text", "binary"),
    "utf-16": (skill("utf-16").encode("utf-16"), "not_text", "no UTF-8"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_skill_is_left_out_and_said_to_be(
    name: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The others are there; where it is and what is wrong is in `problems` and in the log."""
    content, kind, why = BROKEN[name]
    grow(folder, {f"{name}/SKILL.md": content})
    with caplog.at_level(logging.WARNING, "power_loop"):
        skills = Skills(folder)
    assert list(skills.found) == ["git-log", "pdf"]
    (problem,) = skills.problems
    assert (problem.path, problem.kind) == (folder / name / "SKILL.md", kind)
    assert str(problem) in caplog.text
    assert re.search(why, problem.reason)


def test_a_skill_that_is_somewhere_else_is_left_out(folder: Path, tmp_path: Path) -> None:
    """Whether its folder is a link out of the directory, or its file is."""
    grow(tmp_path / "elsewhere", {"SKILL.md": skill("linked")})
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "half").mkdir()
    (folder / "half/SKILL.md").symlink_to("../../elsewhere/SKILL.md")
    (folder / "loop").symlink_to("loop")
    (folder / "pipe").mkdir()
    os.mkfifo(folder / "pipe/SKILL.md")
    skills = Skills(folder)
    assert list(skills.found) == ["git-log", "pdf"]
    assert {p.path.parent.name: p.kind for p in skills.problems} == {
        "linked": "outside",
        "half": "outside",
        "loop": "outside",
        "pipe": "unreadable",
    }


def test_a_link_within_the_directory_is_followed(folder: Path) -> None:
    """As one to the version that is in use; its files are those of the folder that it leads to."""
    grow(folder, {"_store/v2/SKILL.md": skill("tool"), "_store/v2/a.txt": "new"})
    (folder / "tool").symlink_to("_store/v2")
    skills = Skills(folder)
    assert skills.found["tool"].folder == folder / "_store/v2"
    assert skills.read_skill_file("tool", "a.txt") == "     1\tnew"


def test_the_directory_that_is_given_first_counts(folder: Path, tmp_path: Path) -> None:
    """As in PATH; the other one is said to be left out."""
    other = grow(
        tmp_path / "other",
        {"pdf/SKILL.md": skill("pdf", "Another."), "new/SKILL.md": skill("new")},
    )
    skills = Skills(folder, other)
    assert list(skills.found) == ["git-log", "new", "pdf"]
    assert skills.found["pdf"].folder == folder / "pdf"
    assert skills.problems == (
        SkillProblem(other / "pdf", "shadowed", f"{folder / 'pdf'} comes first in the list"),
    )
    assert Skills(other, folder).found["pdf"].about.description == "Another."


def test_what_a_model_is_told_has_an_end(folder: Path) -> None:
    """However many there are; each that is left out is named."""
    grow(folder, {f"s{n:02}/SKILL.md": skill(f"s{n:02}", "x" * 1024) for n in range(50)})
    skills = Skills(folder)
    assert len(skills.found) + len(skills.problems) == 52
    assert {problem.kind for problem in skills.problems} == {"too_many"}
    assert len(listed(skills)) < 41_000


def test_not_every_folder_of_a_disk_is_looked_at(tmp_path: Path) -> None:
    """A wrong directory costs no more than a large one."""
    for n in range(1_002):
        (tmp_path / f"f{n:04}").mkdir()
    grow(tmp_path, {"f0001/SKILL.md": skill("f0001"), "f1001/SKILL.md": skill("f1001")})
    skills = Skills(tmp_path)
    assert list(skills.found) == ["f0001"]
    (problem,) = skills.problems
    assert problem.kind == "too_many"
    assert "more than 1,000 folders; those from 'f1000'" in problem.reason


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """It was named by somebody, who wants to know."""
    with pytest.raises(UsageError, match=r"nowhere' does not exist; create it"):
        Skills(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="does not exist"):
        Skills(grow(tmp_path, {"file": ""}) / "file")


def test_the_environment_may_say_where_skills_are(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several directories, parted as in PATH; without the variable there are none, and no tools."""
    other = grow(tmp_path / "other", {"new/SKILL.md": skill("new")})
    monkeypatch.setenv("POWER_LOOP_SKILLS_DIR", f"{folder}{os.pathsep}{os.pathsep}{other}")
    assert list(Skills.from_env().found) == ["git-log", "new", "pdf"]
    monkeypatch.delenv("POWER_LOOP_SKILLS_DIR")
    none = Skills.from_env()
    assert (none.found, none.tools(), listed(none)) == ({}, (), "")
    monkeypatch.setenv("POWER_LOOP_SKILLS_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="nowhere"):
        Skills.from_env()


def test_skills_are_read_again_when_the_host_says_so(folder: Path) -> None:
    """All at once: if a directory cannot be read, what was known stays."""
    skills = Skills(folder)
    grow(folder, {"new/SKILL.md": skill("new"), "pdf/SKILL.md": "broken"})
    assert list(skills.found) == ["git-log", "pdf"]
    skills.reload()
    assert list(skills.found) == ["git-log", "new"]
    assert [problem.kind for problem in skills.problems] == ["front_matter"]
    folder.rename(folder.with_name("moved"))
    with pytest.raises(UsageError, match="cannot search"):
        skills.reload()
    assert list(skills.found) == ["git-log", "new"]


@given(st.text(max_size=200), st.booleans())
def test_no_front_matter_does_more_than_be_refused(text: str, fenced: bool) -> None:
    """Whatever stands in it."""
    given = f"---\nname: a\n{text}\n---\nbody" if fenced else text
    try:
        told = parted(given)[0].description
    except FrontMatterInvalid as error:
        told = str(error)
    assert told.strip()


# ── what a model gets ────────────────────────────────────────────────────────────────────────────


async def test_a_model_sees_names_first_and_the_rest_when_it_asks(folder: Path) -> None:
    """Instructions with their folder and the names of the other files, then one of these."""
    llm = Scripted(
        calls(("a", "load_skill", {"name": "pdf"})),
        calls(("b", "read_skill_file", {"name": "pdf", "path": "forms.md", "limit": 2})),
        says("done"),
    )
    config = AgentConfig(system_prompt="You are Bo.")
    with anyio.fail_after(10):
        async with AgentLoop(llm, config=config, extensions=[Skills(folder)]) as loop:
            await check_log(loop, (await loop.send("Fill it in.")).session_id)
    system = llm.requests[0].system or ""
    assert system.startswith("You are Bo.\n\n# Skills\n")
    assert "- pdf: Fills forms in." in system
    assert "# Forms" not in system
    loaded, read = [m.parts[0] for m in llm.requests[2].messages if m.role == "tool"]
    assert isinstance(loaded, ToolResult)
    assert isinstance(read, ToolResult)
    assert loaded.text == (
        f'<skill name="pdf" folder="{folder}/pdf">\nIt needs: needs python\n\n'
        "# Forms\nRead forms.md first.\n</skill>\n"
        "Its other files, for read_skill_file:\nforms.md (14 bytes)\nscripts/fill.py (8 bytes)"
    )
    assert read.text == "     1\tone\n     2\ttwo\n(1 more lines, 3 in all; go on with offset=3)"


async def test_what_was_told_stays_in_a_session_when_skills_change(folder: Path) -> None:
    """A run that opens later is told anew, and its log says so; each replays as it was."""
    skills, store = Skills(folder), MemoryStore()
    llm = Scripted(says("one"), says("two"), says("three"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, store=store, extensions=[skills]) as loop:
            session = (await loop.send("1")).session_id
            grow(folder, {"new/SKILL.md": skill("new")})
            await loop.send("2", session)
            skills.reload()
            await loop.send("3", session)
            log = await check_log(loop, session)
    first, second, third = [request.system or "" for request in llm.requests]
    assert first == second
    assert third == first.replace("\n- pdf", "\n- new: Does it.\n- pdf")
    assert [r.system for r in log if isinstance(r, ModelConfigured)] == [first, third]


async def test_without_the_tools_nothing_is_said_of_skills(folder: Path) -> None:
    """As for a run that is given other tools."""
    llm = Scripted(says("ok"))
    async with AgentLoop(llm, extensions=[Skills(folder)]) as loop:
        await loop.send("hi", tools=[])
    assert llm.requests[0].system is None


ATTACKS = [
    "../../secret",
    "..",
    "/etc/passwd",
    "/forms.md",
    "scripts/../../git-log/SKILL.md",
    "leak",
    "leaks/secret",
    "sibling/SKILL.md",
    "absolute",
    "a\x00b",
    "",
]


@pytest.mark.parametrize("path", ATTACKS)
async def test_no_path_leads_out_of_a_skills_folder(path: str, folder: Path) -> None:
    """Neither by its spelling nor by a link, also not to the skill beside it."""
    grow(folder.parent, {"secret": SECRET, "outside/secret": SECRET})
    pdf = folder / "pdf"
    (pdf / "leak").symlink_to("../../secret")
    (pdf / "leaks").symlink_to(folder.parent / "outside")
    (pdf / "sibling").symlink_to("../git-log")
    (pdf / "absolute").symlink_to(folder.parent / "secret")
    skills = Skills(folder)
    with pytest.raises(ToolError) as raised:
        skills.read_skill_file("pdf", path)
    assert SECRET not in str(raised.value)
    assert "pdf" in skills.found
    assert SECRET not in await use(skills, "load_skill", '{"name": "pdf"}')


def test_a_folder_that_is_swapped_for_a_link_leads_nowhere(folder: Path, tmp_path: Path) -> None:
    """After it was found, too: what is opened is where it was found."""
    skills = Skills(folder)
    grow(tmp_path / "outside", {"SKILL.md": skill("pdf", body=SECRET), "forms.md": SECRET})
    (folder / "pdf").rename(folder / "old")
    (folder / "pdf").symlink_to(tmp_path / "outside")
    for attack in (
        lambda: skills.read_skill_file("pdf", "forms.md"),
        lambda: skills.load_skill("pdf"),
    ):
        with pytest.raises(ToolError, match="leaves the workspace"):
            attack()
    (folder / "pdf").unlink()
    (folder / "pdf").symlink_to("git-log")
    with pytest.raises(ToolError, match="leads out of the folder of the skill 'pdf'"):
        skills.read_skill_file("pdf", "SKILL.md")


@pytest.mark.parametrize(
    ("tool", "arguments", "why"),
    [
        ("load_skill", '{"name": "nope"}', "no skill 'nope'; there are: git-log, pdf"),
        ("read_skill_file", '{"name": "nope", "path": "a"}', "no skill 'nope'"),
        ("read_skill_file", '{"name": "pdf", "path": "nope.md"}', "no file 'nope.md' in the skill"),
        ("read_skill_file", '{"name": "pdf", "path": "scripts"}', "is a directory; load_skill"),
        ("read_skill_file", '{"name": "pdf", "path": "."}', "is a directory"),
        ("read_skill_file", '{"name": "pdf", "path": "forms.md/x"}', "no directory"),
        ("read_skill_file", '{"name": "pdf", "path": "forms.md", "offset": 9}', "has 3 lines"),
        ("read_skill_file", '{"name": "pdf", "path": "x.bin"}', "is binary"),
    ],
)
async def test_a_model_is_told_what_is_not_there(
    tool: str, arguments: str, why: str, folder: Path
) -> None:
    """And what there is."""
    grow(folder, {"pdf/x.bin": b"\x00"})
    with pytest.raises(ToolError, match=why):
        await use(Skills(folder), tool, arguments)


def test_a_skill_that_has_gone_bad_since_is_told_to_the_model(folder: Path) -> None:
    """Its instructions are read when they are asked for, so they are those of today."""
    skills = Skills(folder)
    grow(folder, {"pdf/SKILL.md": PDF.replace("first", "last")})
    assert "Read forms.md last." in skills.load_skill("pdf")
    grow(folder, {"pdf/SKILL.md": "broken"})
    with pytest.raises(ToolError, match=r"SKILL.md: .* no front matter"):
        skills.load_skill("pdf")
    (folder / "pdf/SKILL.md").unlink()
    with pytest.raises(ToolError, match="it is gone"):
        skills.load_skill("pdf")


def test_of_many_files_the_first_are_named(folder: Path) -> None:
    """A skill may bring a library along."""
    grow(folder, {f"git-log/f{n:03}": "x" for n in range(60)})
    told = Skills(folder).load_skill("git-log")
    assert told.count("(1 bytes)") == 50
    assert told.endswith("f049 (1 bytes)\n(and more)")


def test_without_pyyaml_the_extra_is_named(folder: Path) -> None:
    """Where skills are wanted; every name can be had, and todo lists need nothing."""
    code = (
        "import sys; sys.modules['yaml'] = None\n"
        "from power_loop import extensions\n"
        "from power_loop.errors import UsageError\n"
        "for name in extensions.__all__: getattr(extensions, name)\n"
        "extensions.Skills()\n"
        "try: extensions.Skills(sys.argv[1])\n"
        "except UsageError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "skills need the extra 'skills': pip install 'power-loop[skills]'\n"
