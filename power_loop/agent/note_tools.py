"""Tools with which a model keeps notes: write_note, search_notes, forget_note."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import Field

from power_loop.errors import NotesFull, ToolError, UsageError
from power_loop.runtime.memory.base import MemoryScope
from power_loop.runtime.memory.note_memory import NoteMemory
from power_loop.runtime.memory.tagging import framed
from power_loop.runtime.stores.notes import Note
from power_loop.tools.base import Tool
from power_loop.tools.context import ToolContext
from power_loop.tools.function import tool

__all__ = ["note_tools"]

Count = Annotated[int, Field(ge=1, le=50)]


def note_tools(memory: NoteMemory) -> tuple[Tool, ...]:
    """The tools of a memory: write_note, search_notes and forget_note.

    Each call sees the notes of the person, agent and session that it belongs to, and no others. All
    are idempotent: a call that is made again after a crash comes to one note.
    """
    tools = _NoteTools(memory)
    return tools.write_note, tools.search_notes, tools.forget_note


class _NoteTools:
    def __init__(self, memory: NoteMemory) -> None:
        self._memory = memory

    @tool(idempotent=True)
    async def write_note(self, context: ToolContext[Any], text: str, note_id: str = "") -> str:
        """Writes down something worth remembering in later conversations: who the user is, what
        they prefer or decided, how something here works. Short, and clear by itself. What was
        written before is brought up by itself when it matters.

        Args:
            context: this call.
            text: the note, in one or a few sentences.
            note_id: an earlier note that this one replaces; leave it out for a new one.
        """
        memory, scope = self._memory, _scope(context)
        try:
            if not note_id:
                key = context.idempotency_key
                note = await memory.write(scope, text, run=context.run_id, key=key)
                return f"noted as {note.id}"
            if await memory.rewrite(scope, note_id, text):
                return f"{note_id} is rewritten"
        except NotesFull as full:
            raise ToolError(
                f"there are {full.limit} notes, as many as may be; forget one that matters less, "
                "or rewrite one"
            ) from full
        except UsageError as error:
            raise ToolError(str(error)) from error
        raise ToolError(f"there is no note {note_id!r}; search_notes tells their ids")

    @tool(idempotent=True)
    async def search_notes(
        self, context: ToolContext[Any], query: str = "", limit: Count = 10
    ) -> str:
        """Finds notes that share words with a query, best first, each behind its id.

        Args:
            context: this call.
            query: words, or a question; empty for the newest notes.
            limit: how many to show at most.
        """
        found = await self._memory.search(_scope(context), query, limit=limit)
        return framed(_shown(found), "notes") if found else "(no notes found)"

    @tool(idempotent=True)
    async def forget_note(self, context: ToolContext[Any], note_id: str) -> str:
        """Deletes a note for good: one that is wrong, outdated, or that the user wants forgotten.

        Args:
            context: this call.
            note_id: its id, as search_notes tells it.
        """
        if await self._memory.forget(_scope(context), note_id):
            return f"{note_id} is forgotten"
        return f"there is no note {note_id!r} (any more)"


def _scope(context: ToolContext[Any]) -> MemoryScope:
    return MemoryScope(session=context.session_id, user=context.user, agent=context.agent)


def _shown(notes: Iterable[Note]) -> str:
    return "\n".join(
        [f"{n.id}  {datetime.fromtimestamp(n.created, UTC):%Y-%m-%d}  {n.text}" for n in notes]
    )
