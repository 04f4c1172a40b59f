"""A model's own name, and its provider's, whatever stands around them."""

from __future__ import annotations

import re

__all__ = ["bare_name", "vendor_of"]

_BEFORE = re.compile(r"^(?:.*/)?(?:ft:)?(?:\w+\.)*(?=[a-z])")
_PROTOCOL = re.compile(r"-(responses|messages|native)$")


def bare_name(model: str) -> str:
    """`model` in lower case, without what gateways and fine-tuning put before a model's own name:
    `openai/`, `ft:`, `us.anthropic.`."""
    return _BEFORE.sub("", model.lower().strip())


def vendor_of(provider: str) -> str:
    """The provider in lower case, by whichever of its protocols it is spoken to."""
    return _PROTOCOL.sub("", provider.lower())
