"""A run on a terminal: text as it is written, tools as they work."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from power_loop.cli.display import Tally, settled_line, started_line, told_transient
from power_loop.cli.timeline import one_line
from power_loop.events import Stamped, TextDelta, ThinkingDelta
from power_loop.session.outcome import Completed
from power_loop.session.records import (
    MessageAppended,
    ModelAsked,
    ModelEnded,
    RunClosed,
    RunOpened,
    ToolSettled,
    ToolStarted,
)

__all__ = ["LiveDisplay"]

REFRESHES_PER_SECOND = 12
ROWS_BESIDE_TEXT = 8


class LiveDisplay:
    """Shows one run after the other; what is settled scrolls up, what is going on moves below."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._live: Live | None = None
        self._moves = False
        self._still = False
        self._text = ""
        self._thinking = ""
        self._asking = self._aside = False
        self._tools: dict[str, Stamped] = {}
        self._tally = Tally()

    def show(self, stamped: Stamped) -> None:
        """Takes the next event in."""
        event = stamped.event
        self._tally.take(event)
        match event:
            case RunOpened():
                self._open()
            case RunClosed():
                self._closed(event)
            case ToolStarted():
                self._tools[event.call_id] = stamped
                self._print(Text(started_line(event), style="cyan"))
            case ToolSettled():
                self._print(Text(settled_line(event, self._tools, stamped), style="green"))
            case _:
                if not self._writing(stamped):
                    told = told_transient(stamped)
                    if told:
                        self._print(Text(told, style="yellow"))
        self._refresh()

    def _writing(self, stamped: Stamped) -> bool:
        """Takes in what belongs to an answer that is being written."""
        event = stamped.event
        match event:
            case ModelAsked():
                self._asking, self._aside = True, bool(event.purpose)
            case TextDelta():
                self._text += event.text
            case ThinkingDelta():
                self._thinking += event.text
            case ModelEnded():
                self._ended(event)
            case MessageAppended() if event.message.role == "assistant":
                self._settle_text(event.message.text)
            case _:
                return False
        return True

    @contextmanager
    def still(self) -> Generator[None]:
        """Takes what moves off the screen meanwhile."""
        self._still = True
        self._stop()
        try:
            yield
        finally:
            self._still = False
            self._start()

    def close(self) -> None:
        """Takes what moves off the screen."""
        self._moves = False
        self._stop()

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _open(self) -> None:
        self._text = self._thinking = ""
        self._moves = True
        self._start()

    def _start(self) -> None:
        if self._live is None and self._moves and not self._still:
            self._live = Live(
                console=self._console,
                refresh_per_second=REFRESHES_PER_SECOND,
                transient=True,
            )
            self._live.start()

    def _ended(self, event: ModelEnded) -> None:
        self._asking = False
        self._thinking = ""
        if self._aside:
            self._aside = False
        elif event.status != "ok":
            self._text = ""
            self._print(Text(f"the model call {event.status}; its text is void", style="yellow"))

    def _settle_text(self, text: str) -> None:
        self._text = ""
        if text.strip():
            self._print(Text(text))

    def _closed(self, event: RunClosed) -> None:
        self.close()
        style = "dim" if isinstance(event.outcome, Completed) else "yellow"
        self._print(Text(self._tally.closing_line(event), style=style))

    def _print(self, text: Text) -> None:
        if self._live is not None:
            # What has settled must not be seen a second time below.
            self._live.update(self.moving(), refresh=True)
        self._console.print(text)

    def _refresh(self) -> None:
        if self._live is not None:
            self._live.update(self.moving())

    def moving(self) -> RenderableType:
        """What is going on now."""
        lines: list[RenderableType] = []
        if self._thinking:
            lines.append(Text(one_line(self._thinking[-400:]), style="dim italic"))
        if self._text:
            lines += self._end_of_text()
        for started in self._tools.values():
            event = started.event
            assert isinstance(event, ToolStarted)
            lines.append(Spinner("dots", Text(f"{event.name} is running", style="dim")))
        if self._asking and not self._text:
            lines.append(Spinner("dots", Text("thinking", style="dim")))
        return Group(*lines)

    def _end_of_text(self) -> Sequence[Text]:
        """As much of the answer as the screen has room for; the whole of it is printed once it is
        there."""
        console = self._console
        room = max(1, console.height - ROWS_BESIDE_TEXT)
        end = Text(self._text[-room * console.width :])
        return list(end.wrap(console, console.width))[-room:]
