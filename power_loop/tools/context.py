"""What a tool is told about its call, and how it speaks while it works."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isnan
from typing import Any, Generic, NoReturn, cast

import msgspec
from typing_extensions import TypeVar

from power_loop.errors import ToolError
from power_loop.session.text import repaired_text
from power_loop.tools.asking import InputRequested, requested

__all__ = ["DepsT", "ToolCancelled", "ToolContext"]

DepsT = TypeVar("DepsT", default=Any)
"""The type of the `deps` that a caller hands to `send`; Any where nobody says."""

GivenT = TypeVar("GivenT", default=Any)

_NO_DEPS = cast("Any", None)


class ToolCancelled(ToolError):
    """Raised by `ToolContext.check_cancelled` in a tool whose call has been cancelled."""


def _never_cancelled() -> str | None:
    return None


def _unheard(message: str, fraction: float | None, data: Any) -> None:
    """Progress that nobody listens to."""


def _sound_progress(message: object, fraction: object, data: Any) -> tuple[str, float | None, Any]:
    """Progress as events can carry it."""
    if not isinstance(message, str):
        raise ToolError(f"the message of progress is a str, not {type(message).__name__}")
    share = None
    if fraction is not None:
        if not isinstance(fraction, float | int) or isnan(fraction):
            raise ToolError(
                f"the fraction of progress is a number in 0…1 or None, not {fraction!r}"
            )
        share = min(max(float(fraction), 0.0), 1.0)
    return repaired_text(message), share, _sound_data(data)


def _sound_data(data: Any) -> Any:
    """Data as events can carry it: the values of its JSON."""
    if data is None:
        return None
    try:
        return msgspec.json.decode(msgspec.json.encode(data))
    except (
        msgspec.MsgspecError,
        TypeError,
        ValueError,
        OverflowError,
        RecursionError,
    ) as error:
        raise ToolError(f"the data of an event does not serialise to JSON: {error}") from error


def _unannounced(name: str, data: Any) -> None:
    """Events that nobody listens to."""


class ToolContext(Generic[DepsT]):
    """What a tool may know of its call, and how it speaks while it works.

    A parameter of this type is filled in by the loop and is no part of the tool's schema. Safe to
    use from any thread.

    Attributes:
        session_id: the session the call belongs to.
        run_id: the run that makes it.
        call_id: the call's own id, unique in its session.
        tool: the tool's name.
        idempotency_key: the same for every attempt of this call, also after a crash; hand it to
            services that can recognise a repeated request.
        attempt: 1, and one more for each time the call is made again.
        deps: what the caller gave to `send(…, deps=…)`.
        user: the person that the agent works for; "" where nobody said.
        agent: the agent's name; "" where it has none.
    """

    __slots__ = (
        "_abandoned",
        "_announce",
        "_asked",
        "_reason",
        "_report",
        "agent",
        "attempt",
        "call_id",
        "deps",
        "idempotency_key",
        "run_id",
        "session_id",
        "tool",
        "user",
    )

    def __init__(
        self,
        *,
        session_id: str,
        run_id: str,
        call_id: str,
        tool: str,
        idempotency_key: str,
        attempt: int,
        deps: DepsT,
        user: str = "",
        agent: str = "",
        cancel_reason: Callable[[], str | None] = _never_cancelled,
        report: Callable[[str, float | None, Any], None] = _unheard,
        announce: Callable[[str, Any], None] = _unannounced,
    ) -> None:
        """Built by the driver.

        `cancel_reason` says why the call has been cancelled, None while it has not; `report` takes
        what the tool says of its progress. Both must be safe from any thread and must not block.
        """
        self.session_id = session_id
        self.run_id = run_id
        self.call_id = call_id
        self.tool = tool
        self.idempotency_key = idempotency_key
        self.attempt = attempt
        self.deps = deps
        self.user = user
        self.agent = agent
        self._reason = cancel_reason
        self._report = report
        self._announce = announce
        self._abandoned: str | None = None
        self._asked: InputRequested | None = None

    @staticmethod
    def for_test(
        deps: GivenT = _NO_DEPS,
        *,
        session_id: str = "session",
        run_id: str = "run",
        call_id: str = "call",
        tool: str = "tool",
        idempotency_key: str = "key",
        attempt: int = 1,
        user: str = "",
        agent: str = "",
        cancel_reason: Callable[[], str | None] = _never_cancelled,
        report: Callable[[str, float | None, Any], None] = _unheard,
        announce: Callable[[str, Any], None] = _unannounced,
    ) -> ToolContext[GivenT]:
        """A context for calling a tool in a test, with no loop around it."""
        return ToolContext(
            session_id=session_id,
            run_id=run_id,
            call_id=call_id,
            tool=tool,
            idempotency_key=idempotency_key,
            attempt=attempt,
            deps=deps,
            user=user,
            agent=agent,
            cancel_reason=cancel_reason,
            report=report,
            announce=announce,
        )

    @property
    def cancel_reason(self) -> str | None:
        """Why the call has been cancelled; None while it has not."""
        return self._abandoned or self._reason()

    @property
    def cancelled(self) -> bool:
        """Whether the call has been cancelled. An asynchronous tool is interrupted anyway."""
        return self.cancel_reason is not None

    def check_cancelled(self) -> None:
        """Does nothing while the call is wanted. For synchronous tools, between their steps.

        Raises:
            ToolCancelled: the call has been cancelled; nobody waits for its result.
        """
        reason = self.cancel_reason
        if reason is not None:
            raise ToolCancelled(f"the call was cancelled: {reason}")

    def progress(self, message: str, fraction: float | None = None, data: Any = None) -> None:
        """Tells readers of the run how far the work is. Never blocks.

        Args:
            message: for people. What no reader could be sent is replaced, as in a result.
            fraction: of the work that is done; brought into 0…1. None when unknown.
            data: anything that serialises to JSON, for programs. They get the values of that JSON.

        Raises:
            ToolError: the message is no text, the fraction no number, or the data not of JSON.
        """
        self._report(*_sound_progress(message, fraction, data))

    def emit(self, name: str, data: Any = None) -> None:
        """Sends an event of the tool's own to readers of the run. Never blocks.

        Args:
            name: what kind of event it is; readers find it in `ToolEmitted.name`.
            data: anything that serialises to JSON. Readers get the values of that JSON.

        Raises:
            ToolError: the name is no text or empty, or the data not of JSON.
        """
        if not isinstance(name, str) or not name:  # pyright: ignore[reportUnnecessaryIsInstance] # tools are foreign code
            raise ToolError(f"the name of an event is a str that is not empty, not {name!r}")
        self._announce(repaired_text(name), _sound_data(data))

    def request_user_input(
        self, question: str, schema: Mapping[str, Any] | None = None
    ) -> NoReturn:
        """Ends the call here, and lets a person answer in its place.

        The answer becomes the result of the call, whenever it comes: at once, where the loop has a
        responder; else the run ends `waiting_for_input` when the call's siblings have settled, and
        `resume(answers=[answer(token, …)])` goes on, in any process. The tool is not run again, so
        ask before you do anything. One that catches what is raised here, with a bare `except`, and
        returns, has given its result: then nobody is asked, and a warning is logged.

        Args:
            question: in words.
            schema: the JSON Schema that the answer must fit; any text will do if None.

        Raises:
            ToolError: the question is no text or blank, or the schema cannot be used.
        """
        self._asked = requested(question, schema)
        raise self._asked

    @property
    def asked(self) -> InputRequested | None:
        """What the tool has asked, for the driver; None if it has not."""
        return self._asked

    def abandon(self, reason: str) -> None:
        """Marks the call as cancelled, for a thread that is left behind."""
        self._abandoned = reason

    def __repr__(self) -> str:
        return f"ToolContext(tool={self.tool!r}, call_id={self.call_id!r}, attempt={self.attempt})"
