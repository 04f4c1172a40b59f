"""A run on a terminal: text as it is written, tools as they work."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from llm_client.types import Usage
from power_loop.cli.display import settled_line, told_transient
from power_loop.cli.timeline import one_line
from power_loop.events import RoundEnded, Stamped, TextDelta, ThinkingDelta
from power_loop.session.outcome import status_of
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


class LiveDisplay:
    """Shows one run after the other; what is settled scrolls up, what is going on moves below."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._live: Live | None = None
        self._text = ""
        self._thinking = ""
        self._asking = False
        self._tools: dict[str, Stamped] = {}
        self._usage = Usage()

    def show(self, stamped: Stamped) -> None:
        """Takes the next event in."""
        event = stamped.event
        match event:
            case RunOpened():
                self._open()
            case RunClosed():
                self._closed(event)
            case ToolStarted():
                self._tools[event.call_id] = stamped
            case ToolSettled():
                self._print(Text(settled_line(event, self._tools, stamped), style="green"))
            case RoundEnded():
                self._usage = event.usage
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
                self._asking = True
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

    def close(self) -> None:
        """Takes what moves off the screen."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _open(self) -> None:
        self._text = self._thinking = ""
        if self._live is None:
            self._live = Live(
                console=self._console,
                refresh_per_second=REFRESHES_PER_SECOND,
                transient=True,
            )
            self._live.start()

    def _ended(self, event: ModelEnded) -> None:
        self._asking = False
        self._thinking = ""
        if event.status != "ok":
            self._text = ""
            self._print(Text(f"the model call {event.status}; its text is void", style="yellow"))

    def _settle_text(self, text: str) -> None:
        self._text = ""
        if text.strip():
            self._print(Text(text))

    def _closed(self, event: RunClosed) -> None:
        self.close()
        status = status_of(event.outcome)
        tokens = f"{self._usage.input_tokens or 0} in, {self._usage.output_tokens or 0} out"
        style = "dim" if status == "completed" else "yellow"
        self._console.print(Text(f"[{status}] tokens: {tokens}", style=style))

    def _print(self, text: Text) -> None:
        self._console.print(text)

    def _refresh(self) -> None:
        if self._live is None:
            return
        lines: list[RenderableType] = []
        if self._thinking:
            lines.append(Text(one_line(self._thinking[-400:]), style="dim italic"))
        if self._text:
            lines.append(Text(self._text))
        for started in self._tools.values():
            event = started.event
            assert isinstance(event, ToolStarted)
            lines.append(Spinner("dots", f"{event.name} {one_line(event.arguments, 80)}"))
        if self._asking and not self._text:
            lines.append(Spinner("dots", Text("thinking", style="dim")))
        self._live.update(Group(*lines))
