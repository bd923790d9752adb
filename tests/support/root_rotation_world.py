"""A store with networks, and the command that replaces its root secret, in a process of its own.

The process can be killed at any of its commits, and between the renames of files. It is a fork of a
process that has imported the command, because that takes longer than the command.

Example:
    world = await filled_store(tmp_path)
    assert killed(world, commit=2, when="after")
    assert rotated(world).returncode == 0
"""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from forked_programs import KILLED, forked_program

from capabilities.clock_and_entropy import SystemEntropy
from capabilities.resources import NetworkId, network_id
from capabilities.signatures import Ed25519Signer
from encryption_network.keyring import Keyring
from encryption_network.networks import (
    NetworkRecord,
    create_network,
    decode_network,
    encode_network,
)
from encryption_network.withdrawals import NOTHING_WITHDRAWN, encode_withdrawals
from node.config.tree import Config
from node.config.tree import Store as StoreSettings
from node.storage.root_secrets import record_root_secret
from node.storage.stores import open_store
from spaces.documents.network_rows import network_put
from spaces.identity import ensure_identity
from spaces.keyspace import NETWORKS_PREFIX, WITHDRAWALS_KEY
from spaces.store.contract import Put, Range, Store, commit_puts, read_page

NETWORKS = 5
NOW = 1_790_000_000.0

_PROGRAM = """
import os, signal, sys
from pathlib import Path
from node.cli import root_commands
from node.storage import root_rotation
from sealspace.cli.root import main

number, when, *arguments = sys.argv[1:]
left = int(number)
root_rotation.NETWORKS_AT_ONCE = 2


def die():
    os.kill(os.getpid(), signal.SIGKILL)


class KillingStore:
    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def commit(self, commit):
        global left
        left -= 1
        if left == 0 and when == "before":
            die()
        outcome = await self._store.commit(commit)
        if left == 0 and when == "after":
            die()
        return outcome


opened = root_commands.open_store
root_commands.open_store = lambda config: KillingStore(opened(config))
link = os.link
if when == "link":
    os.link = lambda old, new: die() if Path(old).name == "secret" else link(old, new)
if when == "rename":
    Path.rename = lambda *_: die()
sys.exit(main(["admin", "root", "rotate", *arguments]))
"""

When = Literal["before", "after", "link", "rename"]


@dataclass(frozen=True)
class World:
    """A store that no node serves.

    Attributes:
        config: of its node.
        former: the keys of its root secret.
    """

    config: Config
    former: Keyring

    @property
    def options(self) -> list[str]:
        """The options of commands for this store."""
        data = ["--data", str(self.config.data)]
        return data if self.config.store.url is None else [*data, "--store", self.config.store.url]


def network_ids() -> list[NetworkId]:
    """Return the ids of the networks in the store."""
    owners = [Ed25519Signer(bytes([at + 1]) * 32).did for at in range(NETWORKS)]
    return [network_id(owner, "default") for owner in owners]


async def filled_store(folder: Path, url: str | None = None) -> World:
    """Make a store with a root secret, an identity and networks."""
    config = Config(store=StoreSettings(data=str(folder), url=url))
    secret, entropy = SystemEntropy().token(32), SystemEntropy()
    keyring = Keyring(secret)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / "secret"
    file.touch(0o600)
    file.write_bytes(secret)
    store = open_store(config)
    try:
        await ensure_identity(store, node_did=keyring.node_did, entropy=entropy)
        await record_root_secret(store, keyring, now=NOW)
        await commit_puts(store, Put(WITHDRAWALS_KEY, encode_withdrawals(NOTHING_WITHDRAWN)))
        for one in network_ids():
            made = create_network(one, now=NOW, keyring=keyring, entropy=entropy)
            await commit_puts(store, network_put(one, encode_network(made)))
    finally:
        await store.close()
    return World(config, keyring)


async def networks_of(store: Store) -> list[NetworkRecord]:
    """Return the records of all networks in a store."""
    page = await read_page(store, Range(NETWORKS_PREFIX))
    assert not page.more
    return [decode_network(record.value or b"") for _, record in page.rows]


def rotated(
    world: World, *more: str, commit: int = 0, when: When = "before"
) -> "subprocess.CompletedProcess[str]":
    """Run the command in a process; it is killed at a commit with this number, if any."""
    return subprocess.run(
        [forked_program("python"), "-c", _PROGRAM, str(commit), when, *world.options, *more],
        capture_output=True,
        text=True,
        check=False,
    )


def killed(world: World, *more: str, commit: int, when: When) -> bool:
    """Run the command and kill it at a commit; return False if it ended before."""
    done = rotated(world, *more, commit=commit, when=when)
    if done.returncode == KILLED:
        return True
    assert done.returncode == 0, done.stderr
    return False
