"""The root secret, from which every key of the node is derived.

The secret is read once and never printed.

Its source is the first of these that is set: the environment (base64url without padding), a file of
raw bytes, the platform's key service, the file `secret` in the data folder. The first startup
creates that file with mode 0600, but only in an empty folder: a store whose secret is lost must not
be opened with a new one.
"""

import stat
from collections.abc import Callable
from pathlib import Path

from capabilities.clock_and_entropy import Entropy
from capabilities.strict_base64 import decode_url
from sealspace.documents.node_evidence import SecretOrigin
from sealspace.private_files import make_file, read_setting
from sealspace.service.command_errors import SecretUnusable, StoreMisused
from spaces.space_errors import StoreFull, StoreUnavailable
from spaces.store.durable import NO_SPACE
from spaces.store.lmdb.engine import refuse_restoring
from tee_backend.evidence.evidence_errors import EvidenceSourceError, SourceUnavailable

from ..config.tree import Config
from .own_platform import key_source

MIN_SECRET_BYTES = 32
MAX_SECRET_BYTES = 4096
SECRET_FILE_NAME = "secret"  # noqa: S105  # a file name
STORE_FOLDER_NAME = "store"


def load_root_secret(
    config: Config, entropy: Entropy | None, *, on_made: Callable[[Path], None] | None = None
) -> bytes:
    """Load the node's root secret, or create it on the first start.

    Args:
        config: names the source of the secret.
        entropy: the random source for a new secret. None means that no secret may be made, because
            there is already a store, perhaps in a database.
        on_made: called with the path of a new secret's file, after the file is durable.

    Returns:
        32 bytes or more.

    Raises:
        SecretUnusable: unreadable, too short or too long, not base64url, readable by other users,
            or lost; or the platform does not provide it.
        StoreMisused: a restore into the data folder was interrupted, so no secret is made there
            (BK4).
    """
    if config.secret.value is not None:
        configured = decode_url(config.secret.value)
        if configured is None:
            raise SecretUnusable(
                "secret.value is not base64url without padding", hint=_repair_hint(config)
            )
        return _bounded(configured, "secret.value", config)
    if config.secret.file is not None:
        return _from_file(Path(config.secret.file), config)
    if config.secret.platform:
        return _from_platform(config)
    path = config.data / SECRET_FILE_NAME
    if path.exists():
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise SecretUnusable(
                f"other users can access the secret file {path.absolute()}",
                hint=f"chmod 600 {path.absolute()}",
            )
        return _from_file(path, config)
    if (config.data / STORE_FOLDER_NAME).exists() or entropy is None:
        raise SecretUnusable(
            f"the store's root secret is missing: {path.absolute()} does not exist",
            hint=f"copy the store's secret back to {path.absolute()} with mode 0600, or name the"
            " secret's file with --secret-file",
        )
    try:
        # A new secret would not fit the store that is being restored (BK4).
        refuse_restoring(config.data)
    except StoreUnavailable as error:
        raise StoreMisused(
            f"no root secret was created: {error}", hint=f"ls -la {config.data}"
        ) from None
    secret = _make(path, entropy)
    if on_made is not None:
        on_made(path.absolute())
    return secret


def secret_origin(config: Config) -> SecretOrigin:
    """Return the source of the root secret: platform or operator (AT42).

    A secret from the platform is known only to this TEE.
    """
    named = config.secret.value is not None or config.secret.file is not None
    return "platform" if config.secret.platform and not named else "operator"


def wrong_secret_hint(config: Config, node_did: str) -> str:
    """Return a hint for operators whose root secret belongs to another store."""
    if secret_origin(config) == "platform":
        return (
            "start with the application (app id), key provider and secret.platform_path that the"
            " store was made with"
        )
    return (
        f"use the file with the root secret of {node_did}: serve --secret-file FILE, or the setting"
        " secret.file"
    )


def _from_platform(config: Config) -> bytes:
    try:
        secret = key_source(config.platform).key(config.secret.platform_path)
    except EvidenceSourceError as error:
        # The agent's own error text is left out: it could quote the secret.
        detail = f": {error.detail}" if isinstance(error, SourceUnavailable) else ""
        raise SecretUnusable(
            f"the platform did not provide a root secret ({error.code}){detail}",
            hint="check that the guest agent's socket is mounted at platform.socket, then run"
            " sealspace doctor",
        ) from None
    return _bounded(secret, "the platform", config)


def _from_file(path: Path, config: Config) -> bytes:
    # Of a longer file, one byte more than the limit is read. `_bounded` then refuses it.
    secret = read_setting(path, "secret file", SecretUnusable, most_bytes=MAX_SECRET_BYTES)
    return _bounded(secret, path.absolute(), config)


def _bounded(secret: bytes, source: str | Path, config: Config) -> bytes:
    """Return a secret, or raise SecretUnusable if it is too short or too long."""
    if not MIN_SECRET_BYTES <= len(secret) <= MAX_SECRET_BYTES:
        raise SecretUnusable(
            f"the root secret from {source} has {len(secret)} bytes; the root secret must have"
            f" {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES}",
            hint=_repair_hint(config, source if isinstance(source, Path) else None),
        )
    return secret


def _repair_hint(config: Config, path: Path | None = None) -> str:
    """Return a hint for operators whose root secret is unusable.

    The advice never suggests a new secret for an existing store, which would become unreadable.

    Args:
        config: says whether there is a store.
        path: the secret's file; None if the secret is from the setting or the platform.
    """
    has_store = (config.data / STORE_FOLDER_NAME).exists() or config.is_shared
    if path is not None:
        copy_back = f"copy the store's secret back to {path} from your backup"
        if has_store:
            return copy_back
        return f"{copy_back}; for a new node, give a file of 32 random bytes with --secret-file"
    if has_store:
        return "copy the store's secret back into secret.value from your backup"
    return "for a new node, make one: head -c 32 /dev/urandom | basenc --base64url | tr -d '='"


def _make(path: Path, entropy: Entropy) -> bytes:
    secret = entropy.token(MIN_SECRET_BYTES)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        make_file(path, secret)  # durable before any key is derived from it
    except OSError as error:
        reason = error.strerror or "cannot be written"
        raise SecretUnusable(
            f"cannot make the secret file {path}: {reason}",
            hint=f"choose another folder with --data, or check the free space: df -h {path.parent}",
            code=StoreFull.code if error.errno in NO_SPACE else None,
        ) from None
    return secret
