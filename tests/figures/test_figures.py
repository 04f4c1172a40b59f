"""The reliability figures, each in its small form."""

from __future__ import annotations

import pytest

from scripts.figures import FIGURES, run
from tests.telling import Tell


@pytest.mark.parametrize("number", sorted(FIGURES), ids="{:02}".format)
def test_a_reliability_figure_holds(number: int, tell: Tell) -> None:
    """No case fails, and no fewer are tried than before."""
    line, holds = run(number, full=False)
    tell(line)
    assert holds, line
