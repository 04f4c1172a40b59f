"""A vendor-neutral client for language models: typed, streaming, on asyncio and on trio.

    service = create_llm_service("openai:gpt-5")
    answer = await service.complete(LLMRequest([Message.user("Hello")]))

Who lives where, and who may import whom (down only):

    parts  types  stream  errors  retry     values and pure functions
    codec  sse  codecs/                     wire protocols without I/O
    known_models/  pricing  usage           what models can do, what they cost, what was used
    tokens/                                 how many tokens a request has, before it is sent
    transport/                              HTTP exchanges with deadlines
    service  http_service                   the protocol, and its implementation over HTTP
    wrappers/                               services around services: retry, rate, ledger …
    emulated_tools/  structured/            tools for models without; answers as values of a type
    probing                                 what a model really does, measured
    multimodal/                             attachments, and what of them a model can be sent
    images/ embedding/ web_search fetching  small clients over the same transports
    providers  config  registry             from a name or the environment to a service
    testing/                                scripted models, a virtual clock, recorded exchanges

Importing this package loads the values only; everything else is loaded when its name is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from llm_client._lazy import LAZY
from llm_client.codec import Codec, Decoder, HttpRequest
from llm_client.errors import (
    AuthenticationFailed,
    BadRequest,
    CallerError,
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    ContentFiltered,
    ContextOverflow,
    ExceedsLimit,
    IncompleteStream,
    LLMError,
    LocalProtocolError,
    MalformedResponse,
    NotFound,
    Overloaded,
    PermissionDenied,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    RemoteProtocolError,
    ServerError,
    Timeout,
    ToolUseFailed,
    TransportError,
    UnsupportedFeature,
)
from llm_client.retry import FallbackPolicy, GiveUp, RetryIn, RetryPolicy, RetryRule
from llm_client.service import LLMService
from llm_client.stream import (
    Accumulator,
    AttemptVoided,
    Finished,
    PartCompleted,
    PartSealed,
    RefusalDelta,
    ResponseStarted,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStarted,
    UsageReported,
)
from llm_client.types import (
    Audio,
    CachePoint,
    Citation,
    File,
    Image,
    LLMRequest,
    LLMResponse,
    Message,
    NamedTool,
    Opaque,
    OutputSchema,
    Part,
    Role,
    Seal,
    StopReason,
    Text,
    Thinking,
    ToolCall,
    ToolChoice,
    ToolResult,
    ToolSpec,
    Transcript,
    Usage,
    is_compaction,
    new_id,
)

if TYPE_CHECKING:
    from llm_client.codecs.anthropic import AnthropicCodec, AnthropicDialect, anthropic_dialect
    from llm_client.codecs.cohere import CohereCodec
    from llm_client.codecs.gemini import GeminiCodec, GeminiDialect, gemini_dialect
    from llm_client.codecs.ollama import OllamaCodec
    from llm_client.codecs.openai_chat import ChatDialect, OpenAIChatCodec, chat_dialect
    from llm_client.codecs.openai_responses import (
        OpenAIResponsesCodec,
        ResponsesDialect,
        responses_dialect,
    )
    from llm_client.config import LLMProviderConfig
    from llm_client.embedding import Embedder, HttpEmbedder, LocalEmbedder, create_embedder
    from llm_client.emulated_tools import EmulatedTools, Emulation
    from llm_client.fetching import DownloadFailed, FetchRefused, WebFetcher
    from llm_client.http_service import HttpLLMService, RequestDefaults
    from llm_client.images import (
        DashScopeImages,
        ImageService,
        ImagesResult,
        OpenAIImages,
        create_image_service,
        save_images,
    )
    from llm_client.known_models import ModelCapabilities, capabilities, capabilities_from_env
    from llm_client.multimodal import (
        AttachmentTooLarge,
        AttachmentUnreadable,
        FittingMedia,
        MediaLimits,
        attachment,
        fit_request,
        load_attachment,
        media_limits,
    )
    from llm_client.pricing import (
        Ceiling,
        Price,
        PriceBook,
        PricePolicy,
        PriceUnknown,
        PricingStale,
        Rates,
        TablePrices,
    )
    from llm_client.pricing_genai import GenAIPrices
    from llm_client.probing import ProbeReport, ProbeResult, probe
    from llm_client.protocols import PROTOCOLS, codec_for
    from llm_client.providers import PROVIDERS, Provider
    from llm_client.registry import (
        create_llm_service,
        create_llm_service_from_config,
        create_llm_service_from_env,
    )
    from llm_client.structured import (
        OutputEmpty,
        OutputError,
        OutputFiltered,
        OutputInvalid,
        OutputRefused,
        OutputSpec,
        OutputTruncated,
        Partial,
        StructuredOutputError,
        StructuredResult,
        StructuredStream,
        complete_as,
        output_spec,
        parse_structured,
        simplify_schema,
        stream_as,
        strict_schema,
    )
    from llm_client.tokens import Calibration, ModelTokens, TokenCounter, TokenEstimate
    from llm_client.transport.aiohttp_transport import AiohttpTransport
    from llm_client.transport.base import SafeHeaders, Transport, WireRequest, WireResponse
    from llm_client.transport.deadlines import Deadlines
    from llm_client.transport.httpx_transport import HttpxTransport
    from llm_client.usage import UsageLedger, UsageRow, UsageTotals, Used
    from llm_client.web_search import SearchAnswer, SearchResult, WebSearchClient, WebSearchError
    from llm_client.wrappers.circuit_breaker import CircuitBreaker
    from llm_client.wrappers.fallback import Fallback, FallbackNotice
    from llm_client.wrappers.metered import Metered
    from llm_client.wrappers.rate_limiter import RateLimiter, Reservation
    from llm_client.wrappers.retrying import Retrying, RetryNotice
    from llm_client.wrappers.throttled import Throttled

__all__ = [  # noqa: RUF022 - grouped by what they are for
    # asking
    "LLMService",
    "create_llm_service",
    "create_llm_service_from_config",
    "create_llm_service_from_env",
    "LLMProviderConfig",
    "PROVIDERS",
    "Provider",
    # requests
    "LLMRequest",
    "Message",
    "Transcript",
    "Role",
    "Part",
    "Text",
    "Thinking",
    "Image",
    "Audio",
    "File",
    "ToolCall",
    "ToolResult",
    "Opaque",
    "Seal",
    "Citation",
    "CachePoint",
    "ToolSpec",
    "ToolChoice",
    "NamedTool",
    "OutputSchema",
    "is_compaction",
    "new_id",
    # answers
    "LLMResponse",
    "StopReason",
    "Usage",
    # streamed answers
    "StreamEvent",
    "ResponseStarted",
    "TextDelta",
    "ThinkingDelta",
    "RefusalDelta",
    "ToolCallStarted",
    "ToolCallDelta",
    "PartSealed",
    "PartCompleted",
    "UsageReported",
    "Finished",
    "AttemptVoided",
    "Accumulator",
    # errors: see llm_client.errors for the tree
    "LLMError",
    "CallerError",
    "ConfigError",
    "ExceedsLimit",
    "LocalProtocolError",
    "UnsupportedFeature",
    "ProviderError",
    "AuthenticationFailed",
    "PermissionDenied",
    "NotFound",
    "BadRequest",
    "ContextOverflow",
    "ContentFiltered",
    "ToolUseFailed",
    "RateLimited",
    "QuotaExhausted",
    "Overloaded",
    "ServerError",
    "TransportError",
    "ConnectFailed",
    "ConnectionLost",
    "Timeout",
    "RemoteProtocolError",
    "MalformedResponse",
    "IncompleteStream",
    # trying again
    "RetryPolicy",
    "RetryRule",
    "RetryIn",
    "GiveUp",
    "FallbackPolicy",
    # services around services
    "Retrying",
    "RetryNotice",
    "Fallback",
    "FallbackNotice",
    "Throttled",
    "RateLimiter",
    "Reservation",
    "CircuitBreaker",
    "EmulatedTools",
    "Emulation",
    # counting tokens
    "ModelTokens",
    "TokenCounter",
    "TokenEstimate",
    "Calibration",
    # usage and money
    "GenAIPrices",
    "Price",
    "PriceBook",
    "PricePolicy",
    "Rates",
    "Ceiling",
    "TablePrices",
    "PriceUnknown",
    "PricingStale",
    "Metered",
    "UsageLedger",
    "UsageRow",
    "UsageTotals",
    "Used",
    # what models can do
    "probe",
    "ProbeReport",
    "ProbeResult",
    "capabilities",
    "capabilities_from_env",
    "ModelCapabilities",
    # images, sound and files
    "attachment",
    "load_attachment",
    "fit_request",
    "FittingMedia",
    "MediaLimits",
    "media_limits",
    "AttachmentTooLarge",
    "AttachmentUnreadable",
    # answers as values
    "complete_as",
    "stream_as",
    "StructuredResult",
    "StructuredStream",
    "Partial",
    "OutputSpec",
    "output_spec",
    "parse_structured",
    "simplify_schema",
    "strict_schema",
    "StructuredOutputError",
    "OutputError",
    "OutputInvalid",
    "OutputEmpty",
    "OutputTruncated",
    "OutputRefused",
    "OutputFiltered",
    # images out
    "ImageService",
    "ImagesResult",
    "create_image_service",
    "OpenAIImages",
    "DashScopeImages",
    "save_images",
    # texts as vectors
    "Embedder",
    "create_embedder",
    "HttpEmbedder",
    "LocalEmbedder",
    # the web
    "WebSearchClient",
    "SearchAnswer",
    "SearchResult",
    "WebSearchError",
    "WebFetcher",
    "FetchRefused",
    "DownloadFailed",
    # building a service of one's own
    "HttpLLMService",
    "RequestDefaults",
    "Codec",
    "Decoder",
    "HttpRequest",
    "codec_for",
    "PROTOCOLS",
    "OpenAIChatCodec",
    "ChatDialect",
    "chat_dialect",
    "OpenAIResponsesCodec",
    "ResponsesDialect",
    "responses_dialect",
    "AnthropicCodec",
    "AnthropicDialect",
    "anthropic_dialect",
    "GeminiCodec",
    "GeminiDialect",
    "gemini_dialect",
    "CohereCodec",
    "OllamaCodec",
    "Transport",
    "WireRequest",
    "WireResponse",
    "SafeHeaders",
    "Deadlines",
    "HttpxTransport",
    "AiohttpTransport",
]

if not TYPE_CHECKING:
    # Hidden from type checkers, which would otherwise believe that any name exists.
    def __getattr__(name: str) -> object:
        module = LAZY.get(name)
        if module is None:
            raise AttributeError(f"module 'llm_client' has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"llm_client.{module}"), name)
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
