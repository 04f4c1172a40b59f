"""Settings of a loop: a value that cannot be is refused by name, when it is written down."""

from __future__ import annotations

import math
from typing import Any

import pytest

from power_loop import AgentConfig, TrimCompactor
from power_loop.errors import UsageError

WRONG: list[tuple[str, Any]] = [
    *[(name, 0) for name in ("max_rounds", "tool_concurrency", "result_limit", "cached_sessions")],
    *[(name, -1) for name in ("output_reasks", "hook_grace", "shutdown_grace", "temperature")],
    *[(name, 0) for name in ("tool_timeout", "lease_seconds", "max_output_tokens")],
    *[(name, math.inf) for name in ("tool_timeout", "lease_seconds", "hook_grace", "temperature")],
    *[(name, "3") for name in ("max_rounds", "tool_timeout", "temperature")],
    *[(name, math.nan) for name in ("lease_seconds", "shutdown_grace", "temperature")],
    *[(name, True) for name in ("max_rounds", "tool_timeout")],
    ("max_rounds", 2.5),
    ("max_rounds", None),
    *[(n, "a\ud800") for n in ("system_prompt", "round_limit_prompt", "continue_prompt")],
    *[(n, "a\x00") for n in ("system_prompt", "round_limit_prompt", "continue_prompt")],
    *[(n, 3) for n in ("system_prompt", "round_limit_prompt", "continue_prompt")],
    *[(n, " ") for n in ("round_limit_prompt", "continue_prompt", "reasoning_effort")],
    ("reasoning_effort", 3),
    ("prompt_cache", "2h"),
    ("prompt_cache", True),
    ("in_doubt", "guess"),
    ("in_doubt", None),
    *[(name, 0) for name in ("context_window", "memory_tokens", "recall_timeout")],
    ("memory_place", "middle"),
    ("agent_name", "a\x00"),
    ("agent_name", None),
    ("compactors", TrimCompactor()),
    ("compactors", "summary"),
    ("compactors", [TrimCompactor]),
    ("compactors", [object()]),
    ("memory", object()),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_setting_that_cannot_be_is_refused_by_name(name: str, value: Any) -> None:
    """As every other misuse of the library."""
    with pytest.raises(UsageError, match=f"{name} must"):
        AgentConfig(**{name: value})


def test_settings_at_their_least_are_taken() -> None:
    """Each at the edge of what can be."""
    config = AgentConfig(
        system_prompt="",
        max_rounds=1,
        max_output_tokens=1,
        temperature=0,
        output_reasks=0,
        tool_concurrency=1,
        tool_timeout=0.001,
        result_limit=1,
        lease_seconds=1,
        hook_grace=0,
        shutdown_grace=0,
        cached_sessions=1,
    )
    assert AgentConfig().max_output_tokens is None
    assert config.hook_grace == 0
