"""Makes the attachments of a request fit the model that it goes to."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import TypeVar, cast

from anyio import move_on_after, to_thread
from msgspec import structs

from llm_client.known_models import ModelCapabilities
from llm_client.multimodal.errors import AttachmentTooLarge
from llm_client.multimodal.limits import MediaLimits
from llm_client.multimodal.plan import (
    Extract,
    Media,
    Refuse,
    Shrink,
    Target,
    notice,
    plan,
    sent_size,
)
from llm_client.types import (
    Audio,
    File,
    Image,
    LLMRequest,
    Message,
    Part,
    Text,
    ToolResult,
    with_tail_of,
)

__all__ = ["Fitted", "check_fits", "fit_request"]

PDF_CHARACTERS = 24_000
"""Characters of the text of a PDF that are sent in its place."""

PATIENCE = 60.0
"""Seconds that one attachment may take."""

_KEPT = 256

_AT_ONCE = 8
"""Old attachments leave a request by so many, so that its beginning, which providers keep in their
caches, does not change with every turn."""

T = TypeVar("T")

Done = Media | Text | Shrink | Extract
"""What an attachment becomes, or what has to be done for it."""

Place = tuple[int, int]
"""Where an attachment stands: the number of its part, and within a tool's result another one."""

Remembered = OrderedDict[tuple[int, Hashable], tuple[Message, Message]]


class Fitted:
    """The messages that have been fitted before, the most recently used 256, so that a growing
    transcript costs its new messages only. One for each model; not safe for several threads."""

    def __init__(self) -> None:
        self._kept: Remembered = OrderedDict()

    def get(self, message: Message, how: Hashable) -> Message | None:
        """What `message` has become when it was fitted in this way."""
        key = (id(message), how)
        known = self._kept.get(key)
        # The entry holds the message itself, so that its id cannot have passed to another one.
        if known is None or known[0] is not message:
            return None
        self._kept.move_to_end(key)
        return known[1]

    def put(self, message: Message, how: Hashable, fitted: Message) -> Message:
        """Keeps `fitted`, and returns it."""
        self._kept[id(message), how] = (message, fitted)
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return fitted


async def fit_request(
    request: LLMRequest,
    limits: MediaLimits,
    known: ModelCapabilities | None = None,
    *,
    fitted: Fitted | None = None,
) -> LLMRequest:
    """`request` with each image, sound and file as the model takes it; itself if all are.

    Images that are too large, or of another type, are resized or converted in a thread. A PDF that
    the model does not read goes as its text, page by page. What it cannot take at all is told in
    words, and so are the oldest attachments of a request that holds too many of them. What a model
    itself has made is left as it is.

    Only the newest user message is refused for its attachments, so that no old one can spoil a
    session for good.

    Args:
        request: what is to be sent.
        limits: what the provider takes.
        known: what the model can do; images and sound are sent where that is not known.
        fitted: what is kept from one request to the next.

    Raises:
        AttachmentTooLarge: an attachment of the newest user message is too large, and cannot be
            made smaller.
        AttachmentUnreadable: one of them cannot be converted here.
    """
    held = _holders(request.messages)
    if not held:
        return request
    fitting = _Fitting(request.messages, held, limits, known, fitted or Fitted())
    return _replaced(
        request, fitting.within_totals({at: await fitting.message(held[at]) for at in held})
    )


def check_fits(
    request: LLMRequest, limits: MediaLimits, known: ModelCapabilities | None = None
) -> LLMRequest:
    """Looks whether `fit_request` would refuse `request`; nothing is resized or read. Returns the
    request as it would be, but for the contents of what is not done.

    Raises:
        AttachmentTooLarge: as there.
        AttachmentUnreadable: as there.
    """
    held = _holders(request.messages)
    if not held:
        return request
    fitting = _Fitting(request.messages, held, limits, known, Fitted())
    return _replaced(request, fitting.within_totals({at: fitting.guessed(held[at]) for at in held}))


