"""Figure 6, in process: a stream cut, spoilt or silent at any byte is never taken for whole."""

from __future__ import annotations

from collections import Counter

from msgspec import Struct

from llm_client.codec import Decoder
from llm_client.errors import LLMError
from llm_client.stream import Finished, StreamEvent
from llm_client.types import LLMResponse
from tests.decoding import accumulate
from tests.figures.result import FigureResult
from tests.figures.splits import LONGEST
from tests.wire_protocols import all_streams

# None of these can close an object, and so make a chunk whole that was not.
_GARBAGE = (b"\x00\xff\xfe", b"</html>", b'"]\n\n', b"\n\ndata: {\n\n", b"data: nonsense\n\n")
_SMALL_STEP = 131


class _Outcome(Struct, frozen=True):
    finished: bool
    response: LLMResponse | None
    error: str


def run(full: bool) -> FigureResult:
    """Every offset: end of bytes, garbage and then the end, and silence without an end."""
    step = 1 if full else _SMALL_STEP
    failures: list[str] = []
    counts: Counter[str] = Counter()
    for protocol, number, stream in all_streams(LONGEST):
        decoder = protocol.codec().decoder
        end = protocol.positive_end(stream)
        whole = _outcome(decoder(), stream, ends=True)
        if whole.finished is (end is None):
            failures.append(f"{protocol.name} {number}: whole it ends {whole.error or 'well'}")
        for place in range(number % step, len(stream), step):
            garbage = _GARBAGE[place % len(_GARBAGE)]
            before = end is None or place < end
            tried = {
                "cut": _outcome(decoder(), stream[:place], ends=True),
                "garbage": _outcome(decoder(), stream[:place] + garbage, ends=True),
                "silence": _outcome(decoder(), stream[:place], ends=False),
            }
            counts[protocol.name] += len(tried)
            for kind, outcome in tried.items():
                wrong = _wrong(kind, outcome, whole.response, before=before)
                if wrong:
                    failures.append(f"{protocol.name} {number} {kind} at {place} of {end}: {wrong}")
    told = ", ".join(f"{name} {count}" for name, count in counts.items())
    return FigureResult(
        counts.total(),
        tuple(failures[:100]),
        f"streams cut, spoilt and silent at every byte ({told})" + ("" if full else " (sample)"),
    )


def _wrong(kind: str, outcome: _Outcome, answer: LLMResponse | None, *, before: bool) -> str:
    """What is wrong with an outcome, "" if nothing is."""
    if outcome.finished and before:
        return "completed before its positive end"
    if outcome.response is not None and (
        answer is None or outcome.response.tool_calls != answer.tool_calls
    ):
        return "completed with other tool calls than were made"
    if kind == "cut" and not before and not outcome.finished:
        return f"not completed behind its positive end: {outcome.error}"
    if kind != "silence" and not outcome.finished and not outcome.error:
        return "neither completed nor an error"
    return ""


def _outcome(decoder: Decoder, body: bytes, *, ends: bool) -> _Outcome:
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
