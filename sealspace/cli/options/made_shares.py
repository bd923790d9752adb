"""Shares that a command makes of a key, and the files with them (RV3, RV10)."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from yarl import URL

from capabilities.clock_and_entropy import SystemClock, time_text
from capabilities.frozen import frozen

from ...documents.recovery_shares import LEAST_THRESHOLD, MOST_SHARES, split_key
from ...documents.recovery_sheets import (
    OwnerRecovery,
    RecoverySheet,
    format_sheet,
    parse_sheet,
)
from ...private_files import file_fault, make_file
from ...service.command_errors import AlreadyThere, KeyFileUnusable
from .paths import NEW_FOLDER

_Option = Callable[[Callable[..., Any]], Callable[..., Any]]  # Any: as in click

shares_option: _Option = click.option(
    "--shares",
    type=click.IntRange(LEAST_THRESHOLD, MOST_SHARES),
    default=5,
    show_default=True,
    help="How many shares to make.",
)
threshold_option: _Option = click.option(
    "--threshold",
    type=click.IntRange(LEAST_THRESHOLD, MOST_SHARES),
    default=3,
    show_default=True,
    help="How many of them give the key.",
)


def folder_option(*, required: bool, more: str = "") -> _Option:
    """Return the option for the folder of the shares. `more` is added to its help."""
    return click.option(
        "--out",
        "folder",
        type=NEW_FOLDER,
        required=required,
        help=f"New or empty folder for the shares, one file each, mode 0600.{more}",
    )


@frozen
class WrittenShares:
    """Shares that are in files.

    Attributes:
        sheets: the content of the files.
        texts: the texts of the files, which are secret.
        paths: paths of the files.
    """

    sheets: tuple[RecoverySheet, ...]
    texts: tuple[str, ...]
    paths: tuple[str, ...]

    def __repr__(self) -> str:
        return f"WrittenShares({len(self.paths)} files)"


def require_possible(shares: int, threshold: int) -> None:
    """Refuse a threshold above the number of shares."""
    if threshold > shares:
        raise click.UsageError(f"--threshold {threshold} is more than --shares {shares}")


def require_empty(folder: Path) -> None:
    """Refuse a folder that contains something."""
    if not is_empty(folder):
        raise AlreadyThere(f"the folder {folder} is not empty", hint="name a new folder with --out")


def is_empty(folder: Path) -> bool:
    """Return whether a folder does not exist, or contains nothing."""
    try:
        return not folder.exists() or not any(folder.iterdir())
    except OSError as error:
        raise _error_for_folder(folder, error) from None


def write_shares(
    folder: Path,
    seed: bytes,
    *,
    owner: str,
    node: str,
    shares: int,
    threshold: int,
    passphrase: str,
    is_team: bool = False,
) -> WrittenShares:
    """Split a key into shares, and write each to a file of its own.

    Args:
        folder: a new or empty folder.
        seed: the key, 32 bytes.
        owner: DID of the wallet with this key.
        node: address of the owner's node.
        shares: how many are made.
        threshold: how many of them give the key.
        passphrase: needed beside the shares; "" for none.
        is_team: whether the owner is a team.
    Raises:
        KeyFileUnusable: a file cannot be written. No file is left then.
    """
    created = time_text(SystemClock.now())
    sheets: list[RecoverySheet] = []
    texts: dict[str, str] = {}  # by the name of the file
    for share in split_key(seed, threshold=threshold, shares=shares, passphrase=passphrase):
        sheet = RecoverySheet(
            share=share,
            shares=shares,
            owner=owner,
            node=str(URL(node)),  # in ASCII, as sheets are: people type the address
            created=created,
            has_passphrase=bool(passphrase),
        )
        sheets.append(sheet)
        texts[f"share-{share.number}-of-{shares}.txt"] = format_sheet(sheet, is_team=is_team)
    _check_recovery(texts, owner, passphrase)
    _write_all(folder, {name: text.encode("ascii") for name, text in texts.items()})
    return WrittenShares(
        sheets=tuple(sheets),
        texts=tuple(texts.values()),
        paths=tuple([str(folder / name) for name in texts]),
    )


def _check_recovery(texts: Mapping[str, str], owner: str, passphrase: str) -> None:
    """Check that the texts of all files give the owner's key (RV3).

    This is checked before any file is written.
    """
    recovery = OwnerRecovery()
    for name, text in texts.items():
        recovery.add_sheet(parse_sheet(text.encode("ascii")), name=name)
    recovery.key(owner=owner, passphrase=passphrase)  # raises if they give another key


def _write_all(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write all files, or none (RV10)."""
    written: list[Path] = []
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        for name, data in files.items():
            make_file(folder / name, data)
            written.append(folder / name)
    except OSError as error:
        # An incomplete set could be taken for a complete one.
        for path in written:
            with suppress(OSError):
                path.unlink()
        raise _error_for_folder(folder, error) from None


def _error_for_folder(folder: Path, error: OSError) -> KeyFileUnusable:
    """Return the error for a folder that cannot be read or written."""
    reason, step = file_fault(folder, error.errno)
    return KeyFileUnusable(f"cannot write shares to {folder}: {reason}", hint=step)
