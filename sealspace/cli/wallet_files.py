"""Files that hold a wallet's private key: 64 hex digits, or a Web3 keystore under a password."""

import os
import stat
from pathlib import Path
from typing import Final

import click

from capabilities.errors import CapabilityError
from capabilities.signatures import WalletSigner

from ..errors import InvalidKeystore, WrongPassword
from ..private_files import make_file
from ..wallets import wallet_from_keystore
from .errors import KeyFileUnusable
from .terminal import watched

PASSWORD_VARIABLE: Final = "SEALSPACE_KEYSTORE_PASSWORD"  # noqa: S105  # the name of a variable
_MAX_KEY_FILE_BYTES: Final = 256


def read_wallet(path: Path) -> WalletSigner:
    """Read a wallet's private key: 64 hex digits, with or without `0x`."""
    try:
        with path.open("rb") as stream:
            # The mode of the file that is read, not of one that has its name a moment later.
            if stat.S_IMODE(os.fstat(stream.fileno()).st_mode) & 0o077:
                raise KeyFileUnusable(f"the key file {path} is open to others", hint=f"chmod 600 {path}")
            data = stream.read(_MAX_KEY_FILE_BYTES + 1)
    except OSError as error:
        reason = error.strerror or "unreadable"
        raise KeyFileUnusable(
            f"cannot read the wallet's key in {path}: {reason}",
            hint="add --new to make one, or name yours with --key-file FILE or --keystore FILE",
        ) from None
    try:
        return WalletSigner(bytes.fromhex(data.decode("ascii").strip().removeprefix("0x")))
    except (ValueError, CapabilityError):
        raise KeyFileUnusable(
            f"{path} holds no wallet's key",
            hint="put the private key there as 64 hex digits, or name a Web3 keystore with --keystore FILE",
        ) from None


def write_wallet(path: Path, secret: bytes) -> None:
    """Write a wallet's key, mode 0600, to a file that does not exist yet."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        make_file(path, secret.hex().encode() + b"\n")
    except FileExistsError:
        raise KeyFileUnusable(f"{path} is there already", hint="leave --new out to use it") from None
    except OSError as error:
        reason = error.strerror or "cannot be written"
        raise KeyFileUnusable(f"cannot make the key file {path}: {reason}", hint=f"ls -ld {path.parent}") from None


def open_keystore(path: Path) -> WalletSigner:
    """Open a Web3 keystore of version 3, with the password in the environment or typed."""
    password = os.environ.get(PASSWORD_VARIABLE)
    if password is None:
        if not watched():
            raise KeyFileUnusable(
                f"the keystore {path} needs its password, and nobody is here to type it",
                hint=f"set {PASSWORD_VARIABLE}",
            )
        password = click.prompt(f"password of {path.name}", hide_input=True, err=True)
    try:
        return wallet_from_keystore(path, password)
    except WrongPassword as error:
        raise KeyFileUnusable(f"the password does not open the keystore {path}", hint=error.hint) from None
    except InvalidKeystore as error:
        raise KeyFileUnusable(f"{path} is no keystore that can be opened: {error.message}", hint=error.hint) from None
    except OSError as error:
        reason = error.strerror or "unreadable"
        raise KeyFileUnusable(f"cannot read the keystore {path}: {reason}", hint=f"ls -l {path}") from None
