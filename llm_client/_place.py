"""What "module:function" names."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from llm_client.errors import ConfigError

__all__ = ["function_at"]


def function_at(place: str, whose: str) -> Callable[..., object]:
    """The function at `place`, its module loaded now.

    Raises:
        ConfigError: there is none; says that `whose` it is.
    """
    name, _, function = place.partition(":")
    if not function or not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(f"{whose} is given as {place!r}; expected 'module:function'")
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        if not f"{name}.".startswith(f"{error.name}."):
            raise
        raise ConfigError(
            f"{whose} is not part of this installation: no module {name!r}"
        ) from error
    found: object = getattr(module, function, None)
    if not callable(found):
        raise ConfigError(f"{whose} is given as {place!r}, but {name!r} has no such function")
    return found
