"""What becomes of attachments on their way to a model: resized, read, told in words, or refused."""

from __future__ import annotations

import base64
import io
import logging
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from PIL import Image as Pillow

from llm_client import (
    AttachmentTooLarge,
    FittingMedia,
    LLMRequest,
    MediaLimits,
    Message,
    ModelCapabilities,
    fit_request,
    media_limits,
)
from llm_client.codecs.anthropic import AnthropicCodec
from llm_client.errors import LocalProtocolError
from llm_client.http_service import HttpLLMService
from llm_client.multimodal import limits as limits_module
from llm_client.multimodal.fit import Fitted, check_fits, in_time
from llm_client.multimodal.pdf import _hushed as hushed
from llm_client.multimodal.pdf import pdf_text
from llm_client.multimodal.plan import PIXELS, as_sent
from llm_client.multimodal.resizing import resized
from llm_client.parts import Audio, File, Image, Part, Seal, Text, ToolResult
from llm_client.providers import PROVIDERS
from llm_client.testing import ScriptedLLM, reply
from llm_client.transport.httpx_transport import HttpxTransport
from tests.llm_client.transports import CANARY
from tests.loopback import answer, serving
from tests.media import bare_png, noise, pdf, picture

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parents[2]
SEES = ModelCapabilities(images=True, pdf=True, audio=True)
BLIND = ModelCapabilities(images=False, pdf=False, audio=False)
ANTHROPIC = media_limits("anthropic")
SMALL = MediaLimits(image_edge=100)


def asking(*parts: Part) -> LLMRequest:
    """A request whose one message holds `parts`."""
    return LLMRequest([Message.user("look", *parts)])


async def fitted(
    *parts: Part, limits: MediaLimits = ANTHROPIC, known: ModelCapabilities | None = SEES
) -> tuple[Part, ...]:
    """What becomes of the parts of one message."""
    request = await fit_request(asking(*parts), limits, known)
    return request.messages[0].parts[1:]


async def told(part: Part, known: ModelCapabilities, limits: MediaLimits = ANTHROPIC) -> str:
    """The words that stand in the place of `part`."""
    (text,) = await fitted(part, known=known, limits=limits)
    assert isinstance(text, Text)
    return text.text


async def made(image: Image, limits: MediaLimits) -> tuple[Image, Pillow.Image]:
    """What becomes of `image`, and it opened."""
    (part,) = await fitted(image, limits=limits)
    assert isinstance(part, Image)
    return part, Pillow.open(io.BytesIO(part.data or b""))


# ── images ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_request_that_fits_is_the_same_request() -> None:
    """Not even copied, so that what is kept of it elsewhere stays good."""
    request = asking(
        Image(picture(), media_type="image/png"),
        Image(url="https://x/y.png"),
        File(id="f1"),
        Image(b"\x89PNG..", seal=Seal("gemini")),
    )
    assert await fit_request(request, ANTHROPIC, SEES) is request
    plain = LLMRequest([Message.user("hi")])
    assert await fit_request(plain, ANTHROPIC) is plain


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
async def test_a_large_image_is_made_smaller_in_proportion(kind: str) -> None:
    """Of each type that can be read; what comes out is of a type that every provider takes."""
    image, opened = await made(Image(picture(kind, (400, 100)), media_type="image/odd"), SMALL)
    assert opened.size == (100, 25)
    assert (await made(Image(picture(kind, (100, 400))), SMALL))[1].size == (25, 100)
    assert image.media_type == ("image/jpeg" if kind == "JPEG" else "image/png")
    assert opened.format == ("JPEG" if kind == "JPEG" else "PNG")


async def test_a_type_that_the_provider_does_not_take_is_converted() -> None:
    """Without being resized."""
    image, opened = await made(Image(picture("BMP"), media_type="image/bmp"), ANTHROPIC)
    assert (image.media_type, opened.size) == ("image/png", (64, 48))
    gif = Image(picture("GIF"), media_type="image/gif")
    assert await fitted(gif) == (gif,)
    assert (await made(gif, media_limits("gemini")))[0].media_type == "image/png"


async def test_a_wrong_media_type_is_put_right_i01() -> None:
    """Providers refuse an image that is not of the type it is said to be of (I01)."""
    jpeg = picture("JPEG")
    assert await fitted(Image(jpeg, media_type="image/png")) == (
        Image(jpeg, media_type="image/jpeg"),
    )
    assert await fitted(File(jpeg, name="x", media_type="application/pdf")) == (
        Image(jpeg, media_type="image/jpeg"),
    )


