"""What power_loop raises, sorted by whose fault it is.

PowerLoopError
├─ UsageError                  this program misuses the library
│  ├─ InvalidInput             the input is empty or cannot be sent to any model
│  ├─ HookError                a hook does not fit its point
│  ├─ AnswerRefused            nothing waits for this token, or not for such an answer
│  ├─ ToolDefinitionError      a tool cannot be offered to a model
│  └─ SyncInAsyncError         a blocking verb was called inside a running event loop
├─ SessionError                the session is not in a state for this
│  ├─ SessionNotFound
│  ├─ SessionPendingError      calls are open; says which
│  ├─ SessionBusy              another run owns the session
│  ├─ NothingToResume
│  ├─ SummaryDrift             a summary was made in another way than it would be now
│  ├─ ArtifactNotFound         the session has no text of that handle
│  └─ SubAgentFailed           a sub-agent did not come to its answer, and was not to be told of
├─ NotesFull                   as many notes are kept as may be
├─ ToolError                   a tool says no; the model is told
├─ ArchiveInvalid              a file is no archive of a session, or not as it was written
├─ OutputInvalid               the model's answer does not fit the type asked for
├─ OverBudget                  a budget has not enough left for what the loop wanted to ask itself
├─ CancelledByToken            nobody's fault: the work is not wanted any more
└─ StoreError                  the store failed
   ├─ StoreUnavailable         cannot be opened, read or written; says why
   ├─ StoreCorrupt             damaged, or not ours
   ├─ StoreTooNew              written by a newer version
   ├─ StoreSchemaError         its tables are missing or old; carries the DDL to run
   ├─ StoreFull                no space is left
   ├─ EmbedderMismatch         its vectors are of another model
   ├─ Conflict                 somebody else appended first
   ├─ Fenced                   the lease is no longer ours
   └─ Undelivered              the inbox holds what this run must take first
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "AnswerRefused",
    "ArchiveInvalid",
    "ArtifactNotFound",
    "CancelledByToken",
    "Conflict",
    "EmbedderMismatch",
    "Fenced",
    "FollowUpQueued",
    "HookError",
    "InvalidInput",
    "NotesFull",
    "NothingToResume",
    "OutputInvalid",
    "OverBudget",
    "PowerLoopError",
    "SessionBusy",
    "SessionError",
    "SessionNotFound",
    "SessionPendingError",
    "StoreCorrupt",
    "StoreError",
    "StoreFull",
    "StoreSchemaError",
    "StoreTooNew",
    "StoreUnavailable",
    "SubAgentFailed",
    "SummaryDrift",
    "SyncInAsyncError",
    "ToolDefinitionError",
    "ToolError",
    "Undelivered",
    "UsageError",
]


class PowerLoopError(Exception):
    """Base of all errors of this package."""


class UsageError(PowerLoopError):
    """The calling program misuses the library."""


class InvalidInput(UsageError):
    """The input cannot be sent to any model: empty, or not valid text."""


class HookError(UsageError):
    """A hook does not fit its point: a wrong context, an illegal directive, a read-only field."""


class AnswerRefused(UsageError):
    """Nothing in the session waits for this token, or not for such an answer.

    That it was tried is in the session's log: by whom, with what, and why it was refused. Nothing
    else has changed.
    """


class ToolDefinitionError(UsageError):
    """A tool cannot be offered: no type hints, an unsupported type, a name taken."""


class SyncInAsyncError(UsageError):
    """A blocking verb was called inside a running event loop; await the asynchronous one."""


class SessionError(PowerLoopError):
    """The session `session_id` is not in a state for what was asked."""

    def __init__(self, message: str, session_id: str) -> None:
        super().__init__(message)
        self.session_id = session_id


class SessionNotFound(SessionError):
    """No such session in the store."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"there is no session {session_id!r} in this store", session_id)


class SessionPendingError(SessionError):
    """Calls of the session are open, so that it takes no new input; or `resume` needs decisions.

    Every open call is in one of three, by id: `open` has not begun (it may wait for an approval);
    `begun` waits for something in the middle of its work; `in_doubt` was running when its process
    died, so that its outcome is unknown. `undecided` are those in doubt that `resume` must be told
    about; it is empty for an error of `send`.
    """

    def __init__(
        self,
        session_id: str,
        *,
        open: Sequence[str] = (),
        begun: Sequence[str] = (),
        in_doubt: Sequence[str] = (),
        undecided: Sequence[str] = (),
    ) -> None:
        calls = ", ".join(
            [
                *open,
                *(f"{call} (begun)" for call in begun),
                *(f"{call} (in doubt)" for call in in_doubt),
            ]
        )
        todo = "Call resume() to carry on, or abort_pending() to give them up"
        if undecided:
            todo = (
                f"Nobody can tell what became of {', '.join(undecided)}: call resume(decisions=…) "
                "with 'rerun', 'unknown' or a Result for each, or abort_pending() to give all up"
            )
        super().__init__(f"session {session_id!r} has open calls: {calls}. {todo}", session_id)
        self.open = tuple(open)
        self.begun = tuple(begun)
        self.in_doubt = tuple(in_doubt)
        self.undecided = tuple(undecided)


