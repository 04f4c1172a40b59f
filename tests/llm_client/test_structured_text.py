"""Values in texts: fences, words around them, slips that mean one thing, and reasons."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_client import StructuredOutputError, parse_structured

CITY: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
}


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "Bern"}',
        '\ufeff {"name": "Bern"}\n',
        '```json\n{"name": "Bern"}\n```',
        '```\n{"name": "Bern"}\n```',
        'Here:\n```JSON \n{"name": "Bern"}\n```\nand {"name": "Basel"}',
        '```python\nprint("{}")\n```\n{"name": "Bern"}',
        'The form is {name}. So: {"name": "Bern"}; done {"name": "Basel"}',
        'First {} then {"name": "Bern"}',
        '{"name": "Bern",}',
        '{"name": "Bern" , // the capital\n}',
        'So it is {"name": "Bern", "more": [1, 2,], "ok": True, "not": None,}.',
        '```json\n{"name": "Bern",\n}\n```',
    ],
)
def test_the_object_is_found(text: str) -> None:
    """In a fence, alone, between words, or with a small slip."""
    assert parse_structured(text, CITY)["name"] == "Bern"


def test_a_text_that_is_json_is_not_searched_for_fences() -> None:
    """They may stand inside of its strings."""
    text = json.dumps({"name": '```json\n{"name": "inside"}\n```'})
    assert parse_structured(text, CITY) == json.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        '<think>{"name": "Basel"}</think>{"name": "Bern"}',
        '\n<think>\n```json\n{"name": "Basel"}\n```\n</think>\n\n```json\n{"name": "Bern"}\n```',
        '<thinking>{"name": "Basel"}</thinking>So: {"name": "Bern"}',
        '<thought>{"name": "Basel"}</thought> {"name": "Bern"}',
        '<think></think>\n<think>{"name": "Basel"} </thought></think>{"name": "Bern"}',
        'The user wants {"name": "Basel"}, or not?\n</think>\n\n{"name": "Bern"}',
    ],
)
def test_reasoning_in_tags_is_no_answer(text: str) -> None:
    """Servers without a parser for it leave it in the text, some without the tag that opens it."""
    assert parse_structured(text, CITY)["name"] == "Bern"


@pytest.mark.parametrize(
    "text",
    [
        '<think>{"name": "Basel"}',
        '<think>It is {"name": "Basel"}, I believe.</thin',
        '<think>{"name": "Basel"}</thinking>',
        '<think>{"name": "Basel"}</think>',
        "<thi",
    ],
)
def test_reasoning_that_nothing_follows_holds_no_answer(text: str) -> None:
    """However much the reasoning itself looks like one."""
    with pytest.raises(StructuredOutputError) as caught:
        parse_structured(text, CITY)
    assert caught.value.reason == "no_json"


def test_tags_in_an_answer_are_text() -> None:
    """Only what stands before it is reasoning."""
    text = '{"name": "<think>Basel</think>", "b": "</think>"}'
    assert parse_structured(text, CITY) == json.loads(text)
    assert parse_structured(f"```json\n{text}\n```", CITY) == json.loads(text)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ('{"name": "a, }", "b": "c,]",}', {"name": "a, }", "b": "c,]"}),
        ('{"name": "http://x//y",}', {"name": "http://x//y"}),
        ('{"name": "True, or None",}', {"name": "True, or None"}),
        ('{"name": "two\nlines\tof it"}', {"name": "two\nlines\tof it"}),
        ('{"name": "a \\" , }",}', {"name": 'a " , }'}),
        ('{"name": [False,\n ]}', {"name": [False]}),
    ],
)
def test_a_repair_leaves_strings_as_they_are(written: str, meant: dict[str, Any]) -> None:
    """What looks like a slip in a string is text."""
    assert parse_structured(written, CITY) == meant


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no_json"),
        ("Bern is the capital.", "no_json"),
        ('{"name": "Bern"', "invalid_json"),
        ('{"name": "Be', "invalid_json"),
        ("{'name': 'Bern'}", "invalid_json"),
        ('{"name": NaN}', "invalid_json"),
        ('{"name": -Infinity}', "invalid_json"),
        ('{"name" "Bern"}', "invalid_json"),
        ('{"name": ' + "9" * 5_000 + "}", "invalid_json"),
        ('{"name": ' + "[" * 100_000 + "]" * 100_000 + "}", "invalid_json"),
        ("{" * 100_000, "invalid_json"),
        ('["name"]', "not_object"),
        ("null", "not_object"),
        ('"Bern"', "not_object"),
        ("{}", "missing_required:name"),
        ('{"Name": "Bern"}', "missing_required:name"),
    ],
)
def test_what_cannot_be_read_has_a_reason(text: str, reason: str) -> None:
    """One typed error for all of it, numbers of thousands of digits included (A07)."""
    with pytest.raises(StructuredOutputError) as caught:
        parse_structured(text, CITY)
    assert caught.value.reason == reason
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "' + '\\"' * 50_000,
        "{" + "/" * 100_000,
        "{" + '"' * 100_001,
        "{" + "," * 50_000 + " " * 50_000,
        "```json\n" * 10_000,
        ("```json\n" + "{" * 10) * 5_000,
        "<think></think>" * 50_000,
        "<think>" * 100_000,
    ],
)
def test_long_nonsense_is_given_up_soon(text: str) -> None:
    """Each of these would take minutes in quadratic time."""
    with pytest.raises(StructuredOutputError):
        parse_structured(text, CITY)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), values), st.sampled_from([None, 2]))
def test_an_object_is_read_as_json_reads_it(value: dict[str, Any], indent: int | None) -> None:
    """Alone and in a fence."""
    text = json.dumps(value, indent=indent)
    assert parse_structured(text, {}) == value
    assert parse_structured(f"Sure!\n```json\n{text}\n```", {}) == value


def loosely(value: Any) -> str:
    """JSON with a comma behind the last item of everything."""
    match value:
        case dict():
            pairs = cast("dict[str, Any]", value).items()
            return "{" + "".join([f"{json.dumps(k)}: {loosely(v)}, " for k, v in pairs]) + "}"
        case list():
            return "[" + "".join([f"{loosely(v)}, " for v in cast("list[Any]", value)]) + "]"
        case _:
            return json.dumps(value)


@given(st.dictionaries(st.text(), values))
def test_a_comma_too_many_changes_nothing(value: dict[str, Any]) -> None:
    """Wherever it stands, however deep."""
    assert parse_structured(loosely(value), {}) == value
    assert parse_structured(f"So: {loosely(value)} and that is it {{}}", {}) == value


@pytest.mark.parametrize(
    "text",
    [
        '{"cities": [{"name": "Bern"}, {"name": "Ba',
        '{\'capital\': {"name": "Bern"}}',
        '{"capital": {"name": "Bern"} {"name": "Basel"}}',
    ],
)
def test_a_part_of_a_broken_answer_is_not_taken_for_the_answer(text: str) -> None:
    """However well it fits; a cut-off answer must not look whole (F04)."""
    with pytest.raises(StructuredOutputError) as caught:
        parse_structured(text, CITY)
    assert caught.value.reason == "invalid_json"


@given(st.text(alphabet='{}[]",:\\ntrue1 \n`', max_size=60))
def test_any_text_gives_an_object_or_the_typed_error(text: str) -> None:
    """Never anything else."""
    with suppress(StructuredOutputError):
        assert isinstance(parse_structured(text, {}), dict)
