"""The commands `sealspace admin backup` and `sealspace admin restore`."""

import asyncio
import os
import shutil
import stat
from contextlib import AsyncExitStack
from pathlib import Path
from typing import BinaryIO, NamedTuple

import click
from msgspec import to_builtins
from msgspec.structs import replace

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from encryption_network.keyring import Keyring
from sealspace.cli.exit_status import FAILED
from sealspace.cli.shared import shared
from sealspace.cli.terminal import (
    ask_hidden,
    counter,
    flag_option,
    is_interactive,
    print_json,
    print_lines,
    progress,
    tell,
    time_text,
)
from sealspace.private_files import make_file, read_key
from sealspace.service.command_errors import (
    ClockWrong,
    ConfigurationError,
    FileUnreadable,
    SecretUnusable,
    StoreMisused,
)
from spaces.archive.backup import BackupSummary, Header, backup_file, write_backup
from spaces.archive.restoring import (
    FinishedRestore,
    OpenedBackup,
    Restored,
    convert_damage_errors,
    finish_restore,
    restore_backup,
    restoring_into,
)
from spaces.grants.replay_records import RESTORE_WAIT
from spaces.keyspace import (
    HOSTING_MODE_KEY,
)
from spaces.space_errors import (
    BackupDamaged,
    RotationUnfinished,
    SpaceError,
    StoreFull,
)
from spaces.store.contract import Store

from ..config.loading import CONFIG_FILE_NAME
from ..config.tree import Config
from ..platform.root_secret import (
    SECRET_FILE_NAME,
    STORE_FOLDER_NAME,
    load_root_secret,
    secret_origin,
)
from ..platform.sealed_secret import open_secret, seal_secret
from ..storage.objects import stored_objects
from ..storage.stores import longest_life_s, recorded_text, rows_of
from .config import settings_for_backup
from .opened_store import opened_store, own_secret
from .settings import configured, where_options
from .store_subprocess import handle_signals_like_ctrl_c, run_in_subprocess

_MAX_AHEAD_S = 86_400
_MAX_PASSPHRASE_CHARS = 1024
_PASSPHRASE = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Read the passphrase from the first line of this file.",
)


@click.command()
@configured
@where_options
@flag_option("--with-secret", help="Include the root secret, encrypted with a passphrase.")
@_PASSPHRASE
@click.argument("file", type=click.Path(path_type=Path))
def backup(config: Config, file: Path, with_secret: bool, passphrase_file: Path | None) -> int:
    """Write a backup of the store to a new FILE.

    The backup contains every row, large value and SQL database.

    The node may be running and is not interrupted: every write that it acknowledged before the
    backup began is in the file. The settings are in it too, without secrets. The root secret is in
    it only with --with-secret; otherwise keep a copy of the file `secret` of the data folder
    somewhere else. The backup does not encrypt anything else, so keep it as safe as the store.
    """
    if passphrase_file is not None and not with_secret:
        raise click.UsageError(
            "--passphrase-file needs --with-secret, which includes the root secret"
        )
    passphrase = _read_passphrase(passphrase_file, twice=True) if with_secret else None
    handle_signals_like_ctrl_c()  # a signal then removes the unfinished file
    summary = asyncio.run(_back_up(config, file, passphrase))
    if shared().as_json:
        print_json(
            {"file": str(file), **to_builtins(summary), "markedAt": time_text(summary.marked_at)}
        )
    print_lines(
        *[f"left out: {name}: {summary.left_out_reasons[name]}" for name in summary.left_out],
        err=True,
    )
    tell(
        f"{file}: {summary.size_bytes:,} bytes in total; number of large values:"
        f" {summary.bodies:,}; databases: {summary.databases:,}; digest: {summary.digest}",
        f"the backup contains every write acknowledged before {time_text(summary.marked_at)}",
        (
            "the backup contains the root secret, encrypted with the passphrase"
            if with_secret
            else "the backup does not contain the root secret: keep a copy of the secret elsewhere"
        ),
        "the backup contains the settings, without secrets, in the file settings.toml",
        f"next: sealspace admin restore {file} --data DIR",
    )
    return FAILED if summary.left_out else 0


