"""One loop, many sessions at once, one store; a subscriber counts what happens."""

from collections import Counter

import anyio

from power_loop import AgentLoop, Stamped, events

SESSIONS = 20


async def main() -> None:
    """Runs them side by side."""
    counts: Counter[str] = Counter()

    def count(stamped: Stamped) -> None:
        counts[type(stamped.event).__name__] += 1

    async with AgentLoop("openai:gpt-5-mini") as loop:
        loop.events.subscribe(count, types=[events.RunOpened, events.ModelEnded, events.RunClosed])
        async with anyio.create_task_group() as tasks:
            for number in range(SESSIONS):
                tasks.start_soon(loop.send, f"Say the number {number}.")
    print(dict(counts))


anyio.run(main)
