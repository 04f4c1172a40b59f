# ruff: noqa: E501 - a record is one line, however long

"""What the pipeline records, scenario by scenario, to the byte.

A change of these lines is a change of what is stored. Regenerate them with --inline-snapshot=fix,
and read the difference.
"""

from __future__ import annotations

import msgspec
import pytest
from inline_snapshot import snapshot

from tests.pipeline.scenarios import SCENARIOS
from tests.pipeline.trace import trace
from tests.session.checker import violations

GOLDEN: dict[str, list[str]] = {
    "text_only": snapshot(
        [
            "run_opened run=run0 input=[<user run0.input: '2+2?'>]",
            "model_asked attempt=i1 round=1 model=m",
            "model_ended attempt=i1 status=ok usage=10+5 stop_reason=end",
            "message_appended message=<assistant i2: '4'> attempt=i1",
            "run_closed run=run0 outcome=(completed text=4)",
        ]
    ),
    "one_tool": snapshot(
        [
            "run_opened run=run0 input=[<user run0.input: 'go'>]",
            "model_asked attempt=i1 round=1 model=m",
            "model_ended attempt=i1 status=ok usage=10+5 stop_reason=tool_calls",
            'message_appended message=<assistant i2: \'Let me look.\' + read#c1({"path":"a"})> attempt=i1',
            'tool_started call_id=c1 name=read arguments={"path":"a"} idempotency_key=s/c1 args_hash=fde64ffe7a4a0bbd5d2fe2c294b79580',
            "tool_settled message=<tool c1.result: result#c1 'hi'>",
            "model_asked attempt=i3 round=2 model=m",
            "model_ended attempt=i3 status=ok usage=10+5 stop_reason=end",
            "message_appended message=<assistant i4: 'It says hi.'> attempt=i3",
            "run_closed run=run0 outcome=(completed text=It says hi.)",
        ]
    ),
    "two_parallel_tools": snapshot(
        [
            "run_opened run=run0 input=[<user run0.input: 'go'>]",
            "model_asked attempt=i1 round=1 model=m",
            "model_ended attempt=i1 status=ok usage=10+5 stop_reason=tool_calls",
            "message_appended message=<assistant i2: slow#c1({}) + fast#c2({})> attempt=i1",
            "tool_started call_id=c2 name=fast arguments={} idempotency_key=s/c2 args_hash=44136fa355b3678a1146ad16f7e8649e",
            "tool_settled message=<tool c2.result: result#c2 'early'>",
            "tool_started call_id=c1 name=slow arguments={} idempotency_key=s/c1 args_hash=44136fa355b3678a1146ad16f7e8649e",
            "tool_settled message=<tool c1.result: result#c1 'late'>",
            "model_asked attempt=i3 round=2 model=m",
            "model_ended attempt=i3 status=ok usage=10+5 stop_reason=end",
            "message_appended message=<assistant i4: 'done'> attempt=i3",
            "run_closed run=run0 outcome=(completed text=done)",
        ]
    ),
    "retry_then_ok": snapshot(
        [
            "run_opened run=run0 input=[<user run0.input: 'go'>]",
            "model_asked attempt=i1 round=1 model=m",
            "model_ended attempt=i1 status=failed usage=10+? measured=False partial=Hel error=(ErrorInfo type=ServerError message=503 (status 503) retryable=True status=503)",
            "model_asked attempt=i2 round=1 model=m",
            "model_ended attempt=i2 status=ok usage=10+5 stop_reason=end",
            "message_appended message=<assistant i3: 'Hello'> attempt=i2",
            "run_closed run=run0 outcome=(completed text=Hello)",
        ]
    ),
    "retries_exhausted": snapshot(
        [
            "run_opened run=run0 input=[<user run0.input: 'go'>]",
            "model_asked attempt=i1 round=1 model=m",
            "model_ended attempt=i1 status=failed measured=False error=(ErrorInfo type=ServerError message=503 (status 503) retryable=True status=503)",
            "model_asked attempt=i2 round=1 model=m",
            "model_ended attempt=i2 status=failed measured=False error=(ErrorInfo type=ServerError message=503 (status 503) retryable=True status=503)",
            "model_asked attempt=i3 round=1 model=m",
            "model_ended attempt=i3 status=failed measured=False error=(ErrorInfo type=ServerError message=503 (status 503) retryable=True status=503)",
            "run_closed run=run0 outcome=(degraded reason=ServerError: 503 (status 503) attempts=3)",
        ]
    ),
    "round_limit_with_last_word": snapshot(
        [
            "run_opened run=run0 input=[<user run0.input: 'go'>]",
            "model_asked attempt=i1 round=1 model=m",
            "model_ended attempt=i1 status=ok usage=10+5 stop_reason=tool_calls",
            "message_appended message=<assistant i2: read#c1({})> attempt=i1",
            "tool_started call_id=c1 name=read arguments={} idempotency_key=s/c1 args_hash=44136fa355b3678a1146ad16f7e8649e",
            "tool_settled message=<tool c1.result: result#c1 'x'>",
            "model_asked attempt=i3 round=2 model=m",
            "model_ended attempt=i3 status=ok usage=10+5 stop_reason=tool_calls",
            "message_appended message=<assistant i4: read#c2({})> attempt=i3",
            "tool_started call_id=c2 name=read arguments={} idempotency_key=s/c2 args_hash=44136fa355b3678a1146ad16f7e8649e",
            "tool_settled message=<tool c2.result: result#c2 'x'>",
            "message_appended message=<user i5: 'You have used all the rounds of this task. Do not call any more tools. Say briefly what you have done, what you found, and what remains to be done.'>",
            "model_asked attempt=i6 round=3 model=m",
            "model_ended attempt=i6 status=ok usage=10+5 stop_reason=end",
            "message_appended message=<assistant i7: 'read twice'> attempt=i6",
            "run_closed run=run0 outcome=(round_limit limit=2 text=read twice)",
            "run_opened run=run16 resumes=run0",
            "message_appended message=<user i8: 'You have another set of rounds. Go on with the task.'>",
            "model_asked attempt=i9 round=1 model=m",
            "model_ended attempt=i9 status=ok usage=10+5 stop_reason=end",
            "message_appended message=<assistant i10: 'all read'> attempt=i9",
            "run_closed run=run16 outcome=(completed text=all read)",
        ]
    ),
    "approval_and_resume": snapshot(
        [
            "run_opened run=run0 input=[<user run0.input: 'go'>]",
            "model_asked attempt=i1 round=1 model=m",
            "model_ended attempt=i1 status=ok usage=10+5 stop_reason=tool_calls",
            'message_appended message=<assistant i2: delete#c1({"n":1}) + delete#c2({"n":2}) + gossip#c3({}) + read#c4({})> attempt=i1',
            "decided at=tool.before by=tool.before what=suspend reason=it deletes call_id=c1",
            'call_waiting call_id=c1 kind=approval token=i3 reason=it deletes name=delete arguments={"n":1} args_hash=2bfd14f43d17fc7cea24e0917a8879b4 by=tool.before created=1000000.0',
            "decided at=tool.before by=tool.before what=suspend reason=it deletes call_id=c2",
            'call_waiting call_id=c2 kind=approval token=i4 reason=it deletes name=delete arguments={"n":2} args_hash=363379742f80b51bdb9206579af77549 by=tool.before created=1000000.0',
            "decided at=tool.before by=tool.before what=skip reason=we do not gossip call_id=c3",
            "tool_settled message=<tool c3.result: result#c3 'we do not gossip'> how=skipped",
            "tool_started call_id=c4 name=read arguments={} idempotency_key=s/c4 args_hash=44136fa355b3678a1146ad16f7e8649e",
            "tool_settled message=<tool c4.result: result#c4 'read done'>",
            "run_closed run=run0 outcome=(awaiting_approval tokens=[i3, i4])",
            "run_opened run=run13 resumes=run0",
            "call_answered call_id=c1 token=i3 answer=approve",
            "call_answered call_id=c2 token=i4 answer=deny",
            "tool_settled message=<tool c2.result: error#c2 '[denied] A person did not allow this call. It had no effect.'> how=denied",
            'tool_started call_id=c1 name=delete arguments={"n":1} idempotency_key=s/c1 args_hash=2bfd14f43d17fc7cea24e0917a8879b4',
            "tool_settled message=<tool c1.result: result#c1 'delete done'>",
            "model_asked attempt=j1 round=2 model=m",
            "model_ended attempt=j1 status=ok usage=10+5 stop_reason=end",
            "message_appended message=<assistant j2: 'one is gone'> attempt=j1",
            "run_closed run=run13 outcome=(completed text=one is gone)",
        ]
    ),
    "external_tool": snapshot(
        [
            "run_opened run=run0 input=[<user run0.input: 'go'>]",
            "model_asked attempt=i1 round=1 model=m",
            "model_ended attempt=i1 status=ok usage=10+5 stop_reason=tool_calls",
            "message_appended message=<assistant i2: pay#c1({})> attempt=i1",
            "run_closed run=run0 outcome=(pending_tools call_ids=[c1])",
            "run_opened run=run5 resumes=run0",
            "tool_started call_id=c1 name=pay arguments={} idempotency_key=s/c1 args_hash=44136fa355b3678a1146ad16f7e8649e",
            "tool_settled message=<tool c1.result: result#c1 'paid'>",
            "model_asked attempt=j1 round=2 model=m",
            "model_ended attempt=j1 status=ok usage=10+5 stop_reason=end",
            "message_appended message=<assistant j2: 'thanks'> attempt=j1",
            "run_closed run=run5 outcome=(completed text=thanks)",
        ]
    ),
    "steer_mid_run": snapshot(
        [
            "run_opened run=run0 input=[<user run0.input: 'go'>]",
            "model_asked attempt=i1 round=1 model=m",
            "model_ended attempt=i1 status=ok usage=10+5 stop_reason=tool_calls",
            "message_appended message=<assistant i2: read#c1({})> attempt=i1",
            "tool_started call_id=c1 name=read arguments={} idempotency_key=s/c1 args_hash=44136fa355b3678a1146ad16f7e8649e",
            "tool_settled message=<tool c1.result: result#c1 'hello'>",
            "message_appended message=<user steer1: 'in French, please'> item=item1",
            "model_asked attempt=i3 round=2 model=m",
            "model_ended attempt=i3 status=ok usage=10+5 stop_reason=end",
            "message_appended message=<assistant i4: 'in French: bonjour'> attempt=i3",
            "run_closed run=run0 outcome=(completed text=in French: bonjour)",
        ]
    ),
    "crash_in_doubt": snapshot(
        [
            "run_opened run=run0 input=[<user run0.input: 'go'>]",
            "model_asked attempt=i1 round=1 model=m",
            "model_ended attempt=i1 status=ok usage=10+5 stop_reason=tool_calls",
            "message_appended message=<assistant i2: read#c1({}) + pay#c2({}) + put#c3({})> attempt=i1",
            "tool_started call_id=c1 name=read arguments={} idempotency_key=s/c1 args_hash=44136fa355b3678a1146ad16f7e8649e",
            "tool_settled message=<tool c1.result: result#c1 'x'>",
            "tool_started call_id=c2 name=pay arguments={} idempotency_key=s/c2 args_hash=44136fa355b3678a1146ad16f7e8649e",
            "tool_started call_id=c3 name=put arguments={} idempotency_key=s/c3 args_hash=44136fa355b3678a1146ad16f7e8649e",
            "run_closed run=run0 outcome=(crashed)",
            "run_opened run=run8 resumes=run0",
            "tool_settled message=<tool c2.result: error#c2 '[unknown] The program that ran this call died before the call had ended. Its outcome is unknown: none, some or all of its effects may have happened. It was not run again.'> how=unknown",
            "tool_started call_id=c3 name=put arguments={} idempotency_key=s/c3 args_hash=44136fa355b3678a1146ad16f7e8649e attempt=2",
            "tool_settled message=<tool c3.result: result#c3 'put'>",
            "model_asked attempt=j1 round=2 model=m",
            "model_ended attempt=j1 status=ok usage=10+5 stop_reason=end",
            "message_appended message=<assistant j2: 'done'> attempt=j1",
            "run_closed run=run8 outcome=(completed text=done)",
        ]
    ),
    "complete_decide_continues": snapshot(
        [
            "run_opened run=run0 input=[<user run0.input: 'go'>]",
            "model_asked attempt=i1 round=1 model=m",
            "model_ended attempt=i1 status=ok usage=10+5 stop_reason=end",
            "message_appended message=<assistant i2: '4'> attempt=i1",
            "decided at=complete.decide by=complete.decide what=continue reason=Check it.",
            "message_appended message=<user i3: 'Check it.'>",
            "model_asked attempt=i4 round=2 model=m",
            "model_ended attempt=i4 status=ok usage=10+5 stop_reason=end",
            "message_appended message=<assistant i5: '4, checked'> attempt=i4",
            "run_closed run=run0 outcome=(completed text=4, checked)",
        ]
    ),
    "structured_output_asked_again": snapshot(
        [
            "run_opened run=run0 input=[<user run0.input: 'go'>]",
            "model_asked attempt=i1 round=1 model=m",
            "model_ended attempt=i1 status=ok usage=10+5 stop_reason=end",
            "message_appended message=<assistant i2: 'here you go'> attempt=i1",
            "message_appended message=<user i3: 'Your answer does not fit the required format: not an object\\nAnswer again with valid JSON only.'>",
            "model_asked attempt=i4 round=2 model=m",
            "model_ended attempt=i4 status=ok usage=10+5 stop_reason=end",
            "message_appended message=<assistant i5: '{}'> attempt=i4",
            "run_closed run=run0 outcome=(completed text={})",
        ]
    ),
    "cancelled_from_the_inbox": snapshot(
        [
            "run_opened run=run0 input=[<user run0.input: 'go'>]",
            "model_asked attempt=i1 round=1 model=m",
            "model_ended attempt=i1 status=ok usage=10+5 stop_reason=tool_calls",
            "message_appended message=<assistant i2: read#c1({})> attempt=i1",
            "tool_started call_id=c1 name=read arguments={} idempotency_key=s/c1 args_hash=44136fa355b3678a1146ad16f7e8649e",
            "tool_settled message=<tool c1.result: result#c1 'x'>",
            "run_closed run=run0 outcome=(cancelled reason=by the user)",
        ]
    ),
    "fatal_error": snapshot(
        [
            "run_opened run=run0 input=[<user run0.input: 'go'>]",
            "model_asked attempt=i1 round=1 model=m",
            "model_ended attempt=i1 status=failed measured=False error=(ErrorInfo type=BadRequest message=no such parameter (status 400) status=400)",
            "run_closed run=run0 outcome=(failed error_type=BadRequest message=no such parameter (status 400))",
        ]
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_gives_the_same_bytes_each_time_and_a_legal_log(name: str) -> None:
    """Invariant 10: same inputs, clock, ids and schedule, same records."""
    first, second = SCENARIOS[name]()[-1].log, SCENARIOS[name]()[-1].log
    assert msgspec.json.encode(first) == msgspec.json.encode(second)
    assert violations(first, closed=True, idempotent=lambda tool: tool == "put") == []


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_records_what_it_always_has(name: str) -> None:
    """Line by line."""
    assert trace(SCENARIOS[name]()[-1].log) == GOLDEN[name]


def test_every_scenario_has_its_lines() -> None:
    """None is run without being compared."""
    assert set(GOLDEN) == set(SCENARIOS)
