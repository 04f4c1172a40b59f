"""A stream that is read without `async with` says so, whatever service it is of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from llm_client.emulated_tools import EmulatedTools
from llm_client.errors import CallerError
from llm_client.local import LocalLLMService, LocalSettings, local_model
from llm_client.multimodal import FittingMedia, media_limits
from llm_client.service import LLMService
from llm_client.structured import stream_as
from llm_client.testing import ScriptedLLM, reply
from llm_client.usage import UsageLedger
from llm_client.wrappers.circuit_breaker import CircuitBreaker
from llm_client.wrappers.fallback import Fallback
from llm_client.wrappers.metered import Metered
from llm_client.wrappers.rate_limiter import RateLimiter
from llm_client.wrappers.retrying import Retrying
from llm_client.wrappers.throttled import Throttled
from tests.llm_client.chat import HELLO, HELLO_WORLD, service_at
from tests.llm_client.transports import DRIVERS, TRANSPORTS
from tests.loopback import serving, sse

pytestmark = pytest.mark.anyio

ADVICE = r"async with service\.stream\(request\) as events"

Wrap = Callable[[LLMService], LLMService]

WRAPS: dict[str, Wrap] = {
    "itself": lambda inner: inner,
    "CircuitBreaker": CircuitBreaker,
    "EmulatedTools": EmulatedTools,
    "Fallback": Fallback,
    "FittingMedia": lambda inner: FittingMedia(inner, media_limits("openai")),
    "Metered": lambda inner: Metered(inner, UsageLedger()),
    "Retrying": Retrying,
    "Throttled": lambda inner: Throttled(inner, RateLimiter(requests_per_minute=60)),
}


async def read(unentered: Any) -> None:
    """Iterates as one must not; a type checker would say so."""
    with pytest.raises(CallerError, match="async with"):
        async for _ in unentered:
            pass
    with pytest.raises(CallerError, match=ADVICE):
        await anext(unentered)


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
@pytest.mark.parametrize(
    ("driver", "anyio_backend"), [pytest.param(d, d[1], id="-".join(d)) for d in DRIVERS]
)
async def test_nothing_is_sent_and_nothing_leaks(wrap: Wrap, driver: tuple[str, str]) -> None:
    """The error says what to write instead; written so, the same service answers."""
    with anyio.fail_after(10):
        async with serving(sse(*HELLO_WORLD)) as server:
            transport = TRANSPORTS[driver[0]]()
            service = wrap(service_at(server, transport))
            await read(service.stream(HELLO))
            assert (server.connections, transport.in_flight) == (0, 0)
            async with service.stream(HELLO) as events:
                assert [event async for event in events]
            await service.aclose()
            await server.until_open(0)


async def test_a_scripted_model_is_as_strict() -> None:
    """Or tests would miss the mistake."""
    llm = ScriptedLLM(reply("hi"))
    await read(llm.stream(HELLO))
    assert (llm.open_streams, llm.left) == (0, 1)


async def test_a_local_model_is_not_started(tmp_path: Path) -> None:
    """Nor are its weights fetched."""
    service = LocalLLMService(local_model("smollm2"), LocalSettings(cache_dir=tmp_path))
    await read(service.stream(HELLO))
    assert service.pid is None
    assert [entry async for entry in anyio.Path(tmp_path).iterdir()] == []


async def test_a_structured_stream_has_no_result_before_it_is_entered() -> None:
    """It would be that of an empty answer."""
    llm = ScriptedLLM(reply('{"a": 1}'))
    answer = stream_as(llm, HELLO, dict[str, int])
    with pytest.raises(CallerError, match=r"async with stream_as\("):
        async for _ in answer:
            pass
    with pytest.raises(CallerError, match=r"async with stream_as\("):
        await answer.result()
    assert llm.left == 1
