"""What can go wrong with an answer that came, and is not what was asked for.

LLMError
├─ StructuredOutputError   a text does not hold the value; `reason` says why
└─ OutputError             the model has answered, and there is no value to be had
   ├─ OutputInvalid        no answer fits the type, after all re-asks
   │  └─ OutputEmpty       the last one said nothing at all
   ├─ OutputTruncated      the output limit cut the answer off
   ├─ OutputRefused        the model declined
   └─ OutputFiltered       the provider's filter withheld the answer

None of them is retryable: the same request would most likely be answered in the same way.
"""

from __future__ import annotations

from llm_client.errors import LLMError, excerpt
from llm_client.types import Usage

__all__ = [
    "OutputEmpty",
    "OutputError",
    "OutputFiltered",
    "OutputInvalid",
    "OutputRefused",
    "OutputTruncated",
    "StructuredOutputError",
]


class StructuredOutputError(LLMError):
    """A text does not hold the value that it should. The message is fit for the model to read.

    Attributes:
        reason: "no_json", "invalid_json", "not_object", "missing_required:<field>", or "invalid"
            where there is a value and it does not fit.
    """

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class OutputError(LLMError):
    """The model has answered, and there is no value to be had.

    Attributes:
        text: the beginning of the last answer.
        faults: what was wrong with each answer that the model was told to correct, and the last.
        usage: the tokens of all answers.
    """

    def __init__(
        self, message: str, *, text: str, faults: tuple[str, ...] = (), usage: Usage | None = None
    ) -> None:
        super().__init__(message)
        self.text = excerpt(text)
        self.faults = faults
        self.usage = usage or Usage()


class OutputInvalid(OutputError):
    """No answer fits the type, after all re-asks."""


class OutputEmpty(OutputInvalid):
    """The last answer said nothing, after all re-asks."""


class OutputTruncated(OutputError):
    """The output limit cut the answer off. Asked in the same way, it would be cut off again."""


class OutputRefused(OutputError):
    """The model declined. It is not asked again."""


class OutputFiltered(OutputError):
    """The provider's filter withheld the answer. The model is not asked again."""
