"""`sealspace admin restore`: a data folder from a backup."""

import asyncio
import signal
from pathlib import Path
from typing import TextIO

import click
from msgspec import to_builtins
from msgspec.structs import replace

from capabilities.ambient import SystemClock, SystemEntropy
from encryption_network.keyring import Keyring
from sealspace.private_files import make_file
from spaces.backups.archive import Header
from spaces.backups.restoring import OpenedBackup, Restored, make_servable, restore_backup, restoring_into
from spaces.errors import BackupDamaged, SpaceError, StoreFull

from ...config.loading import Value
from ...config.tree import Config
from ...errors import ConfigurationError, NodeError, SecretUnusable, StoreMisused
from ...platform.root_secret import SECRET_FILE_NAME, load_root_secret
from ...platform.sealed_secret import open_secret
from ...storage.stores import is_shared, longest_life_s
from ..exit_status import FAILED
from ..shared import shared
from ..terminal import print_json, print_lines, progress, time_text, words
from .passphrase import asked_passphrase, passphrase_option
from .settings import config_from, data_options


@click.command()
@data_options
@click.option("--as-new", is_flag=True, help="Another node beside the original, with a secret and an id of its own.")
@click.option("--without-secret", is_flag=True, help="Leave a sealed root secret in the backup.")
@passphrase_option
@click.argument("file", type=click.Path(path_type=Path))
def restore(
    config_file: Path | None,
    file: Path,
    as_new: bool,
    without_secret: bool,
    passphrase_file: TextIO | None,
    **flags: Value,
) -> int:
    """Make a data folder of a backup FILE, in a folder that is empty or not there yet.

    All of the file is verified before the folder can be used. What was written, revoked or withdrawn after the mark of
    the backup is lost: revoke it again. For some minutes the restored node refuses every token that may have been used
    before. It takes the place of the original, which must not be served any more; with --as-new it does not, and can
    then open none of the original's networks.
    """
    config = config_from(config_file, flags)
    if is_shared(config):
        raise ConfigurationError(
            "a backup is restored into a data folder, not into a database",
            hint="restore without store.url, then: sealspace admin migrate-store --to postgresql",
        )
    with file.open("rb") as stream:
        try:
            backup = OpenedBackup(stream)
            secret = None if as_new or without_secret else _opened_secret(backup, passphrase_file)
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, which leaves nothing
            restored, shown = asyncio.run(_restore(config, backup, secret, file.stat().st_size, as_new=as_new))
        except SpaceError as error:
            raise _as_node_error(error, file) from error
    _print(config, backup.header, restored, shown)
    return FAILED if restored.left_out else 0


def _opened_secret(backup: OpenedBackup, passphrase_file: TextIO | None) -> bytes | None:
    """Return the root secret of the backup; None where it has none."""
    if backup.sealed_secret is None:
        return None
    secret = open_secret(backup.sealed_secret, asked_passphrase(passphrase_file, twice=False))
    if Keyring(secret).node_did != backup.header.node_did:
        raise SecretUnusable("the secret in the backup is not that of its store", hint="use --without-secret")
    return secret


async def _restore(
    config: Config, backup: OpenedBackup, secret: bytes | None, total_bytes: int, *, as_new: bool
) -> tuple[Restored, dict[str, str | bool]]:
    """Restore; on an error nothing is left in the folder. Returns what is shown besides, by its name in JSON."""
    with restoring_into(config.data) as staging, progress(total_bytes, "restore") as show:
        if secret is not None:
            make_file(staging / SECRET_FILE_NAME, secret)  # mode 0600, durable
        new_node_did = _new_node_did(config, backup.header, staging) if as_new else None
        restored = await restore_backup(backup, staging, done=lambda done: show(done, total_bytes))
        open_from_minute = await make_servable(
            staging,
            backup.header,
            longest_life_s=longest_life_s(config),
            new_node_did=new_node_did,
            clock=SystemClock(),
            entropy=SystemEntropy(),
        )
    return restored, {
        "nodeDid": new_node_did or backup.header.node_did,
        "isNew": as_new,
        "tokensExpireFrom": time_text(60 * open_from_minute),
    }


def _new_node_did(config: Config, header: Header, staging: Path) -> str:
    """Return the DID of the copy, whose secret is made in the folder unless the settings name one (BK7)."""
    own = replace(config, store=replace(config.store, data=str(staging)))
    node_did = Keyring(load_root_secret(own, SystemEntropy())).node_did
    if node_did == header.node_did:
        raise SecretUnusable(
            "the settings name the root secret of the original", hint="give the copy a secret of its own"
        )
    return node_did


def _print(config: Config, header: Header, restored: Restored, shown: dict[str, str | bool]) -> None:
    """Say what was restored, what is lost, and what to do next."""
    data, mark, secret_file = config.data, time_text(header.marked_at), config.data / SECRET_FILE_NAME
    if shared().as_json:
        print_json({"data": str(data), "markedAt": mark, **shown, **to_builtins(restored)})
    missing = [f"missing: {name}: it was damaged when the backup was made" for name in restored.left_out]
    print_lines(*missing, err=True)
    words(
        f"{data}: the store of {mark}; large values: {restored.bodies:,} ({restored.body_bytes:,} bytes)",
        f"lost: what was written, revoked or withdrawn after {mark}; revoke it again",
        f"tokens that expire before {shown['tokensExpireFrom']} are refused: they may have been used before",
    )
    if not shown["isNew"]:
        words(f"the original, {header.folder} on its machine, must not be served any more")
    if secret_file.exists():
        words(f"next: sealspace admin check --data {data}; then sealspace serve --data {data}")
    else:
        words(f"next: put the root secret of {shown['nodeDid']} back as {secret_file}, mode 0600")


def _as_node_error(error: SpaceError, file: Path) -> NodeError:
    hint = "sealspace doctor"
    if isinstance(error, BackupDamaged):
        hint = f"take another copy of the backup; ls -l {file}"
    elif isinstance(error, StoreFull):
        hint = "free the disk, or restore into a folder on another one"
    failed = StoreMisused(f"nothing was restored: {error}", hint=hint)
    failed.code = error.code
    return failed
