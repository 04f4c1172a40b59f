"""What arguments may be, and what is said of those that are not."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from typing import Any, Literal, get_args

import msgspec

from power_loop.agent.result import Status

__all__ = [
    "approval",
    "decision",
    "duration",
    "name",
    "natural",
    "noted",
    "pair",
    "positive",
    "status",
]

_LARGEST = 2**31 - 1
_DURATION = re.compile(r"(\d{1,9})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_STATUSES = ("new", "running", *get_args(Status))


def positive(text: str) -> int:
    """A whole number from 1."""
    return _number(text, 1)


def natural(text: str) -> int:
    """A whole number from 0."""
    return _number(text, 0)


def name(text: str) -> str:
    """A name, which is not empty."""
    if not text:
        raise ArgumentTypeError("a name must not be empty")
    return text


def duration(text: str) -> int:
    """Seconds, of a text such as 90s, 30m, 12h, 30d or 8w."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ArgumentTypeError(
            f"{text!r} is no duration; write a number and s, m, h, d or w, such as 12h or 30d"
        )
    return int(found[1]) * _SECONDS[found[2]]


def pair(text: str) -> tuple[str, str]:
    """A name and a value."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ArgumentTypeError(f"{text!r} is no NAME=VALUE")
    return name, value


def noted(text: str) -> tuple[str, str]:
    """A token, and what is said to it, which may be nothing."""
    token, _, note = text.partition("=")
    if not token:
        raise ArgumentTypeError(f"{text!r} has no token")
    return token, note


def approval(text: str) -> tuple[str, dict[str, Any] | None]:
    """A token, and the arguments to run with in place of those that were asked for."""
    token, edited = noted(text)
    if not edited:
        return token, None
    try:
        return token, msgspec.json.decode(edited, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise ArgumentTypeError(
            f"the arguments for {token!r} are no JSON object: {error}"
        ) from None


def decision(text: str) -> tuple[str, Literal["rerun", "unknown"]]:
    """A call's id and what is decided about it."""
    call, _, word = text.rpartition("=")
    match word:
        case "rerun" | "unknown" if call:
            return call, word
        case _:
            raise ArgumentTypeError(f"{text!r} is neither CALL=rerun nor CALL=unknown")


def status(text: str) -> str:
    """A status that a session can have."""
    if text not in _STATUSES:
        raise ArgumentTypeError(f"{text!r} is no status; there are {', '.join(_STATUSES)}")
    return text


def _number(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if not least <= number <= _LARGEST:
        raise ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
    return number
