"""The real model on this machine: it answers, calls tools, and leaves nothing running behind."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from msgspec import structs

from llm_client import create_llm_service
from llm_client.codecs.openai_chat import OpenAIChatCodec, chat_dialect
from llm_client.errors import AuthenticationFailed, CallerError, ContextOverflow, LLMError
from llm_client.http_service import HttpLLMService
from llm_client.local import (
    LocalLLMService,
    LocalServerFailed,
    LocalSettings,
    create_local_service,
    local_model,
)
from llm_client.local.process import ServerConfig, ServerProcess
from llm_client.stream import Accumulator
from llm_client.transport.httpx_transport import HttpxTransport
from llm_client.types import Image, LLMRequest, Message, OutputSchema, StopReason, ToolSpec
from tests.local_weights import need_real_model
from tests.media import picture

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parent.parent.parent
NAMES = ["tides of the bay.txt", "Öl & Gas.md", "a.txt"]
READ = ToolSpec(
    "read_file",
    "Reads a file.",
    {
        "type": "object",
        "properties": {"path": {"type": "string", "enum": NAMES}},
        "required": ["path"],
    },
)
LIST = ToolSpec("list_files", "Lists the files.", {"type": "object", "properties": {}})


# What is told apart here happens in the server, which knows nothing of event loops.
once = pytest.mark.parametrize("anyio_backend", ["asyncio"])


@pytest.fixture
def settings() -> LocalSettings:
    return need_real_model()


@asynccontextmanager
async def running(settings: LocalSettings) -> AsyncGenerator[LocalLLMService]:
    service = create_local_service("smollm2", settings)
    try:
        with anyio.fail_after(60):
            yield service
    finally:
        await service.aclose()


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - the end of another's child sends no signal
            await anyio.sleep(0.02)


async def test_a_question_is_answered_with_a_real_tool_call(settings: LocalSettings) -> None:
    """A call of an offered tool with an offered name, then a text; streamed, with usage."""
    async with running(settings) as service:
        question = Message.user("What does a.txt say?")
        request = LLMRequest([question], tools=(READ, LIST))
        async with service.stream(request) as events:
            fold = Accumulator()
            async for event in events:
                fold.add(event)
        asked = fold.response()
        (call,) = asked.tool_calls
        assert asked.stop_reason is StopReason.TOOL_CALLS
        assert (asked.usage.input_tokens or 0) > 20
        assert call.name in ("read_file", "list_files")
        assert json.loads(call.arguments).get("path", NAMES[0]) in NAMES
        result = Message.tool(call.id, "The ferry leaves at noon.")
        messages = [question, Message.assistant("", call), result]
        answer = await service.complete(structs.replace(request, messages=messages))
        assert answer.text.strip()
        assert answer.tool_calls == ()
        assert answer.model == "smollm2"
        pid = service.pid
        assert pid is not None
        assert not gone(pid)
    assert gone(pid)


@once
async def test_an_enumeration_is_obeyed_whatever_the_question(settings: LocalSettings) -> None:
    """The server's grammar lets no other name through, also with spaces, umlauts and signs."""
    async with running(settings) as service:
        for name in ("tides of the bay.txt", "Öl & Gas.md", "/etc/passwd", "../x"):
            request = LLMRequest([Message.user(f"Read {name}.")], tools=(READ,))
            (call,) = (await service.complete(request)).tool_calls
            assert json.loads(call.arguments)["path"] in NAMES


@once
async def test_a_structured_answer_satisfies_its_schema(settings: LocalSettings) -> None:
    """The model's native json_schema, without any tool."""
    schema = {
        "type": "object",
        "properties": {"colour": {"type": "string", "enum": ["red", "green"]}},
        "required": ["colour"],
        "additionalProperties": False,
    }
    async with running(settings) as service:
        request = LLMRequest([Message.user("Grass?")], output_schema=OutputSchema("c", schema))
        answer = json.loads((await service.complete(request)).text)
        assert answer["colour"] in ("red", "green")


