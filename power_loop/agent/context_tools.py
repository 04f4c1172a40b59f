"""Tools with which a model reads again what its view shows in part only."""

from __future__ import annotations

from typing import Any

from power_loop.errors import ArtifactNotFound, ToolError
from power_loop.runtime.artifacts.base import ArtifactPage, ArtifactStore
from power_loop.tools.base import Tool
from power_loop.tools.context import ToolContext
from power_loop.tools.json_tool import JsonSchemaTool
from power_loop.tools.output import READ_OUTPUT, OutputPolicy

__all__ = ["read_output_tool"]

_PAGE = 8_000
_LONGEST_PAGE = 20_000
_LONGEST_SEARCH = 200
_WINDOW = 1_000_000
"""Characters that a search has in memory at a time."""
_HITS = 20
_AROUND = 80
"""Characters that are shown before and after what was found."""
_HEADING = 400
"""Characters that a page may have besides the text."""

_DESCRIPTION = (
    "Reads a part of a long output of a tool, of which you have seen the ends only. Its handle "
    "stands where it was cut. With `search` you are told where a text occurs, instead."
)
_PARAMETERS = {
    "type": "object",
    "properties": {
        "handle": {"type": "string", "description": "where the output is kept, such as output_…"},
        "offset": {
            "type": "integer",
            "minimum": 0,
            "description": "the character to begin at, from 0; 0 unless given",
        },
        "length": {
            "type": "integer",
            "minimum": 1,
            "maximum": _LONGEST_PAGE,
            "description": f"how many characters; {_PAGE} unless given",
        },
        "search": {
            "type": "string",
            "minLength": 1,
            "maxLength": _LONGEST_SEARCH,
            "description": "a text to look for, as it is written; from `offset` on",
        },
    },
    "required": ["handle"],
    "additionalProperties": False,
}


def read_output_tool(artifacts: ArtifactStore) -> Tool:
    """A tool named `read_output`: the model pages through large outputs of its own session.

    Args:
        artifacts: where they are kept: the store of the loop, or `AgentConfig.artifacts`.
    """

    async def read_output(arguments: dict[str, Any], context: ToolContext[Any]) -> str:
        source = _Kept(artifacts, context.session_id, arguments["handle"])
        offset, wanted = arguments.get("offset", 0), arguments.get("search")
        if wanted is not None:
            return await source.found(wanted, offset)
        return await source.page(offset, arguments.get("length", _PAGE))

    # A page is short enough for any view, and is not kept a second time.
    output = OutputPolicy.truncate(_LONGEST_PAGE + _HEADING)
    return JsonSchemaTool(
        READ_OUTPUT, _DESCRIPTION, _PARAMETERS, read_output, idempotent=True, output=output
    )


class _Kept:
    """One output that is kept for a session."""

    def __init__(self, artifacts: ArtifactStore, session_id: str, handle: str) -> None:
        self._artifacts = artifacts
        self._session_id = session_id
        self._handle = handle

    async def _read(self, offset: int, length: int) -> ArtifactPage:
        try:
            return await self._artifacts.read_artifact(
                self._session_id, self._handle, offset, length
            )
        except ArtifactNotFound:
            raise ToolError(
                f"No output {self._handle[:64]!r} is kept for this session. Take a handle from "
                "where an output of this session was cut, letter by letter; if it is not kept here "
                "any more, make that call again and ask for less at a time."
            ) from None

    async def page(self, offset: int, length: int) -> str:
        """The text of a page, under a line that says what it is and how to go on."""
        page = await self._read(offset, length)
        end = offset + len(page.text)
        if not page.text:
            return f"[{self._handle} has {page.total} characters; none from {offset} on]"
        what = f"[characters {offset} to {end} of {page.total} of {self._handle}"
        rest = "the end" if end >= page.total else f"go on at offset={end}"
        return f"{what}; {rest}]\n{page.text}"

    async def found(self, wanted: str, offset: int) -> str:
        """Where a text occurs from `offset` on, each place with what is around it."""
        lines: list[str] = []
        at = offset
        while True:
            page = await self._read(at, _WINDOW)
            begin = 0
            while (place := page.text.find(wanted, begin)) >= 0:
                if len(lines) == _HITS:
                    return self._told(wanted, lines, f"go on at offset={at + place}")
                around = page.text[max(0, place - _AROUND) : place + len(wanted) + _AROUND]
                lines.append(f"{at + place}: …{' '.join(around.split())}…")
                begin = place + len(wanted)
            if at + len(page.text) >= page.total:
                return self._told(wanted, lines, "there is no other")
            # What lies across the border is found in the next window, and nothing twice.
            at += max(begin, len(page.text) - len(wanted) + 1)

    def _told(self, wanted: str, lines: list[str], rest: str) -> str:
        if not lines:
            return f"[{wanted!r} is not in {self._handle} from there on]"
        return "\n".join([f"[{wanted!r} in {self._handle}, by offset; {rest}]", *lines])
