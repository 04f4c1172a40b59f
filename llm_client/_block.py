"""A streamed answer is a block to enter first, because something has to close its connection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import NoReturn

from llm_client.errors import CallerError
from llm_client.stream import StreamEvent

__all__ = ["Block", "not_entered"]


def not_entered(call: str = "service.stream(request)") -> CallerError:
    """The error for reading what `call` gives without entering it."""
    return CallerError(
        "a streamed answer is read within its block, which closes the connection: write "
        f"`async with {call} as events:` and iterate over `events`"
    )


class Block(AbstractAsyncContextManager[AsyncIterator[StreamEvent]]):
    """The block `inner`, which says so if it is read without being entered."""

    __slots__ = ("_inner",)

    def __init__(self, inner: AbstractAsyncContextManager[AsyncIterator[StreamEvent]]) -> None:
        self._inner = inner

    async def __aenter__(self) -> AsyncIterator[StreamEvent]:
        return await self._inner.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._inner.__aexit__(kind, error, traceback)

    def __aiter__(self) -> NoReturn:
        raise not_entered()

    async def __anext__(self) -> NoReturn:
        raise not_entered()
