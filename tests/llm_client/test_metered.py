"""The ledger has a row for every attempt, and none that may have been billed is 0."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal

import anyio
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_client.errors import (
    AuthenticationFailed,
    BadRequest,
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    ContextOverflow,
    IncompleteStream,
    LLMError,
    Overloaded,
    RateLimited,
    ServerError,
    Timeout,
)
from llm_client.pricing import PricePolicy, PriceUnknown, Rates, TablePrices
from llm_client.retry import RetryPolicy
from llm_client.service import LLMService
from llm_client.stream import TextDelta
from llm_client.testing import Reply, ScriptedLLM, VirtualClock, call, reply
from llm_client.tokens import ModelTokens
from llm_client.transport.httpx_transport import HttpxTransport
from llm_client.types import Audio, LLMRequest, Message, Usage
from llm_client.usage import UsageLedger, UsageRow, UsageTotals
from llm_client.wrappers.metered import Metered
from llm_client.wrappers.rate_limiter import RateLimiter
from llm_client.wrappers.retrying import Retrying
from llm_client.wrappers.throttled import Throttled
from tests.llm_client.chat import HELLO_WORLD, delta, service_at
from tests.loopback import RESET, STALL, answer, serving, sse

pytestmark = pytest.mark.anyio

LIMIT = 10.0
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
ASKED = LLMRequest([Message.user("How many people live in Vienna? " * 20)])
RATES = Rates(input=Decimal(2), output=Decimal(10), as_of=date(2026, 5, 1))
PRICES = TablePrices({"scripted": RATES}, today=NOON.date)
LONG = "About two million people live in Vienna, the capital of Austria."


def metered(*script: Reply | str | LLMError, ledger: UsageLedger | None = None) -> Metered:
    """A scripted service whose attempts are written down."""
    return Metered(
        ScriptedLLM(*script),
        UsageLedger() if ledger is None else ledger,
        prices=PRICES,
        provider="tests",
        now=lambda: NOON,
    )


def only_row(ledger: UsageLedger) -> UsageRow:
    """The ledger's one row."""
    (row,) = ledger.rows
    return row


def estimate() -> int:
    """What the input of `ASKED` is estimated at."""
    return ModelTokens("scripted").count_request(ASKED).tokens


async def read(service: LLMService, events: int | None = None) -> str:
    """The streamed text; with `events`, only so many of them are read."""
    text: list[str] = []
    async with service.stream(ASKED) as stream:
        if events == 0:
            return ""
        async for event in stream:
            if isinstance(event, TextDelta):
                text.append(event.text)
            if events is not None:
                events -= 1
                if not events:
                    break
    return "".join(text)


async def test_what_the_provider_counts_is_taken_over() -> None:
    """Streamed and whole: with the cache, the reasoning, the price, the model and the time."""
    usage = Usage(1000, 100, 400, None, 60)
    for stream in (True, False):
        ledger = UsageLedger()
        service: LLMService = metered(reply("hi", usage=usage), ledger=ledger)
        await (read(service) if stream else service.complete(ASKED))
        assert only_row(ledger) == UsageRow(
            attempt=1,
            model="scripted",
            provider="tests",
            status="ok",
            usage=usage,
            measured=True,
            price=RATES.price(usage),
            at=NOON,
        )
        assert ledger.totals() == UsageTotals(
            ok=1, measured=Usage(0, 0) + usage, cacheable=1000, amount=Decimal("0.003")
        )
        assert (only_row(ledger).cache_hit_rate, ledger.totals().cache_hit_rate) == (0.4, 0.4)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "complete"])
@pytest.mark.parametrize(
    "error",
    [
        ConnectFailed("no", sent=False),
        Timeout("no place", phase="pool", seconds=1, sent=False),
        ConfigError("no"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_was_not_sent_cost_nothing(error: LLMError, stream: bool) -> None:
    """And that is certain; a row is written all the same."""
    ledger = UsageLedger()
    service = metered(error, ledger=ledger)
    with pytest.raises(type(error)):
        await (read(service) if stream else service.complete(ASKED))
    row = only_row(ledger)
    assert (row.status, row.usage, row.measured, row.price) == ("failed", Usage(0, 0), True, None)
    assert ledger.totals().unpriced == 0


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "complete"])
@pytest.mark.parametrize(
    "error",
    [AuthenticationFailed("no"), BadRequest("no"), RateLimited("no"), Overloaded("no")],
    ids=lambda error: type(error).__name__,
)
async def test_a_provider_that_turns_a_request_away_does_not_bill_it(
    error: LLMError, stream: bool
) -> None:
    """But it has not said so: the row is an estimate."""
    ledger = UsageLedger()
    service = metered(error, ledger=ledger)
    with pytest.raises(type(error)):
        await (read(service) if stream else service.complete(ASKED))
    row = only_row(ledger)
    assert (row.status, row.usage, row.measured) == ("failed", Usage(0, 0), False)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "complete"])
