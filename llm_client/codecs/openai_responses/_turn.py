"""What a model has said, as the items that Responses takes back.

Items keep the order in which they came. A vendor that keeps nothing gets its reasoning back
encrypted, and neither reasoning nor what follows it by id: an id would make the vendor look for the
pair. Where reasoning cannot go back, what was said by id behind it cannot either.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from llm_client.codecs._json import as_dict, encode, is_object, object_text
from llm_client.codecs._media import in_words
from llm_client.codecs._names import IdForm, wire_name
from llm_client.codecs._turns import opaque_value, what
from llm_client.codecs.openai_responses._dialect import ResponsesDialect
from llm_client.codecs.openai_responses._items import CUSTOM, IMAGE, NAMESPACE, REASONING_TEXT
from llm_client.codecs.openai_responses._rules import CUSTOM_OUTPUT, FUNCTION_OUTPUT, Encoded
from llm_client.errors import LocalProtocolError
from llm_client.parts import COMPACTION
from llm_client.types import (
    Audio,
    Citation,
    File,
    Image,
    Message,
    Opaque,
    Part,
    Seal,
    Text,
    Thinking,
    ToolCall,
)

__all__ = ["Turn", "decoded", "wire_id"]

wire_id = IdForm(r"(?s).{1,64}")
"""The id of a call as it may be sent."""


def decoded(part: Opaque) -> dict[str, Any]:
    """The item that an opaque part holds.

    Raises:
        LocalProtocolError: it holds none.
    """
    value = opaque_value(part, "R11")
    if not is_object(value):
        raise LocalProtocolError(
            f"the opaque part {part.kind!r} of {part.provider} is not a JSON object; drop it",
            rule="R11",
        )
    return value


class Turn:
    """The items of one assistant message. `take` its parts in order, then `encoded`."""

    __slots__ = (
        "_calls",
        "_dialect",
        "_keep_ids",
        "_message",
        "_offers",
        "_orphaned",
        "_reasoning",
        "_said",
        "_said_seal",
        "_thought",
        "_thought_seal",
        "_values",
    )

    def __init__(self, message: Message, dialect: ResponsesDialect, *, keep_ids: bool) -> None:
        self._message = message
        self._dialect = dialect
        self._keep_ids = keep_ids
        self._orphaned = False
        """The reasoning before this place could not go back."""
        self._values: list[bytes] = []
        self._reasoning: list[bytes] = []
        """Reasoning that waits for the item it led to."""
        self._calls: list[tuple[str, bytes]] = []
        self._offers: list[str] = []
        self._said: list[Text] = []
        self._said_seal: Seal | None = None
        self._thought: list[Thinking] = []
        self._thought_seal: Seal | None = None

    def take(self, part: Part) -> None:
        """Takes the next part in."""
        match part:
            case Text():
                self._say(part)
            case Thinking():
                self._think(part)
            case ToolCall():
                self._flush()
                self._call(part)
            case Opaque():
                if part.provider == self._dialect.origin:
                    self._flush()
                    self._keep(part)
            case Image(seal=Seal(origin=self._dialect.origin)):
                pass  # The opaque item beside it holds the picture as the vendor knows it.
            case Image() | File() | Audio():
                self._say(Text(in_words(part)))
            case _:
                pass

    def encoded(self) -> Encoded:
        """The message in wire form."""
        self._flush()
        return Encoded(
            "assistant",
            tuple(self._values),
            tuple(self._reasoning),
            tuple(self._calls),
            tuple(self._offers),
        )

    def _own(self, seal: Seal | None) -> Seal | None:
        return seal if seal is not None and seal.origin == self._dialect.origin else None

    def _add(self, item: dict[str, Any]) -> None:
        self._values += self._reasoning
        self._values.append(encode(item, what(self._message)))
        self._reasoning.clear()

    def _flush(self) -> None:
        self._flush_thought()
        self._flush_said()

    # ── text ──────────────────────────────────────────────────────────────────────────────────────

    def _say(self, part: Text) -> None:
        self._flush_thought()
        seal = self._own(part.seal)
        if self._said and seal != self._said_seal:
            self._flush_said()
        self._said_seal = seal
        self._said.append(part)

    def _flush_said(self) -> None:
        said, seal = self._said, self._said_seal or _NO_SEAL
        self._said = []
        text = "".join(part.text for part in said)
        if not text.strip():
            return
        item: dict[str, Any] = {"type": "message", "role": "assistant"}
        if self._keeps(seal.id):
            item |= {"id": seal.id, "status": "completed"}
        if seal.kind is not None:
            item["phase"] = seal.kind
        # As blocks even where a plain text would do: a llama.cpp server takes nothing else.
        item["content"] = [_block(part, cited=bool(seal.origin)) for part in said if part.text]
        self._add(item)

    def _keeps(self, id: str | None) -> bool:
        return id is not None and self._keep_ids and not self._orphaned

    # ── reasoning ─────────────────────────────────────────────────────────────────────────────────

    def _think(self, part: Thinking) -> None:
        seal = self._own(part.seal)
        if seal is None:
            return  # Reasoning that nobody sealed, or somebody else, means nothing here.
        self._flush_said()
        before = self._thought_seal
        if before is not None and (seal.id is None or seal.id != before.id):
            self._flush_thought()
        self._thought_seal = seal
        self._thought.append(part)

    def _flush_thought(self) -> None:
        thought, seal = self._thought, self._thought_seal
        self._thought, self._thought_seal = [], None
        if seal is None:
            return
        raw, summary = _reasoning_texts(thought)
        by_id = self._dialect.store and seal.id is not None
        self._orphaned = not (seal.signature or raw or by_id)
        if self._orphaned:
            return
        item: dict[str, Any] = {"type": "reasoning", "summary": summary}
        if seal.id is not None and (by_id or raw or self._keep_ids):
            item["id"] = seal.id
        if raw:
            item["content"] = raw
        if seal.signature is not None:
            item["encrypted_content"] = seal.signature
        self._reasoning.append(encode(item, what(self._message)))

    # ── calls and everything else ─────────────────────────────────────────────────────────────────

    def _call(self, part: ToolCall) -> None:
        seal = self._own(part.seal) or _NO_SEAL
        custom = seal.kind == CUSTOM
        item: dict[str, Any] = {
            "type": CUSTOM if custom else "function_call",
            "call_id": wire_id(part.id),
            "name": wire_name(part.name),
        }
        if custom:
            item["input"] = _plain_input(part.arguments)
        else:
            item["arguments"] = object_text(part.arguments)
        if seal.kind is not None and seal.kind.startswith(NAMESPACE):
            item["namespace"] = seal.kind.removeprefix(NAMESPACE)
        if self._keeps(seal.id):
            item["id"] = seal.id
        self._calls.append((item["call_id"], CUSTOM_OUTPUT if custom else FUNCTION_OUTPUT))
        self._add(item)

    def _keep(self, part: Opaque) -> None:
        if self._orphaned and part.kind != COMPACTION:
            return  # What earlier turns were made into belongs to no reasoning.
        item = decoded(part)
        call_id = item.get("call_id")
        if part.kind.endswith("_call") and isinstance(call_id, str):
            self._offers.append(wire_id(call_id))
        taken = _TAKEN_BACK.get(part.kind)
        if taken is not None:
            item = {name: value for name, value in item.items() if name in taken}
        self._add(item)


_NO_SEAL = Seal("")
_TAKEN_BACK: Mapping[str, frozenset[str]] = MappingProxyType(
    {IMAGE: frozenset({"type", "id", "status", "result"})}
)
"""Of items that come with more than the vendor takes back: what it takes. The rest of a picture
says how it was made ("Unknown parameter: 'input[1].action'")."""


def _block(part: Text, *, cited: bool) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "output_text", "text": part.text}
    if cited and part.citations:
        sources = [_source(one) for one in part.citations]
        block["annotations"] = [source for source in sources if source is not None]
    return block


def _source(citation: Citation) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(citation.json, type=dict[str, Any])
    except (ValueError, RecursionError):
        return None  # The text says the same without it.


def _reasoning_texts(
    thought: list[Thinking],
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Contents and summaries of one reasoning item."""
    raw: list[dict[str, str]] = []
    summary: list[dict[str, str]] = []
    for part in thought:
        if part.text and part.seal is not None and part.seal.kind == REASONING_TEXT:
            raw.append({"type": "reasoning_text", "text": part.text})
        elif part.text:
            summary.append({"type": "summary_text", "text": part.text})
    return raw, summary


def _plain_input(arguments: str) -> str:
    """The input of a custom tool out of the arguments that it was made into."""
    try:
        value = as_dict(msgspec.json.decode(arguments)).get("input")
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, str) else arguments
