"""Which transcripts the Messages protocol accepts, checked message by message.

The walk over a transcript is a pure function of its state and the next encoded message, so that a
prefix that was checked once need not be checked again. Rules are named as in the documentation:

    A06  a message holds only what its role can hold
    A08  there is something to answer
    A12  a call has an id, unique in its turn
    A19  no transcript ends with open calls
    A20  nothing stands between a call and its results
    A21  a result answers a call of the turn just before it
    A22  … once
    A24  what a model cannot continue is not the last message

These need no refusal, because what is sent keeps to them:

    A07  system messages before all others become the system prompt. One in mid-transcript stays in
         its place: as a system turn where the model knows such turns and it may stand there (after
         a user turn, before an assistant turn or at the end), else as a user turn in <system> tags.
    A09  blank texts are left out                    A15  arguments are an object
    A11  a last assistant text has no blank at its end
    A13  ids are of letters, digits, _ and -         A16  only sealed thinking is sent, unchanged
    A14  texts come before calls                     A18  no assistant turn ends in thinking
    A23  results of all calls of a turn form one user turn, in the order of the calls
"""

from __future__ import annotations

from msgspec import Struct, structs

from llm_client.codecs.anthropic._marks import in_order, lifetime
from llm_client.errors import LocalProtocolError

__all__ = ["START", "Encoded", "Walk", "check_end", "noted", "turn", "walk"]


class Encoded(Struct, frozen=True, gc=False):
    """A message in wire form.

    Attributes:
        role: the message's.
        blocks: its content blocks; of a tool message, one result each.
        calls: wire ids of the calls it opens.
        results: wire ids of the calls it answers, one for each block.
        words: of a system message, how it is said in a user turn.
        points: how many cache breakpoints it carries.
        fixed: its last block cannot carry one.
        blank_end: its last block is a text with blanks at its end.
        container: where the provider ran code for it.
        opaque: it holds what only the provider understands: a paused turn, for one.
        compacted: it holds what the provider has made of all before it.
    """

    role: str
    blocks: tuple[bytes, ...] = ()
    calls: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    words: tuple[bytes, ...] = ()
    points: int = 0
    fixed: bool = False
    blank_end: bool = False
    opaque: bool = False
    compacted: bool = False
    container: str | None = None

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return sum(map(len, self.blocks + self.words))


class Walk(Struct, frozen=True, gc=False):
    """What of the messages so far bears on the next one, and on the request as a whole.

    Attributes:
        system: blocks of the system prompt.
        turn: the call ids of the latest assistant turn, while nothing but results has followed it.
        open: those of them that have no result yet.
        results: the results so far, by id.
        notes: system messages that wait for what follows them.
        points: how many cache breakpoints there are.
        ttls: how long they keep what stands before them.
        last: the latest message that was sent, None before the first.
        compacted: one of the messages held what the provider has made of those before it.
    """

    system: tuple[bytes, ...] = ()
    turn: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    results: tuple[tuple[str, bytes], ...] = ()
    notes: tuple[Encoded, ...] = ()
    points: int = 0
    ttls: frozenset[str] = frozenset()
    last: Encoded | None = None
    compacted: bool = False


START = Walk()

_BEGUN = {
    role: b'{"role":"%b","content":[' % role.encode() for role in ("user", "assistant", "system")
}


def turn(role: str, blocks: tuple[bytes, ...]) -> bytes:
    """One entry of the body's `messages`."""
    return _BEGUN[role] + b",".join(blocks) + b"]}"


