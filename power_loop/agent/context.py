"""What keeps the prompts of a session within their window, and what its runs remember."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from msgspec.structs import replace

from llm_client.errors import UnsupportedFeature
from llm_client.service import LLMService
from llm_client.types import LLMRequest, Message
from power_loop.agent.config import AgentConfig
from power_loop.agent.counting import Counters, Windows
from power_loop.agent.planning import Settings
from power_loop.agent.sessions import Owned
from power_loop.driver.memory import RunMemory
from power_loop.driver.setup import RunContext
from power_loop.errors import SummaryDrift, UsageError
from power_loop.runtime.compaction.base import Compactor, PromptKeeper
from power_loop.runtime.compaction.keeper import Keeper, default_compactors
from power_loop.runtime.compaction.native import NativeCompactor
from power_loop.runtime.compaction.outputs import OutputSummariser
from power_loop.runtime.compaction.summary import DefaultCompactor
from power_loop.runtime.memory.base import MemoryProvider, MemoryScope
from power_loop.session.machine import Session
from power_loop.session.view import COMPACT_NOTE

if TYPE_CHECKING:
    from power_loop.agent.running import Runner

__all__ = ["check_drift", "check_parts", "compact_at", "context_of"]

_OUTPUT = 4096
"""Tokens kept free for an answer where nothing says how long it may be."""


def check_parts(compactors: object, memory: object) -> None:
    """Looks whether these can be what `AgentConfig` says they are.

    Raises:
        UsageError: they cannot; says which.
    """
    if compactors is not None and not isinstance(compactors, list | tuple):
        raise UsageError(
            f"compactors must be a list of compactors, is of type {type(compactors).__name__}"
        )
    for each in cast("Sequence[object]", compactors or ()):
        if isinstance(each, type) or not isinstance(each, Compactor):
            raise UsageError(
                f"compactors must have name, limit() and compact(), which {each!r} does not"
            )
    if memory is not None and (isinstance(memory, type) or not isinstance(memory, MemoryProvider)):
        raise UsageError(f"memory must have recall() and remember(), which {memory!r} does not")


def _keeper(runner: Runner, counters: Counters) -> PromptKeeper | None:
    """What keeps the prompts of one session small, if anything is to."""
    config = runner.config
    strategies = default_compactors() if config.compactors is None else config.compactors
    if not strategies:
        return None
    return Keeper(
        strategies,
        counters=counters.of,
        window_of=runner.windows.of,
        output=config.max_output_tokens or _OUTPUT,
    )


def compact_at(
    config: AgentConfig, llm: LLMService, windows: Windows, request: LLMRequest
) -> int | None:
    """Tokens from which the provider shall compact by itself; None if it cannot, or need not."""
    for each in config.compactors or ():
        if isinstance(each, NativeCompactor):
            tokens = each.compact_at(windows.of(request.model or llm.model))
            wished = replace(request, messages=(Message.user("?"),), compact_at=tokens)
            try:
                llm.check(wished)
            except UnsupportedFeature:
                return None
            return tokens
    return None


def _summariser(runner: Runner) -> OutputSummariser:
    """It asks whom summaries of the view are asked of."""
    ours = _of_summaries(runner.config)
    return OutputSummariser(
        artifacts=runner.artifacts,
        window_of=runner.windows.of,
        model=None if ours is None else ours.model,
    )


def _of_summaries(config: AgentConfig) -> DefaultCompactor | None:
    strategies = default_compactors() if config.compactors is None else config.compactors
    return next((each for each in strategies if isinstance(each, DefaultCompactor)), None)


def check_drift(config: AgentConfig, session: Session, model: str) -> None:
    """Looks whether the summary that a session goes on with would be made in the same way now.

    Raises:
        SummaryDrift: it was made by another engine, model or prompt.
    """
    ours = _of_summaries(config)
    note = next((each for each in session.messages if each.name == COMPACT_NOTE), None)
    made = {} if note is None else dict(note.meta or {})
    if ours is None or "prompt" not in made:
        return
    for name, now in ours.stamp(model).items():
        if made.get(name) != now:
            raise SummaryDrift(session.id, name, made.get(name, ""), now)


def context_of(runner: Runner, owned: Owned, settings: Settings, counters: Counters) -> RunContext:
    """What a run of a session that is ours does about the context of its model."""
    config, derived = runner.config, owned.derived
    if derived.keeper is None:
        derived.keeper = _keeper(runner, counters)
    return RunContext(
        user=settings.user,
        agent=config.agent_name,
        keeper=derived.keeper,
        summariser=_summariser(runner) if settings.tools.summarised else None,
        # A session below another one works for that, which has a memory of its own.
        memory=None if settings.place.depth else _memory(runner, owned.session.id, settings.user),
    )


def _memory(runner: Runner, session_id: str, user: str) -> RunMemory | None:
    config, store = runner.config, runner.store
    if config.memory is None:
        return None

    async def metadata() -> Mapping[str, str]:
        return (await store.info(session_id)).metadata

    return RunMemory(
        provider=config.memory,
        scope=MemoryScope(session=session_id, user=user, agent=config.agent_name),
        tokens=config.memory_tokens,
        recall_seconds=config.recall_timeout,
        remember_seconds=config.remember_timeout,
        metadata=metadata,
        detached=runner.background.detached,
    )
