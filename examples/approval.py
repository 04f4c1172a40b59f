"""A call waits for a person; the answer may come later, from any process, and change it."""

from pathlib import Path

import anyio

from power_loop import AgentLoop, ApprovalRequest, SQLiteStore, approve, tool
from power_loop.governance import Policies, RequireApproval

OUTBOX = Path("outbox.txt")


@tool
async def send_mail(to: str) -> str:
    """Sends a mail.

    Args:
        to: the address.
    """
    OUTBOX.write_text(f"{to}\n")
    return f"sent to {to}"


def loop_on(store: SQLiteStore) -> AgentLoop[None]:
    """The program, whose mails a person has to approve while the outbox is as it was."""
    rule = RequireApproval(
        ["send_mail"], "mails cannot be called back", ttl=86_400, world=lambda _: OUTBOX.exists()
    )
    return AgentLoop(
        "openai:gpt-5-mini", tools=[send_mail], store=store, extensions=[Policies(rule)]
    )


async def main() -> None:
    """Asks; the world changes, so it is asked for anew; then it is approved, and changed."""
    async with SQLiteStore("approval_example.db") as store:
        async with loop_on(store) as loop:
            waiting = await loop.send("Send a mail to ada@example.org")
            print(waiting.status, "-", waiting.outcome.recommended_action)
        session = waiting.session_id
        async with loop_on(store) as loop:
            (call,) = await loop.get_pending(session)
            OUTBOX.write_text("somebody else was here\n")
            again = await loop.resume(session, answers=[approve(call.token)])
            (anew,) = await loop.get_pending(session)
            print(again.status, "- the old token is dead:", anew.token != call.token)
            assert isinstance(anew.request, ApprovalRequest)
            print(anew.request.tool, anew.request.arguments, "-", anew.request.reason)
            grant = approve(anew.token, {"to": "grace@example.org"}, by="ada")
            done = await loop.resume(session, answers=[grant])
            print(done.status, "-", done.final_text)


anyio.run(main)
