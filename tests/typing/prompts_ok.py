"""Only checked, never run: everything here is right, and its types are what they should be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_type

from power_loop import AgentConfig, Extension, PromptContext, Section, SubAgent, SystemPrompt


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
