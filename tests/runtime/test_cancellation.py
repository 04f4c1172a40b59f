"""Tokens: owned, wrapped, in a tree, from any thread."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from power_loop.errors import CancelledByToken, UsageError
from power_loop.runtime.cancellation import INTERVAL, CancellationToken

pytestmark = pytest.mark.anyio


def test_it_says_whether_and_why_it_was_cancelled() -> None:
    """The first reason stays."""
    token = CancellationToken()
    token.raise_if_cancelled()
    assert (token.cancelled, token.reason, token.never, token.polled) == (False, None, False, False)
    assert repr(token) == "<CancellationToken, not cancelled>"
    token.cancel("the user left")
    token.cancel("again")
    assert (token.cancelled, token.reason) == (True, "the user left")
    assert repr(token) == "<CancellationToken, cancelled: the user left>"
    with pytest.raises(CancelledByToken, match="the user left") as raised:
        token.raise_if_cancelled()
    assert raised.value.reason == "the user left"


def test_a_cancellation_goes_down_the_tree_and_not_up() -> None:
    """Also to children made afterwards."""
    parent = CancellationToken()
    child, other = parent.child(), parent.child()
    grandchild = child.child()
    child.cancel("enough")
    assert [t.reason for t in (parent, child, grandchild, other)] == [
        None,
        "enough",
        "enough",
        None,
    ]
    parent.cancel("all of it")
    assert [t.reason for t in (parent, child, grandchild, other)] == [
        "all of it",
        "enough",
        "enough",
        "all of it",
    ]
    assert parent.child().reason == "all of it"


def test_any_of_follows_each_and_touches_none() -> None:
    """Of none at all it is a token of its own."""
    first, second, never = (
        CancellationToken(),
        CancellationToken(),
        CancellationToken.from_any(None),
    )
    either = CancellationToken.any_of(first, never, second)
    both = CancellationToken.any_of(first, second)
    both.cancel("by itself")
    assert (first.cancelled, either.cancelled) == (False, False)
    second.cancel("the second")
    assert (first.cancelled, either.reason, both.reason) == (False, "the second", "by itself")
    alone = CancellationToken.any_of()
    assert not alone.cancelled
    alone.cancel()
    assert alone.reason == "cancelled"


def test_a_token_of_none_is_never_cancelled() -> None:
    """Nothing that follows it is, either, unless by itself."""
    token = CancellationToken.from_any(None)
    assert (token.never, token.cancelled, token.polled) == (True, False, False)
    assert repr(token) == "<CancellationToken, never>"
    with pytest.raises(UsageError, match=r"make a CancellationToken\(\)"):
        token.cancel()
    assert not token.cancelled
    child = token.child()
    assert not child.never
    child.cancel("mine")
    assert (child.reason, token.reason) == ("mine", None)


def test_what_is_no_source_is_refused() -> None:
    """And says what would be one."""
    wrong: list[Any] = [3, "yes", object(), threading.Event, asyncio.Event, anyio.sleep_forever]
    for source in wrong:
        with pytest.raises(UsageError, match="an event"):
            CancellationToken.from_any(source)
    nothing: Any = None
    with pytest.raises(UsageError, match="from_any"):
        CancellationToken.any_of(nothing)
    with pytest.raises(UsageError, match="is a text"):
        CancellationToken().cancel(nothing)
    token = CancellationToken()
    assert CancellationToken.from_any(token) is token


def _events() -> list[tuple[Any, Callable[[], object]]]:
    switch: list[bool] = []
    made: list[Any] = [threading.Event(), asyncio.Event(), anyio.Event(), trio.Event()]
    pairs: list[tuple[Any, Callable[[], object]]] = [(event, event.set) for event in made]
    return [*pairs, (lambda: bool(switch), partial(switch.append, True))]


async def test_an_event_or_a_function_cancels_when_it_says_so() -> None:
    """Wherever one asks: at the token, at a child, at one of several. The source is left alone."""
    for source, say in _events():
        token = CancellationToken.from_any(source)
        child, either = token.child(), CancellationToken.any_of(CancellationToken(), token)
        assert (token.cancelled, child.cancelled, either.cancelled) == (False, False, False)
        assert (token.polled, child.polled, either.polled) == (True, True, True)
        say()
        assert (either.cancelled, child.cancelled, token.cancelled) == (True, True, True)
        assert either.reason == child.reason == token.reason
    event = threading.Event()
    token = CancellationToken.from_any(event)
    token.cancel("by itself")
    assert not event.is_set()


def test_a_source_that_fails_does_not_cancel_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One that raises, or returns something else than a bool, such as a coroutine."""

    def breaks() -> bool:
        raise OSError("no such flag")

    def misleads() -> Any:
        return "no"

    for source in (breaks, misleads):
        caplog.clear()
        token = CancellationToken.from_any(source)
        assert [token.cancelled, token.child().cancelled, token.reason] == [False, False, None]
        assert len(caplog.records) == 1
        assert "that counts as no" in caplog.text


