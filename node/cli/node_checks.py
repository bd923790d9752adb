"""Checks of `sealspace doctor` on a node's machine: everything that a start needs, and what is running already."""

import asyncio
import json
import os
import shutil
import stat
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from capabilities.ambient import SystemClock, SystemEntropy
from encryption_network.errors import EncryptionError
from encryption_network.keyring import Keyring
from encryption_network.release_record import ReleaseRecord
from sealspace.cli.diagnosis import WARNING, WRONG, Diagnosis, Found, diagnosed
from sealspace.cli.errors import CollateralRefused, ConfigurationError, PlatformSilent, SecretUnusable, StoreMisused
from sealspace.cli.listening_socket import bind_socket
from sealspace.printable import printable
from spaces.errors import SpaceError, StoreMoved
from spaces.identity import Identity, recorded_identity
from spaces.store.contract import Store
from spaces.values.object_place import recorded_place
from tee_backend.attestation.errors import AttestationError
from tee_backend.attestation.report_data import REPORT_DATA_BYTES
from tee_backend.evidence.errors import EvidenceSourceError

from ..collateral.intake import HeldDocument, held_collateral
from ..config.tree import Config
from ..platform.own_platform import quote_source
from ..platform.root_secret import SECRET_FILE_NAME, STORE_FOLDER_NAME, load_root_secret, where_the_secret_is
from ..release_terms import loosened, recorded_release
from ..storage.objects import claim_bucket, open_bucket, place_text
from ..storage.stores import is_shared
from .opened_store import opened_store


def diagnose_database(config: Config) -> list[Diagnosis]:
    """Check what the database guarantees; see `spaces.store.postgres.promises`.

    Raises:
        StoreMisused: it cannot be reached.
    """
    from spaces.store.postgres.promises import examine

    assert config.store.url is not None  # called only where one is named
    try:
        findings = asyncio.run(examine(config.store.url))
    except SpaceError as error:
        raise StoreMisused(str(error), hint="look at the server's log, and at the address in store.url") from None
    return [Diagnosis("database", finding.severity.value, finding.text, finding.next_step) for finding in findings]


async def diagnose_objects(config: Config, store: Store) -> str:
    """Test the place of large values, and compare it with the place that the store records.

    Args:
        store: opened; it may be new.

    Raises:
        StoreMisused: the values are stored elsewhere, or the bucket does not do what it has to.
        ConfigurationError: see `open_bucket`.
        SpaceError: the store does not answer.
    """
    recorded, identity = await recorded_place(store), await recorded_identity(store)
    if identity is not None and recorded != place_text(config):
        raise StoreMisused(
            f"the store has its large values in {recorded}, the settings say {place_text(config)}",
            hint="set objects.url to where they are, or move them with sealspace admin migrate-objects",
        )
    if config.objects.url is None:
        return "in the folder blobs of the data folder"
    bucket = open_bucket(config)
    try:
        await bucket.try_out()
        if identity is not None:
            await claim_bucket(bucket, identity.store_id)
    except SpaceError as error:
        raise StoreMisused(
            str(error), hint="look at objects.url, objects.endpoint, objects.region and what the credentials may do"
        ) from None
    return "the bucket writes, refuses to overwrite, copies, reads, lists and deletes"


_ANSWER_S: Final = 2.0
_ANSWER_BYTES: Final = 64 * 1024
_LOCK_FILE: Final = "storekeeper.lock"


def node_at(host: str, port: int) -> str:
    """Return the DID that a node on this machine states at an address; empty if none answers."""
    named = f"[{host}]" if ":" in host else host
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with suppress(OSError, ValueError):
        with direct.open(f"http://{named}:{port}/info", timeout=_ANSWER_S) as answer:
            stated = json.loads(answer.read(_ANSWER_BYTES))
        if isinstance(stated, dict) and isinstance(stated.get("nodeId"), str):
            return printable(stated["nodeId"][:200])
    return ""


def process_that_locks(folder: Path) -> str:
    """Return the process that has the right to write a data folder; empty if none has, or it is not known."""
    with suppress(OSError):
        inode = (folder / _LOCK_FILE).stat().st_ino
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if len(fields) > 5 and fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == str(inode):
                pid = int(fields[4])
                return f"process {pid} ({printable(Path(f'/proc/{pid}/comm').read_text().strip())})"
    return ""


_LEAST_FREE_BYTES: Final = 1 << 30


def node_checks(config: Config) -> Iterator[Diagnosis]:
    """Check what a start with these settings needs; nothing is changed, and no secret is made."""
    yield from diagnosed("data folder", lambda: _data_folder(config))
    if config.platform.source != "none":
        yield from diagnosed("platform", lambda: _platform(config))
    if is_shared(config):
        yield from diagnosed("database", lambda: diagnose_database(config))
    own = ""
    if is_shared(config) or (config.data / STORE_FOLDER_NAME).is_dir():
        stored = diagnosed("store", lambda: asyncio.run(_store(config)))
        yield from stored
        if all(one.severity != WRONG for one in stored):
            own = asyncio.run(_node_did(config))
            yield from diagnosed("large values", lambda: asyncio.run(_large_values(config)))
            yield from diagnosed("collateral", lambda: asyncio.run(_collateral(config)))
    runs_here = bool(own) and node_at(config.http.host, config.http.port) == own
    yield from diagnosed("port", lambda: _port(config, runs_here=runs_here))
    holder = process_that_locks(config.data)
    if holder and not runs_here:
        text = f"{holder} has the store of {config.data}: a start is refused meanwhile"
        yield Diagnosis("in use", WARNING, text, "if it is no node that you want, end it")


