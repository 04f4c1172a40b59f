"""`@tool`: a typed Python function as a tool."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
    overload,
)

from llm_client.structured.schema import strict_schema
from llm_client.types import ToolSpec
from power_loop import tools as door
from power_loop.errors import ToolDefinitionError, ToolError
from power_loop.tools.base import GRACE, OnCancel, ToolOutput
from power_loop.tools.context import ToolContext
from power_loop.tools.naming import (
    check_grace,
    check_name,
    check_on_cancel,
    check_output,
    check_timeout,
)
from power_loop.tools.output import SPILL, OutputPolicy
from power_loop.tools.reconciling import Reconcile, Reconciling
from power_loop.tools.signature import Signature, function_label, read_signature, refuse
from power_loop.tools.threads import Threads

if TYPE_CHECKING:
    from power_loop.tools.arguments import Arguments

__all__ = ["FunctionTool", "ToolDecorator", "tool"]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class FunctionTool(Generic[P, R_co]):
    """A function that a model can call. Made by `tool`; calling it calls the plain function.

    A method becomes a tool when it is taken from an instance: `Weather(…).forecast`.
    """

    def __init__(
        self,
        function: Callable[P, R_co],
        signature: Signature,
        arguments: Arguments,
        spec: ToolSpec,
        *,
        exclusive: bool,
        idempotent: bool,
        polling: bool,
        timeout: float | None,
        threads: Threads | None,
        reconcile: Reconcile | None,
        on_cancel: OnCancel,
        grace: float,
        output: OutputPolicy,
    ) -> None:
        self.name = spec.name
        self.exclusive = exclusive
        self.idempotent = idempotent
        self.polling = polling
        label = function_label(function)
        self.timeout = check_timeout(timeout, label)
        self.on_cancel: OnCancel = check_on_cancel(on_cancel, label)
        self.grace = check_grace(grace, label)
        self.output = check_output(output, label)
        self.threads = threads or Threads()
        self._shared_threads = threads
        self._ask = reconcile
        self._function = function
        self._signature = signature
        self._arguments = arguments
        self._spec = spec
        self._context = signature.context
        self._nothing = "ok" if signature.returns_nothing else "null"
        self.reconcile: Reconciling | None = None
        if reconcile is not None:
            self.reconcile = Reconciling(reconcile, label, self.threads, self._nothing)
        self._asynchronous = inspect.iscoroutinefunction(inspect.unwrap(function))
        functools.update_wrapper(self, function, updated=())

    @property
    def spec(self) -> ToolSpec:
        """The tool as the model sees it.

        Raises:
            ToolDefinitionError: it is a method that has not been taken from an instance.
        """
        if self._signature.method:
            refuse(self._function, None, "it is a method; take it from an instance of its class")
        return self._spec

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Calls the plain function, for tests and other code: no validation, no conversion."""
        return self._function(*args, **kwargs)

    async def invoke(self, arguments: str, context: ToolContext[Any]) -> ToolOutput:
        """Validates `arguments`, calls the function once, converts what it returns.

        An asynchronous function runs here; a synchronous one in a thread, where it is left behind
        when the call is cancelled (see `Threads`).

        Raises:
            InvalidArguments: the arguments do not fit; the function was not called.
            ToolError: raised by the function; it returned something that cannot be shown to a
                model; it tried to exit the process; or too many of its threads hang.
            Exception: whatever else the function raises.
        """
        values = self._arguments.parse(arguments, self.name)
        if self._context is not None:
            values[self._context] = context
        if not self._asynchronous:
            return await self.threads.run(functools.partial(self._work, values), context)
        try:
            result: object = await cast("Any", self._function)(**values)
        except SystemExit as error:
            raise self._exited(error) from error
        return door.to_output(result, self.name, self._nothing)

    def _work(self, values: dict[str, Any]) -> ToolOutput:
        try:
            result: object = cast("Callable[..., object]", self._function)(**values)
        except SystemExit as error:
            raise self._exited(error) from error
        return door.to_output(result, self.name, self._nothing)

    def _exited(self, error: SystemExit) -> ToolError:
        return ToolError(f"tool {self.name!r} tried to exit the process (code {error.code!r})")

    @overload
    def __get__(self, instance: None, owner: type) -> FunctionTool[P, R_co]: ...
    @overload
    def __get__(
        self: FunctionTool[Concatenate[Any, Q], R], instance: object, owner: type | None = None
    ) -> FunctionTool[Q, R]: ...
    def __get__(self, instance: object, owner: type | None = None) -> FunctionTool[Any, Any]:
        """A method's tool, bound to its instance; anything else is itself."""
        if instance is None or not self._signature.method:
            return self
        function = cast("Any", self._function).__get__(instance, owner)
        signature = Signature(
            self._signature.parameters,
            self._signature.context,
            method=False,
            returns_nothing=self._signature.returns_nothing,
        )
        return FunctionTool(
            function,
            signature,
            self._arguments,
            self._spec,
            exclusive=self.exclusive,
            idempotent=self.idempotent,
            polling=self.polling,
            timeout=self.timeout,
            threads=self._shared_threads,
            reconcile=self._ask,
            on_cancel=self.on_cancel,
            grace=self.grace,
            output=self.output,
        )

    def __repr__(self) -> str:
        return f"<tool {self.name!r}: {function_label(self._function)}>"