async def test_an_image_stands_upright_and_says_nothing_of_its_maker() -> None:
    """The orientation is applied; where and with what a photo was taken is left out."""
    tags = Pillow.Exif()
    tags[0x0112] = 6  # turned to the right
    tags[0x010F] = "Camera of somebody"
    photo = picture("JPEG", (400, 100), exif=tags)
    image, opened = await made(Image(photo), SMALL)
    assert opened.size == (25, 100)
    assert dict(opened.getexif()) == {}
    assert b"somebody" in photo
    assert b"somebody" not in (image.data or b"")
    profile = picture("PNG", (400, 100), icc_profile=b"profile of somebody" * 10)
    assert b"iCCP" in profile
    image, _ = await made(Image(profile), SMALL)
    assert b"iCCP" not in (image.data or b"")


async def test_what_is_transparent_stays_so_while_it_fits() -> None:
    """Else it is put on white."""
    clear = picture("PNG", (400, 100), "RGBA")
    _, opened = await made(Image(clear), SMALL)
    assert opened.mode == "RGBA"
    _, opened = await made(Image(picture("PNG", (400, 100), transparency=(0, 128, 128))), SMALL)
    assert opened.getchannel("A").getextrema() == (0, 0), "told by naming a colour"
    loud = io.BytesIO()
    Pillow.open(io.BytesIO(noise("PNG", (200, 200)))).convert("RGBA").save(loud, "PNG")
    image, opened = await made(Image(loud.getvalue()), MediaLimits(image_bytes=40_000))
    assert (image.media_type, opened.mode) == ("image/jpeg", "RGB")


async def test_an_image_of_too_many_bytes_is_packed_until_it_fits() -> None:
    """First by quality, then by size; the limit is that of base64 (I01)."""
    data = noise("PNG", (300, 300))
    loud = Image(data, media_type="image/png")
    assert await fitted(loud, limits=MediaLimits(image_bytes=len(base64.b64encode(data)))) == (
        loud,
    )
    barely, _ = await made(loud, MediaLimits(image_bytes=len(data)))
    assert len(base64.b64encode(barely.data or b"")) <= len(data)
    for most in (100_000, 20_000, 3_000):
        image, opened = await made(loud, MediaLimits(image_bytes=most))
        assert len(base64.b64encode(image.data or b"")) <= most
        assert opened.width == opened.height
    assert opened.width < 300


async def test_with_many_images_each_must_be_smaller() -> None:
    """Twenty of them may be large, twenty-one may not (I01)."""
    limits = MediaLimits(image_edge=200, many=2, edge_of_many=50)
    large = Image(picture("PNG", (150, 150)), media_type="image/png")
    assert await fitted(large, large, limits=limits) == (large, large)
    sizes = [
        Pillow.open(io.BytesIO(part.data or b"")).size
        for part in await fitted(large, large, large, limits=limits)
        if isinstance(part, Image)
    ]
    assert sizes == [(50, 50)] * 3


async def test_a_picture_that_would_fill_the_memory_is_not_decoded() -> None:
    """A few bytes that claim three thousand million pixels."""
    bomb = bare_png(60_000, 50_000)
    assert len(bomb) < 200
    with pytest.raises(AttachmentTooLarge) as caught:
        await fitted(Image(bomb))
    assert (caught.value.size, caught.value.limit) == (3_000_000_000, PIXELS)
    assert "60000x50000 png" in caught.value.message
    assert resized(bomb, 100, None) is None
    whole = picture("PNG", (9_000, 9_000), "1")
    assert len(whole) < 100_000
    assert resized(whole, 10, None) is None


@pytest.mark.parametrize(
    "data", [picture("TIFF")[:40], bare_png(9000, 10), b"no image", picture("BMP")[:60]]
)
async def test_an_image_that_cannot_be_read_is_told_in_words(data: bytes) -> None:
    """Cut short or damaged: an error of the library reaches nobody."""
    assert "could not be read" in await told(Image(data), SEES)


@given(st.binary(max_size=300), st.integers(0, 300), st.sampled_from(["PNG", "JPEG", "GIF"]))
@settings(max_examples=50, deadline=None)
def test_no_damage_upsets_resizing(garbage: bytes, at: int, kind: str) -> None:
    """Something or nothing comes out, no error."""
    good = picture(kind, (90, 60))
    result = resized(good[:at] + garbage + good[at + len(garbage) :], 30, 10_000)
    assert result is None or len(result[0]) <= 10_000


