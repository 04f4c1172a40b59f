"""JSON as models write it: after reasoning in tags, in fences, between words, with small slips that
mean only one thing.

Repaired are commas that nothing follows, `// comments`, line breaks inside of strings, and True,
False and None. Never repaired are single quotes, which cannot be told from apostrophes, NaN, which
JSON does not know, and anything left open: a cut-off answer must not look whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from json import JSONDecoder
from types import MappingProxyType
from typing import Any

from llm_client.codecs._json import as_list, is_object
from llm_client.structured.errors import StructuredOutputError
from llm_client.structured.reasoning import without_reasoning

__all__ = ["decoded", "json_texts", "no_value", "parse_structured"]


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


_DECODER = JSONDecoder(parse_constant=_refused)
_FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*?)```", re.DOTALL | re.IGNORECASE)
_OPENING = MappingProxyType({"{": re.compile(r"\{"), "{[": re.compile(r"[{\[]")})
_TRIES = 20
"""Places in an answer at which a value may begin: an endless row of braces is not searched."""

_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|//[^\n]*|\b(?:True|False|None)\b', re.DOTALL)
_LOOSE_COMMA = re.compile(r'("[^"\\]*+(?:\\.[^"\\]*+)*+"?)|,(?=\s*+[}\]])', re.DOTALL)
_MARK = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|//[^\n]*|[{}\[\]]', re.DOTALL)
_BEGUN = re.compile(r'\{\s*"|\[\s*[{\["]')
_CONTROL = re.compile(r"[\x00-\x1f]")
_WORDS = MappingProxyType({"True": "true", "False": "false", "None": "null"})


def parse_structured(text: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON object in `text`: the text itself, what a fence holds, or the first whole object
    between words, repaired if need be; reasoning in tags is passed over. Of `schema` only
    `required` is checked, at the top.

    Raises:
        StructuredOutputError: there is none, or it lacks a required field; see its `reason`.
    """
    failure: StructuredOutputError | None = None
    for found in json_texts(text, "{"):
        try:
            return _object(decoded(found), schema)
        except StructuredOutputError as error:
            failure = failure or error
    raise failure or no_value(text, "{")


def _object(value: object, schema: Mapping[str, Any]) -> dict[str, Any]:
    if not is_object(value):
        raise StructuredOutputError("the answer is not a JSON object", reason="not_object")
    for field in as_list(schema.get("required")):
        if field not in value:
            raise StructuredOutputError(
                f"the field {field!r} is missing", reason=f"missing_required:{field}"
            )
    return value


def decoded(text: str) -> Any:
    """The JSON value that `text` is.

    Raises:
        StructuredOutputError: it is none: broken, NaN or Infinity, an integer of thousands of
            digits, or nested too deeply.
    """
    try:
        return _DECODER.decode(text)
    except ValueError as error:
        raise StructuredOutputError(f"invalid JSON: {error}", reason="invalid_json") from error
    except RecursionError as error:
        raise StructuredOutputError(
            "invalid JSON: nested too deeply", reason="invalid_json"
        ) from error


def no_value(text: str, opening: str) -> StructuredOutputError:
    """The error for a text in which `json_texts` finds nothing."""
    if _OPENING[opening].search(without_reasoning(text)) is None:
        return StructuredOutputError("there is no JSON object in the answer", reason="no_json")
    return StructuredOutputError(
        "there is no JSON object in the answer that is whole and valid", reason="invalid_json"
    )


def json_texts(text: str, opening: str) -> Iterator[str]:
    """The JSON values in `text`: all of it, or all of a fence; else what stands between words,
    repaired if need be. Between words, a value begins with a character of `opening`."""
    body = without_reasoning(text).strip()
    fenced = [fence.group(1).strip() for fence in islice(_FENCE.finditer(body), _TRIES)]
    for one in (body, *fenced):
        if _end_of_value(one, 0) == len(one):
            yield one
            return
    # What is fenced is meant; what stands around it may be talk.
    for one in (*fenced, body):
        yield from _between_words(one, opening)


def _between_words(body: str, opening: str) -> Iterator[str]:
    start = 0
    for _ in range(_TRIES):
        place = _OPENING[opening].search(body, start)
        if place is None:
            return
        start = place.start()
        end = _end_of_value(body, start)
        if end is not None:
            yield body[start:end]
        else:
            end = _closing(body, start)
            if end is not None:
                yield from _repaired(body[start:end])
            elif _BEGUN.match(body, start):
                # Cut off. What is whole inside of it is not what was meant.
                return
        start = end or start + 1


def _closing(body: str, start: int) -> int | None:
    """Where the bracket at `start` is closed; what stands inside of it need not be JSON."""
    depth = 0
    for mark in _MARK.finditer(body, start):
        if mark.group() in "{[":
            depth += 1
        elif mark.group() in "}]":
            depth -= 1
            if depth == 0:
                return mark.end()
    return None


def _repaired(text: str) -> Iterator[str]:
    mended = _LOOSE_COMMA.sub(lambda match: match[1] or "", _TOKEN.sub(_mended_token, text))
    if _end_of_value(mended, 0) == len(mended):
        yield mended


def _mended_token(match: re.Match[str]) -> str:
    token = match.group()
    if token.startswith('"'):
        return _CONTROL.sub(lambda found: f"\\u{ord(found.group()):04x}", token)
    return _WORDS.get(token, "")


def _end_of_value(text: str, start: int) -> int | None:
    try:
        return _DECODER.raw_decode(text, start)[1]
    except (ValueError, RecursionError):
        return None
