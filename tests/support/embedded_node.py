"""A node in the process of the tests, on a real loopback socket.

Its storekeeper is a thread. Its processes for SQL statements are real ones.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass

from sql_processes import sql_processes

from capabilities.clock_and_entropy import Clock, Entropy, SystemClock, SystemEntropy
from encryption_network.keyring import Keyring
from node.config.tree import Config
from node.housekeeping.schedule import housekeeping
from node.http.app import build_app
from node.http.listener import start_listener
from node.http.routes.sms_routes import SMS_SERVED
from node.platform.root_secret import load_root_secret
from node.processes.start import claim_store, load_collateral
from node.services import Services
from node.storage.stores import longest_life_s
from sealspace.service.listening_socket import bind_socket, url_of
from spaces.store.lmdb.engine import open_lmdb


@dataclass(frozen=True, slots=True)
class EmbeddedNode:
    """A running node: its address, its services, and the address of the one for iExec's clients."""

    url: str
    services: Services
    sms_url: str = ""


@asynccontextmanager
async def embedded_node(
    config: Config, *, clock: Clock | None = None, entropy: Entropy | None = None
) -> AsyncIterator[EmbeddedNode]:
    """Run a node until the block ends.

    Args:
        config: as for `serve`; the number of workers, the log level and `metrics` have no effect
            here.
        clock: the system's when None.
        entropy: the system's when None.

    Raises:
        NodeError: what would prevent `serve` from starting.
    """
    clock, entropy = clock or SystemClock(), entropy or SystemEntropy()
    # it may call the platform
    keyring = Keyring(await asyncio.to_thread(load_root_secret, config, entropy))
    if config.store.url is None:
        store = open_lmdb(config.data, max_bytes=config.store.max_bytes, clock=clock)
    else:
        from spaces.store.postgres.engine import open_postgres

        lived_s = longest_life_s(config)
        store = open_postgres(config.store.url, clock=clock, longest_life_s=lived_s)
    try:
        services = await claim_store(
            config, store=store, keyring=keyring, clock=clock, entropy=entropy
        )
        await load_collateral(services)
        bound = bind_socket(config.http.host, config.http.port)
        listeners, sms_url = [await start_listener(build_app(services), bound, config.http)], ""
        if config.sms.listen is not None:
            sms = bind_socket(*config.sms.address)
            sms_url = url_of(sms)
            app = build_app(services, SMS_SERVED)
            listeners.append(await start_listener(app, sms, config.http))
        processes = nullcontext() if config.is_shared else sql_processes(config.data)
        with processes:
            async with housekeeping(services):
                try:
                    yield EmbeddedNode(url_of(bound), services, sms_url)
                finally:
                    for listener in listeners:
                        await listener.stop()
    finally:
        await store.close()
