"""Kinds of paths of options and arguments; files with grants and receipts. Unreadable files end
each command alike."""

import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from capabilities.capability_errors import CapabilityError
from capabilities.cids import parse_cid

from ..errors import InvalidInput, InvalidPortableDelegation
from ..printable import printable
from ..private_files import make_file
from ..wire.portable import MAX_PORTABLE_BYTES, PortableDelegation, decode_bundle, encode_bundle
from .command_errors import FileUnreadable
from .terminal import words


class NamedFile(click.Path):
    """A file that a command reads; that it can be read is found out before the command does
    anything."""

    def __init__(self, **more: bool) -> None:
        super().__init__(path_type=Path, dir_okay=False, **more)

    # Any: as in click
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
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
    """Return a file's bytes, and one more than `most_bytes` where there are more; `-` is standard
    input."""
    try:
        if str(path) == "-":
            return sys.stdin.buffer.read(most_bytes + 1)
        with path.open("rb") as stream:
            return stream.read(most_bytes + 1)
    except OSError as error:
        raise _unreadable(path, error.strerror or "unreadable") from None


def require_readable(path: Path, *, hint: str | None = None) -> None:
    """Refuse a file that is absent, a folder, or not to be read by this user; it is not opened: it
    may be a pipe."""
    try:
        path.stat()
        reason = (
            "it is a folder"
            if path.is_dir()
            else None
            if os.access(path, os.R_OK)
            else "permission denied"
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no file has such a name"
    if reason is not None:
        raise _unreadable(path, reason, hint)


def _unreadable(path: Path, reason: str, hint: str | None = None) -> FileUnreadable:
    named = printable(str(path))
    return FileUnreadable(f"cannot read {named}: {reason.lower()}", hint=hint or f"ls -ld {named}")


def require_free(path: Path) -> None:
    """Refuse a name that is taken before anything is signed for it."""
    if path.exists() or not path.parent.is_dir():
        what = "is there already" if path.exists() else "has no folder to be in"
        raise InvalidInput(f"{path} {what}", hint="name another file with --out")


def write_grants(path: Path, portables: Sequence[PortableDelegation]) -> None:
    """Write grants for their recipient, a new file, mode 0600, and say how they are used."""
    make_file(path, encode_bundle(portables) + b"\n")
    words(f"written to {path}, for the recipient: sealspace grant accept {path.name}")


def make_receipt_folder(folder: Path) -> None:
    """Make a folder for receipts and their documents, also if there turn out to be none."""
    for made in ("receipts", "documents"):
        (folder / made).mkdir(parents=True, exist_ok=True)


def keep_receipt(folder: Path, receipt: bytes, documents: Mapping[bytes, bytes]) -> None:
    """Write a receipt and its documents into their folder, by digest: receipts/<SHA-256>.json,
    documents/<SHA-256>."""
    (folder / "receipts" / f"{hashlib.sha256(receipt).hexdigest()}.json").write_bytes(receipt)
    for digest, document in documents.items():
        (folder / "documents" / digest.hex()).write_bytes(document)


def read_grants(path: Path) -> tuple[PortableDelegation, ...]:
    """Read the grants, one or several, that somebody gave in a file; nothing of them is
    verified."""
    try:
        return decode_bundle(read_named(path, most_bytes=MAX_PORTABLE_BYTES).strip())
    except InvalidPortableDelegation as error:
        raise InvalidPortableDelegation(
            f"{path} holds no grant: {error.message}",
            hint="a grant is what `sealspace grant create` writes",
        ) from None


def grants_named(text: str) -> tuple[PortableDelegation, ...] | None:
    """Read the grants in the file of that name; None where there is none, and the text is the id of
    a grant."""
    if (path := Path(text)).is_file():
        return read_grants(path)
    try:
        parse_cid(text)
    except CapabilityError:
        raise InvalidInput(
            f"{printable(text, most=100)} is neither a file nor the id of a grant",
            hint="sealspace grant list shows the ids",
        ) from None
    return None
