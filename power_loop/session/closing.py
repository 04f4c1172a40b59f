"""How a run that was stopped midway is closed truthfully: the only repair there is."""

from __future__ import annotations

from collections.abc import Mapping

from llm_client.types import Message, Text, ToolResult, Usage
from power_loop.session.outcome import Outcome
from power_loop.session.records import ModelEnded, Record, RunClosed, Settlement, ToolSettled
from power_loop.session.spent import Spent
from power_loop.session.state import OpenCall, State, result_id
from power_loop.session.text import repaired_result, repaired_strings, repaired_text

__all__ = [
    "TRUTH",
    "closing",
    "closing_calls",
    "goes_on",
    "not_again",
    "result_message",
    "settled_by_answer",
    "told",
]

TRUTH: Mapping[Settlement, str] = {
    "interrupted": (
        "[interrupted] This call was stopped before it had finished. Its effects are unknown: "
        "none, some or all of them may have happened. It was not run again."
    ),
    "not_run": "[not run] This call was stopped before it had begun. It had no effect.",
    "unknown": (
        "[unknown] The program that ran this call died before the call had ended. Its outcome is "
        "unknown: none, some or all of its effects may have happened. It was not run again."
    ),
    "denied": "[denied] A person did not allow this call. It had no effect.",
}
"""What the model is told about a call that has no result of its own."""

_GOES_ON = (
    "[interrupted] Nobody waits for this call here any more, but it goes on in the background. "
    "Its effects are unknown until it has ended; what comes of it is told in a message of its own, "
    "unless the program ends before."
)


def result_message(result: ToolResult, meta: dict[str, str] | None = None) -> Message:
    """The message that carries a result. Its id follows from the call's, which is unique.

    `meta` are notes about it: see `OUTPUT_META`.
    """
    return Message("tool", (result,), id=result_id(result.call_id), meta=meta or None)


def told(call_id: str, how: Settlement, detail: str = "") -> ToolSettled:
    """A call settled by the truth about it, instead of by a result."""
    text = f"{TRUTH[how]} {detail}".rstrip()
    return ToolSettled(result_message(ToolResult(call_id, (Text(text),), is_error=True)), how)


def not_again(call: OpenCall, why: str) -> ToolSettled:
    """The settlement of a call that had begun, and is not begun again because of `why`."""
    if call.failed:
        return told(call.call.id, "interrupted", f"It had failed. {why}")
    return told(call.call.id, "unknown", why)


def goes_on(call_id: str) -> ToolResult:
    """What the model is told of a call that its run has left to go on."""
    return ToolResult(call_id, (Text(_GOES_ON),), is_error=True)


def closing_calls(
    state: State, finished: Mapping[str, Message], detail: str = "", *, died: bool = False
) -> tuple[ToolSettled, ...]:
    """Settles every open call by what is known of it: the message with its result, if it had
    finished after all, or that it `goes_on`.

    `died` says that the process of the open run has died; what was running then nobody knows of.
    """
    return tuple(
        [_settled(call, finished, detail, died=died) for call in state.open_calls.values()]
    )


def settled_by_answer(call: OpenCall) -> ToolSettled:
    """The settlement of a call that is `answered`: a person said no, or what came is its result."""
    if call.kind == "approval":
        said = f" They say: {call.refusal}" if call.refusal else ""
        if not call.begun:
            return told(call.call.id, "denied", said.strip())
        return not_again(call, f"A person did not allow that.{said}")
    result = result_message(ToolResult(call.call.id, (Text(call.answer),)))
    return ToolSettled(result, "finished" if call.begun else "skipped")


def _settled(
    call: OpenCall, finished: Mapping[str, Message], detail: str, *, died: bool
) -> ToolSettled:
    if call.state == "answered":
        return settled_by_answer(call)
    given = finished.get(call.call.id)
    if given is not None and call.may_have_finished:
        result = given.parts[0]
        assert isinstance(result, ToolResult)
        how = "interrupted" if result == goes_on(call.call.id) else "finished"
        return ToolSettled(result_message(repaired_result(result), given.meta), how)
    if not call.begun:
        return told(call.call.id, "not_run", detail)
    lost = call.lost or (died and call.state == "started")
    return told(call.call.id, "unknown" if lost else "interrupted", detail)


def closing(
    state: State,
    outcome: Outcome,
    finished: Mapping[str, Message],
    partial: str = "",
    spent: Usage | None = None,
    *,
    cost: float = 0.0,
    seconds: tuple[float, float] = (0.0, 0.0),
    unheard: Spent | None = None,
) -> tuple[Record, ...]:
    """The records that end the open run with `outcome`, whatever it was doing. Empty if none is.

    `partial` is the text of the answer that was on its way, and `spent` what it may have cost by
    then (and `cost` in US dollars); what was set aside for it is assumed otherwise. `seconds` are
    those that the run was open, and worked; `unheard` is what sessions below have used. A call that
    waits for a child or a person is given up as well; an ending that keeps calls open is the
    pipeline's to write. Text that no store can hold is replaced: nothing may keep a run from being
    closed.
    """
    if state.run is None:
        return ()
    records: list[Record] = []
    if state.asked is not None:
        output = state.asked.reserved_output
        usage = spent or Usage(state.asked.reserved - output, output)
        text = repaired_text(partial)
        if spent is None:
            cost = state.asked.reserved_cost
        ended = ModelEnded(
            state.asked.attempt, "cancelled", usage, measured=False, partial=text, cost=cost
        )
        records.append(ended)
    records.extend(closing_calls(state, finished))
    records.append(RunClosed(state.run, repaired_strings(outcome), *seconds, unheard))
    return tuple(records)
