"""What is known of how models count, one row for each family.

Only OpenAI's vocabularies are here. The text of other makers' models is counted with the nearest of
them and a factor, which comes far nearer than an estimate from its characters: that is left for
models that no row is about. Numbers without a source are measured in recorded traffic
(`python -m tests.token_table` shows how near they come).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from msgspec import Struct, structs

from llm_client._model_name import bare_name, vendor_of
from llm_client.tokens._media import Crops, Flat, ImageRule, Patches, Pixels, Tiles
from llm_client.tokens.vocabulary import VocabularyName

__all__ = ["Family", "family_of"]


class Family(Struct, frozen=True, kw_only=True):
    """How the models of a family count.

    Attributes:
        vocabulary: the one that their text is counted with; None to estimate it by its characters.
        own_vocabulary: it is the one that they themselves have.
        factor: how many tokens they make of one of that vocabulary.
        framing_known: their maker has published what surrounds messages, so that plain text is
            counted exactly.
        reasoning: of the history's reasoning counts all, that of messages with calls, or none.
        sealed: how many characters of a seal are a token of the reasoning behind it, where that
            counts though it is not shown.
        per_message: tokens around each message, its role included.
        per_request: tokens around the whole, such as the beginning of the answer.
        recipe: tools are counted by the recipe for functions of OpenAI's cookbook, not as JSON.
        per_tool: tokens around each tool's declaration; below 0 where the model is shown less.
        tool_factor: how many tokens a declaration has for one of its JSON.
        for_tools: tokens of the prompt that explains tools, if there are any.
        per_call: tokens around each call and its result.
        schema_counts: the schema that an answer is bound to counts as input.
        for_schema: tokens of the prompt that explains a schema, if there is one.
        image: how images count.
        audio_second: tokens of a second of sound.
        page: tokens of a page of a document.
    """

    vocabulary: VocabularyName | None = None
    own_vocabulary: bool = False
    factor: float = 1.0
    framing_known: bool = False
    reasoning: Literal["always", "with_calls", "never"] = "always"
    sealed: float | None = None
    per_message: int = 4
    per_request: int = 3
    recipe: bool = False
    per_tool: int = 8
    tool_factor: float = 1.0
    for_tools: int = 150
    per_call: int = 8
    schema_counts: bool = True
    for_schema: int = 0
    image: ImageRule = Flat()
    audio_second: float = 25.0
    page: int = 800


def _openai(image: ImageRule, *, framing_known: bool = False) -> Family:
    # Sound: a token for 100 ms of what the user says, by the guide on managing realtime costs.
    return Family(
        vocabulary="o200k_base",
        own_vocabulary=True,
        framing_known=framing_known,
        reasoning="never",
        recipe=True,
        per_tool=7,
        for_tools=12,
        image=image,
        audio_second=10.0,
    )


def _reasoning(image: ImageRule) -> Family:
    return structs.replace(_openai(image), per_request=2, per_call=15)


def _older(image: ImageRule) -> Family:
    return Family(
        vocabulary="cl100k_base",
        own_vocabulary=True,
        framing_known=True,
        reasoning="never",
        recipe=True,
        per_tool=10,
        for_tools=12,
        image=image,
    )


_GPT_OSS = structs.replace(
    _openai(Flat()), reasoning="with_calls", per_request=65, for_tools=26, per_call=12
)


def _claude(factor: float, for_tools: int) -> Family:
    # w*h/750 of the image scaled to 1,568 pixels, by the vision guide; 1,500 to 3,000 a page, by
    # the guide on PDF.
    return Family(
        vocabulary="o200k_base",
        factor=factor,
        per_message=2,
        per_request=5,
        per_tool=8,
        for_tools=for_tools,
        per_call=55,
        for_schema=100,
        image=Pixels(),
        page=2250,
    )


# 258 a tile and a page, 32 a second, by the guide on tokens.
_GEMINI_2 = Family(
    vocabulary="o200k_base",
    per_message=0,
    per_request=0,
    recipe=True,
    per_tool=-4,
    for_tools=0,
    per_call=0,
    schema_counts=False,
    image=Crops(),
    audio_second=32.0,
    page=258,
)
_GEMINI_2_5 = structs.replace(_GEMINI_2, per_message=1, recipe=False, per_tool=-8, per_call=10)
# 1,120 for an image and 560 for a page at their default resolution, by the guide on Gemini 3.
_GEMINI_3 = structs.replace(_GEMINI_2_5, sealed=4.9, per_tool=-13, image=Flat(1120), page=560)


def _other(
    per_message: int, per_request: int, for_tools: int, *, per_tool: int = 4, per_call: int = 8
) -> Family:
    return Family(
        vocabulary="o200k_base",
        reasoning="with_calls",
        per_message=per_message,
        per_request=per_request,
        per_tool=per_tool,
        for_tools=for_tools,
        per_call=per_call,
    )


_MISTRAL = structs.replace(_other(3, 1, 0, per_tool=1), tool_factor=1.33)
_GROK_4_3 = structs.replace(_other(6, 186, 26, per_call=11), reasoning="always", sealed=6.4)

# Messages and tools of OpenAI: the recipe "How to count tokens with tiktoken" of its cookbook, for
# gpt-3.5-turbo, gpt-4, gpt-4o and gpt-4o-mini. Images: the guide on images and vision.
_ROWS: tuple[tuple[str, Family], ...] = (
    (r"gpt-4o-mini", _openai(Tiles(2833, 5667), framing_known=True)),
    (r"(chat)?gpt-4o", _openai(Tiles(85, 170), framing_known=True)),
    (r"gpt-4\.1-mini", _openai(Patches(1.62))),
    (r"gpt-4\.1-nano", _openai(Patches(2.46))),
    (r"gpt-4\.[15]", _openai(Tiles(85, 170))),
    (r"gpt-5[\w.-]*-mini", _reasoning(Patches(1.62))),
    (r"gpt-5[\w.-]*-nano", _reasoning(Patches(2.46))),
    (r"gpt-[5-9]", _reasoning(Tiles(70, 140))),
    (r"o4-mini", _reasoning(Patches(1.72))),
    (r"o[134](-|$)", _reasoning(Tiles(75, 150))),
    (r"computer-use-preview", _openai(Tiles(65, 129))),
    (r"gpt-oss", _GPT_OSS),
    (r"gpt-(4|3\.?5)(-|$)", _older(Tiles(85, 170))),
    (r"claude-(opus-4[.-][7-9]|(opus|sonnet|haiku|fable|mythos)-[5-9])", _claude(1.4, 490)),
    (r"claude-(opus|sonnet|haiku)-4[.-][5-9]", _claude(1.11, 490)),
    (r"claude-(opus|sonnet|haiku)-4", _claude(1.15, 310)),
    (r"claude-3-opus", _claude(1.15, 530)),
    (r"claude", _claude(1.15, 270)),
    (r"gemini-3", _GEMINI_3),
    (r"gemini-2[.]5", _GEMINI_2_5),
    (r"gemini|learnlm|gemma-3", _GEMINI_2),
    (r"command-a-plus", _other(4, 70, 110, per_call=40)),
    (r"command-(a|r7b)", _other(4, 490, 890, per_tool=12, per_call=45)),
    (r"command-r(-plus)?-\d\d-202", _other(4, 196, 1200)),
    (r"command", _other(4, 58, 760)),
    (r"(open-)?mi[sx]tral|(min|mag)istral|(code|dev)stral|pixtral|voxtral", _MISTRAL),
    (r"deepseek-r1-distill-llama", _other(2, 0, 100)),
    (r"deepseek", _other(1, 3, 222, per_call=55)),
    (r"qwen|qwq", _other(4, 6, 50)),
    (r"(zai-)?glm", _other(3, 5, 130)),
    (r"(meta-)?llama-?4", _other(4, 3, 650)),
    (r"(meta-)?llama-?3[.]", _other(4, 26, 100)),
    (r"(meta-)?llama", _other(4, 6, 100)),
    (r"grok-4[.]3", _GROK_4_3),
    (r"grok", _other(6, 0, 125, per_call=11)),
    (r"sonar", _other(0, 1, 150)),
)
_FAMILIES: Mapping[re.Pattern[str], Family] = MappingProxyType(
    {re.compile(pattern): family for pattern, family in _ROWS}
)

UNKNOWN = Family()


def family_of(model: str, provider: str | None = None) -> Family:
    """The family of `model` as it counts at `provider`, if it is known who serves it; one that
    estimates everything where the model is not known."""
    name = bare_name(model)
    for pattern, family in _FAMILIES.items():
        if pattern.match(name):
            at_vertex = provider is not None and vendor_of(provider) == "vertex"
            return _at_vertex(family) if at_vertex and name.startswith("gemini") else family
    return UNKNOWN


def _at_vertex(family: Family) -> Family:
    """Vertex counts what a model is told, and little of the form that it is told in."""
    return structs.replace(family, recipe=True, per_message=0, per_tool=3, per_call=0, sealed=None)
