"""A node without disk space, and a node with another store's secret."""

import asyncio
import secrets
import shutil
from pathlib import Path

import aiohttp
import pytest
from durability.load import DELETE, GET, PUT, Granter, new_session
from embedded_node import embedded_node
from msgspec.structs import replace
from patience import PATIENCE_S
from running_node import (
    Reply,
    RunningNode,
    exchange,
    key_token,
    new_key,
    running_node,
    send,
    wallet_token,
)

from capabilities.signatures import Ed25519Signer
from node.config.tree import Config, Http, Store
from node.platform.root_secret import SECRET_FILE_NAME
from sealspace.cli.root import EXIT_STATUS
from sealspace.cli.who.login import read_state
from sealspace.client import Client, SignIn
from sealspace.errors import StoreFull, Unauthorized
from sealspace.wallets import new_wallet
from sealspace.wire.transport import Transport
from spaces.store.contract import Commit, Put

pytestmark = pytest.mark.slow

SMALL_STORE_BYTES = 1 << 20
VALUE_BYTES = 40_000
MOST_VALUES = 60


class StoreFiller:
    """A key that puts values in its own space."""

    def __init__(self, node: RunningNode, session: aiohttp.ClientSession) -> None:
        self.node = node
        self.session = session
        self.signer: Ed25519Signer = new_key()

    async def call(self, name: str, ability: str, body: bytes | None = None) -> Reply:
        resource = f"tinycloud:{self.signer.did.removeprefix('did:')}:default/kv/{name}"
        token = key_token(self.signer, self.signer.did, {resource: [ability]})
        return await exchange(
            self.session, self.node.url, "POST", "/invoke", token=token, body=body
        )

    async def fill(self, size_bytes: int) -> int:
        """Put values until the store is full; return their number."""
        for count in range(MOST_VALUES):
            reply = await self.call(f"v{count}", PUT, secrets.token_bytes(size_bytes))
            if reply.status == 507:
                assert "full" in reply.text
                return count
            assert reply.status == 200, reply.said
        raise AssertionError("the store took more than it may hold")


@pytest.mark.parametrize("size_bytes", [VALUE_BYTES, 100_000], ids=["in rows", "in files"])
async def test_a_full_store(tmp_path: Path, size_bytes: int) -> None:
    """A full store answers puts with 507 until values are deleted, and reads and revocations still
    work."""
    environment = {"SEALSPACE_STORE__MAX_BYTES": str(SMALL_STORE_BYTES)}
    with running_node(tmp_path, environment=environment) as node:
        async with new_session() as session:
            granter, key = Granter(), new_key()
            grant = wallet_token(granter.wallet, key.did, {granter.resource: [GET]})
            assert (
                await exchange(session, node.url, "POST", "/delegate", token=grant)
            ).status == 200
            granter.standing[grant] = key
            filler = StoreFiller(node, session)
            count = await filler.fill(size_bytes)
            assert count >= 5
            for at in range(count):
                reply = await filler.call(f"v{at}", GET)
                assert (reply.status, len(reply.body)) == (200, size_bytes)
            assert (await filler.call(f"v{count}", GET)).status == 404
            await granter.revoke(session, node.url, grant)
            assert grant in granter.revoked
            assert (await granter.use(session, node.url, grant, key)).status == 401
            for at in range(count):
                assert (await filler.call(f"v{at}", DELETE)).status == 200
            if size_bytes == VALUE_BYTES:  # a file is unlinked by the collector, later
                assert (await filler.call("again", PUT, bytes(size_bytes))).status == 200
        assert node.stop() == 0