async def _back_up(config: Config, file: Path, passphrase: str | None) -> BackupSummary:
    """Write a backup of the configured store.

    Args:
        config: the settings of the command.
        file: the file to write, which must not exist.
        passphrase: encrypts the root secret; None leaves the root secret out.
    Raises:
        SecretUnusable: the root secret cannot be exported.
        StoreMisused: the backup was not written.
    """
    async with opened_store(config, is_for_reading=True) as store:
        # This command does not see the options and variables of `serve`, so the settings in the
        # backup have the mode that the last start has recorded (ST18).
        mode = await recorded_text(store, HOSTING_MODE_KEY) or config.hosting.mode
        served_config = replace(config, hosting=replace(config.hosting, mode=mode))
        sealed_secret = None
        if passphrase is not None:
            sealed_secret = await _seal_own_secret(config, store, passphrase)
        try:
            objects = await stored_objects(config, store)
            with backup_file(file) as stream, progress(None, "backup") as show:
                return await write_backup(
                    store,
                    rows_of(config, store),
                    objects,
                    stream,
                    folder=config.data.resolve(),
                    is_shared=config.is_shared,
                    longest_life_s=longest_life_s(config),
                    settings=settings_for_backup(served_config).encode(),
                    sealed_secret=sealed_secret,
                    clock=SystemClock(),
                    progress=lambda written_bytes: show(written_bytes, None),
                )
        except SpaceError as error:
            if isinstance(error, StoreFull):
                hint = "free disk space, or write the backup to another disk"
            elif isinstance(error, RotationUnfinished):
                hint = "finish the replacement first: sealspace admin root rotate"
            else:
                hint = "sealspace admin check"
            raise StoreMisused(
                f"the backup was not written: {error}", hint=hint, code=error.code
            ) from error


async def _seal_own_secret(config: Config, store: Store, passphrase: str) -> bytes:
    """Encrypt the root secret of a store with a passphrase.

    Raises:
        SecretUnusable: the secret comes from the platform, which it never leaves (BK8).
    """
    if secret_origin(config) == "platform":
        raise SecretUnusable(
            "the root secret comes from the platform and cannot be exported",
            hint="make the backup without --with-secret",
        )
    secret = await own_secret(config, store)
    return seal_secret(secret, passphrase, SystemEntropy())


def _read_passphrase(file: Path | None, *, twice: bool) -> str:
    """Read the backup passphrase from a file or a prompt.

    Args:
        file: its first line is the passphrase; None to ask for it.
        twice: whether to ask a second time, so that a typing error is noticed.
    Raises:
        SecretUnusable: the file cannot be read, or the passphrase is not allowed.
        ConfigurationError: the passphrase cannot be asked for without a terminal.
    """
    if file is not None:
        data = read_key(
            file,
            "passphrase file",
            SecretUnusable,
            # A character has at most four bytes in UTF-8, and the end of the line two.
            most_bytes=4 * _MAX_PASSPHRASE_CHARS + 2,
        )
        passphrase = data.partition(b"\n")[0].decode("utf-8", "surrogateescape").rstrip("\r")
    elif is_interactive():
        passphrase = ask_hidden("passphrase", twice=twice)
    else:
        raise ConfigurationError(
            "cannot ask for the passphrase: standard input is not a terminal",
            hint="use --passphrase-file FILE",
        )
    is_blank = not passphrase.strip()
    if is_blank or "\0" in passphrase or len(passphrase) > _MAX_PASSPHRASE_CHARS:
        raise SecretUnusable(
            "the passphrase must not be blank or contain NUL, and must have at most"
            f" {_MAX_PASSPHRASE_CHARS} characters",
            hint="use a passphrase of six random words or more",
        )
    return passphrase


# --- restore --------------------------------------------------------------------------------------


@click.command()
@configured
@click.option(
    "--store",
    "store__url",
    metavar="URL",
    help="Database to restore the rows into; it must be empty.",
)
@flag_option("--as-new", help="Restore as a separate node, with its own secret and id.")
@flag_option("--without-secret", help="Do not restore the root secret.")
@flag_option("--future-mark", help="Accept a backup dated more than a day in the future.")
@_PASSPHRASE
@click.argument("file", type=click.Path(path_type=Path))
def restore(
    config: Config,
    file: Path,
    as_new: bool,
    without_secret: bool,
    future_mark: bool,
    passphrase_file: Path | None,
) -> int:
    """Restore a backup FILE into an empty or new data folder.

    With --store the rows go into an empty database; large values and the secret go into the folder.
    Nothing can be used before the whole file is verified. Everything written, revoked or withdrawn
    after the backup is lost: revoke and withdraw it again. For some minutes the restored node
    refuses tokens, since it cannot tell which were used. It replaces the original, which must not
    be served any more. With --as-new it is a node of its own, and cannot open the original's
    encryption networks.
    """
    with _open_backup_file(file) as stream:
        try:
            backup = OpenedBackup(stream)
            if not future_mark:
                _require_past_mark(backup.header)
            if config.is_shared:
                _require_same_lifetimes(config, backup.header, file)
            secret = None
            if not as_new and not without_secret:
                secret = _decrypt_secret(backup, passphrase_file)
            handle_signals_like_ctrl_c()  # a signal then removes the unfinished folder
            total_bytes = os.fstat(stream.fileno()).st_size
            result = asyncio.run(_restore(config, backup, secret, total_bytes, as_new=as_new))
        except (StoreMisused, SpaceError) as error:
            raise _nothing_restored_error(error, file) from error
    _print_restored(config, file, backup.header, result)
    return FAILED if result.restored.left_out else 0


