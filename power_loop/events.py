"""What readers see: one tagged union, in a stamped envelope.

Durable events are the session's records themselves, in the order of their `seq`, without gaps.
Everything else is transient: it tells of work under way, carries the `seq` it follows and a counter
of its own, and is gone when nobody reads it.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeGuard

import msgspec
from msgspec import Struct

from llm_client.types import Usage
from power_loop.session.records import (
    CallAnswered,
    CallWaiting,
    Decided,
    Forked,
    MessageAppended,
    ModelAsked,
    ModelConfigured,
    ModelEnded,
    Recalled,
    Record,
    Rewound,
    RunClosed,
    RunOpened,
    ToolSettled,
    ToolStarted,
    ViewChanged,
)

__all__ = [
    "RECORD_TYPES",
    "CallAnswered",
    "CallWaiting",
    "CompactionFailed",
    "CompactionRejected",
    "Decided",
    "DeltasDropped",
    "Event",
    "FallbackTaken",
    "Forked",
    "HookFailed",
    "MemoryFailed",
    "MessageAppended",
    "ModelAsked",
    "ModelConfigured",
    "ModelEnded",
    "PrefixChanged",
    "Recalled",
    "ReconcileFailed",
    "Record",
    "ResponderFailed",
    "RetryScheduled",
    "Rewound",
    "RoundEnded",
    "RoundStarted",
    "RunClosed",
    "RunOpened",
    "SpillFailed",
    "Stamped",
    "TextDelta",
    "TextRepaired",
    "ThinkingDelta",
    "ToolCallDelta",
    "ToolEmitted",
    "ToolLeftBehind",
    "ToolProgress",
    "ToolSettled",
    "ToolStarted",
    "Transient",
    "ViewChanged",
    "decode_event",
    "encode_event",
    "is_record",
]


class RoundStarted(Struct, frozen=True, gc=False, tag="round_started"):
    """A round begins, counted from 1."""

    round: int


class RoundEnded(Struct, frozen=True, gc=False, tag="round_ended"):
    """A round is over: its model call is answered and its tools have settled."""

    round: int
    usage: Usage


class TextDelta(Struct, frozen=True, gc=False, tag="text_delta"):
    """More text of the answer. Void when its attempt ends with any status but ok."""

    attempt: str
    text: str


class ThinkingDelta(Struct, frozen=True, gc=False, tag="thinking_delta"):
    """More reasoning. Void when its attempt ends with any status but ok."""

    attempt: str
    text: str


class ToolCallDelta(Struct, frozen=True, gc=False, tag="tool_call_delta"):
    """A call is being written: `name` comes first, then pieces of its `arguments`."""

    attempt: str
    index: int
    call_id: str
    name: str
    arguments: str = ""


class ToolProgress(Struct, frozen=True, tag="tool_progress"):
    """What a running tool says of itself. `fraction` is in 0…1, None when unknown."""

    call_id: str
    message: str
    fraction: float | None = None
    data: Any = None


class ToolEmitted(Struct, frozen=True, tag="tool_emitted"):
    """An event of a running tool's own making; it knows what `name` and `data` mean."""

    call_id: str
    name: str
    data: Any = None


class ToolLeftBehind(Struct, frozen=True, gc=False, tag="tool_left_behind"):
    """A call of tool `name` ignores that it was cancelled; its run ends without it.

    What it does cannot be stopped; nothing that it gives is heard any more.
    """

    call_id: str
    name: str


class RetryScheduled(Struct, frozen=True, tag="retry_scheduled"):
    """A model call failed and will be made again after `delay` seconds."""

    attempt: str
    delay: float
    error_type: str
    message: str


class FallbackTaken(Struct, frozen=True, tag="fallback_taken"):
    """The model `failed` has failed for good; the call is made with `model` in its place."""

    failed: str
    model: str
    error_type: str
    message: str


class HookFailed(Struct, frozen=True, tag="hook_failed"):
    """A hook handler failed and was skipped."""

    point: str
    handler: str
    error_type: str
    message: str


class ReconcileFailed(Struct, frozen=True, tag="reconcile_failed"):
    """A tool was asked what had become of a call, and raised or took too long: it cannot tell."""

    call_id: str
    tool: str
    error_type: str
    message: str


class SpillFailed(Struct, frozen=True, gc=False, tag="spill_failed"):
    """A long output of `tool` could not be kept, or not be projected as the tool has it: the model
    sees what could be shown all the same.
    """

    call_id: str
    tool: str
    error_type: str
    message: str


class ResponderFailed(Struct, frozen=True, gc=False, tag="responder_failed"):
    """Whoever was asked what a call waits for raised, or gave no fitting answer: it stays open."""

    call_id: str
    token: str
    error_type: str
    message: str


