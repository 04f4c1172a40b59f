"""Finding a passage that a model quotes more or less exactly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from power_loop.errors import ToolError
from power_loop.tools.builtin.diff import unified_diff
from power_loop.tools.builtin.editing import edit_text

TYPOGRAPHY = "without regard to typographic variants"
LINES = "without regard to indentation"

FOUND: list[tuple[str, str, str, str, str]] = [
    # text, old, new, result, how
    ("a b c", "b", "x", "a x c", ""),
    ("a\nb\n", "a\nb", "c", "c\n", ""),
    ("a b b", " b b", "", "a", ""),
    ("a\r\nb\r\nc", "a\nb\n", "x\ny\n", "x\r\ny\r\nc", ""),
    ("a\r\nb\r\nc", "\nb", "\nx", "a\r\nx\r\nc", ""),
    ("a\r\nb\r\nc", "a\r\nb", "x\r\ny", "x\r\ny\r\nc", ""),
    ("a\nb", "a\r\nb", "x\r\ny", "x\ny", "without regard to line ends"),
    ("a\nb\nc\r\n", "b", "x\ny", "a\nx\ny\nc\r\n", ""),
    ("“q” – it’s", '"q" - it\'s', "z", "z", TYPOGRAPHY),
    ("a\u00a0b", "a b", "z", "z", TYPOGRAPHY),
    ("caf\u0065\u0301!", "caf\u00e9", "z", "z!", TYPOGRAPHY),
    ("caf\u00e9!", "cafe\u0301", "z", "z!", TYPOGRAPHY),
    ("a\u200bb", "ab", "z", "z", TYPOGRAPHY),
    ("wait… x", "wait...", "z", "z x", TYPOGRAPHY),
    ("“a”\r\nb", '"a"\nb', "x\ny", "x\r\ny", TYPOGRAPHY),
    ("def f():\n    a\n    b\n", "a\nb", "c\nd", "def f():\n    c\n    d\n", LINES),
    ("    a\n    b\n", "  a  \n  b\n", "  c\n    d\n", "    c\n      d\n", LINES),
    ("a\n b\n", "        a\n         b", "        c\n         d", "c\n d\n", LINES),
    ("\ta\r\n\tb\r\nc", "a\nb\n", "x\ny\n", "\tx\r\n\ty\r\nc", LINES),
    ("  a  \nb", "\n\na\n\n", "c", "  c\nb", LINES),
    ("  a\n  b", "a \nb\n", "x\n", "  x", LINES),
    ("  a\n  b\nc", "a \nb\n", "", "c", LINES),
    ("  a\r\n  b\r\nc", "a \nb\n", "", "c", LINES),
    ("  a\r\n  b\r\nc", "a \nb", "", "\r\nc", LINES),
]


@pytest.mark.parametrize(("text", "old", "new", "result", "how"), FOUND)
def test_each_way_of_finding_replaces_what_was_meant(
    text: str, old: str, new: str, result: str, how: str
) -> None:
    """Line ends and indentation are those of the file."""
    edited = edit_text(text, old, new)
    assert (edited.text, edited.how, edited.count) == (result, how, 1)


@pytest.mark.parametrize(
    ("text", "old", "word"),
    [
        ("a", "b", "is not there"),
        ("a", "", "is empty"),
        ("a", "\n", "is empty"),
        ("a a", "a", "there 2 times (lines 1, 1)"),
        ("“a”\n”a“", '"a"', "there 2 times (lines 1, 2)"),
        ("  a\n\ta", "a ", "there 2 times (lines 1, 2)"),
        ("ﬁ", "f", "is not there"),
        ("a\nb", "a\n\nb", "is not there"),
        ("", "a", "is not there"),
    ],
)
def test_what_cannot_be_found_once_is_refused(text: str, old: str, word: str) -> None:
    """Half a ligature is not a place; two places are too many."""
    with pytest.raises(ToolError) as caught:
        edit_text(text, old, "new")
    assert word in str(caught.value)


def test_an_edit_that_changes_nothing_is_refused() -> None:
    """It would only look like progress."""
    with pytest.raises(ToolError, match="the same"):
        edit_text("a", "a", "a")


def test_the_first_way_that_finds_anything_decides() -> None:
    """An exact match is not made ambiguous by looser ones."""
    assert edit_text('“a” "a"', '"a"', "z").text == "“a” z"


alphabet = st.sampled_from([*"ab \t\n“\"'’é–-…ﬁ", "\r\n", "e\u0301", "\u00a0"])
texts = st.lists(alphabet, max_size=30).map("".join)


@given(texts, texts, texts)
def test_an_edit_changes_only_what_it_found(before: str, old: str, after: str) -> None:
    """Whatever surrounds the passage stays, byte for byte."""
    text = before + old + after
    try:
        edited = edit_text(text, old, "§")
    except ToolError:
        return
    head, _, tail = edited.text.partition("§")
    assert text.startswith(head.rstrip(" \t") if edited.how == LINES else head)
    assert text.endswith(tail)
    assert edited.text.count("§") == 1


@given(texts, st.text(alphabet="xyz", min_size=1))
def test_an_exact_quotation_that_is_there_once_is_always_found(before: str, old: str) -> None:
    """However odd the text around it."""
    assert edit_text(f"{before}{old}{before}", old, "§").text == f"{before}§{before}"


@given(st.lists(st.sampled_from("abc"), max_size=40), st.lists(st.sampled_from("abc"), max_size=40))
def test_a_diff_turns_the_old_text_into_the_new(old: list[str], new: list[str]) -> None:
    """Applied by its own hunk headers."""
    lines = unified_diff("\n".join(old), "\n".join(new), "f").split("\n")[2:]
    result = list(old)
    shift = 0
    while lines:
        header = lines.pop(0).split()
        start, length = (int(number) for number in header[1][1:].split(","))
        body: list[str] = []
        while lines and not lines[0].startswith("@@"):
            body.append(lines.pop(0))
        first = start - 1 + shift
        assert result[first : first + length] == [line[1:] for line in body if line[0] in " -"]
        fresh = [line[1:] for line in body if line[0] in " +"]
        result[first : first + length] = fresh
        shift += len(fresh) - length
    assert result == new


def test_a_large_change_is_shown_without_comparing_all_lines_with_all() -> None:
    """And cut where a model has seen enough."""
    old = "\n".join(f"a{i}" for i in range(100_000))
    text = unified_diff(old, old.replace("a", "b"), "f")
    assert text.endswith("(the diff goes on)")
    assert len(text) < 21_000
