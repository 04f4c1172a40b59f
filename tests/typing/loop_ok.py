"""Only checked, never run: everything here is right, and its types are what they should be."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, assert_type

from pydantic import BaseModel

from llm_client.pricing import TablePrices
from llm_client.types import Image, Text
from power_loop import (
    AgentConfig,
    AgentLoop,
    Decision,
    MemoryStore,
    PendingCall,
    Reconciled,
    Result,
    RunResult,
    SessionDiff,
    SessionUsage,
    Stamped,
    ToolContext,
    approve,
    deny,
    export_session,
    import_session,
    tool,
)
from power_loop.agent.result import Status
from power_loop.events import TextDelta
from power_loop.runtime.stores.base import Posted, Store
from power_loop.session.outcome import Outcome
from power_loop.session.records import RunClosed


class Deps:
    user: str = "ann"


class Answer(BaseModel):
    value: int


@tool
async def who(context: ToolContext[Deps]) -> str:
    """Says who."""
    return assert_type(context.deps.user, str)


async def looked_up(arguments: dict[str, Any], context: ToolContext[Deps]) -> Reconciled:
    return Result(arguments) if context.deps.user else "cannot_tell"


@tool(reconcile=looked_up)
async def charge(amount: int) -> int:
    """Charges."""
    return amount


def plain(n: int) -> int:
    """Doubles."""
    return 2 * n


store: Store = MemoryStore()
loop = AgentLoop[Deps]("openai:gpt-5", tools=[who, charge, plain], store=store)


async def main() -> None:
    async with loop:
        result = await loop.send("hi", deps=Deps())
        assert_type(result, RunResult[None])
        assert_type(result.output, None)
        assert_type(result.status, Status)
        typed = await loop.send("hi", result.session_id, output_type=Answer, deps=Deps())
        assert_type(typed.output, Answer)
        assert_type((await loop.send("hi", output_type=int)).output, int)
        await loop.send(["look:", Text("this"), Image(url="https://example.com/x.png")])
        await loop.send(
            "hi",
            deps=Deps(),
            model="other",
            tools=[who],
            max_rounds=3,
            timeout=2.5,
            on_busy="fail",
        )
        async with loop.stream("hi", output_type=Answer, overflow="drop") as run:
            async for stamped in run:
                assert_type(stamped, Stamped)
                if isinstance(stamped.event, TextDelta):
                    assert_type(stamped.event.text, str)
            assert_type((await run.result()).output, Answer)
        assert_type(await loop.resume("s", answers=[approve("t")], deps=Deps()), RunResult[None])
        decisions: dict[str, Decision] = {"a": "rerun", "b": "unknown", "c": Result([1])}
        resumed = await loop.resume("s", decisions=decisions, output_type=int, timeout=3)
        assert_type(resumed.output, int)
        async with loop.stream_resume("s", decisions={"a": Result("x", is_error=True)}) as again:
            assert_type(await again.result(), RunResult[None])
        assert_type(await loop.cancel("s"), bool)
        assert_type(await loop.steer("s", "go"), Posted)
        assert_type(await loop.steer("s", "go", mode="interrupt", dedupe_key="k"), Posted)
        assert_type(await loop.send("hi", "s", on_busy="steer"), RunResult[None])
        assert_type(await loop.get_pending("s"), tuple[PendingCall, ...])
        assert_type(await loop.close_session("s"), int)
        assert_type(await loop.fork("s", 3, overrides={"m": "x", "n": [Text("y")]}), str)
        assert_type(await loop.rewind("s", at=3), None)
        assert_type(await loop.diff("s", "t"), SessionDiff)
        assert_type(await loop.usage("s", prices=TablePrices({}), children=True), SessionUsage)
        assert_type((await loop.usage("s")).totals.cost, Decimal | None)
        assert_type((await loop.explain("s", run="r")).outcome, Outcome | None)
        assert_type((await loop.replay("s", deps=Deps(), output_type=int)).identical, bool)
        assert_type(await export_session(loop.store, "s", "s.jsonl", key=b"k"), int)
        assert_type(await import_session(loop.store, "s.jsonl", as_id="t"), str)
        loop.events.subscribe(hear, types=[RunClosed])
        async for stamped in loop.events.stream("s", after=3, follow=True):
            assert_type(stamped, Stamped)


async def hear(stamped: Stamped) -> None: ...


def blocking() -> None:
    with loop.sync() as s:
        assert_type(s.send("hi", output_type=Answer, deps=Deps()).output, Answer)
        assert_type(s.send("hi").output, None)
        assert_type(s.resume("s", decisions={"a": "rerun"}, answers=[deny("t")]).output, None)
    result: RunResult[Any] = loop.send_sync("hi", deps=Deps())
    assert_type(result.final_text, str)


AgentConfig(in_doubt="ask")


# Nobody needs to name a type of deps.
untyped = AgentLoop("openai:gpt-5", tools=[plain])


async def without_deps() -> None:
    await untyped.send("hi")
    await untyped.send("hi", deps={"anything": 1})
