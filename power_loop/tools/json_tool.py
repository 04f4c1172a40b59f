"""A tool for people who have only a JSON Schema."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, cast

from llm_client.errors import ConfigError
from llm_client.structured.schema import strict_schema
from llm_client.structured.validator import SchemaValidator
from llm_client.types import ToolSpec
from power_loop.errors import ToolDefinitionError
from power_loop.tools.arguments import parse_object
from power_loop.tools.base import GRACE, InvalidArguments, OnCancel, ToolOutput
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
from power_loop.tools.results import to_output
from power_loop.tools.threads import Threads

__all__ = ["JsonSchemaHandler", "JsonSchemaTool"]

JsonSchemaHandler = Callable[[dict[str, Any], ToolContext[Any]], object]
"""Takes the checked arguments and the call's context; synchronous or asynchronous."""


class JsonSchemaTool:
    """A tool described by a JSON Schema, as from a catalogue, a remote server or a file.

    The schema reaches the model unchanged. Its common keywords are checked before the handler runs,
    the rest is not (see `llm_client.structured.validator`). What the handler returns is converted
    as for typed functions; a synchronous handler runs in a thread.
    """

    def __init__(
        self,
        name: str,
        description: str,
        parameters: Mapping[str, Any],
        handler: JsonSchemaHandler,
        *,
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
    ) -> None:
        """Options are those of `tool`.

        Raises:
            ToolDefinitionError: the name, the description, the schema or an option is not usable.
        """
        owner = repr(name)
        check_name(name, owner)
        if not description.strip():
            raise ToolDefinitionError(f"tool {owner} has no description; say what it is for")
        schema = dict(parameters)
        try:
            self._validator = SchemaValidator(schema)
        except ConfigError as error:
            raise ToolDefinitionError(f"tool {owner}: {error}") from error
        schema.setdefault("properties", {})
        if strict and (problems := strict_schema(schema)[1]):
            raise ToolDefinitionError(f"tool {owner} cannot be strict: {'; '.join(problems)}")
        if strict:
            schema = strict_schema(schema)[0]
        self.name = name
        self.spec = ToolSpec(name, description.strip(), schema, strict)
        self.exclusive = exclusive
        self.idempotent = idempotent
        self.polling = polling
        self.timeout = check_timeout(timeout, owner)
        self.on_cancel: OnCancel = check_on_cancel(on_cancel, owner)
        self.grace = check_grace(grace, owner)
        self.output = check_output(output, owner)
        self.threads = threads or Threads()
        self.reconcile: Reconciling | None = None
        if reconcile is not None:
            self.reconcile = Reconciling(reconcile, owner, self.threads)
        self._handler = handler
        self._asynchronous = inspect.iscoroutinefunction(
            handler if inspect.isroutine(handler) else type(handler).__call__
        )

    def checked(self, arguments: str) -> dict[str, Any]:
        """The arguments of a call, if they fit.

        Raises:
            InvalidArguments: they do not.
        """
        values, problems = self._validator.check(parse_object(arguments, self.name))
        if problems:
            raise InvalidArguments(self.name, problems)
        return values

    async def invoke(self, arguments: str, context: ToolContext[Any]) -> ToolOutput:
        """Checks `arguments` and calls the handler once.

        Raises:
            InvalidArguments: the arguments do not fit; the handler was not called.
            ToolError: raised by the handler, or it returned what cannot be shown to a model.
            Exception: whatever else the handler raises.
        """
        values = self.checked(arguments)
        if not self._asynchronous:
            return await self.threads.run(functools.partial(self._work, values, context), context)
        result: object = await cast("Any", self._handler(values, context))
        return to_output(result, self.name)

    def _work(self, values: dict[str, Any], context: ToolContext[Any]) -> ToolOutput:
        return to_output(self._handler(values, context), self.name)

    def __repr__(self) -> str:
        return f"<tool {self.name!r}: a JSON Schema>"
