"""Only checked, never run: everything here is right, and its types are what they should be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, assert_type

from power_loop import (
    AgentConfig,
    AgentLoop,
    Extension,
    PromptContext,
    RunResult,
    Section,
    SubAgent,
    SystemPrompt,
)
from power_loop.extensions import (
    Pins,
    Skill,
    SkillProblem,
    Skills,
    Todo,
    TodoItem,
    pinned,
    todo_list,
)


def weather(context: PromptContext) -> str:
    return f"It rains on {context.session_id}."


prompt = SystemPrompt.main().use(Section("identity", "You are Bo."))
assert_type(prompt, SystemPrompt)
assert_type(prompt.add(Section("weather", weather), after="style"), SystemPrompt)
assert_type(prompt.remove("paths"), SystemPrompt)
assert_type(prompt.build(PromptContext(session_id="s", model="m")), str)
Section("session", lambda context: context.model)
AgentConfig(system_prompt=prompt)
AgentConfig(system_prompt="You are Bo.")
SubAgent("scout", "Looks.", system_prompt=SystemPrompt.explore())


class Mine(Extension):
    def prompt_sections(self) -> Sequence[Section]:
        return [Section("mine", "Say please.")]


async def extended(loop: AgentLoop[Any]) -> None:
    skills = Skills("skills", Path("more"))
    assert_type(skills.found, Mapping[str, Skill])
    assert_type(skills.problems, tuple[SkillProblem, ...])
    assert_type(Skills.from_env(), Skills)
    loop.use(skills, Todo(), Pins(most=3))
    assert_type(await loop.send(pinned("It rains.", name="weather")), RunResult[None])
    await loop.steer("s", pinned("It snows.", name="weather"))
    assert_type(todo_list(await loop.get_messages("s")), tuple[TodoItem, ...])