async def test_data_in_an_address_is_checked_like_any_other() -> None:
    """It would be a way around every limit."""
    packed = base64.b64encode(picture("PNG", (400, 100))).decode()
    image, opened = await made(Image(url=f"data:image/png;base64,{packed}"), SMALL)
    assert (image.url, opened.size) == (None, (100, 25))
    assert "could not be read" in await told(Image(url="data:image/png;base64,###="), SEES)


# ── what a model cannot take ──────────────────────────────────────────────────────────────────────


async def test_a_model_that_cannot_see_is_told_what_was_attached() -> None:
    """With what is known of it."""
    image = Image(picture(size=(640, 480)), media_type="image/jpeg")
    text = await told(image, BLIND)
    assert text == "[an image, 640x480 png, was attached; this model cannot see images]"
    by_url = Image(url="https://x/y.png", media_type="image/png")
    assert "an image, png" in await told(by_url, BLIND)
    assert await fitted(by_url, known=None) == (by_url,), "what is not known is tried"


async def test_sounds_and_files_that_are_not_taken_are_told_in_words() -> None:
    """By what the model can do, and by what the provider takes."""
    sound = Audio(b"fLaC\0\0\0\x22", "flac")
    assert "a sound, flac" in await told(sound, BLIND, media_limits("gemini"))
    assert "cannot hear" in await told(sound, SEES, media_limits("openai"))
    assert await fitted(sound, limits=media_limits("gemini")) == (sound,)
    raw = File(bytes(range(256)), name="a\n].bin")
    assert await told(raw, SEES) == (
        '[a file "a__.bin", 256 bytes application/octet-stream, was attached; '
        "this model cannot read it]"
    )
    film = File(b"\0\0\0\x18ftypisom", media_type="video/mp4")
    assert await fitted(film, limits=media_limits("gemini")) == (film,)
    locked = File(url="https://x/y.pdf", media_type="application/pdf")
    assert "cannot read it" in await told(locked, BLIND)
    assert await fitted(locked) == (locked,)


async def test_a_file_of_text_goes_as_text_where_files_of_text_are_not_taken() -> None:
    """Anthropic and Gemini take it as it is."""
    file = File(b"a,b", name="t.csv", media_type="text/csv")
    assert await fitted(file) == (file,)
    limits = media_limits("openai")
    assert await told(file, SEES, limits) == "[file t.csv]\na,b\n[end of file t.csv]"


# ── PDF ───────────────────────────────────────────────────────────────────────────────────────────


async def test_a_pdf_goes_as_it_is_where_the_model_reads_pdf_and_else_page_by_page() -> None:
    """Unknown counts as no: text is safe everywhere."""
    file = File(pdf("first words", "second words"), name="r.pdf", media_type="application/pdf")
    assert await fitted(file) == (file,)
    for known in (BLIND, ModelCapabilities()):
        text = await told(file, known)
        assert text.startswith('[a file "r.pdf", ')
        assert text.index("[page 1 of 2]\nfirst words") < text.index("[page 2 of 2]\nsecond words")
    tight = MediaLimits(file_bytes=100)
    assert "second words" in await told(file, SEES, tight), "too large to go as it is"


async def test_a_long_pdf_is_cut_and_says_so() -> None:
    """At 24,000 characters."""
    text = await told(File(pdf(*["x" * 400] * 90)), BLIND)
    assert 24_000 < len(text) < 24_300
    assert text.endswith("[cut here: 90 pages have more than 24000 characters]")


@pytest.mark.parametrize("data", [b"%PDF-1.4 and then nothing", pdf("x")[:200], pdf("", "")])
async def test_a_pdf_without_text_or_damaged_is_told_as_unreadable(data: bytes) -> None:
    """Such as a scan."""
    assert "is unreadable" in await told(File(data, name="scan.pdf"), BLIND)


async def test_a_damaged_pdf_is_no_news_for_logs(caplog: pytest.LogCaptureFixture) -> None:
    """The model is told. What another thread reads with the same library is logged as ever, and so
    is all of it afterwards.
    """
    broken, reader = b"%PDF-1.4 and then nothing", logging.getLogger("pypdf._reader")
    assert "is unreadable" in await told(File(broken, name="scan.pdf"), BLIND)
    assert pdf_text(broken, 1000) is None
    assert caplog.records == []
    with hushed():
        reader.warning("not heard")
        await anyio.to_thread.run_sync(reader.warning, "heard meanwhile")
    reader.warning("heard again")
    assert caplog.messages == ["heard meanwhile", "heard again"]
    assert reader.filters == []


