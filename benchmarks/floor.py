"""The floor: the same work as a loop written by hand, with nothing that is not needed.

httpx with its own pool, messages as plain dicts, the standard library's json, server-sent events
split by hand, tools called directly, history in a list or in four SQLite rows a turn. No hooks, no
events, no validation, no retries, no limits.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

__all__ = ["HandWritten", "StoredHistory", "opened"]

Message = dict[str, Any]
Save = Callable[[list[Message]], Awaitable[None]]

_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Tells the weather.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                "required": ["city", "days"],
            },
        },
    }
]


async def weather(city: str, days: int) -> str:
    return f"{city}: sunny for {days} days"


_FUNCTIONS = {"weather": weather}


class HandWritten:
    """The loop. `used` counts tool calls, `tokens` sums what the model counted."""

    def __init__(self, client: httpx.AsyncClient, url: str, model: str) -> None:
        self._client = client
        self._url = f"{url}/chat/completions"
        self._model = model
        self.used = 0
        self.tokens = 0

    async def run(
        self,
        messages: list[Message],
        save: Callable[[list[Message]], Awaitable[None]] | None = None,
    ) -> str:
        """Asks and runs tools until the model has answered; `messages` grows."""
        while True:
            message = await self._ask(messages)
            messages.append(message)
            calls = message.get("tool_calls")
            if save is not None:
                await save([message])
            if not calls:
                return message["content"]
            if len(calls) == 1:
                results = [await self._call(calls[0])]
            else:
                results = await asyncio.gather(*[self._call(call) for call in calls])
            messages += results
            if save is not None:
                await save(results)

    async def stream(self, messages: list[Message]) -> AsyncGenerator[str]:
        """The pieces of one streamed answer."""
        body = {"model": self._model, "stream": True, "messages": messages}
        async with self._client.stream("POST", self._url, json=body) as response:
            response.raise_for_status()
            rest = b""
            async for data in response.aiter_bytes():
                *events, rest = (rest + data).split(b"\n\n")
                for event in events:
                    payload = event[6:]
                    if payload == b"[DONE]":
                        return
                    text = json.loads(payload)["choices"][0]["delta"].get("content")
                    if text:
                        yield text

    async def _ask(self, messages: list[Message]) -> Message:
        body = {"model": self._model, "messages": messages, "tools": _TOOLS}
        response = await self._client.post(self._url, json=body)
        response.raise_for_status()
        answer = response.json()
        self.tokens += answer["usage"]["total_tokens"]
        return answer["choices"][0]["message"]

    async def _call(self, call: dict[str, Any]) -> Message:
        function = call["function"]
        text = await _FUNCTIONS[function["name"]](**json.loads(function["arguments"]))
        self.used += 1
        return {"role": "tool", "tool_call_id": call["id"], "content": text}


@asynccontextmanager
async def opened(url: str, model: str) -> AsyncGenerator[HandWritten]:
    """The loop with one client. Its pool may hold as many connections as are asked for."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    headers = {"authorization": "Bearer benchmark-key"}
    async with httpx.AsyncClient(limits=limits, timeout=60, headers=headers) as client:
        yield HandWritten(client, url, model)


class StoredHistory:
    """Messages in SQLite: what is new is durable when `save` returns."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS messages (id INTEGER PRIMARY KEY, session TEXT, body TEXT)"
        )

    async def save(self, session: str, messages: list[Message]) -> None:
        """Appends messages in one transaction."""
        rows = [(session, json.dumps(m, separators=(",", ":"))) for m in messages]
        if len(rows) == 1:
            self._connection.execute("INSERT INTO messages (session, body) VALUES (?, ?)", rows[0])
            return
        self._connection.execute("BEGIN")
        self._connection.executemany("INSERT INTO messages (session, body) VALUES (?, ?)", rows)
        self._connection.execute("COMMIT")

    def load(self, session: str) -> list[Message]:
        """All messages of a session."""
        rows = self._connection.execute(
            "SELECT body FROM messages WHERE session = ? ORDER BY id", (session,)
        )
        return [json.loads(body) for (body,) in rows]

    def close(self) -> None:
        self._connection.close()
