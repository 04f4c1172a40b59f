"""What holds for all runs of a loop."""

from __future__ import annotations

from msgspec import Struct

from llm_client.retry import RetryPolicy
from power_loop.pipeline.ports import ROUND_LIMIT_PROMPT

__all__ = ["AgentConfig"]


class AgentConfig(Struct, frozen=True, kw_only=True):
    """Settings of an `AgentLoop`; what differs from call to call is an argument of `send`.

    Attributes:
        system_prompt: who the model is to be; sections of extensions are added after it.
        max_rounds: model calls that may ask for tools, per run; then the model has a last word.
        max_output_tokens: bound of one answer; None leaves it to the provider.
        temperature: None leaves it to the provider.
        parallel_tool_calls: whether the model may ask for several tools at once; None leaves it to
            the provider.
        retry: when a failed model call is made again.
        output_reasks: how often an answer of the wrong type is given back to the model.
        tool_concurrency: tools of one answer that run at the same time.
        tool_timeout: seconds for a tool that sets no bound of its own.
        result_limit: characters of one tool result; the middle of a longer one is left out.
        lease_seconds: how long the session stays locked after the host of a run has died.
        hook_grace: seconds that session.end handlers have in all.
        shutdown_grace: seconds that running runs have to end when the loop is closed.
        cached_sessions: folded sessions kept in memory between runs.
        round_limit_prompt: what the model is told when its rounds are used up.
        continue_prompt: what the model is told when a run is resumed that had ended with a text.
    """

    system_prompt: str | None = None
    max_rounds: int = 24
    max_output_tokens: int | None = None
    temperature: float | None = None
    parallel_tool_calls: bool | None = None
    retry: RetryPolicy = RetryPolicy()
    output_reasks: int = 2
    tool_concurrency: int = 16
    tool_timeout: float = 120.0
    result_limit: int = 100_000
    lease_seconds: float = 30.0
    hook_grace: float = 5.0
    shutdown_grace: float = 10.0
    cached_sessions: int = 256
    round_limit_prompt: str = ROUND_LIMIT_PROMPT
    continue_prompt: str = "Go on."

    def __post_init__(self) -> None:
        for name in (
            "max_rounds",
            "tool_concurrency",
            "tool_timeout",
            "result_limit",
            "lease_seconds",
        ):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, is {getattr(self, name)}")
