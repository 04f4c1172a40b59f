"""What people use: AgentLoop and what goes with it.

loop.py        AgentLoop: the verbs that run the model; verbs.py the others
time_verbs.py  those that go back in history; travel.py does what they say
config.py      what holds for all runs of a loop
result.py      what a run gives back
intake.py      what callers may pass as input, checked at the edge; options.py for one run
output.py      typed answers
planning.py    what a run is to do
running.py     from a call of a verb to a run that is ready; prepared.py to its end
deleting.py    a session and all that is kept for it
deciding.py    what a host may decide about open calls; answers.py what people may answer
requests.py    what people are asked; responding.py at once, terminal.py on the terminal
spending.py    what one run may use; counting.py who counts tokens
context.py     what keeps prompts within their window, and what runs remember
subagent.py    a tool whose calls are sessions; children.py runs them, below.py says who may
opening.py     with which records a run opens; toolset.py with which tools
lifetime.py    what is open while a loop is
sessions.py    one run at a time per session: locks, leases, folded sessions
stream.py      a run to iterate over
feed.py        the loop's events: subscribe, and follow from a cursor
system_prompt.py  named sections of what the model is told first; prompt_texts.py the usual ones
extensions.py  bundles of hooks, tools, subscribers, prompt sections and a lifespan
sync.py        the verbs for programs without an event loop
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from power_loop.agent import answers as answers
    from power_loop.agent import children as children
    from power_loop.agent import context as context
    from power_loop.agent import output as output
    from power_loop.agent import spending as spending
    from power_loop.agent import sync as sync
    from power_loop.agent import travel as travel

_LAZY = ("answers", "children", "context", "output", "spending", "sync", "travel")
"""Modules that load pydantic or an event loop, or that few programs need; nobody pays for them at
import."""


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return import_module(f"power_loop.agent.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
