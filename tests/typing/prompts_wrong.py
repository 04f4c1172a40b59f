"""Only checked, never run: each line that is wrong must be an error of exactly that kind."""

from __future__ import annotations

from collections.abc import Sequence

from power_loop import AgentConfig, Extension, PromptContext, Section, SystemPrompt


async def later(context: PromptContext) -> str:
    return context.model


Section("weather", later)  # pyright: ignore[reportArgumentType]
Section("weather", lambda: "It rains.")  # pyright: ignore[reportArgumentType]
Section("weather", 3)  # pyright: ignore[reportArgumentType]
SystemPrompt().add("Say please.")  # pyright: ignore[reportArgumentType]
SystemPrompt(["Say please."])  # pyright: ignore[reportArgumentType]
AgentConfig(system_prompt=["Say please."])  # pyright: ignore[reportArgumentType]


class Mine(Extension):
    def prompt_sections(self) -> Sequence[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return ["Say please."]