def _require_past_mark(header: Header) -> None:
    """Raise ClockWrong if a backup is dated more than a day in the future.

    The restored node would refuse every token until that time (BK5).
    """
    if header.marked_at > SystemClock.now() + _MAX_AHEAD_S:
        raise ClockWrong(
            f"the backup is dated {time_text(header.marked_at)}, more than a day ahead of this"
            " machine's clock",
            hint="correct this machine's clock; if the other machine's clock was wrong when"
            " it made the backup, add --future-mark",
        )


def _require_same_lifetimes(config: Config, header: Header, file: Path) -> None:
    """Raise ConfigurationError if tokens may live for a shorter time than in a backup.

    A database deletes replay records by the lifetime that its own node allows (BK5). Tokens of the
    original node that live longer could be used again.
    """
    if header.longest_life_s > longest_life_s(config):
        raise ConfigurationError(
            "the longest token lifetime in these settings is shorter than in the settings"
            " of the backup",
            hint="set invocation.max_lifetime_s and release.challenge_s to the values in"
            f" the backup; to print them: tar -xOf {file} settings.toml",
        )


def _nothing_restored_error(error: StoreMisused | SpaceError, file: Path) -> StoreMisused:
    """Return the error that the command reports for an error that ended a restore."""
    hints_by_code = {
        BackupDamaged.code: "name the file that the backup was written to; if that is"
        f" {file}, use another copy of the backup",
        StoreFull.code: "free disk space, or restore into a folder on another disk",
    }
    # An error that knows its next step takes precedence over the hint for its code.
    hint = getattr(error, "next_step", None) or hints_by_code.get(error.code, "sealspace doctor")
    return StoreMisused(f"nothing was restored: {error.args[0]}", hint=hint, code=error.code)


def _open_backup_file(file: Path) -> BinaryIO:
    """Open a backup file for reading.

    Pipes and devices are refused.
    """
    # O_NONBLOCK: opening a pipe without a writer would wait for ever.
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileUnreadable(
            f"{file} is not a regular file",
            hint="copy the backup into a file on this machine, and give the path of that file",
        )
    return os.fdopen(descriptor, "rb")


def _decrypt_secret(backup: OpenedBackup, passphrase_file: Path | None) -> bytes | None:
    """Return the root secret in a backup; None if the backup contains none.

    Raises:
        SecretUnusable: the passphrase is wrong, or the secret belongs to another store.
        ConfigurationError: the passphrase cannot be asked for without a terminal.
    """
    if backup.sealed_secret is None:
        return None
    secret = open_secret(backup.sealed_secret, _read_passphrase(passphrase_file, twice=False))
    if not _is_secret_of(backup.header, Keyring(secret)):
        raise SecretUnusable(
            "the root secret in the backup belongs to another store", hint="use --without-secret"
        )
    return secret


def _is_secret_of(header: Header, keyring: Keyring) -> bool:
    """Return whether a root secret is the one that a backup needs (RK10).

    The node's DID alone does not say so: a node keeps it when its root secret is replaced.
    """
    if header.root_secret_check:
        return keyring.check_value.hex() == header.root_secret_check
    return keyring.node_did == header.node_did


class _RestoreResult(NamedTuple):
    """A finished restore.

    Attributes:
        restored: the number of restored values and databases, and the names of missing files.
        node_did: the DID of the restored node.
        is_new: whether it is a node of its own.
        tokens_expire_from: a time, as text; tokens that expire before it are refused.
        hosting_mode: the hosting mode of the node that was backed up.
    """

    restored: Restored
    node_did: str
    is_new: bool
    tokens_expire_from: str
    hosting_mode: str