class ToolDecorator(Protocol):
    """Protocol of what `tool(…)` with options returns."""

    def __call__(self, function: Callable[P, R], /) -> FunctionTool[P, R]:
        """Makes the function a tool."""
        ...


@overload
def tool(function: Callable[P, R], /) -> FunctionTool[P, R]: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    exclusive: bool = False,
    idempotent: bool = False,
    polling: bool = False,
    reconcile: Reconcile | None = None,
    timeout: float | None = None,
    strict: bool | None = None,
    threads: Threads | None = None,
    on_cancel: OnCancel = "abort",
    grace: float = GRACE,
    output: OutputPolicy = SPILL,
) -> ToolDecorator: ...
def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    exclusive: bool = False,
    idempotent: bool = False,
    polling: bool = False,
    reconcile: Reconcile | None = None,
    timeout: float | None = None,
    strict: bool | None = None,
    threads: Threads | None = None,
    on_cancel: OnCancel = "abort",
    grace: float = GRACE,
    output: OutputPolicy = SPILL,
) -> FunctionTool[..., Any] | ToolDecorator:
    """Makes a typed function, synchronous or asynchronous, a tool: `@tool` or `@tool(…)`.

    The schema comes from type hints and docstring (Google, NumPy or reST). The loop fills in what
    is annotated `ToolContext[Deps]`. `to_output` makes the result; of None "ok" if it is declared.

    Args:
        function: what to make a tool.
        name: what the model calls it by; the function's own name unless given.
        description: what the model is told of it; the docstring's first paragraph unless given.
        exclusive: it must run alone, with no other tool of the same answer beside it.
        idempotent: a call with an unknown outcome, as after a crash, may simply be made again.
        polling: it is called again and again on purpose, so that no guard takes it for repetition.
        reconcile: asked first what became of such a call: its `Result`, or an `Unsettled`.
        timeout: seconds after which the loop cancels a call; None for the loop's own limit.
        strict: ask the provider to hold the model to the schema.
        threads: where a synchronous function runs; its own bound of 32 threads unless given.
        on_cancel: what becomes of a call whose run is cancelled or interrupted; see `Tool`.
        grace: seconds within which it must then have ended.
        output: what the model sees of a long output.

    Raises:
        ToolDefinitionError: at once, if it cannot be offered to a model; says what to do.
    """
    names = _names_of_caller()

    def decorate(function: Callable[..., Any], /) -> FunctionTool[..., Any]:
        signature = read_signature(function, names)
        return FunctionTool(
            function,
            signature,
            *_read(function, signature, name, description, strict=strict),
            exclusive=exclusive,
            idempotent=idempotent,
            polling=polling,
            timeout=timeout,
            threads=threads,
            reconcile=reconcile,
            on_cancel=on_cancel,
            grace=grace,
            output=output,
        )

    return decorate if function is None else decorate(function)


def _read(
    function: Callable[..., Any],
    signature: Signature,
    name: str | None,
    description: str | None,
    *,
    strict: bool | None,
) -> tuple[Arguments, ToolSpec]:
    """What the parameters of a function take, and what the model is told of it."""
    # Through the door: what reads functions, pydantic above all, is loaded with the first one.
    documentation = door.parse_docstring(function.__doc__)
    arguments = door.Arguments(function, signature.parameters, documentation.parameters)
    told = documentation.summary if description is None else description
    return arguments, _spec(function, name, told, arguments.schema, strict=strict)


def _names_of_caller() -> Mapping[str, Any]:
    """What is defined where `tool` is applied, so that hints may name local classes."""
    here = inspect.currentframe()
    try:
        frame = here.f_back.f_back if here and here.f_back else None
        names: dict[str, Any] = {}
        while frame is not None and frame.f_locals is not frame.f_globals:
            names = {**frame.f_locals, **names}
            in_function = frame.f_code.co_flags & inspect.CO_OPTIMIZED
            frame = None if in_function else frame.f_back  # a class body: also what encloses it
        return names
    finally:
        del here


def _spec(
    function: Callable[..., Any],
    name: str | None,
    description: str,
    schema: dict[str, Any],
    *,
    strict: bool | None,
) -> ToolSpec:
    if not description.strip():
        refuse(function, None, "it has no description; give it a docstring or `description=…`")
    name = check_name(function.__name__ if name is None else name, function_label(function))
    if strict:
        schema, problems = strict_schema(schema)
        if problems:
            raise ToolDefinitionError(
                f"tool {function_label(function)} cannot be strict: {'; '.join(problems)}"
            )
    return ToolSpec(name, description.strip(), schema, strict)
