"""What of a run is kept, and in which pieces."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_client.types import Image, Message, ToolCall
from power_loop.runtime.memory.base import MemoryScope, MemorySnapshot
from power_loop.runtime.memory.tagging import tag_as_memory
from power_loop.runtime.memory.vectors.chunking import is_worth_keeping, pieces, words_of


def ended(*messages: Message, rounds: int, final: str = "Done.") -> MemorySnapshot:
    """A run that ends."""
    return MemorySnapshot(
        scope=MemoryScope(session="s"),
        run_id="r",
        messages=messages,
        final_text=final,
        rounds=rounds,
        status="completed",
    )


def call(id: str) -> Message:
    """A message of the model that calls a tool."""
    return Message.assistant("", ToolCall(id, "look", "{}"))


def test_what_was_said_in_the_run_is_what_counts() -> None:
    """Not in earlier ones; what came in midway counts, what tools gave does not."""
    snapshot = ended(
        Message.user("An old question"),
        Message.assistant("An old answer"),
        Message.user("My name is Mara."),
        Message.user("I live in Vienna."),
        call("1"),
        Message.tool("1", "tool output"),
        Message.user("And I like tea."),
        Message.assistant("Hello Mara."),
        rounds=2,
        final="Hello Mara.",
    )
    assert words_of(snapshot) == [
        ("user", "My name is Mara."),
        ("user", "I live in Vienna."),
        ("user", "And I like tea."),
        ("agent", "Hello Mara."),
    ]


def test_what_was_only_put_where_the_user_speaks_is_not_kept() -> None:
    """Memories that came up would be remembered again and again; pictures have no words."""
    snapshot = ended(
        tag_as_memory("an old memory", "vectors"),
        Message("user", Message.user("a summary").parts, name="compact_note"),
        Message("user", (Image(data=b"x", media_type="image/png"),)),
        Message("user", Message.user("I am Bob.").parts, name="bob"),
        Message.assistant("Hello."),
        rounds=1,
    )
    assert [text for who, text in words_of(snapshot) if who == "user"] == ["", "I am Bob."]


def test_a_view_that_was_compacted_is_read_as_far_as_it_goes() -> None:
    """The rounds before the cut are not there any more."""
    snapshot = ended(Message.user("The task."), Message.assistant("Done."), rounds=40)
    assert words_of(snapshot)[0] == ("user", "The task.")
    assert words_of(ended(rounds=0)) == [("agent", "Done.")]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", False),
        ("thanks!", False),
        ("ok\n\n  ", False),
        ("I like tea, not coffee.", True),
        ("我住在维也纳", True),
        ("谢谢", False),
        ("When is Mara's birthday?", False),
        ("Mara 的生日是哪一天？", False),
        ("My birthday is on 4 May. Will you remember?", True),
        ("我的生日是五月四日。记住了吗？", True),
        ("\ud800" * 20, True),
    ],
)
def test_a_word_of_thanks_and_a_lone_question_are_not_worth_keeping(
    text: str, *, kept: bool
) -> None:
    """They would come up, and say nothing."""
    assert is_worth_keeping(text, 12) is kept


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("short", ["short"]),
        ("  \n ", []),
        ("one two three four", ["one two", "three four"]),
        ("0123456789 0123456789 0", ["0123456789", "0123456789", "0"]),
        ("A b c. D e f g", ["A b c.", "D e f g"]),
        ("abcdef\nghi jkl", ["abcdef", "ghi jkl"]),
        ("x" * 23, ["x" * 10, "x" * 10, "xxx"]),
        ("今天我去市场。买了苹果和梨。", ["今天我去市场。", "买了苹果和梨。"]),
    ],
)
def test_a_long_text_is_cut_where_it_hurts_least(text: str, expected: list[str]) -> None:
    """Between paragraphs, lines, sentences, words, and only then anywhere."""
    assert list(pieces(text, 10)) == expected


@given(st.text(alphabet="ab .\n。", max_size=300), st.integers(1, 40))
def test_nothing_of_a_text_is_lost_or_doubled_but_blanks(text: str, size: int) -> None:
    """Every piece has its size, and all together are the text."""
    cut = list(pieces(text, size))
    assert "".join("".join(cut).split()) == "".join(text.split())
    assert all(0 < len(piece) <= size and piece == piece.strip() for piece in cut)


def test_ten_megabytes_are_cut_in_no_time() -> None:
    """Of one kind of character, the worst case for looking for a place to cut."""
    begun = time.process_time()
    assert len(list(pieces("x" * 10_000_000, 1000))) == 10_000
    assert time.process_time() - begun < 5
