"""Recorded sessions as regression tests."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import anyio.to_thread

from power_loop.agent.loop import AgentLoop
from power_loop.agent.toolset import AnyTool
from power_loop.history.replay import Divergence, Replayed
from power_loop.history.unpacking import unpacked
from power_loop.tools.registry import ToolRegistry

__all__ = ["ReplayDiverged", "replay_session"]


class ReplayDiverged(AssertionError):
    """The loop does not do any more what it did when the session was recorded."""

    def __init__(self, session_id: str, divergence: Divergence) -> None:
        super().__init__(f"session {session_id!r}: {divergence}")
        self.divergence = divergence


async def replay_session(
    loop: AgentLoop[Any],
    recorded: str | Path,
    *,
    key: bytes | None = None,
    run: str | None = None,
    deps: Any = None,
    tools: Iterable[AnyTool] | ToolRegistry | None = None,
    output_type: type[Any] | None = None,
) -> Replayed:
    """Does a recorded session once more with `loop`, and insists that it does the same.

    No model is asked and no tool is run: see `AgentLoop.replay`. The loop need not be open::

        async def test_it_still_does_what_it_did() -> None:
            await replay_session(make_loop(), Path("tests/recorded/refund.jsonl"))

    Args:
        loop: the loop to be tested.
        recorded: the id of a session in the loop's store, or a Path to a file of `export_session`.
        key: with which the file was sealed.
        run: the only run to replay; all if None.
        deps: what hooks are handed.
        tools: these instead of the loop's.
        output_type: what the answers had to be.

    Raises:
        ReplayDiverged: it does something else; names the first field that differs.
        ArchiveInvalid, SessionNotFound: there is no such recording.
    """
    if isinstance(recorded, Path):
        archive = await anyio.to_thread.run_sync(unpacked, recorded, key)
        session_id, stamped = archive.header.session, archive.stamped
    else:
        session_id, stamped = recorded, await loop.store.read(recorded)
    again = loop.again(deps=deps, tools=tools, output_type=output_type)
    done = await again.replay(session_id, stamped, run)
    if done.divergence is not None:
        raise ReplayDiverged(session_id, done.divergence)
    return done
