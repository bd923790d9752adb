"""`sealspace admin backup`: one file with the whole store, while the node works."""

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

import click
from msgspec import to_builtins

from capabilities.ambient import SystemClock, SystemEntropy
from encryption_network.keyring import Keyring
from sealspace.cli.errors import NodeError, SecretUnusable, StoreMisused
from sealspace.cli.exit_status import FAILED
from sealspace.cli.shared import shared
from sealspace.cli.terminal import print_json, print_lines, progress, time_text, words
from spaces.archive.taking import Taken, backup_file, take_backup
from spaces.errors import SpaceError, StoreFull
from spaces.identity import recorded_identity
from spaces.store.contract import Store

from ..config.loading import Value
from ..config.redaction import Redacted
from ..config.tree import Config
from ..platform.root_secret import load_root_secret, secret_origin, where_the_secret_is
from ..platform.sealed_secret import seal_secret
from ..storage.objects import stored_objects
from ..storage.stores import is_shared, longest_life_s, rows_of
from .interruption import end_as_by_ctrl_c
from .opened_store import opened_store
from .passphrase import asked_passphrase, passphrase_option
from .settings import config_with_sources, data_options, where_options


@click.command()
@data_options
@where_options
@click.option("--with-secret", is_flag=True, help="Put the root secret in, sealed to a passphrase.")
@passphrase_option
@click.argument("file", type=click.Path(path_type=Path))
def backup(
    config_file: Path | None, file: Path, with_secret: bool, passphrase_file: TextIO | None, **flags: Value
) -> int:
    """Write a new FILE with every row and every large value of the store, as of one moment.

    The node may be running: every write that it acknowledged before that moment is in the file, and it goes on. The
    root secret is not in it unless asked for; without it, keep the file `secret` of the data folder somewhere else.
    The settings are in it without secrets. What lies in the file unsealed is what lies in the store unsealed: keep it
    as safe as the store.
    """
    if passphrase_file is not None and not with_secret:
        raise click.UsageError("--passphrase-file has no use without --with-secret, which puts the root secret in")
    config, sources = config_with_sources(config_file, flags)
    passphrase = asked_passphrase(passphrase_file, twice=True) if with_secret else None
    end_as_by_ctrl_c()  # which leaves nothing half written
    taken = asyncio.run(_back_up(config, file, passphrase, _settings(config, sources)))
    _print(taken, file, has_secret=with_secret)
    return FAILED if taken.left_out else 0


def _settings(config: Config, names: Iterable[str]) -> bytes:
    """Return settings as TOML, without secrets."""
    lines = []
    for path in sorted(names):
        section, _, name = path.partition(".")
        holder = getattr(config, section)
        value = to_builtins(getattr(holder, name))
        if value is not None and not (isinstance(holder, Redacted) and name in holder.secrets):
            lines.append(f"{path} = {json.dumps(value, ensure_ascii=False)}\n")
    return "".join(lines).encode("utf-8", "replace")


async def _back_up(config: Config, file: Path, passphrase: str | None, settings: bytes) -> Taken:
    async with opened_store(config, is_for_reading=True) as store:
        sealed = None if passphrase is None else await _sealed_secret(config, store, passphrase)
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
            raise _as_node_error(error) from error


async def _sealed_secret(config: Config, store: Store, passphrase: str) -> bytes:
    if secret_origin(config) == "platform":  # BK8
        raise SecretUnusable(
            "the root secret is the platform's and does not leave it", hint="make the backup without --with-secret"
        )
    secret, identity = load_root_secret(config, SystemEntropy()), await recorded_identity(store)
    if identity is not None and Keyring(secret).node_did != identity.node_did:
        raise SecretUnusable(
            f"the store belongs to {identity.node_did}, and the secret at hand does not",
            hint=where_the_secret_is(config, identity.node_did),
        )
    return seal_secret(secret, passphrase, SystemEntropy())


def _print(taken: Taken, file: Path, *, has_secret: bool) -> None:
    if shared().as_json:
        print_json({"file": str(file), **to_builtins(taken), "markedAt": time_text(taken.marked_at)})
    print_lines(*[f"left out: {name}: missing or damaged in the store" for name in taken.left_out], err=True)
    words(
        f"{file}: {taken.size_bytes:,} bytes; large values: {taken.bodies:,}; digest {taken.digest}",
        f"every write acknowledged before {time_text(taken.marked_at)} is in it",
        "the root secret is in it, sealed to the passphrase"
        if has_secret
        else "the root secret is not in it: keep a copy of it somewhere else",
        "the settings are in it, without secrets: settings.toml",
        f"next: sealspace admin restore {file} --data DIR",
    )


def _as_node_error(error: SpaceError) -> NodeError:
    is_full = isinstance(error, StoreFull)
    hint = "free the disk, or name a file on another one" if is_full else "sealspace admin check"
    failed = StoreMisused(f"there is no backup: {error}", hint=hint)
    failed.code = error.code
    return failed
