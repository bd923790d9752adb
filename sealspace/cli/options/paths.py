"""Functions that read and write grant files and receipt files."""

import errno
import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from capabilities.capability_errors import CapabilityError
from capabilities.cids import parse_cid

from ...errors import InvalidInput, InvalidPortableDelegation
from ...printable import printable
from ...private_files import file_fault, make_file, read_bounded
from ...service.command_errors import FileUnreadable
from ...wire.portable import MAX_PORTABLE_BYTES, PortableDelegation, decode_bundle, encode_bundle
from ..terminal import tell


class NamedFile(click.Path):
    """A command line parameter that names an input file.

    Unreadable files are rejected early.
    """

    def __init__(self, **more: bool) -> None:
        super().__init__(path_type=Path, dir_okay=False, **more)

    # Any: as in click
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Check that an input file is readable, and return its path."""
        path = Path(value)
        if not (self.allow_dash and str(path) == "-"):
            require_readable(path)
        return path.resolve() if self.resolve_path else path


FILE = NamedFile()
FILE_OR_DASH = NamedFile(allow_dash=True)
NEW_FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
NEW_FOLDER = click.Path(path_type=Path, file_okay=False)
file_option = partial(click.option, type=FILE)


def read_named(path: Path, *, most_bytes: int) -> bytes:
    """Read a file, or standard input if the path is `-`.

    A longer file yields `most_bytes` + 1 bytes, so that the caller can tell.
    """
    try:
        if str(path) == "-":
            return sys.stdin.buffer.read(most_bytes + 1)
        return read_bounded(path, most_bytes=most_bytes)
    except OSError as error:
        raise _unreadable(path, error.errno) from None


def require_readable(path: Path, *, hint: str | None = None) -> None:
    """Check that a path is a readable file."""
    number: int | None = None
    try:
        # The file is not opened here: opening a named pipe would block, and reading would empty it.
        path.stat()
        if not os.access(path, os.R_OK):
            number = errno.EACCES
        elif path.is_dir():
            number = errno.EISDIR
    except OSError as error:
        number = error.errno
    except ValueError:  # for a path that no system has, such as one with a zero byte
        number = errno.EINVAL
    if number is not None:
        raise _unreadable(path, number, hint)


def _unreadable(path: Path, number: int | None, hint: str | None = None) -> FileUnreadable:
    reason, step = file_fault(path, number)
    return FileUnreadable(f"cannot read {printable(str(path))}: {reason}", hint=hint or step)


def require_free(path: Path) -> Path:
    """Check that a new file can be created at a path.

    The file must not exist yet, and its folder must exist.
    """
    if path.exists():
        reason = "the file already exists"
    elif not path.parent.is_dir():
        reason = "there is no such folder"
    else:
        return path
    raise InvalidInput(
        f"cannot create {path}: {reason}", hint="choose another place, or remove the file"
    )


grants_option = click.option(
    "--out",
    type=NEW_FILE,
    callback=lambda _context, _option, path: path and require_free(path),
    help="Write to this new file, mode 0600.",
)


def write_grants(
    path: Path, portables: Sequence[PortableDelegation], use: str = "grant accept"
) -> None:
    """Write grants to a new file.

    The file has mode 0600. A message says with which command the recipient uses the grants.
    """
    make_file(path, encode_bundle(portables) + b"\n")
    tell(f"wrote {path} for the recipient, who runs: sealspace {use} {path.name}")


def make_receipt_folder(folder: Path) -> None:
    """Create the folders for key-release receipts and their documents."""
    for name in ("receipts", "documents"):
        (folder / name).mkdir(parents=True, exist_ok=True)


def keep_receipt(folder: Path, receipt: bytes, documents: Mapping[bytes, bytes]) -> None:
    """Store a key-release receipt and the documents that it references.

    File names are SHA-256 hashes.
    """
    (folder / "receipts" / f"{hashlib.sha256(receipt).hexdigest()}.json").write_bytes(receipt)
    for digest, document in documents.items():
        (folder / "documents" / digest.hex()).write_bytes(document)


def read_grants(path: Path) -> tuple[PortableDelegation, ...]:
    """Read the grants in a file.

    Their signatures are not verified.
    """
    try:
        return decode_bundle(read_named(path, most_bytes=MAX_PORTABLE_BYTES).strip())
    except InvalidPortableDelegation as error:
        raise InvalidPortableDelegation(
            f"{path} does not contain a grant: {error.message}",
            hint="use a file that `sealspace grant create` wrote",
        ) from None


def grants_named(text: str) -> tuple[PortableDelegation, ...] | None:
    """Read the grants in a file.

    Returns None if `text` is the id of a grant instead of a file name.
    """
    if (path := Path(text)).is_file():
        return read_grants(path)
    try:
        parse_cid(text)  # raises if it is not the id of a grant
    except CapabilityError:
        raise InvalidInput(
            f"{printable(text, most=100)} is neither a file nor the id of a grant",
            hint="list the ids: sealspace grant list",
        ) from None
    return None
