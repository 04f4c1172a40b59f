"""What is measured of the clients: the parts, their size, and what is to be reached."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

__all__ = ["FIGURES", "OURS", "PARTS", "PROTOCOLS", "SDK", "SIZES", "ClientFigure", "ClientSize"]

PROTOCOLS: Mapping[str, str] = MappingProxyType(
    {"chat": "openai", "responses": "openai", "messages": "anthropic"}
)
"""The protocols, each with the SDK that speaks it."""

PARTS = tuple(
    f"{protocol}.{kind}"
    for protocol in PROTOCOLS
    for kind in ("requests", "stream", "encode", "start")
)
"""What a worker can run."""

SDK = "sdk"
OURS = ("httpx", "aiohttp")
"""The sides: the vendor's SDK, and llm_client over each of its transports."""


class ClientSize(Struct, frozen=True, kw_only=True):
    """How much work one repetition is.

    Attributes:
        repetitions: how often each side is measured.
        requests: requests by how many are under way at a time.
        chunks: chunks of the streamed answer.
        turns: turns of the long conversation, of four messages each.
        sends: how often a conversation is sent.
        starts: how often a process is started; the best counts.
    """

    repetitions: int
    requests: Mapping[int, int]
    chunks: int
    turns: int
    sends: int
    starts: int


SIZES: Mapping[str, ClientSize] = MappingProxyType(
    {
        "full": ClientSize(
            repetitions=7,
            requests={1: 200, 50: 1000, 200: 1000},
            chunks=5000,
            turns=500,
            sends=4,
            starts=2,
        ),
        "tiny": ClientSize(
            repetitions=1, requests={1: 2, 50: 50, 200: 200}, chunks=20, turns=5, sends=1, starts=1
        ),
    }
)


class ClientFigure(Struct, frozen=True):
    """One row of the table for each protocol.

    Attributes:
        kind: the part that gives it.
        rate: what the wall time is shown as, "" where it says nothing.
        times: how many times less than the SDK ours must be, None where it need not.
        most: what ours may be at most.
        compared: False where ours is too close to nothing for a ratio.
    """

    kind: str
    title: str
    unit: str
    rate: str = ""
    times: float | None = None
    most: float | None = None
    compared: bool = True


FIGURES: Mapping[str, ClientFigure] = MappingProxyType(
    {
        "requests1": ClientFigure("requests", "a request, 1 at a time", "µs", "/s", times=5),
        "requests50": ClientFigure("requests", "… 50 at a time", "µs", "/s", times=5),
        "requests200": ClientFigure("requests", "… 200 at a time", "µs", "/s", times=5),
        "stream": ClientFigure("stream", "a chunk of a streamed answer", "µs", "/s", times=5),
        "encode.first": ClientFigure("encode", "a message of a history sent first", "µs"),
        "encode.again": ClientFigure("encode", "… with one more turn", "µs", most=2),
        "encode.keyed": ClientFigure(
            "encode", "… and with a `cache_key`", "µs", most=2, compared=False
        ),
        "start.import": ClientFigure("start", "a new process: the import", "ms"),
        "start.answer": ClientFigure("start", "… until its first answer", "ms"),
        "start.modules": ClientFigure("start", "… modules loaded by then", ""),
    }
)
