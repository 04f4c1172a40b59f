"""Figure 6, over a real socket: however a connection fails, no partial answer passes for whole."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
from msgspec import Struct

from llm_client.errors import LLMError
from llm_client.http_service import HttpLLMService
from llm_client.stream import Accumulator, StreamEvent
from llm_client.transport.deadlines import Deadlines
from llm_client.transport.httpx_transport import HttpxTransport
from llm_client.types import LLMRequest, LLMResponse, Message
from tests.decoding import accumulate
from tests.figures.result import FigureResult
from tests.figures.splits import LONGEST
from tests.loopback import CLOSE, RESET, STALL, Answer, Received, Step, chunk, serving, sse
from tests.wire_protocols import WireProtocol, all_streams

_GARBAGE = (b"\x00\xff\xfe", b"</html>", b'"}\n\n', b"\n\ndata: {\n\n", b"data: nonsense\n\n")
_BACKENDS = ("asyncio", "trio")
_KINDS = ("end of bytes", "close", "reset", "garbage", "stall")
_AT_ONCE = 40
_PATIENT = Deadlines()
_IMPATIENT = Deadlines(first_byte=3.0, idle=0.3)


class _Case(Struct, frozen=True):
    """`stream` sent up to `place`, and what happens then."""

    stream: int
    place: int
    kind: str


class _Expected(Struct, frozen=True):
    """A whole stream, the answer it holds, and the byte after which that is complete."""

    protocol: WireProtocol
    bytes: bytes
    answer: LLMResponse
    end: int | None


def run(full: bool) -> FigureResult:
    """Each kind of failure at places spread evenly over all streams, on both event loops."""
    wanted = 1100 if full else 24
    expected = [
        _Expected(protocol, stream, _answer_in(protocol, stream), protocol.positive_end(stream))
        for protocol, _, stream in all_streams(LONGEST)
    ]
    cases = list(_cases(expected, wanted))
    failures: list[str] = []
    for number, backend in enumerate(_BACKENDS):
        share = cases[number :: len(_BACKENDS)]
        failures += anyio.run(_play, expected, share, backend=backend)
    return FigureResult(
        len(cases),
        tuple(failures[:100]),
        f"{', '.join(_KINDS)} at {len(cases) // len(_KINDS)} places over a socket",
    )


def _cases(expected: list[_Expected], wanted: int) -> Iterator[_Case]:
    total = sum(len(one.bytes) for one in expected)
    step = max(1, total // wanted)
    begun = 0
    for number, one in enumerate(expected):
        for place in range(-begun % step, len(one.bytes), step):
            for kind in _KINDS:
                yield _Case(number, place, kind)
        begun += len(one.bytes)


async def _play(expected: list[_Expected], cases: list[_Case]) -> list[str]:
    failures: list[str] = []
    waiting = iter(enumerate(cases))

    def script(received: Received) -> Answer:
        case = cases[int(received.headers["x-case"])]
        return _answer(expected[case.stream].bytes, case)

    async def worker() -> None:
        for number, case in waiting:
            wrong = await _try(server.url, transport, number, case, expected[case.stream])
            if wrong:
                failures.append(f"{case.kind} at {case.place} of stream {case.stream}: {wrong}")

    async with serving(script) as server:
        transport = HttpxTransport()
        async with anyio.create_task_group() as group:
            for _ in range(_AT_ONCE):
                group.start_soon(worker)
        if transport.in_flight:
            failures.append(f"{transport.in_flight} places are still taken")
        await transport.aclose()
        with anyio.move_on_after(5) as scope:
            await server.until_open(0)
        if scope.cancelled_caught:
            failures.append(f"{server.open} connections are still open")
    return failures


def _answer_in(protocol: WireProtocol, stream: bytes) -> LLMResponse:
    decoder = protocol.codec().decoder()
    events: list[StreamEvent] = []
    try:
        events += decoder.feed(stream)
        events += decoder.close()
    except LLMError:
        pass
    return accumulate(events)


def _answer(stream: bytes, case: _Case) -> Answer:
    sent: list[Step] = [stream[: case.place]] if case.place else []
    match case.kind:
        case "garbage":
            return sse(*sent, _GARBAGE[case.place % len(_GARBAGE)])
        case "end of bytes":
            return sse(*sent)
        case "close":
            # Within a chunk, so that the framing is broken too.
            return [*sse(*sent, end=False), chunk(b"x" * 99)[:9], CLOSE]
        case "reset":
            return sse(*sent, RESET)
        case _:
            return sse(*sent, STALL)


async def _try(
    url: str, transport: HttpxTransport, number: int, case: _Case, expected: _Expected
) -> str:
    """What is wrong with the outcome of `case`, "" if nothing is."""
    service = HttpLLMService(
        expected.protocol.codec(),
        transport,
        base_url=url,
        model="m",
        headers={"x-case": str(number)},
        deadlines=_IMPATIENT if case.kind == "stall" else _PATIENT,
    )
    arrived = Accumulator()
    error: LLMError | None = None
    with anyio.move_on_after(20) as scope:
        try:
            async with service.stream(LLMRequest([Message.user("hello")])) as events:
                async for event in events:
                    arrived.add(event)
        except LLMError as failure:
            error = failure
    if scope.cancelled_caught:
        return "hangs"
    if arrived.finished is (error is not None):
        return f"finished is {arrived.finished}, and the error {error!r}"
    return _wrong(case, arrived, expected, error)


def _wrong(case: _Case, arrived: Accumulator, expected: _Expected, error: LLMError | None) -> str:
    before = expected.end is None or case.place < expected.end
    if error is None:
        if before:
            return "completed before its positive end"
        if arrived.response().tool_calls != expected.answer.tool_calls:
            return "completed with other tool calls than were made"
    # What follows the finish reason may be needed to read the usage, so garbage there may fail.
    elif not before and case.kind in ("end of bytes", "reset", "stall"):
        return f"not completed behind its positive end: {error!r}"
    return ""
