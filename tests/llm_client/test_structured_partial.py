"""JSON while it is being written."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from types import FrameType
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_client.structured import Partial, PartialJson

Pieces = list[Partial]

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
documents = st.lists(values, max_size=4) | st.dictionaries(st.text(), values, max_size=4)


def shown(text: str, size: int = 1, member: str | None = None) -> tuple[Pieces, PartialJson]:
    """The snapshots of `text` in pieces of `size` characters."""
    reader = PartialJson(member)
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    return [reader.snapshot() for piece in pieces if reader.feed(piece)], reader


def begins(part: Any, whole: Any) -> bool:
    """True if `whole` can be had from `part` by adding at its end only."""
    match part:
        case dict():
            if not isinstance(whole, dict):
                return False
            some, all_ = cast("dict[str, Any]", part), cast("dict[str, Any]", whole)
            # Only what came last may be incomplete.
            return list(some) == list(all_)[: len(some)] and _items_begin(
                list(some.values()), [all_[key] for key in some]
            )
        case list():
            if not isinstance(whole, list):
                return False
            items = cast("list[Any]", part)
            return _items_begin(items, cast("list[Any]", whole)[: len(items)])
        case str():
            return isinstance(whole, str) and whole.startswith(part)
        case _:
            return type(part) is type(whole) and part == whole


def _items_begin(some: list[Any], whole: list[Any]) -> bool:
    return (
        len(some) == len(whole)
        and some[:-1] == whole[:-1]
        and all(begins(a, b) for a, b in zip(some[-1:], whole[-1:], strict=True))
    )


@given(documents, st.booleans(), st.sampled_from([None, 1]), st.integers(1, 9))
def test_every_beginning_of_an_answer_is_a_beginning_of_its_value(
    value: Any, ascii_only: bool, indent: int | None, size: int
) -> None:
    """However it is cut; the last one is the value itself, and each is a beginning of the next."""
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    partials, reader = shown(text, size)
    found = [partial.value for partial in partials]
    assert found[-1] == value
    assert all(begins(part, value) for part in found)
    assert all(begins(before, after) for before, after in pairwise(found))
    assert [partial.complete for partial in partials] == [False] * (len(found) - 1) + [True]
    assert reader.complete
    assert not reader.failed
    json.dumps(found, ensure_ascii=False).encode()


@given(documents, st.data())
def test_what_is_shown_depends_on_what_has_arrived_only(value: Any, data: st.DataObject) -> None:
    """Not on how it was cut."""
    text = json.dumps(value)
    end = data.draw(st.integers(1, len(text)))
    one, _ = shown(text[:end], 1)
    whole, _ = shown(text[:end], len(text))
    assert one[-1].value == whole[-1].value


def test_a_snapshot_stays_what_it_was() -> None:
    """Also if it is looked at when everything has arrived."""
    text = '{"a": [1, {"b": "xy"}], "c": "z"}'
    late, _ = shown(text)
    now = [json.dumps(shown(text[:end])[0][-1].value) for end in range(1, len(text) + 1)]
    assert list(dict.fromkeys(json.dumps(partial.value) for partial in late)) == list(
        dict.fromkeys(now)
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"name": "Ber', {"name": "Ber"}),
        ('{"name', {}),
        ('{"name"', {}),
        ('{"name":', {}),
        ('{"name": "', {"name": ""}),
        ('{"n": 12', {}),
        ('{"n": 12,', {"n": 12}),
        ('{"n": -', {}),
        ('{"n": tru', {}),
        ('{"n": [1, 2', {"n": [1]}),
        ('{"n": {"m', {"n": {}}),
        ('["a\\', ["a"]),
        ('["a\\n', ["a\n"]),
        ('["a\\u00e', ["a"]),
        ('["a\\u00e9', ["aé"]),
        ('["a\\ud83d', ["a"]),
        ('["a\\ud83d\\ude0', ["a"]),
        ('["a\\ud83d\\ude00', ["a😀"]),
        ('["a\\ud83dx', ["a\ufffdx"]),
        ('Sure! ```json\n{"a": "b', {"a": "b"}),
        ('{"a": [1,], "b": {},} and so on {"c": 1}', {"a": [1], "b": {}}),
    ],
)
def test_what_is_shown_of_a_beginning(text: str, value: Any) -> None:
    """No half escape, no half character, no key without a value, no number that may go on."""
    for size in (1, 2, len(text)):
        assert shown(text, size)[0][-1].value == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('<think>{"a": 0}</think>{"a": "b', {"a": "b"}),
        ('\n<thinking>{"a": 0}</think>\n</thinking>So: {"a": "b', {"a": "b"}),
        ('<think></think> <think>{"a": 0}</think>["<think>", "</think>', ["<think>", "</think>"]),
        ('<this> is {"a": "b', {"a": "b"}),
    ],
)
def test_reasoning_in_tags_is_never_shown(text: str, value: Any) -> None:
    """It is no answer, however the tags are cut."""
    for size in (1, 2, 5, len(text)):
        partials, reader = shown(text, size)
        assert partials[-1].value == value
        assert not any(partial.value == {"a": 0} for partial in partials)
        assert not reader.failed


def test_while_there_is_reasoning_only_there_is_nothing_to_show() -> None:
    """Nor does it fail: the answer may still come."""
    for text in ('<think>{"a": 0}', '<think>{"a": 0}</think>', "<thi"):
        partials, reader = shown(text)
        assert partials == []
        assert not reader.failed
        assert not reader.complete


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1, b', {"a": 1}),
        ("{'a': 1}", {}),
        ('{"a": NaN, "b": 1}', {}),
        ('{"a": 1 "b": 2}', {"a": 1}),
        ('{"a": [1, 2}', {"a": [1, 2]}),
        ('{"a" 1}', {}),
        ('{"a": ]}', {}),
        (f'{{"a": {"9" * 6_000}', {}),
        ("[1,,2]", [1]),
        ('{"a": 01, "b": 1}', {}),
        (f'{{"a": {"9" * 6_000}, "b": 1}}', {}),
    ],
)
def test_what_is_no_json_stops_growing(text: str, value: Any) -> None:
    """What was shown stays as it was, and nothing false is added."""
    partials, reader = shown(text)
    assert reader.failed
    assert not reader.complete
    assert partials[-1].value == value


def test_nesting_has_an_end() -> None:
    """A model that opens brackets for ever does not exhaust the reader."""
    partials, reader = shown("[" * 100_000, 100)
    assert reader.failed
    assert len(partials) <= 500


def test_of_an_object_one_member_can_be_shown() -> None:
    """For values that had to be wrapped; a bare array is taken as it is."""
    text = '{"value": ["a", {"value": 1}], "x": 2}'
    partials, _ = shown(text, member="value")
    assert partials[0].value == []
    assert partials[-1].value == ["a", {"value": 1}]
    assert shown('{"x": [1, {"value": 2}], "valu', member="value")[0] == []
    assert shown('["a", {"b": 1}]', member="value")[0][-1].value == ["a", {"b": 1}]
    assert shown('{"value": "a', member="value")[0][-1].value == "a"
    assert shown('{"value": 3}', member="value")[0][-1].value == 3


def lines_run(text: str, size: int) -> int:
    """Lines of Python that are run to read `text` in pieces and make all of its snapshots."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    reader = PartialJson()
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for piece in pieces:
            if reader.feed(piece):
                reader.snapshot()
    finally:
        sys.settrace(before)
    assert reader.complete
    return count


ITEMS: list[Any] = [
    {"name": 'a "b" \\ c', "n": -1.5e3, "ok": True, "tags": ["x", "\U0001f600"]},
    "a long text \n" * 20,
    [[[[]]]],
]


@pytest.mark.parametrize("size", [1, 7, 10**6])
@pytest.mark.parametrize("item", ITEMS)
def test_reading_takes_a_fixed_number_of_steps_for_each_character(size: int, item: Any) -> None:
    """Four times the text, four times the steps: nothing is looked at again when more arrives."""
    short, long = (lines_run(json.dumps([item] * n), size) for n in (100, 400))
    assert 3.5 < long / short < 4.5
