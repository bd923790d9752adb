"""The root secret: every key of the node derives from it, so it is read once and shown never.

In order: the environment (base64url without padding), a file of raw bytes, the file `secret` in the data folder, which
the first start makes with mode 0600. It is made only for an empty folder: a store whose secret is lost must not be
opened with a new one.
"""

import os
import stat
from pathlib import Path

from libipld import decode_multibase

from capabilities.ambient import Entropy

from .config import Config
from .errors import SecretUnusable

MIN_SECRET_BYTES = 32
MAX_SECRET_BYTES = 4096
SECRET_FILE_NAME = "secret"  # noqa: S105  # a file name
STORE_FOLDER_NAME = "store"


def load_root_secret(config: Config, entropy: Entropy) -> bytes:
    """Return the root secret, and make it on the first start.

    Args:
        config: says where it comes from.
        entropy: makes a new one.

    Returns:
        32 bytes or more.

    Raises:
        SecretUnusable: unreadable, too short or too long, not base64url, readable by others, or lost.
    """
    if config.secret.value is not None:
        return _bounded(_from_text(config.secret.value), "secret.value")
    if config.secret.file is not None:
        return _from_file(Path(config.secret.file))
    path = config.data / SECRET_FILE_NAME
    if path.exists():
        _refuse_open_file(path)
        return _from_file(path)
    if (config.data / STORE_FOLDER_NAME).exists():
        raise SecretUnusable(
            f"the data folder {config.data} holds a store, but its secret is missing",
            hint=f"put the store's secret back as {path} with mode 0600, or name it with --secret-file",
        )
    return _make(path, entropy)


def _from_text(text: str) -> bytes:
    try:
        return bytes(decode_multibase("u" + text)[1])  # strict: no padding, no spare bits, no other alphabet
    except ValueError:
        raise SecretUnusable(
            "secret.value is not base64url without padding",
            hint="make one: head -c 32 /dev/urandom | basenc --base64url | tr -d '='",
        ) from None


def _from_file(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            secret = stream.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        reason = error.strerror or "unreadable"
        raise SecretUnusable(f"cannot read the secret file {path}: {reason}", hint=f"ls -l {path}") from None
    return _bounded(secret, str(path))


def _bounded(secret: bytes, source: str) -> bytes:
    if not MIN_SECRET_BYTES <= len(secret) <= MAX_SECRET_BYTES:
        raise SecretUnusable(
            f"the root secret from {source} has {len(secret)} bytes, not {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES}",
            hint="make one: head -c 32 /dev/urandom > secret && chmod 600 secret",
        )
    return secret


def _refuse_open_file(path: Path) -> None:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise SecretUnusable(f"the secret file {path} is open to others", hint=f"chmod 600 {path}")


def _make(path: Path, entropy: Entropy) -> bytes:
    """Write a new secret so that it is whole and durable before anything is derived from it."""
    secret = entropy.token(MIN_SECRET_BYTES)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(secret)
            stream.flush()
            os.fsync(stream.fileno())
        _sync_folder(path.parent)
    except OSError as error:
        reason = error.strerror or "cannot be written"
        raise SecretUnusable(f"cannot make the secret file {path}: {reason}", hint=f"ls -ld {path.parent}") from None
    return secret


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
