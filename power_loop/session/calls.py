"""A call that has no result yet, and what it has been through."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from llm_client.types import ToolCall
from power_loop.session.records import CallWaiting, ToolStarted

__all__ = ["CallState", "OpenCall"]

CallState = Literal["asked", "waiting", "granted", "answered", "started", "in_doubt"]


class OpenCall(Struct):
    """A call without a result yet. `token` names what it waits for, `answer` what came.

    `started` is the newest start of it, which says what really ran. `waiting` is what it waits for,
    `grants` are the approvals it has been given, with the arguments that were approved; `edited`
    are those, where a person had changed them. `refusal` is why a person said no.
    """

    call: ToolCall
    state: CallState = "asked"
    attempt: int = 0
    started: ToolStarted | None = None
    token: str = ""
    kind: str = ""
    answer: str = ""
    waiting: CallWaiting | None = None
    grants: tuple[CallWaiting, ...] = ()
    edited: str = ""
    refusal: str = ""

    @property
    def begun(self) -> bool:
        """Whether its tool has been started, ever: it may have had effects."""
        return self.started is not None

    @property
    def lost(self) -> bool:
        """Whether it had begun in a run whose process died, and has not been begun again since."""
        waits_for_leave = self.kind == "approval" and self.state in ("waiting", "granted")
        return self.state == "in_doubt" or (self.begun and waits_for_leave)

    @property
    def may_have_finished(self) -> bool:
        """Whether a result of it can exist."""
        return self.begun and self.state != "waiting"
