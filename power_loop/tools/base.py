"""What a tool is, and what it gives back.

Nothing here loads pydantic, so that a driver can speak of tools without paying for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import msgspec
from msgspec import Struct

from llm_client.structured.problems import Problem
from llm_client.types import File, Image, Text, ToolSpec
from power_loop.errors import ToolError
from power_loop.tools.context import ToolContext
from power_loop.tools.output import OutputPolicy

__all__ = [
    "GRACE",
    "Delegates",
    "InvalidArguments",
    "OnCancel",
    "Problem",
    "Reconciler",
    "Result",
    "Tool",
    "ToolContent",
    "ToolOutput",
    "Unsettled",
]

OnCancel = Literal["abort", "finish", "background"]
"""What becomes of a call that runs while its run is cancelled or interrupted."""

GRACE = 5.0
"""Seconds that such a call has, unless its tool says otherwise."""

ToolContent = Text | Image | File
"""What a model can read in a tool's result."""

_PROBLEMS_SHOWN = 10


class InvalidArguments(ToolError):
    """The arguments of a call are not JSON, not an object, or do not fit the tool.

    `str()` is a JSON object made for the model: the tool, and each problem with path, expected and
    got. `problems` holds them all, `str()` the first ten.
    """

    def __init__(self, tool: str, problems: Sequence[Problem]) -> None:
        self.tool = tool
        self.problems = tuple(problems)
        told: dict[str, Any] = {
            "error": "invalid_arguments",
            "tool": tool,
            "problems": self.problems[:_PROBLEMS_SHOWN],
        }
        if len(self.problems) > _PROBLEMS_SHOWN:
            told["more_problems"] = len(self.problems) - _PROBLEMS_SHOWN
        super().__init__(msgspec.json.encode(told).decode())


class ToolOutput(Struct, frozen=True):
    """What a call came to: text, images and files for the model to read."""

    content: tuple[ToolContent, ...]
    is_error: bool = False

    @classmethod
    def of(cls, text: str, *, is_error: bool = False) -> ToolOutput:
        """An output of one text."""
        return cls((Text(text),), is_error)

    @property
    def text(self) -> str:
        """All text parts, joined."""
        return "".join([part.text for part in self.content if isinstance(part, Text)])


class Result(Struct, frozen=True):
    """What a call came to, where the loop has not seen it itself.

    For `resume(decisions=…)` and for what `reconcile` answers. `value` is whatever the tool itself
    may return.
    """

    value: object
    is_error: bool = False


Unsettled = Literal["never_happened", "cannot_tell"]
"""What a tool may find out about a call besides its result: that it has had no effect and never
will, so that it can be made; or nothing."""


Reconciler = Callable[[str, ToolContext[Any]], Awaitable[ToolOutput | Unsettled]]
"""Finds out what became of a call: takes the arguments it was begun with, as the JSON text of an
object, and its context, whose `idempotency_key` and `attempt` are those of the call that was lost.
"""


class Delegates:
    """Base of tools whose calls are worked on in sessions of their own; they are never invoked."""

    __slots__ = ()


@runtime_checkable
class Tool(Protocol):
    """Protocol of a tool: something that a model can ask to be run."""

    @property
    def name(self) -> str:
        """The name the model calls it by: 1–64 of letters, digits, `_` and `-`."""
        ...

    @property
    def spec(self) -> ToolSpec:
        """The tool as the model sees it. The same object each time, so that encoders can cache."""
        ...

    @property
    def exclusive(self) -> bool:
        """Whether it must run alone, with no other tool of the same answer beside it."""
        ...

    @property
    def idempotent(self) -> bool:
        """Whether a call with an unknown outcome may simply be made again."""
        ...

    @property
    def polling(self) -> bool:
        """Whether it is called again and again on purpose, as one that asks how far a job is.

        Its calls are no repetition and no lack of progress.
        """
        ...

    @property
    def reconcile(self) -> Reconciler | None:
        """Asked first about a call with an unknown outcome; None if the tool cannot be asked.

        Whatever it raises counts as "cannot_tell", and so does an answer that takes longer than a
        call may.
        """
        ...

    @property
    def timeout(self) -> float | None:
        """Seconds after which the loop cancels a call; None for the loop's own limit."""
        ...

    @property
    def on_cancel(self) -> OnCancel:
        """What becomes of a call when its run is cancelled or interrupted.

        `abort`: it is cancelled at once, and may clean up. `finish`: it may come to its end, whose
        result then counts; after its grace it is cancelled. `background`: the run goes on without
        it; the model is told so, and what comes of the call is posted to the session's inbox.
        `ToolContext.cancelled` is true from then on in all three.
        """
        ...

    @property
    def grace(self) -> float:
        """Seconds within which a call must have ended (`abort`) or is cancelled (`finish`).

        One that ignores that does not hold the end of its run: it is left behind. Its run ends and
        tells of it as interrupted, nothing that it gives is heard, and what it does cannot be
        undone or stopped: no event loop can take a coroutine from code that holds on to it.
        """
        ...

    @property
    def output(self) -> OutputPolicy:
        """What the model sees of a long output; `OutputPolicy()` is what most tools want."""
        ...

    async def invoke(self, arguments: str, context: ToolContext[Any]) -> ToolOutput:
        """Runs the tool once.

        Args:
            arguments: the JSON text of an object, as the model wrote it; "" means `{}`.
            context: this very call.

        Raises:
            InvalidArguments: the arguments do not fit; nothing was run.
            ToolError: the tool refuses; `str(error)` is for the model.
        """
        ...
