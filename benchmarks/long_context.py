"""A run of thousands of rounds on a small window: what a round costs, and what stays the same."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from statistics import median
from types import MappingProxyType

import msgspec
from msgspec import Struct

from benchmarks.measuring import expect
from benchmarks.scenarios import WrongResult
from benchmarks.table import number
from llm_client.codecs.openai_chat import OpenAIChatCodec
from llm_client.stream import StreamEvent
from llm_client.tokens import ModelTokens
from llm_client.types import (
    LLMRequest,
    LLMResponse,
    Message,
    StopReason,
    Text,
    ToolCall,
    Usage,
)
from power_loop import AgentConfig, AgentLoop, tool
from power_loop.runtime.asking import Ask
from power_loop.runtime.memory.base import MemorySnapshot, RecallQuery

__all__ = ["SIZES", "LongRun", "as_json", "as_table", "measure_long_run"]


class Size(Struct, frozen=True):
    """How many rounds, and how many of them each figure of cost is taken over."""

    rounds: int
    sample: int
    window: int = 32_768


SIZES: Mapping[str, Size] = MappingProxyType({"full": Size(5000, 100), "tiny": Size(300, 40, 8192)})

TASK = "Count every ship of the harbour; berth by berth, beginning at berth 1. Never skip one."
_FACT = "The harbour master's name is Ada, and berth 7 is closed."
_RESULT = "Berth {at}: a ship with {at} masts, bound for Oslo, laden with timber and salt. " * 8
_SUMMARY = "Task: count ships. Done: the berths so far. Open: the next berths."


class LongRun(Struct, frozen=True, kw_only=True):
    """What a long run came to.

    Attributes:
        rounds: model calls of the conversation.
        compactions: how often the view was made smaller.
        largest: tokens of the largest prompt.
        window: tokens of the window.
        shared: of a request's bytes, the part that the next one begins with; of all requests
            between two compactions, together.
        cost: CPU milliseconds a round, of what is ours, by the round at which it was taken: the
            median round of those around it in which nothing was compacted.
        compaction: CPU milliseconds of the median round in which the view was compacted.
    """

    rounds: int
    compactions: int
    largest: int
    window: int
    shared: float
    cost: tuple[tuple[int, float], ...]
    compaction: float


class _Notes:
    """A memory that has one thing to say."""

    async def recall(self, query: RecallQuery) -> Sequence[Message]:
        return [Message("user", (Text(_FACT),), name="memory_notes")]

    async def remember(self, snapshot: MemorySnapshot, ask: Ask | None) -> None:
        """Takes no note."""


class _Watched:
    """Answers at once with the next call, and looks at the bytes that it would have been sent."""

    retries = False
    binds_output = True
    model = "gpt-5"

    def __init__(self, rounds: int) -> None:
        self.last = b""
        self.requests = 0
        self.shared = self.sent = 0
        self.compactions = 0
        self.largest = 0
        self.last_request: LLMRequest | None = None
        self.spent: list[tuple[float, bool]] = []
        self._rounds = rounds
        self._codec = OpenAIChatCodec()
        self._counter = ModelTokens("gpt-5")
        self._since = time.process_time()
        self._compacted = False

    def check(self, request: LLMRequest) -> None:
        """All is well."""

    def stream(
        self, request: LLMRequest
    ) -> AbstractAsyncContextManager[AsyncIterator[StreamEvent]]:
        """Nobody reads along."""
        return self._none()

    @asynccontextmanager
    async def _none(self) -> AsyncGenerator[AsyncIterator[StreamEvent]]:
        raise WrongResult("the answer was streamed, although nobody reads along")
        yield

    async def complete(self, request: LLMRequest) -> LLMResponse:
        """The next call, or a summary."""
        if (request.system or "").startswith("You shorten the record"):
            self._compacted = True
            self.compactions += 1
            return LLMResponse((Text(_SUMMARY),), StopReason.END)
        body = b"".join(self._codec.encode(request, stream=False).body)
        now = time.process_time()
        self.spent.append((now - self._since, self._compacted))
        self._look_at(request, body)
        self.requests += 1
        answer = self._answer()
        self._compacted = False
        # What is looked at here is no work of the loop.
        self._since = time.process_time()
        return answer

    def _look_at(self, request: LLMRequest, body: bytes) -> None:
        if self.last and not self._compacted:
            self.shared += _shared(self.last, body)
            self.sent += len(self.last)
        self.last, self.last_request = body, request
        self.largest = max(self.largest, self._counter.count_request(request).tokens)

    def _answer(self) -> LLMResponse:
        if self.requests >= self._rounds:
            return LLMResponse((Text("done"),), StopReason.END, usage=Usage())
        call = ToolCall(f"call{self.requests}", "look", f'{{"berth": {self.requests}}}')
        return LLMResponse((call,), StopReason.TOOL_CALLS, usage=Usage())

    async def aclose(self) -> None:
        """Nothing is open."""


def _shared(last: bytes, now: bytes) -> int:
    """How many bytes both begin with."""
    low, high = 0, min(len(last), len(now))
    if last[:high] == now[:high]:
        return high
    while low < high:
        middle = (low + high + 1) // 2
        if last[low:middle] == now[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


@tool
async def look(berth: int) -> str:
    """Looks at a berth."""
    return _RESULT.format(at=berth)


def measure_long_run(size: str) -> LongRun:
    """Runs it, and looks at what came out.

    Raises:
        WrongResult: it came to another result than it must.
    """
    return asyncio.run(_measured(SIZES[size]))


async def _measured(size: Size) -> LongRun:
    model = _Watched(size.rounds)
    config = AgentConfig(
        context_window=size.window,
        max_output_tokens=1000,
        max_rounds=size.rounds + 10,
        memory=_Notes(),
        system_prompt="You count ships.",
    )
    async with AgentLoop(model, tools=[look], config=config) as loop:
        result = await loop.send(TASK)
    last = model.last_request
    assert last is not None
    expect(result.status, "completed", "how the run ended")
    expect(last.messages[0].text, TASK, "what the last request begins with")
    expect(last.messages[-1].text, _FACT, "what the last request ends with")
    expect(max(model.largest, size.window), size.window, "tokens of the largest prompt")
    expect(model.compactions > 1, True, "whether the view was compacted")
    places = [at for at in (10, 100, 1000, size.rounds) if at <= size.rounds]
    return LongRun(
        rounds=model.requests,
        compactions=model.compactions,
        largest=model.largest,
        window=size.window,
        shared=model.shared / model.sent,
        cost=tuple([(at, _around(model.spent, at, size.sample)) for at in places]),
        compaction=1000 * median([cost for cost, compacted in model.spent if compacted]),
    )


def _around(spent: Sequence[tuple[float, bool]], at: int, sample: int) -> float:
    first = max(1, min(at, len(spent) - sample))
    costs = [cost for cost, compacted in spent[first : first + sample] if not compacted]
    return 1000 * median(costs)


def as_table(run: LongRun) -> str:
    """What people read."""
    lines = ["| round | CPU a round |", "|--:|--:|"]
    lines += [f"| {at} | {number(cost)} ms |" for at, cost in run.cost]
    told = (
        f"{run.rounds} rounds on a window of {run.window} tokens: {run.compactions} compactions of "
        f"{number(run.compaction)} ms each, largest prompt {run.largest} tokens, "
        f"{run.shared:.4f} of each request is what the next begins with between compactions."
    )
    return "\n".join([*lines, "", told])


def as_json(run: LongRun) -> bytes:
    """What programs read."""
    return msgspec.json.format(msgspec.json.encode(run))
