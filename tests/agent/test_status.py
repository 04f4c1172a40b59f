"""The status of a result, as type checkers know it."""

from __future__ import annotations

from typing import get_args

from power_loop.agent.result import Status
from power_loop.session.outcome import Outcome


def test_the_type_of_a_status_lists_the_tags_of_all_outcomes() -> None:
    """In the same order; one list, written twice."""
    assert get_args(Status) == tuple(kind.__struct_config__.tag for kind in get_args(Outcome))
