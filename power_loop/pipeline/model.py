"""One round: inbox, limits, compaction, memory, the model."""

from __future__ import annotations

from msgspec.structs import replace

from llm_client.types import (
    LLMRequest,
    LLMResponse,
    Message,
    Part,
    Text,
    ToolCall,
    ToolResult,
)
from power_loop.events import RoundStarted
from power_loop.hooks import LLM_AFTER, ROUND_START, Break, LlmAfter, RoundStart, Skip
from power_loop.pipeline.attempts import Answer, Prepared, ask_model
from power_loop.pipeline.context import compacted, condensed, prepared, recall
from power_loop.pipeline.decisions import heard
from power_loop.pipeline.ports import Interrupted, Ports
from power_loop.pipeline.prefix import tell_of_a_shorter_view
from power_loop.pipeline.progress import (
    Progress,
    append_messages,
    arguments_fault,
    end_round,
    filtered,
    filtered_results,
    from_hook,
    repaired,
    where,
)
from power_loop.pipeline.settle import round_limit_reached
from power_loop.session.closing import result_message
from power_loop.session.machine import Phase
from power_loop.session.outcome import Cancelled, Outcome
from power_loop.session.records import MessageAppended, ModelEnded, ToolSettled
from power_loop.session.state import result_id
from power_loop.session.text import repaired_text

__all__ = ["cut_short", "model_phase", "take_inbox"]


async def model_phase(io: Ports, progress: Progress) -> Outcome | None:
    """Runs the model's part of a round: how the run ends, or None to go on."""
    if progress.deferred:
        await append_messages(io, progress.deferred)
        progress.deferred = ()
    cancelled = await take_inbox(io)
    if cancelled is not None:
        return cancelled
    if io.session.round + progress.skipped >= progress.limit:
        return await _last_word(io, progress)
    await io.pace()
    diverted = await _start_round(io)
    if isinstance(diverted, Skip):
        progress.skipped += 1
        return None
    if diverted is not None:
        return diverted.ending
    await _recalled_and_compacted(io, progress)
    round = io.session.round
    answer = await _ask(io, progress, io.plan.template)
    if not isinstance(answer, Answer):
        return answer
    if io.session.round == round:
        progress.skipped += 1
    return await _take_answer(io, answer)


async def _recalled_and_compacted(io: Ports, progress: Progress) -> None:
    if io.recalls and not progress.recalled:
        progress.recalled = True
        await recall(io)
    await condensed(io, progress)
    await _compacted(io, progress, io.plan.template)


async def _compacted(io: Ports, progress: Progress, template: LLMRequest) -> None:
    if io.compacts:
        view = io.session.view
        if await compacted(io, template):
            tell_of_a_shorter_view(io, progress, view)


async def take_inbox(io: Ports) -> Outcome | None:
    """Appends what was steered in; the ending, if somebody asked for one."""
    taken = await io.drain()
    if taken.messages:
        await append_messages(io, taken.messages, take=taken.ids)
    if taken.cancel is not None:
        return Cancelled(taken.cancel)
    return None


async def _start_round(io: Ports) -> Break | Skip | None:
    s = io.session
    io.emit(RoundStarted(s.round + 1))
    if not io.listens(ROUND_START):
        return None
    context = RoundStart(**where(io), messages=s.view, spent=s.task_spent, polling=io.plan.polling)
    result = await heard(io, ROUND_START, context)
    if not isinstance(result, RoundStart):
        return result
    if result.append:
        await append_messages(io, from_hook(ROUND_START, result.append))
    return None


async def _ask(io: Ports, progress: Progress, template: LLMRequest) -> Answer | Outcome:
    s = io.session
    round = s.round + 1
    ready = await prepared(io, progress, template)
    if not isinstance(ready, Prepared):
        return ready

    sent = ready.request

    async def shortened(model: str) -> Prepared | Answer | Outcome | None:
        nonlocal sent
        if not await compacted(io, replace(template, model=model), overflow=True):
            return None
        shorter = await prepared(io, progress, template)
        if isinstance(shorter, Prepared):
            sent = shorter.request
        return shorter

    answer = await ask_model(io, ready, round, shortened)
    if isinstance(answer, Answer) and io.listens(LLM_AFTER):
        context = LlmAfter(**where(io), request=sent, response=answer.response)
        result = await heard(io, LLM_AFTER, context)
        if isinstance(result, Break):
            await _append_text(io, answer)
            return result.ending
        answer = Answer(result.response, answer.attempt)
    return answer


