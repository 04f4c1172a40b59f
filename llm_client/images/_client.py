"""What clients of image models share: the exchange, and bringing in what it came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from msgspec import Struct

from llm_client._json_endpoint import JsonAnswer, JsonEndpoint
from llm_client.codecs._http_errors import error_from_body
from llm_client.codecs.gemini._parts import blob_data
from llm_client.errors import CallerError, MalformedResponse
from llm_client.fetching import WebFetcher
from llm_client.images.service import ImagesResult
from llm_client.multimodal.errors import AttachmentUnreadable
from llm_client.multimodal.plan import PIXELS
from llm_client.multimodal.sniff import image_size, sniff
from llm_client.transport.base import Transport
from llm_client.transport.deadlines import Deadlines
from llm_client.types import Image, Usage

__all__ = ["Answered", "ImageClient", "Made", "checked_inputs", "checked_prompt"]

PATIENCE = Deadlines(first_byte=300.0, total=600.0)
"""Images take longer than words, and come in one piece."""


class Made(Struct, frozen=True):
    """One image of an answer: where it is, or its base64; and the prompt really used."""

    url: str | None = None
    base64: str | None = None
    prompt: str | None = None


class Answered(Struct, frozen=True):
    """What an answer came to, before its images are brought in."""

    made: tuple[Made, ...]
    usage: Usage | None
    request_id: str | None


class ImageClient:
    """The side of an `ImageService` that does not depend on the provider."""

    def __init__(
        self,
        transport: Transport,
        *,
        base_url: str,
        headers: Mapping[str, str],
        deadlines: Deadlines | None,
        fetcher: WebFetcher | None,
        provider: str,
    ) -> None:
        self.endpoint = JsonEndpoint(
            transport,
            base_url=base_url,
            headers=headers,
            deadlines=deadlines or PATIENCE,
            provider=provider,
            refused=partial(error_from_body, provider),
        )
        self._fetcher = fetcher or WebFetcher()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.endpoint!r})"

    def answered(
        self, answer: JsonAnswer, made: Sequence[Made], usage: Usage | None = None
    ) -> Answered:
        """What `answer` came to.

        Raises:
            MalformedResponse: there is no image in it.
        """
        if not made:
            raise MalformedResponse(
                f"{self.endpoint.provider} answered without an image; ask again, or in other words"
            )
        return Answered(tuple(made), usage, answer.request_id)

    async def result(self, answered: Answered) -> ImagesResult:
        """The images themselves, brought in where the answer only says where they are.

        Raises:
            MalformedResponse: one is no image.
            LLMError: one cannot be fetched.
        """
        images = [await self._image(one) for one in answered.made]
        prompts = tuple(one.prompt for one in answered.made if one.prompt)
        return ImagesResult(tuple(images), answered.usage, prompts, answered.request_id)

    async def _image(self, made: Made) -> Image:
        data = await self._data(made)
        found = sniff(data)
        size = image_size(data)
        if found.kind != "image" or (size is not None and size[0] * size[1] > PIXELS):
            raise MalformedResponse(
                f"what {self.endpoint.provider} gives for an image is {found.media_type} of "
                f"{len(data)} bytes, and no image of a usual size; ask again",
                provider=self.endpoint.provider,
            )
        return Image(data, media_type=found.media_type)

    async def _data(self, made: Made) -> bytes:
        if made.base64 is not None:
            return blob_data(made.base64)
        if made.url is None:
            return b""
        if made.url.startswith("data:"):
            return blob_data(made.url.partition(",")[2])
        # Over a transport of its own, without our headers: the key stays where it belongs.
        return (await self._fetcher.get(made.url)).data

    async def aclose(self) -> None:
        """Closes all connections. Idempotent."""
        await self.endpoint.aclose()
        await self._fetcher.aclose()


def checked_prompt(prompt: str, n: int) -> str:
    """`prompt` without blanks around it.

    Raises:
        CallerError: it is empty, or `n` is no number of images.
    """
    if not prompt.strip():
        raise CallerError("the prompt is empty; say what is to be seen")
    if n < 1:
        raise CallerError(f"n must be at least 1, is {n}")
    return prompt.strip()


def checked_inputs(images: Sequence[Image], most: int) -> None:
    """Looks whether `images` can be changed.

    Raises:
        CallerError: they are none, or more than `most`.
        AttachmentUnreadable: one of them holds no image.
    """
    if not 1 <= len(images) <= most:
        raise CallerError(f"an edit takes 1 to {most} images, not {len(images)}")
    for number, image in enumerate(images, 1):
        if (image.data is None) == (image.url is None):
            raise AttachmentUnreadable(f"image {number} needs either data or a url")
        if image.data is not None and sniff(image.data).kind != "image":
            raise AttachmentUnreadable(
                f"image {number} is {sniff(image.data).media_type}, and no image"
            )
