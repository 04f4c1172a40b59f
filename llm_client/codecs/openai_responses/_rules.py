"""Which transcripts the Responses protocol accepts, checked message by message.

The walk over a transcript is a pure function of its state and the next encoded message, so that a
prefix that was checked once need not be checked again. Rules are named as in the documentation:

    R04  a call has an id, and no open call has the same
    R06  a result answers a call of the input, once
    R08  reasoning stands directly before the item it led to, and never last
    R09  reasoning that is not stored goes back encrypted
    R11  the input holds something, and a message what its role can hold
    R12  no transcript ends with open calls
    R13  a result names its call

Where the provider holds earlier turns itself (`previous_response_id`, `conversation`), a result may
answer a call that is not in the input.
"""

from __future__ import annotations

from msgspec import Struct

from llm_client.errors import LocalProtocolError

__all__ = ["CUSTOM_OUTPUT", "FUNCTION_OUTPUT", "START", "Encoded", "Walk", "check_end", "walk"]

FUNCTION_OUTPUT = b'{"type":"function_call_output",'
CUSTOM_OUTPUT = b'{"type":"custom_tool_call_output",'


class Encoded(Struct, frozen=True, gc=False):
    """A message in wire form.

    Attributes:
        role: whose message it is.
        values: the items it becomes.
        dangling: reasoning at its end, which may only go out before an item of its own turn.
        calls: the wire ids of its calls, with the beginning of the item that answers each.
        offers: ids of items that may be answered but need not be.
        results: the wire ids that it answers, with the rest of each item.
    """

    role: str
    values: tuple[bytes, ...] = ()
    dangling: tuple[bytes, ...] = ()
    calls: tuple[tuple[str, bytes], ...] = ()
    offers: tuple[str, ...] = ()
    results: tuple[tuple[str, bytes], ...] = ()

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        rests = sum(len(rest) for _, rest in self.results)
        return sum(map(len, self.values + self.dangling)) + rests


class Walk(Struct, frozen=True, gc=False):
    """What of the messages so far bears on the next one."""

    open: tuple[tuple[str, bytes], ...] = ()
    answered: tuple[str, ...] = ()
    """Calls of the latest turn that have their results."""
    offers: tuple[str, ...] = ()
    dangling: tuple[bytes, ...] = ()


START = Walk()


def walk(
    state: Walk, encoded: Encoded, position: int, *, continued: bool
) -> tuple[Walk, list[bytes]]:
    """The state after the message at `position`, and what it adds to the body.

    Raises:
        LocalProtocolError: it may not stand there.
    """
    if encoded.role == "tool":
        return _tool(state, encoded, position, continued=continued)
    if encoded.role == "assistant":
        return _assistant(state, encoded, position)
    if not encoded.values:
        return state, []
    if not state.dangling:
        return state, list(encoded.values)
    return Walk(state.open, state.answered, state.offers), list(encoded.values)


def _assistant(state: Walk, encoded: Encoded, position: int) -> tuple[Walk, list[bytes]]:
    if not encoded.values:
        dangling = state.dangling + encoded.dangling
        return Walk(state.open, state.answered, state.offers, dangling), []
    taken = {call_id for call_id, _ in state.open}
    for call_id, _ in encoded.calls:
        if call_id in taken:
            raise LocalProtocolError(
                f"messages[{position}] makes a second call with the id {call_id!r} before the "
                "first has its result; give each call its own",
                rule="R04",
            )
    answered = () if encoded.calls else state.answered
    offers = encoded.offers or state.offers
    after = Walk(state.open + encoded.calls, answered, offers, encoded.dangling)
    return after, [*state.dangling, *encoded.values]


def _tool(
    state: Walk, encoded: Encoded, position: int, *, continued: bool
) -> tuple[Walk, list[bytes]]:
    still_open = dict(state.open)
    answered = list(state.answered)
    values: list[bytes] = []
    for call_id, rest in encoded.results:
        begins = still_open.pop(call_id, None)
        if begins is None:
            if call_id in answered:
                raise LocalProtocolError(
                    f"messages[{position}] answers the call {call_id!r} a second time; keep one "
                    "result",
                    rule="R06",
                )
            if not continued and call_id not in state.offers:
                raise LocalProtocolError(
                    f"messages[{position}] answers the call {call_id!r}, which no assistant "
                    "message before it made; drop it, or put it after its call",
                    rule="R06",
                )
        answered.append(call_id)
        values.append((begins or FUNCTION_OUTPUT) + rest)
    return Walk(tuple(still_open.items()), tuple(answered), state.offers), values


def check_end(state: Walk) -> None:
    """Refuses a transcript that ends in `state`.

    Raises:
        LocalProtocolError: calls are still open.
    """
    if state.open:
        ids = ", ".join(sorted(repr(call_id) for call_id, _ in state.open))
        raise LocalProtocolError(
            f"the transcript ends with open calls {ids}; add their results first", rule="R12"
        )