@given(st.binary(max_size=200), st.integers(0, 700))
@settings(max_examples=50, deadline=None)
def test_no_damage_upsets_the_reading_of_a_pdf(garbage: bytes, at: int) -> None:
    """Text or none comes out, no error."""
    good = pdf("some words", "more words")
    text = pdf_text(good[:at] + garbage + good[at + len(garbage) :], 1000)
    assert text is None or text


async def test_a_file_that_takes_for_ever_is_given_up() -> None:
    """Its thread is left behind, the request goes on."""
    over = threading.Event()
    try:
        with anyio.fail_after(5):
            assert await in_time(over.wait, 0.05) is None
            assert await in_time(lambda: "done", 5.0) == "done"
    finally:
        over.set()


# ── whole requests ────────────────────────────────────────────────────────────────────────────────


async def test_results_of_tools_fit_as_well_and_what_a_model_made_is_left_alone() -> None:
    """A screenshot counts; a model's own image goes back as it came."""
    shot = Image(picture("PNG", (400, 100)), media_type="image/png")
    mine = Message("assistant", (Image(picture("BMP")), Text("see")))
    result = Message("tool", (ToolResult("c1", (Text("done"), shot, File(bytes(9)))),))
    request = LLMRequest([Message.user("go"), mine, result])
    new = await fit_request(request, SMALL, SEES)
    assert list(new.messages[:2]) == [request.messages[0], mine]
    (part,) = new.messages[2].parts
    assert isinstance(part, ToolResult)
    text, image, file = part.content
    assert text == Text("done")
    assert isinstance(image, Image)
    assert Pillow.open(io.BytesIO(image.data or b"")).size == (100, 25)
    assert isinstance(file, Text)
    assert new.messages[2].id == result.id


async def test_only_the_newest_user_message_is_refused_for_its_attachments() -> None:
    """What is already part of a session would otherwise stop it for good (I01)."""
    bomb = Image(bare_png(60_000, 50_000))
    old = Message.user("look", bomb)
    with pytest.raises(AttachmentTooLarge):
        await fit_request(LLMRequest([old]), ANTHROPIC, SEES)
    new = await fit_request(LLMRequest([old, Message.user("and?")]), ANTHROPIC, SEES)
    assert "too large to be sent" in new.messages[0].text
    shot = Message("tool", (ToolResult("c1", (bomb,)),))
    new = await fit_request(LLMRequest([Message.user("go"), shot]), ANTHROPIC, SEES)
    (part,) = new.messages[1].parts
    assert isinstance(part, ToolResult)
    assert "too large to be sent" in part.text


async def test_of_too_many_attachments_the_oldest_are_left_out() -> None:
    """Several at once, so that the beginning of the request does not change with every turn."""
    image = Image(picture(), media_type="image/png")
    limits = MediaLimits(images=20)
    messages = [Message.user("a", image) for _ in range(35)]
    firsts: list[int] = []
    for count in range(20, 35):
        new = await fit_request(LLMRequest(messages[:count]), limits, SEES)
        kept = [any(isinstance(part, Image) for part in each.parts) for each in new.messages]
        firsts.append(kept.index(True))
        assert sum(kept) <= 20
        assert kept == sorted(kept)
    assert firsts == [0] + [8] * 8 + [16] * 6
    few = LLMRequest([*messages[:4], Message.user("and?")])
    new = await fit_request(few, MediaLimits(images=1), SEES)
    gone = ["too long ago" in each.text for each in new.messages]
    assert gone == [True, True, True, False, False]
    crowd = Message.user("a", *[image] * 21)
    with pytest.raises(AttachmentTooLarge, match="21 images"):
        await fit_request(LLMRequest([crowd]), limits, SEES)


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=1, max_size=12),
    st.integers(1, 6),
    st.integers(1, 2000),
)
@settings(max_examples=60, deadline=None)
def test_a_request_that_is_not_refused_keeps_to_every_limit(
    plan: list[tuple[bool, int]], images: int, total: int
) -> None:
    """Whatever it holds; and what is refused is refused by `check_fits` as well."""
    image = Image(picture(), media_type="image/png")
    limits = MediaLimits(images=images, total_bytes=total)
    messages = [
        Message.user("a", *[image] * count)
        if user
        else Message("tool", (ToolResult("c", (image,) * count),))
        for user, count in plan
    ]
    request = LLMRequest(messages)

    async def fit() -> LLMRequest:
        return await fit_request(request, limits, SEES)

    try:
        new = anyio.run(fit)
    except AttachmentTooLarge:
        with pytest.raises(AttachmentTooLarge):
            check_fits(request, limits, SEES)
        return
    left = [
        item
        for message in new.messages
        for part in message.parts
        for item in (part.content if isinstance(part, ToolResult) else (part,))
        if isinstance(item, Image)
    ]
    assert len(left) <= images
    assert sum(as_sent(len(item.data or b"")) for item in left) <= total


