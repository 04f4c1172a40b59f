"""`chat`: a conversation. Ctrl-C cancels the run, not the program."""

from __future__ import annotations

import signal
import sys
import threading
from argparse import Namespace
from collections.abc import Callable

import anyio
from anyio.lowlevel import current_token

from llm_client.errors import LLMError
from power_loop.agent.loop import AgentLoop
from power_loop.cli.ask import open_loop
from power_loop.cli.display import Display, make_display
from power_loop.errors import PowerLoopError
from power_loop.runtime.stores.sqlite import SQLiteStore

__all__ = ["chat"]

HELP = """\
Type a message and press Enter. While the agent works:
  /steer TEXT   say something to it; it hears it at its next round
  Ctrl-C        cancel what it is doing
Anything else waits until it is done:
  /resume       carry on what was cancelled or interrupted
  /abort        give up calls that are still open
  /session      the session's id
  /help         this text
  /quit         leave; the session stays (also Ctrl-D, or Ctrl-C when nothing runs)"""


async def chat(args: Namespace, store: SQLiteStore) -> int:
    """`chat`: reads lines until /quit or the end of the input."""
    loop = open_loop(args, store)
    if not args.json:
        print(f"{loop.llm.model} in {args.workspace}. /help says what can be typed.")
    try:
        async with loop:
            await _Conversation(loop, args.session, as_json=args.json).talk()
    finally:
        await loop.close_llm()
    return 0


class _Conversation:
    """One session at a keyboard."""

    def __init__(self, loop: AgentLoop[None], session: str | None, *, as_json: bool) -> None:
        self._loop = loop
        self._session = session
        self._json = as_json
        self._running = False
        self._lines: list[str | None] = []
        self._steering: list[str] = []
        self._line = anyio.Event()

    async def talk(self) -> None:
        _read_lines(self._typed)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch_interrupts, tasks.cancel_scope)
            while True:
                self._prompt()
                line = await self._next_line()
                if line is None or line == "/quit":
                    break
                await self._guarded(line)
            tasks.cancel_scope.cancel()

    def _prompt(self) -> None:
        if sys.stdin.isatty() and not self._json:
            print("> ", end="", flush=True)

    async def _guarded(self, line: str) -> None:
        try:
            await self._obey(line)
        except (PowerLoopError, LLMError) as error:
            print(f"! {error}", file=sys.stderr)

    async def _obey(self, line: str) -> None:
        command, _, rest = line.partition(" ")
        match command:
            case "":
                return
            case "/help":
                print(HELP)
            case "/session":
                print(self._session or "none yet")
            case "/resume" | "/abort" if self._session is None:
                print("there is no session yet; type a message", file=sys.stderr)
            case "/resume":
                await self._resume()
            case "/abort":
                assert self._session is not None
                count = await self._loop.abort_pending(self._session)
                print(f"gave up {count} open calls")
            case "/steer":
                print(f"nothing is running; sending it: {rest}")
                await self._send(rest)
            case _ if command.startswith("/"):
                print(f"there is no command {command}; /help lists them", file=sys.stderr)
            case _:
                await self._send(line)

    async def _send(self, text: str) -> None:
        display = make_display(json=self._json)
        self._running = True
        try:
            async with self._loop.stream(text, self._session) as run:
                self._session = run.session_id
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._steer_while_running)
                    async for stamped in run:
                        display.show(stamped)
                    tasks.cancel_scope.cancel()
        finally:
            self._running = False
            display.close()

    async def _resume(self) -> None:
        assert self._session is not None
        display: Display = make_display(json=self._json)
        stop = self._loop.events.subscribe(display.show, inline=True)
        self._running = True
        try:
            await self._loop.resume(self._session)
        finally:
            self._running = False
            stop()
            display.close()

    async def _steer_while_running(self) -> None:
        assert self._session is not None
        while True:
            while self._steering:
                text = self._steering.pop(0)
                await self._loop.steer(self._session, text)
                print(f"(it will hear: {text})", file=sys.stderr)
            self._line = anyio.Event()
            await self._line.wait()

    async def _watch_interrupts(self, everything: anyio.CancelScope) -> None:
        with anyio.open_signal_receiver(signal.SIGINT) as interrupts:
            async for _ in interrupts:
                if self._running and self._session is not None:
                    await self._loop.cancel(self._session, "Ctrl-C")
                else:
                    everything.cancel()

    async def _next_line(self) -> str | None:
        while not self._lines:
            self._line = anyio.Event()
            await self._line.wait()
        return self._lines.pop(0)

    def _typed(self, line: str | None) -> None:
        command, _, text = (line or "").partition(" ")
        if self._running and command == "/steer" and text.strip():
            self._steering.append(text.strip())
        else:
            self._lines.append(line)
        self._line.set()


def _read_lines(typed: Callable[[str | None], None]) -> None:
    """Reads standard input in a daemon thread: a blocking read must not keep the program alive."""
    token = current_token()

    def read() -> None:
        try:
            for line in sys.stdin:
                anyio.from_thread.run_sync(typed, line.strip(), token=token)
            anyio.from_thread.run_sync(typed, None, token=token)
        except anyio.RunFinishedError:
            return

    threading.Thread(target=read, name="power-loop-input", daemon=True).start()
