"""Only checked, never run: the type asked for is the type of the value."""

from __future__ import annotations

from typing import Any, assert_type

from msgspec import Struct

from llm_client import (
    LLMRequest,
    LLMService,
    OutputSpec,
    complete_as,
    output_spec,
    parse_structured,
    stream_as,
)


class City(Struct):
    """Something to ask for."""

    name: str


async def values(service: LLMService, request: LLMRequest) -> None:
    """Types, specs of types, schemas, and what a type checker takes for no type."""
    assert_type((await complete_as(service, request, City)).value, City)
    assert_type((await complete_as(service, request, list[City])).value, list[City])
    assert_type(output_spec(City), OutputSpec[City])
    assert_type((await complete_as(service, request, output_spec(City))).value, City)
    assert_type(output_spec({"type": "object"}), OutputSpec[dict[str, Any]])
    assert_type((await complete_as(service, request, City | None)).value, Any)
    async with stream_as(service, request, City) as answer:
        assert_type((await answer.result()).value, City)
        async for partial in answer:
            assert_type(partial.complete, bool)
    assert_type(parse_structured("{}", {}), dict[str, Any])
