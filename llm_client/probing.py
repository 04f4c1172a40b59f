"""What a model really does, measured with tiny requests.

    report = await probe(service)
    report.capabilities                 # what was seen to be so, or not to be so
    capabilities("compatible", "my-model", report.capabilities)

A verdict is "yes" where the model did it, "no" where the request was refused for it or its answer
shows that it was ignored, and "inconclusive" otherwise; the evidence is beside it. All requests
together take some 1,500 tokens, and reasoning.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Literal

import anyio
import msgspec
from msgspec import Struct, structs

from llm_client.config import LLMProviderConfig
from llm_client.errors import (
    AuthenticationFailed,
    BadRequest,
    LLMError,
    NotFound,
    PermissionDenied,
    QuotaExhausted,
    UnsupportedFeature,
    excerpt,
)
from llm_client.known_models import ModelCapabilities
from llm_client.registry import create_llm_service_from_config
from llm_client.service import LLMService
from llm_client.types import (
    Image,
    LLMRequest,
    LLMResponse,
    Message,
    OutputSchema,
    Thinking,
    ToolChoice,
    ToolSpec,
    Usage,
)

__all__ = ["ErrorKind", "ProbeReport", "ProbeResult", "Verdict", "probe"]

Verdict = Literal["yes", "no", "inconclusive"]

ErrorKind = Literal["balance", "auth", "forbidden", "model_missing", "refused", "unavailable"]
"""Why a request failed. The first four block everything else: no money left, no valid key, not
allowed, no such model. "refused" is about the request, "unavailable" about the moment."""

_BLOCKING: frozenset[ErrorKind] = frozenset(("balance", "auth", "forbidden", "model_missing"))

# A model that reasons needs room for it before it says anything.
_ROOM = 600
_EVIDENCE = 160


class ProbeResult(Struct, frozen=True):
    """What was found out about one capability.

    Attributes:
        capability: "answer", that it answers at all, or a field of `ModelCapabilities`.
        verdict: whether it has it.
        evidence: an excerpt of the answer or of the error, in a line.
        error_kind: why the request failed, None if it did not.
    """

    capability: str
    verdict: Verdict
    evidence: str
    error_kind: ErrorKind | None = None


class ProbeReport(Struct, frozen=True):
    """What was found out about one model.

    Attributes:
        model: the model that was asked.
        results: one for each capability; only the first ones if something blocked the others.
        blocked: what that was, None if nothing did.
        usage: the tokens that it took, as far as the provider counted them.
    """

    model: str
    results: tuple[ProbeResult, ...]
    blocked: ErrorKind | None
    usage: Usage

    @property
    def capabilities(self) -> ModelCapabilities:
        """What was measured; None where it was inconclusive."""
        known = {
            result.capability: result.verdict == "yes"
            for result in self.results
            if result.verdict != "inconclusive" and result.capability != _ANSWER
        }
        return structs.replace(ModelCapabilities(), **known)


async def probe(
    target: LLMService | LLMProviderConfig, model: str | None = None, *, seconds: float = 60.0
) -> ProbeReport:
    """Asks `model`, by default the target's own, what it can do: one request after the other, each
    for at most `seconds`. For a configuration, a service is made and closed.

    Errors of the model and its provider are results. An error that blocks everything (no money, no
    valid key, not allowed, no such model) ends it at once, as does a model that does not answer a
    plain question.

    Raises:
        ConfigError: no service can be made from the configuration.
    """
    if not isinstance(target, LLMProviderConfig):
        return await _probed(target, model, seconds)
    service = create_llm_service_from_config(target)
    try:
        return await _probed(service, model, seconds)
    finally:
        with anyio.CancelScope(shield=True):
            await service.aclose()


async def _probed(service: LLMService, model: str | None, seconds: float) -> ProbeReport:
    asked = _Asked(service, model, seconds)
    results: list[ProbeResult] = []
    blocked: ErrorKind | None = None
    for capability, check in _CHECKS.items():
        result = await asked.result(capability, check)
        results.append(result)
        if result.error_kind in _BLOCKING:
            blocked = result.error_kind
        if blocked is not None or (capability == _ANSWER and result.verdict != "yes"):
            break
    return ProbeReport(model or service.model, tuple(results), blocked, asked.usage)


class _Found(Struct, frozen=True):
    verdict: Verdict
    evidence: str
    error_kind: ErrorKind | None = None


class _Asked:
    """The model under examination, what it took, and how it let itself be asked for tools."""

    def __init__(self, service: LLMService, model: str | None, seconds: float) -> None:
        self._service = service
        self._model = model
        self._seconds = seconds
        self._answered = False
        self.usage = Usage()
        self.tool_choice: ToolChoice | None = None

    async def result(
        self, capability: str, check: Callable[[_Asked], Awaitable[_Found]]
    ) -> ProbeResult:
        try:
            with anyio.fail_after(self._seconds):
                found = await check(self)
        except TimeoutError:
            found = _Found("inconclusive", f"no answer in {self._seconds:g} s", "unavailable")
        except LLMError as error:
            found = self._failed(error)
        else:
            self._answered = True
        return ProbeResult(capability, found.verdict, found.evidence, found.error_kind)

    async def ask(self, request: LLMRequest) -> LLMResponse:
        request = structs.replace(request, model=self._model, max_output_tokens=_ROOM)
        response = await self._service.complete(request)
        self.usage += response.usage
        return response

    def _failed(self, error: LLMError) -> _Found:
        told = _line(f"{type(error).__name__}: {error}")
        kind = _kind_of(error)
        if self._answered and kind in ("model_missing", "forbidden"):
            # A gateway that has nobody to do this with the model says that there is no such model.
            kind = "refused"
        refused = kind == "refused" and self._answered
        return _Found("no" if refused else "inconclusive", told, kind)


def _kind_of(error: LLMError) -> ErrorKind:
    match error:
        case QuotaExhausted():
            return "balance"
        case AuthenticationFailed():
            return "auth"
        case PermissionDenied():
            return "forbidden"
        case NotFound():
            return "model_missing"
        case BadRequest() | UnsupportedFeature():
            return "refused"
        case _:
            return "unavailable"


# ── the checks ────────────────────────────────────────────────────────────────────────────────────

_ANSWER = "answer"


async def _answers(asked: _Asked) -> _Found:
    response = await asked.ask(LLMRequest([Message.user("Say ok.")]))
    said = bool(response.text.strip() or response.refusal)
    return _Found("yes" if said else "inconclusive", _told(response))


async def _temperature(asked: _Asked) -> _Found:
    response = await asked.ask(LLMRequest([Message.user("Say ok.")], temperature=0.5))
    return _Found("yes", _told(response))


_REPORT = ToolSpec(
    "report_colour",
    "Reports one colour. To report several colours, call it once for each.",
    {
        "type": "object",
        "properties": {"colour": {"type": "string", "enum": ["red", "blue"]}},
        "required": ["colour"],
        "additionalProperties": False,
    },
)


async def _tools(asked: _Asked) -> _Found:
    request = LLMRequest(
        [Message.user("Report the colour red with the tool.")],
        tools=(_REPORT,),
        tool_choice="required",
    )
    choice: ToolChoice = "required"
    try:
        response = await asked.ask(request)
    except (BadRequest, UnsupportedFeature):
        # Some models have tools, but do not let themselves be forced to use them.
        choice = "auto"
        response = await asked.ask(structs.replace(request, tool_choice=choice))
    if not response.tool_calls:
        ignored = choice == "required" and not response.truncated
        return _Found("no" if ignored else "inconclusive", f"no call, but {_told(response)}")
    call = response.tool_calls[0]
    told = _line(f"{call.name}({call.arguments})")
    if call.name != _REPORT.name or "colour" not in _object(call.arguments):
        return _Found("inconclusive", told)
    asked.tool_choice = choice
    return _Found("yes", told)


async def _parallel_tools(asked: _Asked) -> _Found:
    if asked.tool_choice is None:
        return _Found(
            "inconclusive", "it did not call one tool properly, so several were not tried"
        )
    response = await asked.ask(
        LLMRequest(
            [Message.user("Report the colours red and blue: both calls now, at once.")],
            tools=(_REPORT,),
            tool_choice=asked.tool_choice,
            parallel_tool_calls=True,
        )
    )
    calls = response.tool_calls
    told = _line(", ".join(f"{call.name}({call.arguments})" for call in calls))
    return _Found("yes" if len(calls) > 1 else "inconclusive", told or _told(response))


_LEGS = OutputSchema(
    "spider",
    {
        "type": "object",
        "properties": {"legs": {"type": "integer"}, "insect": {"type": "boolean"}},
        "required": ["legs", "insect"],
        "additionalProperties": False,
    },
)


async def _json_schema(asked: _Asked) -> _Found:
    response = await asked.ask(
        LLMRequest([Message.user("Tell me about spiders in a sentence.")], output_schema=_LEGS)
    )
    if response.truncated:
        return _Found("inconclusive", f"cut off: {_told(response)}")
    match _object(response.text):
        case {"legs": int(), "insect": bool(), **rest} if not rest:
            return _Found("yes", _told(response))
        case _:
            return _Found("no", f"not in the form of the schema: {_told(response)}")


_STRIPES = MappingProxyType(
    {"yellow": b"\xff\xe6\x00", "blue": b"\x00\x30\xff", "green": b"\x00\xa0\x20"}
)
_EDGE = 96


async def _images(asked: _Asked) -> _Found:
    question = (
        "The picture has three vertical stripes, each of another colour. Name the three colours "
        "from left to right, in English, nothing else."
    )
    picture = Image(_striped(), media_type="image/png")
    response = await asked.ask(LLMRequest([Message.user(question, picture)]))
    text = response.text.lower()
    places = [text.find(colour) for colour in _STRIPES]
    seen = -1 not in places and places == sorted(places)
    return _Found("yes" if seen else "inconclusive", _told(response))


def _striped() -> bytes:
    """A PNG file of three vertical stripes."""
    row = b"\0" + b"".join(colour * (_EDGE // len(_STRIPES)) for colour in _STRIPES.values())

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", _EDGE, _EDGE, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(row * _EDGE)), chunk(b"IEND", b""))
    )


async def _thinking(asked: _Asked) -> _Found:
    response = await asked.ask(
        LLMRequest([Message.user("Is 391 a prime number?")], reasoning_effort="low")
    )
    thoughts = [part.text for part in response.parts if isinstance(part, Thinking)]
    if thoughts:
        return _Found("yes", _line("reasoned: " + " ".join(thoughts)))
    if response.usage.reasoning_tokens:
        return _Found("yes", f"{response.usage.reasoning_tokens} tokens of reasoning")
    return _Found("inconclusive", f"no reasoning shown or counted: {_told(response)}")


_CHECKS: Mapping[str, Callable[[_Asked], Awaitable[_Found]]] = MappingProxyType(
    {
        _ANSWER: _answers,
        "temperature": _temperature,
        "tools": _tools,
        "parallel_tools": _parallel_tools,
        "json_schema": _json_schema,
        "images": _images,
        "thinking": _thinking,
    }
)


def _told(response: LLMResponse) -> str:
    text = response.refusal or response.text
    return repr(excerpt(text, _EVIDENCE)) if text.strip() else "an empty answer"


def _line(text: str) -> str:
    """An excerpt that can be shown on a terminal, whoever has written the text."""
    return "".join([c if c.isprintable() else "\ufffd" for c in excerpt(text, _EVIDENCE)])


def _object(text: str) -> dict[str, object]:
    try:
        return msgspec.json.decode(text, type=dict[str, object])
    except (ValueError, RecursionError):
        return {}
