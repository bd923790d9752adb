"""Shares that a person gives to a command: files, lines of standard input, or typed words."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ...documents.recovery_shares import (
    MAX_PASSPHRASE_CHARS,
    MAX_TYPED_CHARS,
    MOST_SHARES,
    parse_share,
)
from ...documents.recovery_sheets import MAX_SHEET_BYTES, OwnerRecovery, parse_sheet
from ...errors import InvalidInput, InvalidShare, SharesMissing
from ...printable import printable
from ...private_files import file_fault, read_key
from ...service.command_errors import FileUnreadable
from ..terminal import ask_hidden, interruptible, is_interactive, print_error, tell, what_happened
from .paths import FILE_OR_DASH, file_option, read_named

passphrase_option = file_option(
    "--passphrase-file",
    help="Private file whose first line is the passphrase of the shares.",
)
files_argument = click.argument(
    "files", nargs=-1, required=True, type=FILE_OR_DASH, metavar="FILE… | -"
)
owner_option = click.option(
    "--owner", metavar="DID", help="The owner's DID. Default: the one that the files state."
)


def read_shares(files: Sequence[Path]) -> OwnerRecovery:
    """Read shares from files; `-` is standard input.

    On a terminal, the person types them, and mistyped ones again.

    Raises:
        InvalidShare: a share is not valid, or does not fit the shares before it.
        SharesMissing: there are too few.
    """
    if len(files) > MOST_SHARES:
        raise InvalidInput(
            f"{len(files)} files were given", hint=f"a set has at most {MOST_SHARES} shares"
        )
    recovery = OwnerRecovery()
    for path in files:
        if str(path) != "-":
            _add_share_in_file(recovery, path)
    if any(str(path) == "-" for path in files):
        if is_interactive():
            _ask_for_shares(recovery)
        else:
            _read_shares_from_input(recovery)
    if recovery.missing > 0:
        raise _error_for_missing(recovery)
    return recovery


def _error_for_missing(recovery: OwnerRecovery) -> SharesMissing:
    """Return the error for too few shares, which says how many are missing."""
    given_count = len(recovery)
    if given_count == 0:
        return SharesMissing(
            "no share was given",
            missing=recovery.missing,
            hint="name the files of the shares, or use `-` in a terminal to type their words",
        )
    noun = "share is" if recovery.missing == 1 else "shares are"
    return SharesMissing(
        f"{given_count} of {given_count + recovery.missing} needed shares were given;"
        f" {recovery.missing} more {noun} missing",
        missing=recovery.missing,
        hint="add the files of other shares, or `-` in a terminal to type their words",
    )


def _add_share_in_file(recovery: OwnerRecovery, path: Path) -> None:
    """Add the share in a file; an error names the file."""
    name = printable(str(path))
    data = read_named(path, most_bytes=MAX_SHEET_BYTES)
    try:
        sheet = parse_sheet(data)
    except InvalidShare as error:
        raise InvalidShare(f"{name}: {error.message}", hint=error.hint) from None
    recovery.add_sheet(sheet, name=name)


def _ask_for_shares(recovery: OwnerRecovery) -> None:
    """Ask for shares until there are enough. What is typed is not shown."""
    tell("type the words of one share after the other; they are not shown")
    while recovery.missing > 0:
        position = len(recovery) + 1
        label = f"share {position}"
        if len(recovery) > 0:
            label += f" of {len(recovery) + recovery.missing}"
        typed = ask_hidden(label)
        try:
            recovery.add_typed(parse_share(typed), name=f"typed share {position}")
        except InvalidShare as error:
            print_error(what_happened(error), error.hint)


def _read_shares_from_input(recovery: OwnerRecovery) -> None:
    """Read one share from each line of standard input; an error names the line."""
    for number in range(1, MOST_SHARES + 1):
        line = sys.stdin.buffer.readline(MAX_TYPED_CHARS + 1)
        if not line:
            break
        # A word with other characters is not in the list of words.
        text = line.decode("ascii", "replace")
        name = f"line {number} of standard input"
        try:
            recovery.add_typed(parse_share(text), name=name)
        except InvalidShare as error:
            if error.message.startswith(name):  # `add_typed` names the line itself
                raise
            raise InvalidShare(f"{name}: {error.message}", hint=error.hint) from None


# --- what is asked beside the shares --------------------------------------------------------------


def read_passphrase(path: Path) -> str:
    """Read the first line of a private file."""
    try:
        data = read_key(
            path, "passphrase file", FileUnreadable, most_bytes=MAX_PASSPHRASE_CHARS + 2
        )
    except OSError as error:
        reason, step = file_fault(path, error.errno)
        raise FileUnreadable(f"cannot read {path}: {reason}", hint=step) from None
    line = data.split(b"\n")[0].removesuffix(b"\r")
    # Other characters are refused where the passphrase is used.
    passphrase = line.decode("ascii", "replace")
    if not passphrase:
        raise InvalidInput(
            f"the first line of {path} is empty", hint="write the passphrase into the first line"
        )
    return passphrase


def passphrase_for(recovery: OwnerRecovery, path: Path | None) -> str:
    """Return the passphrase of shares, which is empty if they need none."""
    if path is not None:
        return read_passphrase(path)
    if recovery.sheet is None or not recovery.sheet.has_passphrase:
        return ""
    _require_terminal("the shares need a passphrase", hint="add --passphrase-file FILE")
    return ask_hidden("passphrase of the shares")


def owner_for(recovery: OwnerRecovery, owner: str | None, *, option: str = "--owner") -> str:
    """Return the DID of the owner whose key is recovered.

    Args:
        recovery: the shares. Those in files state the DID.
        owner: the value of the option for the DID, or None.
        option: the name of this option, for the message.
    Raises:
        InvalidInput: the user has to be asked, and there is no terminal.
    """
    if owner is not None:
        return owner
    if recovery.sheet is not None:
        return recovery.sheet.owner
    _require_terminal(
        "typed words do not state the owner",
        hint=f"add {option} DID, which is written beside the words",
    )
    return _ask_visibly("owner's DID")


def node_for(recovery: OwnerRecovery, node: str | None) -> str:
    """Return the URL of the node to sign in to.

    The files of the shares state it. This is trusted only if the files alone give the key: then
    anyone who could change all of them has the key already (RV12).

    Raises:
        InvalidInput: the user has to be asked, and there is no terminal.
    """
    if node is not None:
        return node
    if recovery.sheet is not None and not recovery.has_typed:
        return recovery.sheet.node
    _require_terminal(
        "not all shares state the node",
        hint="add --node URL, which is written beside the words",
    )
    return _ask_visibly("node's address")


def _require_terminal(missing: str, *, hint: str) -> None:
    """Refuse to go on without a terminal, if the user has to type what is missing.

    `missing` begins the message, and `hint` says with which option it can be given instead.
    """
    if not is_interactive():
        raise InvalidInput(f"{missing}, and this command is not running in a terminal", hint=hint)


def _ask_visibly(label: str) -> str:
    """Ask for a line that is shown while it is typed."""
    with interruptible():
        # Any: as in click
        typed: Any = click.prompt(label, err=True)
    return str(typed).strip()
