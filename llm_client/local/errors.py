"""What can go wrong with a local model, beyond what can go wrong with any."""

from __future__ import annotations

from llm_client.errors import CallerError, ConfigError, ServerError

__all__ = ["LocalRuntimeMissing", "LocalServerFailed", "WeightsUnavailable"]


class LocalRuntimeMissing(ConfigError):
    """The package that runs local models is not installed, or does not work on this machine."""


class WeightsUnavailable(CallerError):
    """The weights are not here and could not be fetched; the message names the command to run."""


class LocalServerFailed(ServerError):
    """The local server did not start. `retryable` is False: it would fail in the same way again."""

    retryable = False
