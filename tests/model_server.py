"""A small real server that speaks Chat Completions and behaves like a model that uses its tools."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

__all__ = ["Gate", "model_server", "refusing_server"]


GATE_SECONDS = 30


class Gate:
    """Holds answers back: `asked` is set when a request has come, `open` lets it be answered."""

    def __init__(self) -> None:
        self.asked = Event()
        self.open = Event()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        length = int(self.headers["content-length"])
        request: dict[str, Any] = json.loads(self.rfile.read(length))
        gate: Gate | None = getattr(self.server, "gate", None)
        if gate is not None:
            gate.asked.set()
            gate.open.wait(GATE_SECONDS)
        message = _answer(request)
        if request.get("stream"):
            self._send("text/event-stream", b"".join(_chunks(message)))
        else:
            finish = "tool_calls" if message.get("tool_calls") else "stop"
            choice = {"index": 0, "message": message, "finish_reason": finish}
            body = {"id": "r", "model": request["model"], "choices": [choice], "usage": _USAGE}
            self._send("application/json", json.dumps(body).encode())

    def _send(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


_USAGE = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    """Calls the first tool once for each user message, then says what it gave."""
    messages: list[dict[str, Any]] = request["messages"]
    tools: list[dict[str, Any]] = request.get("tools") or []
    if tools and messages[-1]["role"] == "user":
        function = tools[0]["function"]
        arguments = json.dumps(_example(function["parameters"], str(messages[-1]["content"])))
        call = {"name": function["name"], "arguments": arguments}
        calls = [{"id": f"call_{len(messages)}", "type": "function", "function": call}]
        return {"role": "assistant", "content": None, "tool_calls": calls}
    schema = request.get("response_format", {}).get("json_schema", {}).get("schema")
    if schema is not None:
        return {"role": "assistant", "content": json.dumps(_example(schema, "Vienna"))}
    results = [str(message["content"]) for message in messages if message["role"] == "tool"]
    text = f"The tool says: {results[-1]}" if results else "Hello from the scripted model."
    return {"role": "assistant", "content": text}


def _example(schema: dict[str, Any], text: str) -> Any:
    """The simplest value that fits a schema; strings are the last word of `text`."""
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            required: list[str] = schema.get("required", [])
            return {name: _example(schema["properties"][name], text) for name in required}
        case "integer" | "number":
            return 7
        case "boolean":
            return True
        case "array":
            return []
        case _:
            return text.split()[-1].strip("?.") if text.split() else "x"


def _chunks(message: dict[str, Any]) -> Iterator[bytes]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return b"data: " + json.dumps({"id": "r", "choices": [choice]}).encode() + b"\n\n"

    for word in (message["content"] or "").split():
        yield chunk({"content": word + " "})
    calls: list[dict[str, Any]] = message.get("tool_calls", [])
    for index, call in enumerate(calls):
        yield chunk({"tool_calls": [{"index": index, **call}]})
    yield chunk({}, "tool_calls" if calls else "stop")
    usage: dict[str, Any] = {"id": "r", "choices": [], "usage": _USAGE}
    yield b"data: " + json.dumps(usage).encode() + b"\n\ndata: [DONE]\n\n"


class _RefusingHandler(_Handler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = b'{"error": {"message": "no", "type": "invalid_request_error"}}'
        self.send_response(self.server.__dict__["status"])
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def model_server(gate: Gate | None = None) -> Generator[dict[str, str]]:
    """Serves for as long as the block lasts; gives the variables that point a program at it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.__dict__["gate"] = gate
    with _served(server) as variables:
        try:
            yield variables
        finally:
            if gate is not None:
                gate.open.set()


@contextmanager
def refusing_server(status: int) -> Generator[dict[str, str]]:
    """The same, but every request is refused with `status`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _RefusingHandler)
    server.__dict__["status"] = status
    with _served(server) as variables:
        yield variables


@contextmanager
def _served(server: ThreadingHTTPServer) -> Generator[dict[str, str]]:
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield {
            "POWER_LOOP_PROVIDER": "openai",
            "POWER_LOOP_BASE_URL": f"http://127.0.0.1:{server.server_address[1]}/v1",
            "POWER_LOOP_API_KEY": "test-key",
            "POWER_LOOP_MODEL": "scripted",
        }
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
