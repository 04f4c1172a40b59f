"""Does a store keep the promises of `Store`? Put yours through it:

    await check_store(lambda: open_my_store(), reopen=open_another_handle_on)

or, so that each promise is a test of its own, with any test framework:

    @pytest.mark.parametrize("check", STORE_CHECKS, ids=lambda check: check.name)
    async def test_my_store(check):
        await run_store_check(check, open_my_store, open_another_handle_on)
"""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from power_loop.errors import PowerLoopError
from power_loop.testing._store_harness import (
    MakeStore,
    Reopen,
    StoreCheck,
    StoreDefect,
    Stores,
)
from power_loop.testing._store_inbox_checks import INBOX_CHECKS
from power_loop.testing._store_lease_checks import LEASE_CHECKS
from power_loop.testing._store_log_checks import LOG_CHECKS

__all__ = [
    "STORE_CHECKS",
    "MakeStore",
    "Reopen",
    "StoreCheck",
    "StoreDefect",
    "check_store",
    "run_store_check",
]

STORE_CHECKS: tuple[StoreCheck, ...] = (*LOG_CHECKS, *LEASE_CHECKS, *INBOX_CHECKS)


async def run_store_check(
    check: StoreCheck, make: MakeStore, reopen: Reopen | None = None, *, patience: float = 30.0
) -> None:
    """Puts a store through one check.

    Args:
        check: one of `STORE_CHECKS`.
        make: opens a new, empty store.
        reopen: opens another handle on the data of a store, which may have been closed; None if
            there can be no such thing. A check that needs it must then not be run.
        patience: seconds it may take; a store that forgets to wake somebody would hang for ever.

    Raises:
        StoreDefect: the promise is not kept; says which, and how that was seen.
    """
    try:
        with anyio.fail_after(patience):
            async with Stores(make, reopen) as stores:
                await check.run(stores)
    except StoreDefect as defect:
        raise StoreDefect(f"{check.name}: {defect}") from defect
    except TimeoutError as error:
        raise StoreDefect(f"{check.name}: nothing happened for {patience:g} s") from error
    except (PowerLoopError, ExceptionGroup) as error:
        raise StoreDefect(f"{check.name}: raised {error!r}") from error


async def check_store(make: MakeStore, reopen: Reopen | None = None) -> Sequence[str]:
    """Puts a store through all checks; returns the names of those that were run.

    Without `reopen` the checks that need a second handle are left out.

    Raises:
        StoreDefect: promises are not kept; names them all.
    """
    checks = [check for check in STORE_CHECKS if reopen is not None or not check.needs_reopen]
    defects: list[str] = []
    for check in checks:
        try:
            await run_store_check(check, make, reopen)
        except StoreDefect as defect:
            defects.append(str(defect))
    if defects:
        raise StoreDefect("\n".join(defects))
    return [check.name for check in checks]
