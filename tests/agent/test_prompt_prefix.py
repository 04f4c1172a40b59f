"""From round to round a request begins with all of the one before it, unless readers are told."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from llm_client.codecs.openai_chat import OpenAIChatCodec
from llm_client.stream import StreamEvent
from llm_client.types import (
    LLMRequest,
    LLMResponse,
    Message,
    Part,
    StopReason,
    Text,
    ToolCall,
    Usage,
)
from power_loop import (
    AgentConfig,
    AgentLoop,
    MemoryStore,
    NoteMemory,
    note_tools,
    tool,
)
from power_loop.events import PrefixChanged, Stamped
from power_loop.extensions import Pins, Skills, Todo
from power_loop.runtime.asking import Ask
from power_loop.runtime.memory.base import MemorySnapshot, RecallQuery
from power_loop.runtime.memory.tagging import is_memory, tag_as_memory
from tests.agent.support import check_log

pytestmark = pytest.mark.anyio

RUNS = 5
ROUNDS = 70
RESULT = "Berth {at}: a ship with {at} masts, bound for Oslo, laden with timber and salt. " * 8
SKILL = "---\nname: {name}\ndescription: Counts {name}.\n---\nCount them twice. "


@tool
async def look(berth: int) -> str:
    """Looks at a berth."""
    return RESULT.format(at=berth)


class Watched:
    """A model that uses everything in turn, and looks at the bytes that it would have been sent.

    Attributes:
        shared: of each two requests of a conversation how many bytes both begin with, how many that
            had to be, and how many the first one had.
        differ: the first message that is otherwise, of each request of which one is.
        places: where readers were told that this is.
        announced: for each of those why it is otherwise, as readers were told before the second.
    """

    retries = False
    binds_output = True
    model = "gpt-5"

    def __init__(self, rounds: int = ROUNDS, answer: str = "counted") -> None:
        self.shared: list[tuple[int, int, int]] = []
        self.announced: list[list[str]] = []
        self.heard: list[str] = []
        self.differ: list[str] = []
        self.places: list[str] = []
        self.summaries = 0
        self._last: tuple[bytes, int, Sequence[Message]] | None = None
        self._codec = OpenAIChatCodec()
        self._numbers = count()
        self._rounds = rounds
        self._answer = answer

    def hear(self, stamped: Stamped) -> None:
        """Hears that a prefix has changed."""
        assert isinstance(stamped.event, PrefixChanged)
        self.heard.append(stamped.event.reason)
        self.places.append(stamped.event.first_difference)

    def check(self, request: LLMRequest) -> None:
        """All is well."""

    def stream(
        self, request: LLMRequest
    ) -> AbstractAsyncContextManager[AsyncIterator[StreamEvent]]:
        """Nobody reads along."""
        return self._none()

    @asynccontextmanager
    async def _none(self) -> AsyncGenerator[AsyncIterator[StreamEvent]]:
        raise AssertionError("the answer was streamed, although nobody reads along")
        yield

    async def complete(self, request: LLMRequest) -> LLMResponse:
        """The next call, an answer where a run has had its rounds, or a summary."""
        if (request.system or "").startswith("You shorten the record"):
            self.summaries += 1
            return _said(Text("Task: count ships. Done: the berths so far."))
        self._look_at(request)
        number = next(self._numbers)
        over = number % self._rounds == self._rounds - 1
        return _said(Text(self._answer) if over else _call(number))

    async def aclose(self) -> None:
        """Nothing is open."""

    def _look_at(self, request: LLMRequest) -> None:
        body = self._encoded(request)
        # What is brought up behind the conversation is there for this request only.
        staying = list(request.messages)
        while is_memory(staying[-1]):
            staying.pop()
        whole, longer = (
            self._encoded(replace(request, messages=messages))
            for messages in (staying, [*staying, Message.user("more")])
        )
        must_stay = _both_begin(whole, longer)
        if self._last is not None:
            before, stayed, messages = self._last
            shared = _both_begin(before, body)
            self.shared.append((shared, stayed, len(before)))
            if shared < stayed:
                pairs = enumerate(zip(messages, staying, strict=False))
                self.differ += [f"messages[{at}]" for at, (a, b) in pairs if a.parts != b.parts][:1]
            self.announced.append(self.heard)
            self.heard = []
        self._last = body, must_stay, staying

    def _encoded(self, request: LLMRequest) -> bytes:
        return b"".join(self._codec.encode(request, stream=False).body)


class Remembering:
    """A memory that brings up the same in every run."""

    def __init__(self, remembered: Sequence[Message]) -> None:
        self._remembered = remembered

    async def recall(self, query: RecallQuery) -> Sequence[Message]:
        """What was given."""
        return self._remembered

    async def remember(self, snapshot: MemorySnapshot, ask: Ask | None) -> None:
        """Nothing new is learnt."""


def _said(part: Part) -> LLMResponse:
    calls = isinstance(part, ToolCall)
    stop = StopReason.TOOL_CALLS if calls else StopReason.END
    return LLMResponse((part,), stop, usage=Usage())


def _call(number: int) -> ToolCall:
    """Now and then a list is written, a fact pinned or noted, a skill read; else it looks."""
    item = {"text": f"count from berth {number}", "status": "in_progress"}
    used = {
        3: ("todo", {"items": [item]}),
        5: ("pin_fact", {"fact": f"berth {number} is closed"}),
        7: ("write_note", {"text": f"Ada has counted {number} ships."}),
        9: ("load_skill", {"name": "ships"}),
    }
    name, arguments = used.get(number % 35, ("look", {"berth": number}))
    return ToolCall(f"c{number}", name, msgspec.json.encode(arguments).decode())


def _both_begin(one: bytes, other: bytes) -> int:
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[low:middle] == other[low:middle] else (low, middle - 1)
    return low


def _skill(folder: Path, name: str) -> None:
    (folder / name).mkdir()
    (folder / name / "SKILL.md").write_text(SKILL.format(name=name))


async def test_the_prefix_stays_with_memory_compaction_and_skills_or_it_is_said_why(
    tmp_path: Path,
) -> None:
    """Five runs of seventy rounds, with all that ships: of each request 99 % is what the next one
    begins with; where it is less there was an event, and there is none where it is not.
    """
    _skill(tmp_path, "ships")
    store, model, skills = MemoryStore(), Watched(), Skills(tmp_path)
    memory = NoteMemory(store.notes)
    config = AgentConfig(
        system_prompt="You count ships.",
        context_window=32_768,
        max_output_tokens=1000,
        max_rounds=2 * ROUNDS,
        memory=memory,
        memory_tokens=130,
    )
    async with AgentLoop(
        model,
        tools=[look, *note_tools(memory)],
        extensions=[skills, Todo(), Pins()],
        store=store,
        config=config,
    ) as loop:
        loop.events.subscribe(model.hear, types=[PrefixChanged], inline=True)
        session: str | None = None
        for run in range(RUNS):
            if run == 3:
                _skill(tmp_path, "masts")
                skills.reload()
            result = await loop.send(f"Count every ship; this is count {run}.", session, user="ada")
            assert result.status == "completed"
            session = result.session_id
        assert session is not None
        await check_log(loop, session)
    assert len(model.shared) == RUNS * ROUNDS - 1
    drops = [shared < must_stay for shared, must_stay, _ in model.shared]
    assert drops == [bool(reasons) for reasons in model.announced]
    reasons = [reason for each in model.announced for reason in each]
    assert reasons.count("configuration") == 1
    assert reasons.count("compaction") == model.summaries == len(reasons) - 1 == 3
    kept = [(shared, had) for shared, must_stay, had in model.shared if shared >= must_stay]
    assert _ratio(kept) >= 0.99


@pytest.mark.parametrize("remembered", [[], [tag_as_memory("Berth 7 is closed.", "notes")]])
async def test_a_run_that_begins_with_a_compaction_says_so(remembered: list[Message]) -> None:
    """A chat of runs of one round each: what the one before had asked with is not what this one
    begins with, although it is the first that this one asks, and begins with the same memories."""
    model = Watched(rounds=1)
    config = AgentConfig(
        context_window=4_000,
        max_output_tokens=500,
        memory=Remembering(remembered),
        memory_place="front",
    )
    async with AgentLoop(model, tools=[look], config=config) as loop:
        loop.events.subscribe(model.hear, types=[PrefixChanged], inline=True)
        session: str | None = None
        for run in range(60):
            session = (await loop.send(f"{run}: {RESULT}", session)).session_id
        assert session is not None
        await check_log(loop, session)
    assert model.places == model.differ
    drops = [["compaction"] * (shared < must_stay) for shared, must_stay, _ in model.shared]
    assert drops == model.announced
    assert model.summaries == drops.count(["compaction"]) == 5


async def test_a_long_last_answer_alone_may_leave_and_the_prefix_stays() -> None:
    """Nothing was ever asked with it, so there is nothing to tell of."""
    model = Watched(rounds=1, answer=RESULT * 20)
    config = AgentConfig(context_window=4_000, max_output_tokens=500)
    async with AgentLoop(model, tools=[look], config=config) as loop:
        loop.events.subscribe(model.hear, types=[PrefixChanged], inline=True)
        session = (await loop.send("Tell me all.")).session_id
        await loop.send("And now?", session)
    assert model.summaries == 1
    assert model.announced == [[]]
    ((shared, must_stay, _),) = model.shared
    assert shared >= must_stay


def _ratio(pairs: Sequence[tuple[int, int]]) -> float:
    return sum(shared for shared, _ in pairs) / sum(had for _, had in pairs)