def test_listeners_hear_it_once_until_they_are_removed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One that comes late hears it at once; one that fails keeps nobody from hearing."""
    token = CancellationToken()
    heard: list[str] = []

    def fails(reason: str) -> None:
        raise ValueError(reason)

    token.on_cancel(fails)
    token.on_cancel(lambda reason: heard.append(f"first {reason}"))
    forget = token.on_cancel(heard.append)
    token.child().on_cancel(heard.append)
    forget()
    forget()
    token.cancel("now")
    token.cancel("again")
    assert heard == ["first now"], "a child that nobody keeps hears nothing"
    token.on_cancel(lambda reason: heard.append(f"late {reason}"))()
    assert heard == ["first now", "late now"]
    assert "a listener of a cancellation failed" in caplog.text


def test_a_listener_may_cancel_and_listen_itself() -> None:
    """From within the very call that cancels."""
    token = CancellationToken()
    heard: list[str] = []

    def again(reason: str) -> None:
        token.cancel("from within")
        token.on_cancel(heard.append)
        token.child().cancel("below")
        heard.append(reason)

    token.on_cancel(again)
    token.cancel("now")
    assert heard == ["now", "now"]


def test_a_tree_may_be_deep_and_a_parent_keeps_no_child() -> None:
    """10,000 levels; 1,000 children that come and go."""
    root = last = CancellationToken()
    for _ in range(10_000):
        last = last.child()
    root.cancel("from the top")
    assert last.reason == "from the top"
    parent = CancellationToken()
    kept = parent.child()
    seen = [weakref.ref(parent.child()._node) for _ in range(1000)]
    gc.collect()
    assert [each() for each in seen if each() is not None] == []
    assert len(parent._node.children) == 1
    del kept
    gc.collect()
    assert parent._node.children == {}


async def test_waiting_ends_with_the_reason_from_any_thread() -> None:
    """A token that calls back wakes who waits; they leave nothing behind."""
    with anyio.fail_after(10):
        token = CancellationToken()
        told: list[str] = []

        async def wait() -> None:
            told.append(await token.wait())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            await anyio.to_thread.run_sync(token.cancel, "from a thread")
        assert told == ["from a thread"]
        assert await token.wait() == "from a thread"
        other = CancellationToken()
        with anyio.move_on_after(0):
            await other.wait()
        assert other._node.listeners == {}


async def test_what_cannot_call_back_is_looked_at_while_somebody_waits() -> None:
    """Every 50 ms, so that it is heard of by then."""
    with anyio.fail_after(10):
        looks: list[float] = []

        def after_a_while() -> bool:
            looks.append(anyio.current_time())
            return len(looks) == 8

        token = CancellationToken.from_any(after_a_while).child()
        asked = len(looks)
        assert await token.wait() == "the caller's function said so"
        assert len(looks) == 8
        assert asked <= 4, "to make it, and to begin to listen"
        assert looks[7] - looks[4] >= 3 * INTERVAL * 0.9


@settings(max_examples=60, deadline=None)
@given(
    above=st.lists(st.lists(st.integers(0, 30), max_size=3), max_size=20),
    cancelled=st.lists(st.tuples(st.integers(0, 19), st.text(max_size=3)), max_size=8),
)
def test_whatever_follows_whatever_it_is_as_the_plain_rule_says(
    above: list[list[int]], cancelled: list[tuple[int, str]]
) -> None:
    """A token is cancelled as soon as it, or anything that it follows, is; the reason stays."""
    tokens: list[CancellationToken] = []
    follows: list[set[int]] = []
    heard: dict[int, list[str]] = {}
    for place, wanted in enumerate(above):
        parents = sorted({n % place for n in wanted}) if place else []
        token = CancellationToken.any_of(*[tokens[n] for n in parents])
        token.on_cancel(heard.setdefault(place, []).append)
        tokens.append(token)
        follows.append({place, *(m for n in parents for m in follows[n])})
    model: dict[int, str] = {}
    for place, reason in cancelled:
        if place >= len(tokens):
            continue
        told = model.get(place, reason)
        for n in range(len(tokens)):
            if place in follows[n]:
                model.setdefault(n, told)
        tokens[place].cancel(reason)
    assert [token.reason for token in tokens] == [model.get(n) for n in range(len(tokens))]
    assert heard == {n: [model[n]] if n in model else [] for n in range(len(tokens))}


def test_of_many_threads_one_is_first_and_each_listener_hears_that_once() -> None:
    """Cancelling, listening and following at the same time, again and again."""
    for round in range(200):
        token = CancellationToken()
        ready = threading.Barrier(6)
        heard: list[list[str]] = [[] for _ in range(4)]
        children: list[CancellationToken] = []

        def cancel(name: str, token: CancellationToken = token, ready: Any = ready) -> None:
            ready.wait()
            token.cancel(name)

        def listen(
            into: list[str],
            token: CancellationToken = token,
            ready: Any = ready,
            children: list[CancellationToken] = children,
        ) -> None:
            ready.wait()
            token.on_cancel(into.append)
            child = token.child()
            children.append(child)

        threads = [threading.Thread(target=cancel, args=(name,)) for name in ("a", "b")]
        threads += [threading.Thread(target=listen, args=(into,)) for into in heard]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert token.reason in ("a", "b")
        assert heard == [[token.reason]] * 4, round
        assert [child.reason for child in children] == [token.reason] * 4
