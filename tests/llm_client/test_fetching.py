"""Fetching from addresses that somebody else names."""

from __future__ import annotations

import gzip
import logging
import random
import traceback
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from llm_client import DownloadFailed, FetchRefused, WebFetcher
from llm_client.errors import ConnectFailed, LLMError, MalformedResponse
from llm_client.fetching import _guard, is_public
from tests.llm_client.tls_material import client_context, server_context
from tests.loopback import RESET, STALL, Answer, Received, answer, head, serving

pytestmark = pytest.mark.anyio

LIMIT = 10.0
PLAIN = {"content-type": "Image/PNG; x=y"}


def here(address: str) -> bool:
    """Lets a test reach 127.0.0.1 and nothing else of its machine."""
    return address == "127.0.0.1"


@asynccontextmanager
async def fetching(**settings: Any) -> AsyncGenerator[WebFetcher]:
    """A fetcher, within a time limit."""
    usual: dict[str, Any] = {"may_reach": here, "https_only": False}
    fetcher = WebFetcher(**{**usual, **settings})
    with anyio.fail_after(LIMIT):
        try:
            yield fetcher
        finally:
            await fetcher.aclose()


async def refusal(fetcher: WebFetcher, url: str, kind: type[LLMError] = FetchRefused) -> LLMError:
    """The error in which fetching `url` ends."""
    with pytest.raises(kind) as caught:
        await fetcher.get(url)
    return caught.value


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.255.254",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "fe80::1",
        "fe80::1%eth0",
        "fd00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2001:0:4136:e378:8000:63bf:80ff:fffe",
        "localhost",
        "",
    ],
)
def test_an_address_of_a_private_network_is_known_in_every_form(address: str) -> None:
    """Own, private, link-local, shared by a carrier, mapped, translated, tunnelled (Z06)."""
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_an_address_of_the_open_internet_is_public(address: str) -> None:
    """In whichever form."""
    assert is_public(address)


async def test_what_an_address_holds_is_fetched_without_any_key() -> None:
    """By GET; the media type comes without its parameters."""
    async with serving(answer(200, b"data", PLAIN)) as server, fetching() as fetcher:
        found = await fetcher.get(f"{server.url}/a.png?x=1#part")
        assert (found.data, found.media_type) == (b"data", "image/png")
        (received,) = server.requests
        assert (received.method, received.target, received.body) == ("GET", "/a.png?x=1", b"")
        assert not {"authorization", "cookie", "x-api-key"} & set(received.headers)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "[::1]",
     "[::ffff:127.0.0.1]", "127.0.0.1."],
)  # fmt: skip
async def test_the_own_machine_is_not_reached_however_it_is_written_z06(host: str) -> None:
    """Decimal, hexadecimal, octal, short and mapped: judged is what is connected to (Z06)."""
    async with (
        serving(answer(200, b"secret")) as server,
        fetching(may_reach=is_public) as fetcher,
    ):
        url = server.url.replace("127.0.0.1", host)
        with pytest.raises((FetchRefused, ConnectFailed)):
            await fetcher.get(url)
        assert server.connections == 0


async def test_a_name_with_several_addresses_is_reached_at_one_that_answers() -> None:
    """And is refused if it stands for one that may not be reached."""
    found = {str(place[0]) for *_, place in await anyio.getaddrinfo("localhost", 80)}
    async with serving(answer(200, b"data")) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        async with fetching(may_reach=found.__contains__) as fetcher:
            assert (await fetcher.get(url)).data == b"data"
        for hidden in found:
            async with fetching(may_reach=hidden.__ne__) as fetcher:
                await refusal(fetcher, url)
        assert server.connections == 1


def test_one_bad_address_among_good_ones_is_enough_to_refuse_a_name() -> None:
    """Good ones are a usual disguise, and no address at all is none that is good (Z06)."""
    _guard(is_public, "good", ["8.8.8.8", "1.1.1.1"])
    for addresses in (["8.8.8.8", "10.0.0.1"], ["::1", "1.1.1.1"], []):
        with pytest.raises(FetchRefused, match="'odd'"):
            _guard(is_public, "odd", addresses)


def leading(*places: str) -> Callable[[Received], Answer]:
    """A server whose n-th answer leads to the n-th place, and which then answers."""
    left = list(places)

    def script(_: Received) -> Answer:
        if left:
            return answer(302, b"", {"location": left.pop(0)})
        return answer(200, b"there")

    return script


async def test_redirects_are_followed_where_they_may_lead() -> None:
    """Absolute and relative ones; the last address is told."""
    async with serving(leading("/b/c", "d?e=f")) as server, fetching() as fetcher:
        found = await fetcher.get(f"{server.url}/a")
        assert (found.data, found.url) == (b"there", f"{server.url}/b/d?e=f")
        assert [one.target for one in server.requests] == ["/a", "/b/c", "/b/d?e=f"]


