"""Measuring what a model can do: a verdict has its evidence, and a blocked model is left alone."""

from __future__ import annotations

import struct
import zlib

import anyio
import pytest

from llm_client.codecs.openai_chat import OpenAIChatCodec, chat_dialect
from llm_client.config import LLMProviderConfig
from llm_client.errors import (
    AuthenticationFailed,
    BadRequest,
    LLMError,
    NotFound,
    Overloaded,
    PermissionDenied,
    QuotaExhausted,
    RateLimited,
    ServerError,
    UnsupportedFeature,
)
from llm_client.known_models import ModelCapabilities, capabilities
from llm_client.local import create_local_service
from llm_client.probing import ProbeReport, ProbeResult, probe
from llm_client.testing import Reply, ScriptedLLM, call, reply
from llm_client.tokens._media import pixel_size
from llm_client.types import Image, LLMRequest, Seal, StopReason, Thinking, Usage
from tests.llm_client.chat import whole
from tests.local_weights import need_real_model
from tests.loopback import answer, serving

pytestmark = pytest.mark.anyio

LIMIT = 30.0
OK = reply("ok")
RED = reply("", call("report_colour", {"colour": "red"}))
BOTH = reply(
    "", call("report_colour", {"colour": "red"}), call("report_colour", {"colour": "blue"})
)
SPIDER = reply('{"legs": 8, "insect": false}')
STRIPES = reply("Yellow, blue, green.")
PENSIVE = reply("No, it is 17 times 23.", thinking="391 = 17 * 23")
ALL = (OK, OK, RED, BOTH, SPIDER, STRIPES, PENSIVE)


async def probed(*script: Reply | LLMError) -> tuple[ProbeReport, ScriptedLLM]:
    """What is found out about a scripted model."""
    model = ScriptedLLM(*script)
    with anyio.fail_after(LIMIT):
        report = await probe(model)
    assert model.left == 0
    return report, model


def result_of(report: ProbeReport, capability: str) -> ProbeResult:
    """The result for one capability."""
    (result,) = [each for each in report.results if each.capability == capability]
    return result


async def test_a_model_that_can_do_everything_is_found_to() -> None:
    """Each verdict is yes, with what the model said; the tokens of all requests are summed."""
    report, model = await probed(*ALL)
    assert [(each.capability, each.verdict) for each in report.results] == [
        ("answer", "yes"),
        ("temperature", "yes"),
        ("tools", "yes"),
        ("parallel_tools", "yes"),
        ("json_schema", "yes"),
        ("images", "yes"),
        ("thinking", "yes"),
    ]
    assert result_of(report, "tools").evidence == 'report_colour({"colour":"red"})'
    assert result_of(report, "images").evidence == "'Yellow, blue, green.'"
    assert (report.model, report.blocked) == ("scripted", None)
    assert report.usage == Usage(10 * 7, 5 * 7)
    assert all((request.max_output_tokens or 0) <= 600 for request in model.requests)
    assert report.capabilities == ModelCapabilities(
        temperature=True,
        tools=True,
        parallel_tools=True,
        json_schema=True,
        images=True,
        thinking=True,
    )
    assert capabilities("compatible", "my-model", report.capabilities).images


async def test_what_is_refused_is_no_with_the_refusal() -> None:
    """By the provider, by this client, and by a gateway that has nobody for it."""
    report, _ = await probed(
        OK,
        BadRequest("temperature is not supported", status=400),
        BadRequest("no tools"),
        BadRequest("no tools"),
        UnsupportedFeature("no schema"),
        NotFound("no endpoint that supports image input", status=404),
        PermissionDenied("no reasoning"),
    )
    assert [(each.verdict, each.error_kind) for each in report.results] == [
        ("yes", None),
        ("no", "refused"),
        ("no", "refused"),
        ("inconclusive", None),
        ("no", "refused"),
        ("no", "refused"),
        ("no", "refused"),
    ]
    assert "temperature is not supported (status 400)" in report.results[1].evidence
    assert report.blocked is None
    assert report.capabilities == ModelCapabilities(
        temperature=False, tools=False, json_schema=False, images=False, thinking=False
    )


