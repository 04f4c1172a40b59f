"""How a model without tools of its own is led to call some, and what one turn of it may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, assert_never

from msgspec import Struct, field

from llm_client.errors import LocalProtocolError
from llm_client.types import LLMRequest, Message, NamedTool, ToolResult, ToolSpec, Transcript

__all__ = ["Emulation", "Turn", "plan"]


class Emulation(Struct, frozen=True, kw_only=True):
    """How tools are explained to a model, and how much it may decide. The defaults suit models that
    follow instructions; the others help very small ones.

    Attributes:
        describe: list the tools and the form of an answer in the system prompt.
        demonstrate: begin the transcript with an exchange per tool, made from its description.
        results_first: show the calls of a question and their results in front of the question, as
            well as the tail of a `Transcript`, which a memory brings up, and let the final answer
            be plain text without a schema. Without it they follow the question as a dialogue.
        one_result: narrow the tool choice "auto": the model has to call until one call of the
            newest question has succeeded, and has to answer afterwards.
        calls_per_question: after so many calls the model has to answer; None for no limit.
        required_only: offer a tool's required parameters only.
        longest_string: characters that a free string among the arguments may have; None for no
            limit. Keeps a model that repeats itself from filling its whole output with one string.
        longest_result: characters of a tool result's text that are shown; what is left out is said.
            None for no limit. Small models read slowly and lose the thread in long texts.
        choices: the values that a string parameter of that name may have, where its schema does
            not say so: file names, for one.
        bound_extra: what to add to `LLMRequest.extra` where the answer is bound to a schema.
    """

    describe: bool = True
    demonstrate: bool = False
    results_first: bool = False
    one_result: bool = False
    calls_per_question: int | None = None
    required_only: bool = False
    longest_string: int | None = None
    longest_result: int | None = None
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    bound_extra: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        for name in ("calls_per_question", "longest_string", "longest_result"):
            limit: int | None = getattr(self, name)
            if limit is not None and limit < 1:
                raise ValueError(f"{name} must be at least 1 or None, not {limit}")


class Turn(Struct, frozen=True):
    """What the model may do next: call one of `tools`, or answer if `answer`."""

    tools: tuple[ToolSpec, ...]
    answer: bool


def plan(request: LLMRequest, emulation: Emulation) -> Turn:
    """What `request` may be answered with.

    Raises:
        LocalProtocolError: the tool choice asks for a tool that is not offered.
    """
    tools = request.tools
    choice = request.tool_choice
    if isinstance(choice, NamedTool):
        named = tuple(tool for tool in tools if tool.name == choice.name)
        if not named:
            raise LocalProtocolError(
                f"tool_choice names {choice.name!r}, which is none of the request's tools",
                rule="C02",
            )
        return Turn(named, answer=False)
    match choice:
        case "none":
            return Turn((), answer=True)
        case "required":
            if not tools:
                raise LocalProtocolError(
                    "tool_choice is 'required', but the request offers no tools", rule="C02"
                )
            return Turn(tools, answer=False)
        case "auto":
            return _free(request, emulation)
        case _:
            assert_never(choice)


def _free(request: LLMRequest, emulation: Emulation) -> Turn:
    if not request.tools:
        return Turn((), answer=True)
    calls, succeeded = _calls_of_newest_question(request.messages)
    if emulation.calls_per_question is not None and calls >= emulation.calls_per_question:
        return Turn((), answer=True)
    if emulation.one_result:
        return Turn((), answer=True) if succeeded else Turn(request.tools, answer=False)
    return Turn(request.tools, answer=True)


def _calls_of_newest_question(messages: Sequence[Message]) -> tuple[int, bool]:
    calls, succeeded = 0, False
    # What a memory brings up may speak as a user, but asks nothing.
    said = messages.stable if isinstance(messages, Transcript) else messages
    for message in reversed(said):
        if message.role == "user":
            break
        calls += len(message.tool_calls)
        succeeded = succeeded or any(
            isinstance(part, ToolResult) and not part.is_error for part in message.parts
        )
    return calls, succeeded
