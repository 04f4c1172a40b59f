"""A hook lets a call wait for a person; the answer may come later, from any process."""

import anyio

from power_loop import AgentLoop, approve, tool
from power_loop.hooks import TOOL_BEFORE, Suspend, ToolBefore


@tool
async def send_mail(to: str) -> str:
    """Sends a mail.

    Args:
        to: the address.
    """
    return f"sent to {to}"


async def main() -> None:
    """Asks, waits, approves, goes on."""
    loop = AgentLoop("openai:gpt-5-mini", tools=[send_mail])

    @loop.hooks.on(TOOL_BEFORE)
    async def ask_first(ctx: ToolBefore) -> Suspend:
        return Suspend(f"{ctx.name} needs a person's approval")

    async with loop:
        waiting = await loop.send("Send a mail to ada@example.org")
        print(waiting.status, waiting.outcome.recommended_action)
        for call in await loop.get_pending(waiting.session_id):
            print("approve?", call.name, call.arguments)
            done = await loop.resume(waiting.session_id, answers=[approve(call.token)])
            print(done.status, "-", done.final_text)


anyio.run(main)
