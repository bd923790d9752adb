"""Checks of the node's storage for the command `sealspace doctor`."""

import asyncio
from collections.abc import Sequence

from capabilities.clock_and_entropy import SystemClock
from encryption_network.network_errors import EncryptionError
from encryption_network.release_record import ReleaseRecord
from sealspace.service.command_errors import StoreMisused
from spaces.grants.replay_records import restore_wait
from spaces.identity import Identity, recorded_identity, require_present_schema
from spaces.space_errors import SchemaMismatch, SpaceError, StoreMoved
from spaces.store.contract import Store
from spaces.values.object_place import recorded_location

from ..config.tree import Config
from ..release_terms import loosened, recorded_release
from ..storage.objects import location_text, open_bucket
from ..storage.stores import refuse_unsafe_copy, start_refused
from .opened_store import has_store, opened_store, own_keyring


def database_findings(config: Config) -> Sequence[tuple[str, str, str]]:
    """Check the configured database, if any.

    Returns:
        Findings as (severity, text, next step).
    """
    url = config.store.url
    if url is None:
        return []
    from spaces.store.postgres.requirements import examine  # needs the extra `postgres`

    try:
        return asyncio.run(examine(url))
    except SpaceError as error:
        return [
            ("wrong", str(error), "check the address in store.url and the database server's log")
        ]


async def check_store(config: Config) -> str:
    """Check that the store fits the node's root secret and settings, as a start does.

    The store is not changed.
    """
    if not has_store(config):
        return "will be created by the first start"
    try:
        async with opened_store(config) as store:
            identity, record = await _read_records(config, store)
            await refuse_unsafe_copy(config, store)
            await _check_large_values(config, store, identity)
            if identity is not None and record is not None:
                await own_keyring(config, store)  # raises an error for another store's secret
            wait = await restore_wait(store, SystemClock.now())
    except StoreMisused as error:
        if error.code == StoreMoved.code:
            async with opened_store(config, may_be_moved=True) as store:
                moved = await recorded_identity(store)
            if moved is not None:
                error.message += f"; it belongs to {moved.node_did}"
        raise
    if identity is None or record is None:  # the first start has not finished
        return "new"
    difference = loosened(config.release, record)
    if difference is not None:
        raise StoreMisused(difference, hint="sealspace admin release show")
    text = f"belongs to {identity.node_did}, attestation {record.mode}"
    return f"{text}; {wait}" if wait else text


async def _read_records(
    config: Config, store: Store
) -> tuple[Identity | None, ReleaseRecord | None]:
    """Read who owns the store and its key-release policy; None for a store that is not in use."""
    try:
        identity = await recorded_identity(store)
        await require_present_schema(store)
        return identity, await recorded_release(store)
    except StoreMoved:  # `opened_store` converts it
        raise
    except SchemaMismatch as error:
        raise start_refused(config, error) from error
    except (SpaceError, EncryptionError) as error:
        raise StoreMisused(f"the store cannot be read: {error}", hint="restore a backup") from error


async def _check_large_values(config: Config, store: Store, identity: Identity | None) -> None:
    """Check that the store's large values are where the settings say, and that a bucket works."""
    recorded = await recorded_location(store)
    if identity is not None and recorded != location_text(config):
        raise StoreMisused(
            f"large values are stored in {recorded}, but the configured location is"
            f" {location_text(config)}",
            hint="correct objects.url, or move the large values: sealspace admin migrate-objects",
        )
    if config.objects.url is None:
        return
    bucket = open_bucket(config)
    try:
        await bucket.try_out()
        if identity is not None:
            await bucket.claim(identity.store_id)
    except SpaceError as error:
        raise StoreMisused(
            str(error),
            hint="check objects.url, endpoint and region, and the rights of the credentials",
        ) from None
