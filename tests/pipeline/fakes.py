"""**Ports** that never suspend: with them the whole pipeline runs in one `coro.send(None)`.

Tools of one batch still run interleaved: `each` steps their coroutines by hand, in an order that
`choose` decides, and what they await inside yields to it. Ids, clock and order are deterministic.
"""

from __future__ import annotations

from collections import deque
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, TypeVar, cast

from llm_client.errors import LLMError
from llm_client.types import (
    LLMRequest,
    LLMResponse,
    Message,
    Part,
    StopReason,
    Text,
    ToolResult,
    Transcript,
    Usage,
)
from power_loop.errors import OverBudget
from power_loop.events import Transient
from power_loop.hooks import Diverted, HookPoint
from power_loop.pipeline.plan import Answer as Reply
from power_loop.pipeline.plan import RunPlan
from power_loop.pipeline.ports import (
    AskAside,
    AttemptFailed,
    ChildEnded,
    Found,
    Grant,
    InboxTake,
    Interrupted,
    Job,
    ToolTraits,
    Used,
)
from power_loop.runtime.stores.base import Steer
from power_loop.session.closing import result_message, told
from power_loop.session.machine import Session
from power_loop.session.outcome import (
    AwaitingApproval,
    BudgetExhausted,
    Completed,
    Outcome,
    PendingTools,
    WaitingForInput,
)
from power_loop.session.records import (
    CallWaiting,
    Record,
    RunClosed,
    ToolStarted,
    ViewChanged,
)

__all__ = ["Answer", "FakePorts", "FakeTool", "Killed", "Output"]

C = TypeVar("C")
R = TypeVar("R")

Answer = LLMResponse | LLMError | AttemptFailed | Callable[[LLMRequest], LLMResponse]
Output = str | ToolResult | Exception
Behaviour = Output | Callable[[ToolStarted], Output]


PLAIN = ToolTraits()
FAR_TOO_MANY = 10_000
SPEECHLESS = LLMResponse((Text("(nothing left to say)"),), StopReason.END)


class Killed(BaseException):
    """The process dies here."""


class _BrokenOff(BaseException):
    """The work is left here."""

    def __init__(self, told: Interrupted) -> None:
        super().__init__()
        self.told = told


