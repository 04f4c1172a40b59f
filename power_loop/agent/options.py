"""What can be set for one run, checked at the edge: nothing is swallowed or misread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypedDict, cast, get_args

from typing_extensions import TypeVar

from llm_client.providers import PROVIDERS
from llm_client.types import Text
from power_loop import agent
from power_loop.agent.deciding import Decision
from power_loop.agent.toolset import AnyTool
from power_loop.driver.hub import Overflow
from power_loop.errors import UsageError
from power_loop.pipeline.plan import Answer
from power_loop.runtime.cancellation import CancellationToken, CancelSource
from power_loop.session.text import is_sound
from power_loop.tools.registry import ToolRegistry

if TYPE_CHECKING:
    from power_loop.runtime.budget.limits import Budget

__all__ = [
    "OnBusy",
    "ResumeOptions",
    "RunOptions",
    "check_one_of",
    "check_options",
    "check_overflow",
]

OnBusy = Literal["wait", "fail", "steer"]
"""What a second `send` on a busy session does: wait for its turn, fail with `SessionBusy`, or say
it to the run that is going on and raise `FollowUpQueued`."""

DepsT = TypeVar("DepsT", default=Any)


class _Options(TypedDict, Generic[DepsT], total=False):
    """What can be set for one run, whether or not it carries another one on."""

    deps: DepsT
    """Handed to tools and hooks."""
    user: str
    """The person that the agent works for: whose memory is recalled, and added to."""
    model: str
    """Another model of the same service, by its bare name."""
    tools: Iterable[AnyTool] | ToolRegistry
    """These instead of the loop's."""
    max_rounds: int
    """Instead of the config's."""
    timeout: float
    """Seconds after which the run is cancelled. They count from its opening: the wait for a busy
    session is not among them; see `on_busy`."""
    cancel: CancelSource
    """Cancels the run, from any thread: a `CancellationToken`, an event, or a function that returns
    True to cancel. What cannot call back is looked at every 50 ms. It counts from the run's
    opening, like `timeout`; a run that is cancelled by then does not open."""
    on_busy: OnBusy
    """What to do about a session that somebody else is running: wait for it (the default); `fail`
    with `SessionBusy`; or `steer`: post the message into that run's inbox instead and raise
    `FollowUpQueued`. A resumed run has no message, so it cannot steer."""


class RunOptions(_Options[DepsT], Generic[DepsT], total=False):
    """What can be set for one run."""

    budget: Budget
    """What the run may use, and those that carry it on, instead of the config's."""


class ResumeOptions(_Options[DepsT], Generic[DepsT], total=False):
    """What can be set for a run that resumes another. That keeps the budget it had; what the
    config's `run_budget` limits beside, it limits from now on.
    """

    answers: Sequence[Answer]
    """`approve(token)`, `deny(token)` or `answer(token, value)` for what calls wait for, here or in
    sessions below this one; each token is good once. What is not answered goes on waiting."""
    allow_drift: bool
    """Go on with a summary although it would be made in another way now; see `SummaryDrift`."""
    extend: Budget
    """New totals of limits that the run has, if it has used them up; what was used stays counted.
    Where another budget had ended the run, the session's say, that is to be raised instead."""
    decisions: Mapping[str, Decision] | None
    """By call id: a `Result` for a call of a tool that this program runs itself; for one in doubt
    a `Result`, "rerun" (under the same idempotency key) or "unknown" (the model is told)."""


_ALSO_MODELS = frozenset({"deepseek", "mistral", "qwen"})
"""Providers whose names servers of open models use as well: `mistral:7b` is a model there."""


def check_options(options: Mapping[str, object], *, resumes: bool = False) -> None:
    """Raises UsageError: one is unknown, or of a value that cannot be.

    `resumes` says that they are `ResumeOptions`.
    """
    legal = _RESUME_CHECKS if resumes else _CHECKS
    for name, value in options.items():
        if resumes and name == "budget":
            raise UsageError(
                "a run that is carried on keeps its budget; extend= gives it more, and a limit in "
                "AgentConfig(run_budget=…) that it has not binds it from now on"
            )
        check = legal.get(name)
        if check is None:
            raise UsageError(f"there is no option {name!r}; there are {', '.join(legal)}")
        check(name, value)


def check_overflow(overflow: object) -> None:
    """Raises UsageError: there is no such way to deal with a slow reader."""
    check_one_of("overflow", overflow, get_args(Overflow))


def check_one_of(name: str, value: object, legal: tuple[str, ...]) -> None:
    """Raises UsageError: the value is none of the legal ones."""
    if value not in legal:
        raise UsageError(f"{name} is one of {', '.join(map(repr, legal))}, not {value!r}")


def _check_tools(_: str, value: object) -> None:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise UsageError(
            f"tools is a list of tools or a registry, not a value of type {_kind(value)}"
        )


def _check_answers(_: str, value: object) -> None:
    if not isinstance(value, list | tuple):
        raise UsageError(
            "answers is a list of approve(token), deny(token) and answer(token, value), "
            f"not a value of type {_kind(value)}"
        )


def _check_mapping(name: str, value: object) -> None:
    if value is not None and not isinstance(value, Mapping):
        raise UsageError(f"{name} is a mapping, not a value of type {_kind(value)}")


def _check_rounds(_: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UsageError(f"max_rounds must be a whole number from 1, not {value!r}")


def _kind(value: object) -> str:
    return type(value).__name__


def _check_timeout(_: str, value: object) -> None:
    match value:
        case None:
            pass
        case float() | int() if isfinite(value) and value > 0 and value is not True:
            pass
        case _:
            raise UsageError(f"timeout must be a number of seconds over 0, not {value!r}")


def _check_model(_: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"model is the name of a model, not {value!r}")
    provider, colon, rest = value.partition(":")
    if colon and provider in PROVIDERS and provider not in _ALSO_MODELS:
        raise UsageError(
            f"model={value!r} names a provider; a run takes another model of the loop's own "
            f"service, by its bare name: model={rest!r}. Another provider needs another loop"
        )


def _check_budget(name: str, value: object) -> None:
    agent.spending.checked_budget(name, value)


def _check_cancel(_: str, value: object) -> None:
    CancellationToken.from_any(cast("CancelSource", value))


def _check_on_busy(name: str, value: object) -> None:
    check_one_of(name, value, get_args(OnBusy))


def _check_user(_: str, value: object) -> None:
    if not isinstance(value, str) or not is_sound(Text(value)):
        raise UsageError("user is a text, without NUL and lone surrogates: the name of a person")


def _check_switch(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise UsageError(f"{name} is True or False, not {value!r}")


def _anything(_: str, __: object) -> None:
    """Only the caller's own code knows what it may be."""


_Check = Callable[[str, object], None]

_ALL_CHECKS: Mapping[str, _Check] = MappingProxyType(
    {
        "deps": _anything,
        "user": _check_user,
        "model": _check_model,
        "tools": _check_tools,
        "max_rounds": _check_rounds,
        "timeout": _check_timeout,
        "cancel": _check_cancel,
        "on_busy": _check_on_busy,
    }
)
_CHECKS: Mapping[str, _Check] = MappingProxyType({**_ALL_CHECKS, "budget": _check_budget})
_RESUME_CHECKS: Mapping[str, _Check] = MappingProxyType(
    {
        **_ALL_CHECKS,
        "answers": _check_answers,
        "allow_drift": _check_switch,
        "extend": _check_budget,
        "decisions": _check_mapping,
    }
)