async def test_a_full_store_starts_again(tmp_path: Path) -> None:
    """A node whose store is full starts, and reads."""
    environment = {"SEALSPACE_STORE__MAX_BYTES": str(SMALL_STORE_BYTES)}
    with running_node(tmp_path, environment=environment) as node:
        async with new_session() as session:
            filler = StoreFiller(node, session)
            count = await filler.fill(VALUE_BYTES)
        node.kill()
    with running_node(tmp_path, environment=environment) as node:
        async with new_session() as session:
            filler.node, filler.session = node, session
            replies = await asyncio.gather(*(filler.call(f"v{at}", GET) for at in range(count)))
            assert {reply.status for reply in replies} == {200}
            assert (await filler.call("more", PUT, bytes(VALUE_BYTES))).status == 507


async def test_a_secret_is_read_from_a_store_that_accepts_no_writes(tmp_path: Path) -> None:
    """ST17: a node deep in the reserve refuses writes with 507, but an owner can read secrets and
    revoke grants.

    A stranger can then write nothing: neither a value, nor a delegation, nor a network.
    """
    config = Config(
        http=Http(port=0, drain_s=0), store=Store(data=str(tmp_path / "data"), max_bytes=1 << 30)
    )
    async with embedded_node(config) as node, Client(node.url) as client:
        session = await client.sign_in(new_wallet(), SignIn())
        await client.secrets().put("API_KEY", "open sesame")
        for number in range(86):  # 43 MiB, of a reserve of 64 MiB
            row = Put(b"zz%d" % number, bytes(500_000))
            await node.services.store.commit(Commit(puts=(row,)))
    small = replace(config, store=replace(config.store, max_bytes=1))
    async with embedded_node(small) as node, Client(node.url, session=session) as client:
        assert await client.secrets().get("API_KEY") == "open sesame"
        with pytest.raises(StoreFull, match="node's store is full") as refused:
            await client.kv().put("a", b"1")
        assert refused.value.step == "ask the node's operator to free disk space"
        async with Client(node.url) as stranger:
            with pytest.raises(StoreFull):
                await stranger.sign_in(new_wallet(), SignIn())
        async with Transport(node.url) as transport:
            with pytest.raises(StoreFull, match="write: store-full"):
                await read_state(transport)
        await client.delegations.revoke(session.grants[0].cid)
        with pytest.raises(Unauthorized):
            await client.secrets().get("API_KEY")


@pytest.fixture(scope="module")
def used_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a node that was stopped cleanly, copied for each test."""
    folder = tmp_path_factory.mktemp("used")
    with running_node(folder, workers=1) as node:
        assert node.stop() == 0
    return folder / "data"


@pytest.mark.parametrize("how", ["replaced", "named", "lost", "short"])
async def test_a_secret_that_is_not_the_store_s(tmp_path: Path, used_data: Path, how: str) -> None:
    """A store does not start without its root secret, with another one or with a part of it."""
    shutil.copytree(used_data, tmp_path / "data")
    own = tmp_path / "data" / SECRET_FILE_NAME
    kept = own.read_bytes()
    arguments: tuple[str, ...] = ()
    if how == "replaced":
        own.write_bytes(secrets.token_bytes(32))
    elif how == "lost":
        own.unlink()
    elif how == "short":
        own.write_bytes(kept[:16])
    else:
        other = tmp_path / "other"
        other.write_bytes(secrets.token_bytes(32))
        other.chmod(0o600)
        arguments = ("--secret-file", str(other))
    refused = RunningNode(tmp_path, "--workers", "1", *arguments)
    try:
        status = refused.process.wait(PATIENCE_S)
        is_another = how in ("replaced", "named")
        assert status in {
            EXIT_STATUS["store-misused"],
            *([] if is_another else [EXIT_STATUS["secret-unusable"]]),
        }
        refused.wait_for(
            "^sealspace: the store belongs to did:key:" if is_another else "^sealspace: "
        )
        refused.wait_for("^next: .*--secret-file" if is_another else "^next: ")
        assert not [line for line in refused.lines if kept.hex() in line]
    finally:
        refused.close()
    own.write_bytes(kept)
    own.chmod(0o600)
    with running_node(tmp_path, workers=1) as node:
        assert (await send(node.url, "GET", "/readyz")).status == 200
