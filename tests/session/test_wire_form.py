# ruff: noqa: E501 - a wire form is one line, however long

"""The wire form of everything that is stored or published, byte for byte.

A change here is a change of what other programs and older stores hold: give a new field a default,
never rename or remove one, never change a tag. A field at its default is not written, so that a
default, once given, must never change either.

Decided: fields that this version does not know are skipped when read, because a newer version may
add some and its records must stay readable. A tag or a word of a closed set that this version does
not know is refused: skipping it would be to say that something has not happened.
"""

from __future__ import annotations

import types
from typing import Any, cast, get_args

import msgspec
import pytest
from msgspec import Struct

from power_loop.events import (
    RECORD_TYPES,
    Stamped,
    Transient,
    decode_event,
    encode_event,
    is_record,
)
from power_loop.session.outcome import Outcome, status_of
from power_loop.session.records import ErrorInfo, ModelEnded, Record
from tests.session.wire_samples import OUTCOMES, RECORDS, STAMPED, TRANSIENTS

RECORD_FORMS: dict[str, str] = {
    "run_opened": r'{"type":"run_opened","run":"r1","input":[{"role":"user","parts":[{"type":"text","text":"Grüße 🎈"},{"type":"thinking","text":"hm","seal":{"origin":"anthropic","signature":"sig","id":"th_1","kind":"summary"},"redacted":true},{"type":"image","data":"iVBORw==","media_type":"image/png","detail":"low"},{"type":"audio","data":"UklGRg==","format":"wav","id":"au1","transcript":"hello"},{"type":"file","data":"JVBERg==","id":"f1","name":"a.pdf","media_type":"application/pdf"},{"type":"opaque","provider":"openai","kind":"reasoning","json":"{\"id\":\"rs_1\"}"}],"id":"m1","name":"ada","meta":{"via":"cli"}}],"dedupe_key":"key-1","parent":["parent","c0"],"limits":{"rounds":24.0}}',
    "run_opened, resumed": r'{"type":"run_opened","run":"r2","resumes":"r1"}',
    "model_configured": r'{"type":"model_configured","model":"gpt-5","system":"Be kind.","tools":[{"name":"read","description":"Reads.","parameters":{"type":"object"},"strict":true}],"parallel_tool_calls":false,"max_output_tokens":4096,"temperature":0.5,"output_schema":{"name":"answer","schema":{"type":"integer"},"strict":false,"description":"a number"},"reasoning_effort":"low","cache":"5m","compact_at":150000}',
    "message_appended, steered": r'{"type":"message_appended","message":{"role":"user","parts":[{"type":"text","text":"wait"}],"id":"m4"},"item":"i1","when_idle":true}',
    "message_appended": r'{"type":"message_appended","message":{"role":"assistant","parts":[{"type":"tool_call","id":"c1","name":"read","arguments":"{\"path\":\"a\"}"}],"id":"m2"},"attempt":"t1"}',
    "model_asked": r'{"type":"model_asked","attempt":"t1","round":1,"model":"gpt-5","reserved":4096,"request":"abc123","reserved_output":1024,"reserved_cost":0.25,"purpose":"compaction"}',
    "model_ended": r'{"type":"model_ended","attempt":"t1","status":"ok","usage":{"input_tokens":10,"output_tokens":20,"cached_tokens":3,"cache_write_tokens":4,"reasoning_tokens":5,"audio_tokens":6},"stop_reason":"tool_calls","raw_finish":"tool_calls","model":"gpt-5-2026","cost":0.125}',
    "model_ended, failed": r'{"type":"model_ended","attempt":"t2","status":"failed","measured":false,"partial":"so f","error":{"type":"ServerError","message":"it broke (status 500)","retryable":true,"status":500,"retry_after":1.5}}',
    "tool_started": r'{"type":"tool_started","call_id":"c1","name":"read","arguments":"{\"path\":\"a\"}","idempotency_key":"s1/c1","args_hash":"abc123","attempt":2}',
    "tool_settled": r'{"type":"tool_settled","message":{"role":"tool","parts":[{"type":"tool_result","call_id":"c1","content":[{"type":"text","text":"out"}],"is_error":true}],"id":"c1.result"},"how":"interrupted"}',
    "call_waiting": r'{"type":"call_waiting","call_id":"c1","kind":"approval","token":"k1","reason":"it deletes","name":"remove","arguments":"{\"path\":\"a\"}","args_hash":"abc123","by":"guard","version":"v2","world":"world1","created":1700000000.0,"expires":1700003600.0,"end_on_denial":true}',
    "call_waiting, for an answer": r'{"type":"call_waiting","call_id":"c3","kind":"input","token":"k3","reason":"which one?","by":"pick","schema":"{\"type\":\"integer\"}"}',
    "call_waiting, for a child": r'{"type":"call_waiting","call_id":"c2","kind":"child","token":"s1/c2"}',
    "call_answered": r'{"type":"call_answered","call_id":"c1","token":"k1","answer":"approve","by":"ada","note":"go on","arguments":"{\"path\":\"b\"}","args_hash":"def456"}',
    "call_answered, by a child": r'{"type":"call_answered","call_id":"c2","token":"s1/c2","answer":"","spent":{"rounds":1,"llm_calls":2,"tool_calls":3,"children":4,"input_tokens":5,"output_tokens":6,"cost":0.5,"wall_seconds":7.5,"working_seconds":6.5}}',
    "decided": r'{"type":"decided","at":"tool.before","by":"guard","what":"skip","reason":"not today","call_id":"c1"}',
    "recalled": r'{"type":"recalled","messages":[{"role":"user","parts":[{"type":"text","text":"you like tea"}],"id":"m3"}],"front":true}',
    "view_changed": r'{"type":"view_changed","cut":"m9","note":{"role":"user","parts":[{"type":"text","text":"so far"}],"id":"m8","name":"compact_note"},"replaced":{"m9":[{"type":"text","text":"short"}]},"kept":["m1","m4"],"by":"summary","before":9000,"after":3000}',
    "rewound": r'{"type":"rewound","at":7,"keep":1,"restored":[{"role":"user","parts":[{"type":"text","text":"so far"}],"id":"m8","name":"compact_note"}]}',
    "forked": r'{"type":"forked","source":"s0","at":12}',
    "run_closed": r'{"type":"run_closed","run":"r1","outcome":{"type":"completed","text":"done"},"wall_seconds":2.5,"working_seconds":1.5,"unheard":{"rounds":1,"llm_calls":2}}',
}

