"""All that can happen to a session, as frozen values.

A session is the fold of its records. They are what is stored, what is published, and the only way
to change anything. Their tags and fields are a wire form; tests/session/test_wire_form.py pins it.
What is at its default is left out when written: a default, once given, must never change.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from llm_client.types import Message, OutputSchema, Part, StopReason, ToolSpec, Usage
from power_loop.session.outcome import Outcome
from power_loop.session.spent import Spent

__all__ = [
    "AT_BUDGET",
    "CallAnswered",
    "CallWaiting",
    "Decided",
    "ErrorInfo",
    "Forked",
    "MessageAppended",
    "ModelAsked",
    "ModelConfigured",
    "ModelEnded",
    "Purpose",
    "Recalled",
    "Record",
    "Rewound",
    "RunClosed",
    "RunOpened",
    "Settlement",
    "ToolSettled",
    "ToolStarted",
    "ViewChanged",
    "WaitKind",
]

AttemptStatus = Literal["ok", "failed", "cancelled", "lost"]
WaitKind = Literal["approval", "input", "child"]
Purpose = Literal["", "compaction", "memory", "output"]
"""What a model call is for: an answer, or something that the loop itself wants of the model: a
summary of what leaves the view, what is worth remembering, a summary of a tool's output."""
Settlement = Literal["finished", "interrupted", "not_run", "unknown", "denied", "skipped"]
"""What became of a call: it ran to its end (well or with an error); it was stopped midway; it was
never begun; its process died, so that nobody can know; a person said no; a hook answered in its
place."""


class ErrorInfo(Struct, frozen=True, omit_defaults=True, gc=False):
    """An error as it is stored: never a traceback, never a key.

    `retry_after` are the seconds that the provider asked to wait.
    """

    type: str
    message: str
    retryable: bool = False
    status: int | None = None
    retry_after: float | None = None


class RunOpened(Struct, frozen=True, omit_defaults=True, gc=False, tag="run_opened"):
    """A run begins: with `input`, or as the continuation of the run `resumes`.

    `parent` is the (session, call id) that a sub-agent works for. `limits` are the limits in force.
    """

    run: str
    input: tuple[Message, ...] = ()
    resumes: str | None = None
    dedupe_key: str | None = None
    parent: tuple[str, str] | None = None
    limits: dict[str, float] = {}


class ModelConfigured(Struct, frozen=True, omit_defaults=True, gc=False, tag="model_configured"):
    """What every request holds beside its messages, from here on. Written only when it differs.

    The fields are those of `LLMRequest`. Before the first one, all of them are at their defaults.
    """

    model: str | None = None
    system: str | None = None
    tools: tuple[ToolSpec, ...] = ()
    parallel_tool_calls: bool | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    output_schema: OutputSchema | None = None
    reasoning_effort: str | None = None
    cache: Literal["5m", "1h"] | None = None
    compact_at: int | None = None


class MessageAppended(Struct, frozen=True, omit_defaults=True, gc=False, tag="message_appended"):
    """A message enters the view.

    `attempt` is the model call that an answer came from, `item` the inbox item that brought it.
    `when_idle`: it had waited until the run would have ended.
    """

    message: Message
    attempt: str | None = None
    item: str = ""
    when_idle: bool = False


class ModelAsked(Struct, frozen=True, omit_defaults=True, gc=False, tag="model_asked"):
    """A model call is about to be made; `reserved` tokens are set aside for it.

    Of these, `reserved_output` are for the answer. `reserved_cost` are US dollars. If nobody sees
    the end of the call, it is taken to have used all of that. Nothing is set aside without a limit.

    `request` is a digest of the request, where a hook had changed it; otherwise the view, what was
    recalled and what is configured say what was asked.

    A call that has a `purpose` is no part of the conversation: its answer enters no view.
    """

    attempt: str
    round: int
    model: str
    reserved: int = 0
    request: str = ""
    reserved_output: int = 0
    reserved_cost: float = 0.0
    purpose: Purpose = ""


class ModelEnded(Struct, frozen=True, omit_defaults=True, gc=False, tag="model_ended"):
    """A model call is over. Any status but ok voids the deltas of its attempt.

    `measured` is False when `usage` is an estimate. `partial` is the text that had arrived when the
    attempt ended early; it is not part of the view. `cost` are US dollars, where a limit made
    somebody look up the price.
    """

    attempt: str
    status: AttemptStatus
    usage: Usage = Usage()
    measured: bool = True
    stop_reason: StopReason | None = None
    raw_finish: str | None = None
    model: str | None = None
    partial: str = ""
    error: ErrorInfo | None = None
    cost: float = 0.0


class ToolStarted(Struct, frozen=True, omit_defaults=True, gc=False, tag="tool_started"):
    """A call is about to run. Durable before the tool is touched.

    `idempotency_key` is the same for every attempt of one call. `name` and `arguments` are what
    runs, after hooks.
    """

    call_id: str
    name: str
    arguments: str
    idempotency_key: str
    args_hash: str
    attempt: int = 1


