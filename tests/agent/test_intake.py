"""What callers pass as input: what no model could be sent is refused before anything is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from llm_client.types import Audio, File, Image, Message, Text, ToolResult
from power_loop import AgentLoop, SQLiteStore
from power_loop.agent.intake import MAX_IMAGE_BYTES, to_message
from power_loop.errors import InvalidInput
from tests.agent.scripted import Scripted, says

pytestmark = pytest.mark.anyio

BAD: list[tuple[Any, str]] = [
    (["x", File()], "file has no content"),
    (File(data=b""), "file has no content"),
    (Audio(), "sound has no content"),
    (Audio(format="wav"), "sound has no content"),
    (Image(), "either data or a url"),
    (Image(data=b"x", url="http://x"), "either data or a url"),
    (Image(data=b""), "0 bytes"),
    (Image(url="http://\ud800"), r"Image\.url holds a lone surrogate"),
    (File(data=b"x", name="\ud800"), r"File\.name holds a lone surrogate"),
    (File(data=b"x", media_type="a\x00"), r"File\.media_type holds a NUL"),
    (Audio(data=b"x", transcript="\x00"), r"Audio\.transcript holds a NUL"),
    (Text("a\ud800"), r"Text\.text holds a lone surrogate"),
    (Image(data=cast("Any", "text")), "is bytes, not str"),
    (Text(cast("Any", None)), "is text, not NoneType"),
    (File(url=cast("Any", 3)), "is text, not int"),
    (None, "type NoneType"),
    (3, "type int"),
    (b"abc", "type bytes"),
    ({"text": "hi"}, "type dict"),
    (["x", 3], "type int"),
    ([], "empty"),
    ("  \n", "white space"),
    (Message.user(" "), "white space"),
    (Message("user", ()), "empty"),
    (Message.assistant("hi"), "role 'assistant' is no input"),
    (Message.tool("a", "ok"), "role 'tool' is no input"),
    (Message("user", (ToolResult("a", ()),)), "type ToolResult"),
    (Message("user", (Text("a\ud800"),)), "lone surrogate"),
    (Message("user", (Text("a"),), name="compact_note"), "'compact_note' is taken"),
    (Message("user", (Text("a"),), name="\x00"), "name or meta of the message holds a NUL"),
    (Message("user", (Text("a"),), meta={"\ud800": "x"}), "name or meta of the message holds a"),
    (Message("user", (Text("a"),), meta={"x": cast("Any", 3)}), "are texts, not 3"),
]


@pytest.mark.parametrize(("bad", "told"), BAD)
async def test_a_part_that_no_model_can_be_sent_is_refused_and_the_session_goes_on(
    bad: Any, told: str
) -> None:
    """Stored, it would be in the way of every later message."""
    llm = Scripted(says("one"), says("two"))
    async with AgentLoop(llm) as loop:
        session = (await loop.send("hi")).session_id
        before = await loop.store.read(session)
        with pytest.raises(InvalidInput, match=told):
            await loop.send(bad, session)
        with pytest.raises(InvalidInput, match=told):
            await loop.steer(session, bad)
        assert await loop.store.read(session) == before
        assert (await loop.send("again", session)).final_text == "two"


async def test_an_image_that_no_provider_takes_is_refused_and_not_stored(tmp_path: Path) -> None:
    """It would be in the way of every later message; the next one finds the session as it was
    (I01).
    """
    llm, store = Scripted(says("one"), says("two")), SQLiteStore(tmp_path / "s.db")
    async with AgentLoop(llm, store=store) as loop:
        session = (await loop.send(["look", Image(data=b"x")])).session_id
        before = await store.read(session)
        with pytest.raises(InvalidInput, match=f"image of {MAX_IMAGE_BYTES + 1} bytes"):
            await loop.send(["look", Image(data=bytes(MAX_IMAGE_BYTES + 1))], session)
        with pytest.raises(InvalidInput, match="image of 0 bytes"):
            await loop.send(["look", Image(data=b"")], session)
        assert await store.read(session) == before
        assert (await loop.send("again", session)).final_text == "two"
        assert len(llm.requests[-1].messages) == 3
    await store.aclose()


def test_good_parts_are_taken_as_they_are() -> None:
    """In order, unchanged."""
    parts = [
        Text("look"),
        Image(data=b"x", media_type="image/png", detail="low"),
        Image(url="https://x/y.png"),
        Audio(data=b"x", format="wav"),
        Audio(id="sound"),
        File(data=b"x", name="ä.pdf"),
        File(id="file"),
        File(url="https://x/y.pdf"),
    ]
    assert to_message(parts, "m").parts == tuple(parts)
    assert to_message(tuple(parts), "m").parts == tuple(parts)


async def test_a_users_message_keeps_its_name_and_meta() -> None:
    """Under an id of its own: the same message can be said twice."""
    said = Message("user", (Text("hi"),), name="ann", meta={"channel": "mail"})
    async with AgentLoop(Scripted(says("one"), says("two"))) as loop:
        session = (await loop.send(said)).session_id
        await loop.steer(session, said)
        await loop.send(said, session)
        found = [m for m in await loop.get_messages(session) if m.role == "user"]
    assert [(m.parts, m.name, m.meta) for m in found] == [(said.parts, said.name, said.meta)] * 3
    assert len({m.id for m in (*found, said)}) == 4
