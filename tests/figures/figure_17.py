"""Figure 17: whatever a compaction meets, the contract holds.

Random sessions whose prompt is too large for a random window, strategies in any order, some of them
hostile, and models that summarise as badly as they can: longer, empty, failing, hanging, calling
tools, repeating what the transcript wants of them. Sessions have sealed thoughts and images, and
some go on and are compacted again by the same keeper. What comes out is judged by code of its own,
and sent to the codecs of all protocols, whose bodies the checkers of legality read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import count
from random import Random
from sys import maxsize
from typing import Any

import anyio
import msgspec

from llm_client.protocols import codec_for
from llm_client.tokens import ModelTokens
from llm_client.types import LLMRequest, Message, Text, ToolResult, ToolSpec
from power_loop.events import CompactionFailed, CompactionRejected, Transient
from power_loop.runtime.compaction.keeper import Keeper
from power_loop.session.machine import IllegalRecord
from power_loop.session.records import ViewChanged
from tests.figures.result import FigureResult
from tests.legality import CHECKERS
from tests.runtime.compaction.worlds import (
    HostileModel,
    asked_of,
    goes_on,
    hostile_strategies,
    random_session,
)
from tests.session.transcript import transcript_violations

_MODELS = {
    "openai_chat": ("openai", "gpt-5"),
    "openai_responses": ("openai", "gpt-5"),
    "anthropic_messages": ("anthropic", "claude-sonnet-4-5"),
    "gemini": ("gemini", "gemini-3-pro"),
    "cohere_chat": ("cohere", "command-a"),
    "ollama_native": ("ollama-native", "qwen3"),
}
_CODECS = {name: codec_for(name, dialect) for name, (dialect, _) in _MODELS.items()}
_LOOK = ToolSpec("look", "Looks.", {"type": "object", "properties": {"at": {"type": "integer"}}})
_RECALL = ToolSpec("recall_compacted", "Brings back.", {"type": "object", "properties": {}})
_SPARE = 700
"""Tokens that a note, and what is left of the newest results, may have."""


def run(full: bool) -> FigureResult:
    """A hundred thousand cases; small: twelve hundred."""
    cases = 100_000 if full else 1_200
    seen: Counter[str] = Counter()
    failures = anyio.run(_failures, cases, seen)
    return FigureResult(
        cases,
        tuple(failures),
        f"{seen['further']} more turns; {seen['compacted']} compacted ({seen['summary']} by a "
        f"summary, {seen['trim']} by rule, {seen['tool_results']} by results alone), "
        f"{seen['given up']} where nothing could leave, "
        f"{seen['not needed']} not needed; {seen['asked']} model calls, {seen['overflow']} after "
        f"an overflow, {seen['rejected']} plans rejected; {seen['bodies']} bodies legal in six "
        "protocols",
    )


async def _failures(cases: int, seen: Counter[str]) -> list[str]:
    """What does not hold."""
    found: list[str] = []
    for seed in range(cases):
        found += [f"seed {seed}: {why}" for why in await _Case(Random(seed), seen).faults()]
    return found


class _Case:
    """One session, one window, one keeper."""

    def __init__(self, chance: Random, seen: Counter[str]) -> None:
        self._seen = seen
        self._chance = chance
        self._ids = count()
        self._refused = maxsize
        self._session = random_session(chance)
        self._overflow = chance.random() < 0.15
        self._counter = ModelTokens("m")
        self._look_at(
            LLMRequest(
                (),
                "You are kind. " * chance.choice((1, 1, 20, 400)),
                tools=(_LOOK, _RECALL) if chance.random() < 0.5 else (_LOOK,),
                max_output_tokens=chance.choice((None, 100, 2000)),
            )
        )
        unknown = self._overflow and chance.random() < 0.5
        size = int(self._prompt * chance.choice((0.3, 0.6, 0.9, 1.2, 1.4)))
        self._window = None if unknown else max(50, size)
        self._keeper = Keeper(
            hostile_strategies(chance),
            counters=lambda _: self._counter,
            window_of=lambda _: self._window,
            output=1000,
            # What does not hang does not wait, so this is long enough for it.
            patience=0.0,
        )

    def _look_at(self, request: LLMRequest) -> None:
        """The session goes on from here; nothing has been asked or told."""
        self._request = msgspec.structs.replace(request, messages=self._session.view)
        self._prompt = self._counter.count_request(self._request).tokens
        self._model = HostileModel(self._chance)
        self._events: list[Transient] = []

    async def faults(self) -> list[str]:
        """What does not hold, of a compaction and of those that come after it."""
        found = await self._compacted()
        further = self._chance.choice((0, 0, 0, 0, 1, 3))
        while further and not found:
            goes_on(self._session, self._chance, further)
            self._look_at(self._request)
            self._seen["further"] += 1
            found += [f"later: {why}" for why in await self._compacted()]
            further -= 1
        return found

    async def _compacted(self) -> list[str]:
        keeper, request = self._keeper, self._request
        task = self._session.task
        large = await keeper.too_large(request, "m", task=task, overflow=self._overflow)
        if not large:
            self._seen["not needed"] += 1
            return []
        if self._overflow:
            self._refused = min(self._refused, self._prompt)
        asked = asked_of(task, self._events.append, ask=self._model, ids=self._ids)
        before = list(self._session.messages)
        change = await keeper.compact(request, self._session.view, asked, overflow=self._overflow)
        self._count(change)
        found = [] if self._model.asked <= 1 else [f"the model was asked {self._model.asked} times"]
        for asked_for in self._model.requests:
            found += self._illegal(asked_for, "the request for a summary")
            if asked_for.tools:
                found.append("the summariser is offered tools")
        if change is None:
            if before != self._session.messages:
                found.append("the view has changed although nothing came of it")
            if not any(isinstance(event, CompactionFailed) for event in self._events):
                found.append("nobody was told that nothing could leave")
            return found + self._given_up_too_early(before)
        return found + self._broken(before, change)

    def _count(self, change: ViewChanged | None) -> None:
        seen = self._seen
        seen["asked"] += self._model.asked
        seen["overflow"] += self._overflow
        seen["rejected"] += sum(isinstance(e, CompactionRejected) for e in self._events)
        seen["given up" if change is None else "compacted"] += 1
        if change is not None:
            seen[change.by] += 1

    def _broken(self, before: Sequence[Message], change: ViewChanged) -> list[str]:
        """What does not hold of the view that came out."""
        session = self._session
        try:
            session.apply(change)
        except IllegalRecord as illegal:
            return [str(illegal)]
        after = list(session.messages)
        found = [f"the view is illegal: {why}" for why in transcript_violations(after, stored=True)]
        there = {message.id: message for message in after}
        must_stay = {*session.task, *_pinned(before)}
        lost = [m.id for m in before if m.id in must_stay and there.get(m.id) != m]
        found += [f"{id} did not stay" for id in lost]
        found += _notes(before, after, change)
        found += self._too_large(after)
        request = msgspec.structs.replace(self._request, messages=session.view)
        return found + self._illegal(request, "the next request")

    def _too_large(self, after: Sequence[Message]) -> list[str]:
        counted = self._counter.count_message
        had = sum(map(counted, self._request.messages))
        has = sum(map(counted, after))
        if has >= had:
            return [f"it has {has} tokens, and had {had}"]
        whole = self._prompt - had + has
        if self._window is not None and not self._overflow:
            reserved = min(self._request.max_output_tokens or 1000, self._window // 2)
            if whole > max(self._window * 0.75, self._window - reserved) + 1:
                return [f"the prompt has {whole} tokens of a window of {self._window}"]
        return []

    def _given_up_too_early(self, view: Sequence[Message]) -> list[str]:
        """A summary of nothing and what must stay would have fitted, and something could leave."""
        counted = self._counter.count_message
        had = sum(map(counted, view))
        last = max(i for i, message in enumerate(view) if message.role != "tool")
        # What the session began with may stay as well.
        must_stay = {*self._session.task, *_pinned(view)}
        stays = [m for m in view[:last] if m.id in must_stay]
        stays += [m for m in view[:last] if m.role == "system"]
        first = next(m for m in view if m.role == "user" and m.name != "compact_note")
        least = sum(map(counted, {m.id: m for m in (*stays, first)}.values()))
        least += sum(_least(message, self._counter) for message in view[last:]) + _SPARE
        limit = min(self._window or self._prompt, self._refused)
        overhead = self._prompt - had
        if least < had and overhead + least < limit * 0.4:
            return [f"{overhead + least} of {limit} tokens would have been enough"]
        return []

    def _illegal(self, request: LLMRequest, what: str) -> list[str]:
        found: list[str] = []
        for name, codec in _CODECS.items():
            asked = msgspec.structs.replace(request, model=_MODELS[name][1])
            body = b"".join(codec.encode(asked, stream=False).body)
            decoded = msgspec.json.decode(body, type=dict[str, Any])
            found += [f"{what} in {name}: {why}" for why in CHECKERS[name](decoded, True)]
            self._seen["bodies"] += 1
        return found


def _pinned(view: Sequence[Message]) -> list[str]:
    """Ids of what is pinned: of those with one name, the newest."""
    pinned = [(m.id, m.meta["pinned"]) for m in view if m.meta and "pinned" in m.meta]
    newest = {name: id for id, name in pinned}
    return [id for id, name in pinned if not name or newest[name] == id]


def _least(message: Message, counter: ModelTokens) -> int:
    """What a message may be brought down to."""
    if message.role != "tool":
        return counter.count_message(message)
    results = [part for part in message.parts if isinstance(part, ToolResult)]
    short = tuple([ToolResult(r.call_id, (Text(r.text[:240]),)) for r in results])
    return counter.count_message(Message("tool", short)) + 20


def _notes(before: Sequence[Message], after: Sequence[Message], change: ViewChanged) -> list[str]:
    """The note is one, in place, and nothing ahead of it has moved."""
    notes = [i for i, message in enumerate(after) if message.name == "compact_note"]
    if change.cut is None:
        old = [message for message in before if message.name == "compact_note"]
        return [] if len(notes) == len(old) else ["a note came without a cut"]
    if len(notes) != 1:
        return [f"there are {len(notes)} notes"]
    at = notes[0]
    found = [] if after[at].text.strip() else ["the note is empty"]
    if [message.id for message in after[:at]] != list(change.kept):
        found.append("the note does not stand behind what is kept")
    if after[at + 1].id != change.cut:
        found.append("the note does not stand before the cut")
    place = next(i for i, message in enumerate(before) if message.id == change.cut)
    if [m.id for m in before[place:]] != [m.id for m in after[at + 1 :]]:
        found.append("what stands behind the cut has changed")
    return found