class SessionBusy(SessionError):
    """Another run owns the session. `owner` says who, where that is known."""

    def __init__(self, session_id: str, owner: str) -> None:
        super().__init__(
            f"session {session_id!r} is busy: {owner} is running it. "
            "Wait for it, steer() it, or cancel() it",
            session_id,
        )
        self.owner = owner


class FollowUpQueued(SessionError):
    """No failure: with `on_busy="steer"`, a run was going on, and it has been given the message.

    The message is stored. The run hears it at its next round; should it end before that, for
    another reason than an answer, the next run does. Do not send it again. `item_id` is its id in
    the inbox.
    """

    def __init__(self, session_id: str, item_id: str) -> None:
        super().__init__(
            f"session {session_id!r} is running: the message waits in its inbox as {item_id!r}, "
            "and is answered there",
            session_id,
        )
        self.item_id = item_id


class NothingToResume(SessionError):
    """The last run of the session ended for good; send a message instead."""


class SummaryDrift(SessionError):
    """The session goes on with a summary that would be made in another way now.

    `field` is what differs: "engine", "model" or "prompt"; `made` what it was, `now` what it is.
    """

    def __init__(self, session_id: str, field: str, made: str, now: str) -> None:
        super().__init__(
            f"the summary in session {session_id!r} was made with {field} {made!r}, which is "
            f"{now!r} now. It is not made again: resume(allow_drift=True) goes on with it as it "
            "is, or configure the compactor as it was",
            session_id,
        )
        self.field = field
        self.made = made
        self.now = now


class ArtifactNotFound(SessionError):
    """The session keeps no text of this handle."""

    def __init__(self, session_id: str, handle: str) -> None:
        super().__init__(f"no text {handle!r} is kept for session {session_id!r}", session_id)
        self.handle = handle


class SubAgentFailed(SessionError):
    """A `SubAgent(on_failure="fail")` did not come to its answer, so the run above failed with it.

    `agent` is its name, `session_id` the session below, and `ending` says how that ended.
    """

    def __init__(self, agent: str, session_id: str, ending: str) -> None:
        super().__init__(
            f"the sub-agent {agent!r} did not finish: {ending}; "
            f"explain({session_id!r}) says more, SubAgent(on_failure='tell') tells the model",
            session_id,
        )
        self.agent = agent
        self.ending = ending


class NotesFull(PowerLoopError):
    """`owner` has as many notes as may be kept, so that no other was added.

    Delete some, or let the oldest give way.
    """

    def __init__(self, owner: str, limit: int) -> None:
        super().__init__(
            f"{owner!r} has {limit} notes, as many as may be kept; forget some first, or let the "
            "oldest give way (when_full='fifo')"
        )
        self.owner = owner
        self.limit = limit


class ToolError(PowerLoopError):
    """Raised by a tool to tell the model, in `str(error)`, what went wrong."""


class ArchiveInvalid(PowerLoopError):
    """A file is no archive of a session: cut short, altered, not ours, or sealed otherwise.

    It says what is wrong, and in which line. Nothing of it was stored.
    """


class OutputInvalid(PowerLoopError):
    """The model's answer does not fit the type asked for, after all re-asks.

    `text` is the answer.
    """

    def __init__(self, message: str, text: str) -> None:
        super().__init__(message)
        self.text = text


class OverBudget(PowerLoopError):
    """A budget has not enough left for a model call that the loop itself wanted, such as a summary.

    Whoever had asked does without it; the run goes on.
    """


class CancelledByToken(PowerLoopError):
    """Raised by `CancellationToken.raise_if_cancelled`: somebody has cancelled it, for `reason`."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"cancelled: {reason}")
        self.reason = reason


class StoreError(PowerLoopError):
    """The store failed. What it had acknowledged before is safe."""


class StoreUnavailable(StoreError):
    """The store cannot be opened, read or written."""


class StoreCorrupt(StoreError):
    """The store is damaged, or is not a power_loop store."""


class StoreTooNew(StoreError):
    """The store was written by a newer version of this package."""


class StoreSchemaError(StoreError):
    """The store's tables are missing or old, and this program may not change them.

    `ddl` is what a privileged user has to run, exactly.
    """

    def __init__(self, message: str, ddl: str) -> None:
        super().__init__(message, ddl)
        self.ddl = ddl

    def __str__(self) -> str:
        return f"{self.args[0]}:\n{self.ddl}"


class StoreFull(StoreError):
    """No space is left for the store."""


class EmbedderMismatch(StoreError):
    """An index holds vectors of another model, which cannot be compared with those given."""


class Conflict(StoreError):
    """The session's log is not where the writer believed it to be."""

    def __init__(self, session_id: str, expected: int, actual: int) -> None:
        super().__init__(
            f"session {session_id!r} is at record {actual}, not {expected}: somebody else appended"
        )
        self.session_id = session_id
        self.expected = expected
        self.actual = actual


class Fenced(StoreError):
    """The writer's lease of the session has been taken over; it can write nothing more."""

    def __init__(self, session_id: str, fence: int) -> None:
        super().__init__(f"lease {fence} of session {session_id!r} is no longer valid")
        self.session_id = session_id
        self.fence = fence


class Undelivered(StoreError):
    """The run cannot end this way: its inbox holds messages that it must take first."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"the inbox of session {session_id!r} holds undelivered messages")
        self.session_id = session_id
