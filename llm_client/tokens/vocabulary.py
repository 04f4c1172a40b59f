"""The vocabularies of OpenAI's models, from files of this package: no network, ever.

tiktoken knows the same vocabularies, but fetches them at their first use. So they are read here,
straight from the package into memory, and their checksums are those that tiktoken demands.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from llm_client.errors import ConfigError

if TYPE_CHECKING:
    from tiktoken import Encoding

__all__ = ["VocabularyName", "count_encoded", "load_vocabulary"]

VocabularyName = Literal["o200k_base", "cl100k_base"]


class _Facts(Struct, frozen=True):
    """A vocabulary's checksum, and the pattern that cuts a text before it is encoded."""

    sha256: str
    pattern: str


_CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_UPPER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}"
_LOWER = r"\p{Ll}\p{Lm}\p{Lo}\p{M}"

# Published in tiktoken_ext/openai_public.py of tiktoken.
_FACTS: Mapping[VocabularyName, _Facts] = MappingProxyType(
    {
        "o200k_base": _Facts(
            "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
            "|".join(
                (
                    rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+{_CONTRACTION}",
                    rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*{_CONTRACTION}",
                    r"\p{N}{1,3}",
                    r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
                    r"\s*[\r\n]+",
                    r"\s+(?!\S)",
                    r"\s+",
                )
            ),
        ),
        "cl100k_base": _Facts(
            "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
            r"'(?i:[sdmt]|ll|ve|re)"
            r"|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
            r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
        ),
    }
)

_BLANK = 50_000
_LONG_BLANK = re.compile(rf"(?<!\s)(\s{{{_BLANK}}}\s*)")
"""Where white space goes on for so long. The lookbehind keeps the search linear."""


@lru_cache(maxsize=2)
def load_vocabulary(name: VocabularyName) -> Encoding:
    """The vocabulary `name`; the first time it takes 0.1 to 0.3 s. Kept for the whole process, as
    it takes up to 100 MB and never changes.

    Raises:
        ConfigError: this installation is damaged.
    """
    import tiktoken  # noqa: PLC0415  only those who count for OpenAI's models need it

    facts = _FACTS[name]
    packed = files("llm_client.tokens").joinpath("vocabularies", f"{name}.tiktoken.gz")
    try:
        data = gzip.decompress(packed.read_bytes())
    except (OSError, EOFError) as error:
        raise ConfigError(f"the vocabulary {name!r} cannot be read; install again") from error
    if hashlib.sha256(data).hexdigest() != facts.sha256:
        raise ConfigError(f"the vocabulary {name!r} of this installation is damaged; install again")
    lines = (line.partition(b" ") for line in data.splitlines())
    ranks = {base64.b64decode(token): int(rank) for token, _, rank in lines}
    return tiktoken.Encoding(name, pat_str=facts.pattern, mergeable_ranks=ranks, special_tokens={})


def count_encoded(encoding: Encoding, text: str) -> int:
    """Tokens of `text`. Marks such as `<|endoftext|>` in it are text like any other.

    White space that goes on for more than 50,000 characters is counted in pieces, which may come to
    a token more each: tiktoken's engine runs out of stack at a million.
    """
    if len(text) < _BLANK:
        return len(encoding.encode_ordinary(text))
    count = 0
    for number, piece in enumerate(_LONG_BLANK.split(text)):
        step = _BLANK if number % 2 else len(piece)
        for at in range(0, len(piece), step or 1):
            count += len(encoding.encode_ordinary(piece[at : at + step]))
    return count
