"""`sealspace admin backup` and `restore`: one file with the whole store while the node works, and a store from it."""

import asyncio
import os
import shutil
import stat
from contextlib import AsyncExitStack
from pathlib import Path
from typing import BinaryIO, Final, TextIO

import click
from msgspec import to_builtins
from msgspec.structs import replace

from capabilities.ambient import SystemClock, SystemEntropy
from encryption_network.keyring import Keyring
from sealspace.cli.errors import ClockWrong, ConfigurationError, FileUnreadable, SecretUnusable, StoreMisused
from sealspace.cli.exit_status import FAILED
from sealspace.cli.shared import shared
from sealspace.cli.terminal import counter, print_json, print_lines, progress, time_text, watched, words
from sealspace.private_files import make_file
from spaces.archive.backup import Header, TakenBackup, backup_file, take_backup
from spaces.archive.restoring import (
    OpenedBackup,
    Restored,
    Servable,
    damaged_pages,
    make_servable,
    restore_backup,
    restoring_into,
)
from spaces.errors import BackupDamaged, SpaceError, StoreFull
from spaces.identity import recorded_identity

from ..config.tree import Config
from ..platform.root_secret import (
    SECRET_FILE_NAME,
    STORE_FOLDER_NAME,
    load_root_secret,
    secret_origin,
    where_the_secret_is,
)
from ..platform.sealed_secret import open_secret, seal_secret
from ..storage.objects import stored_objects
from ..storage.stores import is_shared, longest_life_s, rows_of
from .apart import done_apart, end_as_by_ctrl_c
from .config import settings_without_secrets
from .opened_store import opened_store
from .settings import configured, where_options

_MOST_AHEAD_S: Final = 86_400
_MAX_CHARS: Final = 1024
_PASSPHRASE: Final = click.option(
    "--passphrase-file",
    type=click.File("r", encoding="utf-8", errors="surrogateescape"),
    help="Its first line is the passphrase.",
)


@click.command()
@configured
@where_options
@click.option("--with-secret", is_flag=True, help="Put the root secret in, sealed to a passphrase.")
@_PASSPHRASE
@click.argument("file", type=click.Path(path_type=Path))
def backup(config: Config, file: Path, with_secret: bool, passphrase_file: TextIO | None) -> int:
    """Write a new FILE with every row and every large value of the store, as of one moment.

    The node may be running: every write that it acknowledged before that moment is in the file, and it goes on. The
    root secret is not in it unless asked for; without it, keep the file `secret` of the data folder somewhere else.
    The settings are in it without secrets. What lies in the file unsealed is what lies in the store unsealed: keep it
    as safe as the store.
    """
    if passphrase_file is not None and not with_secret:
        raise click.UsageError("--passphrase-file has no use without --with-secret, which puts the root secret in")
    passphrase = _asked_passphrase(passphrase_file, twice=True) if with_secret else None
    end_as_by_ctrl_c()  # which leaves nothing half written
    taken = asyncio.run(_back_up(config, file, passphrase, settings_without_secrets(config).encode()))
    if shared().as_json:
        print_json({"file": str(file), **to_builtins(taken), "markedAt": time_text(taken.marked_at)})
    print_lines(*[f"left out: {name}: missing or damaged in the store" for name in taken.left_out], err=True)
    words(
        f"{file}: {taken.size_bytes:,} bytes; large values: {taken.bodies:,}; digest {taken.digest}",
        f"every write acknowledged before {time_text(taken.marked_at)} is in it",
        "the root secret is in it, sealed to the passphrase"
        if with_secret
        else "the root secret is not in it: keep a copy of it somewhere else",
        "the settings are in it, without secrets: settings.toml",
        f"next: sealspace admin restore {file} --data DIR",
    )
    return FAILED if taken.left_out else 0


