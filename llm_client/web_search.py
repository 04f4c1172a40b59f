"""Searches the web by way of a SearXNG gateway made for agents."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

from llm_client._json_endpoint import JsonEndpoint
from llm_client._proxy import proxy_for
from llm_client.codecs._json import as_dict, as_list, mend
from llm_client.codecs._retry_after import retry_after
from llm_client.errors import (
    CallerError,
    ConfigError,
    LLMError,
    MalformedResponse,
    excerpt,
    redact,
)
from llm_client.transport.base import Transport
from llm_client.transport.deadlines import Deadlines
from llm_client.transport.httpx_transport import HttpxTransport

__all__ = ["SearchAnswer", "SearchResult", "WebSearchClient", "WebSearchError"]

SHORTEST_SNIPPET = 50
_PREFIX = "SEARXNG_"
_PASSING = frozenset({408, 425, 429})


class WebSearchError(LLMError):
    """The gateway refused a search, or answered with something that is none.

    Attributes:
        body: the beginning of what it said.
    """

    def __init__(self, message: str, *, body: str, status: int | None, **rest: Any) -> None:
        super().__init__(message, status=status, **rest)
        self.body = body


class SearchResult(Struct, frozen=True):
    """One page that was found. `rank` counts from 1."""

    rank: int
    title: str
    url: str
    snippet: str


class SearchAnswer(Struct, frozen=True):
    """What a search came to.

    Attributes:
        query: what was searched for.
        results: the pages, the best first.
        answers: direct answers, in words.
        infobox: what is known of the thing that was searched for, in words.
        suggestions: other searches.
    """

    query: str
    results: tuple[SearchResult, ...] = ()
    answers: tuple[str, ...] = ()
    infobox: str | None = None
    suggestions: tuple[str, ...] = ()

    def summary(self) -> str:
        """All of it as text for a model."""
        lines = [f"Search results for {self.query!r}: {len(self.results) or 'none'}"]
        lines += [f"Answer: {answer}" for answer in self.answers]
        if self.infobox:
            lines.append(f"About: {self.infobox}")
        for result in self.results:
            lines += ["", f"{result.rank}. {result.title}", f"   {result.url}"]
            if result.snippet:
                lines.append(f"   {result.snippet}")
        if self.suggestions:
            lines += ["", f"Related searches: {'; '.join(self.suggestions)}"]
        return "\n".join(lines)


class WebSearchClient:
    """Asks one gateway, once a search: to retry is its caller's business.

    Args:
        transport: carries the requests; closed together with the client.
        base_url: the gateway's address.
        api_token: its token.
        max_results: pages of a search that does not say how many.
        snippet_length: characters of what is quoted of a page, at least 50.
        deadlines: how long each phase of a search may take; by default 30 seconds in all.

    Raises:
        ConfigError: a setting cannot be used.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        base_url: str,
        api_token: str,
        max_results: int = 5,
        snippet_length: int = 240,
        deadlines: Deadlines | None = None,
    ) -> None:
        if max_results < 1:
            raise ConfigError(f"max_results must be at least 1, is {max_results}")
        self._endpoint = JsonEndpoint(
            transport,
            base_url=base_url,
            headers={"authorization": f"Bearer {api_token}"},
            deadlines=deadlines or Deadlines.within(30),
            provider="searxng",
            refused=_refused,
        )
        self._max_results = max_results
        self._snippet_length = max(SHORTEST_SNIPPET, snippet_length)

    def __repr__(self) -> str:
        return f"WebSearchClient({self._endpoint!r})"

    @classmethod
    def from_env(
        cls, env: Mapping[str, str] | None = None, *, transport: Transport | None = None
    ) -> WebSearchClient:
        """The client that the environment describes.

        SEARXNG_ followed by BASE_URL and API_TOKEN, which are needed, MAX_RESULTS (5),
        SNIPPET_MAX_LENGTH (240, at least 50) and TIMEOUT_S (30).

        Raises:
            ConfigError: variables are missing or wrong; names every one of them.
        """
        environ = os.environ if env is None else env
        read = {
            name: environ.get(_PREFIX + name, "").strip()
            for name in ("BASE_URL", "API_TOKEN", "MAX_RESULTS", "SNIPPET_MAX_LENGTH", "TIMEOUT_S")
        }
        wrong = [f"{_PREFIX}{name} is missing" for name in list(read)[:2] if not read[name]]
        results = _number(read, "MAX_RESULTS", 5, wrong)
        length = _number(read, "SNIPPET_MAX_LENGTH", 240, wrong)
        seconds = _number(read, "TIMEOUT_S", 30, wrong)
        if wrong:
            raise ConfigError("; ".join(wrong))
        base_url = read["BASE_URL"]
        return cls(
            transport or HttpxTransport(proxy=proxy_for(base_url, environ)),
            base_url=base_url,
            api_token=read["API_TOKEN"],
            max_results=max(1, int(results)),
            snippet_length=int(length),
            deadlines=Deadlines.within(seconds),
        )

    async def search(
        self,
        query: str,
        *,
        max_results: int | None = None,
        language: str | None = None,
        categories: str | None = None,
    ) -> SearchAnswer:
        """What the web holds on `query`.

        Args:
            query: what is searched for.
            max_results: pages at most.
            language: such as "de", by default any.
            categories: such as "news", separated by commas.

        Raises:
            CallerError: the query is empty, or `max_results` is no number of pages; nothing was
                sent.
            WebSearchError: the gateway refused, or its answer makes no sense.
            TransportError: the answer did not arrive.
        """
        if not query.strip():
            raise CallerError("the query is empty; say what to search for")
        most = self._max_results if max_results is None else max_results
        if most < 1:
            raise CallerError(f"max_results must be at least 1, is {most}")
        asked = {"q": query, "max_results": most, "snippet_max_length": self._snippet_length}
        asked |= {"language": language} if language else {}
        asked |= {"categories": categories} if categories else {}
        try:
            return await self._endpoint.ask(
                f"/search/agent?{urlencode(asked)}",
                lambda answer: self._read(query, answer.value, most),
                method="GET",
            )
        except MalformedResponse as error:
            raise WebSearchError(
                error.message,
                body="",
                status=error.status,
                retryable=error.retryable,
                request_id=error.request_id,
                provider=error.provider,
            ) from error

    def _read(self, query: str, said: dict[str, Any], most: int) -> SearchAnswer:
        rows = [as_dict(row) for row in as_list(said.get("results"))]
        found = [row for row in rows if _words(row.get("url"))]
        results = [
            SearchResult(
                number,
                _words(row.get("title")),
                _words(row.get("url")),
                excerpt(_words(row.get("snippet") or row.get("content")), self._snippet_length),
            )
            for number, row in enumerate(found[:most], 1)
        ]
        boxes = said.get("answers") or said.get("answer_box")
        return SearchAnswer(
            query,
            tuple(results),
            _all_words(boxes),
            "; ".join(_all_words(said.get("infobox") or said.get("infoboxes"))) or None,
            _all_words(said.get("suggestions")),
        )

    async def aclose(self) -> None:
        """Closes all connections. Idempotent."""
        await self._endpoint.aclose()


