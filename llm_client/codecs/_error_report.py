"""What a provider's error body says, whatever its shape."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from llm_client.codecs._json import as_dict, as_list, is_array, is_object, loads, mend
from llm_client.codecs._retry_after import wait_in_text
from llm_client.errors import excerpt, redact

__all__ = ["ErrorReport", "read_error_body", "read_error_value"]

_LARGEST_BODY = 256 * 1024


class ErrorReport(Struct, frozen=True):
    """The facts of an error body. `words` are its codes and types, in lower case."""

    message: str
    words: frozenset[str] = frozenset()
    code: str | None = None
    status: int | None = None
    retry_after: float | None = None
    request_id: str | None = None
    failed_generation: str | None = None


def read_error_body(body: bytes) -> ErrorReport:
    """The report in an error body; one that is no JSON (a proxy's page) is quoted in short."""
    try:
        return read_error_value(loads(body[:_LARGEST_BODY]))
    except ValueError:
        return ErrorReport(_excerpt(body.decode("utf-8", "replace")))


def read_error_value(value: object) -> ErrorReport:
    """The report in a decoded JSON value."""
    if is_array(value):
        value = next(iter(as_list(value)), None)
    if isinstance(value, str):
        return ErrorReport(_excerpt(value))
    outer = as_dict(value)
    error = outer.get("error") or next(iter(as_list(outer.get("errors"))), None)
    inner = as_dict(error) or outer
    deeper = as_dict(inner.get("innererror"))
    metadata = as_dict(inner.get("metadata"))
    message = error if isinstance(error, str) else _message(inner) or _message(outer)
    raw = metadata.get("raw")
    if raw:
        message = f"{message}: {raw if isinstance(raw, str) else _plain(raw)}"
    names = (inner.get("code"), inner.get("type"), inner.get("status"), deeper.get("code"))
    words = [name for name in names if isinstance(name, str) and name]
    return ErrorReport(
        _excerpt(message),
        frozenset(word.lower() for word in words),
        _text(next(iter(words), None)) or _number_as_code(inner.get("code")),
        _status(inner),
        _delay(inner, message),
        _text(inner.get("request_id") or outer.get("request_id")),
        _text(inner.get("failed_generation")),
    )


def _message(source: dict[str, Any]) -> str:
    for name in ("message", "detail", "msg", "Message", "error_message"):
        value = source.get(name)
        if isinstance(value, str) and value:
            return value
        if (is_object(value) or is_array(value)) and value:
            return _plain(value)
    return ""


def _plain(value: object) -> str:
    """A short sentence out of a nested value: FastAPI puts a list of findings under `detail`."""
    found = [as_dict(item).get("msg") for item in as_list(value)]
    told = [text for text in found if isinstance(text, str)]
    return "; ".join(told) if told else str(value)[:1000]


def _status(inner: dict[str, Any]) -> int | None:
    for name in ("status_code", "status", "raw_status_code", "code"):
        value = inner.get(name)
        if isinstance(value, str) and value.isdecimal() and len(value) == 3:
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 400 <= value <= 599:
            return value
    return None


def _delay(inner: dict[str, Any], message: str) -> float | None:
    for item in as_list(inner.get("details")):
        delay = as_dict(item).get("retryDelay")
        if isinstance(delay, str):
            return wait_in_text(f"retry in {delay}")
    return wait_in_text(message)


def _number_as_code(value: object) -> str | None:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: object) -> str | None:
    return mend(value) if isinstance(value, str) and value else None


def _excerpt(text: str) -> str:
    return excerpt(redact(mend(text)))
