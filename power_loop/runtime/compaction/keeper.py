"""Keeps one session's prompts within its model's window, whatever the strategies do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import anyio
from msgspec.structs import replace

from llm_client.errors import LLMError
from llm_client.tokens import ModelTokens
from llm_client.types import LLMRequest, LLMResponse, Message, Text, Transcript, Usage
from power_loop.errors import OverBudget
from power_loop.events import CompactionFailed, CompactionRejected
from power_loop.log import logger
from power_loop.runtime.asking import Ask
from power_loop.runtime.compaction.base import (
    Asked,
    CompactionPlan,
    CompactionRefused,
    Compactor,
    ContextSize,
)
from power_loop.runtime.compaction.contract import broken, shrunk
from power_loop.runtime.compaction.results import ToolResultCompactor
from power_loop.runtime.compaction.sizing import Bound, Counters
from power_loop.runtime.compaction.summary import DefaultCompactor
from power_loop.runtime.compaction.trim import TrimCompactor
from power_loop.session.records import ViewChanged
from power_loop.session.text import repaired_text
from power_loop.session.view import COMPACT_NOTE, changed_view

__all__ = ["RECALL_TOOL", "Keeper", "default_compactors"]

RECALL_TOOL = "recall_compacted"
"""The name of the tool that brings back what has left a view."""

_WORTH_ANOTHER_TRY = 1.1
"""How much a prompt that could not be made smaller must have grown before that is tried again."""

_REASON_CHARACTERS = 300
_PATIENCE = 600.0
_IMPLAUSIBLE = 4
"""A provider that counts less than one token where this many are counted here is not believed."""


def default_compactors() -> tuple[Compactor, ...]:
    """What a loop does that is not told otherwise: old large results first, then a summary."""
    return ToolResultCompactor(), DefaultCompactor()


class _Once:
    """Lets the model be asked once."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self.used = False

    async def __call__(self, request: LLMRequest, *, within: float) -> LLMResponse:
        if self.used:
            raise CompactionRefused("the model has been asked once, which is all there is")
        self.used = True
        return await self._ask(request, within=within)


def _limit_of(strategy: Compactor, window: int | None, reserved_output: int) -> int | None:
    try:
        return strategy.limit(window, reserved_output)
    except Exception:  # noqa: BLE001  foreign code; it then has no limit
        logger.warning("compactor %r cannot say its limit", strategy, exc_info=True)
        return None


