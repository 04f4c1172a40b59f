"""**Protocol** ImageService: makes images from words, and changes images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct

from llm_client.types import Image, Usage

__all__ = ["ImageService", "ImagesResult"]


class ImagesResult(Struct, frozen=True):
    """What a request for images came to.

    Attributes:
        images: at least one, each with its bytes and the media type that they have.
        usage: tokens, where the provider counts them.
        prompts: the prompt that was really used, for each image for which the provider tells.
        request_id: the provider's id of the request, to quote to its support.
    """

    images: tuple[Image, ...]
    usage: Usage | None = None
    prompts: tuple[str, ...] = ()
    request_id: str | None = None


class ImageService(Protocol):
    """**Protocol**: makes images, once a request: to retry is its caller's business."""

    async def generate(
        self,
        prompt: str,
        *,
        n: int = 1,
        size: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> ImagesResult:
        """`n` images of what `prompt` describes.

        Args:
            prompt: what is to be seen.
            n: how many.
            size: width and height such as "1024x1024", by default the model's own.
            extra: parameters that only this provider has.

        Raises:
            CallerError: the request makes no sense; nothing was sent.
            ContentFiltered: the provider does not make such an image.
            LLMError: the request failed, or what it came to could not be fetched.
        """
        ...

    async def edit(
        self,
        prompt: str,
        images: Sequence[Image],
        *,
        n: int = 1,
        size: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> ImagesResult:
        """`images`, changed as `prompt` says, or made into one.

        Raises:
            CallerError: the request makes no sense, or an image is none or too many; nothing was
                sent.
            ContentFiltered: the provider does not make such an image.
            LLMError: the request failed, or what it came to could not be fetched.
        """
        ...

    async def aclose(self) -> None:
        """Closes all connections. Idempotent."""
        ...
