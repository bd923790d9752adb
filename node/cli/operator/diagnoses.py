"""What `sealspace doctor` reports about services on other machines: a database, a bucket."""

import asyncio

from spaces.errors import SpaceError
from spaces.identity import recorded_identity
from spaces.store.contract import Store
from spaces.values.object_place import recorded_place

from ...config.tree import Config
from ...errors import StoreMisused
from ...storage.objects import claim_bucket, open_bucket, place_text
from ..diagnosis import Diagnosis


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
