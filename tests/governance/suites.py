"""How the tests run pytest on small repositories."""

from __future__ import annotations

from power_loop.governance.blueprints.failures import PYTEST

__all__ = ["QUICK"]

_PLUGINS = ("anyio", "hypothesispytest", "inline_snapshot")
QUICK = (*PYTEST, *[word for name in _PLUGINS for word in ("-p", f"no:{name}")])
"""Without our own plugins, which take longer to load than everything else."""
