"""A test that a destroyed key of a network is gone from the store and from later backups."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import lmdb
from embedded_node import EmbeddedNode, embedded_node
from engines import store_at

from capabilities.abilities import SET_POLICY
from encryption_network.networks import decode_network, private_key
from node.config.tree import Config, Http
from sealspace.cli.root import main
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.session import Session
from sealspace.wallets import AnyWallet, new_wallet
from spaces.documents.network_rows import network_row_key
from spaces.store.contract import Range, pages_of, read_row


def backup_of(data: Path, file: Path) -> bytes:
    """Write a backup with the program, and return its bytes."""
    assert main(["admin", "backup", str(file), "--data", str(data), "--quiet"]) == 0
    return file.read_bytes()


def compacted(data: Path, folder: Path) -> bytes:
    """Return the bytes of a compacted copy of the store."""
    folder.mkdir()
    with lmdb.open(str(data / "store"), readonly=True, lock=False) as environment:
        environment.copy(str(folder), compact=True)
    return (folder / "data.mdb").read_bytes()


async def live_rows(node: EmbeddedNode) -> bytes:
    """Return the values of all rows."""
    values = []
    for prefix in range(256):
        async for page in pages_of(node.services.store, Range(bytes([prefix]))):
            for _, row in page.rows:
                values.append(row.value or b"")
    return b"".join(values)


@dataclass(frozen=True)
class Former:
    """The former key of an owner's network, sealed and as it is, and the owner's wallet and
    session."""

    sealed: bytes
    scalar: bytes
    wallet: AnyWallet
    session: Session


async def replaced(config: Config) -> Former:
    """Store secrets, replace the key, and encrypt the secrets again."""
    wallet = new_wallet()
    async with embedded_node(config) as node, Client(node.url) as owner:
        await owner.sign_in(wallet)
        network = owner.encryption.network()
        await owner.delegations.add_right(wallet, [allow(network.text, SET_POLICY)])
        await owner.secrets().put_many({f"NAME_{number}": "value" for number in range(20)})
        row = await read_row(node.services.store, network_row_key(network))
        assert row is not None and row.value is not None
        record = decode_network(row.value)
        await owner.network_keys.rotate(network, wallet=lambda: wallet)
        assert (await owner.network_keys.reencrypt(network)).sealed == 20
        assert record.sealed_private_key in await live_rows(node)
        scalar = private_key(record, node.services.keyring)
        return Former(record.sealed_private_key, scalar, wallet, owner.session)


async def destroyed(config: Config, former: Former) -> None:
    """Destroy the former key."""
    async with (
        embedded_node(config) as node,
        Client(node.url, session=former.session) as owner,
    ):
        network = owner.encryption.network()
        await owner.network_keys.retire(network, 1)
        await owner.network_keys.destroy(network, 1, wallet=lambda: former.wallet)
        rows = await live_rows(node)
        assert former.sealed not in rows and former.scalar not in rows
        assert await owner.secrets().get("NAME_7") == "value"


def test_a_destroyed_key_is_nowhere(tmp_path: Path) -> None:
    """The key, sealed or not, is in no live row, compacted store or new backup (EN38)."""
    data = tmp_path / "data"
    config = Config(http=Http(port=0, drain_s=0), store=store_at(data))
    former = asyncio.run(replaced(config))
    # The search finds the key where it is.
    assert former.sealed in backup_of(data, tmp_path / "before")
    assert former.sealed in compacted(data, tmp_path / "compacted-before")
    asyncio.run(destroyed(config, former))
    backup = backup_of(data, tmp_path / "after")
    for found in (backup, compacted(data, tmp_path / "compacted")):
        assert former.sealed not in found and former.scalar not in found
    assert main(["admin", "check", "--data", str(data), "--quiet"]) == 0