class PrefixChanged(Struct, frozen=True, gc=False, tag="prefix_changed"):
    """A request does not begin with all of the one before it, so that no prompt cache knows it.

    `reason` is "configuration", "compaction", "memory" or "llm.before", where a handler has
    rewritten it; `first_difference` is the place, such as `system`, `tools[2]` or `messages[5]`.
    """

    reason: str
    first_difference: str


class CompactionRejected(Struct, frozen=True, gc=False, tag="compaction_rejected"):
    """What the strategy `by` had found to make the view smaller was not done, for `reason`.

    The next strategy is asked, and in the end one that needs no model.
    """

    by: str
    reason: str


class CompactionFailed(Struct, frozen=True, gc=False, tag="compaction_failed"):
    """The prompt is too large, and nothing may leave it: the model is asked with it as it is."""

    reason: str


class MemoryFailed(Struct, frozen=True, gc=False, tag="memory_failed"):
    """A memory raised, took too long or gave what no request can hold; the run goes on without.

    `operation` is "recall" or "remember".
    """

    operation: str
    provider: str
    error_type: str
    message: str


class TextRepaired(Struct, frozen=True, tag="text_repaired"):
    """Text from a model or tool held characters that no provider takes; they were replaced.

    Lone surrogates become U+FFFD, NUL becomes U+2400.
    """

    source: str
    surrogates: int
    nuls: int


class DeltasDropped(Struct, frozen=True, tag="deltas_dropped"):
    """A slow reader: `count` transient events were dropped at this place."""

    count: int


Transient = (
    RoundStarted
    | RoundEnded
    | TextDelta
    | ThinkingDelta
    | ToolCallDelta
    | ToolProgress
    | ToolEmitted
    | ToolLeftBehind
    | RetryScheduled
    | FallbackTaken
    | HookFailed
    | ReconcileFailed
    | SpillFailed
    | ResponderFailed
    | PrefixChanged
    | CompactionRejected
    | CompactionFailed
    | MemoryFailed
    | TextRepaired
    | DeltasDropped
)
Event = Record | Transient

RECORD_TYPES: tuple[type[Record], ...] = (
    RunOpened,
    ModelConfigured,
    MessageAppended,
    ModelAsked,
    ModelEnded,
    ToolStarted,
    ToolSettled,
    CallWaiting,
    CallAnswered,
    Decided,
    Recalled,
    ViewChanged,
    Rewound,
    Forked,
    RunClosed,
)
_DURABLE = frozenset(RECORD_TYPES)


class Stamped(Struct, frozen=True):
    """An event with its place.

    Attributes:
        session: the session's id.
        seq: for a record its number in the session, from 1, without gaps; for a transient event the
            number of the record it follows.
        n: 0 for a record; transient events that follow the same record count from 1.
        root: the session at the root of the tree of sub-agents; `session` itself if there is none.
        tree_seq: order over all records of that tree, from 1; 0 for a transient event.
        at: seconds since the epoch.
        run: id of the run it belongs to.
        round: the model round it belongs to, from 1; 0 before the first.
    """

    session: str
    seq: int
    n: int
    root: str
    tree_seq: int
    at: float
    run: str
    round: int
    event: Event

    @property
    def lineage(self) -> tuple[str, ...]:
        """The ids of the sessions from the root down to this one."""
        if self.session == self.root:
            return (self.root,)
        above, own = self.root + "/", self.session
        if not own.startswith(above):
            return self.root, own
        places = [at for at, sign in enumerate(own) if sign == "/" and at > len(self.root)]
        return (self.root, *[own[:at] for at in places], own)

    @property
    def depth(self) -> int:
        """How deep below the root its session is: 0 for the root itself."""
        return len(self.lineage) - 1

    @property
    def parent(self) -> str | None:
        """The id of the session directly above its own; None for the root."""
        return self.lineage[-2] if self.depth else None


def is_record(event: Event) -> TypeGuard[Record]:
    """Whether an event is durable."""
    return type(event) in _DURABLE


_encoder = msgspec.json.Encoder()


@cache
def _decoder() -> msgspec.json.Decoder[Stamped]:
    # To look at every event's type takes milliseconds, and most programs never read one.
    return msgspec.json.Decoder(Stamped)


def encode_event(event: Stamped) -> bytes:
    """The JSON form of an event, on one line."""
    return _encoder.encode(event)


def decode_event(data: bytes | str) -> Stamped:
    """Reads what `encode_event` wrote.

    Raises:
        msgspec.DecodeError: not JSON, or not an event of this version.
    """
    return _decoder().decode(data)
