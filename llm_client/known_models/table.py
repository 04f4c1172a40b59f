"""What is known of models, from their makers' documentation. The first row that fits counts; it
holds for whole names, where its maker's models are served (`served`).

A row says only what its source says. Names that a maker points to another model from time to time
(`mistral-large-latest`) have rows only for what has held for all of them.
"""

from __future__ import annotations

import re

from msgspec import Struct, structs

from llm_client.known_models import served
from llm_client.known_models.values import ModelCapabilities

__all__ = ["declared"]


class _Row(Struct, frozen=True):
    """The pattern of a model's name, what is known of it, and at which provider; None for whoever
    serves the model."""

    pattern: re.Pattern[str]
    known: ModelCapabilities
    provider: str | None = None


def _row(pattern: str, known: ModelCapabilities, provider: str | None = None) -> _Row:
    return _Row(re.compile(pattern), known, provider)


def _sized(
    base: ModelCapabilities, window: int | None, output: int | None, **more: bool | None
) -> ModelCapabilities:
    return structs.replace(base, context_window=window, max_output_tokens=output, **more)


# ── OpenAI: https://platform.openai.com/docs/models, and the page of each model ───────────────────

_GPT = ModelCapabilities(
    tools=True,
    parallel_tools=True,
    json_schema=True,
    images=True,
    pdf=True,
    audio=False,
    thinking=False,
    prompt_cache=True,
    temperature=True,
    system_prompt=True,
)
_TEXT_ONLY = ModelCapabilities(images=False, pdf=False, audio=False)
_OLD_GPT = structs.replace(_GPT, images=False, pdf=False, json_schema=False, prompt_cache=False)
# The guide on reasoning: no temperature, except where the effort is none.
_REASONING = structs.replace(_GPT, thinking=True, temperature=False)
_EFFORT_MAY_BE_NONE = structs.replace(_REASONING, temperature=None)
_O = structs.replace(_REASONING, parallel_tools=None)
_FIRST_O = structs.replace(
    _O, tools=False, json_schema=False, images=False, pdf=False, system_prompt=False
)

_OPENAI = (
    _row(
        r"gpt-4o(-mini)?-audio", _sized(_GPT, 128_000, 16_384, audio=True, images=False, pdf=False)
    ),
    _row(r"gpt-4o-2024-05-13", _sized(_GPT, 128_000, 4_096, json_schema=False)),
    _row(r"chatgpt-4o|gpt-4o(-mini)?", _sized(_GPT, 128_000, 16_384)),
    _row(r"gpt-4\.1(-mini|-nano)?", _sized(_GPT, 1_047_576, 32_768)),
    _row(r"gpt-4\.5", _sized(_GPT, 128_000, 16_384)),
    _row(r"gpt-4-turbo-preview$", _sized(_OLD_GPT, 128_000, 4_096)),
    _row(r"gpt-4-turbo", _sized(_OLD_GPT, 128_000, 4_096, images=True)),
    _row(r"gpt-4(-0613|-0314)?$", _sized(_OLD_GPT, 8_192, 8_192)),
    _row(r"gpt-3\.?5-turbo(-0125|-1106)?$", _sized(_OLD_GPT, 16_385, 4_096)),
    _row(r"gpt-5-chat", _sized(_GPT, 128_000, 16_384)),
    # They adapt their reasoning; of temperatures there are contrary reports.
    _row(r"gpt-5\.\d-chat", _sized(_GPT, 128_000, 16_384, thinking=None, temperature=None)),
    _row(r"gpt-5-pro", _sized(_REASONING, 400_000, 272_000)),
    _row(r"gpt-5(-mini|-nano|-codex)?(-20\d\d-\d\d-\d\d)?$", _sized(_REASONING, 400_000, 128_000)),
    _row(
        r"gpt-5\.(1(-codex(-mini|-max)?)?|2(-pro|-codex)?|3-codex)",
        _sized(_EFFORT_MAY_BE_NONE, 400_000, 128_000),
    ),
    _row(r"gpt-5\.4-(mini|nano)", _sized(_EFFORT_MAY_BE_NONE, 400_000, 128_000)),
    _row(r"gpt-5\.4(-pro)?", _sized(_EFFORT_MAY_BE_NONE, 1_050_000, 128_000)),
    _row(r"o1-preview", _sized(_FIRST_O, 128_000, 32_768)),
    _row(r"o1-mini", _sized(_FIRST_O, 128_000, 65_536)),
    _row(r"o3-mini", _sized(_O, 200_000, 100_000, images=False)),
    _row(r"(o1|o3|o4-mini)(-pro)?(-20\d\d-\d\d-\d\d)?$", _sized(_O, 200_000, 100_000)),
)

_OPENAI_OPEN = (
    _row(
        r"gpt-oss[-:](120b|20b)|gpt-oss(?=:latest$)",
        _sized(_TEXT_ONLY, 131_072, None, tools=True, thinking=True),
    ),
)

