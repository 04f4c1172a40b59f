"""Whose models are served where, and under which names. What is not said here is not known."""

from __future__ import annotations

import re

from msgspec import Struct

from llm_client._model_name import bare_name, vendor_of

__all__ = ["Asked", "Maker"]


class Maker(Struct, frozen=True):
    """Who makes models.

    Attributes:
        providers: who serves them under their names; names of `llm_client.PROVIDERS`, and of rows
            of one's own.
        spaces: what gateways write before their names.
        versions: what may follow their names.
    """

    providers: frozenset[str]
    spaces: frozenset[str]
    versions: re.Pattern[str]


# Days, numbers, and words that makers put behind the name of a model; then those of Bedrock, and
# the variants of OpenRouter that change only where it is run.
_DATED = (
    r"(?:[-@]20\d{6}|-20\d\d-\d\d-\d\d|-\d\d-\d\d(?:\d\d)?|-\d{3,4}"
    r"|-latest|-preview|-exp|-experimental|-beta)*"
)
_SERVED = r"(?:-v\d+(?::\d+)?|-\d:\d)?(?::(?:free|nitro|floor|batch))?"
_VERSIONS = re.compile(_DATED + _SERVED)
# Weights that anybody can serve are also served in fewer bits, and by their sizes.
_BITS = r"(?:-instruct|-chat)?(?:-fp8|-fp16|-awq|-q\d\w*)?(?:-fast|-turbo)?"
_SIZED = rf"(?::(?:latest|\d+(?:\.\d+)?b{_BITS}))?"
_OPEN_VERSIONS = re.compile(_DATED + _BITS + _SERVED + _SIZED)

_HOSTS = (
    "bedrock",
    "cerebras",
    "fireworks",
    "groq",
    "huggingface",
    "ollama",
    "openrouter",
    "together",
)


def _closed(*spaces: str, at: tuple[str, ...]) -> Maker:
    return Maker(frozenset(at), frozenset(spaces), _VERSIONS)


def _open(*spaces: str, at: tuple[str, ...] = ()) -> Maker:
    return Maker(frozenset((*_HOSTS, *at)), frozenset(spaces), _OPEN_VERSIONS)


OPENAI = _closed("openai", at=("openai", "azure", "openrouter"))
OPENAI_OPEN = _open("openai")
ANTHROPIC = _closed("anthropic", at=("anthropic", "bedrock", "openrouter", "vertex"))
GOOGLE = _closed("google", at=("gemini", "openrouter", "vertex"))
DEEPSEEK = _open("deepseek", "deepseek-ai", at=("deepseek",))
MISTRAL = _open("mistral", "mistralai", at=("mistral",))
QWEN = _open("qwen", at=("qwen",))
MOONSHOT = _open("moonshotai", at=("moonshot",))
XAI = _closed("x-ai", at=("openrouter", "xai"))
COHERE = _closed("cohere", at=("cohere", "openrouter"))
META = _open("meta", "meta-llama")
ZAI = _open("z-ai", "zai-org", at=("zai",))
PERPLEXITY = _closed("perplexity", at=("openrouter", "perplexity"))
HERE = Maker(frozenset(("local",)), frozenset(), re.compile(""))

# They serve models of many makers, and every name begins with its maker.
_ALWAYS_WITH_MAKER = frozenset(("huggingface", "openrouter", "together"))
# In Gemini's addresses, and in those of Fireworks.
_NO_MAKER = frozenset(("", "models"))


class Asked:
    """A model at a provider, and who may have made it."""

    def __init__(self, provider: str, model: str) -> None:
        self.provider = vendor_of(provider)
        whole = model.lower().strip()
        name = bare_name(model)
        before = whole[: len(whole) - len(name)]
        tuned = before.removesuffix("ft:")
        self._space = re.split(r"[/.]", tuned.rstrip("/."))[-1]
        # Behind a fine-tuned model's name stand its owner and its number.
        self.name = name if tuned == before else name.partition(":")[0]

    def by(self, maker: Maker) -> bool:
        """Whether `maker`'s models are served there, under such names."""
        if self.provider not in maker.providers:
            return False
        named = self._space not in _NO_MAKER
        return self._space in maker.spaces or not (named or self.provider in _ALWAYS_WITH_MAKER)

    def fits(self, pattern: re.Pattern[str], maker: Maker) -> bool:
        """Whether the whole name is `pattern`, and what may follow it."""
        found = pattern.match(self.name)
        return found is not None and maker.versions.fullmatch(self.name, found.end()) is not None
