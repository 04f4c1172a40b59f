"""What a host must have decided about open calls, from what became of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from power_loop.history.outcomes import result_of_call
from power_loop.history.script import call_of
from power_loop.pipeline.plan import Answer, Verdict
from power_loop.pipeline.ports import ToolTraits
from power_loop.session.closing import TRUTH
from power_loop.session.machine import Session
from power_loop.session.records import (
    CallAnswered,
    CallWaiting,
    Decided,
    Record,
    ToolSettled,
    ToolStarted,
)

__all__ = ["decided", "given_answers"]


def decided(
    session: Session, records: Sequence[Record], traits: Callable[[str], ToolTraits | None]
) -> dict[str, Verdict]:
    """Decisions, by call id, under which a run does what is recorded of it.

    A call in doubt is decided by what came first of it; of one whose tool is run by the caller, the
    result is a decision. `session` is as the run found it.
    """
    verdicts: dict[str, Verdict] = {}
    seen: set[str] = set()
    for record in records:
        call_id = call_of(record)
        if call_id is None:
            continue
        call = session.open_calls.get(call_id)
        if call is not None and call.begun:
            if call_id not in seen:
                verdict = _of_doubtful(record, traits(call.started.name) if call.started else None)
                if verdict is not None:
                    verdicts[call_id] = verdict
        elif isinstance(record, ToolSettled) and record.how == "finished":
            verdicts |= _of_external(record, records, traits)
        seen.add(call_id)
    return verdicts


def given_answers(session: Session, records: Sequence[Record]) -> dict[str, Answer]:
    """What must have been answered in a run, by token. `session` is as the run found it."""
    approvals = {call.token for call in session.open_calls.values() if call.kind == "approval"}
    approvals |= {r.token for r in records if isinstance(r, CallWaiting) and r.kind == "approval"}
    late = {r.call_id for r in records if isinstance(r, Decided) and _is_too_late(r)}
    found: dict[str, Answer] = {}
    for record in records:
        if not isinstance(record, CallAnswered):
            continue
        token, by, note = record.token, record.by, record.note
        if token not in approvals:
            # Whatever its words are.
            found[token] = Answer(token, "answer", record.answer, by, note)
        elif record.answer != "expired":
            kind = "approve" if record.answer == "approve" else "deny"
            found[token] = Answer(token, kind, record.answer, by, note, record.arguments)
        elif record.call_id in late:
            found[token] = Answer(token, "approve")
    return found


def _is_too_late(record: Decided) -> bool:
    return record.at == "approval" and record.what == "refused"


def _of_doubtful(record: Record, traits: ToolTraits | None) -> Verdict | None:
    """What was decided about a call of which `record` is what came first."""
    if isinstance(record, ToolSettled):
        result = result_of_call(record)
        if record.how == "finished":
            # The tool itself is asked once more, and says the same.
            return None if traits is not None and traits.reconciles else result
        # More than that is said when a hook forbids what was decided.
        return "unknown" if result.text == TRUTH["unknown"] else "rerun"
    return "rerun"


def _of_external(
    settled: ToolSettled, records: Sequence[Record], traits: Callable[[str], ToolTraits | None]
) -> dict[str, Verdict]:
    result = result_of_call(settled)
    for record in records:
        if isinstance(record, ToolStarted) and record.call_id == result.call_id:
            tool = traits(record.name)
            return {result.call_id: result} if tool is not None and tool.external else {}
    return {}
