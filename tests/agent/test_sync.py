"""The verbs for programs without an event loop."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

from llm_client.errors import BadRequest
from power_loop import AgentLoop, ToolContext, result_of, tool
from power_loop.errors import SessionNotFound, SyncInAsyncError, UsageError
from tests.agent.scripted import Scripted, calls, fails, says
from tests.model_server import model_server

ROOT = Path(__file__).resolve().parent.parent.parent


@tool
def where() -> str:
    """Says in which thread it runs."""
    return threading.current_thread().name


def test_the_verbs_block_and_share_one_event_loop() -> None:
    """All of them, from one thread and from several."""
    llm = Scripted(by=lambda _: says("yes"))
    loop = AgentLoop(llm)
    with loop.sync() as s:
        result = s.send("hi")
        assert (result.status, result.final_text) == ("completed", "yes")
        assert s.send("again", result.session_id).session_id == result.session_id
        assert not s.cancel(result.session_id)
        assert not s.steer(result.session_id, "by the way").duplicate
        assert len(s.get_messages(result.session_id)) == 4
        assert s.get_pending(result.session_id) == ()
        assert s.abort_pending(result.session_id) == 0
        with pytest.raises(SessionNotFound):
            s.resume("nobody")
        answers: list[str] = []
        threads = [
            threading.Thread(target=lambda: answers.append(s.send("hi").status)) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert answers == ["completed"] * 8
        assert s.close_session(result.session_id) == 1
    assert llm.illegal == []


def test_a_block_that_has_been_left_says_so() -> None:
    """Instead of an error of the machinery."""
    with AgentLoop(Scripted()).sync() as s:
        pass
    with pytest.raises(UsageError, match="has been left"):
        s.send("hi")


def test_send_sync_can_be_used_again_and_again() -> None:
    """Each opens and closes the loop and its service; sessions stay."""
    with pytest.MonkeyPatch.context() as environment, model_server() as variables:
        for name, value in variables.items():
            environment.setenv(name, value)
        loop = AgentLoop("openai:scripted")
        first = loop.send_sync("hi")
        second = loop.send_sync("hi again", first.session_id)
        assert second.final_text == first.final_text
        with loop.sync() as s:
            messages = s.get_messages(first.session_id)
        assert [m.role for m in messages] == ["user", "assistant"] * 2
    assert threading.active_count() < 10


def test_a_service_that_was_passed_in_serves_one_block_and_the_next_is_told_so() -> None:
    """Its connections have ended with their event loop; nothing is stored of the second message."""
    loop = AgentLoop(Scripted(says("a"), says("b")))
    first = loop.send_sync("hi")
    for _ in range(2):
        with pytest.raises(UsageError, match=r"one `with loop\.sync\(\) as s:` block"):
            loop.send_sync("hi again", first.session_id)
        with pytest.raises(UsageError, match="has been closed"), loop.sync():
            pass


def test_errors_come_out_with_their_result() -> None:
    """As from the asynchronous verbs."""
    with (
        AgentLoop(Scripted(fails(BadRequest("bad", status=400)))).sync() as s,
        pytest.raises(BadRequest) as raised,
    ):
        s.send("hi")
    result = result_of(raised.value)
    assert result is not None
    assert result.status == "failed"


def test_inside_a_running_event_loop_every_form_is_a_typed_error() -> None:
    """It would block that loop; nothing is left un-awaited."""
    loop = AgentLoop(Scripted(says("hi")))

    async def main() -> None:
        with pytest.raises(SyncInAsyncError, match="await"):
            loop.send_sync("hi")
        with pytest.raises(SyncInAsyncError, match="asyncio"), loop.sync():
            pass

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(main())
        gc.collect()
    with loop.sync() as s:

        async def later() -> None:
            with pytest.raises(SyncInAsyncError):
                s.send("hi")
            # Beside the event loop, not in it.
            assert (await asyncio.to_thread(s.send, "hi")).status == "completed"

        asyncio.run(later())


def test_a_synchronous_tool_may_use_the_loop_it_runs_in() -> None:
    """It runs in a thread of its own, so nothing blocks."""
    box: list[Any] = []

    @tool
    def ask_another(context: ToolContext[Any]) -> str:
        """Asks in another session."""
        return str(box[0].send("a question").final_text)

    llm = Scripted(
        by=lambda r: (
            calls(("a", "ask_another", {})) if r.messages[-1].text == "go" else says("an answer")
        )
    )
    with AgentLoop(llm, tools=[ask_another]).sync() as s:
        box.append(s)
        assert s.send("go").status == "completed"


def test_a_program_that_uses_send_sync_is_quiet_and_ends() -> None:
    """No warnings, no logging, no thread that keeps the program alive."""
    program = """
import logging
from power_loop import AgentLoop, tool
from tests.agent.scripted import Scripted, calls, says

# asyncio's word about a slow step: that a busy machine is slow is no warning of ours.
logging.getLogger("asyncio").addFilter(lambda record: " took " not in record.getMessage())

@tool
def broken() -> str:
    '''Fails.'''
    raise ValueError("this is logged, where somebody listens")

def noisy(stamped):
    raise ValueError("so is this")

llm = Scripted(calls(("a", "broken", {})), says("fine"))
loop = AgentLoop(llm, tools=[broken])
loop.events.subscribe(noisy)
print(loop.send_sync("hi").final_text)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")
