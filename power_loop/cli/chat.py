"""`chat`: a conversation. Ctrl-C cancels the run, not the program."""

from __future__ import annotations

import signal
import sys
from argparse import Namespace

import anyio
from anyio.abc import TaskStatus

from llm_client.errors import LLMError
from power_loop.agent.loop import AgentLoop
from power_loop.agent.stream import RunStream
from power_loop.cli.ask import SMALL, open_loop
from power_loop.cli.asking import AtTerminal, somebody_answers
from power_loop.cli.display import Display, make_display
from power_loop.cli.keyboard import Lines, at_keyboard, read_lines
from power_loop.cli.turn import Opener, warm_up, when_free
from power_loop.errors import PowerLoopError
from power_loop.runtime.stores.base import SteerMode, Store

__all__ = ["chat"]

HELP = """\
Type a message and press Enter. While the agent works:
  /steer TEXT   say something to it; it hears it at its next round
  /steer! TEXT  stop what it is doing, and say something to it
  Ctrl-C        cancel what it is doing
Anything else waits until it is done:
  /resume       carry on what was cancelled or interrupted
  /abort        give up calls that are still open
  /session      the session's id
  /help         this text
  /quit         leave; the session stays (also Ctrl-D, or Ctrl-C twice when nothing runs)"""


async def chat(args: Namespace, store: Store) -> int:
    """`chat`: reads lines until /quit or the end of the input."""
    display = make_display(json=args.json)
    asks = AtTerminal(display, reads_itself=False) if somebody_answers(args) else None
    loop = open_loop(args, store, responder=asks)
    if not args.json:
        model = args.settings.model_in_words(args.model, loop.llm)
        print(f"{model}, in {args.workspace.resolve()}. /help says what can be typed.", flush=True)
        if args.settings.local_name(args.model) is not None:
            _say(SMALL)
    try:
        await warm_up(loop.llm)
        async with loop:
            await _Conversation(loop, args.session, display, asks, as_json=args.json).talk()
    finally:
        await loop.close_llm()
    return 0


class _Conversation:
    """One session at a keyboard."""

    def __init__(
        self,
        loop: AgentLoop[None],
        session: str | None,
        display: Display,
        asks: AtTerminal | None,
        *,
        as_json: bool,
    ) -> None:
        self._loop = loop
        self._session = session
        self._display = display
        self._asks = asks
        self._json = as_json
        self._lines = Lines()
        self._steering = Lines()
        self._everything = anyio.CancelScope()
        self._turn: anyio.CancelScope | None = None
        self._run: RunStream[None] | None = None
        self._warned = False

    async def talk(self) -> None:
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            self._everything = tasks.cancel_scope
            await tasks.start(self._watch_interrupts)
            tasks.start_soon(self._steer)
            read_lines(self._typed)
            try:
                await self._obey_lines()
            except Exception as error:  # noqa: BLE001  raised again, out of the group
                failure = error
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _obey_lines(self) -> None:
        while True:
            self._warned = False
            self._prompt()
            line = await self._lines.get()
            if line is None or line == "/quit":
                return
            try:
                await self._obey(line)
            except (PowerLoopError, LLMError) as error:
                _say(f"! {error}")

    def _prompt(self) -> None:
        if at_keyboard() and not self._json:
            print("> ", end="", flush=True)

    async def _obey(self, line: str) -> None:
        command, _, rest = line.partition(" ")
        match command:
            case "":
                return
            case "/help":
                print(HELP, flush=True)
            case "/session":
                print(self._session or "none yet", flush=True)
            case "/resume" | "/abort" if self._session is None:
                _say("there is no session yet; type a message")
            case "/resume":
                session = self._session or ""
                await self._show(lambda busy: self._loop.stream_resume(session, on_busy=busy))
            case "/abort":
                count = await self._loop.abort_pending(self._session or "")
                print(f"gave up {count} open calls", flush=True)
            case "/steer" | "/steer!" if rest.strip():
                _say("(nothing is running; sending it)")
                await self._send(rest)
            case "/steer" | "/steer!":
                _say(f"{command} TEXT says something to a run that is going on")
            case _ if command.startswith("/"):
                _say(f"there is no command {command}; /help lists them")
            case _:
                await self._send(line)

    async def _send(self, text: str) -> None:
        session = self._session
        await self._show(lambda busy: self._loop.stream(text, session, on_busy=busy))

    async def _show(self, open: Opener) -> None:
        """Shows a run to its end. Until it begins, Ctrl-C gives up waiting for its session."""
        display, began = self._display, False
        try:
            with anyio.CancelScope() as self._turn:
                async with when_free(open) as run:
                    self._run, self._session, began = run, run.session_id, True
                    async for stamped in run:
                        display.show(stamped)
            if not began:
                _say("(gave up waiting; nothing was sent)")
        finally:
            self._run = self._turn = None
            display.close()

    async def _steer(self) -> None:
        """Says what was typed with /steer or /steer! to whoever runs the session."""
        while True:
            line = await self._steering.get()
            assert line is not None
            assert self._session is not None
            command, _, text = line.partition(" ")
            mode: SteerMode = "interrupt" if command == "/steer!" else "next_round"
            try:
                posted = await self._loop.steer(self._session, text, mode=mode)
            except PowerLoopError as error:
                _say(f"! {error}")
            else:
                _say(f"({'it' if posted.running else 'its next run'} will hear: {text})")

    async def _watch_interrupts(self, *, task_status: TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(signal.SIGINT) as interrupts:
            task_status.started()
            async for _ in interrupts:
                self._interrupted()

    def _interrupted(self) -> None:
        if self._run is not None:
            self._run.cancel("Ctrl-C")
        elif self._turn is not None:
            self._turn.cancel()
        elif self._warned:
            self._everything.cancel()
        else:
            self._warned = True
            _say("\n(nothing is running; Ctrl-C once more leaves, as do /quit and Ctrl-D)")
            self._prompt()

    def _typed(self, line: str | None) -> None:
        command, _, text = (line or "").partition(" ")
        busy = self._turn is not None and self._session is not None
        if busy and command in ("/steer", "/steer!") and text.strip():
            self._steering.put(f"{command} {text.strip()}")
        elif self._asks is not None and self._asks.take(line):
            if line is None:
                self._lines.put(line)
        else:
            self._lines.put(line)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
