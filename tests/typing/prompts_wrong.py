"""Only checked, never run: each line that is wrong must be an error of exactly that kind."""

from __future__ import annotations

from collections.abc import Sequence

from power_loop import AgentConfig, Extension, PromptContext, Section, SystemPrompt
from power_loop.extensions import Pins, Skills, Todo, TodoItem, pinned


async def later(context: PromptContext) -> str:
    return context.model


Section("weather", later)  # pyright: ignore[reportArgumentType]
Section("weather", lambda: "It rains.")  # pyright: ignore[reportArgumentType]
Section("weather", 3)  # pyright: ignore[reportArgumentType]
SystemPrompt().add("Say please.")  # pyright: ignore[reportArgumentType]
SystemPrompt(["Say please."])  # pyright: ignore[reportArgumentType]
AgentConfig(system_prompt=["Say please."])  # pyright: ignore[reportArgumentType]
Skills(["skills"])  # pyright: ignore[reportArgumentType]
Todo(rounds=5)  # pyright: ignore[reportCallIssue]
Pins(3)  # pyright: ignore[reportCallIssue]
TodoItem("read", "doing")  # pyright: ignore[reportArgumentType]
pinned(3)  # pyright: ignore[reportArgumentType]


class Mine(Extension):
    def prompt_sections(self) -> Sequence[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return ["Say please."]
