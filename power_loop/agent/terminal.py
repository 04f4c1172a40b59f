"""Whoever sits at the terminal answers."""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

import anyio
import msgspec

from power_loop.agent.answers import answer, approve, check_answer_to, deny
from power_loop.agent.requests import ApprovalRequest, InputRequest
from power_loop.errors import AnswerRefused, UsageError
from power_loop.pipeline.plan import Answer

__all__ = ["TerminalResponder", "plain", "until"]

_PIECE = 65536
_WAYS = "y to allow it, n or n NOTE to forbid it, e to edit the arguments, l to decide later: "

ReadLine = Callable[[], Awaitable[str | None]]


class TerminalResponder:
    """Shows on the terminal what a call waits for, and takes the answer from there.

    One question at a time; what was typed before it was put does not count. Where no terminal is,
    on Windows, and at the end of what is typed, the call stays open. What is shown may have been
    written by a model: characters that would move the cursor or hide text are shown as escapes.
    """

    def __init__(
        self,
        *,
        by: str = "terminal",
        read_line: ReadLine | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        """Takes the lines of standard input, and shows what it says on standard error.

        Args:
            by: who answers, for the record.
            read_line: gives the next line that is typed, None at the end, for a program that reads
                the terminal itself; there is a terminal then.
            say: shows a text, which ends with a line break unless it is a prompt.
        """
        self._by = by
        self._read_line = read_line
        self._say = say or _show
        self._lines = _Typed() if read_line is None else None
        self._one_at_a_time = anyio.Lock()

    async def __call__(self, request: ApprovalRequest | InputRequest) -> Answer | None:
        """See `Responder`."""
        read = self._read_line
        async with self._one_at_a_time:
            if self._lines is not None:
                if not self._lines.at_terminal():
                    return None
                self._lines.forget()
                read = self._lines.next
            assert read is not None
            if isinstance(request, ApprovalRequest):
                return await self._approval(request, read)
            return await self._input(request, read)

    async def _approval(self, request: ApprovalRequest, read: ReadLine) -> Answer | None:
        self._say(f"\n{plain(request.tool)} {_shown_arguments(request.arguments)}\n")
        self._say(f"  {plain(request.reason)}{until(request.expires)}\n")
        while True:
            self._say(_WAYS)
            line = await read()
            if line is None:
                return None
            word, _, note = line.strip().partition(" ")
            match word.lower():
                case "y" | "yes" if not note:
                    return approve(request.token, by=self._by)
                case "n" | "no":
                    return deny(request.token, note.strip(), by=self._by)
                case "e" | "edit" if not note:
                    edited = await self._edited(request, read)
                    if edited is not None:
                        return edited
                case "l" | "later" if not note:
                    return None
                case _:
                    pass

    async def _edited(self, request: ApprovalRequest, read: ReadLine) -> Answer | None:
        """An approval of other arguments; None if there are to be none."""
        while True:
            self._say("the arguments as a JSON object, or nothing to leave them as they are: ")
            line = await read()
            if line is None or not line.strip():
                return None
            try:
                return approve(request.token, msgspec.json.decode(line), by=self._by)
            except (msgspec.DecodeError, ValueError, RecursionError, UsageError) as error:
                self._say(f"that cannot be: {error}\n")

    async def _input(self, request: InputRequest, read: ReadLine) -> Answer | None:
        self._say(f"\n{plain(request.question)}\n{_choices(request)}")
        while True:
            self._say("your answer, or nothing to answer later: ")
            line = await read()
            if line is None or not line.strip():
                return None
            given = answer(request.token, line.strip(), by=self._by)
            try:
                check_answer_to(request.token, request.schema, given)
            except AnswerRefused as error:
                self._say(f"{plain(str(error))}\n")
            else:
                return given


class _Typed:
    """Lines of standard input, waited for without a thread."""

    def __init__(self) -> None:
        self._begun = b""
        self._ended = False

    def at_terminal(self) -> bool:
        """Whether somebody types there, and it can be waited for."""
        stdin, shown = sys.__stdin__, sys.__stderr__
        if sys.platform == "win32" or stdin is None or shown is None:
            return False
        return stdin.isatty() and shown.isatty()

    def forget(self) -> None:
        """Drops what has been typed so far."""
        self._begun = b""
        while not self._ended and select.select([0], [], [], 0)[0]:
            self._take()

    async def next(self) -> str | None:
        """The next line; None at the end."""
        while b"\n" not in self._begun:
            if self._ended:
                return None
            await anyio.wait_readable(0)
            self._take()
        line, _, self._begun = self._begun.partition(b"\n")
        return line.decode(errors="replace")

    def _take(self) -> None:
        try:
            data = os.read(0, _PIECE)
        except OSError:
            # A terminal that was hung up is the end of what can be typed.
            data = b""
        self._ended = not data
        self._begun += data


def plain(text: str) -> str:
    """`text` with all characters escaped that are not seen as they are, but for line breaks."""
    return "".join([c if c.isprintable() or c == "\n" else _escape(c) for c in text])


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def _show(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _shown_arguments(arguments: str) -> str:
    value: object = msgspec.json.decode(arguments or "{}")
    return plain(json.dumps(value, ensure_ascii=False, indent=2))


def until(expires: float | None) -> str:
    """By when something can be answered, in words; "" for any time."""
    if expires is None:
        return ""
    return f" (until {datetime.fromtimestamp(expires).astimezone():%Y-%m-%d %H:%M:%S})"


def _choices(request: InputRequest) -> str:
    if request.schema is None:
        return ""
    if "enum" in request.schema:
        choices: Sequence[object] = request.schema["enum"]
        shown = [each if isinstance(each, str) else json.dumps(each) for each in choices]
        return "".join([f"  - {plain(each)}\n" for each in shown])
    return f"it must fit {plain(json.dumps(request.schema, ensure_ascii=False))}\n"
