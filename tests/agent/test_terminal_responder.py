"""What is shown of a request, and which lines answer it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from power_loop import Answer, ApprovalRequest, InputRequest, TerminalResponder
from power_loop.agent.terminal import plain

pytestmark = pytest.mark.anyio

APPROVAL = ApprovalRequest(
    token="k1",
    session_id="s",
    run_id="r",
    call_id="c",
    tool="pay",
    arguments='{"amount":3,"to":"Zoë"}',
    args_hash="h",
    reason="it costs",
    by="guard",
    version="",
    world="",
    created=0.0,
    expires=None,
    end_on_denial=False,
)


def question(schema: dict[str, Any] | None) -> InputRequest:
    return InputRequest("k1", "s", "r", "c", "order", "How many?", schema, "order", 0.0)


async def asked(
    request: ApprovalRequest | InputRequest, lines: Sequence[str]
) -> tuple[Answer | None, str, list[str]]:
    """The answer, what was shown, and the lines that were not read."""
    left, shown = list(lines), list[str]()

    async def read_line() -> str | None:
        await anyio.lowlevel.checkpoint()
        return left.pop(0) if left else None

    responder = TerminalResponder(by="ada", read_line=read_line, say=shown.append)
    return await responder(request), "".join(shown), left


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["y"], Answer("k1", "approve", by="ada")),
        ([" YES "], Answer("k1", "approve", by="ada")),
        (["n"], Answer("k1", "deny", by="ada")),
        (["no  too  much "], Answer("k1", "deny", by="ada", note="too  much")),
        (["", "what", "y y", "yess", "n"], Answer("k1", "deny", by="ada")),
        (["e", '{"amount": 1}'], Answer("k1", "approve", by="ada", arguments='{"amount":1}')),
        (["e", "{", "[]", "3", "{}"], Answer("k1", "approve", by="ada", arguments="{}")),
        (["e", "", "y"], Answer("k1", "approve", by="ada")),
        (["e", "{"], None),
        (["l"], None),
        ([], None),
    ],
)
async def test_lines_that_answer_a_request_for_approval(
    lines: list[str], expected: Answer | None
) -> None:
    """Only a clear yes is one; nothing that is not understood decides anything."""
    given, _, left = await asked(APPROVAL, lines)
    assert given == expected
    assert left == []


INTEGER = {"type": "integer", "minimum": 1}


@pytest.mark.parametrize(
    ("schema", "lines", "expected"),
    [
        (None, ["a cat"], "a cat"),
        (None, ["", "y"], None),
        (None, [], None),
        (INTEGER, ["3"], "3"),
        (INTEGER, ["none", "0", "2"], "2"),
        ({"type": "string", "enum": ["red", "blue"]}, ["green", "red"], "red"),
    ],
)
async def test_lines_that_answer_a_question(
    schema: dict[str, Any] | None, lines: list[str], expected: str | None
) -> None:
    """One that does not fit is refused with the reason; an empty line leaves the question open."""
    given, shown, _ = await asked(question(schema), lines)
    assert given == (None if expected is None else Answer("k1", "answer", expected, "ada"))
    assert ("does not fit its schema" in shown) == (len(lines) > 1 and schema is not None)


async def test_all_that_is_to_be_allowed_is_shown() -> None:
    """The tool, every argument, the reason, and by when it must be answered."""
    _, shown, _ = await asked(APPROVAL, ["n"])
    assert "pay {" in shown
    assert '"amount": 3' in shown
    assert '"to": "Zoë"' in shown
    assert "it costs" in shown
    assert "until" not in shown
    _, shown, _ = await asked(question({"enum": ["red", 3]}), [])
    assert "How many?\n  - red\n  - 3\n" in shown


async def test_what_a_model_wrote_cannot_move_the_cursor_or_hide_anything() -> None:
    """A forged question would be answered for the true one."""
    assert plain("a\x1b[2Kb\rc\u202ed\u200be\nf") == "a\\x1b[2Kb\\rc\\u202ed\\u200be\nf"
    _, shown, _ = await asked(
        InputRequest("k1", "s", "r", "c", "x\x1b[1A", "\x1b[8mhidden", None, "x", 0.0), []
    )
    assert "\x1b" not in shown


async def test_requests_come_one_after_the_other() -> None:
    """However many calls ask at once: a line answers the request that it was typed under."""
    shown: list[str] = []
    lines = iter(["y", "n"])

    async def read_line() -> str | None:
        await anyio.lowlevel.checkpoint()
        return next(lines)

    responder = TerminalResponder(read_line=read_line, say=shown.append)
    given: list[Answer | None] = []

    async def ask() -> None:
        given.append(await responder(APPROVAL))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        tasks.start_soon(ask)
    assert [each.kind for each in given if each is not None] == ["approve", "deny"]
    assert ["pay" in text for text in shown] == [True, False, False] * 2


async def test_without_a_terminal_nobody_is_asked(capfd: pytest.CaptureFixture[str]) -> None:
    """The suite's standard input is none: the call stays open, and nothing is shown."""
    assert await TerminalResponder()(APPROVAL) is None
    assert capfd.readouterr() == ("", "")
