"""For tests of programs that use a model: scripted models, a virtual clock, recorded exchanges."""

from __future__ import annotations

from llm_client.testing.clock import VirtualClock
from llm_client.testing.recorder import (
    RecordingTransport,
    ReplayMismatch,
    ReplayTransport,
)
from llm_client.testing.scripted import Reply, ScriptedLLM, ScriptExhausted, call, reply

__all__ = [
    "RecordingTransport",
    "ReplayMismatch",
    "ReplayTransport",
    "Reply",
    "ScriptExhausted",
    "ScriptedLLM",
    "VirtualClock",
    "call",
    "reply",
]