def _replaced(request: LLMRequest, changed: Mapping[int, Message]) -> LLMRequest:
    """`request` with other messages in some places; itself if they are the same."""
    if all(request.messages[at] is message for at, message in changed.items()):
        return request
    messages = list(request.messages)
    for at, message in changed.items():
        messages[at] = message
    return structs.replace(request, messages=with_tail_of(request.messages, messages))


class _Fitting:
    """One request being fitted."""

    def __init__(
        self,
        messages: Sequence[Message],
        held: Mapping[int, Message],
        limits: MediaLimits,
        known: ModelCapabilities | None,
        fitted: Fitted,
    ) -> None:
        parts = [part for message in held.values() for _, part in _media(message)]
        images = sum(isinstance(part, Image) for part in parts)
        self._limits = limits
        self._fitted = fitted
        self._target = Target(
            limits,
            known or ModelCapabilities(),
            limits.edge(images),
            shrinks=find_spec("PIL") is not None,
            extracts=find_spec("pypdf") is not None,
        )
        users = (at for at in range(len(messages) - 1, -1, -1) if messages[at].role == "user")
        self._newest = held.get(next(users, -1))

    async def message(self, message: Message) -> Message:
        """`message` with what becomes of each of its attachments."""
        edge = self._target.edge
        known = self._fitted.get(message, edge)
        if known is None and message is not self._newest:
            known = self._fitted.get(message, ("refused", edge))
        if known is not None:
            return known
        steps, refused = self._steps(message)
        changes = {place: await _done(step) for place, step in steps.items()}
        how = ("refused", edge) if refused else edge
        return self._fitted.put(message, how, _changed(message, changes))

    def guessed(self, message: Message) -> Message:
        """As `message`, with nothing done that takes time."""
        steps, _ = self._steps(message)
        return _changed(message, {place: _guess(step) for place, step in steps.items()})

    def _steps(self, message: Message) -> tuple[dict[Place, Done], bool]:
        """What becomes of each attachment, and whether one of them is refused.

        Raises:
            CallerError: one is refused, and the message is the newest.
        """
        steps: dict[Place, Done] = {}
        refused = False
        for place, part in _media(message):
            step = plan(part, self._target)
            if isinstance(step, Refuse):
                if message is self._newest:
                    raise step.error
                refused = True
                step = step.instead
            steps[place] = step
        return steps, refused

    def within_totals(self, messages: dict[int, Message]) -> dict[int, Message]:
        """`messages`, by their places, without the oldest attachments, as far as there are too many
        of them.

        Raises:
            AttachmentTooLarge: those of the newest user message alone are too many.
        """
        older: list[tuple[int, Place, Media]] = []
        newest: list[Media] = []
        for at, message in messages.items():
            if self._newest is not None and message.id == self._newest.id:
                newest += [part for _, part in _media(message)]
            else:
                older += [(at, place, part) for place, part in _media(message)]
        left: dict[int, dict[Place, Part]] = {}
        for at, place, part in older[: self._surplus([part for _, _, part in older], newest)]:
            left.setdefault(at, {})[place] = notice(part, "it is too long ago to be sent again")
        for at, changes in left.items():
            message, how = messages[at], tuple(changes)
            known = self._fitted.get(message, how)
            messages[at] = known or self._fitted.put(message, how, _changed(message, changes))
        return messages

    def _surplus(self, older: list[Media], newest: list[Media]) -> int:
        """How many of `older` must go, the first ones first."""
        for step in (_AT_ONCE, 1):
            for gone in range(0, len(older) + 1, step):
                if self._fits_in([*older[gone:], *newest]):
                    return gone
        raise self._too_many(newest)

    def _fits_in(self, parts: list[Media]) -> bool:
        images, total = self._limits.images, self._limits.total_bytes
        count = sum(isinstance(part, Image) for part in parts)
        size = sum(map(sent_size, parts))
        return (images is None or count <= images) and (total is None or size <= total)

    def _too_many(self, parts: list[Media]) -> AttachmentTooLarge:
        images, total = self._limits.images, self._limits.total_bytes
        count = sum(isinstance(part, Image) for part in parts)
        if images is not None and count > images:
            told, found, limit = "images", count, images
        else:
            told, found, limit = "bytes of base64", sum(map(sent_size, parts)), total or 0
        return AttachmentTooLarge(
            f"the attachments of one message have {found} {told}, but a request holds at most "
            f"{limit}; send some of them in another message",
            name="all attachments",
            size=found,
            limit=limit,
        )