@once
async def test_an_image_is_told_in_words_and_the_session_goes_on(settings: LocalSettings) -> None:
    """The model has no eyes: neither the question with the image is refused nor the next one."""
    async with running(settings) as service:
        messages = [Message.user("What is this?", Image(picture(), media_type="image/png"))]
        first = await service.complete(LLMRequest(messages, max_output_tokens=40))
        assert first.text.strip()
        messages += [Message.assistant(first.text), Message.user("And the capital of France?")]
        service.check(LLMRequest(messages))
        second = await service.complete(LLMRequest(messages, max_output_tokens=40))
        assert second.text.strip()


@once
async def test_a_prompt_beyond_the_context_window_is_said_to_be_one(
    settings: LocalSettings,
) -> None:
    """The window is that of one request, however many run at once; then the server goes on."""
    async with running(structs.replace(settings, context=512, parallel=2)) as service:
        fits = LLMRequest([Message.user("word " * 400)], max_output_tokens=1)
        assert (await service.complete(fits)).usage.output_tokens == 1
        with pytest.raises(ContextOverflow):
            await service.complete(LLMRequest([Message.user("word " * 600)]))
        with pytest.raises(ContextOverflow):
            async with service.stream(LLMRequest([Message.user("word " * 600)])) as events:
                await anext(events)
        assert (await service.complete(fits)).usage.output_tokens == 1


async def test_a_cancelled_answer_frees_the_model_at_once(settings: LocalSettings) -> None:
    """The next request need not wait for the rest of an answer that nobody reads."""
    async with running(structs.replace(settings, max_output_tokens=6000)) as service:
        long = LLMRequest([Message.user("Count from 1 to 100000, one number a line.")])
        with anyio.CancelScope() as scope:
            async with service.stream(long) as events:
                async for _ in events:
                    scope.cancel()
        assert scope.cancelled_caught
        with anyio.fail_after(15):
            await service.complete(LLMRequest([Message.user("Hi")], max_output_tokens=4))


async def test_a_dead_server_fails_its_request_and_is_started_again(
    settings: LocalSettings,
) -> None:
    """The engine's crash is an error that may be retried, not the program's end."""
    async with running(settings) as service:
        await service.start()
        first = service.pid
        assert first is not None
        with pytest.raises(LLMError) as caught:
            async with service.stream(LLMRequest([Message.user("Tell a long story.")])) as events:
                async for _ in events:
                    os.kill(first, signal.SIGKILL)
        assert caught.value.retryable
        await until(lambda: not service.alive)
        response = await service.complete(LLMRequest([Message.user("Hi")], max_output_tokens=4))
        assert response.parts
        assert service.pid != first


async def test_first_requests_at_once_start_one_server(settings: LocalSettings) -> None:
    """The others wait for the first one's start."""
    pids: set[int | None] = set()

    async def ask(service: LocalLLMService) -> None:
        await service.complete(LLMRequest([Message.user("Hi")], max_output_tokens=2))
        pids.add(service.pid)

    async with running(settings) as service, anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(ask, service)
    assert len(pids) == 1


async def test_closing_during_the_start_leaves_no_server(settings: LocalSettings) -> None:
    """A start that is cancelled ends the process it has begun; a closed service stays closed."""
    service = create_local_service("smollm2", settings)
    with anyio.move_on_after(0.2) as scope:
        await service.start()
    assert scope.cancelled_caught
    assert service.pid is None
    await service.aclose()
    await service.aclose()
    with pytest.raises(CallerError, match="closed"):
        await service.start()


@once
async def test_nobody_without_the_key_is_answered(settings: LocalSettings) -> None:
    """Another user of this machine can reach the port, but not the model."""
    process = ServerProcess(server_config(settings))
    address = await process.start(60)
    intruder = HttpLLMService(
        OpenAIChatCodec(chat_dialect("local")),
        HttpxTransport(),
        base_url=f"{address}/v1",
        model="smollm2",
        headers={"authorization": "Bearer wrong-key-entirely"},
    )
    try:
        with pytest.raises(AuthenticationFailed):
            await intruder.complete(LLMRequest([Message.user("Hi")]))
    finally:
        await intruder.aclose()
        await process.stop()
    assert not process.alive
    assert "secret" not in repr(server_config(settings))


