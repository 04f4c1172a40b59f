"""Vectors from an embeddings API, over a real socket."""

from __future__ import annotations

import base64
import json
import math
import traceback
from array import array
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from llm_client import HttpEmbedder, create_embedder
from llm_client.errors import (
    AuthenticationFailed,
    CallerError,
    ConfigError,
    ConnectionLost,
    ContextOverflow,
    LLMError,
    MalformedResponse,
    RateLimited,
    Timeout,
)
from llm_client.transport.deadlines import Deadlines
from tests.llm_client.transports import CANARY, DRIVERS, TRANSPORTS
from tests.loopback import RESET, STALL, Answer, LoopbackServer, Received, answer, serving

pytestmark = pytest.mark.anyio


@pytest.fixture(params=DRIVERS, ids=lambda pair: "-".join(pair))
def driver(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A transport and the event loop to run it on."""
    pair: tuple[str, str] = request.param
    return pair


@pytest.fixture
def anyio_backend(driver: tuple[str, str]) -> str:
    """The driver's event loop."""
    return driver[1]


def numbered(request: Received) -> Answer:
    """For each text that says a number N the vector (N, 1), the last text's first."""
    texts: list[str] = json.loads(request.body)["input"]
    rows = [
        {"object": "embedding", "index": place, "embedding": [float(text), 1]}
        for place, text in enumerate(texts)
    ]
    return answer(200, json.dumps({"object": "list", "data": rows[::-1]}).encode())


def holding(*embeddings: object) -> Answer:
    """An answer of these."""
    rows = [{"index": place, "embedding": value} for place, value in enumerate(embeddings)]
    return answer(200, json.dumps({"data": rows}).encode())


def packed(*numbers: float) -> str:
    """Numbers as base64."""
    return base64.b64encode(array("f", numbers).tobytes()).decode()


@asynccontextmanager
async def embedding(
    driver: tuple[str, str], *script: Answer | Callable[[Received], Answer], **options: Any
) -> AsyncGenerator[tuple[HttpEmbedder, LoopbackServer]]:
    """An embedder of two dimensions before a scripted server, within a time limit."""
    with anyio.fail_after(10):
        async with serving(*script) as server:
            embedder = HttpEmbedder(
                TRANSPORTS[driver[0]](),
                base_url=f"{server.url}/v1/",
                model="m",
                dimensions=2,
                headers={"authorization": f"Bearer {CANARY}"},
                **options,
            )
            try:
                yield embedder, server
            finally:
                await embedder.aclose()
            await server.until_open(0)


async def failure_of(embedder: HttpEmbedder, texts: Sequence[str] = ("1",)) -> LLMError:
    """The error in which embedding ends."""
    with pytest.raises(LLMError) as caught:
        await embedder.embed(texts)
    return caught.value


async def test_vectors_come_in_the_order_of_the_texts(driver: tuple[str, str]) -> None:
    """Whatever order the answer has, and over as many requests as it takes."""
    async with embedding(driver, numbered, batch=3) as (embedder, server):
        vectors = await embedder.embed([str(n) for n in range(8)])
        asked = [json.loads(request.body) for request in server.requests]
    assert [list(vector) for vector in vectors] == [[n, 1] for n in range(8)]
    assert {vector.typecode for vector in vectors} == {"f"}
    assert [body["input"] for body in asked] == [["0", "1", "2"], ["3", "4", "5"], ["6", "7"]]
    assert {body["model"] for body in asked} == {"m"}
    assert server.requests[0].target == "/v1/embeddings"
    assert server.requests[0].headers["authorization"] == f"Bearer {CANARY}"


async def test_no_text_is_no_request(driver: tuple[str, str]) -> None:
    """There is nothing to ask."""
    async with embedding(driver, numbered) as (embedder, server):
        assert list(await embedder.embed([])) == []
        assert server.connections == 0


async def test_an_empty_text_is_refused_before_anything_is_sent(driver: tuple[str, str]) -> None:
    """Providers refuse it with the whole batch."""
    async with embedding(driver, numbered) as (embedder, server):
        with pytest.raises(CallerError, match="text 2 of 2 is empty"):
            await embedder.embed(["1", " \n"])
        assert server.connections == 0


async def test_base64_is_understood_as_well_as_numbers(driver: tuple[str, str]) -> None:
    """It is a quarter of the size; `extra` asks for it."""
    script = holding(packed(0.25, -3.0), [0.5, 2])
    async with embedding(driver, script, extra={"encoding_format": "base64"}) as (embedder, server):
        vectors = await embedder.embed(["a", "b"])
        assert json.loads(server.requests[0].body)["encoding_format"] == "base64"
    assert vectors == [array("f", [0.25, -3.0]), array("f", [0.5, 2.0])]


async def test_each_kind_of_text_has_its_prefix(driver: tuple[str, str]) -> None:
    """Some models find better with one."""
    prefixes = {"query": "query: ", "document": "passage: "}
    async with embedding(driver, holding([1, 1]), prefixes=prefixes) as (embedder, server):
        await embedder.embed(["tea"])
        await embedder.embed(["tea"], kind="document")
    assert [json.loads(r.body)["input"] for r in server.requests] == [
        ["query: tea"],
        ["passage: tea"],
    ]


async def test_text_that_is_no_unicode_is_mended(driver: tuple[str, str]) -> None:
    """A lone surrogate becomes U+FFFD, for JSON cannot hold it."""
    async with embedding(driver, holding([1, 1])) as (embedder, server):
        await embedder.embed(["a\ud800b"])
    assert json.loads(server.requests[0].body)["input"] == ["a\ufffdb"]


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        7,
        [{"index": 0, "embedding": [1, 1]}],
        [{"index": 0, "embedding": [1, 1]}] * 2,
        [{"index": 0, "embedding": [1, 1]}, {"index": 2, "embedding": [1, 1]}],
        [{"index": 0, "embedding": [1, 1]}, {"index": [], "embedding": [1, 1]}],
        [{"index": n, "embedding": [1, 1]} for n in range(3)],
    ],
)
async def test_another_number_of_vectors_is_a_typed_error(
    driver: tuple[str, str], data: object
) -> None:
    """None, too few, too many, the same twice, or of a text that nobody sent."""
    async with embedding(driver, answer(200, json.dumps({"data": data}).encode())) as (embedder, _):
        error = await failure_of(embedder, ["a", "b"])
    assert isinstance(error, MalformedResponse)
    assert "one vector for each of 2 texts" in error.message


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        "no base64!",
        "AAAA",
        [],
        ["1", "2"],
        [1, None],
        [[1], [2]],
        [0, 0],
        [1e300, 1],
        packed(math.nan, 1.0),
        packed(math.inf, 1.0),
        packed(0.0, 0.0),
        packed(),
    ],
)
async def test_what_is_no_vector_is_a_typed_error(driver: tuple[str, str], value: object) -> None:
    """Not numbers, or numbers that point nowhere."""
    async with embedding(driver, holding(value)) as (embedder, _):
        error = await failure_of(embedder)
    assert isinstance(error, MalformedResponse)
    assert "is no vector" in error.message


