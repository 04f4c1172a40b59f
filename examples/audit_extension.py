"""An extension: one bundle with a tool, a hook, a subscriber and a sentence for the prompt."""

from collections.abc import Sequence
from datetime import UTC, datetime

import anyio

from power_loop import AgentLoop, Extension, Hooks, Section, Stamped, Subscription, Tool, tool
from power_loop.events import ToolStarted
from power_loop.hooks import SESSION_END, SessionEnd


@tool(idempotent=True)
def now() -> str:
    """The current time."""
    return datetime.now(UTC).isoformat()


class Audit(Extension):
    """Tells the time, and prints who did what."""

    name = "audit"

    def hooks(self, hooks: Hooks) -> None:
        """Says how each run ended."""
        hooks.on(SESSION_END, self.ended)

    def tools(self) -> Sequence[Tool]:
        """One tool."""
        return (now,)

    def subscriptions(self) -> Sequence[Subscription]:
        """Tool calls, as they become durable."""
        return (Subscription(self.started, types=[ToolStarted]),)

    def prompt_sections(self) -> Sequence[Section]:
        """One sentence."""
        return (Section("audit", "Ask for the time when it matters."),)

    def ended(self, ctx: SessionEnd) -> None:
        """Prints the outcome."""
        print("audit: run ended", ctx.outcome)

    def started(self, stamped: Stamped) -> None:
        """Prints the call."""
        print("audit: record", stamped.seq, stamped.event)


async def main() -> None:
    """Uses it."""
    async with AgentLoop("openai:gpt-5-mini", extensions=[Audit()]) as loop:
        print((await loop.send("What time is it?")).final_text)


anyio.run(main)
