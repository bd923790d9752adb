"""Files that only the current user can read.

Writes are atomic. A file in a folder of another user is untrusted.
Symbolic links are not followed, only regular files are opened, and no more than the limit is read.

Example:
    replace_file(folder / "backend.json", data)
    data = read_file(folder / "backend.json", most_bytes=1024)
"""

import errno
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import SealspaceError
from .printable import printable

_Content = bytes | Iterable[bytes]
"""A file's content, all at once or piece by piece."""
_NOT_REGULAR = errno.ENODEV
"""Error number of `read_foreign` for pipes and devices."""
DRAFTS = ".*.new"
"""Pattern of the temporary files; a crash leaves them behind."""


def read_file(path: Path, *, most_bytes: int, denied: int = 0o077) -> bytes:
    """Read a private file.

    Raises OSError if it belongs to another user, if other users have one of the permissions
    `denied`, or if it is not a regular file.
    """
    # O_NONBLOCK: opening a named pipe would wait for ever. O_NOFOLLOW: a link could name any file.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "the path is not a regular file")
        if status.st_uid != os.geteuid():
            raise OSError(0, "the file belongs to another user")
        if stat.S_IMODE(status.st_mode) & denied:
            # Without the bits for reading, `denied` allows other users to read the file.
            deed = "access" if denied & 0o044 else "write to"
            raise OSError(0, f"other users can {deed} the file")
        data = stream.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise OSError(0, f"the file is longer than {most_bytes} bytes")
    return data


def read_bounded(path: Path, *, most_bytes: int) -> bytes:
    """Read a file.

    At most `most_bytes` + 1 bytes are read. The extra byte shows the caller that a file is longer
    than allowed.
    """
    with path.open("rb") as stream:
        return stream.read(most_bytes + 1)


def read_foreign(path: Path, *, most_bytes: int) -> bytes:
    """Read a file that somebody else made.

    At most `most_bytes` + 1 bytes are read, as in `read_bounded`. Links are followed. Raises
    OSError for anything but a regular file; opening a named pipe would wait for ever.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
        mode = os.fstat(stream.fileno()).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        if not stat.S_ISREG(mode):
            raise OSError(_NOT_REGULAR, "it is not a regular file")
        return stream.read(most_bytes + 1)


def read_setting(path: Path, what: str, refused: type[SealspaceError], *, most_bytes: int) -> bytes:
    """Read a file chosen by the user.

    At most `most_bytes` + 1 bytes are read, as in `read_bounded`.

    Mode and owner are not checked, because the user chose the file. `refused` is the error to
    raise.
    """
    try:
        return read_bounded(path, most_bytes=most_bytes)
    except OSError as error:
        reason, step = file_fault(path, error.errno)
        raise refused(f"cannot read the {what} {path}: {reason}", hint=step) from None


def file_fault(path: object, number: int | None) -> tuple[str, str]:
    """Return the reason of an operating system error about a path, and the next step."""
    step = f"ls -ld {printable(str(path))}"
    if number == _NOT_REGULAR:
        return "it is a pipe or a device, not a regular file", "save its contents to a file first"
    if number == errno.EISDIR:
        return "it is a folder", f"name a file in it: {printable(str(path))}/FILE"
    if number == errno.EEXIST:
        step = "choose another name"
    elif number == errno.ENOENT:
        with suppress(OSError):  # the current folder was deleted
            step = f"check the name and the folder (now in {Path.cwd()})"
    return os.strerror(number or errno.EIO).lower(), step


def read_key(path: Path, what: str, refused: type[SealspaceError], *, most_bytes: int) -> bytes:
    """Read a file with a key, which the user chose.

    At most `most_bytes` + 1 bytes are read, as in `read_bounded`.

    Raises:
        refused: other users can access the file.
        OSError: the file cannot be read.
    """
    with path.open("rb") as stream:
        # Check the open file, not its name: another file could take that name meanwhile.
        if stat.S_IMODE(os.fstat(stream.fileno()).st_mode) & 0o077:
            raise refused(f"other users can access the {what} {path}", hint=f"chmod 600 {path}")
        return stream.read(most_bytes + 1)


def replace_file(path: Path, data: _Content) -> None:
    """Write a file atomically.

    The file is durable when the call returns. An existing file is replaced. A symbolic link is
    replaced; its target stays as it is.
    """
    # For root, a rename onto /dev/stdout would replace the device for every process.
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "the path is not a regular file", str(path))
    with _write_draft(path, data) as draft:
        draft.replace(path)
    sync_folder(path.parent)


def make_file(path: Path, data: _Content) -> None:
    """Create a file atomically.

    The file is durable when the call returns. Raises FileExistsError if the file already exists.
    """
    with _write_draft(path, data) as draft:
        # A link fails if the file exists; a rename would overwrite another process's file.
        os.link(draft, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's directory entries to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _write_draft(path: Path, data: _Content) -> Iterator[Path]:
    """Write data to a temporary file.

    The file has mode 0600. It is deleted at the end of the `with` block.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".new", dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.writelines([data] if isinstance(data, bytes) else data)
            stream.flush()
            os.fsync(stream.fileno())
        yield draft
    finally:
        draft.unlink(missing_ok=True)
