"""What can be wrong with an attachment."""

from __future__ import annotations

from llm_client.errors import CallerError

__all__ = ["AttachmentTooLarge", "AttachmentUnreadable"]


class AttachmentTooLarge(CallerError):
    """An attachment is beyond a limit, and cannot be made to fit.

    Attributes:
        name: what it is called, or what it is.
        size: how large it is, in the unit that the message names.
        limit: how large it may be.
    """

    def __init__(self, message: str, *, name: str, size: int, limit: int) -> None:
        super().__init__(message)
        self.name = name
        self.size = size
        self.limit = limit


class AttachmentUnreadable(CallerError):
    """An attachment cannot be read, is empty, or is not what it is said to be."""
