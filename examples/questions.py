"""A tool asks a person: whoever sits at the terminal, or, where nobody does, later."""

from typing import Any

import anyio

from power_loop import (
    AgentLoop,
    InputRequest,
    TerminalResponder,
    ToolContext,
    answer,
    ask_user_tool,
    tool,
)


@tool
async def order(what: str, context: ToolContext[Any]) -> str:
    """Orders something.

    Args:
        what: what to order.
    """
    context.request_user_input(f"How many of {what}?", {"type": "integer", "minimum": 1})


async def main() -> None:
    """Orders; the answer of the person is what the model is told."""
    tools = [order, ask_user_tool()]
    responder = TerminalResponder(by="me")
    async with AgentLoop("openai:gpt-5-mini", tools=tools, responder=responder) as loop:
        result = await loop.send("Order pens")
        print(result.status)
        while result.status == "waiting_for_input":
            # Nobody is at the terminal. This could as well be another process, next week.
            (call,) = await loop.get_pending(result.session_id)
            assert isinstance(call.request, InputRequest)
            print(call.request.question, call.request.schema)
            result = await loop.resume(result.session_id, answers=[answer(call.token, 12)])
        print(result.status, "-", result.final_text)


anyio.run(main)
