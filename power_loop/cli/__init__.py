"""The `power-loop` command.

app.py        arguments, and which command runs
settings.py   what the environment says: model, store
display.py    a run on a terminal, on a plain stream, or as JSON lines
live.py       the terminal form, with rich
timeline.py   a stored session, a line a record
ask.py        ask, demo
chat.py       chat
sessions.py   sessions, events
doctor.py     doctor
"""

from __future__ import annotations

from power_loop.cli.app import main

__all__ = ["main"]