@pytest.mark.parametrize(
    "error",
    [
        ConnectionLost("gone"),
        Timeout("late", phase="first_byte", seconds=1),
        ServerError("broken"),
        ContextOverflow("too long"),
        IncompleteStream("cut"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_was_sent_and_came_to_nothing_counts_its_input(
    error: LLMError, stream: bool
) -> None:
    """The provider may have worked on it, and billed it."""
    ledger = UsageLedger()
    service = metered(error, ledger=ledger)
    with pytest.raises(type(error)):
        await (read(service) if stream else service.complete(ASKED))
    row = only_row(ledger)
    assert (row.status, row.usage, row.measured) == ("failed", Usage(estimate(), 0), False)
    assert row.price is not None
    assert row.price.amount > 0


async def test_a_stream_that_breaks_counts_what_had_arrived() -> None:
    """Text, reasoning, calls and what came whole, before any usage was reported."""
    ledger = UsageLedger()
    spoken = reply(LONG, call("look_up", {"about": LONG}), thinking=LONG)
    sound = msgspec.structs.replace(spoken, parts=(*spoken.parts, Audio(bytes(32_000), "mp3")))
    for line in (spoken, sound):
        whole = len(list(line.events(8)))
        service = metered(msgspec.structs.replace(line, break_after=whole - 2), ledger=ledger)
        with pytest.raises(IncompleteStream):
            await read(service)
    texts, with_sound = ledger.rows
    counter = ModelTokens("scripted")
    least = 3 * counter.count_text(LONG)
    assert texts.usage.output_tokens is not None
    assert with_sound.usage.output_tokens is not None
    assert least <= texts.usage.output_tokens <= least + 20
    assert with_sound.usage.output_tokens >= texts.usage.output_tokens + 40
    assert not texts.measured


async def test_a_stream_that_is_left_is_cancelled_and_counts_what_was_read() -> None:
    """At its beginning, in the middle, and behind its end, where it is whole."""
    for events, status in ((0, "cancelled"), (4, "cancelled"), (None, "ok")):
        ledger = UsageLedger()
        text = await read(metered(reply(LONG, usage=Usage(50, 20)), ledger=ledger), events)
        row = only_row(ledger)
        assert row.status == status
        assert row.measured is (status == "ok")
        assert row.usage.input_tokens == (50 if status == "ok" else estimate())
        assert bool(row.usage.output_tokens) == bool(text)


async def test_a_reader_that_fails_leaves_a_row_too() -> None:
    """The failure is its own, and comes out as it is."""
    ledger = UsageLedger()
    with pytest.raises(ZeroDivisionError):
        async with metered(LONG, ledger=ledger).stream(ASKED) as events:
            await anext(events)
            raise ZeroDivisionError
    assert only_row(ledger).status == "cancelled"


async def test_what_was_reported_before_a_break_is_not_estimated_again() -> None:
    """Some providers count the input at the beginning; the output may be more than was counted."""
    ledger = UsageLedger()
    line = reply(LONG, usage=Usage(77, 1, 33))
    whole = len(list(line.events(8)))
    service = metered(msgspec.structs.replace(line, break_after=whole - 1), ledger=ledger)
    with pytest.raises(IncompleteStream):
        await read(service)
    usage = only_row(ledger).usage
    assert (usage.input_tokens, usage.cached_tokens) == (77, 33)
    assert (usage.output_tokens or 0) >= ModelTokens("scripted").count_text(LONG)
    hidden = msgspec.structs.replace(line, usage=Usage(77, 5000), break_after=whole - 1)
    with pytest.raises(IncompleteStream):
        await read(metered(hidden, ledger=ledger))
    assert ledger.rows[1].usage == Usage(77, 5000)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "complete"])
async def test_an_answer_without_usage_is_estimated(stream: bool) -> None:
    """It came to its end, but nobody counted it."""
    ledger = UsageLedger()
    service = metered(reply(LONG, usage=Usage(), refusal=LONG), ledger=ledger)
    await (read(service) if stream else service.complete(ASKED))
    row = only_row(ledger)
    assert (row.status, row.measured, row.usage.input_tokens) == ("ok", False, estimate())
    assert (row.usage.output_tokens or 0) >= 2 * ModelTokens("scripted").count_text(LONG)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "complete"])
