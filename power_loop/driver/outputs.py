"""What the model sees of what tools give: bounded, and the whole kept where it can be read."""

from __future__ import annotations

from collections.abc import Callable, Container

import anyio
from msgspec import Struct
from msgspec.structs import replace

from llm_client.types import File, Image, Opaque, Text, ToolResult
from power_loop.driver.shield import own_cancellation
from power_loop.events import SpillFailed, Transient
from power_loop.log import logger
from power_loop.pipeline.ports import Used
from power_loop.runtime.artifacts.base import ArtifactStore, handle_of
from power_loop.session.text import repaired_strings, repaired_text
from power_loop.session.view import ARTIFACT_META, OUTPUT_META
from power_loop.tools.base import Tool, ToolContent, ToolOutput
from power_loop.tools.output import READ_OUTPUT, OutputPolicy

__all__ = ["Outputs", "Shown"]

_Content = tuple[Text | Image | File | Opaque, ...]
"""What a result may hold."""
_PATIENCE = 10.0
"""Seconds for keeping one output; what takes longer is given up."""


class Shown(Struct, frozen=True):
    """What the model sees of an output, if no more of it can be kept.

    Attributes:
        used: that, as what the tool has come to.
        whole: the text that is to be kept, because not all of it is seen; empty if none is.
        content: of which the model sees the ends; what a projection has made, which it sees as well
            if the whole is kept, if there is one.
        limit: how many characters of it are seen.
        projected: whether it was made by a projection.
    """

    used: Used
    whole: str = ""
    content: _Content = ()
    limit: int = 0
    projected: bool = False


class Outputs:
    """Shows the outputs of the tools of one run."""

    __slots__ = ("_artifacts", "_can_page", "_emit", "_limit", "_session_id")

    def __init__(
        self,
        session_id: str,
        tools: Container[str],
        emit: Callable[[Transient], None],
        artifacts: ArtifactStore | None,
        limit: int,
    ) -> None:
        """`tools` names what the model can call; it sees `limit` characters of one output."""
        self._session_id = session_id
        self._emit = emit
        self._artifacts = artifacts
        self._limit = limit
        self._can_page = READ_OUTPUT in tools

    def shown(self, tool: Tool, used: Used) -> Shown:
        """What is seen of what a tool gave, before anything has been kept."""
        policy, content = tool.output, used.result.content
        if policy.how == "preserve":
            used = replace(used, meta={OUTPUT_META: "preserve"})
        projected = False
        if policy.how == "project" and not used.result.is_error:
            content = self._projected(tool, policy, used.result)
            projected = content != used.result.content
        limit = policy.limit or self._limit
        if not projected and _length(content) <= limit:
            return Shown(used)
        return self._cut(policy, used, content, limit, projected=projected)

    def _cut(
        self,
        policy: OutputPolicy,
        used: Used,
        content: _Content,
        limit: int,
        *,
        projected: bool,
    ) -> Shown:
        spills = self._artifacts is not None and policy.how != "truncate"
        whole = repaired_text(used.result.text) if spills else ""
        why = f"the result is over the limit of {limit}"
        if spills and not projected:
            why = "the rest could not be kept"

        def told(left_out: int, total: int) -> str:
            return f"{left_out} of {total} characters left out: {why}. Ask for less at a time"

        if policy.how == "summarise":
            used = replace(used, meta={OUTPUT_META: "summarise"})
        result = _having(used.result, _bounded(content, limit, told))
        return Shown(replace(used, result=result), whole, content, limit, projected)

    def _projected(self, tool: Tool, policy: OutputPolicy, result: ToolResult) -> _Content:
        """What the tool's own function makes of what it gave; just that, if the function fails."""
        assert policy.function is not None
        content = tuple([part for part in result.content if isinstance(part, ToolContent)])
        try:
            made: object = policy.function(ToolOutput(content))
        except Exception as error:  # noqa: BLE001  foreign code; readers are told
            self._failed(result.call_id, tool, error)
            return result.content
        if isinstance(made, str):
            made = ToolOutput.of(made)
        if isinstance(made, ToolOutput):  # pyright: ignore[reportUnnecessaryIsInstance]  # authors need not be checked
            return made.content
        wrong = TypeError(f"a projection gives a str or a ToolOutput, not {made!r:.80}")
        self._failed(result.call_id, tool, wrong)
        return result.content

    async def kept(self, tool: Tool, shown: Shown) -> Used:
        """What the model sees, after the whole of it has been kept if that was possible."""
        if not shown.whole or self._artifacts is None:
            return shown.used
        used, whole = shown.used, shown.whole
        handle = handle_of(whole)
        try:
            with anyio.fail_after(_PATIENCE):
                put = self._artifacts.put_artifact(self._session_id, handle, whole)
                await own_cancellation(put)
        except Exception as error:  # noqa: BLE001  perhaps foreign; readers are told
            self._failed(used.result.call_id, tool, error)
            return used
        content = self._with_handle(shown, handle)
        meta = {**(used.meta or {}), ARTIFACT_META: handle}
        return replace(used, result=_having(used.result, content), meta=meta)

    def _with_handle(self, shown: Shown, handle: str) -> _Content:
        def told(offset: int) -> str:
            if not self._can_page:
                return f"kept as {handle}. Ask for less at a time"
            call = f'{READ_OUTPUT}(handle="{handle}", offset={offset})'
            return f"kept as {handle}; read them with {call}"

        if shown.projected:
            line = f"\n[… All {len(shown.whole)} characters of the output are {told(0)} …]"
            return (*shown.used.result.content, Text(line))
        offset = _head(shown.limit)
        return _bounded(
            shown.content,
            shown.limit,
            lambda left_out, total: f"{left_out} of {total} characters are {told(offset)}",
        )

    def _failed(self, call_id: str, tool: Tool, error: Exception) -> None:
        kind = type(error).__name__
        late = f"it took longer than {_PATIENCE:g} s"
        text = str(error) or (late if isinstance(error, TimeoutError) else kind)
        logger.warning("the output of call %r is not kept or projected: %s", call_id, kind)
        self._emit(repaired_strings(SpillFailed(call_id, tool.name, kind, text[:500])))


def _length(content: _Content) -> int:
    return sum([len(part.text) for part in content if isinstance(part, Text)])


def _having(result: ToolResult, content: _Content) -> ToolResult:
    return ToolResult(result.call_id, content, result.is_error)


def _head(limit: int) -> int:
    """How many of `limit` characters are seen of the beginning; the others are of the end."""
    return limit * 3 // 4


def _bounded(content: _Content, limit: int, told: Callable[[int, int], str]) -> _Content:
    """The content with the ends of all its text in place of the first one, if it is too long.

    `told` says between them what is not there: how many characters, of how many in all.
    """
    total = _length(content)
    if total <= limit:
        return content
    text = "".join([part.text for part in content if isinstance(part, Text)])
    head = _head(limit)
    tail = total - (limit - head)
    cut = Text(f"{text[:head]}\n[… {told(tail - head, total)} …]\n{text[tail:]}")
    first = next(i for i, part in enumerate(content) if isinstance(part, Text))
    others = [part for part in content[first:] if not isinstance(part, Text)]
    return (*content[:first], cut, *others)
