"""Registration and running of hook handlers."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar, cast, overload

import anyio
from msgspec import Struct

from power_loop.driver.hints import check_hints, is_async
from power_loop.driver.shield import own_cancellation
from power_loop.errors import HookError
from power_loop.events import HookFailed
from power_loop.hooks import POINTS, Break, Diverted, HookPoint, RequestInput, Skip, Suspend
from power_loop.tools.asking import checked_schema

__all__ = ["DEFAULT_TIMEOUT", "Handler", "Hooks", "OnError"]

C = TypeVar("C")
R = TypeVar("R")

OnError = Literal["raise", "skip", "close"]
Handler = Callable[[C], Awaitable[R | None]] | Callable[[C], R | None]

DEFAULT_TIMEOUT = 30.0
"""Seconds that an asynchronous handler may take, unless it was registered with another bound."""


class _Entry(Struct, frozen=True):
    handler: Callable[[Any], Any]
    name: str
    order: int
    timeout: float | None
    on_error: OnError


class Hooks:
    """The handlers of a loop, by point.

    Handlers run by ascending `order`, then in order of registration. They can be added and removed
    at any time; a run sees the change at the next firing.
    """

    def __init__(self) -> None:
        self._entries: dict[str, tuple[_Entry, ...]] = {}
        self._count = 0

    @overload
    def on(
        self,
        point: HookPoint[C, R],
        handler: None = None,
        *,
        name: str | None = None,
        order: int = 0,
        timeout: float | None = None,
        on_error: OnError | None = None,
    ) -> Callable[[Handler[C, R]], Handler[C, R]]: ...
    @overload
    def on(
        self,
        point: HookPoint[C, R],
        handler: Handler[C, R],
        *,
        name: str | None = None,
        order: int = 0,
        timeout: float | None = None,
        on_error: OnError | None = None,
    ) -> Handler[C, R]: ...
    def on(
        self,
        point: HookPoint[C, R],
        handler: Handler[C, R] | None = None,
        *,
        name: str | None = None,
        order: int = 0,
        timeout: float | None = None,
        on_error: OnError | None = None,
    ) -> Handler[C, R] | Callable[[Handler[C, R]], Handler[C, R]]:
        """Registers a handler, directly or as a decorator.

        Args:
            point: where it runs.
            handler: a function of one context, synchronous or not.
            name: to replace or remove it by; unique. Its qualified name if None.
            order: lower runs first.
            timeout: seconds an asynchronous handler may take; None for 30. A synchronous one runs
                on the event loop and cannot be timed out.
            on_error: what its failure does: `raise` ends the run, `skip` leaves it out with an
                event, `close` forbids the step. None takes the point's own rule.

        Raises:
            HookError: it does not fit the point, or the name is taken.
        """

        def register(handler: Handler[C, R]) -> Handler[C, R]:
            self._register(point, handler, name, order, timeout, on_error)
            return handler

        return register if handler is None else register(handler)

    def replace(self, name: str, handler: Callable[[Any], Any]) -> None:
        """Puts another handler into the place of the one registered as `name`.

        Raises:
            HookError: there is none of that name, or the new one does not fit its point.
        """
        point, old = self._find(name)
        check_hints(point, handler)
        entry = _Entry(handler, name, old.order, old.timeout, old.on_error)
        _check_entry(point, entry)
        entries = self._entries[point.name]
        self._entries[point.name] = tuple([entry if e is old else e for e in entries])

    def remove(self, name: str) -> None:
        """Removes the handler registered as `name`.

        Raises:
            HookError: there is none of that name.
        """
        point, old = self._find(name)
        left = tuple([entry for entry in self._entries[point.name] if entry is not old])
        if left:
            self._entries[point.name] = left
        else:
            del self._entries[point.name]

    def undo(self) -> Callable[[], None]:
        """What puts all handlers back as they are now."""
        entries = dict(self._entries)

        def put_back() -> None:
            self._entries = entries

        return put_back

    def has(self, name: str) -> bool:
        """Whether a handler is registered as `name`."""
        return any(entry.name == name for entries in self._entries.values() for entry in entries)

    def listens(self, point: HookPoint[Any, Any]) -> bool:
        """Whether `point` has handlers."""
        return point.name in self._entries

    async def fire(
        self,
        point: HookPoint[C, R],
        context: C,
        report: Callable[[HookFailed], None],
        passes: Callable[[Diverted[C, R]], bool] | None = None,
    ) -> C | Diverted[C, R]:
        """Runs the handlers of `point`; `report` is told of those that failed and were left out.

        A directive that `passes` is not taken: the handlers after it are run.

        Raises:
            HookError: a handler returned what its point does not allow.
            Exception: what a handler registered with on_error `raise` raised.
        """
        for entry in self._entries.get(point.name, ()):
            try:
                value = entry.handler(context)
                if value is not None and inspect.isawaitable(value):
                    value = await _awaited(entry, value)
            except Exception as error:  # noqa: BLE001  a handler is foreign code
                directive = _after_failure(point, entry, error, report)
                if directive is not None:
                    return Diverted(cast("R", directive), entry.name, context)
                continue
            if value is None:
                continue
            if type(value) is point.context:
                _check_rewrite(point, entry, context, value)
                context = value
            elif isinstance(value, point.directives):
                if isinstance(value, RequestInput):
                    _check_question(point, entry, value)
                diverted = Diverted(cast("R", value), entry.name, context)
                if passes is None or not passes(diverted):
                    return diverted
            else:
                raise HookError(f"{_who(point, entry)} returned {_shown(value)}; {_legal(point)}")
        return context

    def _register(
        self,
        point: HookPoint[Any, Any],
        handler: Callable[[Any], Any],
        name: str | None,
        order: int,
        timeout: float | None,
        on_error: OnError | None,
    ) -> None:
        if not any(point is known for known in POINTS):
            raise HookError(f"{point!r} is not one of the points declared in power_loop.hooks")
        check_hints(point, handler)
        entry = _Entry(
            handler, name or self._default_name(handler), order, timeout, on_error or point.on_error
        )
        if self.has(entry.name):
            raise HookError(f"a handler named {entry.name!r} is registered already; use replace()")
        _check_entry(point, entry)
        entries = (*self._entries.get(point.name, ()), entry)
        self._entries[point.name] = tuple(sorted(entries, key=lambda e: e.order))

    def _default_name(self, handler: Callable[[Any], Any]) -> str:
        self._count += 1
        base = getattr(handler, "__qualname__", type(handler).__qualname__)
        return base if not self.has(base) else f"{base}#{self._count}"

    def _find(self, name: str) -> tuple[HookPoint[Any, Any], _Entry]:
        for point in POINTS:
            for entry in self._entries.get(point.name, ()):
                if entry.name == name:
                    return point, entry
        known = ", ".join(sorted(e.name for es in self._entries.values() for e in es)) or "none"
        raise HookError(f"no handler is registered as {name!r} (registered: {known})")


async def _awaited(entry: _Entry, value: Awaitable[Any]) -> Any:
    bound = DEFAULT_TIMEOUT if entry.timeout is None else entry.timeout
    with anyio.move_on_after(bound):
        return await own_cancellation(value)
    raise TimeoutError(f"the handler did not answer within {bound:g} s")


def _check_entry(point: HookPoint[Any, Any], entry: _Entry) -> None:
    who = _who(point, entry)
    if entry.timeout is not None:
        if not is_async(entry.handler):
            raise HookError(f"{who} is synchronous, so it cannot have a timeout; make it async")
        if entry.timeout <= 0:
            raise HookError(f"the timeout of {who} must be positive, is {entry.timeout}")
    if entry.on_error == "close" and _forbid(point, "") is None:
        raise HookError(f"{who} cannot fail closed: nothing can be forbidden at {point.name}")


def _after_failure(
    point: HookPoint[Any, Any],
    entry: _Entry,
    error: Exception,
    report: Callable[[HookFailed], None],
) -> object | None:
    if entry.on_error == "raise":
        raise error
    report(HookFailed(point.name, entry.name, type(error).__name__, str(error)[:500]))
    if entry.on_error == "skip":
        return None
    return _forbid(point, f"hook {entry.name} failed: {type(error).__name__}")


def _forbid(point: HookPoint[Any, Any], why: str) -> object | None:
    # One call is forbidden rather than a whole run.
    if Skip in point.directives and (Suspend in point.directives or Break not in point.directives):
        return Skip(f"[not run] {why}")
    return Break(why) if Break in point.directives else None


def _check_rewrite(point: HookPoint[Any, Any], entry: _Entry, old: Any, new: Any) -> None:
    fields: tuple[str, ...] = point.context.__struct_fields__
    changed = [
        name
        for name in fields
        if name not in point.rewrites and getattr(new, name) is not getattr(old, name)
    ]
    if changed:
        raise HookError(f"{_who(point, entry)} changed {', '.join(changed)}; {_legal(point)}")


def _check_question(point: HookPoint[Any, Any], entry: _Entry, asks: RequestInput) -> None:
    try:
        if asks.schema is not None:
            checked_schema(asks.schema)
    except ValueError as error:
        raise HookError(f"{_who(point, entry)} asks what nobody could answer: {error}") from error


def _who(point: HookPoint[Any, Any], entry: _Entry) -> str:
    return f"the handler {entry.name!r} of {point.name}"


def _shown(value: object) -> str:
    return f"a value of type {type(value).__name__}"


def _legal(point: HookPoint[Any, Any]) -> str:
    legal = ["None"]
    if point.rewrites:
        fields = ", ".join(f"{name}=…" for name in point.rewrites)
        legal.append(f"replace(context, {fields})")
    legal.extend(directive.__name__ for directive in point.directives)
    return f"legal there: {', '.join(legal)}"
