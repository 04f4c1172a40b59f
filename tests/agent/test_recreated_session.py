"""A session that somebody else deleted and made again is not the one that was folded here."""

from __future__ import annotations

import pytest

from llm_client.testing import ScriptedLLM, reply
from power_loop import AgentLoop, MemoryStore

pytestmark = pytest.mark.anyio


async def test_a_session_made_again_elsewhere_is_folded_afresh() -> None:
    """Both have as many records; only the generation tells them apart."""
    store = MemoryStore()
    first = ScriptedLLM(reply("one"), reply("three"))
    async with (
        AgentLoop(first, store=store) as here,
        AgentLoop(ScriptedLLM(reply("two")), store=store) as elsewhere,
    ):
        session = (await here.send("first life")).session_id
        await elsewhere.close_session(session)
        await store.create(session)
        await elsewhere.send("second life", session)
        await here.send("and on", session)
        texts = [message.text for message in await here.get_messages(session)]
    assert texts == ["second life", "two", "and on", "three"]
    assert [message.text for message in first.requests[-1].messages] == texts[:-1]