OUTCOME_FORMS: dict[str, str] = {
    "completed": r'{"type":"completed","text":"done"}',
    "goal_reached": r'{"type":"goal_reached","reason":"no test fails"}',
    "stopped": r'{"type":"stopped","reason":"by a hook"}',
    "round_limit": r'{"type":"round_limit","limit":24,"text":"half done"}',
    "budget_exhausted": r'{"type":"budget_exhausted","limit":"run.tokens","reason":"9 of 10 are used"}',
    "no_progress": r'{"type":"no_progress","reason":"same call three times"}',
    "plan_failed": r'{"type":"plan_failed","reason":"no plan"}',
    "awaiting_approval": r'{"type":"awaiting_approval","tokens":["k1","k2"]}',
    "approval_denied": r'{"type":"approval_denied","token":"k1"}',
    "approval_expired": r'{"type":"approval_expired","token":"k1"}',
    "waiting_for_input": r'{"type":"waiting_for_input","tokens":["k1"]}',
    "pending_tools": r'{"type":"pending_tools","call_ids":["c1"]}',
    "cancelled": r'{"type":"cancelled","reason":"by the user"}',
    "degraded": r'{"type":"degraded","reason":"ServerError: 503","attempts":3}',
    "failed": r'{"type":"failed","error_type":"ValueError","message":"bad"}',
    "crashed": r'{"type":"crashed"}',
}

