"""Questions of a run, put to whoever sits at the terminal, while what moves there stands still."""

from __future__ import annotations

import sys
from argparse import Namespace

import anyio

from power_loop.agent.requests import ApprovalRequest, InputRequest
from power_loop.agent.terminal import TerminalResponder
from power_loop.cli.display import Display
from power_loop.cli.keyboard import Lines, at_keyboard
from power_loop.pipeline.plan import Answer

__all__ = ["AtTerminal", "somebody_answers"]


def somebody_answers(args: Namespace) -> bool:
    """Whether somebody is there to ask. Windows has no way to wait for keys without a thread."""
    shown = sys.__stderr__ is not None and sys.__stderr__.isatty()
    return not args.json and sys.platform != "win32" and at_keyboard() and shown


class AtTerminal:
    """A responder for the runs that `display` shows.

    Attributes:
        display: the one that shows the run that asks.
    """

    def __init__(self, display: Display, *, reads_itself: bool = True) -> None:
        """Reads the keyboard unless somebody else does, who then has each line `take`n."""
        self.display = display
        self._answers: Lines | None = None
        self._one_at_a_time = anyio.Lock()
        by = "command line"
        self._responder = TerminalResponder(by=by)
        if not reads_itself:
            self._responder = TerminalResponder(by=by, read_line=self._next)

    async def __call__(self, request: ApprovalRequest | InputRequest) -> Answer | None:
        """See `power_loop.Responder`."""
        async with self._one_at_a_time:
            self._answers = Lines()
            try:
                with self.display.still():
                    return await self._responder(request)
            finally:
                self._answers = None

    def take(self, line: str | None) -> bool:
        """Takes a line that was typed as an answer; False if nothing is being asked."""
        if self._answers is None:
            return False
        self._answers.put(line)
        return True

    async def _next(self) -> str | None:
        assert self._answers is not None
        return await self._answers.get()
