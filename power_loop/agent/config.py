"""What holds for all runs of a loop."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, cast, get_args

from msgspec import Struct

from llm_client.retry import FallbackPolicy, RetryPolicy
from llm_client.types import Text
from power_loop import agent
from power_loop.agent.system_prompt import SystemPrompt
from power_loop.errors import UsageError
from power_loop.pipeline.plan import ROUND_LIMIT_PROMPT
from power_loop.session.text import is_sound

if TYPE_CHECKING:
    from llm_client.pricing import PriceBook
    from power_loop.runtime.artifacts.base import ArtifactStore
    from power_loop.runtime.budget.limits import Budget
    from power_loop.runtime.compaction.base import Compactor
    from power_loop.runtime.memory.base import MemoryProvider

__all__ = ["AgentConfig", "InDoubt", "MemoryPlace", "PromptCache"]

PromptCache = Literal["5m", "1h"]
InDoubt = Literal["tell", "ask"]
MemoryPlace = Literal["tail", "front"]


class AgentConfig(Struct, frozen=True, kw_only=True):
    """Settings of an `AgentLoop`; what differs from call to call is an argument of `send`.

    Attributes:
        system_prompt: who the model is to be: a text, or named sections, which
            `SystemPrompt.main()` has some of. Those of extensions are added after it.
        max_rounds: model calls that may ask for tools, per run; then the model has a last word.
        max_output_tokens: bound of one answer; None leaves it to the provider.
        temperature: None leaves it to the provider.
        parallel_tool_calls: whether the model may ask for several tools at once; None leaves it to
            the provider.
        reasoning_effort: a word such as "low" or "high"; None leaves it to the provider.
        prompt_cache: how long the provider shall keep the prompt, where it must be asked to
            (Anthropic); without it every round pays for the whole history again.
        retry: when a failed model call is made again.
        fallback: further models of the service, and the errors after which they are asked: each in
            turn, once `retry` has given up on the one before, and with attempts and a deadline of
            its own. Every model call begins with the run's own model again.
        output_reasks: how often an answer of the wrong type is given back to the model.
        tool_concurrency: tools of one answer that run at the same time.
        tool_timeout: seconds for a tool that sets no bound of its own.
        result_limit: characters of one tool result. Of a longer one the model sees the beginning
            and the end, and the whole is kept as an artifact, unless its tool has it otherwise (see
            `OutputPolicy`).
        artifacts: where such outputs are kept, `FileArtifacts(directory)`, say; with the sessions
            if None, where their store can do that, as all of ours can.
        run_budget: what one run may use, and those that carry it on, together.
        session_budget: what all runs of a session may use together.
        prices: what tokens cost, recorded with each call. Needed where cost is limited; if None,
            GenAIPrices() serves a budget, and nothing serves a `CostLimit`.
        budgeted_output: under a budget, tokens that an answer may have where `max_output_tokens`
            does not say: so many must be set aside.
        max_depth: how deep sessions of sub-agents may be nested below the first.
        max_children: sessions of sub-agents that one run may open, at any depth, where its budget
            does not say.
        context_window: tokens of prompt and answer together that the model can hold; None goes by
            what is known of it.
        compactors: what makes the view smaller when the prompt outgrows the window, in this order;
            None for `default_compactors()`, () for nothing at all. Older messages are left out by
            rule where these do not manage.
        memory: what is recalled as a run begins, and who takes note of it as it ends.
        memory_tokens: what may be recalled for a run, together.
        memory_place: what was recalled stands after the conversation ("tail"), so that prompt
            caches know its beginning from run to run, or before it ("front").
        recall_timeout: seconds for a recall; the run goes on without it.
        remember_timeout: seconds for taking note of a run that completes.
        agent_name: the agent that memories belong to.
        in_doubt: what becomes of a call that was running when its process died, if its tool is not
            idempotent and cannot say how it went: the model is told that the outcome is unknown
            ("tell"), or `resume` asks for a decision ("ask").
        lease_seconds: how long the session stays locked after the host of a run has died.
        hook_grace: seconds that session.end handlers have in all, and a memory for taking note of
            a run that has ended without an answer.
        shutdown_grace: seconds that running runs have to end when the loop is closed.
        cached_sessions: folded sessions kept in memory between runs.
        round_limit_prompt: what the model is told when its rounds are used up.
        continue_prompt: what the model is told when a run is resumed that had ended with a text.

    Raises:
        UsageError: a value that cannot be; names it.
    """

    system_prompt: str | SystemPrompt | None = None
    max_rounds: int = 24
    max_output_tokens: int | None = None
    temperature: float | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    prompt_cache: PromptCache | None = None
    retry: RetryPolicy = RetryPolicy()
    fallback: FallbackPolicy = FallbackPolicy()
    output_reasks: int = 2
    tool_concurrency: int = 16
    tool_timeout: float = 120.0
    result_limit: int = 100_000
    artifacts: ArtifactStore | None = None
    run_budget: Budget | None = None
    session_budget: Budget | None = None
    prices: PriceBook | None = None
    budgeted_output: int = 4096
    max_depth: int = 3
    max_children: int = 64
    context_window: int | None = None
    compactors: Sequence[Compactor] | None = None
    memory: MemoryProvider | None = None
    memory_tokens: int = 1500
    memory_place: MemoryPlace = "tail"
    recall_timeout: float = 5.0
    remember_timeout: float = 60.0
    agent_name: str = ""
    in_doubt: InDoubt = "tell"
    lease_seconds: float = 30.0
    hook_grace: float = 5.0
    shutdown_grace: float = 10.0
    cached_sessions: int = 256
    round_limit_prompt: str = ROUND_LIMIT_PROMPT
    continue_prompt: str = "Go on."

    def __post_init__(self) -> None:
        for name, least in _COUNTS.items():
            value: object = getattr(self, name)
            if not _is_count(value, least) and not (value is None and name in _MAY_BE_NONE):
                raise UsageError(f"{name} must be a whole number from {least}, is {value!r}")
        for name, may_be_zero in _NUMBERS.items():
            value = getattr(self, name)
            if not _is_number(value, may_be_zero) and not (value is None and name in _MAY_BE_NONE):
                raise UsageError(f"{name} must be a finite number over 0, is {value!r}")
        for name in ("system_prompt", "round_limit_prompt", "continue_prompt"):
            text: object = getattr(self, name)
            if name == "system_prompt" and (text in (None, "") or isinstance(text, SystemPrompt)):
                continue
            if not isinstance(text, str) or not text.strip() or not is_sound(Text(text)):
                raise UsageError(f"{name} must be a text, without NUL and lone surrogates")
        self._check_words()
        self._check_parts()

    def _check_parts(self) -> None:
        if self.compactors is not None or self.memory is not None:
            agent.context.check_parts(self.compactors, self.memory)
        for name in ("run_budget", "session_budget"):
            if getattr(self, name) is not None:
                agent.spending.checked_budget(name, getattr(self, name))

    def _check_words(self) -> None:
        effort = cast("object", self.reasoning_effort)
        if effort is not None and (not isinstance(effort, str) or not effort.strip()):
            raise UsageError(f"reasoning_effort must be a word or None, is {effort!r}")
        name = cast("object", self.agent_name)
        if not isinstance(name, str) or not is_sound(Text(name)):
            raise UsageError("agent_name must be a text, without NUL and lone surrogates")
        for name, (told, words) in _WORDS.items():
            if getattr(self, name) not in words:
                raise UsageError(f"{name} must be {told}, is {getattr(self, name)!r}")


_COUNTS = MappingProxyType(
    {
        "max_rounds": 1,
        "max_output_tokens": 1,
        "output_reasks": 0,
        "budgeted_output": 1,
        "max_depth": 1,
        "max_children": 1,
        "context_window": 1,
        "memory_tokens": 1,
        "tool_concurrency": 1,
        "result_limit": 1,
        "cached_sessions": 1,
    }
)
"""Whole numbers, and the least that each may be."""
_NUMBERS = MappingProxyType(
    {
        "temperature": True,
        "tool_timeout": False,
        "recall_timeout": False,
        "remember_timeout": False,
        "lease_seconds": False,
        "hook_grace": True,
        "shutdown_grace": True,
    }
)
"""Other numbers, and whether each may be 0."""
_WORDS = MappingProxyType(
    {
        "prompt_cache": ('"5m", "1h" or None', (*get_args(PromptCache), None)),
        "in_doubt": ('"tell" or "ask"', get_args(InDoubt)),
        "memory_place": ('"tail" or "front"', get_args(MemoryPlace)),
    }
)
"""Words, and which each may be."""
_MAY_BE_NONE = ("max_output_tokens", "temperature", "context_window")


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_number(value: object, may_be_zero: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool) or not isfinite(value):
        return False
    return value > 0 or (value == 0 and bool(may_be_zero))
