"""One Responses answer, put together from events or from a whole body.

    created ─► for each item: added, deltas, done ─► completed | incomplete | failed

A body that comes whole is read as an end that tells everything. Pieces of text take a fast path.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from llm_client.codecs._http_errors import error_from_value
from llm_client.codecs._json import (
    as_dict,
    as_list,
    is_array,
    is_object,
    loads,
    mend,
)
from llm_client.codecs._usage import read_usage
from llm_client.codecs.openai_responses._dialect import ResponsesDialect
from llm_client.codecs.openai_responses._events import TEXT_DELTA, Event, decode_event
from llm_client.codecs.openai_responses._items import (
    CallItem,
    MessageItem,
    ReasoningItem,
    text_of,
)
from llm_client.codecs.openai_responses._log import ItemLog
from llm_client.errors import MalformedResponse, excerpt
from llm_client.stream import (
    Finished,
    ResponseStarted,
    StreamEvent,
    ToolCallDelta,
    UsageReported,
)
from llm_client.types import StopReason, Usage

__all__ = ["ResponsesAnswer"]


class ResponsesAnswer:
    """The state of one answer. `take` events or `take_whole`, then `finish`."""

    __slots__ = (
        "_begun",
        "_dialect",
        "_items",
        "_reason",
        "_usage",
        "raw_finish",
    )

    def __init__(self, dialect: ResponsesDialect) -> None:
        self._dialect = dialect
        self._begun = False
        self._items = ItemLog(dialect.origin)
        self._usage: Usage | None = None
        self._reason = StopReason.OTHER
        self.raw_finish: str | None = None

    @property
    def seen(self) -> bool:
        """Some part of an answer has arrived."""
        return self._begun

    @property
    def complete(self) -> bool:
        """The answer's own end has been seen."""
        return self.raw_finish is not None

    @property
    def over(self) -> bool:
        """Nothing follows the end."""
        return self.raw_finish is not None

    def take(self, payload: bytes, out: list[StreamEvent]) -> None:
        """Takes the next event in and appends what it says to `out`.

        Raises:
            LLMError: the event is an error, or makes no sense.
        """
        try:
            event = decode_event(payload)
        except (ValueError, RecursionError):
            pass
        else:
            if event.type == TEXT_DELTA and event.delta is not None:
                self._take_text(event, event.delta, out)
                return
        self._take_event(_event(payload), out)

    def take_whole(self, body: object, out: list[StreamEvent]) -> None:
        """Takes in the body of an answer that was not streamed.

        Raises:
            LLMError: it is an error, or makes no sense.
        """
        value = as_dict(next(iter(body), None) if is_array(body) else body)
        output = value.get("output")
        if value.get("error") or (not is_array(output) and _complains(value)):
            raise error_from_value(self._dialect.provider, value)
        if not is_array(output):
            raise MalformedResponse(
                "the answer holds no output; check that the address is a Responses endpoint. It "
                f"holds: {excerpt(str(value), 200)}"
            )
        self._end(value, text_of(value.get("status")) or "completed", out)

    def finish(self, out: list[StreamEvent]) -> None:
        """Appends the last events.

        Raises:
            MalformedResponse: a tool call never got a name.
        """
        for item in self._items:
            self._items.close(item, None, out)
        calls = [item for item in self._items if isinstance(item, CallItem)]
        reason = self._reason
        if reason is StopReason.END:
            refused = any(isinstance(item, MessageItem) and item.refused for item in self._items)
            reason = StopReason.REFUSAL if refused else reason
            reason = StopReason.TOOL_CALLS if calls else reason
        if reason not in (StopReason.LENGTH, StopReason.CONTENT_FILTER):
            out.extend(ToolCallDelta(call.index, "{}") for call in calls if not call.any)
        out.append(Finished(reason, self.raw_finish))

    # ── events ────────────────────────────────────────────────────────────────────────────────────

    def _take_event(self, event: dict[str, Any], out: list[StreamEvent]) -> None:
        kind = text_of(event.get("type"))
        if kind == "error" or (event.get("error") and "response" not in event):
            raise error_from_value(self._dialect.provider, event)
        handler = _HANDLERS.get(kind)
        if handler is not None:
            self._begin(as_dict(event.get("response")), out)
            handler(self, event, out)

    def _take_text(self, event: Event, delta: str, out: list[StreamEvent]) -> None:
        """The usual event."""
        self._begin({}, out)
        item = self._items.at(event.output_index, event.item_id)
        if not isinstance(item, MessageItem):
            place = {"output_index": event.output_index, "item_id": event.item_id}
            item = self._items.found(place, MessageItem, out)
        if not item.closed:
            item.say(event.content_index, delta, self._items.behind(item, out))

    def take_beginning(self, event: dict[str, Any], out: list[StreamEvent]) -> None:
        """The answer has begun, which is told already; a second beginning says nothing new."""

    def take_added(self, event: dict[str, Any], out: list[StreamEvent]) -> None:
        """An item begins."""
        fields = as_dict(event.get("item"))
        if text_of(fields.get("type")) and self._items.known(event, fields) is None:
            self._items.add(fields, event.get("output_index"), out)

    def take_done(self, event: dict[str, Any], out: list[StreamEvent]) -> None:
        """An item is whole."""
        fields = as_dict(event.get("item"))
        if text_of(fields.get("type")):
            item = self._items.known(event, fields)
            if item is None:
                item = self._items.add(fields, event.get("output_index"), out)
            self._items.close(item, fields, out)

    def take_text(self, event: dict[str, Any], out: list[StreamEvent]) -> None:
        """A piece of text, in an unusual form."""
        item = self._items.found(event, MessageItem, out)
        if not item.closed:
            piece = text_of(event.get("delta"))
            item.say(_number(event.get("content_index")), piece, self._items.behind(item, out))

    def take_refusal(self, event: dict[str, Any], out: list[StreamEvent]) -> None:
        """A piece of a refusal."""
        item = self._items.found(event, MessageItem, out)
        if not item.closed:
            piece = text_of(event.get("delta"))
            item.refuse(_number(event.get("content_index")), piece, self._items.behind(item, out))

    def take_block(self, event: dict[str, Any], out: list[StreamEvent]) -> None:
        """A whole block of a message or of reasoning."""
        part = as_dict(event.get("part")) or event
        if part.get("type") == "reasoning_text":
            self.take_reasoning_text(event | part, out)
            return
        item = self._items.found(event, MessageItem, out)
        if not item.closed:
            item.take_block(
                _number(event.get("content_index")), part, self._items.behind(item, out)
            )

    def take_source(self, event: dict[str, Any], out: list[StreamEvent]) -> None:
        """A source that the text cites."""
        item = self._items.place(event, MessageItem)
        if item is not None:
            item.cite(_number(event.get("content_index")), event.get("annotation"))

    def take_summary(self, event: dict[str, Any], out: list[StreamEvent]) -> None:
        """A piece of a summary of the reasoning, or a part of it as a whole."""
        self._think("summary", _number(event.get("summary_index")), event, out)

    def take_reasoning_text(self, event: dict[str, Any], out: list[StreamEvent]) -> None:
        """A piece of the reasoning itself, or a part of it as a whole."""
        self._think("content", _number(event.get("content_index")), event, out)

    def _think(self, field: str, part: int, event: dict[str, Any], out: list[StreamEvent]) -> None:
        item = self._items.found(event, ReasoningItem, out)
        if item.closed:
            return
        to = self._items.behind(item, out)
        if "delta" in event:
            item.think(field, part, text_of(event["delta"]), to)
        else:
            item.think_whole(field, part, event.get("text"), to)

    def take_arguments(self, event: dict[str, Any], out: list[StreamEvent]) -> None:
        """A piece of a call's arguments, or all of them."""
        item = self._items.place(event, CallItem)
        if item is None or item.closed:
            return  # The whole call, which alone tells whose arguments these are, is yet to come.
        to = self._items.behind(item, out)
        if "delta" in event:
            item.extend(text_of(event["delta"]), to)
        else:
            item.extend_whole(event, to)

    def take_end(self, event: dict[str, Any], out: list[StreamEvent]) -> None:
        """The answer has come to its end, good or bad."""
        response = as_dict(event.get("response"))
        self._end(response, text_of(event.get("type")).rpartition(".")[2], out)

    # ── beginning and end ─────────────────────────────────────────────────────────────────────────

    def _begin(self, response: dict[str, Any], out: list[StreamEvent]) -> None:
        if not self._begun:
            self._begun = True
            id, model = text_of(response.get("id")), text_of(response.get("model"))
            out.append(ResponseStarted(mend(id) or None, mend(model) or None))

    def _end(self, response: dict[str, Any], status: str, out: list[StreamEvent]) -> None:
        self._begin(response, out)
        status = mend(text_of(response.get("status"))) or status
        usage = read_usage(response.get("usage"), trust_total=False)
        if usage is not None and usage != self._usage:
            self._usage = usage
            out.append(UsageReported(usage))
        if status == "failed" or response.get("error"):
            raise error_from_value(self._dialect.provider, {"error": response.get("error")})
        self._items.settle(as_list(response.get("output")), out)
        why = text_of(as_dict(response.get("incomplete_details")).get("reason"))
        self._reason = _stop_reason(status, why)
        self.raw_finish = status


