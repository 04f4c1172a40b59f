"""A loop around a service that makes attachments fit."""

from __future__ import annotations

import pytest

from llm_client import AttachmentTooLarge, FittingMedia, ModelCapabilities, media_limits
from llm_client.testing import ScriptedLLM, reply
from llm_client.types import Image
from power_loop import AgentLoop
from tests.media import bare_png, picture

pytestmark = pytest.mark.anyio


async def test_a_turn_with_an_image_that_cannot_be_sent_is_refused_and_not_stored() -> None:
    """Neither sent nor committed: the session is as it was, and goes on (I01)."""
    llm = ScriptedLLM(reply("one"), reply("two"), model="m")
    service = FittingMedia(llm, media_limits("anthropic"), ModelCapabilities(images=True))
    async with AgentLoop(service) as loop:
        session = (await loop.send(["look", Image(picture("BMP"))])).session_id
        before = await loop.store.read(session)
        with pytest.raises(AttachmentTooLarge):
            await loop.send(["look", Image(bare_png(60_000, 50_000))], session)
        assert await loop.store.read(session) == before
        assert (await loop.send("again", session)).final_text == "two"
    first = llm.requests[-1].messages[0].parts[1]
    assert isinstance(first, Image)
    assert first.media_type == "image/png"
