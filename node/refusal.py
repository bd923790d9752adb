"""The errors with which the node refuses a request: one family, each with a stable code.

A code says what went wrong and nothing about HTTP. Status, title and hint of every code, of these errors and of those
that the packages below raise, are in one table: `node/http/messages/refusals.py`.
"""

from typing import ClassVar


class Refusal(Exception):
    """Base class of the errors that end a request; one class for each code."""

    code: ClassVar[str]

    def __init__(self, message: str = "", *, hint: str | None = None, retry_after_s: int | None = None) -> None:
        """Set the message, which a wire answer may show; it names limits and what the caller sent, never secrets."""
        super().__init__(message or self.code)
        self.hint = hint
        self.retry_after_s = retry_after_s
