"""Stores that earlier versions wrote are opened, or are moved forward by a command first."""

import asyncio
import json
import shutil
import tarfile
from pathlib import Path

import pytest
from durability.former_store import (
    FOLDER,
    FORMER_SECRET,
    LARGE,
    LATER_S,
    SECRET,
    SMALL,
    WRITTEN_AT,
    Written,
    config_of,
    sign_in,
    unpack,
)
from embedded_node import embedded_node
from engines import needs_folder
from tests_support import FixedClock

from sealspace.cli.root import main
from sealspace.client import Client
from sealspace.errors import NotFound
from sealspace.service.command_errors import StoreMisused
from spaces.identity import require_present_schema
from spaces.keyspace import KEY_PLACES_PREFIX, SCHEMA_VERSION
from spaces.store.contract import Range, read_page
from spaces.store.lmdb.engine import open_lmdb

pytestmark = [pytest.mark.slow, needs_folder()]

ARCHIVES = sorted(FOLDER.glob("*.tar.xz"))


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.name.partition(".")[0])
def former(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Written]:
    """Unpack the store of one version, and upgrade it to the present schema.

    Returns its data folder, and what was written to it.
    """
    written = unpack(request.param, tmp_path)
    if written.schema != SCHEMA_VERSION:
        assert main(["admin", "upgrade", "--data", str(tmp_path / "data")]) == 0
    return tmp_path / "data", written


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.name.partition(".")[0])
def test_ST23_an_earlier_schema_is_not_served(archive: Path, tmp_path: Path) -> None:
    """A node refuses a store of an earlier schema, and names the command that upgrades it; the
    store can be checked, backed up and restored before (ST23)."""
    written, data, again = unpack(archive, tmp_path), tmp_path / "data", tmp_path / "again"
    if written.schema == SCHEMA_VERSION:
        pytest.skip("the store has the present schema")
    with pytest.raises(StoreMisused, match="this version of sealspace needs") as refused:
        asyncio.run(_served(data))
    assert f"sealspace admin upgrade --data {data}" in (refused.value.hint or "")
    backup = str(tmp_path / "backup")
    for command in (
        ["check", "--data", str(data)],
        ["backup", "--data", str(data), backup],
        ["restore", "--data", str(again), backup],
    ):
        assert main(["admin", *command]) == 0
    shutil.copy(data / "secret", again / "secret")
    assert main(["admin", "upgrade", "--data", str(again)]) == 0
    assert asyncio.run(_recorded_keys(again)) == 2


async def _served(data: Path) -> None:
    """Start and stop a node on a data folder."""
    async with embedded_node(config_of(data)):
        pass


async def _recorded_keys(data: Path) -> int:
    """Return how many content keys are recorded in a store of the present schema."""
    store = open_lmdb(data)
    try:
        await require_present_schema(store)
        return len((await read_page(store, Range(KEY_PLACES_PREFIX))).rows)
    finally:
        await store.close()


def test_the_schema_has_a_store() -> None:
    """There is a store of the present schema, and of every schema since the first of them."""
    schemas = set()
    for archive in ARCHIVES:
        assert archive.stat().st_size < 300_000
        schemas.add(json.loads(_written(archive))["schema"])
    assert schemas == set(range(min(schemas), SCHEMA_VERSION + 1))


def _written(archive: Path) -> bytes:
    with tarfile.open(archive) as packed:
        stream = packed.extractfile("written.json")
        assert stream is not None
        return stream.read()


async def test_a_former_store_is_served(former: tuple[Path, Written]) -> None:
    """A node on the store has its values, versions, secrets, tables, delegations, revocations and
    receipts, and accepts writes (ST21)."""
    data, written = former
    clock = FixedClock(WRITTEN_AT + LATER_S)
    async with (
        embedded_node(config_of(data), clock=clock) as node,
        Client(node.url, clock=clock) as client,
    ):
        await sign_in(client)
        kv = client.kv("default")
        small = await kv.get("folder/small")
        assert small.body == SMALL
        assert small.metadata["x-note"] == "kept"
        assert (await kv.get("folder/large")).body == LARGE
        assert (await kv.get("folder/replaced")).body == b"second"
        with pytest.raises(NotFound):
            await kv.get("folder/deleted")
        secrets = client.secrets()
        assert await secrets.get("API_KEY") == SECRET
        assert [kept.version for kept in await secrets.versions("API_KEY")] == [2, 1]
        await secrets.rollback("API_KEY", 1)
        assert await secrets.get("API_KEY") == FORMER_SECRET
        rows = await client.sql().query("SELECT id, body FROM notes")
        assert rows.rows == ((1, "a row"),)
        delegations = client.delegations
        assert (await delegations.status(written.live)).word == "active"
        assert (await delegations.status(written.revoked)).word == "revoked"
        releases = [release async for release in client.receipts.releases()]
        assert len(releases) > written.releases > 0
        await kv.put("folder/new", b"later")
        assert (await kv.get("folder/new")).body == b"later"


def test_a_former_store_is_undamaged(
    former: tuple[Path, Written], capsys: pytest.CaptureFixture[str]
) -> None:
    """A check of the store finds no damage in rows, values, databases and the audit chain."""
    data, _ = former
    assert main(["admin", "check", "--data", str(data), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["damages"] == 0