async def test_a_server_whose_model_has_no_eyes_says_no() -> None:
    """llama.cpp calls it a failure of its own, under status 500."""
    said = b'{"error":{"code":500,"type":"server_error","message":"image input is not supported"}}'
    error = OpenAIChatCodec(chat_dialect("llama.cpp")).error(500, {}, said)
    report, _ = await probed(OK, OK, RED, BOTH, SPIDER, error, PENSIVE)
    assert result_of(report, "images").verdict == "no"
    assert report.capabilities.images is False


async def test_what_is_ignored_is_no_and_what_is_unclear_is_inconclusive() -> None:
    """Text where a call was required, or JSON in another form; guesses, and a lonely call."""
    report, _ = await probed(
        OK, OK, reply("The colour is red."), reply('{"legs": 8}'), reply("I see blue."), OK
    )
    verdicts = {each.capability: each.verdict for each in report.results}
    assert verdicts["tools"] == "no"
    assert verdicts["parallel_tools"] == "inconclusive"
    assert verdicts["json_schema"] == "no"
    assert verdicts["images"] == "inconclusive"
    assert verdicts["thinking"] == "inconclusive"
    more = reply('{"legs": 8, "insect": false, "eyes": 8}')
    free, _ = await probed(OK, OK, RED, BOTH, more, STRIPES, PENSIVE)
    assert result_of(free, "json_schema").verdict == "no"
    assert "'The colour is red.'" in result_of(report, "tools").evidence
    lonely, _ = await probed(OK, OK, RED, RED, SPIDER, STRIPES, PENSIVE)
    assert result_of(lonely, "parallel_tools").verdict == "inconclusive"


@pytest.mark.parametrize(
    "odd",
    [
        reply("", call("another_tool", {"colour": "red"})),
        reply("", call("report_colour", "{broken")),
        reply("I was about to", stop_reason=StopReason.LENGTH),
    ],
    ids=["another tool", "broken arguments", "cut off"],
)
async def test_an_odd_answer_to_tools_is_inconclusive(odd: Reply) -> None:
    """It shows neither that there are tools nor that there are none."""
    report, _ = await probed(OK, OK, odd, SPIDER, STRIPES, PENSIVE)
    assert result_of(report, "tools").verdict == "inconclusive"


async def test_a_cut_off_answer_does_not_judge_a_schema() -> None:
    """Its end might have come."""
    cut = reply('{"legs": 8, "ins', stop_reason=StopReason.LENGTH)
    report, _ = await probed(OK, OK, RED, BOTH, cut, STRIPES, PENSIVE)
    assert result_of(report, "json_schema").verdict == "inconclusive"


async def test_a_model_that_cannot_be_forced_may_still_use_its_tools() -> None:
    """Asked again without force; a text is then no proof."""
    forced = BadRequest("tool_choice required is not supported")
    report, model = await probed(OK, OK, forced, RED, BOTH, SPIDER, STRIPES, PENSIVE)
    assert result_of(report, "tools").verdict == "yes"
    assert [request.tool_choice for request in model.requests[2:5]] == ["required", "auto", "auto"]
    shy, _ = await probed(OK, OK, forced, OK, SPIDER, STRIPES, PENSIVE)
    assert result_of(shy, "tools").verdict == "inconclusive"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (QuotaExhausted("no money"), "balance"),
        (AuthenticationFailed("wrong key"), "auth"),
        (PermissionDenied("not for you"), "forbidden"),
        (NotFound("no such model"), "model_missing"),
    ],
)
async def test_what_blocks_everything_ends_it_at_once(error: LLMError, kind: str) -> None:
    """One request, and the report says why there is no other."""
    report, model = await probed(error)
    assert len(model.requests) == 1
    assert report.blocked == kind
    assert report.results == (
        ProbeResult("answer", "inconclusive", f"{type(error).__name__}: {error}", report.blocked),
    )
    assert report.capabilities == ModelCapabilities()


async def test_money_that_runs_out_on_the_way_blocks_the_rest() -> None:
    """What was found before is kept."""
    report, model = await probed(OK, OK, QuotaExhausted("no money"))
    assert report.blocked == "balance"
    assert [each.verdict for each in report.results] == ["yes", "yes", "inconclusive"]
    assert len(model.requests) == 3