TRANSIENT_FORMS: dict[str, str] = {
    "round_started": r'{"type":"round_started","round":1}',
    "round_ended": r'{"type":"round_ended","round":1,"usage":{"input_tokens":10,"output_tokens":20}}',
    "text_delta": r'{"type":"text_delta","attempt":"t1","text":"Hel"}',
    "thinking_delta": r'{"type":"thinking_delta","attempt":"t1","text":"hm"}',
    "tool_call_delta": r'{"type":"tool_call_delta","attempt":"t1","index":0,"call_id":"c1","name":"read","arguments":"{\"pa"}',
    "tool_emitted": r'{"type":"tool_emitted","call_id":"c1","name":"saved","data":{"path":"a.txt"}}',
    "tool_progress": r'{"type":"tool_progress","call_id":"c1","message":"halfway","fraction":0.5,"data":{"lines":7}}',
    "retry_scheduled": r'{"type":"retry_scheduled","attempt":"t1","delay":0.5,"error_type":"ServerError","message":"it broke"}',
    "fallback_taken": r'{"type":"fallback_taken","failed":"m","model":"n","error_type":"ServerError","message":"it broke"}',
    "hook_failed": r'{"type":"hook_failed","point":"llm.before","handler":"audit","error_type":"ValueError","message":"bad"}',
    "tool_left_behind": r'{"type":"tool_left_behind","call_id":"c1","name":"pay"}',
    "reconcile_failed": r'{"type":"reconcile_failed","call_id":"c1","tool":"pay","error_type":"TimeoutError","message":"no answer"}',
    "spill_failed": r'{"type":"spill_failed","call_id":"c1","tool":"read","error_type":"StoreFull","message":"no space is left"}',
    "responder_failed": r'{"type":"responder_failed","call_id":"c1","token":"k1","error_type":"AnswerRefused","message":"another token"}',
    "text_repaired": r'{"type":"text_repaired","source":"tool","surrogates":1,"nuls":2}',
    "prefix_changed": r'{"type":"prefix_changed","reason":"compaction","first_difference":"messages[3]"}',
    "compaction_rejected": r'{"type":"compaction_rejected","by":"summary","reason":"the summary is empty"}',
    "compaction_failed": r'{"type":"compaction_failed","reason":"nothing may leave the view"}',
    "memory_failed": r'{"type":"memory_failed","operation":"recall","provider":"NoteMemory","error_type":"TimeoutError","message":"it took too long"}',
    "deltas_dropped": r'{"type":"deltas_dropped","count":17}',
}

STAMPED_FORMS: dict[str, str] = {
    "a record": r'{"session":"s1","seq":7,"n":0,"root":"s1","tree_seq":9,"at":1700000000.25,"run":"r1","round":2,"event":{"type":"call_answered","call_id":"c1","token":"k1","answer":"approve","by":"ada","note":"go on","arguments":"{\"path\":\"b\"}","args_hash":"def456"}}',
    "a transient event": r'{"session":"s1/c1","seq":7,"n":3,"root":"s1","tree_seq":0,"at":1700000000.5,"run":"r1","round":2,"event":{"type":"text_delta","attempt":"t1","text":"Hel"}}',
}


def struct_types(union: object) -> set[type[Struct]]:
    """The members of a union of structs."""
    assert isinstance(union, types.UnionType)
    return set(get_args(union))


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_has_this_wire_form(name: str) -> None:
    """Written and read."""
    form = RECORD_FORMS[name].encode()
    assert msgspec.json.encode(RECORDS[name]) == form
    read: Record = msgspec.json.decode(form, type=cast("type[Record]", Record))
    assert read == RECORDS[name]
    assert type(read) is type(RECORDS[name])


@pytest.mark.parametrize("name", OUTCOMES)
def test_an_outcome_has_this_wire_form_and_its_tag_is_its_status(name: str) -> None:
    """The tag is what callers compare `status` with."""
    form = OUTCOME_FORMS[name].encode()
    assert msgspec.json.encode(OUTCOMES[name]) == form
    assert msgspec.json.decode(form, type=cast("type[Outcome]", Outcome)) == OUTCOMES[name]
    assert status_of(OUTCOMES[name]) == name


@pytest.mark.parametrize("name", TRANSIENTS)
def test_a_transient_event_has_this_wire_form(name: str) -> None:
    """Written and read."""
    form = TRANSIENT_FORMS[name].encode()
    assert msgspec.json.encode(TRANSIENTS[name]) == form
    assert msgspec.json.decode(form, type=cast("type[Transient]", Transient)) == TRANSIENTS[name]


