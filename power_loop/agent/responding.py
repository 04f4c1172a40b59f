"""Whoever answers at once what a call waits for, while the run goes on."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from math import isfinite
from typing import Protocol, cast

import anyio
import anyio.to_thread

from power_loop.agent.answers import answer, approve, check_answer, deny
from power_loop.agent.requests import ApprovalRequest, InputRequest, request_of
from power_loop.driver.people import Respond
from power_loop.errors import AnswerRefused, UsageError
from power_loop.log import logger
from power_loop.pipeline.plan import Answer
from power_loop.session.machine import Session
from power_loop.session.records import CallWaiting

__all__ = ["CallbackResponder", "Responder", "checked_responder", "respond_with"]


class Responder(Protocol):
    """**Protocol**: asked as soon as a call waits for a person. For `AgentLoop(responder=…)`.

    One call of a batch at a time is asked about before its tools run; tools that ask themselves
    are asked about side by side. The wait does not count as working time.
    """

    async def __call__(self, request: ApprovalRequest | InputRequest, /) -> Answer | None:
        """The answer, made by `approve`, `deny` or `answer`; None leaves the call open.

        Cancelled when the run is, when a message interrupts it, and when the request has expired.
        What it raises, or an answer to something else, leaves the call open as well; readers of the
        run are told by a `ResponderFailed` event.
        """
        ...


def respond_with(responder: Responder, session: Session) -> Respond:
    """What a run of `session` puts to a responder."""

    async def respond(waiting: CallWaiting) -> Answer | None:
        asked_in = session.open_calls[waiting.call_id].waits_in
        request = request_of(waiting, session.id, asked_in)
        assert request is not None
        given = cast("object", await responder(request))
        if given is None:
            return None
        if not isinstance(given, Answer):
            raise AnswerRefused(
                "a responder answers with approve(…), deny(…), answer(…) or None, "
                f"not with a value of type {type(given).__name__}"
            )
        if given.token != waiting.token:
            raise AnswerRefused(f"it was asked about {waiting.token!r}, not about {given.token!r}")
        check_answer(waiting, given)
        return given

    return respond


def checked_responder(responder: Responder | None) -> Responder | None:
    """`responder` as it is.

    Raises:
        UsageError: it cannot be called.
    """
    if responder is None or callable(cast("object", responder)):
        return responder
    raise UsageError(f"responder is called with a request, which cannot be done with {responder!r}")


Callback = Callable[[ApprovalRequest | InputRequest], object]


class CallbackResponder:
    """Asks a function of the program.

    Of a request for approval it says True or False, of a question it gives the answer; an `Answer`
    says more, such as other arguments or a note; None leaves the call open. A request for approval
    is denied when the function raises, answers with anything else or takes too long, with a note
    that says so; a question then stays open. A synchronous function runs in a thread, which is left
    behind when it takes too long.
    """

    def __init__(self, function: Callback, *, timeout: float = 60.0, by: str = "callback") -> None:
        """Takes the function.

        Args:
            function: synchronous or not.
            timeout: seconds it has for one request.
            by: who answers, for the record, unless its `Answer` says otherwise.

        Raises:
            UsageError: `function` cannot be called, or `timeout` is not a finite number over 0.
        """
        if not callable(cast("object", function)):
            raise UsageError(f"a CallbackResponder asks a function, not {function!r}")
        number = isinstance(cast("object", timeout), int | float)
        if not (number and isfinite(timeout) and timeout > 0):
            raise UsageError(f"timeout must be a finite number of seconds over 0, not {timeout!r}")
        self._function = function
        self._timeout = timeout
        self._by = by

    async def __call__(self, request: ApprovalRequest | InputRequest) -> Answer | None:
        """See `Responder`."""
        try:
            with anyio.fail_after(self._timeout):
                said = await self._asked(request)
            return self._understood(request, said)
        except Exception as error:
            if isinstance(request, InputRequest):
                raise
            logger.warning("a callback could not decide on %r", request.token, exc_info=True)
            told = f"it took longer than {self._timeout:g} s"
            if not isinstance(error, TimeoutError):
                told = f"{type(error).__name__}: {error}"
            return deny(request.token, f"nobody could decide: {told}", by=self._by)

    async def _asked(self, request: ApprovalRequest | InputRequest) -> object:
        function = self._function
        called = function if inspect.isroutine(function) else type(function).__call__
        if inspect.iscoroutinefunction(called):
            said = function(request)
        else:
            said = await anyio.to_thread.run_sync(function, request, abandon_on_cancel=True)
        return await cast("Awaitable[object]", said) if inspect.isawaitable(said) else said

    def _understood(self, request: ApprovalRequest | InputRequest, said: object) -> Answer | None:
        if said is None or isinstance(said, Answer):
            return said
        if isinstance(request, InputRequest):
            return answer(request.token, said, by=self._by)
        if said is True:
            return approve(request.token, by=self._by)
        if said is False:
            return deny(request.token, by=self._by)
        told = (
            f"the callback answered with a value of type {type(said).__name__}, not True or False"
        )
        raise TypeError(told)
