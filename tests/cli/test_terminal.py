"""On a real terminal: what moves, and what stays."""

from __future__ import annotations

from pathlib import Path

from tests.cli.support import SECONDS, Terminal
from tests.model_server import Gate, model_server

ERASE_LINE = "\x1b[2K"


def test_a_run_on_a_terminal_moves_while_it_works_and_leaves_its_story(place: Path) -> None:
    """A sign of life while the model is asked, erased later; the call, its result, the answer."""
    gate = Gate()
    with (
        model_server(gate) as variables,
        Terminal(place, "ask", "What is here?", variables=variables) as terminal,
    ):
        terminal.expect("session sess_")
        assert gate.asked.wait(SECONDS)
        terminal.expect("thinking")
        gate.open.set()
        terminal.expect("→ list_files {")
        terminal.expect("← list_files finished after")
        terminal.expect("notes.txt")
        terminal.expect("The tool says:")
        terminal.expect("[completed] tokens: 24 in, 10 out")
        assert terminal.end() == 0
    assert ERASE_LINE in terminal.shown
    assert "thinking" not in terminal.shown.partition("[completed]")[2], "nothing is left moving"
