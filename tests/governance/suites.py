"""How the tests run pytest on small repositories, and see what is left of it."""

from __future__ import annotations

from pathlib import Path

import anyio
import anyio.lowlevel

from power_loop.governance.blueprints.failures import PYTEST

__all__ = ["QUICK", "alive", "gone"]

_PLUGINS = ("anyio", "hypothesispytest", "inline_snapshot")
QUICK = (*PYTEST, *[word for name in _PLUGINS for word in ("-p", f"no:{name}")])
"""Without our own plugins, which take longer to load than everything else."""


def alive(pid: int) -> bool:
    """Whether a process still does anything; one that nobody has waited for does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rsplit(") ", 1)[1][0] not in "ZX"


async def gone(pid: int) -> None:
    """Returns when a process that was sent a signal has died of it."""
    while alive(pid):
        await anyio.lowlevel.checkpoint()
