"""What a run is to do, and what people and the host have said that it is to go by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from msgspec import Struct

from llm_client.retry import FallbackPolicy, RetryPolicy
from llm_client.types import LLMRequest, ToolResult

__all__ = ["ROUND_LIMIT_PROMPT", "Answer", "RunPlan", "Verdict"]

Verdict = ToolResult | Literal["rerun", "unknown"]
"""What the host decides about a call: its result, to run it again, or that nobody can know."""

ROUND_LIMIT_PROMPT = (
    "You have used all the rounds of this task. Do not call any more tools. "
    "Say briefly what you have done, what you found, and what remains to be done."
)


class Answer(Struct, frozen=True):
    """What somebody has answered to what a call waits for. Made by `approve`, `deny` and `answer`.

    Attributes:
        token: names what is answered.
        kind: "approve" or "deny" for a request, "answer" for a question.
        text: the answer to a question: text as it is, anything else as JSON.
        by: who says so.
        note: why; the model is told of a no.
        arguments: JSON text of the arguments that are approved instead of those asked for.
    """

    token: str
    kind: Literal["approve", "deny", "answer"]
    text: str = ""
    by: str = ""
    note: str = ""
    arguments: str = ""


class RunPlan(Struct, frozen=True, kw_only=True):
    """What a run is to do, fixed when it opens.

    Attributes:
        template: the request without its messages: model, system prompt, tools, parameters.
        model: the name recorded with each call.
        max_rounds: rounds in which the model may ask for tools.
        retry: when a failed model call is tried again.
        fallback: which other models are asked when one has failed for good.
        check_output: says what is wrong with a final text, or None; for typed output.
        output_reasks: how often a wrong output is given back before the run fails.
        answers: what was answered to waiting calls, by token.
        decisions: what the host decided about calls that are its business, by call id.
        in_doubt: whether the model is told of a call whose outcome stays unknown, or the host is
            asked.
        taken: inbox items that the run's input came from; the commit that opens it takes them.
        depth: how far the run is below the one at the root of its tree.
        polling: names of the tools that are called again and again on purpose.
        recall_at_front: what memory brings up stands before the view, not after it.
    """

    template: LLMRequest
    model: str
    max_rounds: int = 24
    retry: RetryPolicy = RetryPolicy()
    fallback: FallbackPolicy = FallbackPolicy()
    check_output: Callable[[str], str | None] | None = None
    output_reasks: int = 2
    round_limit_prompt: str = ROUND_LIMIT_PROMPT
    answers: Mapping[str, Answer] = {}
    decisions: Mapping[str, Verdict] = {}
    in_doubt: Literal["tell", "ask"] = "tell"
    taken: tuple[str, ...] = ()
    depth: int = 0
    polling: frozenset[str] = frozenset()
    recall_at_front: bool = False
