"""Random worlds: whatever models, tools, hooks, people and deaths do, the session stays legal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_client.types import Message
from power_loop.runtime.stores.base import Steer
from power_loop.session.machine import Session
from power_loop.session.outcome import Failed, Outcome
from power_loop.session.records import (
    CallAnswered,
    MessageAppended,
    Record,
    RunClosed,
    RunOpened,
    ToolSettled,
    ToolStarted,
)
from tests.pipeline.chaos import World, is_idempotent
from tests.pipeline.fakes import FakePorts, Killed
from tests.pipeline.scripts import run, send, succeed
from tests.session.checker import transcript_violations, violations

PROCESSES = 4


def live(world: World) -> tuple[FakePorts, list[FakePorts]]:
    """A session through several processes, some of which die; the last one and all of them."""
    log: list[Record] = []
    inbox: list[Steer] = []
    lived: list[FakePorts] = []
    for number in range(PROCESSES):
        io = world.ports(log, inbox)
        lived.append(io)
        last = number == PROCESSES - 1
        io.kill_at = None if last or world.sometimes(2) else world.random.randrange(1, 50)
        try:
            run(io, next_step(io))
        except Killed:
            # What had not reached the disk is gone, if the process was unlucky.
            log = io.log if world.sometimes(2) else io.log[: io.durable]
        else:
            log = io.log
        inbox = io.left(len(log))
    return lived[-1], lived


def next_step(io: FakePorts) -> Callable[[FakePorts], Outcome]:
    """What a caller can do with a session in this state."""
    s = io.session
    if s.run is not None or s.open_calls:
        return succeed
    resumable = s.last_outcome is not None and s.last_outcome.resumable
    return succeed if resumable and io.random_number < 0.5 else send


def appended(log: list[Record]) -> list[Message]:
    """Every message that was ever appended, in the order of the log."""
    messages: list[Message] = []
    for record in log:
        match record:
            case RunOpened(input=input):
                messages.extend(input)
            case MessageAppended(message=message) | ToolSettled(message=message):
                messages.append(message)
            case _:
                pass
    return messages


def check_said(lived: list[FakePorts], log: list[Record]) -> None:
    """What was said is in the log once, or still waits: whatever died, and whenever."""
    said = Counter(message.text for message in appended(log) if message.text.startswith("by the "))
    left = Counter(item.message.text for item in lived[-1].left(len(log)))
    for io in lived:
        for step, item in io.arrives.items():
            if isinstance(item, Steer) and step <= io.steps:
                words = item.message.text
                assert said[words] + left[words] == 1, words
    assert all(
        record.message.meta is None or not record.message.tool_calls
        for record in log
        if isinstance(record, MessageAppended) and record.message.meta == {"interrupted": "true"}
    )


def check_effects(world: World, lived: list[FakePorts], log: list[Record]) -> None:
    """Nothing ran that must not, or more often than it may."""
    effects = [effect for io in lived for effect in io.effects]
    for call_id, name, arguments in effects:
        assert name != "nobody"
        assert arguments not in world.cut, f"{call_id} was cut off, and was run"
        assert isinstance(msgspec.json.decode(arguments), dict)
    starts = Counter[tuple[str, str]]()
    of_run = ""
    for record in log:
        if isinstance(record, RunOpened):
            of_run = record.run
        elif isinstance(record, ToolStarted):
            starts[record.call_id, of_run] += 1
    assert all(count <= 2 for count in starts.values()), "retried more than once in a run"
    total = Counter(call_id for call_id, _ in starts.elements())
    ran = Counter(call_id for call_id, _, _ in effects)
    assert all(ran[call_id] <= total[call_id] for call_id in ran)


def check_doubts(world: World, log: list[Record]) -> None:
    """What was lost ran again only if its tool is idempotent, or if somebody had said that it may;
    what a dead process had begun is never told as interrupted."""
    begun: dict[str, tuple[str, ToolStarted]] = {}
    leave: set[str] = set()
    of_run = ""
    for record in log:
        match record:
            case RunOpened():
                of_run = record.run
            case CallAnswered(call_id=call_id, answer="approve"):
                leave.add(call_id)
            case ToolStarted(call_id=call_id):
                run_before, before = begun.get(call_id, (of_run, record))
                if run_before != of_run and call_id not in leave and not is_idempotent(record.name):
                    assert (call_id, before.attempt) in world.cleared
                begun[call_id] = of_run, record
                leave.discard(call_id)
            case ToolSettled(how="interrupted", message=message):
                assert begun[message.id.removesuffix(".result")][0] == of_run
            case ToolSettled(how="unknown", message=message):
                assert begun[message.id.removesuffix(".result")][0] != of_run
            case _:
                pass


@given(st.integers(0, 2**64 - 1))
@settings(max_examples=800, deadline=None)
def test_no_world_makes_a_session_illegal(seed: int) -> None:
    """Several runs, with deaths in between; each run closes exactly once."""
    check_world(seed)


def check_world(seed: int) -> None:
    """Lives a world to its end and judges all of it."""
    # A seed, and not a source that hypothesis could shrink: worlds are long, and this is ten times
    # as fast. `check_world(seed)` repeats a failure.
    world = World(Random(seed))
    last, lived = live(world)
    log = last.log
    assert violations(log, closed=True) == []
    check_doubts(world, log)
    opened = [record.run for record in log if isinstance(record, RunOpened)]
    closed = [record.run for record in log if isinstance(record, RunClosed)]
    assert opened == closed
    for io in lived:
        for request in io.requests:
            assert transcript_violations(request.messages, stored=True) == []
    check_effects(world, lived, log)
    check_said(lived, log)
    folded = Session("s", [msgspec.json.decode(msgspec.json.encode(r), type=type(r)) for r in log])
    assert folded.phase is last.session.phase
    assert list(folded.view) == list(last.session.view)
    # What a driver would append after an exception, no hook has seen.
    repaired = any(isinstance(r, RunClosed) and isinstance(r.outcome, Failed) for r in log)
    if (
        world.appended
        and not repaired
        and len(lived[0].log)
        and not any(io.kill_at for io in lived)
    ):
        assert {message.id for message in appended(log)} <= world.appended
