"""Tests that large stores answer like small ones; sizes that take minutes are measured by hand."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from crowds import ASKED, PER_SPACE, load_spaces, load_values, owner_of, spaces_of_ten
from driving import drive
from started_servers import own_node

from capabilities.principals import Principal
from capabilities.resources import SpaceId
from spaces.grants.hosting import is_hosted
from spaces.keyspace import TOTAL_SPACES_COUNTER, space_keys, value_key, x16
from spaces.store.contract import Range, counter_of
from spaces.store.lmdb.engine import open_lmdb
from spaces.values.listing import ListingQuery, list_paths
from spaces.values.value_heads import head_key, head_of

HERE = Path(__file__).parent


def run_at_size(*arguments: str) -> dict[str, dict[str, Any]]:
    """Run the measurement with few requests, and ignore its verdict on CPU time."""
    command = [
        sys.executable,
        str(HERE / "at_size.py"),
        "--json",
        "--rounds",
        "1",
        "--requests",
        "20",
        *arguments,
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=HERE.parent.parent, timeout=240
    )
    assert done.stdout, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_a_node_on_many_values(tmp_path: Path) -> None:
    """A node on 20,000 values answers every kind of request, and its backup is complete."""
    found = run_at_size("--keys", "20000", "--folder", str(tmp_path))
    assert ["get", "put", "list a page", "delegate"] == list(found["requests"])
    assert found["store"]["full store: backup, MiB"] > 4
    assert found["store"]["full store: check, seconds"] > 0
    assert [] == list(tmp_path.iterdir())


@pytest.mark.slow
async def test_owners_of_loaded_spaces(tmp_path: Path) -> None:
    """Owners of loaded spaces send requests with their own keys and are answered."""
    with own_node(tmp_path / "data", "--attestation", "off"):
        pass  # makes the secret and the identity
    await load_spaces(tmp_path / "data", 50, size_bytes=50)
    pick, chance = spaces_of_ten(50), random.Random(1)
    asked = [make(pick, chance) for make in ASKED.values() for _ in range(5)]
    with own_node(tmp_path / "data", "--attestation", "off") as (url, _):
        done = await drive(int(url.rpartition(":")[2]), asked, connections=1, most_s=60.0)
    assert len(asked) == len(done.latencies_s)


async def test_loaded_values_are_what_a_node_writes(tmp_path: Path) -> None:
    """Loaded values are read, listed and counted like values that a node wrote."""
    space = SpaceId(Principal(owner_of(7).did), "default")
    await load_values(tmp_path, space.text, 1_000, size_bytes=50)
    store = open_lmdb(tmp_path)
    try:
        key = head_key(space, "v/00000999")
        usage, last = (await store.read((space_keys(space).usage, key))).records
        assert 1_000 * 50 == counter_of(usage)
        head = head_of(last, key=key)
        assert head is not None
        assert ("v/00000999", 50) == (head.path, head.size_bytes)
        page = await list_paths(store, ListingQuery(space, prefix="v/000001", limit=1_000))
        assert [f"v/{number:08}" for number in range(100, 200)] == list(page.paths)
    finally:
        await store.close()


async def test_loaded_spaces_are_hosted(tmp_path: Path) -> None:
    """Loaded spaces are hosted and counted, and contain ten values each."""
    await load_spaces(tmp_path, 45, size_bytes=50)
    store = open_lmdb(tmp_path)
    try:
        total, *rows = (
            await store.read(
                (
                    TOTAL_SPACES_COUNTER,
                    *[
                        space_keys(SpaceId(Principal(owner_of(number).did), "default")).row
                        for number in range(46)
                    ],
                )
            )
        ).records
        assert 45 == counter_of(total)
        assert [True] * 45 + [False] == [is_hosted(row) for row in rows]
        last = SpaceId(Principal(owner_of(44).did), "default")
        page = (await store.read(ranges=(Range(value_key(x16(last.text), "")),))).pages[0]
        assert PER_SPACE == len(page.rows)
    finally:
        await store.close()
