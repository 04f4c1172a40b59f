"""What is known of how models count, one row for each family.

Where a row has no vocabulary, its maker publishes none that could be used here without a network,
and texts are estimated from their characters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

from llm_client._model_name import bare_name
from llm_client.tokens._media import Crops, Flat, ImageRule, Patches, Pixels, Tiles
from llm_client.tokens.vocabulary import VocabularyName

__all__ = ["Family", "family_of"]


class Family(Struct, frozen=True, kw_only=True):
    """How the models of a family count.

    Attributes:
        vocabulary: the one that their text is encoded with, None if it is only estimated.
        framing_known: their maker has published what surrounds messages, so that plain text is
            counted exactly.
        reasoning_counts: the reasoning in the history is sent, and counted.
        per_message: tokens around each message, its role included.
        per_request: tokens around the whole, such as the beginning of the answer.
        per_tool: tokens around each tool's declaration.
        for_tools: tokens of the prompt that explains tools, if there are any.
        schema_counts: the schema that an answer is bound to counts as input.
        image: how images count.
        audio_second: tokens of a second of sound.
        page: tokens of a page of a document.
    """

    vocabulary: VocabularyName | None = None
    framing_known: bool = False
    reasoning_counts: bool = True
    per_message: int = 4
    per_request: int = 3
    per_tool: int = 8
    for_tools: int = 150
    schema_counts: bool = True
    image: ImageRule = Flat()
    audio_second: float = 25.0
    page: int = 800


def _openai(image: ImageRule, *, framing_known: bool = False, per_request: int = 3) -> Family:
    # Sound: a token for 100 ms of what the user says, by the guide on managing realtime costs.
    return Family(
        vocabulary="o200k_base",
        framing_known=framing_known,
        reasoning_counts=False,
        per_request=per_request,
        per_tool=7,
        for_tools=12,
        image=image,
        audio_second=10.0,
    )


def _older(image: ImageRule) -> Family:
    return Family(
        vocabulary="cl100k_base",
        framing_known=True,
        reasoning_counts=False,
        per_tool=10,
        for_tools=12,
        image=image,
    )


# Claude: w*h/750 of the image scaled to 1,568 pixels, by the vision guide; 346 tokens for tools, by
# the overview of tool use; 1,500 to 3,000 a page, by the guide on PDF.
_CLAUDE = Family(per_message=5, per_request=3, for_tools=346, image=Pixels(), page=2250)
# 500 for tools since 4.5: measured in recorded traffic.
_CLAUDE_4_5 = Family(per_message=5, per_request=3, for_tools=500, image=Pixels(), page=2250)

# 258 a tile and a page, 32 a second, by the guide on tokens.
_GEMINI = Family(
    per_message=1,
    per_request=0,
    for_tools=0,
    schema_counts=False,
    image=Crops(),
    audio_second=32.0,
    page=258,
)

# 1,120 for an image and 560 for a page at their default resolution, by the guide on Gemini 3.
_GEMINI_3 = Family(
    per_message=1,
    per_request=0,
    for_tools=0,
    schema_counts=False,
    image=Flat(1120),
    audio_second=32.0,
    page=560,
)

# Messages and tools: the recipe "How to count tokens with tiktoken" of OpenAI's cookbook, which is
# about gpt-3.5-turbo, gpt-4, gpt-4o and gpt-4o-mini. Images: the guide on images and vision. That
# models which reason begin their answer with a token less, and that gpt-oss has its own prompt, is
# measured in recorded traffic.
_ROWS: tuple[tuple[str, Family], ...] = (
    (r"gpt-4o-mini", _openai(Tiles(2833, 5667), framing_known=True)),
    (r"(chat)?gpt-4o", _openai(Tiles(85, 170), framing_known=True)),
    (r"gpt-4\.1-mini", _openai(Patches(1.62))),
    (r"gpt-4\.1-nano", _openai(Patches(2.46))),
    (r"gpt-4\.[15]", _openai(Tiles(85, 170))),
    (r"gpt-5[\w.-]*-mini", _openai(Patches(1.62), per_request=2)),
    (r"gpt-5[\w.-]*-nano", _openai(Patches(2.46), per_request=2)),
    (r"gpt-[5-9]", _openai(Tiles(70, 140), per_request=2)),
    (r"o4-mini", _openai(Patches(1.72), per_request=2)),
    (r"o[134](-|$)", _openai(Tiles(75, 150), per_request=2)),
    (r"computer-use-preview", _openai(Tiles(65, 129))),
    (r"gpt-oss", _openai(Flat(), per_request=65)),
    (r"gpt-(4|3\.?5)(-|$)", _older(Tiles(85, 170))),
    (r"claude-(opus|sonnet|haiku)-(4[.-][5-9]|[5-9])", _CLAUDE_4_5),
    (r"claude", _CLAUDE),
    (r"gemini-3", _GEMINI_3),
    (r"gemini|learnlm|gemma-3", _GEMINI),
)
_FAMILIES: Mapping[re.Pattern[str], Family] = MappingProxyType(
    {re.compile(pattern): family for pattern, family in _ROWS}
)

UNKNOWN = Family()


def family_of(model: str) -> Family:
    """The family of `model`; one that estimates everything where the model is not known."""
    name = bare_name(model)
    for pattern, family in _FAMILIES.items():
        if pattern.match(name):
            return family
    return UNKNOWN
