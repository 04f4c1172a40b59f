"""What the model is asked with: a view that fits, what memory has brought up, the same prefix."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from msgspec.structs import replace

from llm_client.types import LLMRequest, Message, ToolResult, Transcript
from power_loop.hooks import (
    COMPACT_AFTER,
    COMPACT_BEFORE,
    LLM_BEFORE,
    MEMORY_RECALLED,
    Break,
    CompactAfter,
    CompactBefore,
    LlmBefore,
    MemoryRecalled,
    ShortCircuit,
    Skip,
)
from power_loop.pipeline.aside import Asides
from power_loop.pipeline.attempts import Answer, Prepared
from power_loop.pipeline.decisions import heard
from power_loop.pipeline.ports import Ports
from power_loop.pipeline.prefix import tell_of_its_prefix
from power_loop.pipeline.progress import Progress, from_hook, request_digest, where
from power_loop.session.outcome import Outcome
from power_loop.session.records import Recalled
from power_loop.session.view import OUTPUT_META, SUMMARISED

__all__ = ["compacted", "condensed", "prepared", "recall"]


async def compacted(io: Ports, template: LLMRequest, *, overflow: bool = False) -> bool:
    """Makes the view smaller if it is too large; whether it did.

    With `overflow` the provider has said that it is.
    """
    if not io.compacts or not await io.too_large(_request(io, template), overflow=overflow):
        return False
    s = io.session
    if io.listens(COMPACT_BEFORE):
        context = CompactBefore(**where(io), messages=s.view)
        if isinstance(await heard(io, COMPACT_BEFORE, context), Skip):
            return False

    before, asides = len(s.view), Asides(io, "compaction")
    change = await io.compact(_request(io, template), asides, overflow=overflow)
    await asides.close()
    if change is None:
        return False
    await io.commit(change)
    if io.listens(COMPACT_AFTER):
        context = CompactAfter(
            **where(io),
            messages=s.view,
            messages_before=before,
            messages_after=len(s.view),
            by=change.by,
            tokens_before=change.before,
            tokens_after=change.after,
        )
        await heard(io, COMPACT_AFTER, context)
    return True


async def condensed(io: Ports, progress: Progress) -> None:
    """Has the newest results summarised whose tools want that."""
    if io.session.tail != "tool":
        return
    results = takewhile(_is_result, reversed(io.session.messages))
    wanted = [m for m in results if m.id not in progress.condensed and _is_to_be_condensed(m)]
    if not wanted:
        return
    progress.condensed.update([message.id for message in wanted])
    asides = Asides(io, "output")
    change = await io.condense(wanted[::-1], asides)
    await asides.close()
    if change is not None:
        await io.commit(change)


def _is_result(message: Message) -> bool:
    return message.role == "tool"


def _is_to_be_condensed(message: Message) -> bool:
    if message.meta is None or message.meta.get(OUTPUT_META) != "summarise":
        return False
    return not any(
        isinstance(p, ToolResult) and p.text.startswith(SUMMARISED) for p in message.parts
    )


async def recall(io: Ports) -> None:
    """Has memory brought up what belongs to the run."""
    recalled = await io.recall(io.session.view)
    if recalled and io.listens(MEMORY_RECALLED):
        result = await heard(io, MEMORY_RECALLED, MemoryRecalled(**where(io), recalled=recalled))
        recalled = () if isinstance(result, Skip) else from_hook(MEMORY_RECALLED, result.recalled)
    if recalled:
        await io.commit(Recalled(recalled, io.plan.recall_at_front), later=True)


def _request(io: Ports, template: LLMRequest) -> LLMRequest:
    s = io.session
    view = s.view
    messages: Sequence[Message] = view
    if s.recalled:
        # At the tail, if nobody wants it otherwise: so the prefix stays from run to run.
        if s.recalled_front:
            messages = (*s.recalled, *view)
        else:
            messages = Transcript(view.backing, view.start, view.stop, tail=s.recalled)
    return replace(template, messages=messages, cache_key=s.id)


async def prepared(
    io: Ports, progress: Progress, template: LLMRequest
) -> Prepared | Answer | Outcome:
    """The request that comes next, as the handlers of llm.before leave it; or what they want."""
    request, digest = _request(io, template), ""
    if io.listens(LLM_BEFORE):
        result = await heard(io, LLM_BEFORE, LlmBefore(**where(io), request=request))
        match result:
            case ShortCircuit(response=response):
                return Answer(response, None)
            case Break() as broken:
                return broken.ending
            case LlmBefore(request=sent) if sent is not request:
                request, digest = sent, request_digest(sent)
            case _:
                pass
    tell_of_its_prefix(io, progress, request, rewritten=bool(digest))
    return Prepared(request, digest)