@pytest.mark.parametrize("name", STAMPED)
def test_an_event_in_its_envelope_has_this_wire_form(name: str) -> None:
    """What `encode_event` writes, `decode_event` reads, from bytes and from text."""
    form = STAMPED_FORMS[name]
    assert encode_event(STAMPED[name]) == form.encode()
    assert decode_event(form) == STAMPED[name]
    assert decode_event(form.encode()) == STAMPED[name]


@pytest.mark.parametrize("event", [*RECORDS.values(), *TRANSIENTS.values()])
def test_every_event_survives_its_envelope_on_one_line(event: Any) -> None:
    """Losslessly; a line of a log is one event."""
    stamped = Stamped("s", 1, 0, "s", 1, 0.5, "r", 1, event)
    line = encode_event(stamped)
    assert b"\n" not in line
    assert decode_event(line) == stamped
    assert is_record(decode_event(line).event) is (event in RECORDS.values())


def test_no_type_is_without_a_pinned_form() -> None:
    """A new record, outcome or event must be pinned with the change that brings it."""
    assert {type(value) for value in RECORDS.values()} == struct_types(Record) == set(RECORD_TYPES)
    assert {type(value) for value in OUTCOMES.values()} == struct_types(Outcome)
    assert {type(value) for value in TRANSIENTS.values()} == struct_types(Transient)


def test_no_field_is_pinned_only_at_its_default() -> None:
    """A field that no sample sets could be renamed without anybody noticing its values."""
    values = [*RECORDS.values(), *OUTCOMES.values(), *TRANSIENTS.values()]
    failed = RECORDS["model_ended, failed"]
    assert isinstance(failed, ModelEnded)
    error = failed.error
    for kind in {type(value) for value in values} | {ErrorInfo}:
        for field in msgspec.structs.fields(kind):
            default = field.default_factory() if callable(field.default_factory) else field.default
            samples = [v for v in (*values, error) if type(v) is kind]
            assert any(getattr(v, field.name) != default for v in samples), (kind, field.name)


def test_tags_are_told_apart_in_one_union() -> None:
    """Records and transient events share an envelope, so their tags must not meet."""
    tags = [kind.__struct_config__.tag for u in (Record, Transient) for kind in struct_types(u)]
    assert len(tags) == len(set(tags)) == 35


def test_a_field_of_a_newer_version_is_skipped() -> None:
    """At every level."""
    newer = '{"type":"call_answered","call_id":"c1","token":"k1","answer":"x","who":"ada"}'
    assert msgspec.json.decode(newer, type=cast("type[Record]", Record))
    envelope = STAMPED_FORMS["a record"].replace('"session":', '"zone":"eu","session":')
    assert decode_event(envelope) == STAMPED["a record"]


def test_a_field_that_an_older_version_did_not_have_takes_its_default() -> None:
    """What has a default may be missing; what has none may not."""
    older = '{"type":"model_ended","attempt":"t1","status":"ok"}'
    assert msgspec.json.decode(older, type=cast("type[Record]", Record))
    with pytest.raises(msgspec.ValidationError, match="attempt"):
        msgspec.json.decode(
            '{"type":"model_ended","status":"ok"}', type=cast("type[Record]", Record)
        )


@pytest.mark.parametrize(
    "form",
    [
        '{"type":"run_paused","run":"r1"}',
        '{"run":"r1","outcome":{"type":"crashed"}}',
        '{"type":"run_closed","run":"r1","outcome":{"type":"hit_round_limit","limit":3}}',
        '{"type":"model_ended","attempt":"t1","status":"maybe"}',
        '{"type":"model_ended","attempt":"t1","status":"ok","stop_reason":"bored"}',
        '{"type":"tool_settled","message":{"role":"tool","parts":[],"id":"x"},"how":"sort of"}',
        '{"type":"call_waiting","call_id":"c1","kind":"weather","token":"k"}',
        '{"type":"message_appended","message":{"role":"narrator","parts":[],"id":"x"}}',
        '{"type":"message_appended","message":{"role":"user","parts":[{"type":"smell"}]}}',
        '{"type":"model_asked","attempt":"t1","round":"one","model":"m"}',
        "[]",
        "",
    ],
)
def test_a_word_that_this_version_does_not_know_is_refused(form: str) -> None:
    """Never read as something else, never skipped."""
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(form, type=cast("type[Record]", Record))
