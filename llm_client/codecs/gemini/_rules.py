"""Which transcripts Gemini accepts, checked message by message.

The walk over a transcript is a pure function of its state and the next encoded message, so that a
prefix that was checked once need not be checked again. Rules are named as in the documentation:

    G01  a function's name begins with a letter or _   G06  … and only one
    G02  each part stands in a turn that can hold it   G07  a result follows the turn of its call
    G03  nothing is empty                              G08  what a function returned is an object
    G04  calls follow a turn of the user               G09  the first call of a turn is signed
    G05  each call has its result in the next turn     G10  not too many of anything

The results of one turn go out together, in the order of its calls, when the last has come.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

from llm_client.errors import LocalProtocolError

__all__ = ["START", "Call", "Encoded", "Result", "Walk", "check_end", "walk"]


class Call(Struct, frozen=True, gc=False):
    """A call as its result must know it. `wire_id` is the provider's own id, if it gave one."""

    id: str
    name: str
    wire_id: str | None = None


class Result(Struct, frozen=True, gc=False):
    """What a call came to: a JSON object, and parts for what no JSON can hold."""

    call_id: str
    response: bytes
    media: tuple[bytes, ...] = ()


class Encoded(Struct, frozen=True, gc=False):
    """A message in wire form, as far as it does not depend on those before it."""

    role: Literal["system", "user", "assistant", "tool"]
    parts: tuple[bytes, ...] = ()
    calls: tuple[Call, ...] = ()
    results: tuple[Result, ...] = ()

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        held = sum(map(len, self.parts))
        for result in self.results:
            held += len(result.response) + sum(map(len, result.media))
        return held


class Walk(Struct, frozen=True, gc=False):
    """What of the messages so far bears on the next one."""

    last: Literal["user", "model"] | None = None
    """Whose turn the newest content is; None while there is none."""
    system: tuple[bytes, ...] = ()
    """System messages before all others: they join the system prompt."""
    turn: tuple[Call, ...] = ()
    """The calls of the latest turn of the model, while nothing but results has followed it."""
    results: tuple[Result, ...] = ()
    """Their results so far."""


START = Walk()

_SYSTEM_BEGINS, _SYSTEM_ENDS = b'{"text":"<system>"}', b'{"text":"</system>"}'
_BRIDGE = b'{"role":"user","parts":[{"text":"Go on."}]}'


def walk(
    state: Walk, encoded: Encoded, position: int, *, media_results: bool
) -> tuple[Walk, list[bytes]]:
    """The state after the message at `position`, and what it adds to the body. With
    `media_results` the results of functions hold images; otherwise these follow.

    Raises:
        LocalProtocolError: it may not stand there.
    """
    if encoded.role == "tool":
        return _tool(state, encoded, position, media_results=media_results)
    if _open(state):
        raise LocalProtocolError(
            f"messages[{position}] ({encoded.role}) stands before the results of the calls "
            f"{_names(state)}; each call needs its result right after the message that made it",
            rule="G05",
        )
    if encoded.role == "system" and state.last is None:
        return Walk(None, state.system + encoded.parts), []
    if not encoded.parts:
        return state, []
    if encoded.role == "system":
        # There is no such turn; the model must still see whose word it is.
        parts = (_SYSTEM_BEGINS, *encoded.parts, _SYSTEM_ENDS)
        return Walk("user", state.system), [_content(b"user", parts)]
    if encoded.role == "user":
        return Walk("user", state.system), [_content(b"user", encoded.parts)]
    values = [_content(b"model", encoded.parts)]
    if encoded.calls and state.last != "user":
        values.insert(0, _BRIDGE)
    return Walk("model", state.system, encoded.calls), values


def _tool(
    state: Walk, encoded: Encoded, position: int, *, media_results: bool
) -> tuple[Walk, list[bytes]]:
    answered = {result.call_id for result in state.results}
    known = {call.id for call in state.turn}
    for result in encoded.results:
        if result.call_id not in known:
            raise LocalProtocolError(
                f"messages[{position}] answers the call {result.call_id!r}, which the model's turn "
                "just before it did not make; drop it, or put it after its call",
                rule="G07",
            )
        if result.call_id in answered:
            raise LocalProtocolError(
                f"messages[{position}] answers the call {result.call_id!r} a second time; keep one "
                "result",
                rule="G06",
            )
        answered.add(result.call_id)
    results = state.results + encoded.results
    after = Walk(state.last, state.system, state.turn, results)
    if len(results) < len(state.turn):
        return after, []
    found = {result.call_id: result for result in results}
    pairs = [(call, found[call.id]) for call in state.turn]
    values = [
        _content(
            b"user", [_response(call, result, with_media=media_results) for call, result in pairs]
        )
    ]
    if not media_results:
        attached = [part for call, result in pairs for part in _attached(call, result)]
        if attached:
            values.append(_content(b"user", attached))
    return msgspec.structs.replace(after, last="user"), values


def _response(call: Call, result: Result, *, with_media: bool) -> bytes:
    fields: dict[str, object] = {} if call.wire_id is None else {"id": call.wire_id}
    fields["name"] = call.name
    fields["response"] = msgspec.Raw(result.response)
    if with_media and result.media:
        fields["parts"] = [msgspec.Raw(part) for part in result.media]
    return msgspec.json.encode({"functionResponse": fields})


def _attached(call: Call, result: Result) -> list[bytes]:
    if not result.media:
        return []
    return [msgspec.json.encode({"text": f"From {call.name}:"}), *result.media]


def _content(role: bytes, parts: tuple[bytes, ...] | list[bytes]) -> bytes:
    return b'{"role":"' + role + b'","parts":[' + b",".join(parts) + b"]}"


def check_end(state: Walk) -> None:
    """Refuses a transcript that ends in `state`.

    Raises:
        LocalProtocolError: calls are still open, or there is nothing in it.
    """
    if _open(state):
        raise LocalProtocolError(
            f"the transcript ends with open calls {_names(state)}; add their results first",
            rule="G05",
        )
    if state.last is None:
        raise LocalProtocolError(
            "the request holds no message but system messages; send at least one that says "
            "something",
            rule="G03",
        )


def _open(state: Walk) -> bool:
    return len(state.results) < len(state.turn)


def _names(state: Walk) -> str:
    answered = {result.call_id for result in state.results}
    return ", ".join(sorted(repr(call.id) for call in state.turn if call.id not in answered))
