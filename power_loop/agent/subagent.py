"""A tool whose calls are sessions of their own: what a model hands to another agent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, get_args

from llm_client.types import Text
from power_loop.agent.options import check_one_of, check_options
from power_loop.agent.spending import checked_budget
from power_loop.agent.system_prompt import SystemPrompt
from power_loop.agent.toolset import AnyTool, Toolset
from power_loop.errors import ToolDefinitionError, ToolError
from power_loop.runtime.budget.limits import Budget
from power_loop.runtime.stores.base import Lifecycle
from power_loop.session.text import is_sound
from power_loop.tools.base import Delegates
from power_loop.tools.context import ToolContext
from power_loop.tools.json_tool import JsonSchemaTool
from power_loop.tools.output import SPILL, OutputPolicy

__all__ = ["OnFailure", "SubAgent"]

OnFailure = Literal["tell", "fail"]
"""What becomes of a sub-agent that does not come to its answer, for whatever reason: the model is
told how it ended, or the run above fails with what it raised, else with `SubAgentFailed`."""

_PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "task": {
            "type": "string",
            "description": "What is to be done, with all that must be known: nothing else is told.",
        }
    },
    "required": ["task"],
    "additionalProperties": False,
}


class SubAgent(JsonSchemaTool, Delegates):
    """An agent that the model can give a task to, as it calls a tool.

    Each call is a session below the one that makes it, `SESSION/CALL`, with a log and a lease of
    its own. It runs under the budget of the run that waits for it and ends with it; its events
    reach whoever streams that run. A crash in the middle of it is no doubt: whoever resumes the run
    carries the session below on. If it waits for a person, so does the run above, under the same
    tokens. Only the run above goes on with it; if that gives the call up, so it does the session.

    Attributes:
        system_prompt: who the sub-agent is to be, such as `SystemPrompt.explore()`; it is all that
            the sub-agent is told then, without the sections of extensions. The loop's own prompt,
            with these, if None.
        tools: what it can use; the tools of the run that calls it if None.
        model: another model of the same service, by its bare name.
        max_rounds: rounds in which it may ask for tools.
        budget: what it may use at most, within what is left to those above it.
        lifecycle: what becomes of its session when the one above is deleted.
        on_failure: see `OnFailure`.
        output: what the model above sees of a long answer.

    Raises:
        ToolDefinitionError: the name, the description or the prompt is not usable.
        UsageError: an option is of a value that cannot be.
    """

    def __init__(
        self,
        name: str,
        description: str,
        *,
        system_prompt: str | SystemPrompt | None = None,
        tools: Iterable[AnyTool] | None = None,
        model: str | None = None,
        max_rounds: int = 8,
        budget: Budget | None = None,
        lifecycle: Lifecycle = "linked",
        on_failure: OnFailure = "tell",
        output: OutputPolicy = SPILL,
    ) -> None:
        super().__init__(name, description, _PARAMETERS, _never_invoked, output=output)
        check_options({"model": model, "max_rounds": max_rounds})
        check_one_of("lifecycle", lifecycle, get_args(Lifecycle))
        check_one_of("on_failure", on_failure, get_args(OnFailure))
        if budget is not None:
            checked_budget("budget", budget)
        if system_prompt is not None and not _is_prompt(system_prompt):
            raise ToolDefinitionError(
                f"the system prompt of {name!r} must be a SystemPrompt that has sections, or a "
                "text, without NUL and lone surrogates"
            )
        self.system_prompt = system_prompt
        self.tools = None if tools is None else Toolset(tools)
        self.model = model
        self.max_rounds = max_rounds
        self.budget = budget
        self.lifecycle: Lifecycle = lifecycle
        self.on_failure: OnFailure = on_failure

    def task_of(self, arguments: str) -> str:
        """What a call hands over.

        Raises:
            InvalidArguments: the arguments do not fit.
        """
        task = self.checked(arguments)["task"]
        assert isinstance(task, str)
        return task


def _is_prompt(value: object) -> bool:
    if isinstance(value, SystemPrompt):
        return bool(value.sections)
    return isinstance(value, str) and bool(value.strip()) and is_sound(Text(value))


def _never_invoked(_: dict[str, Any], context: ToolContext[Any]) -> str:
    raise ToolError(f"{context.tool!r} is an agent: only a loop can run it")
