"""What people may answer to calls that wait for them, checked at the edge."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

import msgspec

from llm_client.errors import ConfigError
from llm_client.structured.validator import SchemaValidator
from llm_client.types import Text
from power_loop.errors import AnswerRefused, UsageError
from power_loop.pipeline.plan import Answer
from power_loop.pipeline.progress import arguments_fault
from power_loop.session.records import CallWaiting, Decided
from power_loop.session.text import is_sound, repaired_text

__all__ = [
    "answer",
    "approve",
    "by_token",
    "check_answer",
    "check_answer_to",
    "deny",
    "refusal",
]

_TOKEN = 100
_REASON = 500
"""Characters of what was refused, in the log."""


def approve(token: str, arguments: Mapping[str, Any] | None = None, *, by: str = "") -> Answer:
    """Lets a call run that waits for an approval. For `resume(answers=[…])`.

    Args:
        token: of the request; it is good for one answer.
        arguments: what it is to run with, instead of what was asked for.
        by: who says so; recorded.

    Raises:
        UsageError: the arguments are no JSON object; NaN and infinite numbers are no JSON.
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
        UsageError: the value is no JSON, as NaN is none.
    """
    text = value if isinstance(value, str) else _json(value, "the answer")
    return Answer(token, "answer", text, by)


def _json(value: object, what: str) -> str:
    try:
        # What msgspec would write as null is refused.
        json.dumps(msgspec.to_builtins(value, str_keys=True), allow_nan=False)
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
        fields = (each.token, each.kind, each.text, each.by, each.note, each.arguments)
        if not all(isinstance(field, str) for field in cast("tuple[object, ...]", fields)):
            raise UsageError(f"the fields of an Answer are texts, unlike those of {each!r}")
        if each.token in found:
            raise UsageError(f"{each.token!r} is answered twice; say what holds")
        found[each.token] = each
    return found


def refusal(
    session_id: str, answers: Mapping[str, Answer], waiting: Mapping[str, CallWaiting]
) -> tuple[AnswerRefused, Decided] | None:
    """The first answer that nothing waits for, or not for such an answer: the error, and what the
    log is to say of it; None if all fit.

    `waiting` is what calls of the session wait for, and those below it, by token.
    """
    for token, given in answers.items():
        try:
            _check_waited_for(session_id, token, waiting)
            check_answer(waiting[token], given)
        except AnswerRefused as error:
            # A token that was made up may be anything.
            told = repaired_text(f"{given.kind} to {token[:_TOKEN]!r}: {error}")[:_REASON]
            by = repaired_text(given.by)[:_TOKEN] or "resume"
            return error, Decided("approval", by, "refused", told)
    return None


def _check_waited_for(session_id: str, token: str, waiting: Collection[str]) -> None:
    if token not in waiting:
        raise AnswerRefused(
            f"no call of session {session_id!r} waits for {token!r}; "
            f"waited for: {', '.join(map(repr, waiting)) or 'nothing'}"
        )


def check_answer(asked: CallWaiting, given: Answer) -> None:
    """Raises AnswerRefused: what a call waits for is not answered like this."""
    if asked.kind == "input":
        _check_input(asked, given)
        return
    token = given.token
    if given.kind not in ("approve", "deny"):
        raise AnswerRefused(
            f"{token!r} is a request for approval: it takes approve({token!r}) or deny({token!r})"
        )
    fault = arguments_fault(given.arguments) if is_sound(Text(given.arguments)) else "not valid"
    if fault is not None:
        raise AnswerRefused(f"{token!r} cannot be approved with other arguments: {fault}")


def _check_input(asked: CallWaiting, given: Answer) -> None:
    token = given.token
    if given.kind != "answer":
        raise AnswerRefused(
            f"{token!r} is a question ({asked.reason!r}): it takes answer({token!r}, …)"
        )
    schema = msgspec.json.decode(asked.schema) if asked.schema else None
    check_answer_to(token, schema, given)


def check_answer_to(token: str, schema: Mapping[str, Any] | None, given: Answer) -> None:
    """Raises AnswerRefused: what is answered to a question does not fit its schema."""
    if schema is None:
        return
    whole = {"type": "object", "properties": {"answer": schema}, "required": ["answer"]}
    try:
        validator = SchemaValidator(whole)
    except ConfigError as error:
        raise AnswerRefused(
            f"nothing can answer {token!r}, its schema cannot be used ({error}); "
            "abort_pending() gives the call up"
        ) from error
    problems = validator.check({"answer": given.text})[1]
    if problems:
        with suppress(msgspec.DecodeError):  # then it is a text, and the problems are those of one
            problems = validator.check({"answer": msgspec.json.decode(given.text)})[1]
    if problems:
        told = "; ".join(
            [f"{each.path}: expected {each.expected}, got {each.got}" for each in problems]
        )
        raise AnswerRefused(f"the answer to {token!r} does not fit its schema: {told}")
