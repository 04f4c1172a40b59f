"""Encrypted connections and proxies, with both transports."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute, SocketStream

from llm_client.errors import ConfigError, ConnectFailed, LLMError
from llm_client.transport.aiohttp_transport import AiohttpTransport
from llm_client.transport.base import Transport, read_whole
from llm_client.transport.httpx_transport import HttpxTransport
from tests.llm_client.tls_material import client_context, server_context
from tests.llm_client.transports import CANARY, DRIVERS, request_to
from tests.loopback import RESET, answer, serving, sse

pytestmark = pytest.mark.anyio

MakeSecure = Callable[..., Transport]
MAKERS: dict[str, MakeSecure] = {"httpx": HttpxTransport, "aiohttp": AiohttpTransport}


@pytest.fixture(params=DRIVERS, ids=lambda pair: "-".join(pair))
def driver(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A transport and the event loop to run it on."""
    pair: tuple[str, str] = request.param
    return pair


@pytest.fixture
def anyio_backend(driver: tuple[str, str]) -> str:
    """The driver's event loop."""
    return driver[1]


@pytest.fixture
def make(driver: tuple[str, str]) -> MakeSecure:
    """Makes the driver's transport."""
    return MAKERS[driver[0]]


class Tunnel:
    """An HTTP proxy that only makes tunnels; `asked` holds the heads of its requests."""

    def __init__(self, status: int) -> None:
        self._status = status
        self.asked: list[str] = []
        self.url = ""

    async def handle(self, client: SocketStream) -> None:
        """Serves one connection."""
        async with client:
            head = b""
            while b"\r\n\r\n" not in head:
                head += await client.receive()
            self.asked.append(head.decode())
            if self._status != 200:
                await client.send(b"HTTP/1.1 %d No\r\ncontent-length: 0\r\n\r\n" % self._status)
                return
            host, _, port = head.split(b" ")[1].decode().partition(":")
            async with await anyio.connect_tcp(host, int(port)) as server:
                await client.send(b"HTTP/1.1 200 OK\r\n\r\n")
                async with anyio.create_task_group() as group:
                    group.start_soon(_pump, client, server)
                    await _pump(server, client)
                    group.cancel_scope.cancel()


async def _pump(source: ByteStream, sink: ByteStream) -> None:
    try:
        async for data in source:
            await sink.send(data)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        pass


@asynccontextmanager
async def tunnelling(status: int = 200) -> AsyncGenerator[Tunnel]:
    """Runs a proxy for the length of the block."""
    tunnel = Tunnel(status)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    tunnel.url = f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, tunnel.handle)
        yield tunnel
        group.cancel_scope.cancel()


async def test_an_encrypted_connection_is_made_checked_and_used_again(
    make: MakeSecure, tmp_path: Path
) -> None:
    """Whole and streamed answers over one connection."""
    transport = make(ssl_context=client_context())
    with anyio.fail_after(10):
        async with serving(
            answer(200, b"one"), sse(b"t", b"wo"), tls=server_context(tmp_path)
        ) as server:
            for expected in (b"one", b"two"):
                async with transport.send(request_to(server)) as response:
                    assert await read_whole(response, 100) == expected
            assert server.connections == 1
            await transport.aclose()
            await server.until_open(0)


async def test_a_server_that_nobody_vouches_for_gets_no_request(
    make: MakeSecure, tmp_path: Path
) -> None:
    """The key is not sent to it; the error says that TLS failed."""
    transport = make()
    with anyio.fail_after(10):
        async with serving(answer(200, b"x"), tls=server_context(tmp_path)) as server:
            with pytest.raises(ConnectFailed) as caught:
                async with transport.send(request_to(server)):
                    pass
            assert server.requests == []
            await transport.aclose()
    assert "certificate" in caught.value.message.lower()
    assert not caught.value.sent


async def test_a_reset_of_an_encrypted_stream_is_an_error(make: MakeSecure, tmp_path: Path) -> None:
    """Like that of a plain one."""
    transport = make(ssl_context=client_context())
    with anyio.fail_after(10):
        async with serving(sse(b"a", RESET), tls=server_context(tmp_path)) as server:
            with pytest.raises(LLMError):
                async with transport.send(request_to(server)) as response:
                    await read_whole(response, 100)
            await transport.aclose()
            await server.until_open(0)


async def test_a_proxy_makes_a_tunnel_and_never_sees_the_key(
    make: MakeSecure, tmp_path: Path
) -> None:
    """Encrypted from end to end."""
    with anyio.fail_after(10):
        async with (
            tunnelling() as proxy,
            serving(answer(200, b"through"), tls=server_context(tmp_path)) as server,
        ):
            transport = make(ssl_context=client_context(), proxy=proxy.url)
            for _ in range(2):
                async with transport.send(request_to(server)) as response:
                    assert await read_whole(response, 100) == b"through"
            await transport.aclose()
            assert len(proxy.asked) == 1, "the tunnel is used again"
            assert f"CONNECT 127.0.0.1:{server.port}" in proxy.asked[0]
            assert CANARY not in proxy.asked[0]
            assert len(server.requests) == 2


async def test_a_proxy_that_refuses_is_a_failure_to_connect(
    make: MakeSecure, tmp_path: Path
) -> None:
    """Nothing of the request has been sent."""
    with anyio.fail_after(10):
        async with (
            tunnelling(403) as proxy,
            serving(answer(200, b"x"), tls=server_context(tmp_path)) as server,
        ):
            transport = make(ssl_context=client_context(), proxy=proxy.url)
            with pytest.raises(ConnectFailed) as caught:
                async with transport.send(request_to(server)):
                    pass
            await transport.aclose()
            assert "403" in caught.value.message
            assert not caught.value.sent


async def test_an_unencrypted_request_goes_to_the_proxy_itself(make: MakeSecure) -> None:
    """With its whole address, as proxies want it."""
    with anyio.fail_after(10):
        async with serving(answer(200, b"forwarded")) as proxy:
            transport = make(proxy=proxy.url)
            request = request_to(proxy)
            async with transport.send(request) as response:
                assert await read_whole(response, 100) == b"forwarded"
            await transport.aclose()
            assert proxy.requests[0].target == request.url


def test_a_proxy_of_an_unknown_kind_is_refused() -> None:
    """When the transport is made."""
    with pytest.raises(ConfigError, match="socks5"):
        HttpxTransport(proxy="gopher://x")
