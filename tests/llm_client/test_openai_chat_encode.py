"""Messages in the wire form of Chat Completions."""

from __future__ import annotations

import msgspec
import pytest

from llm_client.errors import LocalProtocolError
from llm_client.types import (
    Audio,
    File,
    Image,
    Message,
    Opaque,
    Part,
    Seal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from tests.chat_bodies import called, wire


def test_a_round_with_a_tool_call_in_wire_form() -> None:
    """System prompt first, content null beside calls, results by id, then the answer."""
    call = ToolCall("c1", "look_up", '{"city": "Paris"}')
    assert wire(
        Message.user("Where?"),
        called(call),
        Message.tool("c1", "there"),
        Message.assistant("There."),
        system="Be brief.",
    ) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Where?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "look_up", "arguments": '{"city": "Paris"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "there"},
        {"role": "assistant", "content": "There."},
    ]


def test_images_sound_and_files_stand_in_a_user_message_as_typed_blocks() -> None:
    """Data as a data URL or base64, addresses as they are; empty text is left out."""
    message = Message(
        "user",
        (
            Text("Look"),
            Text(""),
            Image(b"\x89P", media_type="image/png", detail="low"),
            Image(url="https://example.org/a.jpg"),
            Audio(b"RIFF", "wav"),
            File(b"%PDF", name="a.pdf", media_type="application/pdf"),
            File(id="file_1"),
        ),
    )
    assert wire(message)[0]["content"] == [
        {"type": "text", "text": "Look"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVA=", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.jpg"}},
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        {
            "type": "file",
            "file": {"file_data": "data:application/pdf;base64,JVBERg==", "filename": "a.pdf"},
        },
        {"type": "file", "file": {"file_id": "file_1"}},
    ]


def test_text_alone_is_sent_as_a_string() -> None:
    """Every vendor takes a string; some take nothing else."""
    assert wire(Message("user", (Text("a"), Text("b"))))[0]["content"] == "ab"


def test_images_of_tool_results_follow_in_a_user_message_after_all_results() -> None:
    """Tool messages hold text only, and nothing may stand between them (C10)."""
    image = Image(b"\x89P", media_type="image/png")
    messages = wire(
        called(ToolCall("a", "f"), ToolCall("b", "f")),
        Message("tool", (ToolResult("a", (image,)),)),
        Message("tool", (ToolResult("b", (Text("plain"),)),)),
    )
    assert [message["role"] for message in messages] == ["assistant", "tool", "tool", "user"]
    assert messages[1]["content"] == "(1 attachment, in the next user message)"
    text, block = messages[3]["content"]
    assert "call a" in text["text"]
    assert block["image_url"]["url"].startswith("data:image/png;base64,")


def test_several_results_in_one_message_become_one_wire_message_each() -> None:
    """A batch may be stored as one message."""
    both = Message("tool", (ToolResult("a", (Text("1"),)), ToolResult("b", (Text("2"),))))
    messages = wire(called(ToolCall("a", "f"), ToolCall("b", "f")), both)
    assert [message.get("tool_call_id") for message in messages] == [None, "a", "b"]


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ('{"a": 1}', '{"a": 1}'),
        ("", "{}"),
        ('{"a": ', "{}"),
        ('{"a": NaN}', "{}"),
        ('{"a": ' + "1" * 5000 + "}", "{}"),
        ("[" * 100_000, "{}"),
        ('{"a": "\\ud83d"}', "{}"),
        ("[1, 2]", '{"_":[1, 2]}'),
        ("null", '{"_":null}'),
    ],
)
def test_arguments_always_go_out_as_the_text_of_a_json_object(arguments: str, sent: str) -> None:
    """A05, A07, C17: what the model wrote stays in history; invalid JSON in a request is a 400 for
    every later turn."""
    message = called(ToolCall("a", "f", arguments))
    assert wire(message, Message.tool("a", ""))[0]["tool_calls"][0]["function"]["arguments"] == sent
    assert message.tool_calls[0].arguments == arguments


@pytest.mark.parametrize(("provider", "longest"), [("openai", 40), ("azure", 40), ("groq", 64)])
def test_long_call_ids_are_mapped_on_both_sides(provider: str, longest: int) -> None:
    """C15: another vendor's ids may be longer than this one allows."""
    long, other = "call_" + "x" * 100, "call_" + "x" * 99 + "y"
    messages = wire(
        called(ToolCall(long, "f"), ToolCall(other, "f")),
        Message.tool(other, ""),
        Message.tool(long, ""),
        provider=provider,
    )
    ids = [call["id"] for call in messages[0]["tool_calls"]]
    assert [messages[2]["tool_call_id"], messages[1]["tool_call_id"]] == ids
    assert len(set(ids)) == 2
    assert all(len(call_id) <= longest for call_id in ids)
    kept = "c" * longest
    assert (
        wire(called(ToolCall(kept, "f")), Message.tool(kept, ""), provider=provider)[1][
            "tool_call_id"
        ]
        == kept
    )


def test_mistral_gets_ids_of_nine_letters_and_digits() -> None:
    """Its own are kept; any other is a 400 there."""
    messages = wire(
        called(ToolCall("g6fVbXS8K", "f"), ToolCall("call_1", "f")),
        Message.tool("g6fVbXS8K", ""),
        Message.tool("call_1", ""),
        provider="mistral",
    )
    first, second = (call["id"] for call in messages[0]["tool_calls"])
    assert first == messages[1]["tool_call_id"] == "g6fVbXS8K"
    assert second == messages[2]["tool_call_id"]
    assert len(second) == 9
    assert second.isalnum()