# ── Anthropic: https://docs.claude.com/en/docs/about-claude/models/overview; structured output and
# ── PDF by their guides ───────────────────────────────────────────────────────────────────────────

_CLAUDE_3 = ModelCapabilities(
    tools=True,
    parallel_tools=True,
    json_schema=False,
    images=True,
    audio=False,
    thinking=False,
    prompt_cache=True,
    temperature=True,
    system_prompt=True,
)
_CLAUDE_4 = structs.replace(_CLAUDE_3, pdf=True, thinking=True)
_CLAUDE_4_5 = structs.replace(_CLAUDE_4, json_schema=True)
# Since Opus 4.7 a temperature is refused: "`temperature` is deprecated for this model".
_CLAUDE_NOW = structs.replace(_CLAUDE_4_5, temperature=None)

_ANTHROPIC = (
    _row(r"claude-3-(opus|sonnet|haiku)", _sized(_CLAUDE_3, 200_000, 4_096)),
    _row(r"claude-3[-.]5-(sonnet|haiku)", _sized(_CLAUDE_3, 200_000, 8_192, pdf=True)),
    _row(r"claude-3[-.]7-sonnet", _sized(_CLAUDE_4, 200_000, 64_000)),
    _row(r"claude-opus-4[-.]1", _sized(_CLAUDE_4_5, 200_000, 32_000)),
    _row(r"claude-(opus-4(-0)?|4-opus)", _sized(_CLAUDE_4, 200_000, 32_000)),
    _row(r"claude-(sonnet-4(-0)?|4-sonnet)", _sized(_CLAUDE_4, 200_000, 64_000)),
    _row(r"claude-(opus|sonnet|haiku)-4[-.]5", _sized(_CLAUDE_4_5, 200_000, 64_000)),
    _row(r"claude-opus-4[-.]6", _sized(_CLAUDE_4_5, 1_000_000, 128_000)),
    _row(r"claude-sonnet-4[-.]6", _sized(_CLAUDE_4_5, 1_000_000, None)),
    _row(r"claude-opus-4[-.]7", _sized(_CLAUDE_NOW, 1_000_000, 128_000, temperature=False)),
    _row(r"claude-(opus-4[-.]8|(opus|sonnet)-5)", _sized(_CLAUDE_NOW, 1_000_000, None)),
)

# ── Google: https://ai.google.dev/gemini-api/docs/models ──────────────────────────────────────────

_GEMINI_1 = ModelCapabilities(
    tools=True,
    parallel_tools=True,
    json_schema=True,
    images=True,
    pdf=True,
    audio=True,
    thinking=False,
    prompt_cache=True,
    temperature=True,
    system_prompt=True,
)
_GEMINI_2_5 = structs.replace(_GEMINI_1, thinking=True)

_GOOGLE = (
    _row(r"gemini-1\.5-pro", _sized(_GEMINI_1, 2_097_152, 8_192)),
    _row(r"gemini-1\.5-flash(-8b)?", _sized(_GEMINI_1, 1_048_576, 8_192)),
    _row(r"gemini-2\.0-flash-thinking", ModelCapabilities(thinking=True, images=True)),
    _row(r"gemini-2\.0-flash(-lite)?", _sized(_GEMINI_1, 1_048_576, 8_192)),
    _row(r"gemini-2\.5-(pro|flash(-lite)?)", _sized(_GEMINI_2_5, 1_048_576, 65_536)),
    _row(r"gemini-3(\.1)?-(pro|flash(-lite)?)", _sized(_GEMINI_2_5, 1_048_576, 65_536)),
)

# ── DeepSeek: https://api-docs.deepseek.com/quick_start/pricing; its own service takes text only,
# ── and JSON mode without a schema ────────────────────────────────────────────────────────────────

_DEEPSEEK_API = structs.replace(
    _TEXT_ONLY, tools=True, json_schema=False, prompt_cache=True, system_prompt=True
)

_DEEPSEEK = (
    _row(
        r"deepseek-v4(-flash|-pro)?",
        _sized(_DEEPSEEK_API, 1_000_000, None, thinking=True),
        "deepseek",
    ),
    _row(
        r"deepseek-v3\.[12](-terminus)?",
        _sized(_DEEPSEEK_API, 128_000, None, thinking=True),
        "deepseek",
    ),
    _row(r"deepseek-reasoner", structs.replace(_DEEPSEEK_API, thinking=True), "deepseek"),
    _row(r"deepseek-chat", _DEEPSEEK_API, "deepseek"),
    _row(
        r"deepseek-((chat-)?v3(\.[12])?(-terminus)?|r1(-distill-(llama|qwen)-\d+b)?|chat|reasoner)",
        _TEXT_ONLY,
    ),
)

