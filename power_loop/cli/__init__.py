"""The `power-loop` command.

app.py        arguments, and which command runs
values.py     what arguments may be
settings.py   what the environment says: model, store
database.py   where sessions are kept: a path or a URL
display.py    a run on a terminal, on a plain stream, or as JSON lines
live.py       the terminal form, with rich
timeline.py   a stored session, a line a record
turn.py       one run, from the wait for its session to the last event on the screen
keyboard.py   lines of standard input
small.py      tools and a prompt for a very small model
ask.py        ask
resume.py     resume, abort, and what a person has to decide
chat.py       chat
demo.py       demo
sessions.py   sessions, events; usage.py what a session cost
history.py    sessions fork|diff|export|import, replay
store.py      store
doctor.py     doctor
"""

from __future__ import annotations

from power_loop.cli.app import main

__all__ = ["main"]
