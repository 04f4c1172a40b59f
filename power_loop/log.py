"""The one logger of this package. It says nothing unless the program sets logging up."""

from __future__ import annotations

import logging

__all__ = ["logger"]

logger = logging.getLogger("power_loop")
logger.addHandler(logging.NullHandler())
