"""Tests of a whole node's backups: restored data, used tokens, and serving a copy."""

import shutil
from pathlib import Path

import aiohttp
import pytest
from conformance.minting import key_token
from embedded_node import EmbeddedNode, embedded_node
from engines import needs_folder
from msgspec.structs import replace
from postgres_server import needs_postgres, postgres_server
from s3_server import KEY_ID, SECRET_KEY, s3_server
from tests_support import CountingEntropy, FixedClock

from capabilities.signatures import Ed25519Signer
from encryption_network.keyring import Keyring
from node.cli import store_check
from node.config.tree import Config, Hosting, Http, Objects, Store
from node.housekeeping.schedule import JOBS
from node.operations.readiness import ReadinessProbe
from node.storage.objects import stored_objects
from node.storage.stores import longest_life_s, refuse_unsafe_copy, rows_of
from sealspace.cli.terminal import time_text
from sealspace.client import Client
from sealspace.errors import NodeFailure, SpacesNotHosted
from sealspace.service.command_errors import BesideOriginal, ConfigurationError, StoreMisused
from sealspace.session import key_session
from sealspace.wallets import Wallet, new_wallet
from spaces.archive.backup import backup_file, write_backup
from spaces.archive.checking import check_store
from spaces.archive.restoring import OpenedBackup, finish_restore, restore_backup, restoring_into
from spaces.identity import ensure_identity
from spaces.keyspace import HOSTING_MODE_KEY, RESTORED_KEY
from spaces.store.contract import Commit, Put
from spaces.store.lmdb.engine import open_lmdb, read_lmdb
from spaces.store.lmdb.snapshots import LmdbRows
from spaces.values.object_folder import ObjectFolder

pytestmark = needs_folder()

OWNER = Ed25519Signer(b"\x61" * 32)
SPACE = f"tinycloud:{OWNER.did.removeprefix('did:')}:default"
LARGE = bytes(range(256)) * 400


def config_of(folder: Path) -> Config:
    return Config(http=Http(port=0, drain_s=0), store=Store(data=str(folder)))


async def back_up_node(node: EmbeddedNode, path: Path) -> None:
    services = node.services
    objects = await stored_objects(services.config, services.store)
    with backup_file(path) as stream:
        await write_backup(
            services.store,
            rows_of(services.config, services.store),
            objects,
            stream,
            folder=services.config.data.resolve(),
            is_shared=False,
            longest_life_s=longest_life_s(services.config),
            settings=b"",
            sealed_secret=None,
            clock=services.clock,
            progress=lambda _: None,
        )


async def restore_into(
    folder: Path, path: Path, clock: FixedClock, *, new_node_did: str | None = None
) -> int:
    """Restore a backup, and return the earliest expiry of tokens that are accepted."""
    with path.open("rb") as stream, restoring_into(folder) as staging:
        backup = OpenedBackup(stream)
        await restore_backup(backup, staging, progress=lambda _: None)
        finished = await finish_restore(
            staging,
            backup.header,
            longest_life_s=longest_life_s(config_of(folder)),
            new_node_did=new_node_did,
            clock=clock,
            entropy=CountingEntropy(),
        )
    return 60 * finished.open_from_minute


async def damages(folder: Path) -> int:
    store = read_lmdb(folder)
    try:
        checked = await check_store(LmdbRows(store, folder), ObjectFolder(folder / "blobs"), folder)
        assert checked.rows > 20
        return checked.damages
    finally:
        await store.close()


def call(clock: FixedClock, ability: str, name: str, *, expires_at: float | None = None) -> str:
    resource = {f"{SPACE}/kv/{name}": [f"tinycloud.kv/{ability}"]}
    return key_token(
        OWNER,
        audience=OWNER.did,
        grants=resource,
        expires_at=expires_at or clock.now() + 60,
        nonce=name,
    )


async def send(node: EmbeddedNode, token: str, body: bytes | None = None) -> tuple[int, bytes]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(node.url + "/invoke", headers={"Authorization": token}, data=body) as answer,
    ):
        return answer.status, await answer.read()


async def people(node: EmbeddedNode, clock: FixedClock) -> Wallet:
    """Let an owner sign in, store values and secrets, grant and revoke."""
    wallet = new_wallet()
    async with Client(node.url, clock=clock) as client:
        await client.sign_in(wallet)
        await client.secrets().put("TOKEN", "s3cret")
        await client.kv().put("note", b"n", metadata={"x-kind": "note"})
        await client.kv().put("large", LARGE)
        await client.kv().put("gone", LARGE)
        await client.kv().delete("gone")
    return wallet


