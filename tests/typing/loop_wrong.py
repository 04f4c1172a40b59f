"""Only checked, never run: each line that is wrong must be an error of exactly that kind."""

from __future__ import annotations

from typing import assert_type

from pydantic import BaseModel

from power_loop import AgentConfig, AgentLoop, tool
from power_loop.session.records import RunClosed


class Deps:
    user: str = "ann"


class Other:
    name: str = "bob"


class Answer(BaseModel):
    value: int


@tool
async def noop() -> str:
    """Does nothing."""
    return ""


loop = AgentLoop[Deps]("openai:gpt-5", tools=[noop])
AgentLoop(5)  # pyright: ignore[reportArgumentType]
AgentLoop("openai:gpt-5", tools=noop)  # pyright: ignore[reportArgumentType]
AgentLoop("openai:gpt-5", tools=["noop"])  # pyright: ignore[reportArgumentType]
AgentLoop("openai:gpt-5", store="sessions.db")  # pyright: ignore[reportArgumentType]
AgentLoop("openai:gpt-5", hooks=[])  # pyright: ignore[reportArgumentType]
AgentLoop("openai:gpt-5", extensions=[noop])  # pyright: ignore[reportArgumentType]
AgentConfig(in_doubt="guess")  # pyright: ignore[reportArgumentType]
AgentLoop("openai:gpt-5", temperature=1)  # pyright: ignore[reportCallIssue]


async def main() -> None:
    await loop.send("hi", deps=Other())  # pyright: ignore[reportArgumentType]
    await loop.resume("s", deps=Other())  # pyright: ignore[reportArgumentType]
    await loop.resume("s", decisions={"a": "again"})  # pyright: ignore[reportArgumentType]
    await loop.resume("s", decisions={"a": True})  # pyright: ignore[reportArgumentType]
    await loop.resume("s", budget=None)  # pyright: ignore[reportCallIssue]
    await loop.resume("s", results={"a": "x"})  # pyright: ignore[reportCallIssue]
    await loop.send("hi", decisions={"a": "rerun"})  # pyright: ignore[reportCallIssue]
    async with loop.stream_resume("s", decisions="rerun"):  # pyright: ignore[reportArgumentType]
        pass
    await loop.send(5)  # pyright: ignore[reportArgumentType]
    await loop.send("hi", max_rounds="3")  # pyright: ignore[reportArgumentType]
    await loop.send("hi", rounds=3)  # pyright: ignore[reportCallIssue]
    await loop.send("hi", on_busy="queue")  # pyright: ignore[reportArgumentType]
    await loop.send("hi", output_type=3)  # pyright: ignore[reportArgumentType, reportCallIssue]
    await loop.send("hi", output_type=Answer(value=1))  # pyright: ignore[reportArgumentType, reportCallIssue]
    result = await loop.send("hi", output_type=Answer)
    print(result.output.values)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownArgumentType]
    assert_type((await loop.send("hi")).output, Answer)  # pyright: ignore[reportAssertTypeFailure]
    result.status = "done"  # pyright: ignore[reportAttributeAccessIssue]
    async with loop.stream("hi", overflow="block") as run:  # pyright: ignore[reportArgumentType]
        for _ in run:  # pyright: ignore[reportGeneralTypeIssues, reportUnknownVariableType]
            pass
    loop.events.subscribe(print, types=["run_closed"])  # pyright: ignore[reportArgumentType]
    loop.events.subscribe(hear_nothing, types=[RunClosed])  # pyright: ignore[reportArgumentType]
    for _ in loop.events.stream("s"):  # pyright: ignore[reportGeneralTypeIssues, reportUnknownVariableType]
        pass


def hear_nothing() -> None: ...


def blocking() -> None:
    with loop.sync() as s:
        s.send("hi", deps=Other())  # pyright: ignore[reportArgumentType]
        s.send("hi", timeout="soon")  # pyright: ignore[reportArgumentType]
        s.resume("s", decisions={"a": None})  # pyright: ignore[reportArgumentType]
        s.steer("s", 5)  # pyright: ignore[reportArgumentType]
        s.steer("s", "hi", mode="asap")  # pyright: ignore[reportArgumentType]
        s.send("hi", "s", on_busy="interrupt")  # pyright: ignore[reportArgumentType]
    loop.send_sync("hi", deps=Other())  # pyright: ignore[reportArgumentType]
    loop.send_sync("hi", timeout="soon")  # pyright: ignore[reportArgumentType]
    loop.send_sync("hi", rounds=3)  # pyright: ignore[reportCallIssue]
