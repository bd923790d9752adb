"""Files that only this program's user can read, written whole and durable, read with a bound.

A file in a folder of somebody else's is untrusted: a link is not followed, what is no ordinary file
is not opened, and no more is read than the bound.

Example:
    replace_file(folder / "backend.json", data)
    data = read_file(folder / "backend.json", most_bytes=1024)
"""

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .errors import SealspaceError

DRAFTS: Final = ".*.new"
"""Pattern of the files that are written first; a crash leaves them behind."""


def read_file(path: Path, *, most_bytes: int) -> bytes:
    """Return a file's contents."""
    # Without waiting: a pipe in place of a file would never answer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        found = os.fstat(stream.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(0, "no ordinary file")
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise OSError(0, "open to others")
        data = stream.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise OSError(0, f"longer than {most_bytes} bytes")
    return data


def read_setting(path: Path, what: str, refused: type[SealspaceError], *, most_bytes: int) -> bytes:
    """Return the content of a file that a person named, one byte over the bound at most.

    Whoever runs the program decides about the file's mode and owner; `refused` is raised if it
    cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return stream.read(most_bytes + 1)
    except OSError as error:
        reason = error.strerror or "unreadable"
        raise refused(f"cannot read the {what} {path}: {reason}", hint=f"ls -l {path}") from None


def replace_file(path: Path, data: bytes) -> None:
    """Write a file in place of what was there, as a whole; durable when this returns.

    A link is replaced, and what it names stays as it is.
    """
    # A superuser may replace /dev/stdout, for everybody.
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "no ordinary file", str(path))
    with _draft(path, data) as draft:
        draft.replace(path)
    sync_folder(path.parent)


def make_file(path: Path, data: bytes) -> None:
    """Write a file that does not exist yet, as a whole; durable when this returns."""
    with _draft(path, data) as draft:
        # unlike a rename, it overwrites nothing: another process may make the same file
        os.link(draft, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _draft(path: Path, data: bytes) -> Iterator[Path]:
    """Write to a file of mode 0600 that nobody else writes to; it is gone when the block ends."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".new", dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        yield draft
    finally:
        draft.unlink(missing_ok=True)
