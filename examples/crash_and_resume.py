"""A process is killed in the middle of a tool; a second one carries the session on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio

from power_loop import AgentLoop, SQLiteStore, tool

DATABASE = Path("crash_example.db")
MODEL = "openai:gpt-5-mini"


@tool
async def charge(card: str) -> str:
    """Charges a card.

    Args:
        card: which one.
    """
    if "--die" in sys.argv:
        os.kill(os.getpid(), signal.SIGKILL)
    return f"charged {card}"


async def begin() -> None:
    """Runs until the tool kills the process."""
    async with (
        SQLiteStore(DATABASE) as store,
        AgentLoop(MODEL, tools=[charge], store=store) as loop,
    ):
        await loop.send("Charge the card 4711")


async def go_on() -> None:
    """Finds the interrupted session and resumes it."""
    async with (
        SQLiteStore(DATABASE) as store,
        AgentLoop(MODEL, tools=[charge], store=store) as loop,
    ):
        session = (await store.list())[0].id
        print("open calls:", [(c.name, c.state) for c in await loop.get_pending(session)])
        result = await loop.resume(session)
        print(result.status, "-", result.final_text)


if "--die" in sys.argv:
    anyio.run(begin)
else:
    child = subprocess.run([sys.executable, __file__, "--die"], check=False)
    print("the first process ended with", child.returncode)
    anyio.run(go_on)
