"""The images API of OpenAI, which many others speak as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_client._json_endpoint import JsonAnswer
from llm_client.codecs._json import as_dict, as_list, encode
from llm_client.errors import CallerError
from llm_client.fetching import WebFetcher
from llm_client.images._client import Answered, ImageClient, Made, checked_inputs, checked_prompt
from llm_client.images.service import ImagesResult
from llm_client.multimodal.errors import AttachmentUnreadable
from llm_client.multimodal.sniff import sniff
from llm_client.transport.base import Transport
from llm_client.transport.deadlines import Deadlines
from llm_client.types import Image, Usage, new_id

__all__ = ["OpenAIImages"]

MOST_INPUTS = 16


class OpenAIImages(ImageClient):
    """An `ImageService` that speaks OpenAI's images API.

    Args:
        transport: carries the requests; closed together with the client.
        base_url: the address below which /images lies.
        model: such as "gpt-image-1".
        headers: sent with every request to `base_url`, and with none to where images lie; the
            provider's key is among them.
        deadlines: how long each phase of a request may take.
        fetcher: fetches the images that an answer only names; closed together with the client.
        provider: the provider's name, for errors.

    Raises:
        ConfigError: the base URL or a header cannot be used.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        base_url: str,
        model: str,
        headers: Mapping[str, str] | None = None,
        deadlines: Deadlines | None = None,
        fetcher: WebFetcher | None = None,
        provider: str = "openai",
    ) -> None:
        super().__init__(
            transport,
            base_url=base_url,
            headers=headers or {},
            deadlines=deadlines,
            fetcher=fetcher,
            provider=provider,
        )
        self._model = model

    async def generate(
        self,
        prompt: str,
        *,
        n: int = 1,
        size: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> ImagesResult:
        """See `ImageService.generate`."""
        fields = self._fields(prompt, n, size, extra)
        answered = await self.endpoint.ask(
            "/images/generations",
            self._read,
            [encode(fields, "the request for images")],
            content_type="application/json",
        )
        return await self.result(answered)

    async def edit(
        self,
        prompt: str,
        images: Sequence[Image],
        *,
        n: int = 1,
        size: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> ImagesResult:
        """See `ImageService.edit`. Takes up to 16 images, each with its data."""
        checked_inputs(images, MOST_INPUTS)
        fields = self._fields(prompt, n, size, extra)
        boundary = new_id("part-")
        answered = await self.endpoint.ask(
            "/images/edits",
            self._read,
            _form(fields, images, boundary.encode()),
            content_type=f"multipart/form-data; boundary={boundary}",
        )
        return await self.result(answered)

    def _fields(
        self, prompt: str, n: int, size: str | None, extra: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        fields: dict[str, Any] = {"model": self._model, "prompt": checked_prompt(prompt, n), "n": n}
        if size is not None:
            fields["size"] = size
        return {**fields, **(extra or {})}

    def _read(self, answer: JsonAnswer) -> Answered:
        made = [
            Made(
                _text(item.get("url")),
                _text(item.get("b64_json")),
                _text(item.get("revised_prompt")),
            )
            for item in map(as_dict, as_list(answer.value.get("data")))
        ]
        return self.answered(answer, made, _usage(as_dict(answer.value.get("usage"))))


def _form(fields: Mapping[str, Any], images: Sequence[Image], boundary: bytes) -> list[bytes]:
    """The pieces of a form with `fields` and files."""
    pieces: list[bytes] = []
    for name, value in fields.items():
        if not name.isascii() or not name.isprintable() or '"' in name:
            raise CallerError(f"{name!r} is no name of a parameter")
        text = value.encode() if isinstance(value, str) else encode(value, name)
        head = f'content-disposition: form-data; name="{name}"'.encode()
        pieces += [b"--", boundary, b"\r\n", head, b"\r\n\r\n", text, b"\r\n"]
    for number, image in enumerate(images, 1):
        if image.data is None:
            raise AttachmentUnreadable(
                f"image {number} is only an address; the provider takes its bytes: fetch it"
            )
        media_type = sniff(image.data).media_type
        file = f"image-{number}.{media_type.removeprefix('image/')}"
        head = f'content-disposition: form-data; name="image[]"; filename="{file}"\r\n'.encode()
        sort = f"content-type: {media_type}".encode()
        pieces += [b"--", boundary, b"\r\n", head, sort, b"\r\n\r\n", image.data, b"\r\n"]
    return [*pieces, b"--", boundary, b"--\r\n"]


def _usage(said: dict[str, Any]) -> Usage | None:
    if not said:
        return None
    return Usage(_count(said.get("input_tokens")), _count(said.get("output_tokens")))


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
