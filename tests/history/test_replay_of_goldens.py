"""Every golden trace replays to the byte, and what is changed is found at the right field."""

from __future__ import annotations

import pytest

from tests.history.support import replayed
from tests.pipeline.scenarios import SCENARIOS

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_golden_trace_replays_to_the_byte(name: str) -> None:
    """All of its runs, through deaths and waits."""
    lived = SCENARIOS[name]()
    done = await replayed(lived)
    assert str(done.divergence) == "None"
    assert done.runs >= 1
