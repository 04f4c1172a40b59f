"""What becomes of an attachment on its way to one model. Pure: nothing is decoded or read here."""

from __future__ import annotations

from msgspec import Struct, structs

from llm_client.errors import CallerError
from llm_client.known_models import ModelCapabilities
from llm_client.multimodal.attach import data_url, shown_name
from llm_client.multimodal.errors import AttachmentTooLarge, AttachmentUnreadable
from llm_client.multimodal.limits import MediaLimits
from llm_client.multimodal.sniff import image_size, sniff, text_in
from llm_client.types import Audio, File, Image, Text

__all__ = [
    "PIXELS",
    "Extract",
    "Media",
    "Refuse",
    "Shrink",
    "Target",
    "as_sent",
    "notice",
    "plan",
    "sent_size",
]

Media = Image | Audio | File

PIXELS = 80_000_000
"""Pixels of an image that is sent or decoded. A small file can hold a picture that fills the
memory."""

_PDF = "application/pdf"


class Target(Struct, frozen=True):
    """Where attachments go. `edge` is the longest that an image's edge may be in this request;
    `shrinks` and `extracts` say whether the extras are installed."""

    limits: MediaLimits
    known: ModelCapabilities
    edge: int | None
    shrinks: bool
    extracts: bool


class Shrink(Struct, frozen=True):
    """To do: make `image` fit into `edge` pixels and `most` bytes."""

    image: Image
    edge: int | None
    most: int | None


class Extract(Struct, frozen=True):
    """To do: read the text of the PDF `file`."""

    file: File


class Refuse(Struct, frozen=True):
    """It cannot be sent: `error` says why, and `instead` what an old message says in its place."""

    error: CallerError
    instead: Text


Step = Media | Text | Shrink | Extract | Refuse


def as_sent(size: int) -> int:
    """Bytes of base64 for `size` bytes."""
    return (size + 2) // 3 * 4


def sent_size(part: Media) -> int:
    """Bytes that `part` takes in a request."""
    return 0 if part.data is None else as_sent(len(part.data))


def notice(part: Media, why: str) -> Text:
    """What stands in the place of `part`."""
    return Text(f"[{_described(part)}, was attached; {why}]")


def plan(part: Media, target: Target) -> Step:
    """What becomes of `part`."""
    match part:
        case Image():
            return _image(part, target)
        case Audio():
            return _audio(part, target)
        case File():
            return _file(part, target)


# ── images ────────────────────────────────────────────────────────────────────────────────────────


def _image(image: Image, target: Target) -> Step:
    if target.known.images is False:
        return notice(_told(image), "this model cannot see images")
    if image.data is None:
        if image.url is None or not image.url.startswith("data:"):
            # The provider fetches it; nothing is known of it here.
            return image
        try:
            data, _ = data_url(image.url)
        except AttachmentUnreadable:
            return notice(image, "it could not be read")
        image = structs.replace(image, data=data, url=None)
    return _held_image(image, image.data or b"", target)


def _held_image(image: Image, data: bytes, target: Target) -> Step:
    found = sniff(data)
    if found.kind != "image":
        return notice(image, "it could not be read")
    limits = target.limits
    size = image_size(data)
    if size is not None and size[0] * size[1] > PIXELS:
        image = structs.replace(image, media_type=found.media_type)
        return _refusal(image, f"{size[0] * size[1]} pixels", size[0] * size[1], PIXELS)
    too_many_bytes = limits.image_bytes is not None and as_sent(len(data)) > limits.image_bytes
    too_long = size is not None and target.edge is not None and max(size) > target.edge
    if found.media_type in limits.image_types and not too_many_bytes and not too_long:
        # A wrong media type is refused as well, and is told wrongly by many programs.
        same = image.media_type == found.media_type
        return image if same else structs.replace(image, media_type=found.media_type)
    image = structs.replace(image, media_type=found.media_type)
    if target.shrinks:
        most = None if limits.image_bytes is None else limits.image_bytes // 4 * 3
        return Shrink(image, target.edge, most)
    if too_many_bytes and limits.image_bytes is not None:
        sent = as_sent(len(data))
        return _refusal(image, f"{sent} bytes of base64", sent, limits.image_bytes, _RESIZE)
    if too_long and size is not None and target.edge is not None:
        return _refusal(image, f"{max(size)} pixels at its edge", max(size), target.edge, _RESIZE)
    return Refuse(
        AttachmentUnreadable(f"{_described(image)}, is of a type that is not taken; {_CONVERT}"),
        notice(image, "this model does not take its type"),
    )