async def _take_answer(io: Ports, answer: Answer) -> Outcome | None:
    message = await _append_answer(io, answer)
    if io.session.phase is not Phase.TOOLS:
        await end_round(io, message.text, has_tools=bool(message.tool_calls))
    return None


async def cut_short(io: Ports, stopped: Interrupted) -> None:
    """A model call was stopped: keeps the text that had arrived, and nothing else of the answer."""
    asked, text = io.session.asked, repaired_text(stopped.partial)
    if asked is not None:
        ended = ModelEnded(
            asked.attempt,
            "cancelled",
            stopped.usage,
            measured=stopped.measured,
            partial=text,
            cost=io.cost(asked.model, stopped.usage) if io.limited else 0.0,
        )
        await io.commit(ended, later=True)
        if asked.purpose:
            # It was no round: one before it has ended, or one has yet to begin.
            return
        if text.strip():
            message = Message(
                "assistant", (Text(text),), id=io.new_id(), meta={"interrupted": "true"}
            )
            record = MessageAppended(await filtered(io, message), asked.attempt)
            await io.commit(record, later=True)
    await end_round(io, text, has_tools=False)


async def _append_text(io: Ports, answer: Answer) -> str:
    """Appends an answer without its calls, if that leaves anything; its text."""
    parts = tuple([part for part in answer.response.parts if not isinstance(part, ToolCall)])
    response = replace(answer.response, parts=parts)
    if not response.text and not response.refusal:
        return ""
    return (await _append_answer(io, Answer(response, answer.attempt))).text


async def _append_answer(io: Ports, answer: Answer) -> Message:
    response = answer.response
    parts = response.parts
    if response.refusal and not response.text:
        parts = (*parts, Text(response.refusal))
    # Every protocol wants some content; an answer may have none.
    parts = repaired(io, "model", parts or (Text(""),))
    message = Message("assistant", _with_own_ids(io, parts), id=io.new_id())
    message = await filtered(io, message)
    refused = await filtered_results(io, _refused_calls(response, message))
    await io.commit(MessageAppended(message, answer.attempt), *refused, later=True)
    return message


def _with_own_ids(io: Ports, parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """`parts` with calls renamed whose ids are empty or were used before in the session."""
    seen: set[str] = set()
    named: list[Part] = []
    for part in parts:
        if not isinstance(part, ToolCall):
            named.append(part)
            continue
        # Its result will need an id as well.
        ids = {part.id, result_id(part.id)}
        taken = not part.id or ids & seen or any(map(io.session.knows, ids))
        call = replace(part, id=io.new_id()) if taken else part
        seen |= {call.id, result_id(call.id)}
        named.append(call)
    return tuple(named)


def _refused_calls(response: LLMResponse, message: Message) -> list[ToolSettled]:
    """Calls that must not run: cut off, or without arguments that are a JSON object.

    They settle in the very commit that appends them, so that no crash can make them run.
    """
    calls = message.tool_calls
    refused: list[ToolSettled] = []
    for call in calls:
        if response.truncated and call is calls[-1]:
            why = "the answer was cut off before this call was certainly complete"
        else:
            why = arguments_fault(call.arguments)
        if why is not None:
            text = f"[not run] {why}. Make the call again, complete and with valid JSON arguments."
            result = ToolResult(call.id, (Text(text),), is_error=True)
            refused.append(ToolSettled(result_message(result), "not_run"))
    return refused


async def _last_word(io: Ports, progress: Progress) -> Outcome | None:
    """The rounds are used up: one more answer, without tools, that says where things stand."""
    prompt = Message("user", (Text(io.plan.round_limit_prompt),), id=io.new_id())
    await append_messages(io, [prompt])
    template = replace(io.plan.template, tools=(), tool_choice="auto")
    await _compacted(io, progress, template)
    answer = await _ask(io, progress, template)
    if not isinstance(answer, Answer):
        return answer
    return await round_limit_reached(io, progress, await _append_text(io, answer))
