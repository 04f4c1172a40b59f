"""**Protocol** Answer: what a wire protocol must know to have its answers decoded."""

from __future__ import annotations

from typing import Protocol

from llm_client.stream import StreamEvent

__all__ = ["Answer"]


class Answer(Protocol):
    """**Protocol**: the state of one answer. `take` frames or `take_whole`, then `finish`.

    All three append the events that they give rise to. What a failing `take` had appended before
    stays valid.
    """

    @property
    def seen(self) -> bool:
        """Some part of an answer has arrived."""
        ...

    @property
    def complete(self) -> bool:
        """The model's own end has been seen; what may follow is only accounting."""
        ...

    @property
    def over(self) -> bool:
        """Nothing more is worth reading."""
        ...

    def take(self, payload: bytes, out: list[StreamEvent]) -> None:
        """Takes the data of the next frame in.

        Raises:
            LLMError: the frame is an error, or makes no sense.
        """
        ...

    def take_whole(self, body: object, out: list[StreamEvent]) -> None:
        """Takes in the decoded body of an answer that was not streamed.

        Raises:
            LLMError: it is an error, or makes no sense.
        """
        ...

    def finish(self, out: list[StreamEvent]) -> None:
        """Appends the last events.

        Raises:
            LLMError: what has arrived is no answer after all.
        """
        ...
