"""Tests of the upgrade of a store without rows of content keys (ST23) or positions (ST25)."""

import asyncio
import contextlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from attacks.parties import VALUE, Delegate, Owner, opens, refused
from attestation_stage import Here, Stay
from postgres_server import needs_postgres, postgres_server

from capabilities.clock_and_entropy import SystemClock
from capabilities.resources import SpaceId
from encryption_network.envelope import encode_envelope
from node.operations.upgrade import StoreUpgrade
from sealspace.cli.root import main
from sealspace.client import SignIn
from sealspace.service.command_errors import StoreMisused
from spaces.keyspace import (
    KEY_PLACES_PREFIX,
    LONG_VALUES_PREFIX,
    SCHEMA_KEY,
    SCHEMA_VERSION,
    SEQUENCES_PREFIX,
    SPACE16_IN_KEY,
    VALUES_PREFIX,
    space_keys,
    usage_counter,
)
from spaces.lease import Lease
from spaces.store.contract import (
    Commit,
    Put,
    Range,
    Store,
    counter_of,
    has_value,
    read_page,
    read_row,
)
from spaces.store.sequences import sequence_of
from spaces.values.changes import ChangesQuery, read_changes
from spaces.values.key_places import KeyPlaces, key_places_of
from spaces.values.value_bodies import INLINE_BYTES
from spaces.values.value_heads import head_of

LONG_PATH = "sealed/" + "long" * 200
OTHER = "OTHER_KEY"


@pytest.fixture(params=["lmdb", pytest.param("postgres", marks=needs_postgres())])
def store_url(request: pytest.FixtureRequest) -> str | None:
    """The address of a database, or None for a store in a folder."""
    return postgres_server().new_database() if request.param == "postgres" else None


async def recorded(store: Store) -> dict[bytes, frozenset[bytes]]:
    """Return the recorded paths of each content key."""
    page = await read_page(store, Range(KEY_PLACES_PREFIX, limit=4096))
    assert not page.more
    found = {}
    for key, record in page.rows:
        places = key_places_of(record)
        if places is not None:
            found[key] = _paths(places)
    return found


def _paths(places: KeyPlaces) -> frozenset[bytes]:
    return frozenset(place for place in (places.owner, places.other) if place is not None)


async def make_former(store: Store) -> None:
    """Remove what an earlier version did not write."""
    rows = (await read_page(store, Range(KEY_PLACES_PREFIX, limit=4096))).rows
    puts = [Put(key, None) for key, record in rows if has_value(record)]
    await store.commit(Commit(puts=(*puts, Put(SCHEMA_KEY, (2).to_bytes(4, "big")))))


async def fill(here: Here) -> Owner:
    """Store envelopes in every way that an upgrade has to find, and other values."""
    owner, stranger = await here.owner(), await here.owner()
    encryption = owner.client.encryption

    async def fresh() -> bytes:
        return encode_envelope(
            await encryption.encrypt(VALUE.encode(), network=encryption.network())
        )

    kv = owner.client.kv("default")
    await kv.put("notes/a", b"no envelope")
    await kv.put("notes/large", b"x" * (2 * INLINE_BYTES))
    await kv.put("sealed/large", await fresh() + b" " * INLINE_BYTES)
    await kv.put(LONG_PATH, await fresh())
    copied = await fresh()
    await kv.put("sealed/first", copied)
    await kv.put("sealed/second", copied)
    await stranger.client.kv("default").put("theirs", await fresh())
    await owner.client.secrets().put(OTHER, "former")
    await owner.client.secrets().put(OTHER, VALUE)  # the former value is kept as a version
    return owner


async def upgraded(here: Here, store_url: str | None) -> Mapping[str, object]:
    """Upgrade the store by the command, while no node uses it, and return what it says."""
    arguments = ["admin", "upgrade", "--data", str(here.services.config.data)]
    if store_url is not None:
        arguments += ["--store", store_url]
    said: list[str] = []
    status = await asyncio.to_thread(_main, arguments, said)
    assert status == 0, said
    answer: Mapping[str, object] = json.loads(said[-1])
    return answer


