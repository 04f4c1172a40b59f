"""What must hold of the calls of tools in a run that was cancelled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from llm_client.types import ToolResult
from power_loop.runtime.artifacts.base import artifacts_of
from power_loop.runtime.stores.base import Steer
from power_loop.session.records import MessageAppended, Record, ToolSettled, ToolStarted
from power_loop.session.view import ARTIFACT_META
from tests.agent.cancel_world import Scenario, World

__all__ = ["background_faults", "effect_faults", "output_faults"]


def effect_faults(
    scenario: Scenario, world: World, session: str, log: Sequence[Record]
) -> list[str]:
    """Whether what the tools have done is told, as it was, and happened once."""
    mine = {r.call_id for r in log if isinstance(r, ToolStarted)}
    hows, gone_on = {id: how for id, (how, _) in _told(log).items()}, _gone_on(log)
    kept = {r.call_id for r in log if isinstance(r, ToolStarted) and r.name == "finishing"}
    effects = [(what, call) for what, where, call in world.effects if where == session]
    begun = Counter(call for what, call in effects if what == "begin")
    done = {call for what, call in effects if what == "done"}
    found: list[str] = []
    for call, how in hows.items():
        threaded = scenario.name == "tool in a thread"
        if call in begun and how == "not_run":
            found.append(f"{call} began, but is told as not_run")
        if call in done and how != "finished" and call not in gone_on:
            found.append(f"{call} finished, but is told as {how}")
        if call in kept and call in begun and how != "finished":
            found.append(f"{call} had its time to finish, but is told as {how}")
        below = "/" not in session and call in scenario.below
        if how == "finished" and not below and call not in (begun if threaded else done):
            found.append(f"{call} did not finish, but is told as finished")
    found += [f"{call} began without a record" for call in begun if call not in mine]
    return found + [f"{call} ran {n} times" for call, n in begun.items() if n > 1]


async def output_faults(
    scenario: Scenario, world: World, session: str, log: Sequence[Record]
) -> list[str]:
    """Whether what is said to be kept is kept, and nothing else that is too long is shown."""
    kept = artifacts_of(world.store, None)
    assert kept is not None
    found: list[str] = []
    for record in log:
        if not isinstance(record, ToolSettled) or record.how != "finished":
            continue
        text, meta = str(record.message.parts), record.message.meta or {}
        if ARTIFACT_META in meta:
            whole = await kept.read_artifact(session, meta[ARTIFACT_META])
            if meta[ARTIFACT_META] not in text or whole.text[:3] not in text:
                found.append(f"{record.message.id} is not what is kept of it")
        elif scenario.spills and "could not be kept" not in text:
            found.append(f"{record.message.id} is shown whole")
    return found


async def background_faults(world: World, log: Sequence[Record]) -> list[str]:
    """Whether what came of each call that was left to go on was told, once."""
    items = [each.item for each in await world.store.inbox(world.sessions[0])]
    said = [each.message.text for each in items if isinstance(each, Steer)]
    said += [r.message.text for r in log if isinstance(r, MessageAppended)]
    found: list[str] = []
    for call in {r.call_id for r in log if isinstance(r, ToolStarted) and r.name == "left"}:
        heard = sum(f"The call {call} of left, which" in text for text in said)
        if heard != (call in _gone_on(log)):
            found.append(f"what came of {call} was told {heard} times")
    return found


def _told(log: Sequence[Record]) -> dict[str, tuple[str, str]]:
    """How each call is told, and its text."""
    return {
        part.call_id: (record.how, part.text)
        for record in log
        if isinstance(record, ToolSettled)
        for part in record.message.parts
        if isinstance(part, ToolResult)
    }


def _gone_on(log: Sequence[Record]) -> set[str]:
    """The calls that were left to go on."""
    return {id for id, (_, text) in _told(log).items() if "goes on in the background" in text}
