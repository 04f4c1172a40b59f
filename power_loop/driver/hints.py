"""What a hook handler's own annotations give away before it ever runs."""

from __future__ import annotations

import inspect
import types
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Union, get_args, get_origin, get_type_hints

from power_loop import hooks
from power_loop.errors import HookError
from power_loop.hooks import HookContext, HookPoint

__all__ = ["check_hints", "is_async"]

_DIRECTIVES = (
    hooks.Break,
    hooks.Skip,
    hooks.ShortCircuit,
    hooks.Retry,
    hooks.Suspend,
    hooks.RequestInput,
    hooks.Continue,
)


def check_hints(point: HookPoint[Any, Any], handler: Callable[[Any], Any]) -> None:
    """Refuses a handler that by its signature cannot fit its point.

    What is not annotated, or cannot be resolved, is checked when it returns.

    Raises:
        HookError: it takes another context, or may return what is not legal.
    """
    name = getattr(handler, "__qualname__", repr(handler))
    if not callable(handler):
        raise HookError(f"the handler of {point.name} is not callable: {handler!r}")
    parameter = _only_parameter(point, handler, name)
    hints = _hints(handler)
    wanted = hints.get(parameter or "")
    context = get_origin(wanted) or wanted
    if (
        isinstance(context, type)
        and issubclass(context, HookContext)
        and not issubclass(point.context, context)
    ):
        raise HookError(
            f"{name!r} takes {context.__name__}, but {point.name} gives {point.context.__name__}"
        )
    for member in _members(hints.get("return")):
        if not _may_return(point, member):
            legal = ", ".join(["None", *(d.__name__ for d in point.directives)])
            rewrites = f", or a context with new {', '.join(point.rewrites)}"
            raise HookError(
                f"{name!r} may return {member.__name__}, which is not legal at {point.name}; "
                f"legal there: {legal}{rewrites if point.rewrites else ''}"
            )


def is_async(handler: Callable[..., Any]) -> bool:
    """Whether calling it gives something to await, as far as that can be known beforehand."""
    return inspect.iscoroutinefunction(handler) or (
        not inspect.isroutine(handler) and inspect.iscoroutinefunction(type(handler).__call__)
    )


def _only_parameter(
    point: HookPoint[Any, Any], handler: Callable[[Any], Any], name: str
) -> str | None:
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):  # some callables of C have no signature; they are called as is
        return None
    try:
        signature.bind(None)
    except TypeError:
        raise HookError(
            f"{name!r} must take exactly one context, a {point.context.__name__}: {point.name} "
            f"calls it with nothing else"
        ) from None
    return next(iter(signature.parameters), None)


def _hints(handler: Callable[[Any], Any]) -> dict[str, Any]:
    target = handler if inspect.isroutine(handler) else type(handler).__call__
    try:
        return get_type_hints(target)
    except (NameError, TypeError, AttributeError):  # names known to the type checker only
        return {}


def _members(hint: Any) -> list[type[Any]]:
    origin = get_origin(hint)
    if origin in (Awaitable, Coroutine):
        return _members(get_args(hint)[-1])
    if origin in (Union, types.UnionType):
        return [member for arg in get_args(hint) for member in _members(arg)]
    member = origin or hint
    return [member] if isinstance(member, type) else []


def _may_return(point: HookPoint[Any, Any], member: type[Any]) -> bool:
    if issubclass(member, HookContext):
        return bool(point.rewrites) and issubclass(point.context, member)
    return member not in _DIRECTIVES or member in point.directives
