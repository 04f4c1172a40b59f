"""A local model as a server: for whoever wants to speak its protocols himself."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.resources import files

from msgspec import Struct

from llm_client.config import LLMProviderConfig
from llm_client.local.models import LocalModel, LocalSettings, local_model
from llm_client.local.process import ServerConfig, ServerProcess, require_runtime
from llm_client.local.weights import Notify, ensure_weights_async
from llm_client.transport.deadlines import Deadlines

__all__ = ["PATIENCE", "LocalServer", "local_server", "start_server"]

# A request waits in the server's queue until those before it are done, without a byte of answer.
PATIENCE = Deadlines(first_byte=600.0, idle=120.0, total=900.0)

_log = logging.getLogger("llm_client.local")


class LocalServer(Struct, frozen=True):
    """A server that runs: it speaks Chat Completions, Responses and Anthropic's Messages.

    Attributes:
        process: its process.
        model: the name of the model that it serves.
        address: where it listens; without a path.
        key: the secret without which it answers nobody.
    """

    process: ServerProcess
    model: str
    address: str
    key: str

    def __repr__(self) -> str:
        return f"LocalServer({self.model!r} at {self.address})"

    def config(self, provider: str = "llamacpp") -> LLMProviderConfig:
        """What is needed to reach it as `provider`: `llamacpp`, `llamacpp-responses` or
        `llamacpp-messages`, after the protocol to be spoken."""
        path = "" if provider.endswith("messages") else "/v1"
        return LLMProviderConfig(
            provider=provider,
            model=self.model,
            base_url=f"{self.address}{path}",
            api_key=self.key,
            timeouts=PATIENCE,
        )


async def start_server(
    model: LocalModel, settings: LocalSettings, notify: Notify | None = None
) -> LocalServer:
    """Fetches the weights if they are not here, and starts a server. Its process must be stopped.

    Raises:
        LocalRuntimeMissing: xllamacpp is not installed; names the extra.
        WeightsUnavailable: the weights cannot be had or kept; names the command to run.
        LocalServerFailed: the server cannot start.
    """
    require_runtime()
    path = await ensure_weights_async(model, settings.cache_dir, notify)
    key = secrets.token_urlsafe(24)
    template = files("llm_client.local").joinpath("templates", model.template)
    process = ServerProcess(
        ServerConfig(
            model=model.name,
            path=str(path),
            key=key,
            template=template.read_text(encoding="utf-8"),
            context=settings.context or model.context,
            parallel=settings.parallel,
            threads=settings.threads,
            max_output_tokens=settings.max_output_tokens,
            repeat_penalty=model.repeat_penalty,
        )
    )
    address = await process.start(settings.start_seconds)
    _log.info("%s answers at %s, process %s", model.title, address, process.pid)
    return LocalServer(process, model.name, address, key)


@asynccontextmanager
async def local_server(
    model: str | LocalModel = "smollm2",
    settings: LocalSettings | None = None,
    *,
    notify: Notify | None = None,
) -> AsyncGenerator[LocalServer]:
    """A server of `model`, or of the one by that name, for as long as the block lasts.

    `settings` default to those of the environment.

    Raises:
        ConfigError: there is no such model, or no place for a cache.
        LocalRuntimeMissing, WeightsUnavailable, LocalServerFailed: see `start_server`.
    """
    known = local_model(model) if isinstance(model, str) else model
    server = await start_server(known, settings or LocalSettings.from_env(), notify)
    try:
        yield server
    finally:
        await server.process.stop()
