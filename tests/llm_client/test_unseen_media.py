"""What a model cannot be shown: refused when it is asked about, told in words further back."""

from __future__ import annotations

import pytest

from llm_client.errors import UnsupportedFeature
from llm_client.protocols import codec_for
from llm_client.types import (
    Audio,
    File,
    Image,
    LLMRequest,
    Message,
    Seal,
    Text,
    ToolCall,
    ToolResult,
)

VENDORS = {
    "openai_chat": "openai",
    "openai_responses": "openai",
    "anthropic_messages": "anthropic",
    "gemini": "gemini",
    "cohere_chat": "cohere",
    "ollama_native": "ollama-native",
}
ELSEWHERE = Image(seal=Seal("elsewhere", id="file-1"))
"""Its content is known to another vendor only."""

UNSEEN = [
    ("openai_chat", ELSEWHERE),
    ("openai_responses", ELSEWHERE),
    ("anthropic_messages", ELSEWHERE),
    ("gemini", ELSEWHERE),
    ("cohere_chat", ELSEWHERE),
    ("ollama_native", ELSEWHERE),
    ("openai_responses", Audio(b"1", "wav")),
    ("anthropic_messages", Audio(b"1", "wav")),
    ("anthropic_messages", File(b"1", name="a.mp4", media_type="video/mp4")),
    ("cohere_chat", Audio(b"1", "wav")),
    ("cohere_chat", File(b"1", name="a.pdf", media_type="application/pdf")),
    ("ollama_native", Image(url="https://example.org/a.png")),
    ("ollama_native", Audio(b"1", "wav")),
    ("ollama_native", File(b"1", name="a.pdf", media_type="application/pdf")),
]


def written(protocol: str, *messages: Message) -> bytes:
    """The request's body."""
    codec = codec_for(protocol, VENDORS[protocol])
    request = LLMRequest(messages, model="claude-sonnet-4-5", max_output_tokens=100)
    return b"".join(codec.encode(request, stream=False).body)


@pytest.mark.parametrize(("protocol", "part"), UNSEEN)
def test_a_question_about_what_the_model_cannot_be_shown_is_refused(
    protocol: str, part: Image | Audio | File
) -> None:
    """Before anything is sent: an answer could only be made up."""
    with pytest.raises(UnsupportedFeature):
        written(protocol, Message.user("What is this?", part))


@pytest.mark.parametrize(("protocol", "part"), UNSEEN)
def test_in_history_words_stand_for_what_the_model_cannot_be_shown(
    protocol: str, part: Image | Audio | File
) -> None:
    """A session that began with another vendor goes on; the model is told what is missing."""
    body = written(
        protocol,
        Message.user("What is this?", part),
        Message.assistant("A picture of a cat."),
        Message.user("And its name?"),
    )
    assert b"is here that you cannot" in body
    for name in (getattr(part, "name", None), getattr(part, "url", None)):
        assert name is None or name.encode() in body


@pytest.mark.parametrize("protocol", VENDORS)
def test_what_a_tool_returned_never_keeps_a_session_from_going_on(protocol: str) -> None:
    """Nobody can take it back, so the model is told of it in words."""
    result = ToolResult("call_1", (Text("see there"), ELSEWHERE))
    body = written(
        protocol,
        Message.user("Look."),
        Message.assistant("", ToolCall("call_1", "look")),
        Message("tool", (result,)),
    )
    assert b"see there" in body
    assert b"an image is here that you cannot see" in body


def test_a_transcript_says_what_a_sound_says() -> None:
    """Words that are there are better than words about it."""
    sound = Audio(b"1", "wav", transcript="Meow.")
    history = (Message.user("What was that?", sound), Message.assistant("A cat."))
    for protocol in ("anthropic_messages", "cohere_chat", "ollama_native", "openai_responses"):
        assert b"Meow." in written(protocol, *history, Message.user("Sure?"))


@pytest.mark.parametrize("protocol", VENDORS)
def test_addresses_that_hold_data_are_not_told_in_words(protocol: str) -> None:
    """They may be megabytes."""
    file = File(url="data:application/x-thing;base64," + "A" * 4000, name="a.bin")
    body = written(protocol, Message.user("x", file), Message.assistant("y"), Message.user("z"))
    assert b"that you cannot read" not in body or b"A" * 100 not in body