def _refused(status: int, headers: Mapping[str, str], body: bytes) -> LLMError:
    said = excerpt(redact(mend(body.decode("utf-8", "replace"))))
    advice = {
        401: "the token is missing or wrong; check SEARXNG_API_TOKEN",
        403: "the token may not search; check SEARXNG_API_TOKEN",
        404: "there is no /search/agent at its address; check SEARXNG_BASE_URL",
        429: "too many searches; wait, or lower the rate",
    }.get(status, "it failed; try again" if status >= 500 else "it refused the search")
    return WebSearchError(
        f"the search gateway: {advice}. It says: {said or 'nothing'}",
        body=said,
        status=status,
        retryable=status in _PASSING or status >= 500,
        retry_after=retry_after(headers),
    )


def _number(read: Mapping[str, str], name: str, usual: float, wrong: list[str]) -> float:
    text = read[name]
    try:
        value = float(text) if text else usual
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        wrong.append(f"{_PREFIX}{name} must be a positive number, is {text!r}")
    return value


def _words(value: object) -> str:
    """`value` as words on one line; an object's own words come first."""
    if isinstance(value, str):
        return " ".join(mend(value).split())
    fields = as_dict(value)
    for name in ("answer", "content", "text", "snippet", "title"):
        if isinstance(fields.get(name), str) and fields[name].strip():
            return _words(fields[name])
    return msgspec.json.encode(fields).decode() if fields else ""


def _all_words(value: object) -> tuple[str, ...]:
    values = as_list(value) or [value]
    return tuple(words for words in map(_words, values) if words)
