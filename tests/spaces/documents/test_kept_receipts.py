"""Tests of how long receipts and documents are kept."""

import hashlib

import pytest
from tests_support import CountingEntropy

from capabilities.resources import NetworkId, parse_network_id
from spaces.documents.receipt_rows import (
    PERIOD_S,
    cited_document_puts,
    document_span,
    document_use_row_key,
    receipt_put,
    stored_receipts,
    sweep_documents,
    sweep_receipts,
)
from spaces.keyspace import document_key, document_use_key
from spaces.scans import walk_position, walk_put
from spaces.store.contract import Commit, Committed, Put, Range, Refused, Store, read_page

SPAN = 700
NOW = SPAN * PERIOD_S + 1000.0
OWNERS = tuple(
    f"urn:tinycloud:encryption:did:pkh:eip155:1:0x{'0' * 39}{number}:default" for number in range(5)
)
NETWORKS = tuple(parse_network_id(text) for text in OWNERS)


async def write(
    store: Store, network: NetworkId, text: bytes, at: float, entropy: CountingEntropy
) -> None:
    """Write a receipt as a release does, with the documents that it names."""
    puts = (
        receipt_put(network, text, at=at, entropy=entropy),
        *cited_document_puts(b"of " + text, now=at),
    )
    assert isinstance(await store.commit(Commit(puts=puts)), Committed)


async def kept(store: Store) -> set[bytes]:
    return {text async for text in stored_receipts(store)}


async def has(store: Store, document: bytes) -> bool:
    row = (await store.read((document_key(hashlib.sha256(document).digest()),))).records[0]
    return row is not None and row.value is not None


async def sweep_all(store: Store, *, until: float, now: float = NOW) -> None:
    while await sweep_receipts(store, until=until):
        pass
    await sweep_receipts(store, until=until)
    while await sweep_documents(store, until=until, now=now):
        pass


async def test_receipts_go_by_age(store: Store, entropy: CountingEntropy) -> None:
    """In every network, exactly the receipts from before a time are removed (RC25)."""
    for at in range(10):
        for network in NETWORKS:
            await write(store, network, f"{network.text} {at}".encode(), NOW + at, entropy)
    await sweep_all(store, until=NOW + 6)
    assert await kept(store) == {f"{n.text} {at}".encode() for n in NETWORKS for at in range(6, 10)}
    await sweep_all(store, until=NOW + 100)
    assert await kept(store) == set()


async def test_a_long_history_is_swept_in_rounds(
    one_store: Store, entropy: CountingEntropy
) -> None:
    """A sweep removes a long history of receipts in several rounds."""
    for at in range(600):
        put = receipt_put(NETWORKS[0], b"%d" % at, at=NOW + at / 1000, entropy=entropy)
        assert isinstance(await one_store.commit(Commit(puts=(put,))), Committed)
    await write(one_store, NETWORKS[1], b"young", NOW + 50, entropy)
    rounds = 0
    while await sweep_receipts(one_store, until=NOW + 1):
        rounds += 1
    assert await kept(one_store) == {b"young"}
    assert rounds == 3


async def test_young_networks_are_passed_over(one_store: Store, entropy: CountingEntropy) -> None:
    """A sweep looks at the oldest receipts of each network in turn, and finds old ones after a
    network with none."""
    for at in range(600):
        put = receipt_put(NETWORKS[at % 2], b"%d" % at, at=NOW + 10 + at, entropy=entropy)
        assert isinstance(await one_store.commit(Commit(puts=(put,))), Committed)
    for network in NETWORKS[2:]:
        await write(one_store, network, b"old " + network.text.encode(), NOW - 10, entropy)
    for _ in range(10):
        await sweep_receipts(one_store, until=NOW, pages=2)
    assert not any(text.startswith(b"old") for text in await kept(one_store))
    assert len(await kept(one_store)) == 600


async def test_a_document_outlives_its_receipts_by_a_span_at_most(
    store: Store, entropy: CountingEntropy
) -> None:
    """A document is removed at most one span after the last receipt that may refer to it (RC26)."""
    await write(store, NETWORKS[0], b"a", NOW, entropy)
    await sweep_all(store, until=NOW + 1, now=NOW + 1)
    assert await kept(store) == set()
    assert await has(store, b"of a")
    end = (SPAN + 1) * PERIOD_S
    await sweep_all(store, until=end - 1, now=end)
    assert await has(store, b"of a")
    await sweep_all(store, until=end, now=end)
    assert not await has(store, b"of a")


async def test_a_document_that_is_referred_to_again_stays(
    store: Store, entropy: CountingEntropy
) -> None:
    """A document that is referred to again in a later span is kept until the receipts of that span
    are removed."""
    await write(store, NETWORKS[0], b"a", NOW, entropy)
    await write(store, NETWORKS[0], b"a", NOW + 3 * PERIOD_S, entropy)
    until = (SPAN + 2) * PERIOD_S
    await sweep_all(store, until=until, now=NOW + 4 * PERIOD_S)
    assert await kept(store) == {b"a"}
    assert await has(store, b"of a")
    await sweep_all(store, until=until + 2 * PERIOD_S, now=NOW + 6 * PERIOD_S)
    assert not await has(store, b"of a")


@pytest.mark.parametrize("release_first", [True, False])
async def test_a_release_that_refers_to_a_document_meanwhile(
    store: Store, release_first: bool
) -> None:
    """If a document is removed while a release refers to it, no receipt is left without its
    document."""
    document, now = b"the document", NOW + 50 * PERIOD_S
    sha256 = hashlib.sha256(document).digest()
    await store.commit(Commit(puts=cited_document_puts(document, now=NOW)))
    old = document_use_key(SPAN, sha256)
    row = (await store.read((old,))).records[0]
    assert row is not None
    span = document_span(now)
    removal = Commit(
        puts=(
            Put(old, None, expect=row.stamp),
            Put(document_key(sha256), None),
            *(
                Put(document_use_key(number, sha256), None, expect=b"absent")
                for number in (span - 1, span, span + 1)
            ),
        )
    )
    release = Commit(puts=cited_document_puts(document, now=now))
    first, second = (release, removal) if release_first else (removal, release)
    await store.commit(first)
    assert isinstance(await store.commit(second), Refused) == release_first
    assert await has(store, document)
    noted = (await store.read((document_use_row_key(sha256, now=now),))).records[0]
    assert noted is not None and noted.value is not None


async def test_nothing_is_swept_before_its_time(one_store: Store, entropy: CountingEntropy) -> None:
    """A sweep with a clock near zero removes nothing."""
    await write(one_store, NETWORKS[0], b"a", NOW, entropy)
    await sweep_all(one_store, until=-1.0, now=0.0)
    assert await kept(one_store) == {b"a"}
    assert await has(one_store, b"of a")


async def test_a_walk_goes_on_where_it_was(one_store: Store) -> None:
    """A sweep continues after the rows of the previous one, and starts again at the end."""
    rows = [b"zz%d" % number for number in range(5)]
    await one_store.commit(Commit(puts=tuple(Put(key, b"") for key in rows)))
    seen = []
    for _ in range(6):
        page = await read_page(
            one_store, Range(b"zz", after=await walk_position(one_store, "test"), limit=2)
        )
        seen.append([key for key, _ in page.rows])
        await one_store.commit(Commit(puts=(walk_put("test", page.place),)))
    assert [len(one) for one in seen] == [2, 2, 1, 2, 2, 1]
    assert sorted(key for one in seen[:3] for key in one) == rows