_RESIZE = "resize it, or install the extra 'images' (pip install 'power-loop[images]')"
_CONVERT = "convert it, or install the extra 'images' (pip install 'power-loop[images]')"


def _refusal(
    part: Media, told: str, size: int, limit: int, advice: str = "send a smaller one"
) -> Refuse:
    name = _described(part)
    return Refuse(
        AttachmentTooLarge(
            f"{name}, has {told}, but at most {limit} can be sent; {advice}",
            name=name,
            size=size,
            limit=limit,
        ),
        notice(part, "it is too large to be sent"),
    )


# ── sound and files ───────────────────────────────────────────────────────────────────────────────


def _audio(sound: Audio, target: Target) -> Step:
    if sound.data is None:
        return sound
    limits = target.limits
    unheard = limits.audio is not None and (sound.format or "") not in limits.audio
    if target.known.audio is False or unheard:
        return notice(sound, "this model cannot hear it")
    return _sized(sound, sound.data, target)


def _sized(part: Audio | File, data: bytes, target: Target) -> Step:
    limit = target.limits.file_bytes or target.limits.total_bytes
    sent = as_sent(len(data))
    if limit is None or sent <= limit:
        return part
    return _refusal(part, f"{sent} bytes of base64", sent, limit)


def _file(file: File, target: Target) -> Step:
    if file.data is None:
        unread = file.id is None and file.media_type == _PDF and target.known.pdf is False
        return notice(file, "this model cannot read it") if unread else file
    found = sniff(file.data, file.name)
    if found.kind == "image":
        return _image(Image(file.data, media_type=found.media_type), target)
    if found.media_type == _PDF:
        return _pdf(structs.replace(file, media_type=_PDF), file.data, target)
    text = text_in(file.data) if found.kind == "text" else None
    media_type = file.media_type or found.media_type
    if media_type.startswith(target.limits.files):
        return _sized(structs.replace(file, media_type=media_type), file.data, target)
    if text is not None:
        name = shown_name(file.name or "file")
        return Text(f"[file {name}]\n{text}\n[end of file {name}]")
    return notice(structs.replace(file, media_type=media_type), "this model cannot read it")


def _pdf(file: File, data: bytes, target: Target) -> Step:
    if target.known.pdf and isinstance(_sized(file, data, target), File):
        return file
    if target.extracts:
        return Extract(file)
    if target.known.pdf:
        return _sized(file, data, target)
    return notice(
        file,
        "this model cannot read PDF, and reading its text needs the extra 'pdf' of this program",
    )


# ── in words ──────────────────────────────────────────────────────────────────────────────────────


def _told(image: Image) -> Image:
    """`image` with the type that its bytes have."""
    if image.data is None:
        return image
    return structs.replace(image, media_type=sniff(image.data).media_type)


def _described(part: Media) -> str:
    """Such as "an image, 640x480 png"."""
    match part:
        case Image():
            size = None if part.data is None else image_size(part.data)
            pixels = "" if size is None else f"{size[0]}x{size[1]} "
            kind = (part.media_type or "").removeprefix("image/")
            words = shown_name(f"{pixels}{kind}".strip()) or "of an unknown type"
            return f"an image, {words}"
        case Audio():
            return f"a sound, {shown_name(part.format or 'of an unknown type')}"
        case File():
            name = f' "{shown_name(part.name)}"' if part.name else ""
            size = "" if part.data is None else f"{len(part.data)} bytes "
            return f"a file{name}, {size}{shown_name(part.media_type or 'of an unknown type')}"