def _main(arguments: Sequence[str], said: list[str]) -> int:
    """Run a command, and add what it prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = main(list(arguments))
    said += out.getvalue().splitlines()
    return status


async def test_ST23_an_upgrade_records_what_each_put_would_have(
    staying: Stay, store_url: str | None
) -> None:
    """An upgrade finds the same paths as the puts did, and the gate then decides as before; a
    second upgrade changes nothing (ST23)."""
    async with staying(store_url=store_url) as here:
        owner = await fill(here)
        store = here.services.store
        before = await recorded(store)
        assert sorted(len(paths) for paths in before.values()) == [1] * 6 + [2]
        await make_former(store)
        assert await recorded(store) == {}
    said = await upgraded(here, store_url)
    assert said == {
        "schema": SCHEMA_VERSION,
        "values": 11,
        "numbered": 0,
        "unreadable": 0,
        "keys": 7,
        "atTwoPaths": 1,
    }
    assert await upgraded(here, store_url) == {**said, "values": 0}
    async with staying(store_url=store_url) as here:
        assert await recorded(here.services.store) == before
        holder = Delegate()
        holder.proofs = [await here.register(owner.machine(holder))]
        assert opens(await here.ask(holder, owner), holder, owner)
        client = await here.client()
        await client.sign_in(owner.wallet, SignIn())
        await client.kv("default").put("copy", encode_envelope(owner.envelope))
        assert (await here.ask(holder, owner)).said == refused("path")


async def test_ST23_an_interrupted_upgrade_is_repeated(staying: Stay) -> None:
    """Until its last commit an upgrade leaves the former schema, and a later one completes it."""
    async with staying() as here:
        await fill(here)
        store = here.services.store
        before = await recorded(store)
        await make_former(store)

        async def interrupt(_: int) -> None:
            raise InterruptedError

        upgrade = StoreUpgrade(
            store=store,
            values=here.services.values,
            keyring=here.services.keyring,
            progress=interrupt,
        )
        with pytest.raises(InterruptedError):
            await upgrade.run()
        (schema,) = (await store.read((SCHEMA_KEY,))).records
        assert schema is not None and schema.value == (2).to_bytes(4, "big")
    assert (await upgraded(here, None))["keys"] == len(before)
    async with staying() as here:
        assert await recorded(here.services.store) == before


@pytest.mark.parametrize("is_accepted", [False, True])
async def test_ST23_a_missing_file_ends_an_upgrade(
    is_accepted: bool, staying: Stay, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """An upgrade that cannot read a value leaves the former schema, unless that is accepted; after
    the file is back, it completes (ST23)."""
    async with staying() as here:
        await fill(here)
        before = await recorded(here.services.store)
        await make_former(here.services.store)
        data = here.services.config.data
    # the envelope and the other large value
    files = [path for path in data.glob("blobs/**/*") if path.is_file()]
    assert len(files) == 2
    for path in files:
        path.rename(tmp_path / path.name)
    arguments = ["admin", "upgrade", "--data", str(data)]
    assert await asyncio.to_thread(main, arguments) == 5
    assert "the files of 2 values are damaged or missing" in capfd.readouterr().err
    if is_accepted:
        assert await asyncio.to_thread(main, [*arguments, "--accept-unreadable"]) == 0
        said = json.loads(capfd.readouterr().out)
        assert (said["schema"], said["unreadable"], said["keys"]) == (
            SCHEMA_VERSION,
            2,
            len(before) - 1,
        )
        return
    for path in files:
        (tmp_path / path.name).rename(path)
    assert (await upgraded(here, None))["unreadable"] == 0
    async with staying() as here:
        assert await recorded(here.services.store) == before


async def make_unnumbered(store: Store) -> int:
    """Remove the positions of all values, and return how many values there are.

    Version 00531918 and earlier ones wrote no positions.
    """
    count = 0
    for prefix in (VALUES_PREFIX, LONG_VALUES_PREFIX):
        for key, record in (await read_page(store, Range(prefix, limit=4096))).rows:
            if not record.position:
                continue
            head = head_of(record, key=key)
            assert head is not None
            account = usage_counter(key[SPACE16_IN_KEY])
            put = Put(key, record.value, weight_bytes=len(head.body or b""), account=account)
            await store.commit(Commit(puts=(put,)))
            count += 1
    sequences = (await read_page(store, Range(SEQUENCES_PREFIX))).rows
    schema = Put(SCHEMA_KEY, (3).to_bytes(4, "big"))
    await store.commit(Commit(puts=(schema, *[Put(key, None) for key, _ in sequences])))
    return count


async def paths_in_feed(store: Store, space: SpaceId) -> list[str]:
    """Return the paths of all changes below `notes` and `sealed`."""
    state = sequence_of(await read_row(store, space_keys(space).sequence))
    found: list[str] = []
    for prefix in ("notes", "sealed"):
        query = ChangesQuery(
            space=space, prefix=prefix, after=0, floor=0, until=state.number, limit=1000
        )
        first = await read_page(store, query.first_range())
        page = await read_changes(store, query, first)
        assert not page.more
        found += [change.path for change in page.changes]
    return found


async def test_ST25_an_upgrade_numbers_the_values_of_an_earlier_store(
    staying: Stay, store_url: str | None
) -> None:
    """The values of a store without positions are in the feed after an upgrade, in the order of
    their keys, and nothing else changes. A node does not serve the store before."""
    async with staying(store_url=store_url) as here:
        owner = await fill(here)
        space = owner.client.kv("default").space
        usage = (space_keys(space).usage, space_keys(space).rows)
        store = here.services.store
        counted = [counter_of(one) for one in (await store.read(usage)).records]
        count = await make_unnumbered(store)
        assert await paths_in_feed(store, space) == []
    with pytest.raises(StoreMisused, match="needs"):
        async with staying(store_url=store_url):
            pass
    said = await upgraded(here, store_url)
    assert (said["numbered"], said["values"]) == (count, 0)
    async with staying(store_url=store_url) as here:
        store = here.services.store
        assert await paths_in_feed(store, space) == [
            "notes/a",
            "notes/large",
            "sealed/first",
            "sealed/large",
            "sealed/second",
            LONG_PATH,
        ]
        assert [counter_of(one) for one in (await store.read(usage)).records] == counted
        client = await here.client()
        await client.sign_in(owner.wallet, SignIn())
        await client.kv("default").put("notes/new", b"")
        assert (await paths_in_feed(store, space))[2] == "notes/new"


async def test_ST25_an_interrupted_numbering_is_continued(staying: Stay) -> None:
    """An upgrade that is repeated numbers the values that have no number yet."""
    async with staying() as here:
        await fill(here)
        store = here.services.store
        count = await make_unnumbered(store)
        numbered: list[int] = []

        async def interrupt(at: int) -> None:
            numbered.append(at)
            raise InterruptedError

        upgrade = StoreUpgrade(
            store=store,
            values=here.services.values,
            keyring=here.services.keyring,
            progress=interrupt,
        )
        with pytest.raises(InterruptedError):
            await upgrade.run()
    assert 0 < numbered[0] < count
    assert (await upgraded(here, None))["numbered"] == count - numbered[0]


@needs_postgres()
async def test_ST23_a_database_in_use_is_not_upgraded(
    staying: Stay, capfd: pytest.CaptureFixture[str]
) -> None:
    """An upgrade of a database is refused while a node does its housekeeping there (ST23)."""
    url = postgres_server().new_database()
    async with staying(store_url=url) as here:
        lease = Lease(here.services.store, owner=b"another node", ttl_s=120.0)
        assert await lease.take(now=SystemClock.now())
        arguments = ["admin", "upgrade", "--data", str(here.services.config.data), "--store", url]
        assert await asyncio.to_thread(main, arguments) != 0
    assert "a node uses this database" in capfd.readouterr().err
