"""What the environment says about the command line's defaults."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Self

from msgspec import Struct

import llm_client
from llm_client.local import ProgressDisplay, create_local_service
from llm_client.providers import PROVIDERS
from llm_client.service import LLMService
from power_loop.cli.database import Database
from power_loop.errors import UsageError

__all__ = ["CliSettings"]

DEFAULT_MODEL = "local:smollm2"
_LOCAL = "local:"


class CliSettings(Struct, frozen=True, kw_only=True):
    """Defaults of all commands.

    Attributes:
        database: where sessions are kept, unless `--db` says otherwise.
        usual_database: where they would be kept without any setting.
        configured: the environment names a provider.
        local_model: the local model to use where it names none.
        providers_with_key: those whose usual variable holds a key.
        program: how a shell calls this program again, from any directory.
    """

    database: Database
    usual_database: Path
    configured: bool
    local_model: str = DEFAULT_MODEL
    providers_with_key: tuple[str, ...] = ()
    program: str = "power-loop"

    @classmethod
    def from_env(cls) -> Self:
        """Reads POWER_LOOP_DB, the platform's data directory, and whether a provider is set.

        Raises:
            UsageError: there is no home directory to keep sessions in.
        """
        given = os.environ.get("POWER_LOOP_DB")
        try:
            usual = _data_directory_from_env() / "sessions.db"
        except RuntimeError as error:
            raise UsageError(
                "no home directory is known to keep sessions in; set HOME, or XDG_DATA_HOME"
            ) from error
        target = _target_from_env("POWER_LOOP") or _target_from_env("OPENAI_COMPAT")
        local = target.get("MODEL", "") if set(target) == {"MODEL"} else ""
        is_local = local.startswith(_LOCAL)
        return cls(
            database=Database(given or str(usual)),
            usual_database=usual,
            configured=bool(target) and not is_local,
            local_model=local if is_local else DEFAULT_MODEL,
            providers_with_key=tuple(
                name for name, row in PROVIDERS.items() if os.environ.get(row.key_env or "")
            ),
            program=_program_from_env(),
        )

    def service(self, model: str | None) -> LLMService:
        """The model service for `--model`, else the configured one, else the local model.

        Raises:
            ConfigError: the model string is unknown, or something is missing.
        """
        local = self.local_name(model)
        if local is not None:
            return create_local_service(local, notify=ProgressDisplay(sys.stderr))
        if model is None:
            return llm_client.create_llm_service_from_env()
        return llm_client.create_llm_service(model)

    def local_name(self, model: str | None) -> str | None:
        """Which local model `--model` (None if not given) means; None if it means another one."""
        if model is None:
            return None if self.configured else self.local_model.removeprefix(_LOCAL)
        return model.removeprefix(_LOCAL) if model.startswith(_LOCAL) else None

    def model_in_words(self, model: str | None, service: LLMService) -> str:
        """Which model `service` for `--model` reaches, and where."""
        local = self.local_name(model)
        return service.model if local is None else f"{_LOCAL}{local} on this machine"

    def command(self, database: Database, *words: str) -> str:
        """The command line that has this program do something else with the same sessions.

        A password is not in it; where the environment holds the whole URL, it is left to that.
        """
        path = database.path
        if path == self.usual_database or (database.has_secret and database == self.database):
            where = ()
        else:
            where = ("--db", str(database) if path is None else str(path.absolute()))
        return f"{self.program} {shlex.join((*words, *where))}"


def _target_from_env(prefix: str) -> dict[str, str]:
    names = ("BASE_URL", "API_KEY", "MODEL", "PROVIDER")
    values = {name: os.environ.get(f"{prefix}_{name}", "").strip() for name in names}
    return {name: value for name, value in values.items() if value}


def _data_directory_from_env() -> Path:
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "power_loop"


def _program_from_env() -> str:
    started = Path(sys.argv[0])
    if started.stem != "power-loop":
        return f"{shlex.quote(sys.executable or 'python')} -m power_loop.cli"
    found = shutil.which("power-loop")
    if found is not None and Path(found).resolve() == started.resolve():
        return "power-loop"
    return shlex.quote(str(started.absolute()))
