"""Typed answers: `output_type`, as the client's structured output knows it."""

from __future__ import annotations

from typing import Any

from llm_client.errors import ConfigError
from llm_client.structured.spec import OutputSpec, output_spec
from power_loop.errors import UsageError

__all__ = ["OutputSpec", "requested"]


def requested(output_type: Any) -> OutputSpec[Any]:
    """What `output_type` asks for.

    Raises:
        UsageError: there is no schema for it.
    """
    try:
        return output_spec(output_type)
    except ConfigError as error:
        raise UsageError(error.message) from error
