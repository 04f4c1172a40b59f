"""Qwen's image models at DashScope, which answer at once and not by way of a task."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from llm_client._json_endpoint import JsonAnswer
from llm_client.codecs._http_errors import error_from_value
from llm_client.codecs._json import as_dict, as_list, encode
from llm_client.codecs._media import media_url
from llm_client.errors import ConfigError
from llm_client.fetching import WebFetcher
from llm_client.images._client import (
    PATIENCE,
    Answered,
    ImageClient,
    Made,
    checked_inputs,
    checked_prompt,
)
from llm_client.images.service import ImagesResult
from llm_client.transport.base import Transport
from llm_client.transport.deadlines import Deadlines
from llm_client.transport.httpx_transport import HttpxTransport
from llm_client.types import Image

__all__ = ["DashScopeImages"]

BASE_URL = "https://dashscope.aliyuncs.com/api/v1"
MOST_INPUTS = 3
_PATH = "/services/aigc/multimodal-generation/generation"
_PREFIX = "DASHSCOPE_IMAGE_"


class DashScopeImages(ImageClient):
    """An `ImageService` that asks Qwen's image models.

    The provider may put the prompt into better words (prompt_extend), and marks no image as its own
    (watermark); `extra` says otherwise for one request.

    Args:
        transport: carries the requests; closed together with the client.
        model: such as "qwen-image".
        edit_model: changes images, such as "qwen-image-edit"; by default `model`.
        api_key: the key; it is not sent to where images lie.
        base_url: the address of the region.
        deadlines: how long each phase of a request may take.
        fetcher: fetches the images, which an answer only names; closed together with the client.

    Raises:
        ConfigError: the base URL or the key cannot be used.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        model: str,
        api_key: str,
        edit_model: str | None = None,
        base_url: str = BASE_URL,
        deadlines: Deadlines | None = None,
        fetcher: WebFetcher | None = None,
    ) -> None:
        super().__init__(
            transport,
            base_url=base_url,
            headers={"authorization": f"Bearer {api_key}"},
            deadlines=deadlines,
            fetcher=fetcher,
            provider="dashscope",
        )
        self._model = model
        self._edit_model = edit_model or model

    @classmethod
    def from_env(
        cls, env: Mapping[str, str] | None = None, *, transport: Transport | None = None
    ) -> DashScopeImages:
        """The client that the environment describes, over a direct connection.

        DASHSCOPE_IMAGE_ followed by MODEL, EDIT_MODEL, API_KEY (or DASHSCOPE_API_KEY), BASE_URL and
        TIMEOUT_S. MODEL and a key are needed.

        Raises:
            ConfigError: variables are missing or wrong; names them.
        """
        environ = os.environ if env is None else env
        read = {
            name: environ.get(_PREFIX + name, "").strip()
            for name in ("MODEL", "EDIT_MODEL", "API_KEY", "BASE_URL", "TIMEOUT_S")
        }
        key = read["API_KEY"] or environ.get("DASHSCOPE_API_KEY", "").strip()
        missing = [f"{_PREFIX}MODEL"] if not read["MODEL"] else []
        if not key:
            missing.append(f"{_PREFIX}API_KEY or DASHSCOPE_API_KEY")
        if missing:
            raise ConfigError(f"missing in the environment: {', '.join(missing)}")
        return cls(
            transport or HttpxTransport(),
            model=read["MODEL"],
            edit_model=read["EDIT_MODEL"] or None,
            api_key=key,
            base_url=read["BASE_URL"] or BASE_URL,
            deadlines=_deadlines(read["TIMEOUT_S"]),
        )

    async def generate(
        self,
        prompt: str,
        *,
        n: int = 1,
        size: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> ImagesResult:
        """See `ImageService.generate`."""
        content = [{"text": checked_prompt(prompt, n)}]
        return await self._ask(self._model, content, n, size, extra)

    async def edit(
        self,
        prompt: str,
        images: Sequence[Image],
        *,
        n: int = 1,
        size: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> ImagesResult:
        """See `ImageService.edit`. Takes up to 3 images."""
        checked_inputs(images, MOST_INPUTS)
        content = [{"image": media_url(image, "image/png")} for image in images]
        content.append({"text": checked_prompt(prompt, n)})
        return await self._ask(self._edit_model, content, n, size, extra)

    async def _ask(
        self,
        model: str,
        content: list[dict[str, str]],
        n: int,
        size: str | None,
        extra: Mapping[str, Any] | None,
    ) -> ImagesResult:
        parameters: dict[str, Any] = {"prompt_extend": True, "watermark": False}
        if n != 1:
            parameters["n"] = n
        if size is not None:
            parameters["size"] = size.lower().replace("x", "*")
        body = {
            "model": model,
            "input": {"messages": [{"role": "user", "content": content}]},
            "parameters": {**parameters, **(extra or {})},
        }
        answered = await self.endpoint.ask(
            _PATH,
            self._read,
            [encode(body, "the request for images")],
            content_type="application/json",
        )
        return await self.result(answered)

    def _read(self, answer: JsonAnswer) -> Answered:
        value = answer.value
        output = as_dict(value.get("output"))
        if not output and value.get("code"):
            raise error_from_value(self.endpoint.provider, value)
        found = [
            as_dict(item).get("image")
            for choice in as_list(output.get("choices"))
            for item in as_list(as_dict(as_dict(choice).get("message")).get("content"))
        ]
        # Models of the older kind put them elsewhere.
        found += [as_dict(item).get("url") for item in as_list(output.get("results"))]
        urls = [url for url in dict.fromkeys(map(_text, found)) if url]
        return self.answered(answer, [Made(url) for url in urls])


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _deadlines(seconds: str) -> Deadlines:
    if not seconds:
        return PATIENCE
    try:
        total = float(seconds)
    except ValueError:
        total = math.nan
    if not 0 < total < math.inf:
        raise ConfigError(f"{_PREFIX}TIMEOUT_S must be a positive number, is {seconds!r}")
    return Deadlines.within(total)
