"""Jobs side by side: when a task is spent on them, and what ends them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel
import pytest

from power_loop.driver.batch import side_by_side
from power_loop.pipeline.ports import Job

pytestmark = pytest.mark.anyio

both_ways = pytest.mark.parametrize("wait", [False, True])


def jobs(count: int, run: Callable[[int], Awaitable[bool]]) -> list[Job]:
    """Jobs that call `run` with their number."""

    def numbered(number: int) -> Callable[[], Awaitable[bool]]:
        return lambda: run(number)

    return [Job(numbered(number)) for number in range(count)]


def here() -> int:
    """The current task."""
    return anyio.get_current_task().id


async def test_jobs_that_never_wait_run_in_order_in_the_task_that_is_there() -> None:
    """A task for each would cost more than most of them."""
    seen: list[tuple[int, int]] = []

    async def run(number: int) -> bool:
        seen.append((number, here()))
        return True

    assert await side_by_side(jobs(5, run), wait=False)
    assert seen == [(number, here()) for number in range(5)]


@both_ways
@pytest.mark.parametrize("count", [2, 3, 9])
async def test_jobs_that_wait_run_at_the_same_time(count: int, wait: bool) -> None:
    """Each waits until all have begun."""
    begun: set[int] = set()
    all_there = anyio.Event()

    async def run(number: int) -> bool:
        begun.add(number)
        if len(begun) == count:
            all_there.set()
        await all_there.wait()
        return True

    with anyio.fail_after(5):
        assert await side_by_side(jobs(count, run), wait=wait)
    assert begun == set(range(count))


@both_ways
async def test_one_that_waits_after_others_did_not_holds_nobody_up(wait: bool) -> None:
    """The third waits for the last."""
    last = anyio.Event()
    done: list[int] = []

    async def run(number: int) -> bool:
        if number == 2:
            await last.wait()
        if number == 5:
            last.set()
        done.append(number)
        return True

    with anyio.fail_after(5):
        assert await side_by_side(jobs(6, run), wait=wait)
    assert sorted(done) == list(range(6))
    assert done.index(2) > done.index(5)


@both_ways
@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("breaks", [0, 1, 3])
async def test_the_first_error_ends_the_others_and_is_raised_as_it_is(
    breaks: int, waits: bool, wait: bool
) -> None:
    """Not in an exception group, and none of the others comes to its end."""
    ended: list[int] = []
    ready = anyio.Event()

    async def run(number: int) -> bool:
        if number == breaks:
            if waits:
                await anyio.lowlevel.checkpoint()
            raise ValueError(str(number))
        await ready.wait()
        ended.append(number)
        return True

    with anyio.fail_after(5), pytest.raises(ValueError, match=f"^{breaks}$"):
        await side_by_side(jobs(4, run), wait=wait)
    assert ended == []


@both_ways
async def test_a_job_that_breaks_the_batch_off_keeps_the_rest_from_their_work(wait: bool) -> None:
    """Whoever checks for cancellation first, as taking a place does, does not begin."""
    worked: list[int] = []

    async def run(number: int) -> bool:
        await anyio.lowlevel.checkpoint_if_cancelled()
        worked.append(number)
        return number != 0

    assert not await side_by_side(jobs(3, run), wait=wait)
    if wait:
        # Tasks of a trio nursery begin in any order.
        assert 0 in worked
    else:
        assert worked == [0]


@both_ways
async def test_a_cancellation_from_outside_reaches_all(wait: bool) -> None:
    """And is not taken for an end of the batch."""
    cancelled: list[int] = []

    async def run(number: int) -> bool:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(number)
        return True

    with anyio.move_on_after(0.01) as scope:
        await side_by_side(jobs(4, run), wait=wait)
    assert scope.cancelled_caught
    assert sorted(cancelled) == [0, 1, 2, 3]


async def test_no_job_is_no_work_and_a_single_one_needs_no_group() -> None:
    """The single one's own answer is the batch's."""

    async def run(number: int) -> bool:
        return False

    assert await side_by_side([], wait=True)
    assert not await side_by_side(jobs(1, run), wait=True)
