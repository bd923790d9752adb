"""The command `sealspace admin upgrade`."""

import asyncio

import click

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from encryption_network.network_errors import RecordError
from sealspace.cli.terminal import counter, flag_option, print_json, tell
from sealspace.service.command_errors import StoreMisused
from spaces.lease import LEASE_S, Lease
from spaces.space_errors import SpaceError, StoreBusy, StoreLocked
from spaces.values.value_storage import Values

from ..config.tree import Config
from ..operations.upgrade import StoreUpgrade, Upgraded
from ..storage.objects import stored_objects
from ..storage.stores import open_store
from .opened_store import as_node_error, has_store, own_keyring
from .settings import configured, where_options


@click.command()
@configured
@where_options
@flag_option(
    "--accept-unreadable",
    "accepts_unreadable",
    help="Leave out values whose files are damaged or missing. If a file comes back later, its"
    " envelope could be copied to another name.",
)
def upgrade(config: Config, accepts_unreadable: bool) -> None:
    """Move a store forward that an earlier version wrote.

    Stop every node on the store first, and make a backup. The command numbers the values for
    the change feed. In a store of schema 2 it also reads every value, and records where each
    content key is stored. It prints the result as JSON. After an interruption, run the
    same command again. Afterwards, earlier versions cannot open the store.
    """
    if not has_store(config):
        raise StoreMisused(
            f"there is no store in {config.data}", hint="specify the data folder with --data"
        )
    try:
        upgraded = asyncio.run(_run_upgrade(config, accepts_unreadable=accepts_unreadable))
    except SpaceError as error:
        hint = "run the same command again"
        if isinstance(error, StoreLocked):
            hint = f"stop the node that uses {config.data}"
        raise as_node_error(error, config, what="the store was not upgraded", hint=hint) from error
    except RecordError as error:
        raise StoreMisused(
            f"the store was not upgraded: {error}", hint="sealspace admin check"
        ) from error
    print_json(
        {
            "schema": upgraded.schema,
            "values": upgraded.values,
            "numbered": upgraded.numbered,
            "unreadable": upgraded.unreadable,
            "keys": upgraded.keys,
            "atTwoPaths": upgraded.at_two_paths,
        }
    )
    if upgraded.at_two_paths:
        tell(
            f"{upgraded.at_two_paths} content keys are stored at two paths; only their owners in"
            " person can open them until the secrets are set again"
        )


async def _run_upgrade(config: Config, *, accepts_unreadable: bool) -> Upgraded:
    """Upgrade the store of the settings, while no node uses it.

    Raises:
        StoreLocked, StoreBusy: a node is running.
        Errors of `StoreUpgrade.run`.
    """
    store = open_store(config)  # on LMDB, this fails while a node is running
    lease = Lease(store, owner=SystemEntropy().token(16), ttl_s=LEASE_S)
    show_count = counter("values examined", every=10_000)

    async def progress(examined: int) -> None:
        show_count(examined)
        # A running node of a database has the lease. Each step takes it again, since it ends.
        if config.is_shared and not await lease.take(now=SystemClock.now()):
            raise StoreBusy(
                "a node uses this database, or has used it in the last two minutes; stop every node"
            )

    try:
        await progress(0)
        store_upgrade = StoreUpgrade(
            store=store,
            values=Values(store, await stored_objects(config, store), SystemEntropy()),
            keyring=await own_keyring(config, store),
            progress=progress,
            accepts_unreadable=accepts_unreadable,
        )
        upgraded = await store_upgrade.run()
        if config.is_shared:
            await lease.release()
        return upgraded
    finally:
        await store.close()