async def test_a_node_goes_on_where_its_backup_was(tmp_path: Path) -> None:
    """Values, secrets and sign-ins are restored, and tokens of that time are refused (BK5)."""
    clock, here, there = FixedClock(), tmp_path / "here", tmp_path / "there"
    async with embedded_node(config_of(here), clock=clock) as node:
        wallet = await people(node, clock)
        assert (await send(node, call(clock, "put", "k"), b"1"))[0] == 200
        used_before = call(clock, "get", "k", expires_at=clock.now() + 280)
        assert await send(node, used_before) == (200, b"1")
        await back_up_node(node, tmp_path / "backup")
        clock.advance(100)
        used_after = call(clock, "get", "k", expires_at=clock.now() + 290)
        assert (await send(node, used_after))[0] == 200
        assert (await send(node, call(clock, "put", "k"), b"2"))[0] == 200
    assert await damages(here) == 0
    shutil.move(here, tmp_path / "lost")
    clock.advance(5)
    open_from = await restore_into(there, tmp_path / "backup", clock)
    assert await damages(there) == 0
    shutil.copy(tmp_path / "lost" / "secret", there / "secret")
    async with embedded_node(config_of(there), clock=clock) as node:
        for token in (used_before, used_after, call(clock, "get", "k")):
            status, text = await send(node, token)
            assert status == 503, text
            assert b"restored from a backup" in text
        # A token that was refused stays refused: the wait is for a new one.
        assert (await send(node, used_before)) == (409, b"duplicate invocation")
        clock.advance(open_from - clock.now())
        assert (await send(node, used_after))[0] == 401  # it has expired
        assert await send(node, call(clock, "get", "k")) == (200, b"1")
        async with Client(node.url, clock=clock) as client:
            await client.sign_in(wallet)
            assert (await client.kv().get("note")).body == b"n"
            assert (await client.kv().get("large")).body == LARGE
            assert await client.secrets().list() == ("TOKEN",)
    assert await damages(there) == 0


