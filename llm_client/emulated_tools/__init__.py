"""Tools for models that have none: a call becomes a JSON answer bound to a schema, and back.

    LLMRequest with tools ─► plan ─► schema + prompt ─► inner service ─► reader ─► ToolCalls or text

`emulation` says how a model is to be led, `plan` what one request may be answered with, `schema`
and `prompt` write that down for the model, `reader` takes its answer apart as it arrives.
"""

from __future__ import annotations

from llm_client.emulated_tools.emulation import Emulation
from llm_client.emulated_tools.service import EmulatedTools

__all__ = ["EmulatedTools", "Emulation"]
