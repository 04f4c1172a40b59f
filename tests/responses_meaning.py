"""What the input of a Responses request says, so that two ways of writing it can be compared."""

from __future__ import annotations

from typing import Any

import msgspec

from llm_client.codecs._json import as_dict, as_list, is_array

Said = tuple[object, ...]


def meaning(input: object) -> list[Said]:
    """What the provider needs of `input`, item by item. Ids of items that come with their content
    are left out, and so is whether a text is written as a block."""
    if isinstance(input, str):
        return [("user", input)]
    said: list[Said] = []
    for item in map(as_dict, as_list(input)):
        one = _item(item)
        if said and one[0] == said[-1][0] == "assistant" and one[1] == said[-1][1]:
            said[-1] = (*said[-1][:-1], f"{said[-1][-1]}{one[-1]}")
        elif one[-1] != "":
            said.append(one)
    return said


def ids(input: object) -> list[str]:
    """The ids of the items, in order."""
    if isinstance(input, str):
        return []
    return [item["id"] for item in map(as_dict, as_list(input)) if item.get("id")]


def _item(item: dict[str, Any]) -> Said:
    match item.get("type") or "message":
        case "message":
            role = "system" if item["role"] == "developer" else item["role"]
            if role == "assistant":
                return (role, item.get("phase"), _content(item.get("content")))
            return (role, _content(item.get("content")))
        case "reasoning":
            parts = [*as_list(item.get("content")), *as_list(item.get("summary"))]
            texts = [as_dict(part)["text"] for part in parts]
            return ("reasoning", item.get("encrypted_content"), "\n\n".join(texts) or None)
        case "function_call":
            arguments = msgspec.json.decode(item["arguments"] or "{}")
            return ("call", item["call_id"], item["name"], item.get("namespace"), arguments)
        case "custom_tool_call":
            return ("call", item["call_id"], item["name"], None, item["input"])
        case "function_call_output" | "custom_tool_call_output":
            return ("result", item["call_id"], (_content(item["output"]),))
        case "image_generation_call":
            return ("image", item["id"], item.get("result"))
        case kind:
            return (kind, item)


def _content(value: object) -> object:
    if not is_array(value):
        return value
    blocks = [_block(as_dict(block)) for block in value]
    texts = [block for block in blocks if isinstance(block, str)]
    return "".join(texts) if len(texts) == len(blocks) else blocks


def _block(fields: dict[str, Any]) -> object:
    if fields["type"] in ("input_text", "output_text"):
        return fields["text"]
    return fields
