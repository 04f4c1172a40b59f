"""A request with tools, written down for a model that only knows text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import cycle
from typing import Any, cast

from msgspec import structs

from llm_client.emulated_tools.emulation import Emulation, Turn
from llm_client.emulated_tools.schema import answer_schema, narrowed, sample_object
from llm_client.types import (
    File,
    Image,
    LLMRequest,
    Message,
    Opaque,
    OutputSchema,
    Part,
    Text,
    ToolCall,
    ToolResult,
    ToolSpec,
    Transcript,
)

__all__ = ["rewritten"]

_WORDS = ("alpha", "omega", "seven", "north")


def rewritten(request: LLMRequest, turn: Turn, emulation: Emulation) -> LLMRequest:
    """`request` without tools, calls and results. It is bound to a schema, except where a plain
    answer is all that `turn` allows and `emulation` does not want one either. A request that has
    nothing to do with tools is returned as it is, unless it has a tail that belongs in front."""
    dialogue = not emulation.results_first
    said, tail = _without_tail(request.messages)
    if not _speaks_of_tools(request) and (dialogue or not tail):
        return request
    messages = [_shortened(message, emulation.longest_result) for message in said]
    messages = _dialogue([*messages, *tail]) if dialogue else _results_first(messages, tail)
    bound = dialogue or bool(turn.tools)
    output, system, extra = request.output_schema, request.system, request.extra
    if bound:
        output = answer_schema(turn, request.output_schema, emulation)
        extra = {**emulation.bound_extra, **request.extra}
        if emulation.describe:
            system = _described(request, emulation)
        if emulation.demonstrate:
            messages = _demonstrations(turn.tools, emulation) + messages
    return structs.replace(
        request,
        messages=_merged(messages),
        system=system,
        tools=(),
        tool_choice="auto",
        parallel_tool_calls=None,
        output_schema=output,
        extra=extra,
    )


def _speaks_of_tools(request: LLMRequest) -> bool:
    return bool(request.tools) or any(message.tool_calls for message in request.messages)


# ── what the tools are ────────────────────────────────────────────────────────────────────────────


def _described(request: LLMRequest, emulation: Emulation) -> str:
    lines = [
        "Reply with exactly one JSON object and nothing else.",
        f'To give your final answer: {{"answer": {_answer_form(request.output_schema)}}}',
    ]
    if request.tools:
        lines.append('To use a tool: {"tool": "<name>", "arguments": {...}}')
        lines.append("You are then told its result. Use one tool at a time. The tools:")
    for tool in request.tools:
        form = json.dumps(narrowed(tool, emulation), ensure_ascii=False)
        lines.append(f"- {tool.name}: {tool.description}\n  JSON Schema of its arguments: {form}")
    text = "\n".join(lines)
    return f"{request.system}\n\n{text}" if request.system else text


def _answer_form(output: OutputSchema | None) -> str:
    if output is None:
        return '"<text>"'
    return f"<JSON that satisfies {json.dumps(output.schema, ensure_ascii=False)}>"


def _demonstrations(tools: tuple[ToolSpec, ...], emulation: Emulation) -> list[Message]:
    """One exchange per tool, or two for a single one. The task says the arguments, so that they are
    seen to be copied; what is seen once only is taken for the rule."""
    messages: list[Message] = []
    words = cycle(_WORDS)
    for number, tool in enumerate(tools * 2 if len(tools) == 1 else tools):
        arguments = sample_object(narrowed(tool, emulation), words)
        task = tool.description.strip().partition("\n")[0].rstrip(".")
        task += f": {' '.join(map(str, arguments.values()))}" if arguments else "."
        call = _call_text(tool.name, json.dumps(arguments, ensure_ascii=False))
        messages += (
            Message("user", (Text(task),), id=f"task-{number}"),
            Message("assistant", (Text(call),), id=f"call-{number}"),
        )
    return messages


# ── what has happened ─────────────────────────────────────────────────────────────────────────────


def _shortened(message: Message, limit: int | None) -> Message:
    if message.role != "tool" or limit is None:
        return message
    parts = [_cut(part, limit) if isinstance(part, ToolResult) else part for part in message.parts]
    return structs.replace(message, parts=tuple(parts))


def _cut(result: ToolResult, limit: int) -> ToolResult:
    content: list[Text | Image | File | Opaque] = []
    for part in result.content:
        if not isinstance(part, Text) or len(part.text) <= limit:
            content.append(part)
        else:
            rest = len(part.text) - limit
            content.append(Text(f"{part.text[:limit]}\n(… {rest} characters left out)"))
    return structs.replace(result, content=tuple(content))


def _dialogue(messages: Sequence[Message]) -> list[Message]:
    """Calls as the assistant's JSON, results as the user's text, in the order they came."""
    calls: dict[str, ToolCall] = {}
    shown: list[Message] = []
    for message in messages:
        parts: list[Part] = []
        for part in message.parts:
            match part:
                case ToolCall():
                    calls[part.id] = part
                    parts.append(Text(_call_text(part.name, part.arguments)))
                case ToolResult():
                    name = calls[part.call_id].name if part.call_id in calls else "a tool"
                    state = "failed" if part.is_error else "returned"
                    parts += (Text(f"{name} {state}:"), *part.content)
                case _:
                    parts.append(part)
        role = "user" if message.role == "tool" else message.role
        shown.append(structs.replace(message, role=role, parts=tuple(parts)))
    return shown


def _without_tail(messages: Sequence[Message]) -> tuple[Sequence[Message], Sequence[Message]]:
    if not isinstance(messages, Transcript):
        return messages, ()
    return messages.stable, messages.tail


def _results_first(messages: Sequence[Message], tail: Sequence[Message]) -> list[Message]:
    """The calls of each question and their results inside its own message, in front of it; and
    ahead of the newest one, what the tail says."""
    calls: dict[str, ToolCall] = {}
    shown: list[Message] = []
    question: Message | None = None
    context: list[Part] = []
    for message in messages:
        if message.role == "tool" or message.tool_calls:
            calls |= {call.id: call for call in message.tool_calls}
            for part in message.parts:
                context += _as_context(part, calls)
            continue
        if question is not None or context:
            shown.append(_asked(question, context))
        question, context = (message, []) if message.role == "user" else (None, [])
        if question is None:
            shown.append(message)
    context = [part for message in tail for part in message.parts] + context
    if question is not None or context:
        shown.append(_asked(question, context))
    return shown


def _as_context(part: Part, calls: dict[str, ToolCall]) -> list[Part]:
    if isinstance(part, ToolCall):
        return []
    if not isinstance(part, ToolResult):
        return [part]
    label = _label(calls.get(part.call_id))
    state = ", failed" if part.is_error else ""
    return [Text(f"Context ({label}{state}):"), *part.content]


def _asked(question: Message | None, context: list[Part]) -> Message:
    if question is None:
        return Message("user", tuple(context))
    if not context:
        return question
    # "Question:" belongs to the first line of the question, hence to its first text.
    parts = list(question.parts)
    at = next((i for i, part in enumerate(parts) if isinstance(part, Text)), None)
    if at is not None:
        parts[at] = Text(f"Question: {cast('Text', parts[at]).text}")
    return structs.replace(question, parts=(*context, *parts))


def _label(call: ToolCall | None) -> str:
    if call is None:
        return "a tool"
    values = [str(value) for value in _arguments(call).values()]
    return " ".join([call.name, *values])


def _arguments(call: ToolCall) -> dict[str, Any]:
    try:
        value = json.loads(call.arguments)
    except ValueError:
        return {"": call.arguments}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {"": value}


def _call_text(name: str, arguments: str) -> str:
    try:
        json.loads(arguments)
    except ValueError:
        # A call cut off in the middle stays visible as what it was: text.
        arguments = json.dumps(arguments, ensure_ascii=False)
    return f'{{"tool": {json.dumps(name, ensure_ascii=False)}, "arguments": {arguments}}}'


def _merged(messages: Sequence[Message]) -> list[Message]:
    """Neighbours of one role as one message, and neighbouring texts as one text: many chat
    templates insist on turns."""
    merged: list[Message] = []
    for message in messages:
        if merged and merged[-1].role == message.role:
            last = merged[-1]
            merged[-1] = structs.replace(last, parts=last.parts + message.parts)
        else:
            merged.append(message)
    return [structs.replace(message, parts=_joined(message.parts)) for message in merged]


def _joined(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    joined: list[Part] = []
    for part in parts:
        last = joined[-1] if joined else None
        if isinstance(part, Text) and isinstance(last, Text):
            between = "\n" if last.text.endswith(":") else "\n\n"
            joined[-1] = Text(f"{last.text.rstrip()}{between}{part.text}")
        else:
            joined.append(part)
    return tuple(joined)
