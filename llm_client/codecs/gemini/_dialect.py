"""Where Gemini's services and models differ: data, not branches.

Each difference stands here because recorded traffic, the vendor's documentation or its error texts
show it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct, structs

__all__ = ["GEMINI", "VERTEX", "GeminiDialect", "GeminiFamily", "gemini_dialect", "gemini_family"]


class GeminiDialect(Struct, frozen=True, kw_only=True):
    """One service's way of speaking the protocol.

    Attributes:
        provider: its name, in errors.
        origin: the owner of seals and opaque parts; both services know each other's.
        tool_traces: the calls of tools that the provider runs are shown on request, and must be
            where functions are offered beside them.
    """

    provider: str = "gemini"
    origin: str = "gemini"
    tool_traces: bool = True


GEMINI = GeminiDialect()
# The address differs, which is no matter of the codec; the flag is refused as unknown.
VERTEX = GeminiDialect(provider="vertex", tool_traces=False)


def gemini_dialect(provider: str) -> GeminiDialect:
    """The dialect of `provider`; an unknown one speaks as the Gemini API does, under its own
    name."""
    return VERTEX if provider == VERTEX.provider else structs.replace(GEMINI, provider=provider)


class GeminiFamily(Struct, frozen=True, kw_only=True):
    """What the models whose names begin alike can do.

    Attributes:
        levels: the thinking level for each effort; empty where thinking is bounded in tokens.
        budgets: the thinking budget for each effort; empty where there is none.
        media_results: results of functions may hold images and files.
        combines: functions may be offered beside tools that the provider runs, and while the
            answer is bound to a schema.
    """

    levels: Mapping[str, str] = MappingProxyType({})
    budgets: Mapping[str, int] = MappingProxyType({})
    media_results: bool = False
    combines: bool = False


# The budgets are those that Google's own endpoint for Chat Completions translates efforts to.
_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 8192, "high": 24576}

_LEVELS = {"none": "low", "minimal": "low", "low": "low", "medium": "medium", "high": "high"}

_NEWEST = GeminiFamily(
    # From here on thinking cannot be turned off, and "low" is the least that all models know.
    levels=MappingProxyType(_LEVELS),
    media_results=True,
    combines=True,
)
_LEAST_THINKING = structs.replace(
    _NEWEST, levels=MappingProxyType({**_LEVELS, "none": "minimal", "minimal": "minimal"})
)
_FAMILIES = (
    ("gemma", GeminiFamily()),
    ("gemini-1", GeminiFamily()),
    ("gemini-2.0", GeminiFamily()),
    # Pro never stops thinking; 128 is the least that it takes.
    ("gemini-2.5-pro", GeminiFamily(budgets=MappingProxyType({"none": 128, **_BUDGETS}))),
    ("gemini-2.5", GeminiFamily(budgets=MappingProxyType({"none": 0, **_BUDGETS}))),
    # The first Pro of the third generation has two levels, some Flash models a fourth one.
    (
        "gemini-3-pro",
        structs.replace(_NEWEST, levels=MappingProxyType({**_LEVELS, "medium": "high"})),
    ),
    ("gemini-3-flash", _LEAST_THINKING),
    ("gemini-3.1-flash-lite", _LEAST_THINKING),
    ("gemini-3.5-flash", _LEAST_THINKING),
    ("gemini-3.6-flash", _LEAST_THINKING),
)


def gemini_family(model: str) -> GeminiFamily:
    """The family of `model`; one that is not known counts as of the newest."""
    name = model.rpartition("/")[2]
    for prefix, family in _FAMILIES:
        if name.startswith(prefix):
            return family
    return _NEWEST
