"""What a host must have decided about open calls, from what became of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from power_loop.history.outcomes import result_of_call
from power_loop.history.script import call_of
from power_loop.pipeline.ports import ToolTraits, Verdict
from power_loop.session.closing import TRUTH
from power_loop.session.machine import Session
from power_loop.session.records import CallWaiting, Record, ToolSettled, ToolStarted

__all__ = ["decided"]


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
        call_id = record.call_id if isinstance(record, CallWaiting) else call_of(record)
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
