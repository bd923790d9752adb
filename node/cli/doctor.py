"""`sealspace doctor`: look at everything a start needs, and say what is wrong and what to do."""

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from capabilities.ambient import SystemEntropy
from encryption_network.errors import EncryptionError
from encryption_network.keyring import Keyring
from spaces.errors import SpaceError
from spaces.identity import recorded_identity

from ..config import Config
from ..errors import NodeError, StoreMisused
from ..ownership import check_ownership
from ..release_terms import loosened, recorded_release
from ..root_secret import SECRET_FILE_NAME, STORE_FOLDER_NAME, load_root_secret
from ..settings_table import markdown_table
from ..stores import is_shared
from .opened_store import opened_store
from .settings import config_from, data_options

_LEAST_FREE_BYTES = 1 << 30


@click.command(short_help="Check the installation, the settings and the data folder.")
@data_options
@click.option("--settings", is_flag=True, help="Print the table of all settings instead.")
def doctor(config_file: Path | None, store__data: str | None, settings: bool) -> int:
    """Check the installation, the settings and the data folder; ends with status 1 when something is wrong."""
    if settings:
        click.echo(markdown_table(), nl=False)
        return 0
    config = config_from(config_file, {"store__data": store__data})
    click.echo("ok       settings are well typed and known")
    wrong = 0
    for name, check in _checks(config):
        try:
            click.echo(f"ok       {name}: {check()}")
        except NodeError as error:
            wrong += 1
            click.echo(f"wrong    {name}: {error.text}\n         next: {error.hint}")
    return 1 if wrong else 0


def _checks(config: Config) -> Iterator[tuple[str, Callable[[], str]]]:
    yield "packages", _packages
    yield "data folder", lambda: _data_folder(config)
    if is_shared(config) or (config.data / STORE_FOLDER_NAME).is_dir():
        yield "store", lambda: asyncio.run(_store(config))


def _packages() -> str:
    check_ownership()
    return "our six names are ours"


def _data_folder(config: Config) -> str:
    folder = config.data
    if not folder.exists():
        return f"{folder} will be made by the first start"
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StoreMisused(f"{folder} is not writable for this user", hint=f"ls -ld {folder}")
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < _LEAST_FREE_BYTES:
        raise StoreMisused(f"{folder} has {free_bytes} bytes of free disk left", hint=f"df -h {folder}")
    return f"{folder} is writable, {free_bytes // (1 << 30)} GiB free"


async def _store(config: Config) -> str:
    async with opened_store(config) as store:
        try:
            identity = await recorded_identity(store)
            record = await recorded_release(store)
        except (SpaceError, EncryptionError) as error:
            raise StoreMisused(f"the store cannot be read: {error}", hint="restore a backup") from error
    if identity is None or record is None:
        return "new"
    keyring = _keyring(config)
    if keyring.node_did != identity.node_did:
        raise StoreMisused(
            f"the store belongs to {identity.node_did}, the secret at hand is that of {keyring.node_did}",
            hint=f"put the right secret into {config.data / SECRET_FILE_NAME}, or name it with --secret-file",
        )
    if (difference := loosened(config.release, record)) is not None:
        raise StoreMisused(difference, hint="sealspace release show")
    return f"belongs to {identity.node_did}, attestation {record.mode}"


def _keyring(config: Config) -> Keyring:
    try:
        return Keyring(load_root_secret(config, SystemEntropy()))
    except EncryptionError as error:
        raise StoreMisused(str(error), hint="give the store's own secret") from None
