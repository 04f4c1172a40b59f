"""How long a provider asks us to wait, in all the forms in which it says so.

Each form has a defined meaning: a number is seconds (0 means at once), a date is the time from the
answer's own `Date` until then (0 when it has passed), and what is negative, NaN, infinite or
unreadable counts as not said. Nothing is capped here: whoever waits decides what is too long.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

__all__ = ["retry_after", "wait_in_text"]

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# Compiled by `re` when they are first needed: few answers are errors.
_DATE = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (\d\d) ([A-Z][a-z]{2}) (\d{4}) (\d\d):(\d\d):(\d\d) GMT"
_IN_TEXT = (
    r"(?:try again|retry|reset)\s+(?:in|after)\s+(?:(\d+)h)?\s*(?:(\d+)m(?!s))?\s*"
    r"(?:(\d+(?:\.\d+)?)\s*(ms|s)(?:ec|econds?)?\b)?"
)


def _header(headers: Mapping[str, str], name: str) -> str | None:
    """The header `name` (in lower case), however the mapping spells its keys."""
    value = headers.get(name)
    if value is not None:
        return value
    for key, found in headers.items():
        if key.lower() == name:
            return found
    return None


def retry_after(headers: Mapping[str, str], now: Callable[[], float] | None = None) -> float | None:
    """The seconds that the headers ask to wait, None if they do not.

    `now` (seconds since 1970) serves a date when the answer has no `Date` header of its own.
    """
    millis = _number(_header(headers, "retry-after-ms"))
    if millis is not None:
        return millis / 1000
    value = _header(headers, "retry-after")
    if value is None:
        return None
    seconds = _number(value)
    if seconds is not None:
        return seconds
    until = _date(value)
    if until is None:
        return None
    since = _date(_header(headers, "date") or "")
    if since is None and now is not None:
        since = now()
    return None if since is None else max(0.0, until - since)


def wait_in_text(text: str) -> float | None:
    """The seconds in a sentence such as "Please try again in 1m2.5s", None without one."""
    for match in re.finditer(_IN_TEXT, text, re.IGNORECASE):
        hours, minutes, rest, unit = match.groups()
        if not (hours or minutes or rest):
            continue
        seconds = float(rest or 0) / (1000 if (unit or "").lower() == "ms" else 1)
        return int(hours or 0) * 3600 + int(minutes or 0) * 60 + seconds
    return None


def _number(value: str | None) -> float | None:
    if value is None:
        return None
    try:
        number = float(value.strip().removesuffix("s"))
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _date(value: str) -> float | None:
    match = re.fullmatch(_DATE, value.strip())
    if match is None:
        return None
    day, month, year, hour, minute, second = match.groups()
    try:
        moment = datetime(
            int(year),
            _MONTHS.index(month) + 1,
            int(day),
            int(hour),
            int(minute),
            min(int(second), 59),
            tzinfo=UTC,
        )
    except ValueError:
        return None
    return moment.timestamp()
