"""A model's own name, whatever stands before it."""

from __future__ import annotations

import re

__all__ = ["bare_name"]

_BEFORE = re.compile(r"^(?:.*/)?(?:ft:)?(?:\w+\.)*(?=[a-z])")


def bare_name(model: str) -> str:
    """`model` in lower case, without what gateways and fine-tuning put before a model's own name:
    `openai/`, `ft:`, `us.anthropic.`."""
    return _BEFORE.sub("", model.lower().strip())
