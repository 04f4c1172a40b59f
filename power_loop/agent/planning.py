"""What a run is to do, from the config and the options of the call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from llm_client.errors import UnsupportedFeature
from llm_client.service import LLMService
from llm_client.types import LLMRequest, Message, Text
from power_loop import agent
from power_loop.agent.config import AgentConfig
from power_loop.agent.counting import Windows
from power_loop.agent.options import ResumeOptions, RunOptions, check_options
from power_loop.agent.system_prompt import (
    PromptContext,
    Section,
    SystemPrompt,
    as_system_prompt,
    checked_sections,
    with_dynamic,
)
from power_loop.agent.toolset import Toolset
from power_loop.driver.stopwatch import Pauses
from power_loop.pipeline.plan import RunPlan
from power_loop.runtime.cancellation import CancellationToken
from power_loop.session.spent import Spent

if TYPE_CHECKING:
    from power_loop.agent.output import OutputSpec
    from power_loop.runtime.budget.meter import Meter

__all__ = ["Place", "Planner", "Settings", "system_for"]


class Place(Struct, frozen=True):
    """Where a session is in its tree: so deep below the session `root`; a root by default.

    Attributes:
        above: tells why the run above is being cancelled; None while it is not.
        pauses: stops the working time of the run above.
    """

    root: str = ""
    depth: int = 0
    above: Callable[[], str | None] | None = None
    pauses: Pauses | None = None


class Settings(Struct, frozen=True, kw_only=True):
    """What one run is to do, from the config and the options of the call.

    `below` is what sessions below calls have used that were open before, by call. `sections` are
    those of the system prompt that are found out as the run opens; the plan has what is fixed.
    """

    plan: RunPlan
    sections: tuple[Section, ...] = ()
    tools: Toolset
    limits: Mapping[str, float]
    delegates: bool = False
    meter: Meter | None = None
    place: Place = Place()
    below: dict[str, Spent] = {}
    deps: Any = None
    user: str = ""
    timeout: float | None = None
    cancel: CancellationToken | None = None
    parse: Callable[[str], Any] | None = None


def system_for(session_id: str, settings: Settings) -> str | None:
    """The system prompt of a run that opens now.

    Raises:
        UsageError: a section could not be found out.
    """
    plan = settings.plan
    context = PromptContext(
        session_id=session_id,
        model=plan.model,
        tools=plan.template.tools,
        depth=settings.place.depth,
        deps=settings.deps,
    )
    return with_dynamic(plan.template.system, settings.sections, context)


class Planner:
    """Base of `Runner`.

    Attributes:
        config: settings that hold for all runs.
        llm: the model service.
        windows: what its models can hold.
    """

    def __init__(self, llm: LLMService, tools: Toolset, config: AgentConfig) -> None:
        self.llm = llm
        self._tools = tools
        self.config = config
        self.windows = Windows(config.context_window, llm)
        self._prompt = as_system_prompt(config.system_prompt)
        self._sections = checked_sections("AgentConfig.system_prompt", self._prompt.sections)

    def add_sections(self, extension: str, sections: Sequence[Section]) -> None:
        """Adds an extension's sections of the system prompt.

        Raises:
            UsageError: one is none, or has the name of another one; none of them was added.
        """
        owner = f"the extension {extension!r}"
        self._sections = checked_sections(owner, sections, self._sections)
        self._prompt = SystemPrompt(tuple([section for _, section in self._sections]))

    def settings(
        self,
        output_type: type[Any] | None,
        options: RunOptions[Any] | ResumeOptions[Any],
        *,
        resumes: bool = False,
        tools: Toolset | None = None,
    ) -> Settings:
        """What a run with these options is to do, with `tools` in place of the loop's.

        Raises:
            ToolDefinitionError: the tools passed do not fit together.
            UsageError: an option that is unknown or cannot be, or an output type that has no
                schema.
        """
        check_options(options, resumes=resumes)
        config = self.config
        tools = Toolset(options["tools"]) if "tools" in options else tools or self._tools
        typed = None if output_type is None else agent.output.requested(output_type)
        max_rounds = options.get("max_rounds", config.max_rounds)
        model = options.get("model")
        plan = RunPlan(
            template=self._template(self._prompt.fixed, model, tools, typed),
            model=model or self.llm.model,
            max_rounds=max_rounds,
            retry=config.retry,
            fallback=config.fallback,
            check_output=None if typed is None else typed.fault,
            output_reasks=config.output_reasks,
            round_limit_prompt=config.round_limit_prompt,
            in_doubt=config.in_doubt,
            polling=tools.polling,
            recall_at_front=config.memory_place == "front",
        )
        timeout = options.get("timeout")
        limits = {"rounds": float(max_rounds)}
        if timeout is not None:
            limits["seconds"] = float(timeout)
        return Settings(
            plan=plan,
            sections=self._prompt.dynamic,
            tools=tools,
            limits=limits,
            delegates=tools.delegates,
            deps=options.get("deps"),
            user=options.get("user", ""),
            timeout=timeout,
            cancel=CancellationToken.from_any(options["cancel"]) if "cancel" in options else None,
            parse=None if typed is None else typed.parse,
        )

    def checked(self, message: Message, template: LLMRequest | None = None) -> Message:
        """`message`, if the service can send it. Text it always can.

        Raises:
            CallerError: the service's protocol has no form for it.
        """
        if not all(isinstance(part, Text) for part in message.parts):
            self.llm.check(replace(template or LLMRequest(()), messages=(message,)))
        return message

    def _template(
        self,
        system: str | None,
        model: str | None,
        tools: Toolset,
        typed: OutputSpec[Any] | None,
    ) -> LLMRequest:
        config = self.config
        plain = LLMRequest(
            messages=(),
            system=system,
            model=model,
            tools=tools.specs,
            parallel_tool_calls=config.parallel_tool_calls if tools.specs else None,
            max_output_tokens=config.max_output_tokens,
            temperature=config.temperature,
            reasoning_effort=config.reasoning_effort,
            cache=config.prompt_cache,
        )
        if config.compactors:
            at = agent.context.compact_at(config, self.llm, self.windows, plain)
            plain = replace(plain, compact_at=at)
        if typed is None:
            return plain
        bound = replace(plain, output_schema=typed.schema)
        if self._can_bind(bound):
            return bound
        return replace(plain, system="\n\n".join(filter(None, (system, typed.prompt))))

    def _can_bind(self, request: LLMRequest) -> bool:
        """Whether the answer to `request` can be bound to its schema: not every service does that,
        nor for every schema, nor beside tools."""
        if not self.llm.binds_output:
            return False
        try:
            self.llm.check(replace(request, messages=(Message.user("?"),)))
        except UnsupportedFeature:
            return False
        return True
