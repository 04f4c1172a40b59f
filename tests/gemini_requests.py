"""Recorded Gemini requests, read back into our types, and what a body says, to be compared."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from llm_client.codecs._json import as_dict, as_list, is_array, is_object
from llm_client.codecs.gemini._parts import blob_data
from llm_client.types import (
    Audio,
    File,
    Image,
    LLMRequest,
    Message,
    NamedTool,
    Opaque,
    OutputSchema,
    Part,
    Seal,
    Text,
    Thinking,
    ToolCall,
    ToolChoice,
    ToolResult,
    ToolSpec,
)
from tests.corpus import need_corpus, read_jsonl
from tests.gemini_streams import CORPUS_FILE

SENTINELS = {
    "skip_thought_signature_validator",
    "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=",
    None,
}
"""What stands for no signature; the SDK for Python writes it in base64."""

_URLSAFE = str.maketrans("-_", "+/")
_BLOCKS = {"functionCall", "functionResponse", "inlineData", "fileData"}


def accepted_requests() -> list[tuple[str, dict[str, Any], LLMRequest]]:
    """Id, body and content of each recorded request that was accepted."""
    found: list[tuple[str, dict[str, Any], LLMRequest]] = []
    for row in read_jsonl(need_corpus(CORPUS_FILE)):
        body = row["request_body"]
        if row["status"] != 200 or not body:
            continue
        model = re.search(r"models/([^:]+)", row["endpoint"] or "")
        request = read_request(body, model[1] if model else "gemini-2.5-flash")
        found.append((row["id"], body, request))
    return found


def read_request(body: dict[str, Any], model: str) -> LLMRequest:
    """A request from its wire form."""
    reader = _Reader()
    messages = [message for content in _contents(body) for message in reader.read(content)]
    system = "".join(part["text"] for part in _parts(as_dict(body.get("systemInstruction"))))
    rest = {"contents", "tools", "systemInstruction", "generationConfig", "toolConfig"}
    extra = {name: value for name, value in body.items() if name not in rest}
    generation = camel(as_dict(body.get("generationConfig")))
    schema = generation.get("responseJsonSchema")
    said = {"maxOutputTokens", "temperature", "topP", "seed", "stopSequences"}
    if schema is not None:
        said |= {"responseJsonSchema", "responseMimeType"}
    if generation.keys() - said:
        extra["generationConfig"] = {k: v for k, v in generation.items() if k not in said}
    config = as_dict(body.get("toolConfig"))
    choice = _choice(as_dict(config.get("functionCallingConfig")))
    if config:
        extra["toolConfig"] = config
    functions, served = _tools(body)
    return LLMRequest(
        messages,
        system or None,
        model,
        functions,
        choice if functions else "auto",
        None,
        generation.get("maxOutputTokens"),
        generation.get("temperature"),
        generation.get("topP"),
        generation.get("seed"),
        tuple(as_list(generation.get("stopSequences"))),
        None if schema is None else OutputSchema("answer", schema),
        served,
        extra=extra,
    )


def facts(body: dict[str, Any]) -> list[tuple[object, ...]]:
    """What the contents of a body say, in order. Left out is what the model does not miss: empty
    texts and reasoning without a signature."""
    found: list[tuple[object, ...]] = []
    for content in _contents(body):
        role = content.get("role") or "user"
        for part in _parts(content):
            fact = _fact(camel(part, _BLOCKS))
            if fact is not None:
                found.append((role, *fact))
    return found


def camel(fields: dict[str, Any], deep: set[str] | None = None) -> dict[str, Any]:
    """`fields` under their names in camel case, which are those of the wire; within those of
    `deep` as well."""
    found: dict[str, Any] = {}
    value: Any
    for name, value in fields.items():
        key = re.sub(r"_([a-z])", lambda match: match[1].upper(), name)
        if deep is not None and key in deep:
            value = camel(as_dict(value))
        found[key] = value
    return found


def _fact(part: dict[str, Any]) -> tuple[object, ...] | None:
    signature: Any = part.pop("thoughtSignature", None)
    if signature in SENTINELS:
        signature = None
    if signature is not None:
        signature = signature.translate(_URLSAFE)
    if "text" in part and not signature and (not part["text"] or part.get("thought")):
        return None
    (kind,) = set(part) - {"thought"}
    value: Any = part[kind]
    if kind == "inlineData":
        value = (value["mimeType"], blob_data(value["data"]))
    if kind == "functionResponse":
        parts = tuple(_fact(camel(item, _BLOCKS)) for item in as_list(value.pop("parts", None)))
        value = (value.get("id"), value["name"], msgspec.json.encode(value["response"]), parts)
    if kind == "functionCall":
        value = (value.get("id"), value["name"], as_dict(value.get("args")))
    return kind, value, signature


class _Reader:
    """Reads contents one after the other. Results find their calls by id, else in order."""

    def __init__(self) -> None:
        self._open: list[ToolCall] = []
        self._count = 0

    def read(self, content: dict[str, Any]) -> list[Message]:
        parts = [camel(part, _BLOCKS) for part in _parts(content)]
        if content.get("role") == "model":
            said = tuple(self._said(part) for part in parts)
            self._open = [part for part in said if isinstance(part, ToolCall)]
            return [Message("assistant", said)]
        results = tuple(
            self._result(part["functionResponse"]) for part in parts if "functionResponse" in part
        )
        given = tuple(_given(part) for part in parts if "functionResponse" not in part)
        found = [Message("tool", results)] if results else []
        return [*found, Message("user", given)] if given else found

    def _said(self, part: dict[str, Any]) -> Part:
        signature: Any = part.get("thoughtSignature")
        signature = None if signature in SENTINELS else signature
        seal = Seal("gemini", signature) if signature else None
        if "functionCall" in part:
            call: Any = part["functionCall"]
            self._count += 1
            given: Any = call.get("id")
            if given:
                seal = Seal("gemini", signature, given)
            arguments = msgspec.json.encode(as_dict(call.get("args"))).decode()
            return ToolCall(given or f"call_{self._count}", call["name"], arguments, seal)
        if "text" in part:
            return (
                Thinking(part["text"], seal)
                if part.get("thought")
                else Text(part["text"], (), seal)
            )
        if "inlineData" in part:
            blob: Any = part["inlineData"]
            own = Seal("gemini", signature)
            return Image(blob_data(blob["data"]), media_type=blob["mimeType"], seal=own)
        return _opaque(part)

    def _result(self, response: dict[str, Any]) -> ToolResult:
        found = next((call for call in self._open if call.id == response.get("id")), self._open[0])
        self._open.remove(found)
        media = tuple(_given(camel(part, _BLOCKS)) for part in as_list(response.get("parts")))
        text = msgspec.json.encode(response["response"]).decode()
        content = (Text(text), *(part for part in media if isinstance(part, Image | File)))
        return ToolResult(found.id, content)


def _given(part: dict[str, Any]) -> Part:
    if "text" in part:
        return Text(part["text"])
    if "inlineData" in part:
        blob: Any = part["inlineData"]
        media_type, data = blob["mimeType"], blob_data(blob["data"])
        if media_type.startswith("image/"):
            return Image(data, media_type=media_type)
        return (
            Audio(data, media_type)
            if media_type.startswith("audio/")
            else File(data, media_type=media_type)
        )
    if "fileData" in part:
        return File(url=part["fileData"]["fileUri"], media_type=part["fileData"].get("mimeType"))
    return _opaque(part)


def _opaque(part: dict[str, Any]) -> Opaque:
    kind = next(name for name in part if name != "thoughtSignature")
    return Opaque("gemini", kind, msgspec.json.encode(part).decode())


def _contents(body: dict[str, Any]) -> list[dict[str, Any]]:
    contents: Any = body["contents"]
    return contents if is_array(contents) else [contents]


def _parts(content: dict[str, Any]) -> list[dict[str, Any]]:
    parts: Any = content.get("parts")
    return [parts] if is_object(parts) else as_list(parts)


def _choice(config: dict[str, Any]) -> ToolChoice:
    """Of several names that may be called, ours can say one; the rest is left to `extra`."""
    names = as_list(config.get("allowedFunctionNames"))
    if len(names) == 1:
        return NamedTool(names[0])
    match config.get("mode"):
        case "NONE":
            return "none"
        case "ANY":
            return "required"
        case _:
            return "auto"


def _tools(body: dict[str, Any]) -> tuple[tuple[ToolSpec, ...], tuple[dict[str, Any], ...]]:
    functions: list[ToolSpec] = []
    served: list[dict[str, Any]] = []
    for tool in as_list(body.get("tools")):
        declared = as_list(tool.get("functionDeclarations"))
        if not declared:
            served.append(tool)
        for item in declared:
            function = camel(item)
            schema = as_dict(function.get("parametersJsonSchema") or function.get("parameters"))
            functions.append(ToolSpec(function["name"], function.get("description") or "", schema))
    return tuple(functions), tuple(served)