@pytest.mark.parametrize(
    "silence",
    [Overloaded("busy"), RateLimited("slow down"), BadRequest("what?"), reply("")],
    ids=lambda value: type(value).__name__,
)
async def test_a_model_that_does_not_answer_is_not_asked_more(silence: Reply | LLMError) -> None:
    """Nothing could be told apart."""
    report, _ = await probed(silence)
    assert report.blocked is None
    assert [each.verdict for each in report.results] == ["inconclusive"]


async def test_trouble_in_between_is_inconclusive_for_that_alone() -> None:
    """The next capability is asked about."""
    report, _ = await probed(OK, OK, ServerError("oops"), SPIDER, STRIPES, PENSIVE)
    assert result_of(report, "tools").error_kind == "unavailable"
    assert result_of(report, "json_schema").verdict == "yes"


async def test_a_model_that_hangs_is_given_up_on() -> None:
    """After the time that was allowed."""

    async def hang(_: LLMRequest) -> str:
        await anyio.sleep_forever()
        return ""

    with anyio.fail_after(LIMIT):
        report = await probe(ScriptedLLM(hang), seconds=0.05)
    assert report.results == (
        ProbeResult("answer", "inconclusive", "no answer in 0.05 s", "unavailable"),
    )


async def test_reasoning_may_be_hidden_but_counted() -> None:
    """Some providers show only how much of it there was."""
    hidden = reply("No.", usage=Usage(5, 40, reasoning_tokens=38))
    report, _ = await probed(*ALL[:-1], hidden)
    assert result_of(report, "thinking").evidence == "38 tokens of reasoning"
    sealed = Reply(
        parts=(Thinking("", Seal("tests", "secret"), redacted=True), *reply("No.").parts)
    )
    report, _ = await probed(*ALL[:-1], sealed)
    assert result_of(report, "thinking").verdict == "yes"


async def test_evidence_is_one_line_that_a_terminal_can_show() -> None:
    """Whatever a server or a model writes."""
    hostile = "\x1b[2J\x07 two\nlines " + "long " * 500
    report, _ = await probed(
        reply(hostile),
        BadRequest(hostile),
        reply("", call("report_colour", hostile)),
        reply(hostile),
        ServerError(hostile),
        reply("No.", thinking=hostile),
    )
    assert len(report.results) == 7
    for result in report.results:
        assert result.evidence.isprintable()
        assert 0 < len(result.evidence) < 250


async def test_another_model_of_the_service_can_be_asked() -> None:
    """By its name, in every request."""
    model = ScriptedLLM(*ALL)
    report = await probe(model, "another")
    assert report.model == "another"
    assert {request.model for request in model.requests} == {"another"}


async def test_a_configuration_is_enough() -> None:
    """The service that is made of it is closed afterwards."""
    with anyio.fail_after(LIMIT):
        async with serving(answer(200, whole("ok")), answer(401, b"{}")) as server:
            config = LLMProviderConfig(
                provider="compatible", base_url=f"{server.url}/v1", model="m-1"
            )
            report = await probe(config)
            await server.until_open(0)
    assert [each.verdict for each in report.results] == ["yes", "inconclusive"]
    assert (report.model, report.blocked) == ("m-1", "auth")


async def test_the_picture_is_a_real_one() -> None:
    """Every pixel of its three stripes can be read back."""
    _, model = await probed(*ALL)
    (image,) = [part for part in model.requests[5].messages[0].parts if isinstance(part, Image)]
    data = image.data or b""
    assert pixel_size(data) == (96, 96)
    at, packed = 8, b""
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        body = data[at + 4 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length) == (zlib.crc32(body),)
        packed += body[4:] if body.startswith(b"IDAT") else b""
        at += 12 + length
    rows = zlib.decompress(packed)
    assert len(rows) == 96 * (1 + 96 * 3)
    assert {rows[1:4], rows[1 + 48 * 3 : 4 + 48 * 3]} == {b"\xff\xe6\x00", b"\x00\x30\xff"}


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_real_local_model_is_measured() -> None:
    """It answers, calls tools by emulation, obeys schemas, and has no eyes."""
    service = create_local_service("smollm2", need_real_model())
    try:
        with anyio.fail_after(120):
            report = await probe(service)
    finally:
        await service.aclose()
    assert report.blocked is None
    assert result_of(report, "answer").verdict == "yes"
    assert result_of(report, "tools").verdict == "yes"
    assert result_of(report, "json_schema").verdict == "yes"
    assert result_of(report, "images").verdict != "yes"
