"""The base of all errors of this package; `sealspace.errors` has them all."""

from typing import ClassVar


class SealspaceError(Exception):
    """Base of everything this package raises on purpose."""

    code: ClassVar[str] = "sealspace"
    default_hint: ClassVar[str] = "the message says what is wrong; report it if it does not help"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = self.default_hint if hint is None else hint

    def __str__(self) -> str:
        return f"{self.message}; next: {self.hint}" if self.hint else self.message
