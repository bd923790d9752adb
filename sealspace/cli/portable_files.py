"""Grants as files: written for their recipient, read from whoever gave one."""

from collections.abc import Sequence
from pathlib import Path

from capabilities.cids import parse_cid
from capabilities.errors import CapabilityError

from ..errors import InvalidInput, InvalidPortableDelegation
from ..printable import printable
from ..private_files import make_file
from ..wire.portable import MAX_PORTABLE_BYTES, PortableDelegation, decode_bundle, encode_bundle
from .paths import read_named


def require_free(path: Path) -> None:
    """Refuse a name that is taken before anything is signed for it.

    Raises:
        InvalidInput: there is a file of this name, or no folder for it.
    """
    if path.exists() or not path.parent.is_dir():
        what = "is there already" if path.exists() else "has no folder to be in"
        raise InvalidInput(f"{path} {what}", hint="name another file with --out")


def write_grants(path: Path, portables: Sequence[PortableDelegation]) -> None:
    """Write grants for their recipient: a new file, mode 0600."""
    make_file(path, encode_bundle(portables) + b"\n")


def read_grants(path: Path) -> tuple[PortableDelegation, ...]:
    """Read the grants, one or several, that somebody gave in a file; nothing of them is verified.

    Raises:
        InvalidPortableDelegation: the file holds something else.
        FileUnreadable.
    """
    try:
        return decode_bundle(read_named(path, most_bytes=MAX_PORTABLE_BYTES).strip())
    except InvalidPortableDelegation as error:
        raise InvalidPortableDelegation(
            f"{path} holds no grant: {error.message}", hint="a grant is what `sealspace grant create` writes"
        ) from None


def checked_cid(text: str) -> str:
    """Return the id of a grant as it was written.

    Raises:
        InvalidInput: it is none, and there is no file of that name either.
    """
    try:
        parse_cid(text)
    except CapabilityError:
        raise InvalidInput(
            f"{printable(text, most=100)} is neither a file nor the id of a grant",
            hint="sealspace grant list shows the ids",
        ) from None
    return text