# ── what takes time ───────────────────────────────────────────────────────────────────────────────


Resize = Callable[[bytes, int | None, int | None], tuple[bytes, str] | None]
ReadText = Callable[[bytes, int], str | None]


async def in_time(work: Callable[[], T | None], seconds: float) -> T | None:
    """What `work` comes to in a thread of its own; None if that takes longer than `seconds`, as
    hostile files can make it. Its thread is then left to itself."""
    with move_on_after(seconds):
        return await to_thread.run_sync(work, abandon_on_cancel=True)
    return None


async def _done(step: Done) -> Part:
    match step:
        case Shrink(image, edge, most):
            module = import_module("llm_client.multimodal.resizing")
            resize = partial(cast("Resize", module.resized), image.data or b"", edge, most)
            made = await in_time(resize, PATIENCE)
            if made is None:
                return notice(image, "it could not be read")
            return structs.replace(image, data=made[0], media_type=made[1])
        case Extract(file):
            module = import_module("llm_client.multimodal.pdf")
            read = partial(cast("ReadText", module.pdf_text), file.data or b"", PDF_CHARACTERS)
            text = await in_time(read, PATIENCE)
            if text is None:
                return notice(file, "it is unreadable: it holds no text, or is damaged or locked")
            return Text(f"{notice(file, 'this is its text').text}\n{text}")
        case _:
            return step


def _guess(step: Done) -> Part:
    match step:
        case Shrink(image):
            # How large it will be is not known before; it will be small enough.
            return structs.replace(image, data=(image.data or b"")[:16], media_type="image/png")
        case Extract(file):
            return notice(file, "this is its text")
        case _:
            return step


# ── places of attachments ─────────────────────────────────────────────────────────────────────────


_HOLDERS = frozenset((Image, Audio, File, ToolResult))


def _holders(messages: Sequence[Message]) -> dict[int, Message]:
    """The messages that hold attachments, by their places."""
    held: dict[int, Message] = {}
    for at, message in enumerate(messages):
        # Two plain loops: of most messages, nothing more is ever asked.
        for part in message.parts:
            if type(part) in _HOLDERS:
                if next(_media(message), None) is not None:
                    held[at] = message
                break
    return held


def _media(message: Message) -> Iterator[tuple[Place, Media]]:
    """The attachments of `message` that no model has made."""
    if message.role == "assistant":
        return
    for at, part in enumerate(message.parts):
        match part:
            case Image(seal=None) | Audio() | File():
                yield (at, -1), part
            case ToolResult():
                for inner, item in enumerate(part.content):
                    if isinstance(item, Image | File):
                        yield (at, inner), item
            case _:
                pass


def _changed(message: Message, changes: Mapping[Place, Part]) -> Message:
    """`message` with other parts in some places; itself if they are the same."""
    parts: list[Part] = list(message.parts)
    changed = False
    for (at, inner), new in changes.items():
        part = parts[at]
        if inner < 0:
            changed = changed or new is not part
            parts[at] = new
        elif isinstance(part, ToolResult) and isinstance(new, Text | Image | File):
            changed = changed or new is not part.content[inner]
            content = (*part.content[:inner], new, *part.content[inner + 1 :])
            parts[at] = structs.replace(part, content=content)
    return structs.replace(message, parts=tuple(parts)) if changed else message