class _Pause:
    """Lets another tool of the batch go on."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class FakeTool:
    """A tool: what it is, and what its runs give; the last one is repeated.

    One that `reconciles` finds out `found`, or what that gives for the call that is asked about.
    """

    def __init__(
        self,
        *outputs: Behaviour,
        traits: ToolTraits = PLAIN,
        found: Found | Callable[[ToolStarted], Found] = "cannot_tell",
    ) -> None:
        self.outputs = deque(outputs or ("ok",))
        self.traits = traits
        self.found: Found | Callable[[ToolStarted], Found] = found

    def next(self, started: ToolStarted) -> Output:
        """What the next run gives."""
        output = self.outputs.popleft() if len(self.outputs) > 1 else self.outputs[0]
        return output(started) if callable(output) else output


class FakePorts:
    """Everything that the pipeline asks of the world, scripted.

    Attributes:
        log: all records, in order; the first `durable` of them would survive the process.
        effects: every tool run that was begun, as (call id, name, arguments).
        reconciled: every call that a tool was asked about, as (idempotency key, attempt).
        requests: every request to the model.
        fired: every firing of a hook point, as (name, context).
        steps: calls of ports so far; `kill_at` is the one at which the process dies, `arrives`
            says what is posted at which.
        refusals: how often a close is refused because of something that is gone when one looks.
        summarises: the model is asked for what replaces a part of the view.
        shortens: the view is compacted only when the provider has refused the prompt as too large.
        remembers: the model is asked about a run that is about to complete.
    """

    def __init__(
        self,
        answers: Iterable[Answer] = (),
        tools: Mapping[str, FakeTool] | None = None,
        hooks: Mapping[HookPoint[Any, Any], Callable[[Any], Any]] | None = None,
        *,
        plan: RunPlan | None = None,
        log: Sequence[Record] = (),
        inbox: Iterable[Message | Steer | str] = (),
        compact: Callable[[Transcript], ViewChanged | None] | None = None,
        recall: Callable[[Transcript], tuple[Message, ...]] | None = None,
        choose: Callable[[int], int] = lambda _: 0,
        prefix: str = "i",
    ) -> None:
        self.session = Session("s", log)
        self.plan = plan or RunPlan(template=LLMRequest(()), model="m")
        self.deps: Any = {"who": "ada"}
        self.compacts = compact is not None
        self.recalls = recall is not None
        self.remembers = False
        self.summarises = False
        self.shortens = False
        self.log: list[Record] = list(log)
        self.durable = len(self.log)
        self.requests: list[LLMRequest] = []
        self.effects: list[tuple[str, str, str]] = []
        self.reconciled: list[tuple[str, int]] = []
        self.fired: list[tuple[str, Any]] = []
        self.events: list[Transient] = []
        self.sleeps: list[float] = []
        self.steps = 0
        self.kill_at: int | None = None
        self.arrives: dict[int, Message | Steer | str] = {}
        self.refusals = 0
        self.paces = 0
        self.limited = False
        self.responds = False
        self.epoch = 1_000_000.0
        self.budget: Callable[[LLMRequest], Grant | BudgetExhausted] = Grant
        self.reserved: list[tuple[str, bool]] = []
        self.tool_calls = FAR_TOO_MANY
        self.respondent: Callable[[CallWaiting], Reply | None] = lambda _: None
        self.children: list[str] = []
        self.child_ends: deque[ChildEnded] = deque()
        self.at_most = 0
        self.random_number = 0.5
        self.hooks: dict[str, Callable[[Any], Any]] = {
            point.name: handler for point, handler in (hooks or {}).items()
        }
        self.tools = dict(tools or {})
        self._answers = deque(answers)
        self._inbox: dict[str, Steer | str] = {}
        self._posted = 0
        self._takes: list[tuple[int, str, Steer | str]] = []
        self._calm: frozenset[str] = frozenset()
        self._finished: dict[str, Message] = {}
        self._compact = compact
        self._recall = recall
        self.choose: Callable[[int], int] = choose
        self._ids = 0
        self._prefix = prefix
        self._clock = 100.0
        self._side_by_side = False
        self._running = 0
        for item in inbox:
            self.post(item)
        # As for a run that carries on what was suspended: nothing was going on to be interrupted.
        if self.session.run is None:
            self._calm = frozenset(self._inbox)

    # ── for tests ─────────────────────────────────────────────────────────────────────────────────

    def post(self, item: Message | Steer | str) -> None:
        """Puts a message, or a reason to cancel, into the inbox."""
        self._posted += 1
        self._inbox[f"item{self._posted}"] = Steer(item) if isinstance(item, Message) else item

    def left(self, durable: int) -> list[Steer]:
        """The messages that wait once only the first `durable` records have survived, in order."""
        back = [(key, item) for at, key, item in self._takes if at > durable]
        waiting = sorted((*self._inbox.items(), *back), key=lambda pair: int(pair[0][4:]))
        return [item for _, item in waiting if isinstance(item, Steer)]

    def waiting(self) -> int:
        """How many items wait in the inbox."""
        return len(self._inbox)

    def names(self, *, contexts: bool = False) -> list[Any]:
        """The hook points fired so far."""
        return [pair if contexts else pair[0] for pair in self.fired]

    def of(self, kind: type[C]) -> list[C]:
        """The records of one type, in order."""
        return [record for record in self.log if isinstance(record, kind)]

    def results(self) -> dict[str, str]:
        """The results in view, by call id."""
        return {
            part.call_id: part.text
            for message in self.session.view
            for part in message.parts
            if isinstance(part, ToolResult)
        }

    def _step(self) -> None:
        self.steps += 1
        assert self.steps < FAR_TOO_MANY, "the pipeline goes round in circles"
        if self.steps in self.arrives:
            self.post(self.arrives[self.steps])
        if self.steps == self.kill_at:
            raise Killed

    # ── plain ports ───────────────────────────────────────────────────────────────────────────────

    def now(self) -> float:
        """Time passes only in `sleep`."""
        return self._clock

    def wall_clock(self) -> float:
        """Time passes only where a test says so."""
        return self.epoch

    def new_id(self) -> str:
        """Counted."""
        self._ids += 1
        return f"{self._prefix}{self._ids}"

    def random(self) -> float:
        """Always the same."""
        return self.random_number

    def emit(self, event: Transient, /) -> None:
        """Kept."""
        self.events.append(event)

    def tool(self, name: str) -> ToolTraits | None:
        """As scripted."""
        tool = self.tools.get(name)
        return None if tool is None else tool.traits

    def finished(self) -> Mapping[str, Message]:
        """Messages with results that no settlement holds yet."""
        return self._finished

    def interrupted(self) -> bool:
        """Whether a message waits that cannot wait."""
        return any(
            isinstance(item, Steer) and item.mode == "interrupt" and key not in self._calm
            for key, item in self._inbox.items()
        )

    async def sleep(self, seconds: float) -> None:
        """Moves the clock."""
        self._step()
        self.sleeps.append(seconds)
        self._clock += seconds
        if self.interrupted():
            raise _BrokenOff(Interrupted())

    async def pace(self) -> None:
        """Counted."""
        self.paces += 1

    # ── hooks ─────────────────────────────────────────────────────────────────────────────────────

    def listens(self, point: HookPoint[C, R]) -> bool:
        """Whether a handler was given."""
        return point.name in self.hooks

    async def fire(
        self,
        point: HookPoint[C, R],
        context: C,
        passes: Callable[[Diverted[C, R]], bool] | None = None,
    ) -> C | Diverted[C, R]:
        """Runs the one handler, named as its point, and insists on what that allows."""
        self._step()
        assert point.name in self.hooks, f"{point.name} was fired, but nobody listens"
        assert type(context) is point.context
        self.durable = len(self.log)
        self.fired.append((point.name, context))
        await self._pause()
        answer = self.hooks[point.name](context)
        if answer is None:
            return context
        if type(answer) is point.context:
            return answer
        assert isinstance(answer, point.directives), f"{answer} is illegal at {point.name}"
        diverted = Diverted(cast("R", answer), point.name, context)
        return context if passes is not None and passes(diverted) else diverted

    # ── records ───────────────────────────────────────────────────────────────────────────────────

    async def commit(self, *records: Record, later: bool = False, take: Sequence[str] = ()) -> None:
        """Applies at once; durable at once, or with the next that waits."""
        self._step()
        self.session.apply(*records)
        self.log.extend(records)
        for item in take:
            self._takes.append((len(self.log), item, self._inbox.pop(item)))
        if not later:
            await self._pause()
            self.durable = len(self.log)

    async def close(self, outcome: Outcome) -> bool:
        """As the contract of the port says."""
        self._step()
        cancels = [key for key, item in self._inbox.items() if isinstance(item, str)]
        if self.refusals:
            self.refusals -= 1
            return False
        if isinstance(outcome, Completed) and self._inbox:
            return False
        suspends = isinstance(outcome, AwaitingApproval | WaitingForInput | PendingTools)
        if suspends and (cancels or self.interrupted()):
            return False
        record = RunClosed(self.session.run or "", outcome)
        self.session.apply(record)
        self.log.append(record)
        self.durable = len(self.log)
        for key in cancels:
            del self._inbox[key]
        return True

    async def drain(self) -> InboxTake:
        """Everything that waits."""
        self._step()
        said = [(key, item) for key, item in self._inbox.items() if isinstance(item, Steer)]
        due = [(key, item.message) for key, item in said if item.mode != "when_idle"]
        idle = [(key, item.message) for key, item in said if item.mode == "when_idle"]
        reasons = [item for item in self._inbox.values() if isinstance(item, str)]
        return InboxTake(
            tuple([message for _, message in due]),
            tuple([key for key, _ in due]),
            reasons[-1] if reasons else None,
            tuple([message for _, message in idle]),
            tuple([key for key, _ in idle]),
        )

    # ── model and tools ───────────────────────────────────────────────────────────────────────────

    def left_call(self) -> Interrupted:
        """Nothing had arrived."""
        return Interrupted()

    def estimate(self, request: LLMRequest, response: LLMResponse) -> Usage:
        """Nothing is known here."""
        return response.usage

    async def breakable(self, work: Callable[[], Awaitable[R]]) -> R | Interrupted:
        """Ends `work` where it is interrupted."""
        try:
            return await work()
        except _BrokenOff as broken:
            return broken.told

    async def ask(
        self, request: LLMRequest, attempt: str, within: float | None = None
    ) -> LLMResponse | AttemptFailed:
        """The next scripted answer, to a request that was recorded first."""
        if self.interrupted():
            raise _BrokenOff(Interrupted())
        self._step()
        asked = self.session.asked
        assert asked is not None
        assert asked.attempt == attempt
        assert self.durable == len(self.log), "the model is asked before that is durable"
        assert (within is not None) == bool(asked.purpose), "an aside is bounded, nothing else is"
        self.requests.append(request)
        answer = self._answers.popleft() if self._answers else SPEECHLESS
        if self.interrupted():
            words = answer.text if isinstance(answer, LLMResponse) else ""
            part = words[: len(words) // 2]
            raise _BrokenOff(Interrupted(part, Usage(3, 1), measured=False))
        match answer:
            case LLMError():
                return AttemptFailed(answer)
            case AttemptFailed() | LLMResponse():
                return answer
            case _:
                return answer(request)

    async def use(self, started: ToolStarted) -> Used:
        """Runs a scripted tool that was recorded first."""
        self._step()
        assert started in self.log[: self.durable], "a tool runs before its start is durable"
        self._finished.pop(started.call_id, None)
        if self.interrupted():
            return _stopped(started.call_id)
        self.effects.append((started.call_id, started.name, started.arguments))
        await self._pause()
        self._step()
        if self.interrupted():
            return _stopped(started.call_id)
        output = self.tools[started.name].next(started)
        used = _used(started.call_id, output)
        self._finished[started.call_id] = result_message(used.result, used.meta)
        await self._pause()
        return used

    async def reserve(
        self, request: LLMRequest, attempt: str, *, new_round: bool, within: float | None = None
    ) -> Grant | BudgetExhausted | None:
        """As scripted; what was asked for is kept."""
        self._step()
        self.reserved.append((attempt, new_round))
        await self._pause()
        return self.budget(request)

    def cost(self, model: str, usage: Usage) -> float:
        """A dollar for each model call."""
        del model, usage
        return 1.0

    def spend_tool_call(self, call_id: str, *, child: bool) -> BudgetExhausted | None:
        """As many as were given."""
        del call_id, child
        self.tool_calls -= 1
        return None if self.tool_calls >= 0 else BudgetExhausted("run.tool_calls")

    async def respond(self, waiting: CallWaiting) -> Reply | None:
        """As scripted."""
        self._step()
        self.durable = len(self.log)
        await self._pause()
        return self.respondent(waiting)

    async def child(self, started: ToolStarted) -> ChildEnded:
        """As scripted: what a session below comes to each time it is run."""
        self._step()
        self.children.append(started.call_id)
        await self._pause()
        return self.child_ends.popleft()

    async def reconcile(self, started: ToolStarted) -> Found:
        """Asks a scripted tool about a call in doubt."""
        self._step()
        tool = self.tools[started.name]
        assert tool.traits.reconciles, "a tool is asked that cannot be"
        assert self.session.open_calls[started.call_id].state == "in_doubt"
        self.reconciled.append((started.idempotency_key, started.attempt))
        found: Found = tool.found(started) if callable(tool.found) else tool.found
        self._step()
        if isinstance(found, Used):
            self._finished[started.call_id] = result_message(found.result, found.meta)
        return found

    def slot(self) -> AbstractAsyncContextManager[Any]:
        """A place; how many were taken at once is kept."""
        return self._slot()

    @asynccontextmanager
    async def _slot(self) -> AsyncGenerator[None]:
        self._running += 1
        self.at_most = max(self.at_most, self._running)
        try:
            await self._pause()
            yield
        finally:
            self._running -= 1

    async def each(self, jobs: Sequence[Job]) -> None:
        """Steps the jobs one at a time, exclusive ones alone, until all are done or one breaks."""
        self._finished.clear()
        together: list[Job] = []
        for job in jobs:
            if not job.exclusive:
                together.append(job)
            elif not (self._interleaved(together) and self._interleaved([job])):
                return
            else:
                together = []
        self._interleaved(together)

    def _interleaved(self, jobs: Sequence[Job]) -> bool:
        running = [cast("Coroutine[Any, Any, bool]", job.run()) for job in jobs]
        self._side_by_side = True
        try:
            while running:
                job = running[self.choose(len(running))]
                try:
                    job.send(None)
                except StopIteration as done:
                    running.remove(job)
                    if not done.value:
                        return False
        finally:
            for job in running:
                job.close()
            self._side_by_side = False
        return True

    async def _pause(self) -> None:
        if self._side_by_side:
            await _Pause()

    # ── the rest ──────────────────────────────────────────────────────────────────────────────────

    async def condense(self, results: Sequence[Message], ask: AskAside) -> ViewChanged | None:
        """A summary for each."""
        self._step()
        replaced: dict[str, tuple[Part, ...]] = {}
        for message in results:
            with suppress(LLMError, OverBudget):
                said = await ask(LLMRequest((Message.user("sum it up"),)), within=9.0)
                (result,) = [part for part in message.parts if isinstance(part, ToolResult)]
                text = Text(f"[summary] {said.text}")
                replaced[message.id] = (ToolResult(result.call_id, (text,), result.is_error),)
        return ViewChanged(replaced=replaced, by="output") if replaced else None

    async def too_large(self, request: LLMRequest, *, overflow: bool) -> bool:
        """Always, or, if it `shortens`, when the provider says so."""
        return overflow == self.shortens

    async def compact(
        self, request: LLMRequest, ask: AskAside, *, overflow: bool
    ) -> ViewChanged | None:
        """As scripted."""
        self._step()
        assert self._compact is not None
        if self.summarises:
            with suppress(LLMError, OverBudget):
                await ask(LLMRequest((Message.user("sum it up"),)), within=9.0)
        return self._compact(self.session.view)

    async def remember(self, ask: AskAside) -> None:
        """Asks the model what is worth it."""
        self._step()
        with suppress(LLMError, OverBudget):
            await ask(LLMRequest((Message.user("what matters?"),)), within=9.0)

    async def recall(self, view: Transcript) -> tuple[Message, ...]:
        """As scripted."""
        self._step()
        assert self._recall is not None
        return self._recall(view)


def _stopped(call_id: str) -> Used:
    part = told(call_id, "interrupted").message.parts[0]
    assert isinstance(part, ToolResult)
    return Used(part, how="interrupted")


def _used(call_id: str, output: Output) -> Used:
    match output:
        case ToolResult():
            return Used(output)
        case str():
            return Used(ToolResult(call_id, (Text(output),)))
        case Exception():
            return Used(ToolResult(call_id, (Text(str(output)),), is_error=True), output)
