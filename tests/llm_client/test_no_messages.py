"""What is no message is said to be none, in every protocol."""

from __future__ import annotations

from typing import Any, cast

import pytest

from llm_client.errors import CallerError, LocalProtocolError
from llm_client.protocols import PROTOCOLS, codec_for
from llm_client.types import LLMRequest, Message, Text


@pytest.mark.parametrize("key", [None, "conversation"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("wrong", [{"role": "user", "content": "hi"}, "hi", None])
def test_what_is_no_message_is_named_with_what_to_write(
    protocol: str, wrong: Any, key: str | None
) -> None:
    """Newcomers from other clients write dicts."""
    request = LLMRequest([Message.user("a"), wrong], model="m", cache_key=key)
    with pytest.raises(CallerError, match=r"messages\[1\] is of type .*Message.user"):
        codec_for(protocol, "compatible").encode(request, stream=False)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_role_that_does_not_exist_is_named(protocol: str) -> None:
    """Vendors have more words for the same four."""
    message = Message(cast("Any", "developer"), (Text("Be brief."),))
    request = LLMRequest([message, Message.user("a")], model="m")
    with pytest.raises(LocalProtocolError, match=r"role 'developer'.*X2"):
        codec_for(protocol, "compatible").encode(request, stream=False)