@pytest.mark.parametrize(
    "place",
    [
        "http://127.0.0.2/",
        "http://[::1]/",
        "http://169.254.169.254/latest/meta-data/",
        "//10.0.0.1/",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "http://user:password@127.0.0.1/",
    ],
)
async def test_a_redirect_that_leads_elsewhere_is_refused_z04(place: str) -> None:
    """Each hop is judged like the first one; the error repeats no password (Z04)."""
    async with serving(leading("/on", place)) as server, fetching() as fetcher:
        error = await refusal(fetcher, server.url)
        assert "password@" not in error.message
        assert len(server.requests) == 2


async def test_an_encrypted_address_does_not_lead_to_one_that_is_not(tmp_path: Path) -> None:
    """Nor is one that is not encrypted fetched in the first place (Z04)."""
    async with (
        serving(answer(200, b"plain")) as plain,
        serving(
            answer(302, b"", {"location": plain.url}),
            answer(200, b"safe"),
            tls=server_context(tmp_path),
        ) as server,
        fetching(https_only=True, ssl_context=client_context()) as fetcher,
    ):
        assert "not encrypted" in (await refusal(fetcher, server.url)).message
        assert "not encrypted" in (await refusal(fetcher, plain.url)).message
        assert plain.connections == 0
        assert (await fetcher.get(server.url)).data == b"safe"


async def test_a_server_that_nobody_vouches_for_is_not_fetched_from(tmp_path: Path) -> None:
    """Its certificate must be good for the name that was asked for."""
    async with (
        serving(answer(200, b"x"), tls=server_context(tmp_path)) as server,
        fetching(https_only=True) as fetcher,
    ):
        error = await refusal(fetcher, server.url, ConnectFailed)
        assert "certificate" in error.message.lower()
        assert server.requests == []


async def test_a_server_that_leads_on_for_ever_is_given_up() -> None:
    """After as many redirects as are allowed."""
    async with (
        serving(answer(302, b"", {"location": "/"})) as server,
        fetching(redirects=3) as fetcher,
    ):
        error = await refusal(fetcher, server.url, DownloadFailed)
        assert not error.retryable
        assert len(server.requests) == 4


async def test_a_body_that_is_too_large_is_given_up_whatever_it_says_of_itself() -> None:
    """With a length, without one, and compressed (Z06)."""
    bomb = gzip.compress(bytes(10_000_000))
    scripts: list[Answer] = [
        answer(200, b"x" * 20_000),
        [head(200, {}), *([b"x" * 5_000] * 4), STALL],
        answer(200, bomb, {"content-encoding": "gzip"}),
        # Larger packed than unpacked: cut at the limit, it would still unpack to something.
        answer(
            200, gzip.compress(random.Random(7).randbytes(14_999)), {"content-encoding": "gzip"}
        ),
    ]
    assert len(bomb) < 15_000
    for script in scripts:
        async with serving(script) as server, fetching(limit=15_000) as fetcher:
            error = await refusal(fetcher, server.url, MalformedResponse)
            assert "15000 bytes" in error.message


@pytest.mark.parametrize(("status", "retryable"), [(404, False), (403, False), (503, True)])
async def test_an_error_status_is_a_typed_error(status: int, retryable: bool) -> None:
    """Which says whether to try again; its page is not taken for the file."""
    async with serving(answer(status, b"<html>sorry</html>")) as server, fetching() as fetcher:
        error = await refusal(fetcher, f"{server.url}/?signature=abc", DownloadFailed)
        assert (error.status, error.retryable) == (status, retryable)
        assert "abc" not in str(error), "addresses of files carry signatures"


@pytest.mark.parametrize("url", ["", "file:///etc/passwd", "https://", "//x/y", "http://a b/", "x"])
async def test_what_is_no_address_is_refused(url: str) -> None:
    """Before anything is looked up."""
    async with fetching() as fetcher:
        error = await refusal(fetcher, url)
        assert not error.retryable
        assert "is no address to fetch" in error.message


async def test_a_signed_address_is_in_no_log_and_no_frame(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever has it can fetch the file (Z10)."""
    caplog.set_level(logging.DEBUG)
    for script in ([RESET], answer(500, b"")):
        async with serving(script) as server, fetching() as fetcher:
            error = await refusal(fetcher, f"{server.url}/?signature=s3cr3t-words", LLMError)
            report = traceback.TracebackException.from_exception(error.__cause__ or error)
            assert "s3cr3t" not in "".join(report.format()) + str(error) + caplog.text
