"""Recorded outcomes, as the pipeline is given them once more."""

from __future__ import annotations

from functools import cache

from msgspec.structs import replace

import llm_client.errors
from llm_client.errors import LLMError
from llm_client.types import LLMResponse, Part, StopReason, ToolResult
from power_loop.pipeline.ports import AttemptFailed, Used
from power_loop.session.closing import TRUTH, goes_on
from power_loop.session.records import ErrorInfo, ModelEnded, ToolSettled

__all__ = ["failure", "ran_to_its_end", "response", "result_of_call", "used"]


def response(ended: ModelEnded, parts: tuple[Part, ...]) -> LLMResponse:
    """The answer that `ended` tells of. `parts` are what became of it."""
    usage = ended.usage if ended.measured else replace(ended.usage, output_tokens=None)
    stop = ended.stop_reason or StopReason.OTHER
    return LLMResponse(parts, stop, ended.raw_finish, usage, model=ended.model)


def failure(ended: ModelEnded) -> AttemptFailed:
    """The failure that `ended` tells of."""
    info = ended.error or ErrorInfo("LLMError", "")
    error = _recorded_type(info.type)(info)
    error.sent = not (ended.measured and ended.usage.total_tokens == 0)
    return AttemptFailed(error, ended.partial, ended.usage, ended.measured)


class _Recorded(LLMError):
    """An error as its record has it: what it said, it says again to the letter."""

    def __init__(self, info: ErrorInfo) -> None:
        LLMError.__init__(
            self,
            info.message,
            retryable=info.retryable,
            retry_after=info.retry_after,
            status=info.status,
        )

    def __str__(self) -> str:
        return self.message


@cache
def _recorded_type(name: str) -> type[_Recorded]:
    """A class of that name that counts as the one it is named after."""
    known = getattr(llm_client.errors, name, None)
    if isinstance(known, type) and issubclass(known, LLMError):
        return type(name, (_Recorded, known), {})
    return type(name, (_Recorded,), {})


def result_of_call(settled: ToolSettled) -> ToolResult:
    """The result that a settlement holds."""
    result = settled.message.parts[0]
    assert isinstance(result, ToolResult)
    return result


def used(settled: ToolSettled) -> Used:
    """What a tool gave that was settled like this."""
    return Used(result_of_call(settled), None, settled.how, meta=settled.message.meta)


def ran_to_its_end(settled: ToolSettled) -> bool:
    """Whether the tool itself led to this, by ending or by taking too long; else its run ended."""
    if settled.how == "interrupted":
        result = result_of_call(settled)
        stopped = result.text.startswith(TRUTH["interrupted"])
        return not stopped and result != goes_on(result.call_id)
    return settled.how == "finished"
