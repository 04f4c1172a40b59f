"""What a test has to say when it passes: figures, and how much it has looked at."""

from __future__ import annotations

from collections.abc import Callable

Tell = Callable[[str], None]
"""Says a line, or a table, under the results of the run; the fixture `tell` gives one to a test."""

TOLD = "told"
"""The property of a report that holds such a line."""
