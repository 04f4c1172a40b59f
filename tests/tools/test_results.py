"""What a tool returns, as the model reads it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any
from uuid import UUID

import msgspec
import pytest
from pydantic import BaseModel

from llm_client.types import File, Image, Text
from power_loop.tools import ToolContext, ToolError, ToolOutput, to_output, tool

pytestmark = pytest.mark.anyio


class Model(BaseModel):
    a: int
    when: datetime | None = None
    inner: Model | None = None


@dataclass
class Data:
    a: int
    model: Model


class Record(msgspec.Struct, tag="rec"):
    a: int
    b: bytes = b""


class Level(Enum):
    LOW = "low"


MODEL = Model(a=1, when=datetime(2026, 1, 2, tzinfo=UTC))
IMAGE = Image(data=b"x", media_type="image/png")

TEXTS: list[tuple[object, str]] = [
    ("plain", "plain"),
    ("", ""),
    ("\ud800\0", "\ud800\0"),
    (True, "true"),
    (3, "3"),
    (10**400, str(10**400)),
    (2.5, "2.5"),
    (math.nan, "NaN"),
    ([], "[]"),
    ([1, "a", None], '[1,"a",null]'),
    ((1, 2), "[1,2]"),
    ({"é": {"b": [1]}}, '{"é":{"b":[1]}}'),
    ({1: 2}, '{"1":2}'),
    ({3}, "[3]"),
    (MODEL, '{"a":1,"when":"2026-01-02T00:00:00Z","inner":null}'),
    ([Model(a=2)], '[{"a":2,"when":null,"inner":null}]'),
    (Data(1, Model(a=2)), '{"a":1,"model":{"a":2,"when":null,"inner":null}}'),
    (Record(1, b"hi"), '{"type":"rec","a":1,"b":"aGk="}'),
    ({"x": Record(1)}, '{"x":{"type":"rec","a":1,"b":""}}'),
    (Level.LOW, '"low"'),
    (Decimal("1.10"), '"1.10"'),
    (UUID(int=0), '"00000000-0000-0000-0000-000000000000"'),
    (PurePosixPath("a/b"), '"a/b"'),
    (MappingProxyType({"a": {"b": 1}}), '{"a":{"b":1}}'),
    ((i * i for i in range(3)), "[0,1,4]"),
    ({"a": "\ud800", "n": "\0"}, '{"a":"\ud800","n":"\\u0000"}'),
    (
        [Data(1, Model(a=1)), "\udfff", {4}, Level.LOW, Record(2)],
        (
            '[{"a":1,"model":{"a":1,"when":null,"inner":null}},"\udfff",[4],"low",'
            '{"type":"rec","a":2,"b":""}]'
        ),
    ),
]


@pytest.mark.parametrize(("value", "text"), TEXTS)
def test_values_become_text_or_json(value: object, text: str) -> None:
    """Strings as they are, the rest as JSON; text that no provider takes is left to the loop."""
    assert to_output(value, "t") == ToolOutput((Text(text),))


@pytest.mark.parametrize(
    ("value", "content"),
    [
        (IMAGE, (IMAGE,)),
        (Text("a"), (Text("a"),)),
        ([IMAGE, IMAGE], (IMAGE, IMAGE)),
        (["caption", IMAGE], (Text("caption"), IMAGE)),
        ((File(id="f"), "after"), (File(id="f"), Text("after"))),
    ],
)
def test_parts_stay_what_they_are(value: object, content: tuple[Any, ...]) -> None:
    """Alone or in a list, with strings between them."""
    assert to_output(value, "t").content == content


def test_an_output_that_was_made_by_hand_is_left_alone() -> None:
    """Also when it is an error."""
    output = ToolOutput.of("no", is_error=True)
    assert to_output(output, "t") is output


async def test_nothing_is_told_as_ok_or_null() -> None:
    """A function declared to return nothing has done its work; one that found nothing says null."""

    @tool
    async def writes() -> None:
        """Writes."""

    @tool
    async def finds() -> str | None:
        """Finds."""
        return None

    context = ToolContext.for_test()
    assert (await writes.invoke("", context)).text == "ok"
    assert (await finds.invoke("", context)).text == "null"


def circular() -> object:
    value: list[Any] = []
    value.append(value)
    return value


def deep() -> object:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


class Secretive(BaseModel):
    x: int

    def __repr__(self) -> str:
        raise AssertionError("asked for its repr")


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: b"bytes", "bytes"),
        (lambda: bytearray(b"x"), "bytearray"),
        (object, "object"),
        (threading.Lock, "lock"),
        (lambda: {"a": threading.Event()}, "dict"),
        (lambda: [IMAGE, 3], "int"),
        (circular, "list"),
        (deep, "list"),
        (lambda: ["\ud800", threading.Event()], "list"),
        (lambda: {"a": b"\xff"}, "dict"),
        (lambda: ValueError("x"), "ValueError"),
        (lambda: print, "builtin_function_or_method"),
        (lambda: Secretive, "ModelMetaclass"),
    ],
)
def test_what_cannot_be_shown_is_an_error_that_says_what_was_returned(
    make: Callable[[], object], named: str
) -> None:
    """And that the tool did run, and what is supported."""
    with pytest.raises(ToolError, match=r"tool 't' ran, but returned a value of type") as caught:
        to_output(make(), "t")
    assert named in str(caught.value)
    assert "supported are str" in str(caught.value)


async def test_a_forgotten_await_is_named() -> None:
    """The commonest way to return something unserialisable."""

    async def inner() -> int:
        return 1

    @tool
    async def forgets() -> object:
        """Forgets to await."""
        return pending

    pending = inner()
    try:
        with pytest.raises(ToolError, match="an `await` is missing"):
            await forgets.invoke("", ToolContext.for_test())
    finally:
        pending.close()


async def test_five_megabytes_come_out_whole() -> None:
    """How much of it a model is shown is for the loop to say."""

    @tool
    def large() -> list[str]:
        """Returns much."""
        return ["x" * 1_000] * 5_000

    assert len((await large.invoke("", ToolContext.for_test())).text) == 5_000 * 1_003 + 1