async def test_what_was_fitted_before_is_not_fitted_again() -> None:
    """The same message comes out, so that encoders need not encode it again either."""
    kept = Fitted()
    old = Message.user("a", Image(picture("PNG", (400, 100))))
    newest = Message.user("b")
    first = await fit_request(LLMRequest([old, newest]), SMALL, SEES, fitted=kept)
    later = LLMRequest([old, newest, Message.assistant("c"), Message.user("d")])
    second = await fit_request(later, SMALL, SEES, fitted=kept)
    assert first.messages[0] is second.messages[0]
    assert first.messages[0] is not old
    image = Message.user("c", Image(picture("PNG", (400, 100))))
    as_newest = await fit_request(LLMRequest([image]), SMALL, SEES, fitted=kept)
    as_older = await fit_request(LLMRequest([image, newest]), SMALL, SEES, fitted=kept)
    assert as_newest.messages[0] is as_older.messages[0]
    bomb = Message.user("d", Image(bare_png(60_000, 50_000)))
    for _ in range(2):
        told = await fit_request(LLMRequest([bomb, newest]), SMALL, SEES, fitted=kept)
        assert "too large" in told.messages[0].text
        with pytest.raises(AttachmentTooLarge):
            await fit_request(LLMRequest([bomb]), SMALL, SEES, fitted=kept)


@pytest.mark.parametrize("name", sorted(PROVIDERS))
def test_the_limits_of_a_provider_are_those_of_the_models_behind_it(name: str) -> None:
    """A second protocol leads to the same models, but for Messages on Vertex: those are Claude."""
    row, limits = PROVIDERS[name], media_limits(name)
    vendor = row.dialect or name
    if row.protocol == "anthropic_messages" and vendor in ("anthropic", "vertex"):
        assert structs.replace(limits, total_bytes=ANTHROPIC.total_bytes) == ANTHROPIC
        assert (limits.total_bytes or 0) <= (ANTHROPIC.total_bytes or 0)
    elif row.protocol == "gemini":
        assert "image/heic" in limits.image_types
        assert limits != media_limits("anthropic")
    else:
        assert limits == media_limits(vendor)
        assert (limits == MediaLimits()) is (vendor not in limits_module._LIMITS)


def test_the_table_of_limits_is_one_of_providers_that_exist() -> None:
    """By the names that model strings have."""
    assert set(limits_module._LIMITS) <= set(PROVIDERS)
    assert media_limits("openai-responses") is media_limits("openai")
    assert media_limits("vllm") == MediaLimits()
    for limits in limits_module._LIMITS.values():
        assert {"image/png", "image/jpeg"} <= limits.image_types, "what images are converted to"
        numbers = (limits.image_bytes, limits.images, limits.total_bytes, limits.edge(10_000))
        assert all(number is None or number > 0 for number in numbers)


# ── the service, and without the extras ───────────────────────────────────────────────────────────


class Encoding(ScriptedLLM):
    """A scripted service whose requests are encoded for Anthropic when they are checked."""

    def check(self, request: LLMRequest) -> None:
        """Encodes `request`."""
        AnthropicCodec().encode(structs.replace(request, model="m"), stream=False)


async def test_a_service_checks_before_and_sends_what_fits() -> None:
    """What would be refused later is refused by check; a good request passes both."""
    inner = Encoding(reply("a"), reply("b"), model="m")
    service = FittingMedia(inner, SMALL, SEES)
    good = asking(Image(picture("BMP", (400, 100))), File(pdf("x")), File(bytes(range(99))))
    service.check(good)
    await service.complete(good)
    async with service.stream(good) as events:
        _ = [event async for event in events]
    for request in inner.requests:
        image, file, words = request.messages[0].parts[1:]
        assert isinstance(image, Image)
        assert isinstance(file, File)
        assert isinstance(words, Text)
        assert image.media_type == "image/png"
    for bad in (asking(Image(bare_png(60_000, 50_000))), asking(*[Image(picture())] * 3)):
        strict = FittingMedia(inner, MediaLimits(images=2), SEES)
        with pytest.raises(AttachmentTooLarge):
            strict.check(bad)
        with pytest.raises(AttachmentTooLarge):
            await strict.complete(bad)
    with pytest.raises(LocalProtocolError):
        service.check(LLMRequest([]))
    assert len(inner.requests) == 2


