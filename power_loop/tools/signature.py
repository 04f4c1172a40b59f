"""What a function's signature says about a tool, or why it cannot be one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import FunctionType, SimpleNamespace
from typing import Annotated, Any, NoReturn, cast, get_args, get_origin

import typing_extensions
from msgspec import Struct

from power_loop.errors import ToolDefinitionError
from power_loop.tools.context import ToolContext

__all__ = ["Parameter", "Signature", "function_label", "read_signature", "refuse"]

_EMPTY = inspect.Parameter.empty


class Parameter(Struct, frozen=True):
    """One parameter that the model fills in. `default` means nothing if it is `required`."""

    name: str
    hint: Any
    required: bool
    default: Any = None


class Signature(Struct, frozen=True):
    """A function, read as a tool.

    Attributes:
        parameters: what the model fills in, in order.
        context: the name of the parameter that takes the ToolContext, if there is one.
        method: whether the first parameter is a `self` that has yet to be bound.
        returns_nothing: whether it is declared to return None, or does not say.
    """

    parameters: tuple[Parameter, ...]
    context: str | None
    method: bool
    returns_nothing: bool


def function_label(function: Callable[..., Any]) -> str:
    """Where a function comes from: `module.qualname`."""
    return f"{function.__module__}.{function.__qualname__}"


def refuse(function: Callable[..., Any], parameter: str | None, why: str) -> NoReturn:
    """Raises ToolDefinitionError, naming function and parameter. `why` ends with what to do."""
    where = f", parameter {parameter!r}" if parameter else ""
    raise ToolDefinitionError(f"tool {function_label(function)}{where}: {why}")


def read_signature(function: Callable[..., Any], names: Mapping[str, Any]) -> Signature:
    """Reads a function's parameters.

    Args:
        function: what to read.
        names: what else its hints may refer to: the local names where it is defined.

    Raises:
        ToolDefinitionError: it is no plain function, or a parameter cannot be offered to a model.
    """
    _check_kind(function)
    items = list(inspect.signature(function).parameters.values())
    method = _is_method(function, items)
    context: str | None = None
    parameters: list[Parameter] = []
    for item in items[1:] if method else items:
        hint = _resolve(function, item, names)
        if not _is_context(hint):
            default = None if item.default is _EMPTY else item.default
            parameters.append(Parameter(item.name, hint, item.default is _EMPTY, default))
        elif context is None:
            context = item.name
        else:
            refuse(function, item.name, f"{context!r} is a ToolContext already; keep one of them")
    returned = inspect.signature(function).return_annotation
    return Signature(
        tuple(parameters), context, method, returned in (_EMPTY, None, type(None), "None")
    )


def _check_kind(function: Callable[..., Any]) -> None:
    kind: type = type(function)
    if issubclass(kind, (staticmethod, classmethod)):
        raise ToolDefinitionError(
            f"a {kind.__name__} cannot be a tool: put @staticmethod above @tool; "
            "class methods are not supported"
        )
    if not isinstance(function, FunctionType) and not inspect.ismethod(function):
        raise ToolDefinitionError(
            f"{function!r} is not a function: wrap it in a `def` with type hints"
        )
    plain = inspect.unwrap(function)
    if inspect.isgeneratorfunction(plain) or inspect.isasyncgenfunction(plain):
        refuse(function, None, "it is a generator; return a list instead")


def _is_method(function: Callable[..., Any], items: list[inspect.Parameter]) -> bool:
    owner, _, _ = function.__qualname__.rpartition(".")
    in_class = bool(owner) and not owner.endswith("<locals>") and not inspect.ismethod(function)
    first = items[0] if items else None
    if not in_class or first is None or first.annotation is not _EMPTY:
        return False
    if first.name == "cls":
        refuse(function, "cls", "class methods are not supported; use a method or a function")
    return first.name == "self"


def _resolve(
    function: Callable[..., Any], item: inspect.Parameter, names: Mapping[str, Any]
) -> Any:
    if item.kind is item.POSITIONAL_ONLY:
        refuse(function, item.name, "a model calls by name; take the `/` out of the signature")
    if item.kind in (item.VAR_POSITIONAL, item.VAR_KEYWORD):
        stars = "*" if item.kind is item.VAR_POSITIONAL else "**"
        refuse(
            function,
            item.name,
            f"{stars}{item.name} has no schema; name each parameter with a hint",
        )
    if item.annotation is _EMPTY:
        refuse(function, item.name, f"it has no type hint; write for example `{item.name}: str`")
    try:
        return _evaluate(function, item, names)
    except NameError as error:
        refuse(
            function,
            item.name,
            f"the hint {item.annotation!r} cannot be resolved ({error}); define or import the name "
            "at module level, outside `if TYPE_CHECKING`, or put @tool where the function "
            "is defined",
        )
    except (AttributeError, SyntaxError, TypeError, ValueError) as error:
        refuse(
            function,
            item.name,
            f"the hint {item.annotation!r} is no type ({error}); use a type such as `str`",
        )


def _evaluate(
    function: Callable[..., Any], item: inspect.Parameter, names: Mapping[str, Any]
) -> Any:
    plain = cast("FunctionType", inspect.unwrap(function))
    # One parameter at a time, so that an error can name it; a return hint need not resolve.
    holder = SimpleNamespace(__annotations__={item.name: item.annotation})
    hints = typing_extensions.get_type_hints(
        holder, plain.__globals__, dict(names), include_extras=True
    )
    return hints[item.name]


def _is_context(hint: Any) -> bool:
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    return hint is ToolContext or get_origin(hint) is ToolContext
