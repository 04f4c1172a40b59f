"""A call that has no result yet, and what it has been through."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from llm_client.types import ToolCall
from power_loop.session.records import CallAnswered, CallWaiting, ToolStarted

__all__ = ["CallState", "OpenCall"]

CallState = Literal["asked", "waiting", "granted", "answered", "started", "in_doubt"]


class OpenCall(Struct):
    """A call without a result yet. `token` names what it waits for, `answer` what came.

    `started` is the newest start of it, which says what really ran. `waiting` is what it waits for,
    since the run `waits_in`. `grants` are the approvals it has been given, with the arguments that
    were approved; `edited` are those, where a person had changed them. `refusal` is why a person
    said no. `lapsed` is what was asked for last, if nothing can come of it any more although nobody
    has said no. `failed` says that its newest start has failed, and is to be tried again.
    """

    call: ToolCall
    state: CallState = "asked"
    attempt: int = 0
    started: ToolStarted | None = None
    token: str = ""
    kind: str = ""
    answer: str = ""
    waiting: CallWaiting | None = None
    waits_in: str = ""
    grants: tuple[CallWaiting, ...] = ()
    edited: str = ""
    refusal: str = ""
    lapsed: CallWaiting | None = None
    failed: bool = False

    @property
    def begun(self) -> bool:
        """Whether its tool has been started, ever: it may have had effects."""
        return self.started is not None

    @property
    def lost(self) -> bool:
        """Whether it had begun in a run whose process died, and has not been begun again since."""
        if self.failed:
            return False
        waits_for_leave = self.kind == "approval" and self.state in ("waiting", "granted")
        return self.state == "in_doubt" or (self.begun and waits_for_leave)

    @property
    def may_have_finished(self) -> bool:
        """Whether a result of it can exist."""
        return self.begun and self.state != "waiting"

    def wait_for(self, waiting: CallWaiting, run: str) -> None:
        """The call waits from now on, in this run first."""
        self.state, self.token, self.kind = "waiting", waiting.token, waiting.kind
        self.waiting, self.waits_in, self.lapsed = waiting, run, None
        # Who asks anew has done with what it was given: that stays dead, also if the world turns.
        self.grants = tuple([grant for grant in self.grants if grant.by != waiting.by])

    def hear(self, r: CallAnswered) -> None:
        """What the call waited for has come."""
        waited, self.waiting = self.waiting, None
        self.token, self.answer = "", r.answer
        if self.kind != "approval":
            self.state = "answered"
        elif r.answer == "approve":
            self.state = "granted"
            assert waited is not None
            if r.arguments:
                waited = replace(waited, arguments=r.arguments, args_hash=r.args_hash)
                self.edited = r.arguments
            self.grants = (*self.grants, waited)
        elif r.answer == "expired":
            self.state, self.kind, self.lapsed = "in_doubt" if self.begun else "asked", "", waited
        else:
            self.state, self.refusal = "answered", r.note

    def lose_leaves(self) -> None:
        """The call is a copy: a leave is for one execution, and that one is the original's."""
        if self.kind == "approval" and self.state in ("waiting", "granted"):
            self.lapsed = self.waiting or self.grants[-1]
            self.state, self.kind = "in_doubt" if self.begun else "asked", ""
            self.token, self.waiting = "", None
        self.grants, self.edited = (), ""
