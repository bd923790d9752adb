"""Tests of the replacement of the root secret, killed at each commit and continued (RK5).

The processes are real, and are killed by SIGKILL.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from postgres_server import needs_postgres, postgres_server
from root_rotation_world import (
    NETWORKS,
    When,
    World,
    filled_store,
    killed,
    network_ids,
    networks_of,
    rotated,
)

from encryption_network.keyring import Keyring
from encryption_network.networks import is_sealed_by
from node.cli.opened_store import own_keyring
from node.storage.stores import open_store
from sealspace.cli.exit_status import EXIT_STATUS
from sealspace.cli.root import main
from sealspace.service.command_errors import NodeError
from spaces.identity import recorded_identity

pytestmark = pytest.mark.slow

Database = Callable[[], str | None]
ENGINES = [
    pytest.param(lambda: None, id="lmdb"),
    pytest.param(lambda: postgres_server().new_schema(), id="postgresql", marks=needs_postgres()),
]


def new_secret(world: World) -> Keyring:
    """Return the keys of the new secret, wherever the file is by now."""
    for name in ("secret-next", "secret"):
        file = world.config.data / name
        if file.exists():
            return Keyring(file.read_bytes())
    raise AssertionError("there is no secret")


async def check_in_between(world: World) -> None:
    """Check the store of a killed command: each network opens with one secret, and no node starts
    with the wrong one."""
    store = open_store(world.config)
    try:
        new = new_secret(world)
        records = await networks_of(store)
        assert len(records) == NETWORKS
        for record in records:
            assert is_sealed_by(record, world.former) != is_sealed_by(record, new)
        open_now = [is_sealed_by(record, world.former) for record in records]
        try:
            keyring = await own_keyring(world.config, store)
        except NodeError as error:
            assert error.code in ("rotation-unfinished", "secret-replaced")
        else:
            assert all(is_sealed_by(record, keyring) for record in records), open_now
    finally:
        await store.close()


async def check_finished(world: World, *, new_identity: bool) -> None:
    """Check the store of a finished command."""
    store = open_store(world.config)
    try:
        keyring = await own_keyring(world.config, store)
        records = await networks_of(store)
        assert {record.network for record in records} == {one.text for one in network_ids()}
        assert all(is_sealed_by(record, keyring) for record in records)
        assert not any(is_sealed_by(record, world.former) for record in records)
        identity = await recorded_identity(store)
        assert identity is not None and identity.node_did == keyring.node_did
        assert (keyring.node_did == world.former.node_did) is not new_identity
    finally:
        await store.close()
    former = Keyring((world.config.data / "secret-former-1").read_bytes())
    assert former.check_value == world.former.check_value
    assert not (world.config.data / "secret-next").exists()


@pytest.mark.parametrize("new_database", ENGINES)
@pytest.mark.parametrize("options", [(), ("--new-identity", "--yes")], ids=["same", "new"])
async def test_RK5_killed_at_each_commit(
    tmp_path: Path, new_database: Database, options: tuple[str, ...]
) -> None:
    """Killed before or after any commit, the command is continued by the same command."""
    tried = 0
    commit = 1
    while True:
        reached: list[bool] = []
        points: tuple[When, ...] = ("before", "after")
        for when in points:
            world = await filled_store(tmp_path / f"{commit}-{when}", new_database())
            reached.append(
                await asyncio.to_thread(killed, world, *options, commit=commit, when=when)
            )
            if reached[-1]:
                tried += 1
                await check_in_between(world)
                done = await asyncio.to_thread(rotated, world, *options)
                assert done.returncode == 0, done.stderr
            await check_finished(world, new_identity=bool(options))
        if not any(reached):
            break
        commit += 1
    # At least the beginning, three pages of networks and the end, before and after each.
    assert tried >= 10


@pytest.mark.parametrize("when", ["link", "rename"])
async def test_RK6_killed_between_the_files(tmp_path: Path, when: When) -> None:
    """Killed before the files are renamed, the same command renames them."""
    world = await filled_store(tmp_path / "data")
    assert await asyncio.to_thread(killed, world, commit=0, when=when)
    await check_in_between(world)
    done = await asyncio.to_thread(rotated, world)
    assert done.returncode == 0, done.stderr
    await check_finished(world, new_identity=False)


def test_the_checks_pass_afterwards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After a replacement that was killed, `admin check --open` opens every network."""
    world = asyncio.run(filled_store(tmp_path / "data"))
    assert killed(world, commit=3, when="after")
    assert main(["admin", "check", "--open", *world.options]) == EXIT_STATUS["rotation-unfinished"]
    assert "run sealspace admin root rotate again" in capsys.readouterr().err
    assert rotated(world).returncode == 0
    assert main(["admin", "check", "--open", *world.options]) == 0
    assert f"decrypts: {NETWORKS}" in capsys.readouterr().err
