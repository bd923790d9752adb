"""The base of all errors of this package; `sealspace.errors` has them all."""

from typing import ClassVar


class SealspaceError(Exception):
    """Base of everything this package raises on purpose.

    Attributes:
        message: what was asked for, and why it was not done.
        hint: what a program does next.
        step: what a person at a command line does next; where nothing else is stated, the hint.
    """

    code: str = "sealspace"
    default_hint: ClassVar[str] = "the message says what is wrong; report it if it does not help"
    default_step: ClassVar[str | None] = None

    def __init__(self, message: str, *, hint: str | None = None, step: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if hint is None:
            hint, step = self.default_hint, step or self.default_step
        self.hint = hint
        self.step = step or hint

    def __str__(self) -> str:
        return f"{self.message}; next: {self.hint}" if self.hint else self.message
