"""`sealspace doctor`: check everything that a start needs, and report what is wrong and what to do."""

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from capabilities.ambient import SystemClock, SystemEntropy
from encryption_network.errors import EncryptionError
from encryption_network.keyring import Keyring
from encryption_network.release_record import ReleaseRecord
from spaces.errors import SpaceError, StoreMoved
from spaces.identity import Identity, recorded_identity
from spaces.store.contract import Store
from tee_backend.attestation.report_data import REPORT_DATA_BYTES
from tee_backend.evidence.errors import EvidenceSourceError
from tee_backend.evidence.source import take_quote

from ...config.tree import Config
from ...errors import NodeError, PlatformSilent, StoreMisused
from ...platform.own_platform import quote_source
from ...platform.root_secret import STORE_FOLDER_NAME, load_root_secret, where_the_secret_is
from ...processes.clock_check import check_clock
from ...processes.ownership import check_ownership
from ...release_terms import loosened, recorded_release
from ...storage.stores import is_shared
from ..terminal import print_lines
from .diagnoses import OK, WRONG, Diagnosis, diagnose_database, diagnose_objects
from .opened_store import opened_store
from .settings import config_from, data_options
from .settings_table import markdown_table

_LEAST_FREE_BYTES = 1 << 30


@click.command()
@data_options
@click.option("--settings", is_flag=True, help="Print the table of all settings instead.")
def doctor(config_file: Path | None, store__data: str | None, settings: bool) -> int:
    """Check the installation, the settings and the data folder; ends with status 1 when something is wrong."""
    if settings:
        print_lines(*markdown_table().splitlines())
        return 0
    config = config_from(config_file, {"store__data": store__data})
    print_lines("ok       settings are well typed and known")
    wrong = 0
    for name, check in _checks(config):
        try:
            found = check()
        except NodeError as error:
            found = [Diagnosis(WRONG, error.text, error.hint)]
        diagnoses = [Diagnosis(OK, found)] if isinstance(found, str) else found
        wrong += sum(diagnosis.severity == WRONG for diagnosis in diagnoses)
        print_lines(*(line for diagnosis in diagnoses for line in diagnosis.lines(name)))
    return 1 if wrong else 0


def _checks(config: Config) -> Iterator[tuple[str, Callable[[], str | list[Diagnosis]]]]:
    yield "packages", _packages
    yield "clock", _clock
    yield "data folder", lambda: _data_folder(config)
    if config.platform.source != "none":
        yield "platform", lambda: _platform(config)
    if is_shared(config):
        yield "database", lambda: diagnose_database(config)
    if is_shared(config) or (config.data / STORE_FOLDER_NAME).is_dir():
        yield "store", lambda: asyncio.run(_store(config))
        yield "large values", lambda: asyncio.run(_large_values(config))


def _packages() -> str:
    check_ownership()
    return "our six names are ours"


def _clock() -> str:
    check_clock(SystemClock())
    return "not before this version was made, nor long after"


def _platform(config: Config) -> str:
    try:
        quoted = take_quote(quote_source(config.platform), bytes(REPORT_DATA_BYTES))
    except EvidenceSourceError as error:
        raise PlatformSilent(
            f"no quote from {config.platform.source}: {error.code}: {error.detail}",
            hint="mount the guest agent's socket, or the kernel's report folder, and see platform.socket",
        ) from None
    return f"{config.platform.source} makes quotes, {'with' if quoted.event_log else 'without'} an event log"


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
    try:
        async with opened_store(config) as store:
            identity, record = await _recorded(store)
    except StoreMisused as error:
        if error.code != StoreMoved.code:
            raise
        async with opened_store(config, is_left=True) as store:
            identity, _ = await _recorded(store)
        if identity is not None:
            error.text = f"{error.text}; it belongs to {identity.node_did}"
        raise
    if identity is None or record is None:
        return "new"
    keyring = _keyring(config)
    if keyring.node_did != identity.node_did:
        raise StoreMisused(
            f"the store belongs to {identity.node_did}, the secret at hand is that of {keyring.node_did}",
            hint=where_the_secret_is(config, identity.node_did),
        )
    if (difference := loosened(config.release, record)) is not None:
        raise StoreMisused(difference, hint="sealspace admin release show")
    return f"belongs to {identity.node_did}, attestation {record.mode}"


async def _recorded(store: Store) -> tuple[Identity | None, ReleaseRecord | None]:
    try:
        return await recorded_identity(store), await recorded_release(store)
    except StoreMoved:
        raise
    except (SpaceError, EncryptionError) as error:
        raise StoreMisused(f"the store cannot be read: {error}", hint="restore a backup") from error


async def _large_values(config: Config) -> str:
    async with opened_store(config) as store:
        return await diagnose_objects(config, store)


def _keyring(config: Config) -> Keyring:
    try:
        return Keyring(load_root_secret(config, SystemEntropy()))
    except EncryptionError as error:
        raise StoreMisused(str(error), hint="give the store's own secret") from None