def test_mistral_gets_an_assistant_message_between_results_and_the_user() -> None:
    """Steering after tools: "Unexpected role 'user' after role 'tool'" otherwise."""
    messages = (called(ToolCall("a", "f")), Message.tool("a", ""), Message.user("Stop."))
    roles = [message["role"] for message in wire(*messages, provider="mistral")]
    assert roles == ["assistant", "tool", "assistant", "user"]
    assert [message["role"] for message in wire(*messages)] == ["assistant", "tool", "user"]
    image = Message("tool", (ToolResult("a", (Image(url="u"),)),))
    roles = [message["role"] for message in wire(messages[0], image, provider="mistral")]
    assert roles == ["assistant", "tool", "assistant", "user"]


def test_a_name_that_no_tool_may_have_is_sent_back_in_a_legal_form() -> None:
    """C01: a model made it up, or another protocol allows it; the session must stay sendable."""
    messages = wire(called(ToolCall("a", "fs.read file!" + "x" * 80)), Message.tool("a", "none"))
    name = messages[0]["tool_calls"][0]["function"]["name"]
    assert name == ("fs_read_file_" + "x" * 80)[:64]


def test_thinking_and_other_protocols_parts_are_left_out() -> None:
    """R03: a foreign signature, an encrypted block or an opaque item means nothing here."""
    parts: tuple[Part, ...] = (
        Thinking("secret", Seal("anthropic", "sig")),
        Thinking("", Seal("anthropic", "sealed"), redacted=True),
        Thinking("unsigned"),
        Opaque("anthropic", "server_tool_use", "{}"),
        Text("Hello"),
    )
    for provider in ("openai", "compatible", "openrouter"):
        message = wire(Message("assistant", parts), provider=provider)[0]
        assert message == {"role": "assistant", "content": "Hello"}


def test_deepseek_gets_its_reasoning_back_and_an_empty_text_where_there_was_none() -> None:
    """R11: in thinking mode every assistant message of a tool loop must carry the field."""
    messages = wire(
        Message.user("a"),
        Message("assistant", (Thinking("I look."), ToolCall("a", "f"))),
        Message.tool("a", ""),
        called(ToolCall("b", "f")),
        Message.tool("b", ""),
        Message("assistant", (Thinking("foreign", Seal("anthropic", "sig")), Text("Done."))),
        provider="deepseek",
    )
    found = [m["reasoning_content"] for m in messages if m["role"] == "assistant"]
    assert found == ["I look.", "", ""]


def test_moonshot_gets_reasoning_beside_tool_calls_only_and_never_empty() -> None:
    """ "thinking is enabled but reasoning_content is missing": an empty text counts as missing."""
    messages = wire(
        called(ToolCall("a", "f")),
        Message.tool("a", ""),
        Message.assistant("Done."),
        provider="moonshot",
    )
    assert messages[0]["reasoning_content"] == "."
    assert "reasoning_content" not in messages[2]


def test_openrouter_gets_its_reasoning_details_back_unchanged() -> None:
    """They hold the signatures of the model behind it."""
    details = [{"type": "reasoning.text", "text": "x", "signature": "s", "index": 0}]
    opaque = Opaque("openrouter", "reasoning_details", msgspec.json.encode(details).decode())
    message = Message("assistant", (Thinking("x"), opaque, ToolCall("a", "f")))
    assert (
        wire(message, Message.tool("a", ""), provider="openrouter")[0]["reasoning_details"]
        == details
    )
    assert "reasoning_details" not in wire(message, Message.tool("a", ""), provider="groq")[0]


def test_an_opaque_part_that_is_damaged_is_named() -> None:
    """Instead of a body that no server can read."""
    message = Message("assistant", (Opaque("openrouter", "reasoning_details", "[{"), Text("a")))
    with pytest.raises(LocalProtocolError, match="reasoning_details"):
        wire(message, provider="openrouter")


def test_an_empty_answer_is_left_out_i02() -> None:
    """I02, C12: a vendor refuses an assistant message without content; neighbours stay legal."""
    messages = wire(
        Message.user("a"),
        Message("assistant", ()),
        Message("assistant", (Text(""), Thinking("x"))),
        Message.user("b"),
        Message("assistant", (Thinking("hm"),)),
    )
    assert [message["content"] for message in messages] == ["a", "b"]


def test_speech_is_referred_to_by_its_id_and_else_by_its_words() -> None:
    """The provider keeps the sound; without an id the transcript says the same."""
    first, second, third = wire(
        Message("assistant", (Audio(b"x", id="audio_1", transcript="Hi"),)),
        Message("assistant", (Audio(b"x", transcript="Hi"),)),
        Message("assistant", (Image(url="u"), File(id="f"))),
    )
    assert first == {"role": "assistant", "content": None, "audio": {"id": "audio_1"}}
    assert (second["content"], third["content"]) == ("Hi", "[an image][a file]")


def test_names_of_messages_are_sent_when_set() -> None:
    """They tell speakers apart."""
    messages = (
        Message("user", (Text("a"),), name="ann"),
        Message("assistant", (Text("b"),), name="bot"),
        Message("system", (Text("c"),)),
    )
    assert [message.get("name") for message in wire(*messages)] == ["ann", "bot", None]
