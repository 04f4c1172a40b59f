"""What messages of all protocols have in common on their way to wire form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from llm_client.codecs._names import IdForm
from llm_client.errors import LocalProtocolError
from llm_client.types import Message, Opaque, Part, ToolCall

__all__ = ["call_ids", "misplaced", "opaque_value", "unique_id", "what"]


def what(message: Message) -> str:
    """How a message is named in an error."""
    return f"the {message.role} message {message.id!r}"


def misplaced(message: Message, part: Part, rule: str = "C05") -> LocalProtocolError:
    """The error for a part that a message of its role cannot hold."""
    return LocalProtocolError(
        f"{what(message)} cannot hold a {type(part).__name__} part", rule=rule
    )


def call_ids(
    message: Message,
    calls: Sequence[ToolCall],
    form: IdForm,
    rules: tuple[str, str] = ("C13", "C14"),
) -> tuple[str, ...]:
    """The calls' ids in wire form.

    Raises:
        LocalProtocolError: one has none, or two have the same.
    """
    if any(not call.id for call in calls):
        raise LocalProtocolError(
            f"{what(message)} makes a call without an id; give each call one", rule=rules[0]
        )
    ids = tuple([form(call.id) for call in calls])
    if len(set(ids)) != len(ids):
        raise LocalProtocolError(
            f"{what(message)} makes two calls with the same id; give each call its own",
            rule=rules[1],
        )
    return ids


def opaque_value(part: Opaque, rule: str = "C12") -> Any:
    """What an opaque part holds. Decoded and not spliced in, so that a damaged part cannot break
    the whole body.

    Raises:
        LocalProtocolError: it is not JSON.
    """
    try:
        return msgspec.json.decode(part.json)
    except (ValueError, RecursionError) as error:
        raise LocalProtocolError(
            f"the opaque part {part.kind!r} of {part.provider} is not valid JSON; drop it",
            rule=rule,
        ) from error


def unique_id(call_id: str, number: int, used: set[str]) -> str:
    """`call_id`, changed if it is among those `used` in the same answer, and added to them: a call
    and its result must find each other."""
    found = call_id
    while found in used:
        found = f"{call_id}_{number}"
        number += 1
    used.add(found)
    return found