async def test_cancellation_passes_and_leaves_a_row(stream: bool) -> None:
    """Even where the estimate has to load a vocabulary first."""
    ledger = UsageLedger()
    asked = anyio.Event()

    async def hang(_: LLMRequest) -> str:
        asked.set()
        await anyio.sleep_forever()
        return ""

    service = Metered(ScriptedLLM(hang, model="gpt-4o"), ledger, now=lambda: NOON)
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            if stream:
                tasks.start_soon(read, service)
            else:
                tasks.start_soon(service.complete, ASKED)
            await asked.wait()
            tasks.cancel_scope.cancel()
    row = only_row(ledger)
    assert (row.status, row.measured, row.usage.output_tokens) == ("cancelled", False, 0)
    assert row.usage.input_tokens == ModelTokens("gpt-4o").count_request(ASKED).tokens
    assert ledger.totals().unpriced == 1


async def test_each_attempt_of_a_retry_has_its_row() -> None:
    """The third succeeds, and only the first was never sent."""
    ledger = UsageLedger()
    service = Retrying(
        metered(ConnectFailed("no", sent=False), ServerError("no"), "yes", ledger=ledger),
        RetryPolicy(max_attempts=3),
        sleep=VirtualClock().sleep,
    )
    assert await read(service) == "yes"
    assert [row.status for row in ledger.rows] == ["failed", "failed", "ok"]
    assert [row.attempt for row in ledger.rows] == [1, 2, 3]
    assert [bool(row.usage.total_tokens) for row in ledger.rows] == [False, True, True]
    assert (ledger.totals().failed, ledger.totals().ok) == (2, 1)


async def test_over_http_each_way_to_end_has_its_row() -> None:
    """Read to its end, left early, broken off, refused, and a server that is not there."""
    ledger = UsageLedger()
    answers = (
        sse(*HELLO_WORLD),
        sse(delta("Hello, "), STALL),
        sse(delta("Hello, "), RESET),
        answer(429, b"{}"),
    )
    with anyio.fail_after(LIMIT):
        async with serving(*answers) as server:
            inner = service_at(server, HttpxTransport())
            service = Metered(inner, ledger, ModelTokens("m-1"))
            assert await read(service) == "Hello world"
            assert await read(service, 2) == "Hello, "
            with pytest.raises(ConnectionLost):
                await read(service)
            with pytest.raises(RateLimited):
                await read(service)
        with pytest.raises(ConnectFailed):
            await read(service)
        await service.aclose()
    assert [(row.status, row.measured) for row in ledger.rows] == [
        ("ok", False),
        ("cancelled", False),
        ("failed", False),
        ("failed", False),
        ("failed", True),
    ]
    outputs = [bool(row.usage.output_tokens) for row in ledger.rows]
    assert outputs == [True, True, True, False, False]
    assert [row.usage.input_tokens for row in ledger.rows] == [estimate()] * 3 + [0, 0]


async def test_a_service_that_retries_inside_is_refused() -> None:
    """Its attempts could not be told apart; however deep, what is around it gets no blame."""
    limiter = RateLimiter(requests_per_minute=60)
    inside = Retrying(ScriptedLLM("hi"))
    for inner in (inside, Throttled(inside, limiter)):
        with pytest.raises(ConfigError, match=r"something in .*Retrying\(.* retries by itself"):
            Metered(inner, UsageLedger())


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "complete"])
async def test_without_a_price_nothing_is_sent(stream: bool) -> None:
    """The model named in the request counts; no attempt was made, so there is no row."""
    model, ledger = ScriptedLLM("hi"), UsageLedger()
    service = Metered(model, ledger, prices=PRICES)
    other = msgspec.structs.replace(ASKED, model="other")
    with pytest.raises(PriceUnknown, match="'other'"):
        if stream:
            async with service.stream(other):
                pass
        else:
            await service.complete(other)
    assert model.requests == []
    assert ledger.rows == ()


async def test_a_price_list_that_becomes_too_old_meanwhile_loses_no_row() -> None:
    """The row is there, and the totals say that a price is missing."""
    days = iter((date(2026, 5, 1), date(2026, 9, 1)))
    prices = TablePrices(
        {"scripted": RATES}, policy=PricePolicy(stale="refuse"), today=lambda: next(days)
    )
    ledger = UsageLedger()
    await Metered(ScriptedLLM("hi"), ledger, prices=prices).complete(ASKED)
    assert only_row(ledger).price is None
    assert ledger.totals().unpriced == 1


