"""What a provider refuses to read leaves the model's view; else no later request could succeed."""

from __future__ import annotations

from collections.abc import Sequence

from llm_client.errors import (
    BadRequest,
    ContentFiltered,
    ContextOverflow,
    LLMError,
    LocalProtocolError,
    UnsupportedFeature,
)
from llm_client.types import Audio, File, Image, Message, Opaque, Part, Text, ToolResult
from power_loop.session.records import ViewChanged

__all__ = ["without_refused"]

_REFUSALS = BadRequest | ContentFiltered | UnsupportedFeature | LocalProtocolError
_TOO_LARGE = 413
_LARGE = 2000
"""Characters of a text that is left out where the request as a whole was too large."""


def without_refused(view: Sequence[Message], error: LLMError) -> ViewChanged | None:
    """How the view changes because of `error`, with which a model call has failed for good.

    Of what has come since the model's last answer, a note takes the place of images, sounds and
    files; of large texts as well, where the request was too large; of all texts, where a filter
    refused them. History keeps everything. None if there is nothing to leave out, or if the error
    has nothing to do with what was sent.
    """
    if not isinstance(error, _REFUSALS):
        return None
    longest: int | None = None
    if isinstance(error, ContentFiltered):
        longest = 0
    elif isinstance(error, ContextOverflow) or error.status == _TOO_LARGE:
        longest = _LARGE
    status = "" if error.status is None else f", status {error.status}"
    note = Text(f"[left out: the provider refused it ({type(error).__name__}{status})]")
    replaced: dict[str, tuple[Part, ...]] = {}
    for message in reversed(view):
        if message.role == "assistant":
            break
        parts = tuple([_left(part, note, longest) for part in message.parts])
        if parts != message.parts:
            replaced[message.id] = parts
    return ViewChanged(replaced=replaced) if replaced else None


def _left(part: Part, note: Text, longest: int | None) -> Part:
    match part:
        case ToolResult():
            content = tuple([_content_left(each, note, longest) for each in part.content])
            return ToolResult(part.call_id, content, part.is_error)
        case Audio():
            return note
        case Text() | Image() | File():
            return _content_left(part, note, longest)
        case _:
            return part


def _content_left(
    part: Text | Image | File | Opaque, note: Text, longest: int | None
) -> Text | Image | File | Opaque:
    if not isinstance(part, Text):
        return note
    return note if longest is not None and len(part.text) > longest else part
