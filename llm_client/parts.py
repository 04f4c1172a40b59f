"""What a message consists of.

Each part is a frozen value that serialises losslessly with msgspec; what is at its default is left
out when written. Parts cannot form cycles, so the garbage collector need not know of them.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

__all__ = [
    "COMPACTION",
    "Audio",
    "CachePoint",
    "Citation",
    "File",
    "Image",
    "Opaque",
    "Part",
    "Seal",
    "Text",
    "Thinking",
    "ToolCall",
    "ToolResult",
    "compaction_text",
    "is_compaction",
]


class Seal(Struct, frozen=True, omit_defaults=True, gc=False):
    """What a provider must see again to know a part as its own.

    It goes back unchanged to where it came from, and to nobody else: a part of another origin is
    sent without it, or left out.

    Attributes:
        origin: who made it; each codec knows its own.
        signature: the provider's proof that the part is its own, or its encrypted content.
        id: the provider's id of the part.
        kind: the provider's own word for the part, where it is not the usual one.
    """

    origin: str
    signature: str | None = None
    id: str | None = None
    kind: str | None = None


class Citation(Struct, frozen=True, omit_defaults=True, gc=False):
    """Where a text has something from. `json` is the provider's own form of it, exactly."""

    json: str
    url: str | None = None
    title: str | None = None
    quote: str | None = None


class Text(Struct, frozen=True, omit_defaults=True, gc=False, tag="text"):
    """Plain text, with the sources that it cites."""

    text: str
    citations: tuple[Citation, ...] = ()
    seal: Seal | None = None


class Thinking(Struct, frozen=True, omit_defaults=True, gc=False, tag="thinking"):
    """A model's reasoning: replayed verbatim to whoever sealed it, or not at all.

    Of a `redacted` block the provider keeps the text to itself; the seal holds it encrypted.
    """

    text: str
    seal: Seal | None = None
    redacted: bool = False


class Image(Struct, frozen=True, omit_defaults=True, gc=False, tag="image"):
    """An image: exactly one of `data` (bytes of `media_type`) and `url`.

    `detail` is how closely the model looks, where a provider has a word for it: "low" costs fewer
    tokens.
    """

    data: bytes | None = None
    url: str | None = None
    media_type: str | None = None
    detail: Literal["auto", "low", "high"] | None = None
    seal: Seal | None = None


class Audio(Struct, frozen=True, omit_defaults=True, gc=False, tag="audio"):
    """Sound: input as `data` in `format` (wav, mp3 …); a model's own speech also has an `id`."""

    data: bytes | None = None
    format: str | None = None
    id: str | None = None
    transcript: str | None = None


class File(Struct, frozen=True, omit_defaults=True, gc=False, tag="file"):
    """A document: `data` with `media_type`, or the `id` a provider knows it by, or a `url`.

    `name` is the file's name, which the model is told where the protocol has a field for it.
    """

    data: bytes | None = None
    url: str | None = None
    id: str | None = None
    name: str | None = None
    media_type: str | None = None


class ToolCall(Struct, frozen=True, omit_defaults=True, gc=False, tag="tool_call"):
    """A call the model asks for. `arguments` is the JSON text exactly as received, valid or not."""

    id: str
    name: str
    arguments: str = "{}"
    seal: Seal | None = None


class Opaque(Struct, frozen=True, omit_defaults=True, gc=False, tag="opaque"):
    """Something a provider returned that is not modelled here, kept to be sent back unchanged.

    `provider` names the codec that understands it, `kind` the provider's own word for it, `json` is
    its exact JSON text.
    """

    provider: str
    kind: str
    json: str


class ToolResult(Struct, frozen=True, omit_defaults=True, gc=False, tag="tool_result"):
    """What a call came to. `content` holds text, images and files for the model to read, and what
    one vendor alone understands. `is_error` says that the call failed; a protocol without a field
    for it has only the text to tell the model so."""

    call_id: str
    content: tuple[Text | Image | File | Opaque, ...]
    is_error: bool = False

    @property
    def text(self) -> str:
        """All text of the result, joined."""
        return "".join(part.text for part in self.content if isinstance(part, Text))


class CachePoint(Struct, frozen=True, omit_defaults=True, gc=False, tag="cache_point"):
    """Everything before this point may be kept in the provider's prompt cache for `ttl`.

    Means nothing to providers that cache by themselves.
    """

    ttl: Literal["5m", "1h"] = "5m"


COMPACTION = "compaction"
"""The kind of the opaque part that stands for all that was said before it."""

Part = Text | Thinking | Image | Audio | File | ToolCall | ToolResult | Opaque | CachePoint


def is_compaction(part: Part) -> bool:
    """Whether `part` is what its provider has made of all that was said before it.

    The provider itself reads nothing that stands before such a part, so that it need not be sent
    any more. To any other provider the part says nothing. One whose making has failed is none: it
    holds nothing, and what stands before it is still read.
    """
    held = _held(part)
    return bool(held.content or held.encrypted_content)


def compaction_text(part: Part) -> str:
    """What a provider has made of all that was said before `part`; "" if nobody else can read
    it, or if it is no compaction."""
    return _held(part).content or ""


def _held(part: Part) -> _Compaction:
    if not isinstance(part, Opaque) or part.kind != COMPACTION:
        return _Compaction()
    try:
        return msgspec.json.decode(part.json, type=_Compaction)
    except (ValueError, RecursionError):
        return _Compaction()


class _Compaction(Struct, frozen=True):
    content: str | None = None
    encrypted_content: str | None = None
