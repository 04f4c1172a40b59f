"""Images out, over a real socket: OpenAI's API and DashScope's."""

from __future__ import annotations

import base64
import logging
import re
import traceback
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from llm_client import (
    AttachmentUnreadable,
    DashScopeImages,
    DownloadFailed,
    FetchRefused,
    ImagesResult,
    OpenAIImages,
    WebFetcher,
    create_image_service,
    save_images,
)
from llm_client.errors import (
    AuthenticationFailed,
    CallerError,
    ConfigError,
    ConnectionLost,
    ContentFiltered,
    LLMError,
    MalformedResponse,
    RateLimited,
    ServerError,
)
from llm_client.types import Image, Usage
from tests.llm_client.transports import CANARY, DRIVERS, TRANSPORTS
from tests.loopback import RESET, Answer, LoopbackServer, Received, answer, serving
from tests.media import bare_png, picture

pytestmark = pytest.mark.anyio

PNG, JPEG = picture("PNG"), picture("JPEG")
Clients = OpenAIImages | DashScopeImages


@pytest.fixture(params=DRIVERS, ids=lambda pair: "-".join(pair))
def driver(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A transport and the event loop to run it on."""
    pair: tuple[str, str] = request.param
    return pair


@pytest.fixture
def anyio_backend(driver: tuple[str, str]) -> str:
    """The driver's event loop."""
    return driver[1]


def openai(driver: tuple[str, str], server: LoopbackServer, fetcher: WebFetcher) -> Clients:
    """A client of OpenAI's API."""
    return OpenAIImages(
        TRANSPORTS[driver[0]](),
        base_url=f"{server.url}/v1",
        model="gpt-image-1",
        headers={"authorization": f"Bearer {CANARY}"},
        fetcher=fetcher,
    )


def dashscope(driver: tuple[str, str], server: LoopbackServer, fetcher: WebFetcher) -> Clients:
    """A client of DashScope's."""
    return DashScopeImages(
        TRANSPORTS[driver[0]](),
        base_url=f"{server.url}/api/v1",
        model="qwen-image",
        edit_model="qwen-image-edit",
        api_key=CANARY,
        fetcher=fetcher,
    )


Make = Callable[[tuple[str, str], LoopbackServer, WebFetcher], Clients]
BOTH = pytest.mark.parametrize("make", [openai, dashscope])


@asynccontextmanager
async def asking(
    make: Make, driver: tuple[str, str], *script: Answer | Callable[[Received], Answer]
) -> AsyncGenerator[tuple[Clients, LoopbackServer]]:
    """A client of a scripted server, which may also be downloaded from, within a time limit."""
    with anyio.fail_after(10):
        async with serving(*script) as server:
            fetcher = WebFetcher(may_reach=lambda ip: ip == "127.0.0.1", https_only=False)
            client = make(driver, server, fetcher)
            try:
                yield client, server
            finally:
                await client.aclose()
            await server.until_open(0)


def said(value: Any) -> Answer:
    """A good answer."""
    return answer(200, msgspec.json.encode(value), {"x-request-id": "r1"})


def named(make: Make, *urls: str) -> Answer:
    """An answer that says where the images are."""
    if make is openai:
        return said({"data": [{"url": url} for url in urls]})
    content = [{"image": url} for url in urls]
    return said({"output": {"choices": [{"message": {"role": "assistant", "content": content}}]}})


async def failure_of(client: Clients) -> LLMError:
    """The error in which a request for an image ends."""
    with pytest.raises(LLMError) as caught:
        await client.generate("a teal square")
    return caught.value


# ── what is sent ──────────────────────────────────────────────────────────────────────────────────


async def test_openai_is_asked_for_images_in_its_own_form(driver: tuple[str, str]) -> None:
    """And what it answers is decoded, with its usage and the prompt that it used."""
    data = [{"b64_json": base64.b64encode(PNG).decode(), "revised_prompt": "teal, square"}]
    script = said({"data": data, "usage": {"input_tokens": 7, "output_tokens": 100}})
    async with asking(openai, driver, script) as (client, server):
        result = await client.generate(
            " a teal square ", n=2, size="1024x1024", extra={"quality": "low"}
        )
        (received,) = server.requests
        assert received.target == "/v1/images/generations"
        assert received.headers["authorization"] == f"Bearer {CANARY}"
        assert msgspec.json.decode(received.body) == {
            "model": "gpt-image-1",
            "prompt": "a teal square",
            "n": 2,
            "size": "1024x1024",
            "quality": "low",
        }
    assert result == ImagesResult(
        (Image(PNG, media_type="image/png"),), Usage(7, 100), ("teal, square",), "r1"
    )


async def test_openai_is_sent_images_to_change_as_a_form(driver: tuple[str, str]) -> None:
    """Each a file of its own, whatever bytes it has; the prompt in UTF-8."""
    script = said({"data": [{"b64_json": base64.b64encode(JPEG).decode()}]})
    async with asking(openai, driver, script) as (client, server):
        result = await client.edit("größer", [Image(PNG), Image(JPEG)], extra={"seed": 7})
        (received,) = server.requests
        assert received.target == "/v1/images/edits"
        found = re.fullmatch(
            r"multipart/form-data; boundary=([\w-]+)", received.headers["content-type"]
        )
        assert found is not None
        first, *parts, last = received.body.split(b"--" + found[1].encode())
        assert (first, last) == (b"", b"--\r\n")
        heads = [part.partition(b"\r\n\r\n")[0].decode() for part in parts]
        bodies = [part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in parts]
        assert bodies == [b"gpt-image-1", "größer".encode(), b"1", b"7", PNG, JPEG]
        assert 'name="image[]"; filename="image-2.jpeg"\r\ncontent-type: image/jpeg' in heads[-1]
    assert result.images[0].media_type == "image/jpeg"


async def test_dashscope_is_asked_in_its_own_form_and_its_image_is_fetched(
    driver: tuple[str, str],
) -> None:
    """The prompt may be put into better words, and no mark is put on the image."""

    def script(received: Received) -> Answer:
        if received.method == "GET":
            return answer(200, PNG)
        return named(dashscope, f"http://{received.headers['host']}/a.png?signature=1")

    async with asking(dashscope, driver, script) as (client, server):
        result = await client.generate("a teal square", size="1024x768")
        asked, fetched = server.requests
        assert asked.target == "/api/v1/services/aigc/multimodal-generation/generation"
        assert msgspec.json.decode(asked.body) == {
            "model": "qwen-image",
            "input": {"messages": [{"role": "user", "content": [{"text": "a teal square"}]}]},
            "parameters": {"prompt_extend": True, "watermark": False, "size": "1024*768"},
        }
        assert fetched.target == "/a.png?signature=1"
        assert "authorization" not in fetched.headers, "the key is not sent to where images lie"
        await client.edit("greener", [Image(PNG), Image(url="https://x/y.png")], n=2)
        body = msgspec.json.decode(server.requests[2].body)
        first, second, words = body["input"]["messages"][0]["content"]
        assert first["image"].startswith("data:image/png;base64,")
        assert (second, words) == ({"image": "https://x/y.png"}, {"text": "greener"})
        assert (body["model"], body["parameters"]["n"]) == ("qwen-image-edit", 2)
    assert result.images == (Image(PNG, media_type="image/png"),)


@BOTH
async def test_what_makes_no_sense_is_refused_before_it_is_sent(
    driver: tuple[str, str], make: Make
) -> None:
    """An empty prompt, no or too many images, and what is no image."""
    async with asking(make, driver, said({})) as (client, server):
        for bad in (client.generate(" "), client.generate("x", n=0), client.edit("x", [])):
            with pytest.raises(CallerError):
                await bad
        with pytest.raises(CallerError, match="images, not 17"):
            await client.edit("x", [Image(PNG)] * 17)
        for image in (Image(b"hello"), Image(), Image(PNG, url="https://x/")):
            with pytest.raises(AttachmentUnreadable, match="image 1"):
                await client.edit("x", [image])
        assert server.connections == 0


async def test_each_provider_says_what_it_cannot_take(driver: tuple[str, str]) -> None:
    """DashScope more than three images, OpenAI one that is only an address."""
    async with asking(dashscope, driver, said({})) as (client, _):
        with pytest.raises(CallerError, match="1 to 3 images"):
            await client.edit("x", [Image(PNG)] * 4)
    async with asking(openai, driver, said({})) as (client, server):
        with pytest.raises(AttachmentUnreadable, match="only an address"):
            await client.edit("x", [Image(url="https://x/y.png")])
        with pytest.raises(CallerError, match="no name"):
            await client.edit("x", [Image(PNG)], extra={'a"\r\nb': 1})
        assert server.connections == 0


# ── what comes back ───────────────────────────────────────────────────────────────────────────────


@BOTH
@pytest.mark.parametrize(
    ("status", "body", "kind", "retryable"),
    [
        (401, {"error": {"code": "invalid_api_key"}}, AuthenticationFailed, False),
        (400, {"code": "DataInspectionFailed", "message": "no"}, ContentFiltered, False),
        (400, {"error": {"code": "moderation_blocked"}}, ContentFiltered, False),
        (429, {"error": {"message": "slow down"}}, RateLimited, True),
        (500, {}, ServerError, True),
        (200, {}, MalformedResponse, True),
        (200, {"data": [], "output": {"choices": []}}, MalformedResponse, True),
        (200, {"data": "x", "output": {"choices": [7]}}, MalformedResponse, True),
    ],
)
async def test_a_failure_has_its_type_and_says_whether_to_try_again(
    driver: tuple[str, str],
    make: Make,
    status: int,
    body: Any,
    kind: type[LLMError],
    retryable: bool,
) -> None:
    """One classification for all that is asked; an answer without an image is none."""
    script = answer(status, msgspec.json.encode(body), {"x-request-id": "r2"})
    async with asking(make, driver, script) as (client, _):
        error = await failure_of(client)
    assert type(error) is kind
    assert (error.retryable, error.request_id) == (retryable, "r2")
    assert error.provider in ("openai", "dashscope")


async def test_an_image_that_stands_in_the_answer_twice_is_fetched_once(
    driver: tuple[str, str],
) -> None:
    """Older models name it in another place than newer ones."""

    def script(received: Received) -> Answer:
        url = f"http://{received.headers['host']}/a.png"
        if received.method == "GET":
            return answer(200, PNG)
        content = [{"image": url}]
        return said(
            {"output": {"choices": [{"message": {"content": content}}], "results": [{"url": url}]}}
        )

    async with asking(dashscope, driver, script) as (client, server):
        assert len((await client.generate("x")).images) == 1
        assert len(server.requests) == 2


async def test_a_failure_under_a_good_status_is_one_all_the_same(driver: tuple[str, str]) -> None:
    """DashScope tells it in the body."""
    script = said({"code": "Throttling.RateQuota", "message": "too fast", "request_id": "q"})
    async with asking(dashscope, driver, script) as (client, _):
        error = await failure_of(client)
    assert not isinstance(error, MalformedResponse)
    assert "too fast" in error.message


@BOTH
@pytest.mark.parametrize("data", [b"<html>sorry</html>", b"", bare_png(60_000, 50_000)])
async def test_what_is_fetched_and_is_no_image_is_not_handed_out(
    driver: tuple[str, str], make: Make, data: bytes
) -> None:
    """A page, nothing, and what would fill the memory of whoever opens it."""

    def script(received: Received) -> Answer:
        if received.method == "GET":
            return answer(200, data, {"content-type": "image/png"})
        return named(make, f"http://{received.headers['host']}/a.png")

    async with asking(make, driver, script) as (client, _):
        assert isinstance(await failure_of(client), MalformedResponse)


@BOTH
async def test_an_answer_that_leads_into_the_own_network_is_not_followed(
    driver: tuple[str, str], make: Make
) -> None:
    """Straight, or by a redirect (Z04)."""
    for place in ("http://169.254.169.254/latest", "http://127.0.0.2:1/", "file:///etc/passwd"):

        def script(received: Received, place: str = place) -> Answer:
            if received.method == "GET":
                return answer(302, b"", {"location": place})
            return named(make, f"http://{received.headers['host']}/a.png")

        async with asking(make, driver, named(make, place)) as (client, _):
            assert isinstance(await failure_of(client), FetchRefused)
        async with asking(make, driver, script) as (client, server):
            assert isinstance(await failure_of(client), FetchRefused)
            assert len(server.requests) == 2


async def test_a_file_that_is_gone_is_a_failed_download(driver: tuple[str, str]) -> None:
    """Not to be tried again; the address's signature is not shown."""

    def script(received: Received) -> Answer:
        if received.method == "GET":
            return answer(404, b"gone")
        return named(openai, f"http://{received.headers['host']}/a.png?signature=abc")

    async with asking(openai, driver, script) as (client, _):
        error = await failure_of(client)
    assert isinstance(error, DownloadFailed)
    assert not error.retryable
    assert "abc" not in str(error)


@BOTH
async def test_the_key_is_in_no_error_log_frame_or_repr(
    driver: tuple[str, str], make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Even if the provider quotes it back (Z10)."""
    caplog.set_level(logging.DEBUG)
    quoted = msgspec.json.encode({"error": {"message": f"wrong key {CANARY}"}})
    odd = msgspec.json.encode({"code": "Odd", "message": f"wrong key {CANARY}"})
    code = msgspec.json.encode({"error": {"code": CANARY, "message": "wrong"}, "code": CANARY})
    scripts: list[Answer] = [
        answer(401, quoted),
        [RESET],
        answer(200, quoted),
        answer(200, odd),
        answer(401, code),
        answer(200, code),
    ]
    for script in scripts:
        async with asking(make, driver, script) as (client, _):
            error = await failure_of(client)
            report = traceback.TracebackException.from_exception(error, capture_locals=True)
            told = "".join(report.format()) + repr(error) + repr(vars(error)) + repr(client)
            assert CANARY not in told
            assert script != [RESET] or isinstance(error, ConnectionLost)
    assert CANARY not in caplog.text


@BOTH
async def test_the_key_is_not_taken_for_the_id_of_the_request(
    driver: tuple[str, str], make: Make
) -> None:
    """If it stands where the provider's id should (Z10)."""
    quoted = {"x-request-id": CANARY}
    for script in (answer(500, b"{}", quoted), answer(200, b"[]", quoted)):
        async with asking(make, driver, script) as (client, _):
            error = await failure_of(client)
            assert CANARY not in str(error) + repr(error) + repr(vars(error))


# ── making and saving ─────────────────────────────────────────────────────────────────────────────


async def test_a_model_string_names_a_service(driver: tuple[str, str]) -> None:
    """With the key and the address that language models have as well."""
    with anyio.fail_after(10):
        image = {"data": [{"b64_json": base64.b64encode(PNG).decode()}]}
        async with serving(said(image)) as server:
            env = {
                "POWER_LOOP_PROVIDER": "openai",
                "POWER_LOOP_BASE_URL": f"{server.url}/v1",
                "POWER_LOOP_API_KEY": CANARY,
            }
            service = create_image_service(
                "openai:gpt-image-1", env=env, transport=TRANSPORTS[driver[0]]()
            )
            assert (await service.generate("x")).images
            await service.aclose()
            assert server.requests[0].headers["authorization"] == f"Bearer {CANARY}"
    qwen = create_image_service("qwen:qwen-image", env={"DASHSCOPE_API_KEY": CANARY})
    assert repr(qwen) == "DashScopeImages(dashscope at https://dashscope.aliyuncs.com)"
    for model, env in (("qwen:x", {}), ("cohere:x", {"COHERE_API_KEY": "k"}), ("nonsense", {})):
        with pytest.raises(ConfigError):
            create_image_service(model, env=env)


def test_the_environment_describes_a_client_of_dashscope() -> None:
    """What is missing or wrong is told by name, without the key."""
    env = {
        "DASHSCOPE_IMAGE_MODEL": "qwen-image",
        "DASHSCOPE_API_KEY": CANARY,
        "DASHSCOPE_IMAGE_BASE_URL": "https://dashscope-intl.aliyuncs.com/api/v1",
        "DASHSCOPE_IMAGE_TIMEOUT_S": "20",
    }
    client = DashScopeImages.from_env(env)
    assert repr(client) == "DashScopeImages(dashscope at https://dashscope-intl.aliyuncs.com)"
    with pytest.raises(ConfigError, match=r"DASHSCOPE_IMAGE_MODEL.*DASHSCOPE_API_KEY"):
        DashScopeImages.from_env({})
    with pytest.raises(ConfigError, match="TIMEOUT_S") as caught:
        DashScopeImages.from_env({**env, "DASHSCOPE_IMAGE_TIMEOUT_S": "soon"})
    assert CANARY not in caught.value.message


async def test_images_are_saved_under_names_that_lead_nowhere_else_z02(tmp_path: Path) -> None:
    """By what they are; no file that exists is touched, and no link followed (Z02)."""
    folder = tmp_path / "a" / "pictures"
    result = ImagesResult((Image(PNG), Image(JPEG)))
    paths = await save_images(result, folder, "../../etc/my picture\0")
    assert [path.name for path in paths] == ["etc-my-picture-1.png", "etc-my-picture-2.jpg"]
    assert [path.parent for path in paths] == [folder, folder]
    assert [path.read_bytes() for path in paths] == [PNG, JPEG]
    outside = tmp_path / "outside"
    (folder / "image-1.png").symlink_to(outside)
    again = await save_images(result, folder, "")
    assert [path.name for path in again] == ["image-2.png", "image-3.jpg"]
    assert not outside.exists()
