"""A chat that outgrows its window, on a model in this machine, and still knows how it began.

The window is a small one, for the sake of time; with --full it is all that the model has.
"""

import sys

import anyio

from llm_client import LocalEmbedder
from power_loop import (
    AgentConfig,
    AgentLoop,
    SQLiteStore,
    SQLiteVectorIndex,
    Stamped,
    VectorMemory,
    VectorPolicy,
    events,
)

WINDOW = 8192 if "--full" in sys.argv else 1024
LOG = "We saw {n} gulls. The cook made soup. The sea was grey. " * (WINDOW // 100)


def tell(stamped: Stamped) -> None:
    """Prints how large the prompts are, and what makes them smaller."""
    event = stamped.event
    if isinstance(event, events.ModelEnded):
        print(f"a prompt of {event.usage.input_tokens} tokens")
    elif isinstance(event, events.ViewChanged):
        print(f"compacted by {event.by}: {event.before} → {event.after} tokens")
    elif isinstance(event, events.CompactionRejected):
        print(f"not compacted by {event.by}: {event.reason}")


async def main() -> None:
    """Says a fact, then more than the window holds, and asks for the fact."""
    index, policy = SQLiteVectorIndex("long_chat_memory.db"), VectorPolicy(most=1, piece=300)
    async with VectorMemory(index, LocalEmbedder(), policy=policy) as memory:
        config = AgentConfig(
            system_prompt="You are a helpful assistant. Answer in one short sentence.",
            context_window=WINDOW,
            max_output_tokens=24,
            temperature=0.0,
            memory=memory,
        )
        store = SQLiteStore("long_chat.db")
        async with store, AgentLoop("local:smollm2", store=store, config=config) as loop:
            loop.events.subscribe(tell)
            result = await loop.send("Hello! I will read you the log of a ship.", user="ada")
            session = result.session_id
            await loop.send("My dog is called Biscuit.", session, user="ada")
            for day in range(1, 8):
                await loop.send(f"Day {day}. {LOG.format(n=day)}", session, user="ada")
            question = "What is my dog called?"
            print(question, (await loop.send(question, session, user="ada")).final_text)


anyio.run(main)
