"""What the node refuses a request with: one family of errors, each with a stable code.

A code says what went wrong and nothing about HTTP. Status, title and hint of every code, of these errors and of those
that the packages below raise, are in one table: `node/http/messages/refusals.py`.

Example:
    class SpaceExists(Refusal):
        code = "space-exists"
"""

from typing import ClassVar


class Refusal(Exception):
    """Base of what ends a request; one class for each code.

    Attributes:
        code: stable name in kebab-case; a key of the table.
        hint: what this caller can do, where more can be said than the table does.
        retry_after_s: whole seconds after which another try may succeed; None: what the table says.
    """

    code: ClassVar[str]

    def __init__(self, message: str = "", *, hint: str | None = None, retry_after_s: int | None = None) -> None:
        """Take what happened, as a wire answer may show it; it names bounds and what the caller sent, never secrets."""
        super().__init__(message or self.code)
        self.hint = hint
        self.retry_after_s = retry_after_s