# ── Mistral: https://docs.mistral.ai/getting-started/models ───────────────────────────────────────

_MISTRAL_TEXT = structs.replace(
    _TEXT_ONLY,
    tools=True,
    parallel_tools=True,
    json_schema=True,
    temperature=True,
    system_prompt=True,
)
_MISTRAL_SEES = structs.replace(_MISTRAL_TEXT, images=True, pdf=None)
_ANY_MISTRAL = structs.replace(_MISTRAL_TEXT, images=None, pdf=None, audio=None)

_MISTRAL = (
    _row(r"mistral-large-(2407|2411)", _sized(_MISTRAL_TEXT, 131_072, None)),
    _row(r"mistral-large-2512", _sized(_MISTRAL_SEES, 262_144, None)),
    _row(r"mistral-medium-(2505|2508)", _sized(_MISTRAL_SEES, 131_072, None)),
    _row(r"mistral-small-(2503|2506)", _sized(_MISTRAL_SEES, 131_072, None)),
    _row(r"pixtral-(12b|large)", _sized(_MISTRAL_SEES, 131_072, None)),
    _row(r"ministral-(3b|8b)-2410", _sized(_MISTRAL_TEXT, 131_072, None)),
    _row(r"codestral-(2501|2508)", _sized(_MISTRAL_TEXT, 256_000, None)),
    _row(r"open-mistral-nemo", _sized(_MISTRAL_TEXT, 131_072, None)),
    _row(r"magistral-(small|medium)", structs.replace(_ANY_MISTRAL, thinking=True)),
    _row(r"mistral-(large|medium|small)-latest", _ANY_MISTRAL),
)

# ── Alibaba: https://huggingface.co/Qwen, the card of each model ──────────────────────────────────

_QWEN = (
    _row(
        r"qwen-?(2\.5|2|3)?-?vl(-(max|plus|\d+b(-a\d+b)?))?(-instruct|-thinking)?",
        ModelCapabilities(images=True, system_prompt=True),
    ),
    _row(r"qwq(-32b)?", structs.replace(_TEXT_ONLY, thinking=True)),
    _row(
        r"qwen-?2\.5[-:](7b|14b|32b|72b)",
        _sized(_TEXT_ONLY, 131_072, None, tools=True, thinking=False),
    ),
    _row(
        r"qwen3-(4b|30b-a3b|235b-a22b)(-instruct)?-2507",
        _sized(_TEXT_ONLY, 262_144, None, tools=True, thinking=False),
    ),
    _row(
        r"qwen3-(4b|30b-a3b|235b-a22b)-thinking-2507",
        _sized(_TEXT_ONLY, 262_144, None, tools=True, thinking=True),
    ),
    _row(
        r"qwen3-coder(-30b-a3b|-480b-a35b)?",
        _sized(_TEXT_ONLY, 262_144, None, tools=True, thinking=False),
    ),
    _row(
        r"qwen-?3[-:](0\.6|1\.7|4|8|14|30|32|235)b(-a\d+b)?",
        structs.replace(_TEXT_ONLY, tools=True, thinking=True),
    ),
)

# ── Moonshot: https://platform.moonshot.ai/docs ───────────────────────────────────────────────────

_K2 = structs.replace(_TEXT_ONLY, tools=True, thinking=False, temperature=True, system_prompt=True)

_MOONSHOT = (
    _row(r"kimi-k2-(0711|instruct$)", _sized(_K2, 131_072, None)),
    _row(r"kimi-k2-(0905|turbo|instruct-0905)", _sized(_K2, 262_144, None)),
    _row(r"kimi-k2-thinking(-turbo)?", _sized(_K2, 262_144, None, thinking=True)),
    _row(r"kimi-k2\.[56]", _sized(_K2, 262_144, None, thinking=True, images=True)),
    _row(r"moonshot-v1-8k$", _sized(_K2, 8_192, None)),
    _row(r"moonshot-v1-32k$", _sized(_K2, 32_768, None)),
    _row(r"moonshot-v1-128k$", _sized(_K2, 131_072, None)),
)

# ── xAI: https://docs.x.ai/docs/models ────────────────────────────────────────────────────────────

_GROK = ModelCapabilities(
    tools=True, json_schema=True, pdf=None, audio=False, prompt_cache=True, system_prompt=True
)

_XAI = (
    _row(
        r"grok-2-vision",
        _sized(_GROK, 32_768, None, images=True, thinking=False, prompt_cache=None),
    ),
    _row(r"grok-3-mini(-fast)?", _sized(_GROK, 131_072, None, images=False, thinking=True)),
    _row(r"grok-3(-fast)?", _sized(_GROK, 131_072, None, images=False, thinking=False)),
    _row(
        r"grok-4(-1|\.1)?-fast-non-reasoning",
        _sized(_GROK, 2_000_000, None, images=True, thinking=False),
    ),
    _row(
        r"grok-4(-1|\.1)?-fast(-reasoning)?",
        _sized(_GROK, 2_000_000, None, images=True, thinking=True),
    ),
    _row(r"grok-4(-0709)?$", _sized(_GROK, 256_000, None, images=True, thinking=True)),
    _row(r"grok-code-fast-1", _sized(_GROK, 256_000, None, images=False, thinking=True)),
)

