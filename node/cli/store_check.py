"""Checks of the node's storage for the command `sealspace doctor`."""

import asyncio
from collections.abc import Sequence

from capabilities.clock_and_entropy import SystemEntropy
from encryption_network.keyring import Keyring
from encryption_network.network_errors import EncryptionError
from sealspace.cli.command_errors import SecretUnusable, StoreMisused
from spaces.identity import Identity, recorded_identity
from spaces.space_errors import SpaceError, StoreMoved
from spaces.store.contract import Store
from spaces.values.object_place import recorded_location

from ..config.tree import Config
from ..platform.root_secret import SECRET_FILE_NAME, load_root_secret, wrong_secret_hint
from ..release_terms import loosened, recorded_release
from ..storage.objects import location_text, open_bucket
from .opened_store import has_store, opened_store


def database_findings(config: Config) -> Sequence[tuple[str, str, str]]:
    """Check the configured database, if any.

    Returns:
        Findings as (severity, text, next step).
    """
    if not config.is_shared:
        return []
    from spaces.store.postgres.requirements import examine

    assert config.store.url is not None  # is_shared
    try:
        return asyncio.run(examine(config.store.url))
    except SpaceError as error:
        return [
            ("wrong", str(error), "check the address in store.url and the database server's log")
        ]


async def check_store(config: Config) -> str:
    """Check that the store fits the node's root secret and settings.

    The store is not changed.
    """
    if not has_store(config):
        return "will be created by the first start"
    try:
        async with opened_store(config) as store:
            try:
                identity, record = await recorded_identity(store), await recorded_release(store)
            except StoreMoved:
                raise
            except (SpaceError, EncryptionError) as error:
                raise StoreMisused(
                    f"the store cannot be read: {error}", hint="restore a backup"
                ) from error
            await _check_large_values(config, store, identity)
    except StoreMisused as error:
        if error.code == StoreMoved.code:
            async with opened_store(config, may_be_moved=True) as store:
                if (identity := await recorded_identity(store)) is not None:
                    error.message += f"; it belongs to {identity.node_did}"
        raise
    if identity is None or record is None:
        return "new"
    secret, place = config.secret, config.data / SECRET_FILE_NAME
    if secret.value is None and secret.file is None and not secret.platform and not place.exists():
        raise SecretUnusable(
            f"the store's root secret is missing: {place.absolute()} does not exist",
            hint="restore that file from a backup with mode 0600, or set secret.file",
        )
    try:
        keyring = Keyring(load_root_secret(config, SystemEntropy()))
    except EncryptionError as error:
        raise StoreMisused(str(error), hint="use the store's own root secret") from None
    if keyring.node_did != identity.node_did:
        raise StoreMisused(
            f"the store belongs to {identity.node_did}, but the root secret to {keyring.node_did}",
            hint=wrong_secret_hint(config, identity.node_did),
        )
    if (difference := loosened(config.release, record)) is not None:
        raise StoreMisused(difference, hint="sealspace admin release show")
    return f"belongs to {identity.node_did}, attestation {record.mode}"


async def _check_large_values(config: Config, store: Store, identity: Identity | None) -> None:
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