async def test_estimates_learn_from_what_is_measured() -> None:
    """After an answer with its counts, an attempt that is lost is estimated nearer."""
    counter = ModelTokens("scripted")
    raw = counter.count_request(ASKED).tokens
    ledger = UsageLedger()
    service = Metered(
        ScriptedLLM(reply("hi", usage=Usage(2 * raw, 1)), ConnectionLost("gone")), ledger, counter
    )
    await service.complete(ASKED)
    with pytest.raises(ConnectionLost):
        await service.complete(ASKED)
    assert ledger.rows[1].usage.input_tokens == pytest.approx(2 * raw, abs=1)


async def test_each_model_that_is_asked_is_estimated_in_its_own_way() -> None:
    """What one model's provider counts says nothing about another's."""
    ledger = UsageLedger()
    raw = ModelTokens("scripted").count_request(ASKED).tokens
    service = Metered(
        ScriptedLLM(
            reply("hi", usage=Usage(3 * raw, 1)), ConnectionLost("gone"), ConnectionLost("gone")
        ),
        ledger,
    )
    await service.complete(ASKED)
    for model in ("gpt-4o", None):
        with pytest.raises(ConnectionLost):
            await service.complete(msgspec.structs.replace(ASKED, model=model))
    counts = [row.usage.input_tokens for row in ledger.rows]
    assert counts == [3 * raw, ModelTokens("gpt-4o").count_request(ASKED).tokens, 3 * raw]
    assert [row.model for row in ledger.rows] == ["scripted", "gpt-4o", "scripted"]


async def test_everything_else_is_that_of_the_service_inside() -> None:
    """Its model, whether it binds output, its checks, and its end."""
    inner = ScriptedLLM("hi", model="inner")
    service: LLMService = Metered(inner, UsageLedger())
    assert (service.model, service.binds_output, service.retries) == ("inner", True, False)
    service.check(ASKED)
    await service.aclose()
    assert inner.closed


# ── sums ──────────────────────────────────────────────────────────────────────────────────────────

USAGES = st.sampled_from(
    [Usage(100, 10), Usage(100, 10, 50, 20, 5), Usage(), Usage(100), Usage(None, 3)]
)
FREE: tuple[Callable[[], LLMError] | None, ...] = (
    lambda: ConnectFailed("no", sent=False),
    lambda: RateLimited("no"),
)
BILLED = (lambda: ServerError("no"), lambda: ConnectionLost("no"))
ERRORS = st.sampled_from([*FREE, *BILLED])
PLANS = st.lists(
    st.tuples(
        st.booleans(), USAGES, st.none() | st.integers(0, 12), st.none() | ERRORS, st.booleans()
    ),
    max_size=6,
)


@given(PLANS, st.sampled_from(["asyncio", "trio"]))
@settings(max_examples=60, deadline=None)
def test_sums_are_totals_across_answers_errors_and_cancellations(
    plan: list[tuple[bool, Usage, int | None, Callable[[], LLMError] | None, bool]], backend: str
) -> None:
    """Whatever happens to the attempts, each has a row, and the rows add up to the totals."""
    ledger = UsageLedger()

    async def attempt(
        stream: bool,
        usage: Usage,
        events: int | None,
        error: Callable[[], LLMError] | None,
        cancel: bool,
    ) -> None:
        line = Reply(
            parts=reply(LONG).parts,
            usage=usage,
            break_after=events,
            error=None if error is None else error(),
        )
        service = metered(line, ledger=ledger)
        with anyio.CancelScope() as scope:
            if cancel:
                scope.cancel()
            with suppress(LLMError):
                await (read(service, events) if stream else service.complete(ASKED))

    async def run() -> None:
        for each in plan:
            await attempt(*each)

    anyio.run(run, backend=backend)
    rows, totals = ledger.rows, ledger.totals()
    assert [row.attempt for row in rows] == list(range(1, len(plan) + 1))
    assert totals.attempts == len(rows)
    assert totals.usage == sum((row.usage for row in rows), Usage(0, 0))
    told = [row.usage for row in rows if row.cache_hit_rate is not None]
    assert totals.cacheable == sum(usage.input_tokens or 0 for usage in told)
    assert totals.amount == sum((row.price.amount for row in rows if row.price), Decimal(0))
    assert totals.unpriced == 0
    for row in rows:
        assert row.usage.input_tokens is not None
        assert row.usage.output_tokens is not None
        free = plan[row.attempt - 1][3] in FREE and row.status == "failed"
        assert row.usage.total_tokens > 0 or free
        assert row.price is not None or not row.usage.total_tokens
    assert msgspec.json.decode(msgspec.json.encode(rows), type=tuple[UsageRow, ...]) == rows
