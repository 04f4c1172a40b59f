"""What a run has used: every attempt is counted, also those that brought nothing."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from llm_client.types import Usage
from power_loop.session.records import ModelEnded, Record
from tests.agent.support import check_log
from tests.agent.test_over_http import rigged
from tests.llm_client.chat import HELLO_WORLD, delta, whole
from tests.loopback import RESET, STALL, answer, sse

pytestmark = pytest.mark.anyio

QUESTION = "How many people live in the five largest cities of the country?"


def attempts(log: list[Record]) -> list[ModelEnded]:
    """The ends of all model calls."""
    return [record for record in log if isinstance(record, ModelEnded)]


def total(ended: list[ModelEnded]) -> Usage:
    """Their sum."""
    usage = Usage(0, 0)
    for record in ended:
        usage += record.usage
    return usage


async def test_an_attempt_that_broke_off_is_estimated_and_never_free(tmp_path: Path) -> None:
    """The prompt was read and some of the answer written; the run's usage is the sum of both."""
    broken = sse(delta("About two million people, "), RESET)
    async with rigged(tmp_path, broken, sse(*HELLO_WORLD)) as (loop, _, _):
        async with loop.stream(QUESTION, "s") as run:
            result = await run.result()
        first, second = attempts(await check_log(loop, "s"))
    assert (first.status, first.measured) == ("failed", False)
    assert 10 <= (first.usage.input_tokens or 0) <= 40
    assert 4 <= (first.usage.output_tokens or 0) <= 20
    # This provider counts nothing even when all goes well.
    assert (second.status, second.measured) == ("ok", False)
    assert second.usage.input_tokens == first.usage.input_tokens
    assert (second.usage.output_tokens or 0) >= 2
    assert result.usage == total([first, second])


async def test_an_attempt_that_was_cancelled_is_estimated(tmp_path: Path) -> None:
    """By what had arrived when it was."""
    silent = sse(delta("About two million people, "), STALL)
    async with rigged(tmp_path, silent) as (loop, _, _):
        async with loop.stream(QUESTION, "s") as run:
            async for stamped in run:
                if getattr(stamped.event, "text", "").startswith("About"):
                    break
        (ended,) = attempts(await check_log(loop, "s"))
    assert (ended.status, ended.measured) == ("cancelled", False)
    assert ended.partial == "About two million people, "
    assert (ended.usage.input_tokens or 0) >= 10
    assert (ended.usage.output_tokens or 0) >= 4


async def test_what_the_provider_turned_away_costs_nothing(tmp_path: Path) -> None:
    """An overloaded provider has not begun; a broken one may have."""
    busy = answer(503, b'{"error": {"message": "overloaded"}}')
    ill = answer(500, b'{"error": {"message": "internal"}}')
    async with rigged(tmp_path, busy, ill, answer(200, whole("Hello"))) as (loop, _, _):
        with anyio.fail_after(10):
            assert (await loop.send(QUESTION, "s")).status == "completed"
        turned_away, failed, ok = attempts(await check_log(loop, "s"))
    assert (turned_away.usage, turned_away.measured) == (Usage(0, 0), False)
    assert (failed.usage.input_tokens or 0) >= 10
    assert failed.usage.output_tokens == 0
    assert (failed.measured, ok.measured) == (False, True)
