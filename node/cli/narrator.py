"""What `sealspace demo` prints: numbered steps, ticked when they hold, and below each what is worth seeing.

Example:
    with narrator.step("the owner signs in"):
        narrator.note(owner)
"""

import asyncio
import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from sealspace.errors import DecryptDenied, ReleaseRefused, SealspaceError


class StepFailed(Exception):
    """A step of the demo failed; the message says what was expected."""


class Narrator:
    """Prints the steps: number, description, tick; below it what is worth seeing. Never a secret."""

    def __init__(self) -> None:
        self.steps = 0
        self._marks = ("✓", "✗") if (sys.stdout.encoding or "").lower().startswith("utf") else ("ok", "FAILED")
        self._notes: list[str] = []

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Number a step, and tick it when the block ends without an error."""
        stop_if_asked()
        self.steps += 1
        self._notes.clear()
        head = f"{self.steps:>3}  {what}"
        click.echo(head, nl=False)
        try:
            yield
        except StepFailed:
            raise
        except (SealspaceError, OSError, TimeoutError) as exc:
            raise StepFailed(str(exc)) from exc
        click.echo(" " * max(1, 92 - len(head)) + click.style(self._marks[0], fg="green"))
        for note in self._notes:
            click.echo(click.style(f"       {note}", dim=True))

    def note(self, text: str) -> None:
        """Add a line below the step."""
        self._notes.append(text)

    def failed(self, error: StepFailed) -> None:
        """End the step that was begun."""
        click.echo(f"  {click.style(self._marks[1], fg='red')}\n       {error}")


def digest_of(secret: str | bytes) -> str:
    """Return the part of a secret that may be shown: the beginning of its SHA-256."""
    return f"sha256 {hashlib.sha256(secret.encode() if isinstance(secret, str) else secret).hexdigest()[:16]}…"


def require(holds: bool, otherwise: str) -> None:
    """End the demo unless a condition holds."""
    if not holds:
        raise StepFailed(otherwise)


@contextmanager
def refused(narrator: Narrator, kind: type[SealspaceError], *, reason: str | None = None) -> Iterator[None]:
    """Expect that the block is refused, by this kind of error and, for the release gate, with this reason."""
    try:
        yield
    except DecryptDenied as exc:
        inner = exc.refusal
        require(isinstance(inner, kind), f"refused for another cause: {inner}")
        if isinstance(inner, ReleaseRefused):
            require(reason in (None, inner.reason), f"refused for another reason: {inner.reason}")
        narrator.note(f"refused: {inner.text}")
    except kind as exc:
        narrator.note(f"refused: {getattr(exc, 'text', '') or exc}")
    else:
        raise StepFailed("it was not refused")


def stop_if_asked() -> None:
    """End the story if that was requested: a wait with a time limit may mistake a cancellation for its own."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
