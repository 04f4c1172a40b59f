"""Searching the web by way of a gateway, over a real socket."""

from __future__ import annotations

import logging
import traceback
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

import anyio
import msgspec
import pytest

from llm_client import SearchAnswer, SearchResult, WebSearchClient, WebSearchError
from llm_client.errors import CallerError, ConfigError, ConnectionLost, LLMError, Timeout
from llm_client.transport.deadlines import Deadlines
from tests.llm_client.transports import CANARY, DRIVERS, TRANSPORTS
from tests.loopback import CLOSE, RESET, STALL, Answer, LoopbackServer, answer, serving

pytestmark = pytest.mark.anyio

FOUND = {
    "query": "teal",
    "results": [
        {"rank": 7, "title": "Teal\nthe colour", "url": "https://a/", "snippet": "Blue " * 100},
        {"title": "No address"},
        {"title": "Teal", "url": "https://b/", "content": "A duck."},
        {"title": "Third", "url": "https://c/"},
        "nonsense",
    ],
    "answer_box": {"answer": "#008080"},
    "infobox": {"title": "Teal", "content": "A colour and a duck."},
    "suggestions": ["teal paint", 7],
}


@pytest.fixture(params=DRIVERS, ids=lambda pair: "-".join(pair))
def driver(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A transport and the event loop to run it on."""
    pair: tuple[str, str] = request.param
    return pair


@pytest.fixture
def anyio_backend(driver: tuple[str, str]) -> str:
    """The driver's event loop."""
    return driver[1]


@asynccontextmanager
async def searching(
    driver: tuple[str, str], *script: Answer, deadlines: Deadlines | None = None
) -> AsyncGenerator[tuple[WebSearchClient, LoopbackServer]]:
    """A client of a scripted gateway, within a time limit."""
    with anyio.fail_after(10):
        async with serving(*script) as server:
            client = WebSearchClient(
                TRANSPORTS[driver[0]](),
                base_url=f"{server.url}/",
                api_token=CANARY,
                deadlines=deadlines,
            )
            try:
                yield client, server
            finally:
                await client.aclose()
            await server.until_open(0)


async def failure_of(client: WebSearchClient) -> LLMError:
    """The error in which a search ends."""
    with pytest.raises(LLMError) as caught:
        await client.search("teal")
    return caught.value


async def test_a_search_is_asked_with_its_bounds_and_its_token(driver: tuple[str, str]) -> None:
    """In the gateway's own words."""
    async with searching(driver, answer(200, b"{}")) as (client, server):
        await client.search("teal & blue", max_results=3, language="de", categories="news")
        await client.search("x")
        first, second = server.requests
        assert first.method == "GET"
        assert first.headers["authorization"] == f"Bearer {CANARY}"
        place = urlsplit(first.target)
        assert place.path == "/search/agent"
        assert parse_qs(place.query) == {
            "q": ["teal & blue"],
            "max_results": ["3"],
            "snippet_max_length": ["240"],
            "language": ["de"],
            "categories": ["news"],
        }
        assert parse_qs(urlsplit(second.target).query)["max_results"] == ["5"]


async def test_what_was_found_is_typed_and_told_in_words(driver: tuple[str, str]) -> None:
    """Odd rows are left out, what is kept is ranked anew, long quotations are cut."""
    async with searching(driver, answer(200, msgspec.json.encode(FOUND))) as (client, _):
        found = await client.search("teal", max_results=2)
    first, second = found.results
    assert (first.rank, first.title, first.url) == (1, "Teal the colour", "https://a/")
    assert first.snippet.startswith("Blue Blue")
    assert len(first.snippet) < 290
    assert second == SearchResult(2, "Teal", "https://b/", "A duck.")
    assert found.answers == ("#008080",)
    assert found.infobox == "A colour and a duck."
    assert found.suggestions == ("teal paint",)
    lines = found.summary().split("\n")
    assert lines[:3] == [
        "Search results for 'teal': 2",
        "Answer: #008080",
        "About: A colour and a duck.",
    ]
    assert lines[-5:] == [
        "2. Teal",
        "   https://b/",
        "   A duck.",
        "",
        "Related searches: teal paint",
    ]


@pytest.mark.parametrize("body", [b"{}", b'{"results":null,"answers":7,"infobox":[]}'])
async def test_nothing_found_is_an_answer_as_well(driver: tuple[str, str], body: bytes) -> None:
    """Whatever form it takes."""
    async with searching(driver, answer(200, body)) as (client, _):
        found = await client.search("teal")
    assert found == SearchAnswer("teal")
    assert found.summary() == "Search results for 'teal': none"


@pytest.mark.parametrize(
    ("status", "retryable"), [(401, False), (404, False), (429, True), (500, True), (503, True)]
)
async def test_a_refusal_has_status_body_and_advice_but_not_the_token(
    driver: tuple[str, str], status: int, retryable: bool
) -> None:
    """Even if the gateway quotes it (Z10)."""
    body = f'{{"detail":"bad token {CANARY}"}}'.encode()
    script = answer(status, body, {"retry-after": "7", "x-request-id": f"r1 {CANARY}"})
    async with searching(driver, script) as (client, _):
        error = await failure_of(client)
    assert isinstance(error, WebSearchError)
    assert (error.status, error.retryable, error.retry_after) == (status, retryable, 7.0)
    assert (error.request_id, error.provider) == ("r1 ***", "searxng")
    assert error.body == '{"detail":"bad token ***"}'
    assert CANARY not in str(error) + repr(vars(error))


@pytest.mark.parametrize("body", [b"<html>login</html>", b"[]", b"", b'"x"', b"[" * 100_000])
async def test_an_answer_that_is_none_is_a_typed_error(
    driver: tuple[str, str], body: bytes
) -> None:
    """A page of a proxy, another value, nothing, and something nested too deeply."""
    async with searching(driver, answer(200, body)) as (client, _):
        error = await failure_of(client)
    assert isinstance(error, WebSearchError)
    assert "not a JSON object" in error.message
    assert len(error.message) < 1000


async def test_what_does_not_arrive_is_an_error_of_the_transport(driver: tuple[str, str]) -> None:
    """And the token is in no log, no repr and no frame (Z10)."""
    quick = Deadlines(first_byte=0.1)
    for script, kind in (([RESET], ConnectionLost), ([STALL], Timeout), ([CLOSE], ConnectionLost)):
        async with searching(driver, script, deadlines=quick) as (client, _):
            error = await failure_of(client)
            assert isinstance(error, kind)
            report = traceback.TracebackException.from_exception(error, capture_locals=True)
            assert CANARY not in "".join(report.format()) + repr(client)


async def test_the_token_is_in_no_log_z10(
    driver: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """At any level (Z10)."""
    caplog.set_level(logging.DEBUG)
    async with searching(driver, answer(200, b"{}"), answer(500, b"")) as (client, _):
        await client.search("x")
        await failure_of(client)
    assert CANARY not in caplog.text


async def test_an_empty_query_is_not_sent(driver: tuple[str, str]) -> None:
    """It would only cost time."""
    async with searching(driver, answer(200, b"{}")) as (client, server):
        with pytest.raises(CallerError, match="empty"):
            await client.search("  ")
        assert server.connections == 0


@pytest.mark.parametrize("wrong", [0, -1])
async def test_a_search_for_no_pages_is_not_sent(driver: tuple[str, str], wrong: int) -> None:
    """Neither the usual number nor what the gateway makes of it is what was asked for."""
    async with searching(driver) as (client, server):
        with pytest.raises(CallerError, match=f"max_results must be at least 1, is {wrong}"):
            await client.search("teal", max_results=wrong)
        assert server.requests == []


async def test_the_environment_describes_a_client(driver: tuple[str, str]) -> None:
    """With its bounds; a quotation has at least 50 characters."""
    with anyio.fail_after(10):
        async with serving(answer(200, b"{}")) as server:
            env = {
                "SEARXNG_BASE_URL": server.url,
                "SEARXNG_API_TOKEN": CANARY,
                "SEARXNG_MAX_RESULTS": "9",
                "SEARXNG_SNIPPET_MAX_LENGTH": "10",
                "SEARXNG_TIMEOUT_S": "2.5",
            }
            client = WebSearchClient.from_env(env, transport=TRANSPORTS[driver[0]]())
            await client.search("x")
            await client.aclose()
            asked = parse_qs(urlsplit(server.requests[0].target).query)
            assert asked["max_results"] == ["9"]
            assert asked["snippet_max_length"] == ["50"]
            assert CANARY not in repr(client)


def test_a_bad_environment_is_told_all_at_once_without_the_token() -> None:
    """What is missing, and what is no number."""
    env = {"SEARXNG_API_TOKEN": CANARY, "SEARXNG_TIMEOUT_S": "soon", "SEARXNG_MAX_RESULTS": "-1"}
    with pytest.raises(ConfigError) as caught:
        WebSearchClient.from_env(env)
    told = caught.value.message
    for name in ("SEARXNG_BASE_URL", "SEARXNG_TIMEOUT_S", "SEARXNG_MAX_RESULTS"):
        assert name in told
    assert CANARY not in told
    with pytest.raises(ConfigError, match="max_results"):
        WebSearchClient(TRANSPORTS["httpx"](), base_url="http://x", api_token="", max_results=0)