def _port(config: Config, *, runs_here: bool) -> Found:
    """Check that a start could listen; a node on this store that listens already is well."""
    host, port = config.http.host, config.http.port
    if runs_here:
        return f"this node listens on {host} port {port}"
    try:
        bind_socket(host, port).close()
    except ConfigurationError as error:
        there = node_at(host, port)
        text = f"{error.text}; the node {there} answers there" if there else error.text
        return Diagnosis("port", WRONG, text, error.hint)
    return f"{host} port {port} is free"


def _data_folder(config: Config) -> Found:
    folder = config.data
    if not folder.exists():
        _require_free_disk(_nearest(folder))
        return f"{folder} will be made by the first start"
    if not folder.is_dir():
        raise StoreMisused(f"{folder} is no folder", hint="name a folder with --data")
    found = folder.stat()
    if found.st_uid != os.geteuid():
        raise StoreMisused(
            f"{folder} belongs to user {found.st_uid}, and this is user {os.geteuid()}",
            hint=f"run as that user, or: chown -R {os.geteuid()} {folder}",
        )
    if stat.S_IMODE(found.st_mode) & 0o022:
        raise StoreMisused(f"others may write to {folder}", hint=f"chmod go-w {folder}")
    return f"{folder} is writable, {_require_free_disk(folder) >> 30} GiB free"


def _require_free_disk(folder: Path) -> int:
    """Return the free bytes of a folder's disk, in which a file could be made."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = (error.strerror or "refused").lower()
        raise StoreMisused(
            f"no file can be made in {folder}: {reason}", hint=f"ls -ld {folder}; df -h {folder}"
        ) from None
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < _LEAST_FREE_BYTES:
        raise StoreMisused(f"{folder} has {free_bytes} bytes of free disk left", hint=f"df -h {folder}")
    return free_bytes


def _nearest(folder: Path) -> Path:
    return next(parent for parent in folder.parents if parent.is_dir())


def _platform(config: Config) -> Found:
    try:
        quoted = quote_source(config.platform).quote(bytes(REPORT_DATA_BYTES))
    except EvidenceSourceError as error:
        raise PlatformSilent(
            f"no quote from {config.platform.source}: {error.code}: {error.detail}",
            hint="mount the guest agent's socket, or the kernel's report folder, and see platform.socket",
        ) from None
    return f"{config.platform.source} makes quotes, {'with' if quoted.event_log else 'without'} an event log"


async def _store(config: Config) -> Found:
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


async def _node_did(config: Config) -> str:
    async with opened_store(config) as store:
        identity = await recorded_identity(store)
    return "" if identity is None else identity.node_did


async def _collateral(config: Config) -> Found:
    """Check the documents by which quotes are judged: none may have ended, and none should be stale."""
    async with opened_store(config) as store:
        try:
            held = await held_collateral(store)
        except AttestationError as error:
            raise CollateralRefused(
                f"a document that is held cannot be read: {error.code}", hint="sealspace admin collateral import FILE"
            ) from None
    now = SystemClock().now()
    found = [one for one in (_of_document(document, config, now) for document in held) if one is not None]
    return found or f"{len(held)} document{'s' if len(held) != 1 else ''}, none of them stale"


def _of_document(held: HeldDocument, config: Config, now: float) -> Diagnosis | None:
    family = f"{held.fmspc.hex()}/{held.ca}"
    fetch = "sealspace admin collateral import FILE, or set collateral.service_url"
    if held.collateral is None:
        return Diagnosis("collateral", WARNING, f"none is held for {family}, which a quote needed", fetch)
    if held.collateral.ends_at <= now:
        return Diagnosis("collateral", WRONG, f"that of {family} has ended, and judges no quote", fetch)
    if held.collateral.tcb_info.window.starts_at + config.collateral.stale_s < now:
        return Diagnosis("collateral", WARNING, f"that of {family} is stale", fetch)
    return None


def _keyring(config: Config) -> Keyring:
    secret = config.secret
    is_made_here = secret.value is None and secret.file is None and not secret.platform
    if is_made_here and not (config.data / SECRET_FILE_NAME).exists():
        raise SecretUnusable(
            f"the store's root secret is missing: there is no {(config.data / SECRET_FILE_NAME).absolute()}",
            hint="put the store's secret back there with mode 0600, or name it: secret.file",
        )
    try:
        return Keyring(load_root_secret(config, SystemEntropy()))
    except EncryptionError as error:
        raise StoreMisused(str(error), hint="give the store's own secret") from None
