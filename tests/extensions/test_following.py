"""A fold over a view goes on where it had been, and comes to what it would from the beginning."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_client.types import Message, Transcript
from power_loop.extensions.following import Followed


def joined(state: str, message: Message) -> str:
    return state + message.text


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["grow", "cut", "other", "shorter", "list"]),
            st.text("abc", max_size=3),
        ),
        max_size=20,
    )
)
def test_it_comes_to_the_same_as_reading_from_the_beginning(steps: list[tuple[str, str]]) -> None:
    """However the view has changed since it was read."""
    followed = Followed("", joined)
    backing: list[Message] = []
    for kind, text in steps:
        match kind:
            case "grow":
                backing.append(Message.user(text))
            case "cut":
                backing = [Message.user(text), *backing[len(backing) // 2 :]]
            case "other":
                assert followed.of("t", Transcript([Message.user(text)])) == text
            case "shorter":
                stop = len(backing) // 2
                found = followed.of("s", Transcript(backing, stop=stop))
                assert found == "".join([message.text for message in backing[:stop]])
            case _:
                assert followed.of("s", list(backing)) == "".join([m.text for m in backing])
        whole = "".join([message.text for message in backing])
        assert followed.of("s", Transcript(backing)) == whole


def test_a_message_is_read_once_as_long_as_the_view_only_grows() -> None:
    """So a round costs the same in a long session, and so does a run."""
    read: list[str] = []

    def step(state: int, message: Message) -> int:
        read.append(message.text)
        return state + 1

    followed = Followed(0, step)
    backing = [Message.user(str(n)) for n in range(3)]
    assert followed.of("s", Transcript(backing)) == 3
    backing.append(Message.user("3"))
    assert followed.of("s", Transcript(backing)) == 4
    assert read == ["0", "1", "2", "3"]


@pytest.mark.parametrize("sessions", [256, 257])
def test_of_many_sessions_the_last_are_known(sessions: int) -> None:
    """The rest is read again when it is asked for."""
    read: list[str] = []

    def step(state: int, message: Message) -> int:
        read.append(message.text)
        return state + 1

    followed = Followed(0, step)
    views = [Transcript([Message.user(str(n))]) for n in range(sessions)]
    for n, view in enumerate(views):
        followed.of(f"s{n}", view)
    read.clear()
    followed.of("s0", views[0])
    assert len(read) == max(sessions - 256, 0)