async def test_a_refused_turn_is_never_sent_and_a_fitting_one_arrives_as_it_should() -> None:
    """Over a real socket, in Anthropic's form (I01)."""
    said = {"type": "text", "text": "a teal picture"}
    body = {"id": "m1", "type": "message", "role": "assistant", "content": [said]}
    body |= {"model": "m", "stop_reason": "end_turn", "usage": {}}
    async with serving(answer(200, msgspec.json.encode(body))) as server:
        inner = HttpLLMService(
            AnthropicCodec(),
            HttpxTransport(),
            base_url=server.url,
            model="m",
            headers={"x-api-key": CANARY},
        )
        service = FittingMedia(inner, ANTHROPIC, SEES)
        with pytest.raises(AttachmentTooLarge) as caught:
            await service.complete(asking(Image(bare_png(60_000, 50_000))))
        assert CANARY not in repr(service) + str(caught.value)
        assert server.requests == []
        wide = Image(picture("JPEG", (8200, 10)), media_type="image/png")
        assert (await service.complete(asking(wide))).text == "a teal picture"
        await service.aclose()
        sent: dict[str, Any] = msgspec.json.decode(server.requests[0].body)
        source = sent["messages"][0]["content"][1]["source"]
        assert source["media_type"] == "image/jpeg"
        assert Pillow.open(io.BytesIO(base64.b64decode(source["data"]))).size[0] == 8000


def run_without(*missing: str, code: str) -> str:
    """What `code` prints where the packages are not installed."""
    hide = "".join(
        f"sys.modules[{name!r}] = None\n"
        f"old_{name} = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda n, p=None, f=old_{name}: "
        f"None if n == {name!r} else f(n, p)\n"
        for name in missing
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, importlib.util\n{hide}{code}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_the_extras_large_images_are_refused_and_the_extra_is_named() -> None:
    """The error says what, how large, how large it may be, and what to install."""
    code = (
        "import anyio, struct\n"
        "from llm_client import *\n"
        "mark = b'\\x89PNG\\r\\n\\x1a\\n'\n"
        "png = mark + struct.pack('>I4sII', 13, b'IHDR', 9000, 10) + bytes(20)\n"
        "bmp = b'BM' + bytes(12) + struct.pack('<Iii', 40, 5, 5) + bytes(40)\n"
        "big = png[:16] + struct.pack('>II', 9, 9) + bytes(6_000_000)\n"
        "for data in (png, bmp, big):\n"
        "    request = LLMRequest([Message.user('x', Image(data))])\n"
        "    try: anyio.run(fit_request, request, media_limits('anthropic'))\n"
        "    except CallerError as error: print(type(error).__name__, error)\n"
        "request = LLMRequest([Message.user('x', File(b'%PDF-1.4'))])\n"
        "print(anyio.run(fit_request, request, MediaLimits()).messages[0].parts[1].text)\n"
    )
    wide, odd, big, text = run_without("PIL", "pypdf", code=code).splitlines()
    assert wide.startswith("AttachmentTooLarge an image, 9000x10 png, has 9000 pixels")
    assert "at most 8000" in wide
    assert odd.startswith("AttachmentUnreadable an image, 5x5 bmp")
    assert "bytes of base64, but at most 5242880 can be sent" in big
    for line in (wide, odd, big):
        assert "power-loop[images]" in line
    assert "the extra 'pdf'" in text


def test_a_missing_extra_names_itself() -> None:
    """Where its module is asked for directly."""
    code = (
        "from importlib import import_module\n"
        "from llm_client import ConfigError\n"
        "for name in ('resizing', 'pdf'):\n"
        "    try: import_module(f'llm_client.multimodal.{name}')\n"
        "    except ConfigError as error: print(error)\n"
    )
    images, text = run_without("PIL", "pypdf", code=code).splitlines()
    assert "power-loop[images]" in images
    assert "power-loop[pdf]" in text