async def _restore(
    config: Config, backup: OpenedBackup, secret: bytes | None, total_bytes: int, *, as_new: bool
) -> _RestoreResult:
    """Restore a backup into the configured data folder, and a database if one is configured.

    Neither can be used before all of it is complete.

    Args:
        config: the settings of the command.
        backup: the opened backup.
        secret: the root secret to restore, or None to restore none.
        total_bytes: size of the backup file, for the progress.
        as_new: whether the restored node gets an identity of its own.
    Raises:
        SecretUnusable: the new node's root secret is that of the original.
        SpaceError, StoreMisused: the backup is damaged, or the folder or database is not usable.
    """
    async with AsyncExitStack() as database_copy:
        with restoring_into(config.data) as staging, progress(total_bytes, "restore") as show:
            if secret is not None:
                make_file(staging / SECRET_FILE_NAME, secret)  # mode 0600, durable
            new_node_did = None
            if as_new:
                new_node_did = _new_node_did(config, staging, backup.header)
            restored = await restore_backup(
                backup, staging, progress=lambda read_bytes: show(read_bytes, total_bytes)
            )
            # The rows come from the backup, and damaged ones may crash the process that reads them.
            with convert_damage_errors():  # the error for a crash
                finished = run_in_subprocess(
                    _finish_restore,
                    str(staging),
                    backup.header,
                    longest_life_s(config),
                    new_node_did,
                )
            # A value may be missing in the backup and again in the check of the rows: name it once.
            restored.left_out = list(dict.fromkeys(restored.left_out + finished.missing))
            if config.store.url is not None:
                # Needs the extra `postgres`.
                from spaces.archive.migration import copy_to_database

                # The database becomes a store only when the outer block ends, after the folder is
                # complete. An error before that leaves neither.
                await database_copy.enter_async_context(
                    copy_to_database(
                        staging, config.store.url, progress=counter("rows copied", every=100_000)
                    )
                )
                shutil.rmtree(staging / STORE_FOLDER_NAME)
    return _RestoreResult(
        restored=restored,
        node_did=new_node_did or backup.header.node_did,
        is_new=as_new,
        tokens_expire_from=time_text(60 * finished.open_from_minute),
        hosting_mode=finished.hosting_mode,
    )


def _new_node_did(config: Config, staging: Path, header: Header) -> str:
    """Return the DID of a new node (BK7). A root secret is made unless the settings name one.

    Args:
        config: the settings of the command.
        staging: the folder of the restore, which gets a new secret.
        header: that of the backup.
    Raises:
        SecretUnusable: the settings name the root secret of the original node.
    """
    staging_config = replace(config, store=replace(config.store, data=str(staging)))
    new_keyring = Keyring(load_root_secret(staging_config, SystemEntropy()))
    if _is_secret_of(header, new_keyring):
        raise SecretUnusable(
            "a new node needs its own root secret, but the configured secret belongs"
            " to the node that was backed up",
            hint="unset secret.file, secret.value and secret.platform, or use another secret",
        )
    return new_keyring.node_did


def _finish_restore(
    staging: str, header: Header, longest_life_s: int, new_node_did: str | None
) -> FinishedRestore:
    """Finish a restore, in a subprocess (`run_in_subprocess`)."""
    with convert_damage_errors():  # errors for damage that did not crash the subprocess
        return asyncio.run(
            finish_restore(
                Path(staging),
                header,
                longest_life_s=longest_life_s,
                new_node_did=new_node_did,
                clock=SystemClock(),
                entropy=SystemEntropy(),
            )
        )


def _print_restored(config: Config, file: Path, header: Header, result: _RestoreResult) -> None:
    """Print the result and the next steps after a restore."""
    data = config.data
    mark = time_text(header.marked_at)
    restored = result.restored
    if shared().as_json:
        print_json(
            {
                "data": str(data),
                "markedAt": mark,
                "nodeDid": result.node_did,
                "isNew": result.is_new,
                "tokensExpireFrom": result.tokens_expire_from,
                "hostingMode": result.hosting_mode,
                **to_builtins(restored),
            }
        )
    print_lines(
        *[f"missing: {name}: not in the backup, or damaged there" for name in restored.left_out],
        err=True,
    )
    tell(
        f"{data}: restored as of {mark}; large values: {restored.bodies:,} ({restored.body_bytes:,}"
        f" bytes); databases: {restored.databases:,}",
        f"all writes, revocations and withdrawals after {mark} are lost; next: repeat the"
        " revocations and withdrawals",
        RESTORE_WAIT.format(result.tokens_expire_from),
        f"the settings were not restored (hosting.mode was {result.hosting_mode}); next: run this"
        f" command, then check the new file: tar -xOf {file} settings.toml >"
        f" {data / CONFIG_FILE_NAME}",
    )
    if not result.is_new:
        original = "a database" if header.is_shared else f"the data folder {header.folder}"
        tell(
            "the restored node replaces the node that was backed up: stop the old node and do not"
            f" start it again (its store is in {original})"
        )
    secret_file = data / SECRET_FILE_NAME
    if secret_file.exists():
        options = f"--data {data} --store URL" if config.is_shared else f"--data {data}"
        tell(f"next: sealspace admin check {options}; then sealspace serve {options}")
        return
    if header.root_secret_number and not result.is_new:
        # Of several secrets of this node, only this one opens the restored store (RK10).
        needed_secret = (
            f"root secret number {header.root_secret_number} of {result.node_did} (check value"
            f" {header.root_secret_check})"
        )
    else:
        needed_secret = f"the root secret of {result.node_did}"
    tell(f"next: put {needed_secret} into {secret_file}, mode 0600")