async def test_a_restored_node_says_when_secrets_open_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a restore, /readyz is 503 with the time, and secrets are 503 with a wait (BK5).

    `sealspace doctor` shows the same sentence.
    """
    clock, here, there = FixedClock(), tmp_path / "here", tmp_path / "there"
    async with embedded_node(config_of(here), clock=clock) as node:
        wallet = await people(node, clock)
        await back_up_node(node, tmp_path / "backup")
    shutil.move(here, tmp_path / "lost")
    open_from = await restore_into(there, tmp_path / "backup", clock)
    shutil.copy(tmp_path / "lost" / "secret", there / "secret")
    wait = f"until {time_text(open_from)} at the latest, values and secrets are neither read"
    async with (
        embedded_node(config_of(there), clock=clock) as node,
        Client(node.url, clock=clock) as client,
        Client(node.url, clock=clock, session=key_session(bytes(32))) as own,
        aiohttp.ClientSession() as session,
    ):
        await client.sign_in(wallet)
        async with session.get(f"{node.url}/readyz") as answer:
            ready = await answer.json()
        assert answer.status == 503
        assert ready["ready"] is False
        assert wait in ready["closed"]
        async with session.get(f"{node.url}/healthz") as answer:
            assert answer.status == 200
        with pytest.raises(NodeFailure) as failed:
            await client.secrets().get("TOKEN")
        refused = failed.value
        assert refused.status == 503
        assert refused.retry_after_s and refused.step == f"try again in {refused.retry_after_s:g} s"
        with pytest.raises(NodeFailure, match="restored"):
            await own.encryption.ensure_network()
        clock.advance(refused.retry_after_s)
        assert await client.secrets().get("TOKEN") == "s3cret"
    monkeypatch.setattr(store_check, "SystemClock", clock)
    assert wait in await store_check.check_store(config_of(there))
    clock.advance(open_from - clock.now())
    assert "until" not in await store_check.check_store(config_of(there))
    async with embedded_node(config_of(there), clock=clock) as node:
        report = await ReadinessProbe().check(node.services)
    assert report.ready and report.closed is None


async def test_a_restored_store_is_not_served_beside_its_original(tmp_path: Path) -> None:
    """A restored store is refused while the original is here, running or not (BK6).

    `sealspace doctor` refuses it too.
    """
    clock, here, there = FixedClock(), tmp_path / "here", tmp_path / "there"
    async with embedded_node(config_of(here), clock=clock) as node:
        await people(node, clock)
        await back_up_node(node, tmp_path / "backup")
        await restore_into(there, tmp_path / "backup", clock)
        shutil.copy(here / "secret", there / "secret")
        await refuses(there, clock)
    await refuses(there, clock)
    (here / "store" / "data.mdb").write_bytes(b"what cannot be read")
    await refuses(there, clock)
    shutil.rmtree(here)
    async with embedded_node(config_of(here), clock=clock):  # another store has taken the folder
        pass
    async with embedded_node(config_of(there), clock=clock):
        pass
    shutil.move(there, here / "moved")


async def test_a_restored_node_of_few_owners_is_not_open_to_all(tmp_path: Path) -> None:
    """Without its settings a restored node is refused until they state the hosting mode (ST18)."""
    clock, here, there, secret = FixedClock(), tmp_path / "here", tmp_path / "there", b""
    closed = replace(config_of(here), hosting=Hosting(mode="permit"))
    async with embedded_node(closed, clock=clock) as node:
        await back_up_node(node, tmp_path / "backup")
        secret = (here / "secret").read_bytes()
    shutil.rmtree(here)
    await restore_into(there, tmp_path / "backup", clock)
    (there / "secret").write_bytes(secret)
    (there / "secret").chmod(0o600)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"hosting\.mode = permit") as raised:
            async with embedded_node(config_of(there), clock=clock):
                pass
        assert "--hosting permit" in raised.value.hint
    permit, auto = Hosting(mode="permit", is_mode_stated=True), Hosting(is_mode_stated=True)
    for stated, is_open in ((permit, False), (auto, True)):
        config = replace(config_of(there), hosting=stated)
        async with (
            embedded_node(config, clock=clock) as node,
            Client(node.url, clock=clock) as stranger,
        ):
            signing_in = stranger.sign_in(new_wallet())
            if is_open:
                await signing_in
                continue
            with pytest.raises(SpacesNotHosted):
                await signing_in
    async with embedded_node(config_of(there), clock=clock):  # its operator has opened it
        pass


async def test_a_copy_of_unknown_hosting_is_not_open_to_all(tmp_path: Path) -> None:
    """A restored store that does not say how it was served needs the hosting mode (ST18)."""
    clock, here, there = FixedClock(), tmp_path / "here", tmp_path / "there"
    async with embedded_node(config_of(here), clock=clock) as node:
        await node.services.store.commit(Commit(puts=(Put(HOSTING_MODE_KEY, None),)))
        await back_up_node(node, tmp_path / "backup")
    shutil.move(here / "secret", tmp_path / "secret")
    shutil.rmtree(here)
    await restore_into(there, tmp_path / "backup", clock)
    shutil.move(tmp_path / "secret", there / "secret")
    with pytest.raises(ConfigurationError, match=r"hosting\.mode = unknown"):
        async with embedded_node(config_of(there), clock=clock):
            pass


@pytest.mark.parametrize("place", ["/" + "x" * 256, "/x" * 2046, "/a\0b", "/dev/null"])
async def test_an_original_in_a_folder_that_cannot_be(tmp_path: Path, place: str) -> None:
    """An original path that is impossible on this machine does not prevent the start (BK6)."""
    store = open_lmdb(tmp_path, clock=FixedClock())
    try:
        await ensure_identity(store, node_did="did:key:z6MkNode", entropy=CountingEntropy())
        await store.commit(Commit(puts=(Put(RESTORED_KEY, place.encode()),)))
        await refuse_unsafe_copy(config_of(tmp_path), store)
    finally:
        await store.close()


async def refuses(folder: Path, clock: FixedClock) -> None:
    with pytest.raises(StoreMisused, match="still contains the original store") as raised:
        async with embedded_node(config_of(folder), clock=clock):
            pass
    assert raised.value.code == "beside-original"
    assert "stop the original's node, then mv " in raised.value.hint
    assert "--as-new" in raised.value.hint
    with pytest.raises(BesideOriginal):  # as a start does
        await store_check.check_store(config_of(folder))


async def test_a_copy_as_new_is_served_beside_its_original(tmp_path: Path) -> None:
    """A copy as new is another node, and refuses tokens for the original (BK7)."""
    clock, here, there = FixedClock(), tmp_path / "here", tmp_path / "there"
    other = CountingEntropy(b"other").token(32)
    async with embedded_node(config_of(here), clock=clock) as node:
        wallet = await people(node, clock)
        assert (await send(node, call(clock, "put", "k"), b"1"))[0] == 200
        await back_up_node(node, tmp_path / "backup")
        new_did = Keyring(other).node_did
        open_from = await restore_into(there, tmp_path / "backup", clock, new_node_did=new_did)
        (there / "secret").write_bytes(other)
        (there / "secret").chmod(0o600)
        assert await damages(there) == 0
        clock.advance(open_from - clock.now())
        async with embedded_node(config_of(there), clock=clock) as copy:
            assert copy.services.keyring.node_did == new_did != node.services.keyring.node_did
            assert copy.services.store_id != node.services.store_id
            assert await send(copy, call(clock, "get", "k")) == (200, b"1")
            named = key_token(
                OWNER,
                audience=node.services.keyring.node_did,
                grants={f"{SPACE}/kv/k": ["tinycloud.kv/get"]},
                expires_at=clock.now() + 60,
                nonce="named",
            )
            assert (await send(copy, named))[0] == 401
            assert (await send(node, named))[0] == 200
            async with Client(copy.url, clock=clock) as client:
                await client.sign_in(wallet)
                assert (await client.kv().get("large")).body == LARGE
    assert await damages(there) == 0
    shutil.copy(here / "secret", there / "secret")
    with pytest.raises(StoreMisused):  # with the secret of the original it does not start
        async with embedded_node(config_of(there), clock=clock):
            pass


@pytest.mark.parametrize("engine", ["lmdb", pytest.param("postgresql", marks=needs_postgres())])
async def test_the_collector_waits_for_a_backup(tmp_path: Path, engine: str) -> None:
    """No body is removed while a backup is copied, however long that takes (BK2)."""
    clock, here = FixedClock(), tmp_path / "here"
    url = None if engine == "lmdb" else postgres_server().new_database()
    config = replace(config_of(here), store=Store(data=str(here), url=url))
    job = next(job for job in JOBS if job.name == "collect-bodies")
    async with embedded_node(config, clock=clock) as node:
        await people(node, clock)
        assert (await send(node, call(clock, "put", "big"), LARGE + b"big"))[0] == 200
        assert (await send(node, call(clock, "del", "big")))[0] == 200
        files = sorted((here / "blobs").glob("*/*-*"))
        async with rows_of(config, node.services.store).lock_bodies():
            clock.advance(10 * 86_400)
            assert await job.do_round(node.services) is False
        assert sorted((here / "blobs").glob("*/*-*")) == files
        while await job.do_round(node.services):
            pass
        clock.advance(4000)
        assert await job.do_round(node.services) is True
        assert len(list((here / "blobs").glob("*/*-*"))) == len(files) - 1 == 1


async def test_large_values_in_a_bucket(tmp_path: Path) -> None:
    """Values in a bucket are backed up, and restored into the folder (BK3).

    Without the bucket's settings the backup is refused.
    """
    clock, here, there = FixedClock(), tmp_path / "here", tmp_path / "there"
    server = s3_server()
    place = server.new_bucket()
    url = f"s3://{place.bucket}/{place.prefix}"
    bucket = Objects(url=url, endpoint=server.endpoint, key_id=KEY_ID, secret_key=SECRET_KEY)
    async with embedded_node(replace(config_of(here), objects=bucket), clock=clock) as node:
        wallet = await people(node, clock)
        assert not (here / "blobs").exists()
        with pytest.raises(StoreMisused, match="this store keeps its large values in s3://"):
            await stored_objects(config_of(here), node.services.store)
        await back_up_node(node, tmp_path / "backup")
    shutil.move(here, tmp_path / "lost")
    clock.advance(await restore_into(there, tmp_path / "backup", clock) - clock.now())
    shutil.copy(tmp_path / "lost" / "secret", there / "secret")
    assert await damages(there) == 0
    async with (
        embedded_node(config_of(there), clock=clock) as node,
        Client(node.url, clock=clock) as client,
    ):
        await client.sign_in(wallet)
        assert (await client.kv().get("large")).body == LARGE
