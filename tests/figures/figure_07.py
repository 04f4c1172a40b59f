"""Figure 7: mutated frames give answers or typed errors, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from random import Random
from typing import Any

import msgspec

from llm_client.codecs._json import as_dict, is_array, is_object
from llm_client.errors import LLMError
from llm_client.stream import Accumulator, StreamEvent
from tests.figures.result import FigureResult
from tests.wire_protocols import PROTOCOLS, WireProtocol

_FULL, _SMALL = 1_000_000, 20_000
_MARK = "@@raw@@"
_DEEP = b"[" * 3000 + b"]" * 3000
_RAW = (b"NaN", b"-Infinity", b"9" * 5000, _DEEP, b'"\\ud83d"', b"1e999", b"", b'"\\u0000"')
_VALUES: tuple[Any, ...] = (None, True, -1, 2**70, 0.5, "", "x", [], {}, [None], {"": {}}, [[]])

Path = list[tuple[dict[str, Any] | list[Any], str | int]]


def run(full: bool) -> FigureResult:
    """One mutated frame between two good ones, over and over."""
    random = Random(7)
    frames = [(protocol, *_frames(protocol)) for protocol in PROTOCOLS]
    count = _FULL if full else _SMALL
    failures: list[str] = []
    answers = 0
    for number in range(count):
        protocol, usual, ends = frames[number % len(frames)]
        frame = mutated(random.choice(usual), random)
        body = [random.choice(usual), frame, random.choice(usual), random.choice(ends)]
        try:
            answers += _is_answer(protocol, body)
        except Exception as error:  # noqa: BLE001 - any escape is what this figure looks for
            failures.append(f"{protocol.name}: {type(error).__name__}: {error} on {frame[:200]!r}")
    told = ", ".join(f"{protocol.name} {len(usual)}" for protocol, usual, _ in frames)
    return FigureResult(
        count,
        tuple(failures[:100]),
        f"frames ({told}) with members dropped, swapped, doubled, nulled, retyped, with NaN, "
        f"endless numbers, depth, broken text and flipped bytes: {answers} answers, "
        f"{count - answers - len(failures)} typed errors",
    )


def mutated(frame: bytes, random: Random) -> bytes:
    """`frame` with one to three changes."""
    value = as_dict(msgspec.json.decode(frame))
    raw = b'""'
    for _ in range(random.randint(1, 3)):
        places = _places(value)
        if not places:
            break
        change = random.choice(_CHANGES)
        change(random.choice(places), places, random)
    if random.random() < 0.3:
        holder, key = random.choice(_places(value) or [(value, "choices")])
        holder[key] = _MARK  # pyright: ignore[reportArgumentType, reportCallIssue] - either kind
        raw = random.choice(_RAW)
    text = msgspec.json.encode(value).replace(f'"{_MARK}"'.encode(), raw)
    if random.random() < 0.1:
        flipped = bytearray(text)
        flipped[random.randrange(len(flipped))] ^= 1 << random.randrange(8)
        text = bytes(flipped)
    return text


def _drop(place: Any, places: Path, random: Random) -> None:
    holder, key = place
    if is_object(holder):
        holder.pop(key, None)
    elif len(holder) > key:
        del holder[key]


def _replace(place: Any, places: Path, random: Random) -> None:
    # A copy: a list that several frames share would sooner or later be put into itself.
    _put(place, deepcopy(random.choice(_VALUES)))


def _swap(place: Any, places: Path, random: Random) -> None:
    other = random.choice(places)
    mine, theirs = _get(place), _get(other)
    # Through JSON, so that no value ends up inside itself.
    copied = msgspec.json.encode([mine, theirs])
    mine, theirs = msgspec.json.decode(copied)
    _put(place, theirs)
    _put(other, mine)


def _double(place: Any, places: Path, random: Random) -> None:
    _put(place, [_get(place), _get(place)])


def _rename(place: Any, places: Path, random: Random) -> None:
    holder, key = place
    if is_object(holder) and key in holder:
        names = ("content", "tool_calls", "delta", "error", "index", "id", "reasoning_details")
        holder[random.choice(names)] = holder.pop(key)


_CHANGES: tuple[Callable[[Any, Path, Random], None], ...] = (
    _drop,
    _replace,
    _replace,
    _swap,
    _double,
    _rename,
)


def _get(place: Any) -> Any:
    holder, key = place
    if is_object(holder):
        return holder.get(key)
    return holder[key] if len(holder) > key else None


def _put(place: Any, value: Any) -> None:
    holder, key = place
    if is_object(holder) or len(holder) > key:
        holder[key] = value


def _places(value: Any) -> Path:
    """All members of all objects and arrays in `value`."""
    found: Path = []
    if is_object(value):
        for key, item in value.items():
            found.append((value, key))
            found += _places(item)
    elif is_array(value):
        for index, item in enumerate(value):
            found.append((value, index))
            found += _places(item)
    return found


def _frames(protocol: WireProtocol) -> tuple[list[bytes], list[bytes]]:
    """All frames that are different in more than their text, and those that end an answer."""
    found: dict[bytes, bytes] = {}
    ends: dict[bytes, bytes] = {}
    for stream in protocol.streams(1_000_000):
        for frame in protocol.frame.findall(stream):
            if len(frame) < 6000 and frame.startswith(b"{"):
                value = as_dict(msgspec.json.decode(frame))
                kind = re.sub(rb'"[^"]*"', b'""', frame)[-400:] + str(value.get("type")).encode()
                (ends if protocol.end(value) else found).setdefault(kind, frame)
    return list(found.values()), list(ends.values())


def _is_answer(protocol: WireProtocol, frames: list[bytes]) -> bool:
    """True for an answer, False for a typed error; anything else escapes."""
    decoder = protocol.codec().decoder()
    accumulator = Accumulator()
    body = protocol.written(frames)
    try:
        events: list[StreamEvent] = [*decoder.feed(body), *decoder.close()]
    except LLMError:
        return False
    for event in events:
        accumulator.add(event)
    # What came out must be something that can be stored.
    msgspec.json.encode(accumulator.response())
    return True
