"""The words of a text, as notes are searched for: the same in every store.

Letters are compared without case, accents and the plural's s. Scripts that set no spaces between
words (Chinese, Japanese, Thai, …) are cut into single characters and pairs. Whatever is neither a
letter nor a digit parts words and means nothing, so there is no text that cannot be searched for.

What is stored of a note depends on all this: to change it takes a step of the schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from unicodedata import category, normalize

from msgspec import Struct

__all__ = ["Term", "terms_of", "words_of"]

_LONGEST = 64
"""Characters of a word; what is longer is no word, but data, and is known by its beginning."""
_ENDS = 2_000
"""Characters that are looked at, at each end of a long query."""
_FIRST, _LAST = 12, 20
"""Words that are looked for, of a query that has more."""
_PREFIX = 4
"""Characters from which on a word stands for longer ones that begin with it, too."""

_ACCENTS = re.compile("[\u0300-\u036f]+")
_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]+)"
)
_ENGLISH = """
a about an and any are as at be been but by can could did do does for from had has have he her him
his how i if in is it its just me my no not of on or our please she should so tell than that the
their them then there these they this those to was we were what when where which who why will with
would you your
"""
_COMMON = frozenset(_ENGLISH.split())
"""Words that many notes have: to look for them costs much, and tells no note from another."""


class Term(Struct, frozen=True):
    """What is looked for: a word, or all words that begin so."""

    word: str
    prefix: bool


def words_of(text: str) -> list[str]:
    """The words of a text, in order."""
    folded = normalize("NFC", _ACCENTS.sub("", normalize("NFKD", text.casefold())))
    spaced = "".join([c if category(c)[0] in "LMN" else " " for c in folded])
    return [word for each in spaced.split() for word in _parts(each)]


def terms_of(query: str) -> list[Term]:
    """What to look for on behalf of a query in natural language, each once; any will do.

    A word itself counts more than one that begins with it, because it is looked for as both.
    """
    if len(query) > 2 * _ENDS:
        query = f"{query[:_ENDS]} {query[-_ENDS:]}"
    words = dict.fromkeys(words_of(query))
    telling = [word for word in words if word not in _COMMON and word + "s" not in _COMMON]
    telling = telling or [*words]
    if len(telling) > _FIRST + _LAST:
        telling = telling[:_FIRST] + telling[-_LAST:]
    return [*_terms(telling)]


def _terms(words: Iterable[str]) -> Iterator[Term]:
    for word in words:
        yield Term(word, prefix=False)
        if len(word) >= _PREFIX:
            yield Term(word, prefix=True)


def _parts(text: str) -> Iterator[str]:
    for n, part in enumerate(_UNSPACED.split(text)):
        if n % 2:
            yield from part
            yield from (part[i : i + 2] for i in range(len(part) - 1))
        elif any(map(str.isalnum, part)):
            yield _singular(part[:_LONGEST])


def _singular(word: str) -> str:
    """A word without the s of a plural, where it may be one; the same for every form of it."""
    if len(word) < 4 or not word.endswith("s") or word.endswith(("us", "ss")):
        return word
    return word[:-3] + "y" if word.endswith("ies") else word[:-1]