class Keeper:
    """Compacts the view of one session, whatever its strategies do.

    Each plan is held to the contract (see `broken`), and must bring the prompt under the limit at
    which it was made, or it is not carried out. After the last strategy, older messages are left
    out by rule. The model is asked once at most.

    Args:
        strategies: asked in this order, the next one if one is not enough.
        counters: count tokens.
        window_of: tokens of a model's window, if that is known.
        output: tokens kept free for an answer where a request does not say.
        patience: seconds for one strategy, with what it asks the model.
    """

    def __init__(
        self,
        strategies: Sequence[Compactor],
        *,
        counters: Counters,
        window_of: Callable[[str], int | None],
        output: int,
        patience: float = _PATIENCE,
    ) -> None:
        self._patience = patience
        self._strategies = (*strategies, TrimCompactor())
        self._counters = counters
        self._window_of = window_of
        self._output = output
        self._bound = Bound()
        self._refused: dict[str, int] = {}
        self._hopeless: tuple[str, tuple[str, ...], int] = ("", (), 0)
        self._counted = False
        self._limited: tuple[int | None, int] | None = None
        self._found: list[int] = []

    def _window(self, model: str) -> int | None:
        """What is known of the window, by a table or because a prompt was refused as too large."""
        known, refused = self._window_of(model), self._refused.get(model)
        return known if refused is None else min(known or refused, refused)

    def _limits(self, request: LLMRequest, model: str) -> list[int]:
        window = self._window(model)
        reserved = self._reserved(request, window)
        if self._limited != (window, reserved):
            # The last resort has no limit of its own.
            found = [_limit_of(strategy, window, reserved) for strategy in self._strategies[:-1]]
            self._limited = window, reserved
            self._found = [limit for limit in found if limit is not None]
        return self._found

    def _reserved(self, request: LLMRequest, window: int | None) -> int:
        wanted = request.max_output_tokens or self._output
        # Whoever wants a whole window for an answer would leave nothing to ask with.
        return wanted if window is None else min(wanted, window // 2)

    async def too_large(
        self, request: LLMRequest, model: str, *, task: tuple[str, ...], overflow: bool
    ) -> bool:
        """Whether the view is to be compacted before `request` is made."""
        model = request.model or model
        if overflow:
            return True
        limits = self._limits(request, model)
        if not limits or self._bound.of(request) < min(limits):
            return False
        counter = await self._counter(model)
        prompt = counter.count_request(request).tokens
        self._counted = True
        return prompt >= min(limits) and prompt >= self._worth(model, task)

    def _worth(self, model: str, task: tuple[str, ...]) -> int:
        """What a prompt must have so that it is worth another try, after one that was in vain.

        What had to stay for an earlier task may leave now; another model has another window.
        """
        of_model, of_task, tokens = self._hopeless
        return tokens if (of_model, of_task) == (model, task) else 0

    def learn(self, request: LLMRequest, model: str, usage: Usage) -> None:
        """Takes note of what a provider counted, if it is counted here at all, and if that can be:
        one that says far too little would have the window taken for a larger one."""
        if not self._counted or usage.input_tokens is None:
            return
        counter = self._counters(request.model or model)
        if usage.input_tokens * _IMPLAUSIBLE > counter.count_request(request).tokens:
            counter.learn(request, usage)

    async def compact(
        self, request: LLMRequest, view: Transcript, asked: Asked, *, overflow: bool
    ) -> ViewChanged | None:
        """How `view` is to change, so that `request`, which holds it, becomes smaller."""
        model = request.model or asked.model
        counter = await self._counter(model)
        size = self._size(request, view, asked, counter, overflow=overflow)
        work = _Work(view, size, asked, window_room=self._room(size), patience=self._patience)
        for strategy in self._strategies:
            if await work.enough(strategy, last=strategy is self._strategies[-1]):
                break
        change = work.result()
        self._hopeless = model, asked.task, self._next_try(size, change)
        if change is None:
            asked.emit(CompactionFailed(work.why()))
        return change

    def _next_try(self, size: ContextSize, change: ViewChanged | None) -> int:
        """Tokens from which the next compaction is worth its while; 0 if from the limit on."""
        if change is None:
            return int(size.prompt * _WORTH_ANOTHER_TRY)
        if change.after < size.limit:
            return 0
        # It can be no better: once a round, it would cost the prompt's cache and bring nothing.
        room = self._room(size)
        return int(change.after * _WORTH_ANOTHER_TRY) if room is None else room

    async def _counter(self, model: str) -> ModelTokens:
        counter = self._counters(model)
        await counter.load()
        return counter

    def _room(self, size: ContextSize) -> int | None:
        return None if size.window is None else size.window - size.reserved_output

    def _size(
        self,
        request: LLMRequest,
        view: Transcript,
        asked: Asked,
        counter: ModelTokens,
        *,
        overflow: bool,
    ) -> ContextSize:
        whole = counter.count_request(request)
        prompt, model = whole.tokens, request.model or asked.model
        if overflow:
            self._refused[model] = min(prompt, self._refused.get(model, prompt))
        limits = [*self._limits(request, model), prompt]
        window = self._window(model)
        if window is not None:
            limits.append(window - self._reserved(request, window))
        count = partial(counter.count_message, within=whole)
        messages = sum(map(count, view))
        return ContextSize(
            window=window,
            reserved_output=self._reserved(request, window),
            overhead=max(0, prompt - messages),
            messages=messages,
            limit=min(limits),
            overflow=overflow,
            task=asked.task,
            model=asked.model,
            recallable=any(tool.name == RECALL_TOOL for tool in request.tools),
            count=count,
        )


class _Work:
    """One compaction, as far as it has come."""

    def __init__(
        self,
        view: Transcript,
        size: ContextSize,
        asked: Asked,
        *,
        window_room: int | None,
        patience: float,
    ) -> None:
        self._patience = patience
        self._view = view
        self._start = size
        self._size = size
        self._asked = asked
        self._ask = _Once(asked.ask)
        self._room = window_room
        self._replaced: ViewChanged | None = None
        self._fold: ViewChanged | None = None
        self._rejected = ""

    async def enough(self, strategy: Compactor, *, last: bool) -> bool:
        """Takes the plan of a strategy if it keeps to the contract; whether that is enough."""
        try:
            plan = await self._planned(strategy)
            change = None if plan is None else self._as_change(plan)
        except (CompactionRefused, LLMError, OverBudget) as error:
            self._reject(strategy.name, f"{type(error).__name__}: {error}")
            return False
        except Exception as error:  # noqa: BLE001  foreign code; readers are told
            logger.warning("compactor %r failed", strategy.name, exc_info=True)
            self._reject(strategy.name, f"{type(error).__name__}: {error}")
            return False
        if change is None:
            return False
        why = broken(self._view, change, self._size)
        if why is not None:
            self._reject(strategy.name, why)
            return False
        left = self._size.overhead + shrunk(self._view, change, self._size)
        if change.cut is not None and not self._fits(left, last=last):
            self._reject(strategy.name, f"the prompt would still have {left} tokens")
            return False
        self._take(change, left)
        return left < self._size.limit

    async def _planned(self, strategy: Compactor) -> CompactionPlan | None:
        with anyio.move_on_after(self._patience):
            work = strategy.compact(self._view, self._size, self._ask)
            return await self._asked.contain(work)
        raise CompactionRefused(f"it took longer than {self._patience:g} s")

    def _fits(self, tokens: int, *, last: bool) -> bool:
        if tokens < self._size.limit:
            return True
        # There is nothing better: what the model can hold is good enough.
        return last and (self._room is None or tokens <= self._room)

    def _reject(self, by: str, why: str) -> None:
        why = repaired_text(why)[:_REASON_CHARACTERS]
        self._rejected = f"{by}: {why}"
        self._asked.emit(CompactionRejected(by, why))

    def _as_change(self, plan: CompactionPlan) -> ViewChanged:
        note = None
        if plan.cut is not None:
            meta = {"strategy": plan.by, **plan.stamp}
            parts = (Text(plan.note),)
            note = Message("user", parts, id=self._asked.new_id(), name=COMPACT_NOTE, meta=meta)
        return ViewChanged(plan.cut, note, dict(plan.replaced), plan.kept, plan.by)

    def _take(self, change: ViewChanged, left: int) -> None:
        self._view = Transcript(changed_view(self._view, change))
        self._size = replace(self._size, messages=left - self._size.overhead)
        replaced = dict(self._replaced.replaced) if self._replaced else {}
        self._replaced = replace(change, replaced={**replaced, **change.replaced})
        if change.cut is not None:
            self._fold = change

    def result(self) -> ViewChanged | None:
        """All that was taken, as one change; None if it was nothing, or not enough."""
        newest = self._replaced
        if newest is None or not self._fits(self._size.prompt, last=True):
            return None
        fold = self._fold or newest
        staying = {message.id for message in self._view}
        return replace(
            fold,
            replaced={id: parts for id, parts in newest.replaced.items() if id in staying},
            by=fold.by,
            before=self._start.prompt,
            after=self._size.prompt,
        )

    def why(self) -> str:
        """Why nothing came of it."""
        size = self._start
        if size.overhead >= size.limit:
            return (
                f"the system prompt, tools and memory have {size.overhead} tokens, and the whole "
                f"prompt may have {size.limit}; shorten them, or use a model with a larger window"
            )
        must_stay = self._rejected or "nothing may leave the view"
        return f"the prompt has {size.prompt} tokens and may have {size.limit}; {must_stay}"
