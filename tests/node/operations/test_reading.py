"""A reading gives each part of an operation what it asked for, whoever else asked for what."""

import itertools

import pytest

from node.operations.reading import Reading
from spaces.store.contract import Claim, Commit, Put, Range


async def test_each_part_gets_what_it_asked_for(serve) -> None:
    """In whatever order rows and ranges are asked for, every handle has its own, and one read of the store has all."""
    async with serve() as there:
        store = there.node.services.store
        await store.commit(Commit(puts=tuple(Put(b"Ka%d" % at, b"%d" % at) for at in range(4))))
        asked = {
            "row": lambda reading: reading.row(b"Ka0"),
            "absent": lambda reading: reading.row(b"Kb"),
            "rows": lambda reading: reading.rows([b"Ka2", b"Kb", b"Ka1"]),
            "none": lambda reading: reading.rows(()),
            "page": lambda reading: reading.page(Range(b"Ka", after=b"Ka2")),
            "pages": lambda reading: reading.pages([Range(b"Ka", limit=1), Range(b"Kb")]),
        }
        for order in itertools.permutations(asked):
            reading = Reading()
            handles = {name: asked[name](reading) for name in order}
            await reading.read(store)
            found = {name: handle.found for name, handle in handles.items()}
            assert (b"0", None) == (found["row"].value, found["absent"])
            assert [b"2", None, b"1"] == [row and row.value for row in found["rows"]]
            assert found["none"] == ()
            assert [b"Ka3"] == [key for key, _ in found["page"].rows]
            assert [[b"Ka0"], []] == [[key for key, _ in page.rows] for page in found["pages"]]


async def test_nothing_is_found_before_the_read(serve) -> None:
    """What was not read yet cannot be taken for an absent row."""
    async with serve() as there:
        reading = Reading()
        row = reading.row(b"Ka")
        with pytest.raises(AttributeError):
            _ = row.found
        await reading.read(there.node.services.store)
        assert row.found is None


async def test_a_claim_goes_with_the_read(serve) -> None:
    """The first use is claimed by the read itself, once."""
    async with serve() as there:
        claim = Claim(b"c" * 32, expires_at=int(there.clock.now()) + 60)
        snapshots = [await Reading().read(there.node.services.store, claim=claim) for _ in range(2)]
        assert [True, False] == [snapshot.claimed for snapshot in snapshots]
