"""Figure 6, in process: a stream cut, spoilt or silent at any byte is never taken for whole."""

from __future__ import annotations

from msgspec import Struct

from llm_client.codecs.openai_chat import COMPATIBLE, OpenAIChatCodec
from llm_client.errors import LLMError
from llm_client.stream import Finished, StreamEvent
from llm_client.types import LLMResponse
from tests.chat_streams import accumulate, read
from tests.figures.chat_splits import positive_end, streams
from tests.figures.result import FigureResult

_CODEC = OpenAIChatCodec(COMPATIBLE)
# None of these can close an object, and so make a chunk whole that was not.
_GARBAGE = (b"\x00\xff\xfe", b"</html>", b'"]\n\n', b"\n\ndata: {\n\n", b"data: nonsense\n\n")
_SMALL_STEP = 61


class _Outcome(Struct, frozen=True):
    finished: bool
    response: LLMResponse | None
    error: str


def run(full: bool) -> FigureResult:
    """Every offset: end of bytes, garbage and then the end, and silence without an end."""
    step = 1 if full else _SMALL_STEP
    failures: list[str] = []
    cases = 0
    found = streams()
    for number, stream in enumerate(found):
        whole, _ = read([stream])
        answer = accumulate(whole)
        end = positive_end(stream)
        for place in range(number % step, len(stream), step):
            garbage = _GARBAGE[place % len(_GARBAGE)]
            before = end is None or place < end
            tried = {
                "cut": _outcome(stream[:place], ends=True),
                "garbage": _outcome(stream[:place] + garbage, ends=True),
                "silence": _outcome(stream[:place], ends=False),
            }
            cases += len(tried)
            for kind, outcome in tried.items():
                wrong = _wrong(kind, outcome, answer, before=before)
                if wrong:
                    failures.append(f"stream {number} {kind} at {place} of {end}: {wrong}")
    return FigureResult(
        cases,
        tuple(failures[:100]),
        f"{len(found)} streams cut, spoilt and silent at every byte"
        + ("" if full else " (sample)"),
    )


def _wrong(kind: str, outcome: _Outcome, answer: LLMResponse, *, before: bool) -> str:
    """What is wrong with an outcome, "" if nothing is."""
    if outcome.finished and before:
        return "completed before its positive end"
    if outcome.response is not None and outcome.response.tool_calls != answer.tool_calls:
        return "completed with other tool calls than were made"
    if kind == "cut" and not before and not outcome.finished:
        return f"not completed behind its positive end: {outcome.error}"
    if kind != "silence" and not outcome.finished and not outcome.error:
        return "neither completed nor an error"
    return ""


def _outcome(body: bytes, *, ends: bool) -> _Outcome:
    decoder = _CODEC.decoder()
    events: list[StreamEvent] = []
    error = ""
    try:
        events += decoder.feed(body)
        if ends:
            events += decoder.close()
    except LLMError as failure:
        error = type(failure).__name__
    finished = any(isinstance(event, Finished) for event in events)
    return _Outcome(finished, accumulate(events) if finished else None, error)