_Handler = Callable[[ResponsesAnswer, dict[str, Any], list[StreamEvent]], None]

_HANDLERS: Mapping[str, _Handler] = MappingProxyType(
    {
        "response.created": ResponsesAnswer.take_beginning,
        "response.queued": ResponsesAnswer.take_beginning,
        "response.in_progress": ResponsesAnswer.take_beginning,
        "response.output_item.added": ResponsesAnswer.take_added,
        "response.output_item.done": ResponsesAnswer.take_done,
        "response.output_text.delta": ResponsesAnswer.take_text,
        "response.output_text.done": ResponsesAnswer.take_block,
        "response.output_text.annotation.added": ResponsesAnswer.take_source,
        "response.content_part.done": ResponsesAnswer.take_block,
        "response.refusal.delta": ResponsesAnswer.take_refusal,
        "response.refusal.done": ResponsesAnswer.take_block,
        "response.reasoning_summary_text.delta": ResponsesAnswer.take_summary,
        "response.reasoning_summary_text.done": ResponsesAnswer.take_summary,
        "response.reasoning_text.delta": ResponsesAnswer.take_reasoning_text,
        "response.reasoning_text.done": ResponsesAnswer.take_reasoning_text,
        "response.function_call_arguments.delta": ResponsesAnswer.take_arguments,
        "response.function_call_arguments.done": ResponsesAnswer.take_arguments,
        "response.custom_tool_call_input.delta": ResponsesAnswer.take_arguments,
        "response.custom_tool_call_input.done": ResponsesAnswer.take_arguments,
        "response.completed": ResponsesAnswer.take_end,
        "response.incomplete": ResponsesAnswer.take_end,
        "response.failed": ResponsesAnswer.take_end,
    }
)


def _event(payload: bytes) -> dict[str, Any]:
    try:
        value = loads(payload)
    except ValueError as error:
        raise MalformedResponse(
            "an event of the stream is not JSON; ask again, or report it to the provider. It "
            f"begins: {excerpt(payload[:400].decode('utf-8', 'replace'), 200)}"
        ) from error
    if not is_object(value):
        raise MalformedResponse("an event of the stream is not a JSON object; ask again")
    return value


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _complains(value: dict[str, Any]) -> bool:
    """True if a body that is no answer reads like a report of an error."""
    return bool(value.get("message") or value.get("detail")) or value.get("status") == "failed"


def _stop_reason(status: str, why: str) -> StopReason:
    match status:
        case "completed" | "complete":
            return StopReason.END
        case "incomplete" if why == "content_filter":
            return StopReason.CONTENT_FILTER
        case "incomplete":
            # Whatever cut it off: its last part may lack its end.
            return StopReason.LENGTH
        case _:
            # Answers in the background are queued or in progress: there is nothing to read yet.
            return StopReason.OTHER
