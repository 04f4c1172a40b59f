"""Tools that change a workspace: write_file, edit_file."""

from __future__ import annotations

from power_loop.errors import ToolError
from power_loop.tools.builtin.diff import unified_diff
from power_loop.tools.builtin.editing import edit_text
from power_loop.tools.builtin.paths import shown
from power_loop.tools.builtin.workspace import Workspace, is_binary
from power_loop.tools.function import tool

__all__ = ["WritingTools"]

_WRITTEN = 10_000_000
_EDITED = 2_000_000
_MARK = b"\xef\xbb\xbf"


class WritingTools:
    """The writing tools of one workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    @tool(exclusive=True, idempotent=True)
    def write_file(self, path: str, content: str) -> str:
        """Writes a text file of the workspace, making its directories; replaces what it held.

        Args:
            path: the file, relative to the workspace.
            content: all that it shall hold.
        """
        data = _encoded(content, path)
        with self._workspace.entry(path, "write", make=True) as entry:
            new = self._workspace.write(entry, data)
            where = shown(entry.parts)
        return f"{'created' if new else 'replaced'} {where} ({len(data):,} bytes)"

    @tool(exclusive=True)
    def edit_file(
        self, path: str, old_text: str, new_text: str, *, replace_all: bool = False
    ) -> str:
        """Replaces one passage of a text file that was read before. Returns the change as a diff.

        Args:
            path: the file, relative to the workspace.
            old_text: the passage, quoted exactly as the file has it, without line numbers; quote
                enough for it to be there only once.
            new_text: what to put in its place.
            replace_all: replace it wherever it is.
        """
        workspace = self._workspace
        with workspace.entry(path, "edit") as entry:
            data = workspace.read(entry, _EDITED)
            where = shown(entry.parts)
            if is_binary(data):
                raise ToolError(f"{where!r} is binary and cannot be edited")
            workspace.need_seen(entry, data)
            text = _text(data, where)
            edited = edit_text(text, old_text, new_text, replace_all=replace_all)
            mark = _MARK if data.startswith(_MARK) else b""
            workspace.write(entry, mark + _encoded(edited.text, where), same_as=data)
        how = f" ({edited.count} places)" if edited.count > 1 else ""
        found = f", found {edited.how}" if edited.how else ""
        return f"edited {where}{how}{found}\n{unified_diff(text, edited.text, where)}"


def _text(data: bytes, path: str) -> str:
    try:
        return data.removeprefix(_MARK).decode()
    except UnicodeDecodeError as error:
        raise ToolError(
            f"{path!r} is not UTF-8 text; editing would damage it. Write it anew, or leave it"
        ) from error


def _encoded(text: str, path: str) -> bytes:
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise ToolError(f"the text for {path!r} holds characters that are no text") from error
    if len(data) > _WRITTEN:
        raise ToolError(
            f"the text for {path!r} is too large: {len(data):,} bytes, {_WRITTEN:,} are allowed"
        )
    return data
