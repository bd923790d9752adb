"""Files that only this program's user can read, written whole and durable, read with a bound.

Where a folder belongs to the host of a trust domain, what is in it is untrusted: a link is not followed, what is no
ordinary file is not opened, and no more is read than the bound.

Example:
    replace_file(folder / "backend.json", data)
    data = read_file(folder / "backend.json", most_bytes=1024)
"""

import os
import stat
import tempfile
from pathlib import Path


def read_file(path: Path, *, most_bytes: int) -> bytes:
    """Return a file's contents.

    Raises:
        FileNotFoundError: absent.
        OSError: no ordinary file of this user's that others cannot open, or longer than the bound.
    """
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


def replace_file(path: Path, data: bytes) -> None:
    """Write a file in place of what was there, as a whole; durable when this returns. One writer at a time."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)  # left by a crash
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    _write(os.open(draft, flags, 0o600), data)
    draft.replace(path)
    sync_folder(path.parent)


def make_file(path: Path, data: bytes) -> None:
    """Write a file that does not exist yet, as a whole; durable when this returns.

    Raises:
        FileExistsError: it exists; it stays as it is.
        OSError: it cannot be written.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".new", dir=path.parent)  # of mode 0600
    draft = Path(name)
    try:
        _write(descriptor, data)
        os.link(draft, path)  # unlike a rename, it overwrites nothing: another process may make the same file
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: bytes) -> None:
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