class ToolSettled(Struct, frozen=True, omit_defaults=True, gc=False, tag="tool_settled"):
    """A call is over: `message` is its result, as the model will read it."""

    message: Message
    how: Settlement = "finished"


class CallWaiting(Struct, frozen=True, omit_defaults=True, gc=False, tag="call_waiting"):
    """A call waits for an approval, an answer, or a child session.

    An approval is for exactly this: a call of `name` with `arguments`, whose `args_hash` is that of
    their canonical form, asked for by the handler `by`, under its rule `version`, while the world
    was as the digest `world` says, until `expires` (seconds since the epoch). What waits for an
    answer takes one that fits `schema`, a JSON Schema as text. A child's token is its session's id.
    """

    call_id: str
    kind: WaitKind
    token: str
    reason: str = ""
    name: str = ""
    arguments: str = ""
    args_hash: str = ""
    by: str = ""
    version: str = ""
    world: str = ""
    created: float = 0.0
    expires: float | None = None
    end_on_denial: bool = False
    schema: str = ""


class CallAnswered(Struct, frozen=True, omit_defaults=True, gc=False, tag="call_answered"):
    """What a call waited for has come.

    To an approval the `answer` is "approve", "deny", or "expired": then the call is to be decided
    on anew. `by` says who answered, `note` why. `arguments` are those that were approved in place
    of what was asked for. `spent` is all that a child has used.
    """

    call_id: str
    token: str
    answer: str
    by: str = ""
    note: str = ""
    arguments: str = ""
    args_hash: str = ""
    spent: Spent | None = None


AT_BUDGET = "budget"
"""Where a budget decides, in `Decided`: it says `bounded` of the model call that is asked next, and
is stored with it; or `refused` of a call of a tool."""


class Decided(Struct, frozen=True, omit_defaults=True, gc=False, tag="decided"):
    """Something beside the model has decided how the session goes on. It changes nothing itself;
    a call that is to `retry` may wait for leave to be run again.

    `at` is where: a hook point, `budget`, `approval`. `by` is who: a handler, a policy, a limit.
    `what` is its word: `break`, `skip`, `suspend`, `refused` …
    """

    at: str
    by: str
    what: str
    reason: str = ""
    call_id: str = ""


class Recalled(Struct, frozen=True, omit_defaults=True, gc=False, tag="recalled"):
    """What memory brought up for this run. It accompanies requests; it is not history.

    It stands after the view, or before it if `front` says so.
    """

    messages: tuple[Message, ...]
    front: bool = False


class ViewChanged(Struct, frozen=True, omit_defaults=True, gc=False, tag="view_changed"):
    """The model's view of history changes; history itself does not.

    Everything before the message `cut` leaves the view, but the messages `kept`, and `note` takes
    its place, behind those; `replaced` gives messages that stay a shorter form.

    `by` is the strategy of compaction that has found this, "" where something else had to leave
    the view. `before` and `after` are the tokens that the prompt had and has, as counted.
    """

    cut: str | None = None
    note: Message | None = None
    replaced: dict[str, tuple[Part, ...]] = {}
    kept: tuple[str, ...] = ()
    by: str = ""
    before: int = 0
    after: int = 0


class Rewound(Struct, frozen=True, omit_defaults=True, gc=False, tag="rewound"):
    """The view is again what it was after record `at`; history keeps what came since.

    The first `keep` messages of the view stay, and `restored` follows them.
    """

    at: int
    keep: int
    restored: tuple[Message, ...] = ()


class Forked(Struct, frozen=True, omit_defaults=True, gc=False, tag="forked"):
    """What stands before is a copy of the session `source` up to its record `at`.

    A run that was open there is over here: its calls stay open, and those that had begun are in
    doubt. Approvals that were asked for or given there are worth nothing here.
    """

    source: str
    at: int


class RunClosed(Struct, frozen=True, omit_defaults=True, gc=False, tag="run_closed"):
    """A run is over.

    `wall_seconds` is how long it was open, `working_seconds` the same without what it waited for
    people, rates and budgets; recorded where time is limited. `unheard` is what sessions below its
    calls have used that is in no `CallAnswered`, because nobody waited for them any longer.
    """

    run: str
    outcome: Outcome
    wall_seconds: float = 0.0
    working_seconds: float = 0.0
    unheard: Spent | None = None


Record = (
    RunOpened
    | ModelConfigured
    | MessageAppended
    | ModelAsked
    | ModelEnded
    | ToolStarted
    | ToolSettled
    | CallWaiting
    | CallAnswered
    | Decided
    | Recalled
    | ViewChanged
    | Rewound
    | Forked
    | RunClosed
)
