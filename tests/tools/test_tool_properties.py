"""What holds for every signature, every value and every text a model may send."""

from __future__ import annotations

import json
from collections.abc import Coroutine
from typing import Any, Literal, TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from llm_client.structured.validator import SchemaValidator
from power_loop.tools import (
    FunctionTool,
    InvalidArguments,
    JsonSchemaTool,
    Tool,
    ToolContext,
    ToolError,
    to_output,
    tool,
)

T = TypeVar("T")


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of something that never waits."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waited")


class Point(BaseModel):
    x: int
    label: str = "p"


texts = st.text(max_size=8)
plain: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, st.integers(-(10**20), 10**20)),
    (str, texts),
    (bool, st.booleans()),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (Literal["a", "b"], st.sampled_from(["a", "b"])),
    (None, st.none()),
    (Point, st.builds(Point, x=st.integers(-9, 9), label=texts)),
    (Any, st.sampled_from([None, 1, "x", [1, {"y": None}]])),
]


def around(
    inner: st.SearchStrategy[tuple[Any, st.SearchStrategy[Any]]],
) -> st.SearchStrategy[tuple[Any, st.SearchStrategy[Any]]]:
    """Containers of what there is."""
    return st.one_of(
        inner.map(lambda pair: (list[pair[0]], st.lists(pair[1], max_size=3))),
        inner.map(lambda pair: (dict[str, pair[0]], st.dictionaries(texts, pair[1], max_size=3))),
        inner.map(lambda pair: (pair[0] | None if pair[0] else None, pair[1] | st.none())),
    )


hints = st.recursive(st.sampled_from(plain), around, max_leaves=4)


def function_of(kinds: list[Any], optional: int) -> FunctionTool[..., Any]:
    """A tool with one parameter of each kind, the last ones with the default None."""
    names = [f"p{i}" for i in range(len(kinds))]
    first_optional = len(names) - optional
    written = [name if i < first_optional else f"{name}=None" for i, name in enumerate(names)]
    given_back = ", ".join(f"{name!r}: {name}" for name in names)
    space: dict[str, Any] = {}
    exec(f"async def f({', '.join(written)}): 'Described.'; return {{{given_back}}}", space)
    space["f"].__annotations__.update(
        {
            name: kind if i < first_optional else kind | None if kind else None
            for i, (name, kind) in enumerate(zip(names, kinds, strict=True))
        }
    )
    space["f"].__module__ = __name__
    return tool(space["f"])


@settings(deadline=None)
@given(data=st.data(), kinds=st.lists(hints, max_size=4))
def test_values_go_through_the_schema_and_back_unchanged(
    data: st.DataObject, kinds: list[tuple[Any, st.SearchStrategy[Any]]]
) -> None:
    """What is written as JSON arrives as it was; the tool's own schema accepts it too."""
    optional = data.draw(st.integers(0, len(kinds)))
    subject = function_of([hint for hint, _ in kinds], optional)
    values = {f"p{i}": data.draw(value) for i, (_, value) in enumerate(kinds)}
    arguments = to_output(values, "t").text
    seen: dict[str, Any] = at_once(subject(**values))
    output = at_once(subject.invoke(arguments, ToolContext.for_test()))
    assert output == to_output(seen, "t")
    parsed = json.loads(arguments)
    assert SchemaValidator(subject.spec.parameters).check(parsed) == (parsed, [])
    schema = json.dumps(subject.spec.parameters)
    assert "$ref" not in schema
    assert '"title"' not in schema


@tool
async def subject(count: int, names: list[str] | None = None, point: Point | None = None) -> str:
    """Takes arguments."""
    return f"{count}"


async def _handler(arguments: dict[str, Any], context: ToolContext[Any]) -> str:
    return "ok"


SUBJECTS: list[Tool] = [
    subject,
    JsonSchemaTool("js", "A schema.", subject.spec.parameters, _handler),
]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
arguments = st.one_of(
    st.text(max_size=40),
    values.map(json.dumps),
    st.fixed_dictionaries({}, optional=dict.fromkeys(("count", "names", "point", "x"), values)).map(
        json.dumps
    ),
)


@given(chosen=st.sampled_from(SUBJECTS), text=arguments, cut=st.integers(0, 400))
def test_no_text_makes_a_tool_fail_with_anything_but_a_typed_error(
    chosen: Tool, text: str, cut: int
) -> None:
    """Whole or cut anywhere; the error itself can always be sent."""
    for sent in (text, text[:cut]):
        try:
            at_once(chosen.invoke(sent, ToolContext.for_test()))
        except InvalidArguments as error:
            raised = error
        else:
            continue
        assert raised.problems
        assert json.loads(str(raised).encode())["tool"] == chosen.name


@given(st.sampled_from(['{"count":12,"names":["a","b"],"point":{"x":1,"label":"q"}}']), st.data())
def test_a_call_that_was_cut_short_is_never_run(whole: str, data: st.DataObject) -> None:
    """No proper beginning of an object is one."""
    cut = data.draw(st.integers(1, len(whole) - 1))
    try:
        at_once(subject.invoke(whole[:cut], ToolContext.for_test()))
    except InvalidArguments:
        return
    raise AssertionError(f"ran {whole[:cut]!r}")


things = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(st.characters(), max_size=8),
        st.binary(max_size=4),
        st.dates(),
        st.uuids(),
        st.decimals(),
        st.builds(object),
        st.builds(Point, x=st.integers(-9, 9)),
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=8,
)


@given(things)
def test_whatever_a_tool_returns_becomes_text_or_a_typed_error(value: object) -> None:
    """Surrogates, bytes, objects that mean nothing: told, never raised as something else."""
    try:
        told = str(to_output(value, "t").content)
    except ToolError as error:
        told = str(error)
    assert told.startswith(("(Text(", "tool 't' ran, but returned a value of type"))
