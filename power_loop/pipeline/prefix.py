"""Whether a request begins with all of the one before it, as prompt caches want it.

What is added for one request only, behind the view, is no part of what must stay.
"""

from __future__ import annotations

from collections.abc import Sequence

from llm_client.types import LLMRequest, Message, ToolSpec, Transcript
from power_loop.events import PrefixChanged
from power_loop.pipeline.ports import Ports
from power_loop.pipeline.progress import Progress
from power_loop.session.records import ModelConfigured
from power_loop.session.state import State

__all__ = ["tell_of_a_shorter_view", "tell_of_another_configuration", "tell_of_its_prefix"]

_NOTHING = ModelConfigured()


def tell_of_its_prefix(
    io: Ports, progress: Progress, request: LLMRequest, *, rewritten: bool
) -> None:
    """Emits `PrefixChanged` if `request` does not begin with the one before it in the run."""
    s = io.session
    before = progress.sent
    stays = len(s.view) + (len(s.recalled) if s.recalled_front else 0)
    progress.sent = request, stays, rewritten
    if before is None:
        other = _first_memory(s)
        if other is not None:
            io.emit(PrefixChanged("memory", f"messages[{other}]"))
        return
    last, stayed, had_been = before
    place = _beside_messages(last, request)
    if place is not None:
        reason = "llm.before" if rewritten or had_been else "configuration"
        io.emit(PrefixChanged(reason, place))
        return
    first = _first_message(last.messages, request.messages, stayed)
    if first is not None:
        reason = "llm.before" if rewritten or had_been else "compaction"
        io.emit(PrefixChanged(reason, f"messages[{first}]"))


def tell_of_a_shorter_view(io: Ports, progress: Progress, before: Sequence[Message]) -> None:
    """Emits `PrefixChanged` if a run that has asked nothing yet has made a view smaller that the
    run before it had asked with: `before`, up to the answer."""
    s = io.session
    if progress.sent is not None or _first_memory(s) is not None:
        return  # it is told of with the request that comes next
    asked = max((at for at, m in enumerate(before) if m.role == "assistant"), default=0)
    first = _first_message(before, s.view, asked)
    if first is not None:
        ahead = len(s.recalled) if s.recalled_front else 0
        io.emit(PrefixChanged("compaction", f"messages[{ahead + first}]"))


def tell_of_another_configuration(io: Ports, new: ModelConfigured) -> None:
    """Emits `PrefixChanged` if a run begins its prompts otherwise than the one before it."""
    old = io.session.configured
    if old == _NOTHING:
        return
    before, now = (
        LLMRequest((), system=c.system, tools=c.tools, output_schema=c.output_schema)
        for c in (old, new)
    )
    place = _beside_messages(before, now)
    if place is not None:
        io.emit(PrefixChanged("configuration", place))


def _first_memory(s: State) -> int | None:
    """The first message ahead of the view that is another one than in the run before."""
    before, now = s.recalled_before, s.recalled if s.recalled_front else ()
    pairs = enumerate(zip(before, now, strict=False))
    least = min(len(before), len(now))
    first = next((at for at, (a, b) in pairs if not _is_the_same(a, b)), least)
    return first if s.last_run is not None and max(len(before), len(now)) > first else None


def _beside_messages(last: LLMRequest, now: LLMRequest) -> str | None:
    if last.tools is not now.tools and last.tools != now.tools:
        return f"tools[{_first_tool(last.tools, now.tools)}]"
    if last.system != now.system:
        return "system"
    return None if last.output_schema == now.output_schema else "output_schema"


def _first_tool(last: Sequence[ToolSpec], now: Sequence[ToolSpec]) -> int:
    pairs = enumerate(zip(last, now, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(last), len(now)))


def _first_message(last: Sequence[Message], now: Sequence[Message], stayed: int) -> int | None:
    """The first of the messages that were to stay and are not there."""
    if isinstance(last, Transcript) and isinstance(now, Transcript):
        same = last.backing is now.backing and last.start == now.start
        if same and now.stop - now.start >= stayed:
            return None
    # Handlers may have left out some of what was to stay.
    stayed = min(stayed, len(last))
    for place, (message, other) in enumerate(zip(last[:stayed], now, strict=False)):
        if not _is_the_same(message, other):
            return place
    return None if len(now) >= stayed else len(now)


def _is_the_same(message: Message, other: Message) -> bool:
    return message is other or (message.role, message.parts) == (other.role, other.parts)