def walk(
    state: Walk, encoded: Encoded, position: int, *, system_turns: bool
) -> tuple[Walk, list[bytes]]:
    """The state after the message at `position`, and what it adds to the body.

    Raises:
        LocalProtocolError: it may not stand there.
    """
    if encoded.points:
        state, encoded = _counted(state, encoded)
    if encoded.role == "tool":
        return _tool(state, encoded, position)
    if state.open:
        raise LocalProtocolError(
            f"messages[{position}] ({encoded.role}) stands before the results of the calls "
            f"{_names(state.open)}; each call needs its result right after the message that made "
            "it",
            rule="A20",
        )
    if not encoded.blocks and not encoded.words:
        return state, []
    if encoded.role == "system":
        if state.last is None:
            if encoded.opaque:
                raise LocalProtocolError(
                    f"messages[{position}] belongs to the system prompt, which holds text only; "
                    "put its opaque parts after the first user message",
                    rule="A06",
                )
            return structs.replace(state, system=state.system + encoded.blocks), []
        return structs.replace(state, notes=(*state.notes, encoded)), []
    values = noted(state, encoded.role, system_turns=system_turns) if state.notes else []
    values.append(turn(encoded.role, encoded.blocks))
    # Only what bears on the rest: blocks are not kept alive by the states of later messages.
    last = structs.replace(encoded, blocks=())
    calls = encoded.calls
    after = Walk(
        state.system,
        calls,
        calls,
        points=state.points,
        ttls=state.ttls,
        last=last,
        compacted=state.compacted or encoded.compacted,
    )
    return after, values


def _counted(state: Walk, encoded: Encoded) -> tuple[Walk, Encoded]:
    """The state and the message, with the breakpoints of the message in their order."""
    blocks = in_order(encoded.blocks, short="5m" in state.ttls)
    ttls = {ttl for ttl in map(lifetime, blocks) if ttl is not None}
    state = structs.replace(state, points=state.points + encoded.points, ttls=state.ttls | ttls)
    return state, structs.replace(encoded, blocks=blocks)


def noted(state: Walk, follows: str | None, *, system_turns: bool) -> list[bytes]:
    """What becomes of the system messages that waited, now that `follows` is known: the role of the
    next message, None at the end."""
    if not state.notes:
        return []
    after_user = state.last is not None and state.last.role != "assistant"
    if system_turns and after_user and follows != "user":
        blocks = tuple([block for note in state.notes for block in note.blocks])
        return [turn("system", blocks)] if blocks else []
    words = tuple([block for note in state.notes for block in note.words])
    return [turn("user", words)] if words else []


def _tool(state: Walk, encoded: Encoded, position: int) -> tuple[Walk, list[bytes]]:
    still_open = list(state.open)
    for call_id in encoded.results:
        if call_id not in state.turn or state.notes:
            raise LocalProtocolError(
                f"messages[{position}] answers the call {call_id!r}, which the assistant turn just "
                "before it did not make; drop it, or put it after its call",
                rule="A21",
            )
        if call_id not in still_open:
            raise LocalProtocolError(
                f"messages[{position}] answers the call {call_id!r} a second time; keep one result",
                rule="A22",
            )
        still_open.remove(call_id)
    results = state.results + tuple(zip(encoded.results, encoded.blocks, strict=True))
    if still_open:
        return structs.replace(state, open=tuple(still_open), results=results), []
    by_id = dict(results)
    blocks = tuple([by_id[call_id] for call_id in state.turn])
    if state.points:
        # In the order of the calls, a breakpoint of an hour may come behind one of five minutes.
        blocks = in_order(blocks, short=False)
    said = Encoded("user", container=state.last.container if state.last is not None else None)
    after = Walk(
        state.system,
        state.turn,
        points=state.points,
        ttls=state.ttls,
        last=said,
        compacted=state.compacted,
    )
    return after, [turn("user", blocks)]


def check_end(state: Walk) -> None:
    """Refuses a transcript that ends in `state`.

    Raises:
        LocalProtocolError: calls are still open.
    """
    if state.open:
        raise LocalProtocolError(
            f"the transcript ends with open calls {_names(state.open)}; add their results first",
            rule="A19",
        )


def _names(ids: tuple[str, ...]) -> str:
    return ", ".join(sorted(map(repr, ids)))
