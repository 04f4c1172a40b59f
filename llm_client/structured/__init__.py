"""Typed answers: what a model is asked for, and what becomes of what it says.

answer = await complete_as(service, request, City)
answer.value                                   # City(name="Bern", people=134794)

spec       what an answer must be: a schema, and the check
asking     asks for it in one of three ways, and again if it does not fit; `streaming` shows
           it while it grows, which `partial` reads
text       JSON as models write it; `reasoning` is what some write before it
schema     JSON Schemas made simple, or strict; `validator` checks a value against one, and
           `problems` says what is wrong, in words for a model

Importing this package loads nothing; what needs pydantic is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llm_client.structured.asking import StructuredResult, Way, complete_as
    from llm_client.structured.errors import (
        OutputEmpty,
        OutputError,
        OutputFiltered,
        OutputInvalid,
        OutputRefused,
        OutputTruncated,
        StructuredOutputError,
    )
    from llm_client.structured.partial import Partial, PartialJson
    from llm_client.structured.schema import simplify_schema, strict_schema
    from llm_client.structured.spec import OutputSpec, output_spec
    from llm_client.structured.streaming import StructuredStream, stream_as
    from llm_client.structured.text import parse_structured

__all__ = [
    "OutputEmpty",
    "OutputError",
    "OutputFiltered",
    "OutputInvalid",
    "OutputRefused",
    "OutputSpec",
    "OutputTruncated",
    "Partial",
    "PartialJson",
    "StructuredOutputError",
    "StructuredResult",
    "StructuredStream",
    "Way",
    "complete_as",
    "output_spec",
    "parse_structured",
    "simplify_schema",
    "stream_as",
    "strict_schema",
]

_LAZY = MappingProxyType(
    {
        "OutputEmpty": "errors",
        "OutputError": "errors",
        "OutputFiltered": "errors",
        "OutputInvalid": "errors",
        "OutputRefused": "errors",
        "OutputSpec": "spec",
        "OutputTruncated": "errors",
        "Partial": "partial",
        "PartialJson": "partial",
        "StructuredOutputError": "errors",
        "StructuredResult": "asking",
        "StructuredStream": "streaming",
        "Way": "asking",
        "complete_as": "asking",
        "output_spec": "spec",
        "parse_structured": "text",
        "simplify_schema": "schema",
        "stream_as": "streaming",
        "strict_schema": "schema",
    }
)
"""What is loaded on first use, and from which module: some of it loads pydantic."""


if not TYPE_CHECKING:
    # Hidden from type checkers, which would otherwise believe that any name exists.
    def __getattr__(name: str) -> object:
        module = _LAZY.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
        return value
