"""An LLMService over HTTP: a codec says what the bytes mean, a transport carries them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self

import anyio

from llm_client._block import not_entered
from llm_client._endpoint import Endpoint, RequestDefaults, inflater, plain_body
from llm_client.codec import Codec, Decoder
from llm_client.codecs._http_errors import request_id
from llm_client.errors import LLMError, RemoteProtocolError, TransportError
from llm_client.known_models import capabilities
from llm_client.stream import Finished, ResponseStarted, StreamEvent, UsageReported
from llm_client.transport.base import Transport, WireResponse
from llm_client.transport.deadlines import Deadlines
from llm_client.types import LLMRequest, LLMResponse

__all__ = ["HttpLLMService", "HttpStream", "RequestDefaults"]

TAIL_SECONDS = 0.25
"""After an answer's positive end, how long to wait for the end of its body. It usually is there
already; reading it keeps the connection for the next request."""


class HttpLLMService:
    """Asks one model provider over HTTP, once a request: to retry is its caller's business.

    Args:
        codec: the provider's wire protocol.
        transport: carries the exchanges; closed together with the service.
        base_url: the address below which the codec's paths lie; may hold a query.
        model: the model asked when a request names none.
        headers: sent with every request; the provider's key is among them.
        deadlines: how long each phase of an exchange may take.
        defaults: what to fill in where a request leaves it open.
        provider: the provider's name, for errors.

    Raises:
        ConfigError: the base URL or a header cannot be used.
    """

    def __init__(
        self,
        codec: Codec,
        transport: Transport,
        *,
        base_url: str,
        model: str,
        headers: Mapping[str, str] | None = None,
        deadlines: Deadlines | None = None,
        defaults: RequestDefaults | None = None,
        provider: str = "",
    ) -> None:
        self._endpoint = Endpoint(
            codec,
            transport,
            base_url=base_url,
            model=model,
            headers=headers or {},
            deadlines=deadlines or Deadlines(),
            defaults=defaults or RequestDefaults(),
            provider=provider,
        )

    def __repr__(self) -> str:
        return f"HttpLLMService({self._endpoint!r})"

    @property
    def retries(self) -> bool:
        """False: a failed request is never tried again inside."""
        return False

    @property
    def model(self) -> str:
        """The model asked when a request names none."""
        return self._endpoint.model

    @property
    def binds_output(self) -> bool:
        """Whether the provider can bind an answer to a schema."""
        return self._endpoint.codec.binds_output

    def context_window(self, model: str | None) -> int | None:
        """What the table of known models says."""
        endpoint = self._endpoint
        return capabilities(endpoint.provider, model or endpoint.model).context_window

    def check(self, request: LLMRequest) -> None:
        """See `LLMService.check`."""
        self._endpoint.check(request)

    def stream(self, request: LLMRequest) -> AbstractAsyncContextManager[HttpStream]:
        """See `LLMService.stream`."""
        return HttpStream(self._endpoint, request)

    async def complete(self, request: LLMRequest) -> LLMResponse:
        """See `LLMService.complete`."""
        endpoint = self._endpoint
        asked = None
        try:
            async with endpoint.exchange(request, stream=False) as response:
                asked = request_id(response.headers)
                if not 200 <= response.status < 300:
                    raise await endpoint.refusal(response)
                return await _whole(endpoint.codec, response)
        except LLMError as error:
            endpoint.explain(error, asked)
            raise

    async def aclose(self) -> None:
        """See `LLMService.aclose`."""
        await self._endpoint.transport.aclose()


class HttpStream:
    """One streamed answer: a block to enter, then an iterator of its events.

    `request_id` is the provider's id of the request, once entered.
    """

    __slots__ = (
        "_at",
        "_batch",
        "_decoder",
        "_endpoint",
        "_exchange",
        "_finished",
        "_inflate",
        "_output",
        "_over",
        "_request",
        "_response",
        "request_id",
    )

    _exchange: AbstractAsyncContextManager[WireResponse]
    _decoder: Decoder

    def __init__(self, endpoint: Endpoint, request: LLMRequest) -> None:
        self._endpoint = endpoint
        self._request = request
        self._response: WireResponse | None = None
        self._batch: Sequence[StreamEvent] = ()
        self._at = 0
        self._inflate = None
        self._finished = False
        self._output = False
        self._over = False
        self.request_id: str | None = None

    async def __aenter__(self) -> Self:
        endpoint = self._endpoint
        try:
            self._exchange = endpoint.exchange(self._request, stream=True)
            self._response = response = await self._exchange.__aenter__()
            try:
                await self._begin(response)
            except BaseException as error:
                await self._exchange.__aexit__(type(error), error, error.__traceback__)
                raise
        except LLMError as error:
            endpoint.explain(error, self.request_id)
            raise
        return self

    async def _begin(self, response: WireResponse) -> None:
        self.request_id = request_id(response.headers)
        if not 200 <= response.status < 300:
            raise await self._endpoint.refusal(response)
        self._inflate = inflater(response.headers)
        self._decoder = self._endpoint.codec.decoder()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over = True
        await self._exchange.__aexit__(kind, error, traceback)

    def __aiter__(self) -> HttpStream:
        return self

    async def __anext__(self) -> StreamEvent:
        while self._at == len(self._batch):
            if self._over:
                raise StopAsyncIteration
            await self._next_batch()
        event = self._batch[self._at]
        self._at += 1
        kind = type(event)
        if kind is Finished:
            self._finished = True
        elif kind is not ResponseStarted and kind is not UsageReported:
            self._output = True
        return event

    async def _next_batch(self) -> None:
        self._batch, self._at = (), 0
        response = self._response
        if response is None:
            raise not_entered()
        try:
            if self._finished:
                await self._pass_tail(response)
                return
            while not self._batch:
                if self._decoder.done:
                    # An error frame came with the last bytes: it is told by close(), at once, even
                    # if the connection stays open.
                    self._last_batch()
                    return
                self._batch = self._decoded(await anext(response))
        except StopAsyncIteration:
            self._last_batch()
        except LLMError as error:
            self._over = True
            if isinstance(error, TransportError) and self._was_complete():
                return
            self._endpoint.explain(error, self.request_id, after_output=self._output)
            raise
        except BaseException:
            self._over = True
            raise

    def _decoded(self, data: bytes) -> Sequence[StreamEvent]:
        return self._decoder.feed(data if self._inflate is None else self._inflate(data))

    def _last_batch(self) -> None:
        self._over = True
        try:
            self._batch = self._decoder.close()
        except LLMError as error:
            self._endpoint.explain(error, self.request_id, after_output=self._output)
            raise

    def _was_complete(self) -> bool:
        """True if nothing of the answer is missing, although the connection broke."""
        try:
            self._batch = self._decoder.close()
        except LLMError:
            return False
        return True

    async def _pass_tail(self, response: WireResponse) -> None:
        """Reads what may follow the positive end, which nothing can spoil any more."""
        self._over = True
        try:
            with anyio.move_on_after(TAIL_SECONDS):
                async for _ in response:
                    pass
        except (TransportError, RemoteProtocolError):
            pass


async def _whole(codec: Codec, response: WireResponse) -> LLMResponse:
    body = await plain_body(response)
    return codec.decode(response.status, response.headers, body)
