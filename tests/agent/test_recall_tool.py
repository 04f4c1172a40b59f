"""What has left the view can be brought back, page by page, by the model itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from llm_client.types import Usage
from power_loop import AgentConfig, AgentLoop, recall_compacted_tool, tool
from power_loop.runtime.compaction.results import ToolResultCompactor
from power_loop.runtime.compaction.trim import TrimCompactor
from power_loop.tools.context import ToolContext
from tests.agent.scripted import Scripted, calls, says
from tests.agent.support import EVERY_STORE, StoreKind, check_log, opened_store

pytestmark = pytest.mark.anyio

LONG = "the mast is of fir, the sail of flax; " * 30


async def ask(loop: AgentLoop[Any], session: str, arguments: str = "{}") -> str:
    """What the tool says of a session."""
    recall = recall_compacted_tool(loop.store)
    context = ToolContext.for_test(session_id=session)
    return (await recall.invoke(arguments, context)).text


@pytest.mark.parametrize("kind", EVERY_STORE)
async def test_all_that_has_left_the_view_comes_back_in_order(
    kind: StoreKind, tmp_path: Path
) -> None:
    """Each message once, over several pages; what is still shown is not among it."""
    config = AgentConfig(
        context_window=2000, max_output_tokens=50, compactors=[TrimCompactor(keep_exchanges=1)]
    )
    llm = Scripted(by=lambda request: says(f"Answer: {LONG}"))
    async with (
        opened_store(kind, tmp_path) as store,
        AgentLoop(llm, store=store, config=config) as loop,
    ):
        session = None
        for turn in range(20):
            result = await loop.send(f"Question {turn}?", session)
            session = result.session_id
        assert session is not None
        found: list[int] = []
        start, pages = 0, 0
        while True:
            page = await ask(loop, session, f'{{"start": {start}}}')
            found += [int(number) for number in re.findall(r"Question (\d+)\?", page)]
            pages += 1
            following = re.search(r"\[go on with start=(\d+)\]$", page)
            if following is None:
                assert page.endswith("[that is all]")
                break
            start = int(following[1])
        view = await loop.get_messages(session)
        shown = [m.text for m in view if m.text.startswith("Question")]
        assert pages == 3
        assert found == list(range(len(found)))
        assert len(found) == 15
        assert f"Question {len(found)}?" in shown
        await check_log(loop, session)


async def test_a_text_is_found_wherever_it_was_said() -> None:
    """With what is around it, and nothing else."""
    config = AgentConfig(
        context_window=700, max_output_tokens=50, compactors=[TrimCompactor(keep_exchanges=1)]
    )
    llm = Scripted(by=lambda request: says(LONG))
    async with AgentLoop(llm, config=config) as loop:
        session = (await loop.send("Hello.")).session_id
        await loop.send("The Berth of the Argo is SEVEN, remember.", session)
        for _ in range(6):
            await loop.send("And on.", session)
        found = await ask(loop, session, '{"search": "argo"}')
        assert found.count("#") == 1
        assert "The Berth of the Argo is SEVEN" in found
        none = await ask(loop, session, '{"search": "titanic"}')
        assert none == "[Nothing with 'titanic' has left your view from message 0 on]"


async def test_what_a_rewind_has_gone_back_behind_is_not_brought_back() -> None:
    """Somebody wanted it gone. A rewind to before that rewind brings it back."""
    config = AgentConfig(
        context_window=700, max_output_tokens=50, compactors=[TrimCompactor(keep_exchanges=1)]
    )
    llm = Scripted(by=lambda request: replace(says(LONG), usage=Usage()))
    async with AgentLoop(llm, config=config) as loop:
        session = (await loop.send("Hello.")).session_id
        place = (await loop.store.info(session)).seq
        await loop.send("The secret is 4711.", session)
        later = (await loop.store.info(session)).seq
        for _ in range(6):
            await loop.send("And on.", session)
        assert "4711" in await ask(loop, session, '{"search": "secret"}')
        await loop.rewind(session, at=place)
        assert "Nothing" in await ask(loop, session)
        for _ in range(6):
            await loop.send("And elsewhere.", session)
        assert "Hello." in await ask(loop, session)
        assert "Nothing" in await ask(loop, session, '{"search": "secret"}')
        assert "Nothing" in await ask(loop, session, '{"search": "And on"}')
        await loop.rewind(session, at=later)
        for _ in range(6):
            await loop.send("And back.", session)
        assert "4711" in await ask(loop, session, '{"search": "secret"}')
        assert "Nothing" in await ask(loop, session, '{"search": "elsewhere"}')
        await check_log(loop, session)


async def test_nothing_has_left_a_view_that_was_never_compacted() -> None:
    """It says so."""
    async with AgentLoop(Scripted(says("hello"))) as loop:
        session = (await loop.send("hi")).session_id
        assert await ask(loop, session) == "[Nothing has left your view from message 0 on]"


async def test_a_result_whose_place_a_pointer_has_taken_is_read_whole() -> None:
    """By its call's id, which the pointer names; a long one in pages."""

    @tool
    async def look(at: int) -> str:
        """Looks."""
        return f"{at}:" + "x" * 9000

    made = iter(range(100))

    def by(_: object) -> Any:
        at = next(made)
        reply = says("done") if at == 6 else calls((f"c{at}", "look", {"at": at}))
        return replace(reply, usage=Usage())

    llm = Scripted(by=by)
    config = AgentConfig(
        context_window=9_000,
        max_output_tokens=100,
        compactors=[ToolResultCompactor(keep_newest=1)],
    )
    async with AgentLoop(llm, config=config) as loop:
        tools = [look, recall_compacted_tool(loop.store)]
        session = (await loop.send("look around", tools=tools)).session_id
        view = await loop.get_messages(session)
        first = next(m for m in view if m.role == "tool").parts[0]
        pointer = getattr(first, "text", "")
        assert "recall_compacted(call_id='c0') brings it back" in pointer
        page = await ask(loop, session, '{"call_id": "c0"}')
        assert page.startswith("[characters 0 to 8000 of 9002; go on at offset=8000]\n0:xxx")
        rest = await ask(loop, session, '{"call_id": "c0", "offset": 8000}')
        assert rest.startswith("[characters 8000 to 9002 of 9002; the end]\nxxx")
        await check_log(loop, session, tools=tools)
    assert llm.illegal == []


async def test_what_never_was_is_refused_in_words_that_help() -> None:
    """A number or a call id that nothing has."""
    llm = Scripted(
        calls(("r1", "recall_compacted", {"call_id": "nobody"})),
        calls(("r2", "recall_compacted", {"message": 999})),
        says("I see."),
    )
    async with AgentLoop(llm) as loop:
        tools = [recall_compacted_tool(loop.store)]
        session = (await loop.send("hi", tools=tools)).session_id
        results = [m.parts[0] for m in await loop.get_messages(session) if m.role == "tool"]
        told = [getattr(part, "text", "") for part in results]
        assert told[0].startswith("There is no result of call 'nobody' in this conversation.")
        assert told[1].startswith("There is no such message in this conversation.")
