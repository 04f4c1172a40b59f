"""File name patterns."""

from __future__ import annotations

import pytest

from power_loop.tools.builtin.matching import compile_pattern


@pytest.mark.parametrize(
    ("pattern", "fitting", "others"),
    [
        ("*.py", ["a.py", "x/y/a.py", ".py"], ["a.pyc", "a/py"]),
        ("./*.py", ["a.py"], ["a.md"]),
        ("a/*.py", ["a/b.py"], ["b.py", "a/b/c.py", "x/a/b.py"]),
        ("**/x", ["x", "a/x", "a/b/x"], ["a/xx"]),
        ("a/**", ["a/b", "a/b/c"], ["a", "b/a"]),
        ("a/**/b/**/c", ["a/b/c", "a/x/b/y/z/c", "a/b/b/c"], ["a/c", "a/b", "b/c"]),
        ("**", ["a", "a/b"], []),
        ("**/**/a", ["a", "b/a"], ["b"]),
        ("[ab]?.md", ["ax.md", "q/bx.md"], ["cx.md", "a.md"]),
        ("[!a]*", ["b"], ["a", "ab"]),
        ("a.b", ["a.b"], ["axb"]),
        ("a/*/c", ["a/b/c"], ["a/c", "a/b/b/c"]),
    ],
)
def test_a_pattern_fits_what_it_says(pattern: str, fitting: list[str], others: list[str]) -> None:
    """Stars stay in their component, double stars go over any number of them."""
    fits = compile_pattern(pattern)
    assert [path for path in fitting if not fits(tuple(path.split("/")))] == []
    assert [path for path in others if fits(tuple(path.split("/")))] == []


def test_many_stars_do_not_take_for_ever() -> None:
    """Neither in a component nor over components; with backtracking these would never end."""
    assert not compile_pattern("*a" * 40 + "b")(("a" * 250,))
    assert not compile_pattern("/".join(["**", "a"] * 60) + "/b")(("a",) * 60)
