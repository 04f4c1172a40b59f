"""Reading typed answers: what models write around, before and instead of what they were asked."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json
from pydantic import BaseModel, ConfigDict

from llm_client.structured import output_spec


class City(BaseModel):
    """A city."""

    name: str
    people: int


class Strict(BaseModel):
    """Takes no other forms."""

    model_config = ConfigDict(strict=True)
    pair: tuple[int, int]


BERN = City(name="Bern", people=1)
BERN_JSON = '{"name": "Bern", "people": 1}'


@pytest.mark.parametrize(
    ("output_type", "answer", "value"),
    [
        (list[int], "[1, 2]", [1, 2]),
        (list[int], "Here you are: [1, 2] as asked", [1, 2]),
        (list[int], '{"value": [1, 2]}', [1, 2]),
        (list[int], "```json\n[1, 2]\n```", [1, 2]),
        (int, "5", 5),
        (int, ' {"value": 5}\nThat is all.', 5),
        (bool, "true", True),
        (Literal["yes", "no"], '"yes"', "yes"),
        (City | None, BERN_JSON, BERN),
        (City | None, "null", None),
        (list[City], f"[{BERN_JSON}] ({{name}})", [BERN]),
        (City, f"{BERN_JSON}\nHope {{this}} helps!", BERN),
        (City, f"{BERN_JSON}\n{BERN_JSON}", BERN),
        (City, f"Here: [{BERN_JSON}]", BERN),
        (City, f"Of the form {{name, people}}: {BERN_JSON}", BERN),
        (City, f'First {{}}, then {{"name": 3}}, at last {BERN_JSON}.', BERN),
        (City, '{"name": "a } b", "people": 2} }', City(name="a } b", people=2)),
        (Strict, 'So: {"pair": [1, 2]}.', Strict(pair=(1, 2))),
        (tuple[int, int], "[1, 2]", (1, 2)),
    ],
)
def test_the_value_is_found_in_what_a_model_writes(
    output_type: Any, answer: str, value: Any
) -> None:
    """Wrapped as asked or bare, alone or among words and braces."""
    typed = output_spec(output_type)
    assert typed.fault(answer) is None
    assert typed.parse(answer) == value


@pytest.mark.parametrize(
    ("output_type", "answer", "told"),
    [
        (City, "Bern", "no JSON object"),
        (City, "", "no JSON object"),
        (City, "[1, 2]", "an object"),
        (float, '{"value": NaN}', "no JSON object"),
        (City, '{"name": "\\ud800", "people": 1}', "Invalid JSON"),
        (City, '{"name": "Bern", "peo', "no JSON object"),
        (City, f'{{"name": "Bern"}} {"{" * 100}', "people: Field required"),
        (int, "five", "no JSON object"),
        (int, '"five"', "valid integer"),
        (int, "5 or 6", "no JSON object"),
        (list[int], '["a"]', "valid integer"),
        (City, "{" * 100_000, "no JSON object"),
        (list[int], "[" * 100_000, "no JSON object"),
    ],
)
def test_what_is_wrong_is_told_in_words(output_type: Any, answer: str, told: str) -> None:
    """For the model, which is asked again."""
    fault = output_spec(output_type).fault(answer)
    assert fault is not None
    assert told in fault


@given(
    st.dictionaries(st.text(), st.integers(-(2**60), 2**60)),
    st.text(st.characters(exclude_characters="{[`", codec="utf-8")),
    st.text(st.characters(exclude_characters="`", codec="utf-8")),
)
def test_an_object_is_found_between_any_words(
    value: dict[str, int], before: str, after: str
) -> None:
    """Whatever braces follow it."""
    answer = f"so {before} {json.encode(value).decode()} {after}"
    assert output_spec(dict[str, int]).parse(answer) == value
