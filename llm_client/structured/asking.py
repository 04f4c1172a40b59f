"""Asking for a value: in which way, and what is said to a model whose answer does not fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial, reduce
from operator import add
from types import MappingProxyType
from typing import Any, Generic, Literal, TypeVar, overload

from msgspec import Struct, structs

from llm_client.errors import ConfigError, UnsupportedFeature, excerpt
from llm_client.service import LLMService
from llm_client.structured.errors import (
    OutputEmpty,
    OutputError,
    OutputFiltered,
    OutputInvalid,
    OutputRefused,
    OutputTruncated,
    StructuredOutputError,
)
from llm_client.structured.spec import OutputSpec, output_spec
from llm_client.types import (
    LLMRequest,
    LLMResponse,
    Message,
    NamedTool,
    Part,
    StopReason,
    Text,
    ToolCall,
    ToolSpec,
    Usage,
)

__all__ = ["Asking", "StructuredResult", "Way", "asking_for", "complete_as"]

T = TypeVar("T")

Way = Literal["native", "tool", "prompted"]
"""How a model is brought to answer in a form: by `LLMRequest.output_schema`, by one tool that it
has to call and whose arguments are the answer, or by words in the system prompt."""

_EMPTY = "the answer is empty"


class StructuredResult(Struct, Generic[T], frozen=True):
    """A value that a model gave.

    Attributes:
        value: the value.
        responses: all answers, those that did not fit included; the last one holds the value.
        usage: the tokens of all of them.
        way: how the model was asked.
    """

    value: T
    responses: tuple[LLMResponse, ...]
    usage: Usage
    way: Way


@overload
async def complete_as(
    service: LLMService,
    request: LLMRequest,
    output_type: type[T] | OutputSpec[T],
    *,
    way: Way | Literal["auto"] = "auto",
    reasks: int = 2,
) -> StructuredResult[T]: ...
@overload
async def complete_as(
    service: LLMService,
    request: LLMRequest,
    output_type: Any,
    *,
    way: Way | Literal["auto"] = "auto",
    reasks: int = 2,
) -> StructuredResult[Any]: ...
async def complete_as(
    service: LLMService,
    request: LLMRequest,
    output_type: Any,
    *,
    way: Way | Literal["auto"] = "auto",
    reasks: int = 2,
) -> StructuredResult[Any]:
    """The answer to `request` as a value of `output_type`.

    An answer that does not fit is given back to the model with what is wrong with it, at most
    `reasks` times. One that was cut off, declined or withheld is not asked for again.

    Args:
        service: who is asked.
        request: the question; it offers no tools, for nobody would run them.
        output_type: as for `output_spec`, or what that gave.
        way: how the model is brought to it; "auto" takes the first of native, tool and prompted
            that the service can put into wire form.
        reasks: how often the model may correct itself.

    Raises:
        OutputError: the model has answered, and there is no value to be had; its class says why.
        ConfigError: there is no schema for `output_type`, or no such way.
        UnsupportedFeature: the request offers tools, or cannot be made in this way.
        LLMError: a request failed.
    """
    asking = asking_for(service, request, output_type, way, reasks)
    while True:
        result = asking.take(await service.complete(asking.request))
        if result is not None:
            return result


def asking_for(
    service: LLMService,
    request: LLMRequest,
    output_type: Any,
    way: Way | Literal["auto"],
    reasks: int,
) -> Asking[Any]:
    """The exchange about one value; arguments and errors are those of `complete_as`."""
    if request.tools or request.output_schema is not None:
        raise UnsupportedFeature(
            "the request offers tools or has an output_schema of its own; leave them out: the "
            "answer's form is that of the type, and nobody would run the tools"
        )
    spec = output_spec(output_type)
    if way == "auto":
        return Asking(*_first_possible(service, request, spec), spec, reasks)
    if way not in _FORMS:
        raise ConfigError(f"there is no way {way!r}; choose auto, {', '.join(_FORMS)}")
    return Asking(_FORMS[way](request, spec), way, spec, reasks)


# ── ways ──────────────────────────────────────────────────────────────────────────────────────────


def _native(request: LLMRequest, spec: OutputSpec[Any]) -> LLMRequest:
    return structs.replace(request, output_schema=spec.schema)


def _with_tool(request: LLMRequest, spec: OutputSpec[Any]) -> LLMRequest:
    tool = ToolSpec(
        spec.name,
        "Takes your answer. Call it once, with the whole answer.",
        spec.schema.schema,
        strict=spec.schema.strict or None,
    )
    return structs.replace(request, tools=(tool,), tool_choice=NamedTool(spec.name))


def _prompted(request: LLMRequest, spec: OutputSpec[Any]) -> LLMRequest:
    system = spec.prompt if request.system is None else f"{request.system}\n\n{spec.prompt}"
    return structs.replace(request, system=system)


_FORMS: Mapping[Way, Callable[[LLMRequest, OutputSpec[Any]], LLMRequest]] = MappingProxyType(
    {"native": _native, "tool": _with_tool, "prompted": _prompted}
)


def _first_possible(
    service: LLMService, request: LLMRequest, spec: OutputSpec[Any]
) -> tuple[LLMRequest, Way]:
    ways: tuple[Way, ...] = ("native", "tool") if service.binds_output else ("tool",)
    for way in ways:
        asked = _FORMS[way](request, spec)
        try:
            service.check(asked)
        except UnsupportedFeature:
            continue
        return asked, way
    return _prompted(request, spec), "prompted"


# ── the exchange ──────────────────────────────────────────────────────────────────────────────────


class Asking(Generic[T]):
    """One value, asked for until it is there: `request` goes to the model, its answer into `take`.

    Attributes:
        request: what to ask next.
        way: how the model is brought to the form.
        spec: what the answer must be.
    """

    def __init__(self, request: LLMRequest, way: Way, spec: OutputSpec[T], reasks: int) -> None:
        self.request = request
        self.way: Way = way
        self.spec = spec
        self._reasks = reasks
        self._responses: list[LLMResponse] = []
        self._faults: list[str] = []

    def take(self, response: LLMResponse) -> StructuredResult[T] | None:
        """The value that `response` gives; None if the model is to be asked again.

        Raises:
            OutputError: there is no value to be had.
        """
        self._responses.append(response)
        self._refuse_ending(response)
        text = self._answer(response)
        if response.stop_reason is StopReason.PAUSE:
            # A turn that the provider has interrupted goes on when it sees it again.
            self._fail_or_go_on("the provider paused before there was an answer", text)
            self._say(Message("assistant", response.parts))
            return None
        try:
            value = self.spec.parse(text)
        except StructuredOutputError as error:
            fault = error.message if text.strip() else _EMPTY
            self._fail_or_go_on(fault, text)
            self._say(*self._correction(response, fault))
            return None
        return StructuredResult(value, tuple(self._responses), self._usage, self.way)

    @property
    def _usage(self) -> Usage:
        return reduce(add, [response.usage for response in self._responses])

    def _answer(self, response: LLMResponse) -> str:
        """What the model gives as its answer. A forced call may come as text all the same."""
        if self.way == "tool" and response.tool_calls:
            return response.tool_calls[0].arguments
        return response.text

    def _refuse_ending(self, response: LLMResponse) -> None:
        make = partial(self._error, text=self._answer(response))
        match response.stop_reason:
            case _ if response.refusal is not None:
                said = excerpt(response.refusal)
                raise make(OutputRefused, f"the model declined to answer: {said}")
            case StopReason.REFUSAL:
                raise make(OutputRefused, "the model declined to answer")
            case StopReason.CONTENT_FILTER:
                raise make(OutputFiltered, "the provider's filter withheld the answer")
            case StopReason.LENGTH:
                raise make(
                    OutputTruncated,
                    "the answer was cut off at the output limit; raise max_output_tokens, or ask "
                    "for less",
                )
            case _:
                pass

    def _fail_or_go_on(self, fault: str, text: str) -> None:
        self._faults.append(fault)
        if len(self._faults) > self._reasks:
            kind = OutputEmpty if fault is _EMPTY else OutputInvalid
            told = f"there is no {self.spec.name!r} after {self._reasks} re-asks: {fault}"
            raise self._error(kind, told, text=text)

    def _error(self, kind: type[OutputError], message: str, *, text: str) -> OutputError:
        return kind(message, text=text, faults=tuple(self._faults), usage=self._usage)

    def _say(self, *messages: Message) -> None:
        self.request = structs.replace(self.request, messages=[*self.request.messages, *messages])

    def _correction(self, response: LLMResponse, fault: str) -> list[Message]:
        """The answer as it was, and what is wrong with it."""
        told = f"Your answer does not fit the required format: {fault}"
        calls = response.tool_calls if self.way == "tool" else ()
        if calls:
            words = [f"{told}\nCall the tool again.", *["Answer in one call only."] * len(calls)]
            results = [
                Message.tool(call.id, text, is_error=True)
                for call, text in zip(calls, words, strict=False)
            ]
            return [Message("assistant", response.parts), *results]
        ask = Message.user(f"{told}\nAnswer again with valid JSON only.")
        # A call that nobody asked for has no result, and what is empty is no message.
        parts = tuple([part for part in response.parts if not isinstance(part, ToolCall)])
        return [Message("assistant", parts), ask] if _says_something(parts) else [ask]


def _says_something(parts: tuple[Part, ...]) -> bool:
    return any(isinstance(part, Text) and part.text.strip() for part in parts)
