"""Models that run on this machine: no key, and no network once their weights are here.

    service   an LLMService that brings the rest into being on its first request
    server    a server to speak to oneself, in any of its three protocols
    process   the server's process, `_child` its program
    weights   fetched once into the cache; `fetch` runs the installer, `lock` keeps others out
    models    what can be run, and the settings
    progress  shows a person how the weights come

Needs the extra `local`.
"""

from __future__ import annotations

from llm_client.local.errors import LocalRuntimeMissing, LocalServerFailed, WeightsUnavailable
from llm_client.local.models import LOCAL_MODELS, LocalModel, LocalSettings, local_model
from llm_client.local.progress import ProgressDisplay
from llm_client.local.server import LocalServer, local_server
from llm_client.local.service import LocalLLMService
from llm_client.local.weights import Notify, WeightsProgress, cached_weights, ensure_weights

__all__ = [
    "LOCAL_MODELS",
    "LocalLLMService",
    "LocalModel",
    "LocalRuntimeMissing",
    "LocalServer",
    "LocalServerFailed",
    "LocalSettings",
    "Notify",
    "ProgressDisplay",
    "WeightsProgress",
    "WeightsUnavailable",
    "cached_weights",
    "create_local_service",
    "ensure_weights",
    "local_model",
    "local_server",
]


def create_local_service(
    model: str, settings: LocalSettings | None = None, *, notify: Notify | None = None
) -> LocalLLMService:
    """The service for `local:MODEL`. Nothing is fetched or started before its first request.

    `settings` default to those of the environment (`LocalSettings.from_env`). `notify` hears how
    the weights come.

    Raises:
        ConfigError: there is no such model, or no place for a cache.
    """
    return LocalLLMService(local_model(model), settings or LocalSettings.from_env(), notify=notify)