async def _back_up(config: Config, file: Path, passphrase: str | None, settings: bytes) -> TakenBackup:
    async with opened_store(config, is_for_reading=True) as store:
        sealed = None
        if passphrase is not None:
            if secret_origin(config) == "platform":  # BK8
                raise SecretUnusable(
                    "the root secret is the platform's and does not leave it",
                    hint="make the backup without --with-secret",
                )
            secret, identity = load_root_secret(config, SystemEntropy()), await recorded_identity(store)
            if identity is not None and Keyring(secret).node_did != identity.node_did:
                raise SecretUnusable(
                    f"the store belongs to {identity.node_did}, and the secret at hand does not",
                    hint=where_the_secret_is(config, identity.node_did),
                )
            sealed = seal_secret(secret, passphrase, SystemEntropy())
        try:
            objects = await stored_objects(config, store)
            with backup_file(file) as stream, progress(None, "backup") as show:
                return await take_backup(
                    store,
                    rows_of(config, store),
                    objects,
                    stream,
                    folder=config.data.resolve(),
                    is_shared=is_shared(config),
                    longest_life_s=longest_life_s(config),
                    settings=settings,
                    sealed_secret=sealed,
                    clock=SystemClock(),
                    done=lambda done: show(done, None),
                )
        except SpaceError as error:
            is_full = isinstance(error, StoreFull)
            hint = "free the disk, or name a file on another one" if is_full else "sealspace admin check"
            raise StoreMisused(f"there is no backup: {error}", hint=hint, code=error.code) from error


def _asked_passphrase(file: TextIO | None, *, twice: bool) -> str:
    """Return a passphrase: the first line of the file, or what a person is asked for, twice if it is to be exact.

    Never from an argument, which others can read.
    """
    if file is not None:
        passphrase = file.readline(_MAX_CHARS + 3).rstrip("\r\n")  # one more than allowed, and the line's end
    elif watched():
        passphrase = click.prompt("passphrase", hide_input=True, confirmation_prompt=twice, err=True)
    else:
        raise SecretUnusable(
            "nobody is here to be asked for the passphrase", hint="give it with --passphrase-file FILE"
        )
    if len(passphrase) > _MAX_CHARS or "\0" in passphrase or not passphrase.strip():
        raise SecretUnusable(
            f"the passphrase is blank, contains NUL, or has more than {_MAX_CHARS} characters",
            hint="the first line of the file is the passphrase: six random words, or more",
        )
    return passphrase


# --- restore ----------------------------------------------------------------------------------------------------------


@click.command()
@configured
@click.option("--store", "store__url", metavar="URL", help="An empty database for the rows.")
@click.option("--as-new", is_flag=True, help="Another node beside the original, with a secret and an id of its own.")
@click.option("--without-secret", is_flag=True, help="Leave a sealed root secret in the backup.")
@click.option("--future-mark", is_flag=True, help="The mark may be more than a day ahead of this machine's clock.")
@_PASSPHRASE
@click.argument("file", type=click.Path(path_type=Path))
def restore(
    config: Config,
    file: Path,
    as_new: bool,
    without_secret: bool,
    future_mark: bool,
    passphrase_file: TextIO | None,
) -> int:
    """Make a data folder of a backup FILE, in a folder that is empty or not there yet.

    With --store the rows go into an empty database, large values and the secret into the folder. All of the file is
    verified before either can be used. What was written, revoked or withdrawn after the mark of the backup is lost:
    revoke it again. For some minutes the restored node refuses every token that may have been used before. It takes
    the place of the original, which must not be served any more; with --as-new it does not, and can then open none of
    the original's networks.
    """
    with _opened(file) as stream:
        try:
            backup = OpenedBackup(stream)
            mark = backup.header.marked_at
            if not future_mark and mark > SystemClock().now() + _MOST_AHEAD_S:
                # No clock has seen it: tokens of all the time until then would be refused for ever (BK5).
                raise ClockWrong(
                    f"the mark of the backup, {time_text(mark)}, is more than a day ahead of this machine's clock",
                    hint="set the clock; if the clock of the original was wrong: --future-mark",
                )
            if is_shared(config) and backup.header.longest_life_s > longest_life_s(config):
                # A database forgets used tokens by the life that its own node allows (BK5).
                raise ConfigurationError(
                    "the original accepted tokens with a longer life than the settings allow here",
                    hint="set invocation.max_lifetime_s and release.challenge_s as they were there: "
                    f"tar -xOf {file} settings.toml",
                )
            secret = None if as_new or without_secret else _opened_secret(backup, passphrase_file)
            end_as_by_ctrl_c()  # which leaves nothing
            total_bytes = os.fstat(stream.fileno()).st_size
            restored, shown = asyncio.run(_restore(config, backup, secret, total_bytes, as_new=as_new))
        except (StoreMisused, SpaceError) as error:
            hints = {
                BackupDamaged.code: f"take another copy of the backup; ls -l {file}",
                StoreFull.code: "free the disk, or restore into a folder on another one",
            }
            hint = getattr(error, "next_step", None) or hints.get(error.code, "sealspace doctor")
            raise StoreMisused(f"nothing was restored: {error.args[0]}", hint=hint, code=error.code) from error
    _print_restored(config, backup.header, restored, shown)
    return FAILED if restored.left_out else 0


