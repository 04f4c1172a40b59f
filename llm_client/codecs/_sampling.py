"""Models that choose how they sample themselves, as data; requests that they would refuse are never
sent.

From OpenAI's guides on its models, its error texts ("Only the default (1) value is supported") and
recorded traffic. What is not certain is left to the provider.
"""

from __future__ import annotations

import re

from msgspec import Struct

from llm_client._model_name import bare_name
from llm_client.errors import UnsupportedFeature
from llm_client.types import LLMRequest

__all__ = ["OPENAI_FIXED", "FixedSampling", "check_sampling"]

_DATE = r"(-20\d\d-\d\d-\d\d)?"


class FixedSampling(Struct, frozen=True, kw_only=True):
    """Models that take no `temperature` and no `top_p` but 1.

    Attributes:
        models: what their names are, prefixes of gateways and dates of versions aside.
        reasoning: only while they reason: they take both where no effort, or none, is asked for.
    """

    models: str
    reasoning: bool = False

    def holds_for(self, request: LLMRequest) -> bool:
        """Whether `request` asks one of these models."""
        if self.reasoning and request.reasoning_effort in {None, "none"}:
            return False
        return re.fullmatch(f"({self.models}){_DATE}", bare_name(request.model or "")) is not None


OPENAI_FIXED = (
    FixedSampling(
        models=r"o1(-mini|-preview|-pro)?|o3(-mini|-pro)?|o4-mini|gpt-5(-mini|-nano|-codex|-pro)?"
    ),
    FixedSampling(
        models=r"gpt-5\.[124](-mini|-nano|-pro)?|gpt-5\.[123]-codex(-mini|-max)?", reasoning=True
    ),
)
"""Those of OpenAI, wherever they are served as they are."""


def check_sampling(request: LLMRequest, fixed: tuple[FixedSampling, ...]) -> None:
    """Refuses a `temperature` or `top_p` that the model does not take.

    Raises:
        UnsupportedFeature: one is set; names it and the model.
    """
    numbers = (("temperature", request.temperature), ("top_p", request.top_p))
    for name in [name for name, value in numbers if value is not None and value != 1]:
        for models in fixed:
            if models.holds_for(request):
                instead = ", or ask for no reasoning" if models.reasoning else ""
                raise UnsupportedFeature(
                    f"the model {request.model!r} takes no {name} but 1; leave it out of the "
                    f"request and of settings that fill it in{instead}"
                )
