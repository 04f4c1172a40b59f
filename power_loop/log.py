"""The one logger of this package. It says nothing unless the program sets logging up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import logging

__all__ = ["logger"]


class _Lazy:
    """Stands for the logger: the logging module takes 3 ms to load, and most runs say nothing."""

    def __getattr__(self, name: str) -> Any:
        import logging  # noqa: PLC0415

        real = logging.getLogger("power_loop")
        if not real.handlers:
            real.addHandler(logging.NullHandler())
        return getattr(real, name)


logger = cast("logging.Logger", _Lazy())
