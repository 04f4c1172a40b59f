"""The `power-loop` command.

app.py        arguments, and which command runs
settings.py   what the environment says: model, store
display.py    a run on a terminal, on a plain stream, or as JSON lines
live.py       the terminal form, with rich
timeline.py   a stored session, a line a record
turn.py       one run, from the wait for its session to the last event on the screen
keyboard.py   lines of standard input
small.py      tools and a prompt for a very small model
ask.py        ask
chat.py       chat
demo.py       demo
sessions.py   sessions, events
doctor.py     doctor
"""

from __future__ import annotations

from power_loop.cli.app import main

__all__ = ["main"]
