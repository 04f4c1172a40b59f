"""Which transcripts the Chat Completions protocol accepts, checked message by message.

The walk over a transcript is a pure function of its state and the next encoded message, so that a
prefix that was checked once need not be checked again. Rules are named as in the documentation:

    C06  a tool result names its call          C12  an assistant message says something
    C07  … a call of the turn just before it   C13  a call has an id
    C08  … which it answers once               C14  … unique in its turn
    C10  nothing stands between a call and its results
    C20  no transcript ends with open calls
"""

from __future__ import annotations

from msgspec import Struct

from llm_client.errors import LocalProtocolError

__all__ = ["START", "Encoded", "Walk", "check_end", "walk"]


class Encoded(Struct, frozen=True, gc=False):
    """A message in wire form. `values` are the JSON values it becomes; `calls` and `results` the
    wire ids that it opens and answers; `attachments` content parts that tool messages cannot
    carry."""

    role: str
    values: tuple[bytes, ...]
    calls: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    attachments: tuple[bytes, ...] = ()

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return sum(map(len, self.values + self.attachments))


class Walk(Struct, frozen=True, gc=False):
    """What of the messages so far bears on the next one."""

    turn: tuple[str, ...] = ()
    """The call ids of the latest assistant turn, while nothing but results has followed it."""
    open: tuple[str, ...] = ()
    attachments: tuple[bytes, ...] = ()
    after_tool: bool = False


START = Walk()

_BRIDGE = b'{"role":"assistant","content":"Understood."}'


def walk(
    state: Walk, encoded: Encoded, position: int, *, bridge: bool = False
) -> tuple[Walk, list[bytes]]:
    """The state after the message at `position`, and what it adds to the body. With `bridge`, an
    assistant message goes between tool results and a user message.

    Raises:
        LocalProtocolError: it may not stand there.
    """
    if encoded.role == "tool":
        return _tool(state, encoded, position, bridge=bridge)
    if state.open:
        raise LocalProtocolError(
            f"messages[{position}] ({encoded.role}) stands before the results of the calls "
            f"{_names(state.open)}; each call needs its result right after the message that made "
            "it",
            rule="C10",
        )
    values = list(encoded.values)
    if encoded.role == "assistant":
        if encoded.calls:
            return Walk(encoded.calls, encoded.calls), values
    elif bridge and state.after_tool and encoded.role == "user" and values:
        values.insert(0, _BRIDGE)
    return (START if values else state), values


def _tool(
    state: Walk, encoded: Encoded, position: int, *, bridge: bool
) -> tuple[Walk, list[bytes]]:
    still_open = list(state.open)
    for call_id in encoded.results:
        if call_id not in state.turn:
            raise LocalProtocolError(
                f"messages[{position}] answers the call {call_id!r}, which the assistant turn just "
                "before it did not make; drop it, or put it after its call",
                rule="C07",
            )
        if call_id not in still_open:
            raise LocalProtocolError(
                f"messages[{position}] answers the call {call_id!r} a second time; keep one result",
                rule="C08",
            )
        still_open.remove(call_id)
    values = list(encoded.values)
    attachments = state.attachments + encoded.attachments
    if still_open:
        return Walk(state.turn, tuple(still_open), attachments), values
    if not attachments:
        return Walk(state.turn, after_tool=True), values
    # Tool messages hold text only, and nothing may stand between them: what else the tools returned
    # follows as a user message when the last of them has answered.
    if bridge:
        values.append(_BRIDGE)
    values.append(b'{"role":"user","content":[' + b",".join(attachments) + b"]}")
    return Walk(state.turn), values


def check_end(state: Walk) -> None:
    """Refuses a transcript that ends in `state`.

    Raises:
        LocalProtocolError: calls are still open.
    """
    if state.open:
        raise LocalProtocolError(
            f"the transcript ends with open calls {_names(state.open)}; add their results first",
            rule="C20",
        )


def _names(ids: tuple[str, ...]) -> str:
    return ", ".join(sorted(map(repr, ids)))