def _opened(file: Path) -> BinaryIO:
    """Open an ordinary file, without waiting: a pipe that nobody writes would never answer."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileUnreadable(f"{file} is no ordinary file", hint="name the file of the backup, copied to this machine")
    return os.fdopen(descriptor, "rb")


def _opened_secret(backup: OpenedBackup, passphrase_file: TextIO | None) -> bytes | None:
    """Return the root secret of the backup; None where it has none."""
    if backup.sealed_secret is None:
        return None
    secret = open_secret(backup.sealed_secret, _asked_passphrase(passphrase_file, twice=False))
    if Keyring(secret).node_did != backup.header.node_did:
        raise SecretUnusable("the secret in the backup is not that of its store", hint="use --without-secret")
    return secret


async def _restore(
    config: Config, backup: OpenedBackup, secret: bytes | None, total_bytes: int, *, as_new: bool
) -> tuple[Restored, dict[str, str | bool]]:
    """Restore; on an error nothing is left in the folder. Returns what is shown besides, by its name in JSON."""
    async with AsyncExitStack() as filled:
        with restoring_into(config.data) as staging, progress(total_bytes, "restore") as show:
            if secret is not None:
                make_file(staging / SECRET_FILE_NAME, secret)  # mode 0600, durable
            new_node_did = None
            if as_new:  # whose secret is made in the folder unless the settings name one (BK7)
                own = replace(config, store=replace(config.store, data=str(staging)))
                new_node_did = Keyring(load_root_secret(own, SystemEntropy())).node_did
                if new_node_did == backup.header.node_did:
                    raise SecretUnusable(
                        "the settings name the root secret of the original", hint="give the copy a secret of its own"
                    )
            restored = await restore_backup(backup, staging, done=lambda done: show(done, total_bytes))
            with damaged_pages():
                life_s = longest_life_s(config)
                servable = done_apart(_made_servable, str(staging), backup.header, life_s, new_node_did)
            known = set(restored.left_out)
            restored.left_out += [name for name in servable.missing if name not in known]
            if config.store.url is not None:
                from spaces.archive.migration import filled_database  # needs the extra of a database

                # The database is a store once the folder is complete, which is before this block ends.
                counted = counter("rows copied", every=100_000)
                await filled.enter_async_context(filled_database(staging, config.store.url, progress=counted))
                shutil.rmtree(staging / STORE_FOLDER_NAME)
    return restored, {
        "nodeDid": new_node_did or backup.header.node_did,
        "isNew": as_new,
        "tokensExpireFrom": time_text(60 * servable.open_from_minute),
    }


def _made_servable(staging: str, header: Header, longest_life_s: int, new_node_did: str | None) -> Servable:
    with damaged_pages():
        made = make_servable(
            Path(staging),
            header,
            longest_life_s=longest_life_s,
            new_node_did=new_node_did,
            clock=SystemClock(),
            entropy=SystemEntropy(),
        )
        return asyncio.run(made)


def _print_restored(config: Config, header: Header, restored: Restored, shown: dict[str, str | bool]) -> None:
    """Say what was restored, what is lost, and what to do next."""
    data, mark, secret_file = config.data, time_text(header.marked_at), config.data / SECRET_FILE_NAME
    if shared().as_json:
        print_json({"data": str(data), "markedAt": mark, **shown, **to_builtins(restored)})
    missing = [f"missing: {name}: the backup does not have it whole" for name in restored.left_out]
    print_lines(*missing, err=True)
    words(
        f"{data}: the store of {mark}; large values: {restored.bodies:,} ({restored.body_bytes:,} bytes)",
        f"lost: what was written, revoked or withdrawn after {mark}; revoke it again",
        f"tokens that expire before {shown['tokensExpireFrom']} are refused: they may have been used before",
    )
    if not shown["isNew"]:
        original = "its database" if header.is_shared else f"{header.folder} on its machine"
        words(f"the original, {original}, must not be served any more")
    where = f"--data {data} --store URL" if is_shared(config) else f"--data {data}"
    if secret_file.exists():
        words(f"next: sealspace admin check {where}; then sealspace serve {where}")
    else:
        words(f"next: put the root secret of {shown['nodeDid']} back as {secret_file}, mode 0600")