def server_config(settings: LocalSettings, path: Path | None = None) -> ServerConfig:
    return ServerConfig(
        model="smollm2",
        path=str(path or settings.cache_dir / "models" / local_model("smollm2").file),
        key="secret-key-of-a-test",
        template="{{ messages[0].content }}",
        context=512,
        parallel=1,
        threads=1,
        max_output_tokens=8,
        repeat_penalty=1.0,
    )


@once
async def test_damaged_weights_are_named_and_leave_no_process(
    settings: LocalSettings, tmp_path: Path
) -> None:
    """The engine's own words, the file, and what to do."""
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(b"GGUF" + bytes(1000))
    process = ServerProcess(server_config(settings, damaged))
    with pytest.raises(LocalServerFailed, match=r"delete .*damaged\.gguf") as caught:
        await process.start(60)
    assert "failed to load model" in caught.value.message
    assert not caught.value.retryable
    assert not process.alive


async def test_a_start_that_takes_too_long_is_given_up(settings: LocalSettings) -> None:
    """The error names the setting, and the process is gone."""
    process = ServerProcess(server_config(settings))
    with pytest.raises(LocalServerFailed, match="start_seconds"):
        await process.start(0.05)
    assert not process.alive


PARENT = """
import anyio, os, signal, sys
from llm_client.local import create_local_service

async def main():
    service = create_local_service("smollm2")
    await service.start()
    print(service.pid, flush=True)
    sys.stdin.readline()

anyio.run(main)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
@once
async def test_a_killed_program_leaves_no_server(settings: LocalSettings) -> None:
    """Not even SIGKILL of the program that started it keeps the server running."""
    environment = {**os.environ, "POWER_LOOP_CACHE_DIR": str(settings.cache_dir)}
    command = [sys.executable, "-c", PARENT]
    async with await anyio.open_process(command, cwd=ROOT, env=environment) as parent:
        assert parent.stdout is not None
        pid = int(await parent.stdout.receive())
        assert not gone(pid)
        parent.kill()
    await until(lambda: gone(pid))


async def test_the_model_string_leads_here(settings: LocalSettings) -> None:
    """`local:smollm2` makes the service; nothing starts before the first request."""
    service = create_llm_service("local:smollm2")
    assert isinstance(service, LocalLLMService)
    assert (service.model, service.pid, service.retries) == ("smollm2", None, False)
    await service.aclose()


@once
async def test_tools_in_the_chat_template_are_possible_too(settings: LocalSettings) -> None:
    """Our template offers tools and shows calls and results, in a form that the server takes."""
    native = structs.replace(settings, native_tools=True, max_output_tokens=8)
    async with running(native) as service:
        with_tools = LLMRequest([Message.user("Hi")], tools=(READ, LIST))
        plain = structs.replace(with_tools, tools=())
        more = (await service.complete(with_tools)).usage.input_tokens or 0
        less = (await service.complete(plain)).usage.input_tokens or 0
        assert more > less + 100


WITHOUT_RUNTIME = """
import sys, anyio
sys.modules["xllamacpp"] = None
from llm_client.local import LocalRuntimeMissing, create_local_service

async def main():
    service = create_local_service("smollm2")
    try:
        await service.start()
    except LocalRuntimeMissing as error:
        print(error)
    await service.aclose()

anyio.run(main)
"""


@once
async def test_without_the_runtime_the_error_names_the_extra() -> None:
    """Before anything is fetched: the weights would be of no use."""
    done = await anyio.run_process([sys.executable, "-c", WITHOUT_RUNTIME], cwd=ROOT)
    assert b"pip install 'power-loop[local]'" in done.stdout
