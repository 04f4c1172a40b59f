"""What people may answer to calls that wait for them, checked at the edge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

import msgspec

from llm_client.structured.validator import SchemaValidator
from power_loop.errors import AnswerRefused, UsageError
from power_loop.pipeline.ports import Answer
from power_loop.session.records import CallWaiting

__all__ = ["answer", "approve", "by_token", "checked_answers", "deny"]


def approve(token: str, arguments: Mapping[str, Any] | None = None, *, by: str = "") -> Answer:
    """Lets a call run that waits for an approval. For `resume(answers=[…])`.

    Args:
        token: of the request; it is good for one answer.
        arguments: what it is to run with, instead of what was asked for.
        by: who says so; recorded.

    Raises:
        UsageError: the arguments are no JSON object.
    """
    if arguments is None:
        return Answer(token, "approve", by=by)
    if not isinstance(cast("object", arguments), Mapping):
        raise UsageError(f"arguments is a mapping, not a value of type {type(arguments).__name__}")
    return Answer(token, "approve", by=by, arguments=_json(dict(arguments), "the arguments"))


def deny(token: str, note: str = "", *, by: str = "") -> Answer:
    """Forbids a call that waits for an approval; the model is told, with the `note`.

    Whether that ends the run is said by the rule that asked (`Suspend.end_on_denial`).
    """
    return Answer(token, "deny", by=by, note=note)


def answer(token: str, value: object, *, by: str = "") -> Answer:
    """Answers a question that a tool or a hook has put; it becomes the result of the call.

    Args:
        token: of the question; it is good for one answer.
        value: a text as it is; anything else as JSON, to fit the schema of the question.
        by: who says so; recorded.

    Raises:
        UsageError: the value is no JSON.
    """
    text = value if isinstance(value, str) else _json(value, "the answer")
    return Answer(token, "answer", text, by)


def _json(value: object, what: str) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"{what} cannot be written as JSON: {error}") from error


def by_token(answers: Sequence[Answer]) -> dict[str, Answer]:
    """Answers by what they are to.

    Raises:
        UsageError: one is none, or two are to the same.
    """
    found: dict[str, Answer] = {}
    for each in answers:
        if not isinstance(cast("object", each), Answer):
            raise UsageError(
                "answers are made by approve(token), deny(token) and answer(token, value), "
                f"not values of type {type(each).__name__}"
            )
        if each.token in found:
            raise UsageError(f"{each.token!r} is answered twice; say what holds")
        found[each.token] = each
    return found


def checked_answers(
    session_id: str, answers: Mapping[str, Answer], waiting: Mapping[str, CallWaiting]
) -> None:
    """Raises AnswerRefused: nothing waits for it, or not for such an answer.

    `waiting` is what calls of the session wait for, and those below it, by token.
    """
    for token, given in answers.items():
        asked = waiting.get(token)
        if asked is None:
            raise AnswerRefused(
                f"no call of session {session_id!r} waits for {token!r}; "
                f"waited for: {', '.join(map(repr, waiting)) or 'nothing'}"
            )
        if asked.kind == "input":
            _check_input(asked, given)
        elif given.kind == "answer":
            raise AnswerRefused(
                f"{token!r} is a request for approval: it takes approve({token!r}) or "
                f"deny({token!r})"
            )


def _check_input(asked: CallWaiting, given: Answer) -> None:
    token = given.token
    if given.kind != "answer":
        raise AnswerRefused(
            f"{token!r} is a question ({asked.reason!r}): it takes answer({token!r}, …)"
        )
    if not asked.schema:
        return
    schema = msgspec.json.decode(asked.schema)
    whole = {"type": "object", "properties": {"answer": schema}, "required": ["answer"]}
    validator = SchemaValidator(whole)
    problems = validator.check({"answer": given.text})[1]
    if problems:
        with suppress(msgspec.DecodeError):  # then it is a text, and the problems are those of one
            problems = validator.check({"answer": msgspec.json.decode(given.text)})[1]
    if problems:
        told = "; ".join(
            [f"{each.path}: expected {each.expected}, got {each.got}" for each in problems]
        )
        raise AnswerRefused(f"the answer to {token!r} does not fit its schema: {told}")
