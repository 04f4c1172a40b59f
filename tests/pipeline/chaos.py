"""Random worlds for the pipeline: models, tools, hooks, people and deaths, from one `Random`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from random import Random
from typing import Any, get_args

from msgspec.structs import replace

from llm_client.errors import BadRequest, ContextOverflow, RateLimited, ServerError, Timeout
from llm_client.retry import RetryPolicy
from llm_client.types import (
    LLMResponse,
    Message,
    Part,
    Seal,
    StopReason,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Transcript,
    Usage,
)
from power_loop.agent.answers import answer, approve, by_token, deny
from power_loop.errors import ToolError
from power_loop.hooks import (
    POINTS,
    SESSION_END,
    Break,
    Continue,
    HookPoint,
    RequestInput,
    Retry,
    ShortCircuit,
    Skip,
    Suspend,
)
from power_loop.pipeline.plan import Answer as Reply
from power_loop.pipeline.plan import Verdict
from power_loop.pipeline.ports import AttemptFailed, Found, ToolTraits, Used
from power_loop.runtime.stores.base import Steer, SteerMode
from power_loop.session.outcome import BudgetExhausted, GoalReached, NoProgress, PlanFailed
from power_loop.session.records import Record, ToolStarted, ViewChanged
from power_loop.session.state import OpenCall
from power_loop.session.view import COMPACT_NOTE
from tests.pipeline.fakes import Answer, FakePorts, FakeTool, Output
from tests.pipeline.scripts import plan

__all__ = ["World", "is_idempotent"]

TEXTS = ("", "hello", "ünï 🎈", "half \ud800", "nul \x00", '{"a":1}')
ARGUMENTS = ("", "[1]", '"x"', '{"a', "null", '{"a":1,}')
STOPS = (StopReason.TOOL_CALLS, StopReason.END, StopReason.LENGTH, StopReason.CONTENT_FILTER)
MODES: tuple[SteerMode, ...] = get_args(SteerMode)
NAMES = ("read", "put", "alone", "flaky", "pay", "book", "sure", "nobody")
TRAITS = {
    "read": ToolTraits(),
    "put": ToolTraits(idempotent=True),
    "alone": ToolTraits(exclusive=True),
    "flaky": ToolTraits(),
    "pay": ToolTraits(external=True),
    "book": ToolTraits(reconciles=True),
    "sure": ToolTraits(idempotent=True, reconciles=True),
}


def is_idempotent(name: str) -> bool:
    """Whether a tool of these worlds may be run again."""
    return name in TRAITS and TRAITS[name].idempotent


ENDINGS = (
    None,
    GoalReached("it is so"),
    NoProgress("again"),
    PlanFailed("no steps"),
    BudgetExhausted("exit.tokens"),
)


class World:
    """One random world; `ports` is a process in it.

    Attributes:
        cut: arguments of calls that were last in an answer that was cut off.
        appended: ids of messages that message.append has seen, if it listens.
        cleared: what may be run again, as somebody has said: (call id, attempt that was lost).
    """

    def __init__(self, random: Random) -> None:
        self.random = random
        self.cut: set[str] = set()
        self.appended: set[str] = set()
        self.cleared: set[tuple[str, int]] = set()
        self.processes = 0
        self._marks = 0
        self._points = [point for point in POINTS if point is not SESSION_END and self.sometimes(4)]

    def sometimes(self, one_in: int) -> bool:
        """True once in `one_in` times."""
        return self.random.randrange(one_in) == 0

    # ── the model ─────────────────────────────────────────────────────────────────────────────────

    def response(self) -> LLMResponse:
        """What a model may answer, sound or not."""
        r = self.random
        parts: list[Part] = []
        if self.sometimes(5):
            parts.append(Thinking(r.choice(TEXTS), Seal("anthropic", "sig")))
        if self.sometimes(2):
            parts.append(Text(r.choice(TEXTS)))
        wanted = [self._call() for _ in range(r.choice((0, 0, 1, 1, 2, 3)))]
        stop = r.choice(STOPS) if wanted else StopReason.END
        if wanted and stop in (StopReason.LENGTH, StopReason.CONTENT_FILTER):
            self.cut.add(wanted[-1].arguments)
        refusal = r.choice(TEXTS) if self.sometimes(10) else None
        return LLMResponse((*parts, *wanted), stop, usage=Usage(3, 2), refusal=refusal)

    def _call(self) -> ToolCall:
        r = self.random
        self._marks += 1
        arguments = r.choice(ARGUMENTS) if self.sometimes(5) else f'{{"mark":{self._marks}}}'
        id = f"call{self._marks}"
        if self.sometimes(3):
            id = r.choice(
                ("", "c1", "c1.result", "c\x00", "run0.input", "i1", f"call{self._marks - 1}")
            )
        return ToolCall(id, r.choice(NAMES), arguments)

    def answer(self) -> Answer:
        """An answer, or a failure."""
        if not self.sometimes(4):
            return self.response()
        error = self.random.choice(
            (
                ServerError("503"),
                RateLimited("slow down", retry_after=1.0),
                Timeout("idle", phase="idle", seconds=1.0),
                ServerError("half \ud800"),
                BadRequest("no"),
                ContextOverflow("too long"),
            )
        )
        return AttemptFailed(error, self.random.choice(TEXTS))

    # ── tools and people ──────────────────────────────────────────────────────────────────────────

    def _tools(self) -> dict[str, FakeTool]:
        def output(started: ToolStarted) -> Output:
            if started.name == "flaky" and self.sometimes(2):
                return ToolError(self.random.choice(TEXTS))
            return self.random.choice(TEXTS)

        return {
            name: FakeTool(output, traits=traits, found=self._found)
            for name, traits in TRAITS.items()
        }

    def _found(self, started: ToolStarted) -> Found:
        match self.random.randrange(3):
            case 0:
                text = Text(self.random.choice(TEXTS))
                return Used(ToolResult(started.call_id, (text,)))
            case 1:
                self.cleared.add((started.call_id, started.attempt))
                return "never_happened"
            case _:
                return "cannot_tell"

    def _verdict(self, call: OpenCall) -> Verdict:
        match self.random.randrange(3):
            case 0:
                return ToolResult(call.call.id, (Text(self.random.choice(TEXTS)),))
            case 1:
                self.cleared.add((call.call.id, call.attempt))
                return "rerun"
            case _:
                return "unknown"

    def _reply(self, call: OpenCall) -> Reply:
        if call.kind == "input":
            return answer(call.token, "this one")
        return self.random.choice((approve, deny))(call.token)

    def _said(self, n: int) -> Steer | str:
        if self.sometimes(6):
            return "cancelled by somebody"
        id = "steer" if self.sometimes(3) else f"steer{self.processes}/{n}"
        words = f"by the way, {self.processes}/{n}"
        return Steer(Message("user", (Text(words),), id=id), self.random.choice(MODES))

    # ── hooks ─────────────────────────────────────────────────────────────────────────────────────

    def _hooks(self) -> Mapping[HookPoint[Any, Any], Callable[[Any], Any]]:
        return {point: self._handler(point) for point in self._points}

    def _handler(self, point: HookPoint[Any, Any]) -> Callable[[Any], Any]:
        def handle(context: Any) -> Any:
            if point.name == "message.append":
                self.appended.add(context.message.id)
            if self.sometimes(60):
                raise ValueError("a handler fails")
            if point.directives and self.sometimes(5):
                return self._directive(self.random.choice(point.directives), context)
            if point.rewrites and self.sometimes(3):
                return self._rewritten(point.name, context)
            return None

        return handle

    def _directive(self, kind: type[Any], context: Any) -> Any:
        if kind is ShortCircuit:
            return ShortCircuit(self.response())
        if kind is Continue:
            return Continue("more", 1) if context.fire_count < 3 else None
        if kind is RequestInput:
            return RequestInput("which one?")
        if kind is Break:
            return Break("enough", self.random.choice(ENDINGS))
        if kind is Suspend:
            return Suspend(ttl=self.random.choice((None, 1.0)), end_on_denial=self.sometimes(2))
        assert kind in (Skip, Retry)
        return kind()

    def _rewritten(self, point: str, context: Any) -> Any:
        note = Message(self.random.choice(("user", "system")), (Text("note"),), id="note")
        match point:
            case "session.start" | "round.start":
                return replace(context, append=(note,))
            case "llm.before":
                request = replace(context.request, messages=(*context.request.messages, note))
                return replace(context, request=request)
            case "llm.after":
                response = context.response.replace(parts=(*context.response.parts, Text("!")))
                return replace(context, response=response)
            case "tool.before":
                name = self.random.choice(NAMES)
                arguments = self.random.choice(("", '{"hooked":1}', "{"))
                return replace(context, name=name, arguments=arguments)
            case "tool.after":
                result = ToolResult(context.call.id, (Text(self.random.choice(TEXTS)),))
                return replace(context, result=result)
            case "memory.recalled":
                return replace(context, recalled=context.recalled[:1])
            case _:
                return replace(context, message=replace(context.message, meta={"a": "b"}))

    def _check(self, _: str) -> str | None:
        return None if self.sometimes(2) else "wrong"

    # ── the whole ─────────────────────────────────────────────────────────────────────────────────

    def _compact(self, view: Transcript) -> ViewChanged | None:
        old = max((i for i, m in enumerate(view) if m.name == COMPACT_NOTE), default=-1)
        cuts = [m.id for m in view[old + 1 :] if m.role != "tool"]
        if not cuts or not self.sometimes(3):
            return None
        self._marks += 1
        note = Message("user", (Text("so far"),), id=f"sum{self._marks}", name=COMPACT_NOTE)
        cut = self.random.choice(cuts)
        ahead = [m.id for m in takewhile(lambda m: m.id != cut, view) if _may_stay(m)]
        kept = tuple([id for id in ahead if self.sometimes(2)])
        return ViewChanged(cut, note, kept=kept, by="fold", before=9, after=3)

    def ports(self, log: Sequence[Record], inbox: Sequence[Steer] = ()) -> FakePorts:
        """A process with this session, and what waits for it."""
        r = self.random
        self.processes += 1
        io = FakePorts(
            [self.answer() for _ in range(r.randrange(10))],
            self._tools(),
            self._hooks(),
            plan=plan(
                max_rounds=r.randrange(1, 5),
                retry=RetryPolicy(max_attempts=r.randrange(1, 4)),
                check_output=self._check if self.sometimes(5) else None,
            ),
            log=log,
            inbox=inbox,
            compact=self._compact if self.sometimes(3) else None,
            recall=(lambda _: (Message.user("tea"),) * 2) if self.sometimes(3) else None,
            choose=r.randrange,
            prefix=f"p{self.processes}-" if log else "i",
        )
        io.random_number = r.random()
        io.summarises, io.remembers, io.shortens = map(self.sometimes, (2, 3, 4))
        io.plan = replace(io.plan, recall_at_front=self.sometimes(3))
        # Some approvals have expired when the next process comes.
        io.epoch += self.processes
        io.arrives = {r.randrange(1, 60): self._said(n) for n in range(r.randrange(3))}
        waiting = [c for c in io.session.open_calls.values() if c.state == "waiting"]
        answers = [self._reply(call) for call in waiting if self.sometimes(2)]
        calls = io.session.open_calls
        decisions = {id: self._verdict(c) for id, c in calls.items() if self.sometimes(3)}
        asks = r.choice(("tell", "ask"))
        io.plan = replace(io.plan, answers=by_token(answers), decisions=decisions, in_doubt=asks)
        return io


def _may_stay(message: Message) -> bool:
    return message.role in ("user", "system") and message.name != COMPACT_NOTE
