"""What the environment says about the command line's defaults."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Self

from msgspec import Struct

import llm_client
from llm_client.local import ProgressDisplay, create_local_service
from llm_client.service import LLMService

__all__ = ["CliSettings"]

DEFAULT_MODEL = "local:smollm2"


class CliSettings(Struct, frozen=True):
    """Defaults of all commands.

    Attributes:
        database: where sessions are kept, unless `--db` says otherwise.
        configured: a provider is set in the environment.
    """

    database: Path
    configured: bool

    @classmethod
    def from_env(cls) -> Self:
        """Reads POWER_LOOP_DB, the platform's data directory, and whether a provider is set."""
        given = os.environ.get("POWER_LOOP_DB")
        configured = any(
            os.environ.get(f"{prefix}_{name}")
            for prefix in ("POWER_LOOP", "OPENAI_COMPAT")
            for name in ("BASE_URL", "API_KEY", "MODEL")
        )
        path = Path(given) if given else _data_directory_from_env() / "sessions.db"
        return cls(path, configured)

    def service(self, model: str | None) -> LLMService:
        """The model service for `--model`, else the configured one, else the local model.

        Raises:
            ConfigError: the model string is unknown, or something is missing.
        """
        if model is None and self.configured:
            return llm_client.create_llm_service_from_env()
        if self.is_local(model):
            name = (model or DEFAULT_MODEL).partition(":")[2]
            return create_local_service(name, notify=ProgressDisplay(sys.stderr))
        return llm_client.create_llm_service(model or DEFAULT_MODEL)

    def is_local(self, model: str | None) -> bool:
        """Whether `--model` (None if not given) means a model that runs on this machine."""
        if model is None:
            return not self.configured
        return model.startswith("local:")


def _data_directory_from_env() -> Path:
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "power_loop"
