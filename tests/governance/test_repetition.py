"""The guard against repetition: what it says, by which degrees, and that it needs no memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_client.errors import AuthenticationFailed
from llm_client.types import LLMRequest, Message, Text, ToolCall, ToolResult
from power_loop import AgentConfig, AgentLoop, JsonSchemaTool, MemoryStore, result_of
from power_loop.errors import UsageError
from power_loop.governance import NoProgress, Policies, Policy, RepetitionGuard, Stop
from power_loop.governance.cycles import repetition, stale_rounds
from power_loop.governance.rounds import REFUSED, Round, RoundReader
from power_loop.hooks import RoundStart
from power_loop.session import outcome
from tests.agent.scripted import Reply, Scripted, calls, fails, says
from tests.agent.support import check_log
from tests.governance.traces import Call, Player, Step, played

pytestmark = pytest.mark.anyio

READ = [Call("read", {"path": "a"}, "the same")]


def warnings(messages: Sequence[Message]) -> list[str]:
    return [m.text for m in messages if m.meta == {"policy": "repetition"}]


def refusals(messages: Sequence[Message]) -> list[str]:
    results = [m.parts[0] for m in messages if m.role == "tool"]
    return [r.text for r in results if isinstance(r, ToolResult) and r.text.startswith(REFUSED)]


async def test_a_model_is_warned_then_refused_then_stopped() -> None:
    """Each degree says what was repeated; the fourth repeat is not even run."""
    result, player = await played([READ] * 9, Policies(RepetitionGuard()))
    told = 'the same call with the same result: read({"path":"a"})'
    assert result.outcome == outcome.NoProgress(f"{told}, 3 times over")
    assert not result.resumable
    assert player.asked == 5
    assert [step for step, _ in player.ran] == [1, 2, 3]
    seen = player.llm.requests[-1].messages
    assert [told in text for text in warnings(seen)] == [True]
    assert [told in text for text in refusals(seen)] == [True]


async def test_a_replay_comes_to_the_same_degrees() -> None:
    """Nothing but the record is needed for it."""
    player = Player([READ] * 9)
    guard = Policies(RepetitionGuard())
    with anyio.fail_after(10):
        async with AgentLoop(player.llm, tools=player.tools(), extensions=[guard]) as loop:
            result = await loop.send("go")
            assert result.status == "no_progress"
            await check_log(loop, result.session_id)


async def test_the_degrees_can_be_set() -> None:
    """A patient guard warns and refuses later, and still stops."""
    guard = RepetitionGuard(warn=2, refuse=4, stop=5)
    result, player = await played([READ] * 12, Policies(guard))
    assert result.status == "no_progress"
    assert player.asked == 7
    assert [step for step, _ in player.ran] == [1, 2, 3, 4, 5]
    with pytest.raises(UsageError, match="warned, then refused, then stopped"):
        RepetitionGuard(warn=3, refuse=2)
    with pytest.raises(UsageError, match="warn must be a whole number from 1, not 0"):
        RepetitionGuard(warn=0)


async def test_a_model_that_heeds_the_warning_goes_on() -> None:
    """What was repeated before does not count once something new has come up."""
    other = [Call("read", {"path": "b"}, "something else")]
    steps: list[Step] = [READ, READ, other, READ, READ, [Call("write", {"to": "a"})]]
    result, player = await played(steps, Policies(RepetitionGuard()))
    assert result.status == "completed"
    assert refusals(player.llm.requests[-1].messages) == []


async def test_only_the_calls_that_repeat_are_refused() -> None:
    """One that is not among them runs, and then it is no repetition any more."""
    new = [READ[0], Call("write", {"to": "b"})]
    result, player = await played([READ, READ, READ, new], Policies(RepetitionGuard()))
    assert result.status == "completed"
    assert player.ran[-2:] == [(4, "read"), (4, "write")]


async def test_words_said_again_and_again_are_stopped() -> None:
    """After two warnings, because there is no call that could be refused."""
    text = "I have done all that you asked for, and there is nothing left to do for me here."
    result, player = await played([text] * 9, Policies(RepetitionGuard()))
    assert result.status == "no_progress"
    assert player.asked == 4
    assert len(warnings(player.llm.requests[-1].messages)) == 2
    assert isinstance(result.outcome, outcome.NoProgress)
    assert "the same answer without a call: 'I have done" in result.outcome.reason


async def test_what_was_said_to_another_task_is_no_repetition() -> None:
    """Whoever greets four times is greeted four times."""
    llm = Scripted(by=lambda _: Reply((Text("Hello! What can I do for you on this fine day?"),)))
    async with AgentLoop(llm, extensions=[Policies(RepetitionGuard())]) as loop:
        session = (await loop.send("hi")).session_id
        for _ in range(5):
            assert (await loop.send("hi", session)).status == "completed"
        await check_log(loop, session)


async def test_a_run_resumed_by_another_process_is_as_suspicious_as_before() -> None:
    """The degrees are read from the transcript: a new guard goes on where the old one was."""
    store = MemoryStore()

    async def read(values: dict[str, Any], context: Any) -> str:
        return "the same"

    def loop_of(rounds: int) -> AgentLoop[Any]:
        def reply(request: LLMRequest) -> Reply:
            number = sum(m.role == "assistant" for m in request.messages)
            return calls((f"c{number}", "read", {"path": "a"}))

        return AgentLoop(
            Scripted(by=reply),
            store=store,
            tools=[JsonSchemaTool("read", "Reads.", {"type": "object"}, read)],
            extensions=[Policies(RepetitionGuard(), Halted(rounds))],
            config=AgentConfig(max_rounds=50),
        )

    statuses: list[str] = []
    view: Sequence[Message] = ()
    with anyio.fail_after(20):
        async with loop_of(1) as loop:
            session = (await loop.send("go")).session_id
        for rounds in range(2, 9):
            async with loop_of(rounds) as loop:
                statuses.append((await loop.resume(session)).status)
                if statuses[-1] == "no_progress":
                    view = await loop.get_messages(session)
                    break
    assert statuses == ["stopped", "stopped", "stopped", "no_progress"]
    assert len(warnings(view)) == 1
    assert len(refusals(view)) == 1


class Halted(Policy):
    """Stops a run when the task has had so many rounds."""

    name = "halted"

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds

    def before_round(self, context: RoundStart[Any]) -> Stop | None:
        return Stop("halted") if context.round == self.rounds else None


async def test_a_warning_is_said_once_however_often_its_round_begins() -> None:
    """As when the model could not be reached, and the run is resumed."""
    player = Player([READ, READ])
    down = AuthenticationFailed("no key")
    llm = Scripted(*[calls((f"c{n}", "read", {"path": "a"})) for n in (1, 2)], fails(down))
    store, policies = MemoryStore(), Policies(RepetitionGuard())
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=player.tools(), store=store, extensions=[policies]) as loop:
            with pytest.raises(AuthenticationFailed) as caught:
                await loop.send("go")
            broken = result_of(caught.value)
            assert broken is not None
            session = broken.session_id
        llm = Scripted(says("I give up."))
        async with AgentLoop(llm, tools=player.tools(), store=store, extensions=[policies]) as loop:
            assert (await loop.resume(session)).status == "completed"
    assert len(warnings(llm.requests[0].messages)) == 1


async def test_declared_polling_is_not_looked_at() -> None:
    """By name, or by a function; beside it, other calls are."""
    poll = [Call("job_status", {"id": 1}, "running")]

    def is_polling(name: str) -> bool:
        return name.startswith("job_")

    for guard in (RepetitionGuard(polling=["job_status"]), RepetitionGuard(polling=is_polling)):
        result, _ = await played([poll] * 30, Policies(guard))
        assert result.status == "completed"
    result, _ = await played([poll] * 30, Policies(RepetitionGuard()))
    assert result.status == "no_progress"
    with pytest.raises(UsageError, match="polling needs names"):
        RepetitionGuard(polling=[""])


async def test_what_counts_of_arguments_and_results_can_be_said() -> None:
    """A counter among the arguments, or a time in the results, does not make them new."""
    ticking: list[Step] = [
        [Call("read", {"path": "a", "try": n}, f"3 failed in 0.{n} s")] for n in range(12)
    ]
    result, _ = await played(ticking, Policies(RepetitionGuard()))
    assert result.status == "completed"
    guard = RepetitionGuard(
        normalise=lambda name, values: {"path": values["path"]},
        alike=lambda name, text: text.split(" in ")[0],
    )
    result, _ = await played(ticking, Policies(guard))
    assert result.status == "no_progress"


async def test_no_progress_stops_without_a_warning() -> None:
    """As soon as its number of rounds in a row has brought nothing new."""
    steps: list[Step] = [READ, [Call("read", {"path": "b"}, "b")], *([READ] * 9)]
    result, player = await played(steps, Policies(NoProgress(2)))
    assert result.outcome == outcome.NoProgress("2 rounds in a row have brought nothing new")
    assert player.asked == 4
    assert all(m.meta is None for m in player.llm.requests[-1].messages)
    with pytest.raises(UsageError, match="from 1"):
        NoProgress(0)


# ── the pure part ─────────────────────────────────────────────────────────────────────────────────


def made(letters: str) -> list[Round]:
    """A round for each letter: the same letter, the same call and result."""
    return [Round(((each, "{}"),), (each,), "", ()) for each in letters]


@given(st.text("xyz", max_size=6), st.text("ABCD", min_size=1, max_size=4), st.integers(2, 4))
def test_a_cycle_is_found_whatever_was_before_it(before: str, cycle: str, times: int) -> None:
    """As many repeats as there are, or more if a shorter one is inside of it."""
    found = repetition(made(before + cycle * times))
    assert found is not None
    assert found.repeats >= times - 1
    assert {r.calls[0][0] for r in found.rounds} <= set(cycle)


@given(st.lists(st.integers(), unique=True, max_size=30))
def test_rounds_that_are_all_different_are_no_repetition(numbers: list[int]) -> None:
    """Whatever they are."""
    rounds = [Round((("t", str(n)),), ("ok",), "", ()) for n in numbers]
    assert repetition(rounds) is None
    assert stale_rounds(rounds) == 0


@given(st.text("AB", min_size=1, max_size=40))
def test_a_result_that_changes_is_progress(letters: str) -> None:
    """The same calls, in any order, with a result that is new each time."""
    rounds = [Round(((c, "{}"),), (n,), "", ()) for n, c in enumerate(letters)]
    assert repetition(rounds) is None


@given(st.text("ABCDE", max_size=60), st.integers(0, 60))
def test_nothing_is_read_beyond_the_window(letters: str, count: int) -> None:
    """However long the transcript is; and what has been read once is read the same again."""
    messages: list[Message] = []
    for n, letter in enumerate(letters):
        messages.append(Message("assistant", (ToolCall(f"c{n}", letter),), id=f"a{n}"))
        messages.append(Message("tool", (ToolResult(f"c{n}", (Text("ok"),)),), id=f"r{n}"))
    reader = RoundReader()
    read = reader.read("s", messages, count)
    tail = letters[max(0, len(letters) - count) :] if count else ""
    assert [r.calls[0][0] for r in read] == list(tail)
    assert reader.read("s", messages, count) == read
    assert RoundReader().read("s", messages, count) == read


class Growth:
    """A transcript that grows, is cut back and is compacted."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._ids = 0

    def _id(self) -> str:
        self._ids += 1
        return f"m{self._ids}"

    def do(self, what: str) -> None:
        """Asks, answers in words or by calls, brings the results, rewinds, compacts."""
        match what:
            case "ask":
                self.messages.append(Message("user", (Text("go on"),), id=self._id()))
            case "say":
                self.messages.append(Message("assistant", (Text("said"),), id=self._id()))
            case "call" | "poll":
                parts = (ToolCall("a", what, "{}"), ToolCall("b", "other", '{"n": 1}'))
                self.messages.append(Message("assistant", parts, id=self._id()))
            case "bring":
                parts = (ToolResult("a", (Text("A"),)), ToolResult("b", (Text("B"),)))
                self.messages.append(Message("tool", parts, id=self._id()))
            case "rewind":
                del self.messages[-3:]
            case _:
                kept = self.messages[len(self.messages) // 2 :]
                note = Message("user", (Text("what was before"),), id=self._id())
                self.messages = [note, *kept]


STEPS = ("ask", "say", "call", "poll", "bring", "rewind", "compact")


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 40)), max_size=120))
def test_what_is_read_step_by_step_is_what_is_read_at_once(steps: list[tuple[str, int]]) -> None:
    """A reader that has seen a session grow tells the same as one that sees it for the first time,
    also after a rewind and a compaction."""
    growth = Growth()
    reader = RoundReader(["poll"])
    for what, count in steps:
        growth.do(what)
        anew = RoundReader(["poll"]).read("s", growth.messages, count)
        assert reader.read("s", growth.messages, count) == anew


def test_a_long_session_is_not_kept_whole() -> None:
    """Only the rounds that may be asked for."""
    growth, reader = Growth(), RoundReader()
    for _ in range(500):
        growth.do("call")
        growth.do("bring")
        reader.read("s", growth.messages, 5)
    assert len(reader.read("s", growth.messages, 100)) == 100
