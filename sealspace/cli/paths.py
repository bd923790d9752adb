"""Kinds of paths among options and arguments; a file that is named and cannot be read ends every command alike."""

import os
import sys
from pathlib import Path
from typing import Any, Final

import click

from ..printable import printable
from .errors import FileUnreadable


class NamedFile(click.Path):
    """A file that a command reads; that it can be read is found out before the command does anything.

    Args:
        more: of click's type; `allow_dash` for standard input, `resolve_path` where the path is remembered.
    """

    def __init__(self, **more: bool) -> None:
        super().__init__(path_type=Path, dir_okay=False, **more)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:  # Any: as in click
        """Return the path."""
        path = Path(value)
        if not (self.allow_dash and str(path) == "-"):
            require_readable(path)
        return path.resolve() if self.resolve_path else path


FILE: Final = NamedFile()
FILE_OR_DASH: Final = NamedFile(allow_dash=True)
NEW_FILE: Final = click.Path(path_type=Path, dir_okay=False)
FOLDER: Final = click.Path(path_type=Path, exists=True, file_okay=False)
NEW_FOLDER: Final = click.Path(path_type=Path, file_okay=False)


def read_named(path: Path, *, most_bytes: int) -> bytes:
    """Return a file's bytes, and one more than `most_bytes` where there are more; `-` is standard input.

    Raises:
        FileUnreadable.
    """
    try:
        if str(path) == "-":
            return sys.stdin.buffer.read(most_bytes + 1)
        with path.open("rb") as stream:
            return stream.read(most_bytes + 1)
    except OSError as error:
        raise _unreadable(path, error.strerror or "unreadable") from None


def require_readable(path: Path, *, hint: str | None = None) -> None:
    """Refuse a file that is absent, a folder, or not to be read by this user; it is not opened: it may be a pipe.

    Raises:
        FileUnreadable.
    """
    try:
        path.stat()
        reason = "it is a folder" if path.is_dir() else None if os.access(path, os.R_OK) else "permission denied"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no file has such a name"
    if reason is not None:
        raise _unreadable(path, reason, hint)


def _unreadable(path: Path, reason: str, hint: str | None = None) -> FileUnreadable:
    named = printable(str(path))
    return FileUnreadable(f"cannot read {named}: {reason.lower()}", hint=hint or f"ls -ld {named}")
