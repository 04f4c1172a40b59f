"""What generations of Claude take, as data; requests that they would refuse are never sent.

From the vendor's documentation, its error texts and recorded traffic. A Claude of unknown version
is taken for the newest; any other model for one that knows budgets of thinking and no more.
"""

from __future__ import annotations

import re
from typing import Literal

from msgspec import Struct, structs

__all__ = ["Generation", "generation_of"]

_NAMES = "opus|sonnet|haiku|fable|mythos"
_VERSION = rf"(?:(?:{_NAMES})-(\d)(?:-(\d)(?!\d))?(?!\d)|claude-(\d)(?:-(\d)(?!\d))?-(?:{_NAMES}))"
_ALWAYS_THINKS = r"fable|mythos"


class Generation(Struct, frozen=True, kw_only=True):
    """What one generation of models takes.

    Attributes:
        since: the version that it begins with.
        thinking: how reasoning is asked for: not at all, by a budget of tokens, by an effort that
            the model adapts to, or both ways.
        efforts: the words for an effort.
        shows_thinking: reasoning is shown without being asked for.
        always_thinks: reasoning cannot be switched off.
        sampling: `temperature` and `top_p` are taken.
        prefill: the model continues an assistant message that ends the transcript.
        system_turns: a system message may stand inside of the transcript.
        json_schema: the answer can be bound to a schema, and calls to their tools' schemas.
        compacts: the model makes a summary of a prompt that is too long.
        most_output: the largest output limit that is taken.
    """

    since: tuple[int, int] = (0, 0)
    thinking: Literal["none", "budget", "both", "adaptive"] = "budget"
    efforts: tuple[str, ...] = ()
    shows_thinking: bool = True
    always_thinks: bool = False
    sampling: bool = True
    prefill: bool = True
    system_turns: bool = False
    json_schema: bool = False
    compacts: bool = False
    most_output: int = 4096


_V3 = Generation(since=(3, 0), thinking="none")
_V35 = structs.replace(_V3, since=(3, 5), most_output=8192)
_V37 = Generation(since=(3, 7), most_output=64_000)
_V4 = structs.replace(_V37, since=(4, 0), most_output=32_000)
_V41 = structs.replace(_V4, since=(4, 1), json_schema=True)
_V45 = structs.replace(_V41, since=(4, 5), most_output=64_000)
_V46 = structs.replace(
    _V45,
    since=(4, 6),
    thinking="both",
    efforts=("low", "medium", "high", "max"),
    prefill=False,
    compacts=True,
)
_V47 = structs.replace(
    _V46,
    since=(4, 7),
    thinking="adaptive",
    efforts=("low", "medium", "high", "xhigh", "max"),
    shows_thinking=False,
    sampling=False,
    most_output=128_000,
)
_V48 = structs.replace(_V47, since=(4, 8), system_turns=True)

_GENERATIONS = (_V48, _V47, _V46, _V45, _V41, _V4, _V37, _V35, _V3)
_OTHER = Generation(json_schema=True, compacts=True, most_output=2**31)


def generation_of(model: str | None) -> Generation:
    """What `model` takes, by its name; prefixes and suffixes of platforms do not matter."""
    name = (model or "").lower().replace(".", "-")
    found = re.search(_VERSION, name)
    if found is None:
        if "claude" not in name:
            return _OTHER
        version = (99, 0)
    else:
        digits = [int(digit) for digit in found.groups(default="0")]
        version = (digits[0] + digits[2], digits[1] + digits[3])
    generation = next((one for one in _GENERATIONS if version >= one.since), _V3)
    if re.search(_ALWAYS_THINKS, name):
        return structs.replace(generation, always_thinks=True)
    return generation