# ── Cohere: https://docs.cohere.com/docs/models ───────────────────────────────────────────────────

_COMMAND = structs.replace(
    _TEXT_ONLY,
    tools=True,
    parallel_tools=True,
    json_schema=True,
    thinking=False,
    temperature=True,
    system_prompt=True,
)

_COHERE = (
    _row(r"command-a-vision", _sized(_COMMAND, 128_000, 8_000, images=True, tools=False)),
    _row(r"command-a-reasoning", _sized(_COMMAND, 256_000, 32_000, thinking=True)),
    _row(r"command-a-03-2025", _sized(_COMMAND, 256_000, 8_000)),
    _row(r"command-r(7b-12-2024|-08-2024|-plus-08-2024)", _sized(_COMMAND, 128_000, 4_000)),
)

# ── Meta, Zhipu, Perplexity and this machine ──────────────────────────────────────────────────────

# https://console.groq.com/docs/models and https://inference-docs.cerebras.ai/models
_LLAMA_3 = structs.replace(_TEXT_ONLY, tools=True, thinking=False, system_prompt=True)
_LLAMA_4 = r"llama-4-(scout|maverick)(-17b-(16|128)e)?"
_GLM = structs.replace(_TEXT_ONLY, tools=True, thinking=True, system_prompt=True)

_META = (
    _row(r"llama-3\.3-70b-versatile", _sized(_LLAMA_3, 131_072, 32_768), "groq"),
    _row(r"llama-3\.1-8b-instant", _sized(_LLAMA_3, 131_072, 131_072), "groq"),
    _row(r"llama-?3\.1-8b", _sized(_LLAMA_3, 32_768, None), "cerebras"),
    _row(r"llama-?3\.3-70b", _sized(_LLAMA_3, 128_000, None), "cerebras"),
    _row(r"llama-?3[-.]2-(11b|90b)(-vision)?", ModelCapabilities(images=True, audio=False)),
    _row(r"(meta-)?llama-?3([-.][13])?[-:](8b|70b|405b)(-versatile)?", _TEXT_ONLY),
    _row(_LLAMA_4, _sized(_LLAMA_3, 131_072, 8_192, images=True), "groq"),
    _row(_LLAMA_4, ModelCapabilities(images=True, audio=False, thinking=False)),
)

# https://docs.z.ai/guides/llm
_ZAI = (
    _row(r"glm-4\.5(-airx|-air|-flash|-x)?", _sized(_GLM, 131_072, 98_304)),
    _row(r"glm-4\.[67]", _sized(_GLM, 204_800, 131_072)),
)

# https://docs.perplexity.ai/getting-started/models
_SONAR = ModelCapabilities(tools=False, json_schema=True)
_PERPLEXITY = (
    _row(r"sonar-pro", _sized(_SONAR, 200_000, None)),
    _row(r"sonar(-reasoning(-pro)?|-deep-research)?", _sized(_SONAR, 128_000, None)),
)

_HERE = (
    # Its tools are emulated, one call at a time: see llm_client.local.
    _row(
        r"smollm2",
        _sized(
            _TEXT_ONLY,
            8_192,
            None,
            tools=True,
            parallel_tools=False,
            json_schema=True,
            thinking=False,
            temperature=True,
            system_prompt=True,
        ),
    ),
)

_MADE_BY = (
    (served.OPENAI, _OPENAI),
    (served.OPENAI_OPEN, _OPENAI_OPEN),
    (served.ANTHROPIC, _ANTHROPIC),
    (served.GOOGLE, _GOOGLE),
    (served.DEEPSEEK, _DEEPSEEK),
    (served.MISTRAL, _MISTRAL),
    (served.QWEN, _QWEN),
    (served.MOONSHOT, _MOONSHOT),
    (served.XAI, _XAI),
    (served.COHERE, _COHERE),
    (served.META, _META),
    (served.ZAI, _ZAI),
    (served.PERPLEXITY, _PERPLEXITY),
    (served.HERE, _HERE),
)


def declared(provider: str, model: str) -> ModelCapabilities:
    """What the table says of `model` at `provider`."""
    asked = served.Asked(provider, model)
    for maker, rows in _MADE_BY:
        if not asked.by(maker):
            continue
        for row in rows:
            if row.provider in (None, asked.provider) and asked.fits(row.pattern, maker):
                return row.known
    return ModelCapabilities()
