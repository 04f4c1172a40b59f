"""What the phases of one run share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgspec
from msgspec.structs import replace

from llm_client.types import Audio, File, Image, LLMRequest, Message, Part, Text, ToolResult
from power_loop.errors import HookError
from power_loop.events import RoundEnded, TextRepaired
from power_loop.hooks import MESSAGE_APPEND, ROUND_END, HookPoint, MessageAppend, RoundEnd
from power_loop.pipeline.decisions import heard
from power_loop.pipeline.ports import Ports
from power_loop.session.outcome import Outcome
from power_loop.session.records import MessageAppended, ToolSettled
from power_loop.session.text import is_sound, is_sound_message, repaired_part
from power_loop.session.view import COMPACT_NOTE

__all__ = [
    "Progress",
    "append_messages",
    "arguments_fault",
    "end_round",
    "filtered",
    "filtered_results",
    "from_hook",
    "repaired",
    "request_digest",
    "rewriting_fault",
    "where",
    "with_own_id",
]


_WELCOME = (
    "legal there: a tuple of messages of role user or system, "
    "with at least one part each: text, images, sounds, files"
)


class Progress:
    """How far one run has come, beyond what its session knows.

    Attributes:
        limit: rounds granted so far; hooks may grant more.
        skipped: rounds in which a hook kept the model from being asked; they count.
        deferred: messages of session.start that must wait for the results of a resumed batch.
        recalled: memory has been asked.
        remembered: id of the newest message when memory took note of the run.
        condensed: ids of results that were to be summarised.
        sent: the newest request, if there was one, and how many of its messages are to stay.
        reasks: wrong outputs given back so far.
        completions: how often the end has been put to complete.decide.
        ending: how the run ends, if a hook or a limit broke the batch off.
        denied: how the run ends once the calls are settled that nobody need answer, as somebody
            said no.
        expired: a request for approval that was answered too late.
        short: how the run ends if no call waits, as there was not enough for one.
        below: how the sessions below open calls have ended that can go on.
        suspended: all that this run can do about its open calls has been done.
        accepted: position of the log at which everybody had agreed that the run is complete.
    """

    __slots__ = (
        "accepted",
        "below",
        "completions",
        "condensed",
        "deferred",
        "denied",
        "ending",
        "expired",
        "limit",
        "reasks",
        "recalled",
        "remembered",
        "sent",
        "short",
        "skipped",
        "suspended",
    )

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.skipped = 0
        self.deferred: tuple[Message, ...] = ()
        self.recalled = False
        self.remembered = ""
        self.condensed: set[str] = set()
        self.sent: tuple[LLMRequest, int, bool] | None = None
        self.reasks = 0
        self.completions = 0
        self.ending: Outcome | None = None
        self.denied: Outcome | None = None
        self.expired: str | None = None
        self.short: Outcome | None = None
        self.below: list[Outcome] = []
        self.suspended = False
        self.accepted = 0


def where(io: Ports) -> dict[str, Any]:
    """The fields that every hook context begins with."""
    s = io.session
    return {
        "session_id": s.id,
        "run_id": s.run or "",
        "round": s.round,
        "depth": io.plan.depth,
        "deps": io.deps,
    }


async def filtered(io: Ports, message: Message, *, opens: str | None = None) -> Message:
    """`message` as the message.append hooks leave it; `opens` is the run that it is to open."""
    if not io.listens(MESSAGE_APPEND):
        return message
    place = where(io)
    if opens is not None:
        place |= {"run_id": opens, "round": 0}
    result = await heard(io, MESSAGE_APPEND, MessageAppend(**place, message=message))
    changed = result.message
    if changed is message:
        return message
    why = rewriting_fault(message, changed)
    if why is not None:
        raise HookError(f"a handler of {MESSAGE_APPEND.name} {why}")
    return changed


def rewriting_fault(message: Message, changed: object) -> str | None:
    """What a handler has done to `message` that it may not do; None if `changed` is all right."""
    why = _unfit(changed)
    if why is not None:
        return f"made of a message {why}"
    if _identity(cast("Message", changed)) != _identity(message):
        return (
            f"changed the id, role, calls or results of message {message.id!r}; "
            "it may change text, images and files only"
        )
    return None


def from_hook(point: HookPoint[Any, Any], messages: object) -> tuple[Message, ...]:
    """`messages`, as a handler of `point` wants to have them in the transcript.

    Raises:
        HookError: one of them does not belong there.
    """
    if not isinstance(messages, tuple | list):
        raise HookError(f"a handler of {point.name} gave {_kind(messages)}; {_WELCOME}")
    for message in cast("Sequence[object]", messages):
        why = _unfit(message)
        if why is None and not _comes_from_outside(cast("Message", message)):
            why = "a message of the assistant or of a tool, or with parts that only those have"
        if why is not None:
            raise HookError(f"a handler of {point.name} gave {why}; {_WELCOME}")
    return tuple(cast("Sequence[Message]", messages))


def _unfit(message: object) -> str | None:
    """Why `message` can be in no transcript; None if it can."""
    if not isinstance(message, Message):
        return _kind(message)
    parts = cast("Sequence[object]", message.parts)
    if not parts or not all(isinstance(part, Part) for part in parts):
        return "a message without parts, or with something else among them"
    if message.name == COMPACT_NOTE:
        return f"a message named {COMPACT_NOTE!r}, a name that is taken"
    if not is_sound_message(message):
        return "text with a lone surrogate or a NUL character, which no provider takes"
    return None


def _comes_from_outside(message: Message) -> bool:
    given = Text | Image | Audio | File
    return message.role in ("user", "system") and all(isinstance(p, given) for p in message.parts)


def _kind(value: object) -> str:
    return f"a value of type {type(value).__name__}"


def _identity(message: Message) -> tuple[object, ...]:
    results = [part.call_id for part in message.parts if isinstance(part, ToolResult)]
    return message.id, message.role, message.tool_calls, results


async def filtered_results(io: Ports, settled: Sequence[ToolSettled]) -> list[ToolSettled]:
    """Settlements with their messages as the message.append hooks leave them."""
    if not io.listens(MESSAGE_APPEND):
        return list(settled)
    return [ToolSettled(await filtered(io, one.message), one.how) for one in settled]


def with_own_id(io: Ports, message: Message) -> Message:
    """`message`, under a new id if the session knows its own: callers and hooks reuse values."""
    known = not message.id or io.session.knows(message.id)
    return replace(message, id=io.new_id()) if known else message


async def append_messages(
    io: Ports, messages: Sequence[Message], *, take: Sequence[str] = (), when_idle: bool = False
) -> None:
    """Appends messages to the session, in order, as one unit; `take` are their inbox items."""
    records: list[MessageAppended] = []
    for message in messages:
        own = with_own_id(io, message)
        if any(own.id == record.message.id for record in records):
            own = replace(own, id=io.new_id())
        item = take[len(records)] if take else ""
        said = await filtered(io, own)
        records.append(MessageAppended(said, item=item, when_idle=when_idle))
    await io.commit(*records, later=not take, take=take)


async def end_round(io: Ports, text: str, *, has_tools: bool) -> None:
    """Says that a round is over."""
    s = io.session
    io.emit(RoundEnded(s.round, s.run_usage))
    if io.listens(ROUND_END):
        context = RoundEnd(
            **where(io),
            response_text=text,
            has_tools=has_tools,
            usage=s.run_usage,
            spent=s.task_spent,
        )
        await heard(io, ROUND_END, context)


def request_digest(request: LLMRequest) -> str:
    """What tells a request that a hook has changed from any other of its session.

    Empty for one that has no JSON form: it is refused by name where it is sent.
    """
    from hashlib import sha256  # noqa: PLC0415  it loads OpenSSL, which most programs spare

    # Without what is not sent: a message has another id each time that a handler makes it.
    sent = [(message.role, message.parts, message.name) for message in request.messages]
    whole = (replace(request, messages=(), cache_key=None), sent)
    try:
        encoded = msgspec.json.encode(whole, order="deterministic")
    except (TypeError, ValueError):
        return ""
    return sha256(encoded).hexdigest()[:32]


# ── what must not run, what must not be sent ─────────────────────────────────────────────────────


def arguments_fault(arguments: str) -> str | None:
    """Why a call must not run with these arguments; None if it may. Empty ones stand for `{}`."""
    if not arguments.strip():
        return None
    try:
        value = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        return f"the arguments are not valid JSON ({str(error)[:120]})"
    if not isinstance(value, dict):
        return f"the arguments are not a JSON object but {type(value).__name__}"
    return None


def repaired(io: Ports, source: str, parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """`parts` with characters replaced that no provider takes; an event says so."""
    if all(map(is_sound, parts)):
        return parts
    counts = [0, 0]
    fixed = tuple([repaired_part(part, counts) for part in parts])
    io.emit(TextRepaired(source, counts[0], counts[1]))
    return fixed