async def test_vectors_of_another_size_say_what_to_change(driver: tuple[str, str]) -> None:
    """The model is another than was thought."""
    async with embedding(driver, holding([1, 2, 3])) as (embedder, _):
        error = await failure_of(embedder)
    assert isinstance(error, MalformedResponse)
    assert "make the embedder with dimensions=3" in error.message
    assert not error.retryable


@pytest.mark.parametrize(
    ("status", "said", "kind"),
    [
        (401, "bad key", AuthenticationFailed),
        (429, "slow down", RateLimited),
        (400, "maximum context length is 8192 tokens", ContextOverflow),
        (500, "input (5001 tokens) is too large to process. increase", ContextOverflow),
    ],
)
async def test_refusals_go_through_the_one_table_of_errors(
    driver: tuple[str, str], status: int, said: str, kind: type[LLMError]
) -> None:
    """And the key is in none of them, even if the server quotes it (Z10)."""
    body = json.dumps({"error": {"message": f"{said} {CANARY}"}}).encode()
    script = answer(status, body, {"retry-after": "7"})
    async with embedding(driver, script) as (embedder, _):
        error = await failure_of(embedder)
        assert type(error) is kind
        assert (error.status, error.retry_after, error.provider) == (status, 7.0, "openai")
        report = traceback.TracebackException.from_exception(error, capture_locals=True)
        assert CANARY not in "".join(report.format()) + repr(embedder)


async def test_what_does_not_arrive_is_an_error_of_the_transport(driver: tuple[str, str]) -> None:
    """Within the deadlines given."""
    quick = Deadlines(first_byte=0.1)
    scripts: list[tuple[Answer, type[LLMError]]] = [([RESET], ConnectionLost), ([STALL], Timeout)]
    for script, kind in scripts:
        async with embedding(driver, script, deadlines=quick) as (embedder, _):
            assert isinstance(await failure_of(embedder), kind)


async def test_cancelling_closes_what_was_under_way(driver: tuple[str, str]) -> None:
    """And the embedder can be used again."""
    async with embedding(driver, [STALL], holding([1, 1])) as (embedder, server):
        async with anyio.create_task_group() as group:
            group.start_soon(embedder.embed, ["a"])
            await server.until(lambda: len(server.requests) == 1)
            group.cancel_scope.cancel()
        await server.until_open(0)
        assert len(await embedder.embed(["a"])) == 1


async def test_a_model_string_names_key_and_address(driver: tuple[str, str]) -> None:
    """They stand in the variables of language models."""
    with anyio.fail_after(10):
        async with serving(holding([1, 1])) as server:
            env = {
                "POWER_LOOP_PROVIDER": "openai",
                "POWER_LOOP_BASE_URL": f"{server.url}/v1",
                "POWER_LOOP_API_KEY": CANARY,
            }
            transport = TRANSPORTS[driver[0]]()
            embedder = create_embedder("openai:m", dimensions=2, env=env, transport=transport)
            assert (embedder.model, embedder.dimensions, embedder.floor) == ("m", 2, 0.0)
            assert len(await embedder.embed(["a"])) == 1
            await embedder.aclose()
    assert server.requests[0].headers["authorization"] == f"Bearer {CANARY}"
    assert CANARY not in repr(embedder)


def test_settings_that_cannot_be_are_refused() -> None:
    """At once, in words."""
    with pytest.raises(ConfigError, match="ANTHROPIC_API_KEY"):
        create_embedder("anthropic:claude-opus-4-5", dimensions=2, env={})
    env = {"ANTHROPIC_API_KEY": CANARY}
    with pytest.raises(ConfigError, match="how provider 'anthropic' makes vectors is not known"):
        create_embedder("anthropic:claude-opus-4-5", dimensions=2, env=env)
    for dimensions, batch in ((0, 1), (2, 0)):
        with pytest.raises(ConfigError, match="must be at least 1"):
            HttpEmbedder(
                TRANSPORTS["httpx"](),
                base_url="http://x",
                model="m",
                dimensions=dimensions,
                batch=batch,
            )
