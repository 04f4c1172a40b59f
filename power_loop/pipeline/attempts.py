"""One model call, however often it takes, and whichever model it takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec import Struct
from msgspec.structs import replace

from llm_client.errors import ContextOverflow, LLMError, Timeout, UnsupportedFeature
from llm_client.retry import RetryIn
from llm_client.types import LLMRequest, LLMResponse, Usage
from power_loop.events import FallbackTaken, RetryScheduled
from power_loop.hooks import LLM_ERROR, Break, LlmErrorRaised, Retry, ShortCircuit
from power_loop.pipeline.decisions import heard
from power_loop.pipeline.ports import AttemptFailed, Grant, Ports
from power_loop.pipeline.progress import where
from power_loop.pipeline.refusals import without_refused
from power_loop.session.outcome import BudgetExhausted, Degraded, Outcome
from power_loop.session.records import ErrorInfo, ModelAsked, ModelEnded
from power_loop.session.text import repaired_text

__all__ = ["Answer", "Prepared", "ask_model", "attempted", "error_info"]


class Answer:
    """A response, and the attempt it came from; None for one that a hook made up."""

    __slots__ = ("attempt", "response")

    def __init__(self, response: LLMResponse, attempt: str | None) -> None:
        self.response = response
        self.attempt = attempt


class Prepared(Struct, frozen=True):
    """A request that is ready to be sent, and its digest, if a hook has changed it."""

    request: LLMRequest
    digest: str = ""


Shorten = Callable[[str], Awaitable[Prepared | Answer | Outcome | None]]
"""Makes the request shorter, for the model that refused it; None if that cannot be done."""


class _InVain(Struct, frozen=True):
    """No model is left.

    Attributes:
        error: that of the last one, `model`.
        attempts: how often any was asked.
        reason: why there was need of one to stand in; `error`, if there was none.
    """

    error: LLMError
    attempts: int
    model: str
    reason: LLMError


async def ask_model(
    io: Ports, prepared: Prepared, round: int, shorten: Shorten | None = None
) -> Answer | Outcome:
    """The model's answer, or how the run ends without one.

    A prompt that turns out to be too large for the model is shortened once.

    Raises:
        LLMError: the call failed for a reason that trying again does not mend.
    """
    hook_may_retry = True
    while True:
        request = prepared.request
        result = await _until_no_model_is_left(io, request, round, prepared.digest)
        if not isinstance(result, _InVain):
            return result
        error, attempts = result.error, result.attempts
        if isinstance(error, ContextOverflow):
            shorter = None if shorten is None else await shorten(result.model)
            shorten = None
            if isinstance(shorter, Prepared):
                prepared = shorter
                continue
            if shorter is not None:
                return shorter
            error = result.reason
        said = await _asked_of_hooks(io, request, error, attempts)
        if isinstance(said, Retry) and hook_may_retry:
            hook_may_retry = False
        elif said is None or isinstance(said, Retry):
            return await _given_up(io, error, attempts)
        else:
            return said


async def _asked_of_hooks(
    io: Ports, request: LLMRequest, error: LLMError, attempts: int
) -> Answer | Outcome | Retry | None:
    """What the handlers of llm.error want instead."""
    if not io.listens(LLM_ERROR):
        return None
    context = LlmErrorRaised(**where(io), request=request, error=error, attempts=attempts)
    match await heard(io, LLM_ERROR, context):
        case ShortCircuit(response=response):
            return Answer(response, None)
        case Break() as broken:
            return broken.ending
        case Retry() as retry:
            return retry
        case _:
            return None


async def _given_up(io: Ports, error: LLMError, attempts: int) -> Degraded:
    """How the run ends by an `error` that another day may mend; any other is raised."""
    if error.retryable:
        return Degraded(f"{type(error).__name__}: {repaired_text(str(error))}", attempts)
    change = without_refused(io.session.view, error)
    if change is not None:
        await io.commit(change, later=True)
    raise error


async def _until_no_model_is_left(
    io: Ports, request: LLMRequest, round: int, digest: str
) -> Answer | BudgetExhausted | _InVain:
    policy = io.plan.fallback
    asked = request.model or io.plan.model
    others = iter([model for model in policy.models if model != asked])
    failed: _InVain | None = None
    while True:
        result = await _until_policy_gives_up(io, request, round, digest)
        if not isinstance(result, tuple):
            return result
        error, made = result
        if failed is not None and isinstance(error, UnsupportedFeature):
            # One that cannot stand in is no help, and not why there was need of one.
            failed = replace(failed, attempts=failed.attempts + made)
        else:
            attempts = made if failed is None else failed.attempts + made
            reason = error if failed is None else failed.reason
            failed = _InVain(error, attempts, asked, reason)
        other = next(others, None) if policy.passes_on(failed.error) else None
        if other is None:
            return failed
        told = repaired_text(str(error))
        io.emit(FallbackTaken(asked, other, type(error).__name__, told))
        asked, request = other, replace(request, model=other)


async def _until_policy_gives_up(
    io: Ports, request: LLMRequest, round: int, digest: str
) -> Answer | BudgetExhausted | tuple[LLMError, int]:
    began = io.now()
    attempts = 0
    while True:
        attempts += 1
        model = request.model or io.plan.model
        asked = ModelAsked(io.new_id(), round, model, request=digest)
        result = await attempted(io, request, asked)
        if isinstance(result, Answer | BudgetExhausted):
            return result
        decision = io.plan.retry.decide(result, attempts, io.now() - began, io.random())
        if not isinstance(decision, RetryIn):
            return result, attempts
        told = repaired_text(str(result))
        io.emit(RetryScheduled(asked.attempt, decision.seconds, type(result).__name__, told))
        await io.sleep(decision.seconds)


async def attempted(
    io: Ports, request: LLMRequest, asked: ModelAsked, within: float | None = None
) -> Answer | BudgetExhausted | LLMError:
    """One request, with what the log and the budget must know of it."""
    attempt, model, granted = asked.attempt, asked.model, Grant(request)
    if io.limited:
        new_round, began = asked.round != io.session.round, io.now()
        found = await io.reserve(request, attempt, new_round=new_round, within=within)
        if not isinstance(found, Grant):
            return _not_in_time(within or 0.0) if found is None else found
        granted, asked = found, _with_reserve(asked, found)
        within = None if within is None else max(0.0, within - (io.now() - began))
    await (io.commit(asked) if granted.bounded is None else io.commit(granted.bounded, asked))
    result = await io.ask(granted.request, attempt, within)
    if isinstance(result, AttemptFailed):
        cost = io.cost(model, result.usage) if io.limited else 0.0
        await io.commit(_ended_badly(attempt, result, cost))
        return result.error
    measured = result.usage.output_tokens is not None
    usage = result.usage if measured else io.estimate(granted.request, result)
    cost = io.cost(model, usage) if io.limited else 0.0
    await io.commit(_ended_ok(attempt, result, usage, cost, measured=measured), later=True)
    return Answer(result, attempt)


def _not_in_time(within: float) -> LLMError:
    told = f"others had set its budget aside for longer than {within:g} s"
    return Timeout(told, phase="total", seconds=within, sent=False)


def _with_reserve(asked: ModelAsked, grant: Grant) -> ModelAsked:
    return replace(
        asked,
        reserved=grant.reserved,
        reserved_output=grant.reserved_output,
        reserved_cost=grant.reserved_cost,
    )


def _ended_ok(
    attempt: str, response: LLMResponse, usage: Usage, cost: float, *, measured: bool
) -> ModelEnded:
    return ModelEnded(
        attempt,
        "ok",
        usage,
        measured=measured,
        stop_reason=response.stop_reason,
        raw_finish=response.raw_finish,
        model=response.model,
        cost=cost,
    )


def _ended_badly(attempt: str, failed: AttemptFailed, cost: float) -> ModelEnded:
    return ModelEnded(
        attempt,
        "failed",
        failed.usage,
        measured=failed.measured,
        partial=repaired_text(failed.partial),
        error=error_info(failed.error),
        cost=cost,
    )


def error_info(error: LLMError) -> ErrorInfo:
    """What is stored of an error."""
    text = repaired_text(str(error))
    name = type(error).__name__
    return ErrorInfo(name, text, error.retryable, error.status, error.retry_after)
