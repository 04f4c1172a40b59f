"""What providers take of images, sound and files, as data.

Sizes are those of the base64 text that is sent, which is a third larger than the file. A limit that
is not known is None, and not checked. Looked up in 2026; where two pages of a provider disagree,
the smaller number stands here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct, structs

__all__ = ["MediaLimits", "media_limits"]

MB = 1024 * 1024

_USUAL = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})


class MediaLimits(Struct, frozen=True, kw_only=True):
    """What one provider takes. A file is a PDF where the model reads PDF, or one of `files`.

    Attributes:
        image_types: media types of images; another one is converted.
        image_bytes: base64 of one image.
        image_edge: pixels of an image's longer edge.
        many: images in a request from which on `edge_of_many` holds for each of them.
        edge_of_many: see `many`.
        images: images in one request.
        files: beginnings of the media types of other files that are read as they are.
        file_bytes: base64 of one file.
        audio: formats of sound; None for any.
        total_bytes: base64 of all images, sounds and files of a request.
    """

    image_types: frozenset[str] = _USUAL
    image_bytes: int | None = 20 * MB
    image_edge: int | None = None
    many: int | None = None
    edge_of_many: int | None = None
    images: int | None = None
    files: tuple[str, ...] = ()
    file_bytes: int | None = None
    audio: frozenset[str] | None = None
    total_bytes: int | None = None

    def edge(self, images: int) -> int | None:
        """Pixels that an image's longer edge may have if the request holds so many `images`."""
        if self.many is not None and images > self.many:
            return self.edge_of_many
        return self.image_edge


_OPENAI = MediaLimits(
    # platform.openai.com/docs/guides/images-vision: 500 images, 50 MB in all; older pages say
    # 20 MB for one. Of sound, wav and mp3 (guides/audio).
    images=500,
    file_bytes=50 * MB,
    audio=frozenset({"wav", "mp3"}),
    total_bytes=50 * MB,
)
_ANTHROPIC = MediaLimits(
    # platform.claude.com/docs/en/build-with-claude/vision: 5 MB of base64, 8000 pixels, or 2000
    # with more than 20 images, 100 images; requests of 32 MB, of which some are text.
    image_bytes=5 * MB,
    image_edge=8000,
    many=20,
    edge_of_many=2000,
    images=100,
    files=("text/",),
    audio=frozenset(),
    total_bytes=30 * MB,
)
_GEMINI_TYPES = frozenset({"image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"})

_LIMITS: Mapping[str, MediaLimits] = MappingProxyType(
    {
        "anthropic": _ANTHROPIC,
        # platform.claude.com/docs/en/build-with-claude/claude-on-vertex-ai: requests of 30 MB.
        "vertex-messages": structs.replace(_ANTHROPIC, total_bytes=28 * MB),
        "openai": _OPENAI,
        "azure": _OPENAI,
        "gemini": MediaLimits(
            # ai.google.dev/gemini-api/docs/file-input-methods: 100 MB within the request, 50 MB of
            # a PDF; docs/image-understanding: 3,600 images.
            image_types=_GEMINI_TYPES,
            image_bytes=100 * MB,
            images=3600,
            files=("text/", "video/", "audio/"),
            file_bytes=50 * MB,
            total_bytes=95 * MB,
        ),
        "vertex": MediaLimits(
            # docs.cloud.google.com, image understanding: 7 MB for one image within the request,
            # 3,000 images; firebase.google.com/docs/ai-logic: requests of 20 MB.
            image_types=_GEMINI_TYPES,
            image_bytes=7 * MB,
            images=3000,
            files=("text/", "video/", "audio/"),
            total_bytes=19 * MB,
        ),
        "groq": MediaLimits(
            # console.groq.com/docs/vision: 4 MB of base64 in a request, 33 megapixels, 5 images.
            image_bytes=4 * MB,
            image_edge=5760,
            images=5,
            total_bytes=4 * MB,
        ),
        "cohere": MediaLimits(
            # docs.cohere.com/docs/image-inputs: 20 images, 20 MB in all.
            images=20,
            total_bytes=20 * MB,
            audio=frozenset(),
        ),
        "xai": MediaLimits(
            # docs.x.ai, image understanding: jpg and png; 10 MiB by older pages, 20 by newer ones.
            image_types=frozenset({"image/png", "image/jpeg"}),
            image_bytes=10 * MB,
        ),
    }
)
_UNKNOWN = MediaLimits()


def media_limits(provider: str) -> MediaLimits:
    """The limits of `provider`, a name of `PROVIDERS`. Of one that is not known here, only what
    holds everywhere: the four usual types of images, and 20 MB for each."""
    # Behind Responses are the same models as behind Chat Completions.
    return _LIMITS.get(provider.removesuffix("-responses"), _UNKNOWN)
