"""The contract of the store, on every engine."""

import asyncio

import msgspec
import pytest
from patience import PATIENCE_S

from spaces.keyspace import replay_key, replay_minute4
from spaces.space_errors import CommitInvalid, CommitTooLarge, StoreUnavailable
from spaces.store.contract import (
    ABSENT,
    LIVE_MARK,
    MAX_ADDS,
    MAX_CHECKS,
    MAX_KEY_BYTES,
    MAX_LIVE,
    MAX_PUTS,
    MAX_RANGES,
    MAX_VALUE_BYTES,
    UNWRITTEN,
    Add,
    Check,
    Commit,
    Committed,
    Follow,
    Page,
    Put,
    Range,
    Refused,
    ReplayRecord,
    Snapshot,
    Store,
    counter_of,
    pages_of,
)

NEVER_SWEPT = 4_000_000_000


class Endless:
    """An engine with a defect: it reports more rows without the key at which the page ended."""

    async def read(self, *_: object, **__: object) -> Snapshot:
        return Snapshot(is_first_use=None, records=(), pages=(Page(rows=(), more=True),))


def claim(name: bytes) -> ReplayRecord:
    return ReplayRecord(key=name.ljust(32, b"."), expires_at=NEVER_SWEPT)


async def value(store: Store, key: bytes) -> bytes | None:
    record = (await store.read((key,))).records[0]
    return None if record is None else record.value


async def stamp(store: Store, key: bytes) -> bytes:
    record = (await store.read((key,))).records[0]
    assert record is not None
    return record.stamp


async def put(store: Store, *rows: tuple[bytes, bytes | None]) -> Committed:
    outcome = await store.commit(Commit(puts=tuple(Put(key, value) for key, value in rows)))
    assert isinstance(outcome, Committed)
    return outcome


async def test_a_walk_ends_at_a_page_that_names_no_end() -> None:
    """A scan ends at a page without a last key; otherwise it would start again for ever."""
    with pytest.raises(RuntimeError, match="last key"):
        async for page in pages_of(Endless(), Range(b"K")):  # type: ignore[arg-type]  # of a store, what the walk calls
            assert not page.rows


async def test_read_sees_acknowledged_commit(store: Store) -> None:
    """A read sees every commit that was acknowledged before the read (ST1)."""
    for count in range(20):
        await put(store, (b"Ka", str(count).encode()))
        assert str(count).encode() == await value(store, b"Ka")


async def test_absent_row_reads_as_none(store: Store) -> None:
    """A key that was never put has no record."""
    assert (await store.read((b"Ka",))).records == (None,)


async def test_every_put_has_a_new_stamp(store: Store) -> None:
    """Putting the same value twice gives two different stamps of 16 bytes (ST5)."""
    await put(store, (b"Ka", b"same"))
    first = await stamp(store, b"Ka")
    await put(store, (b"Ka", b"same"))
    second = await stamp(store, b"Ka")
    assert len(first) == 16
    assert len(second) == 16
    assert first != second


async def test_tombstone_is_read_with_its_stamp(store: Store) -> None:
    """A deleted row differs from one that was never written (ST5, M31)."""
    await put(store, (b"Ka", b"1"))
    await put(store, (b"Ka", None))
    record = (await store.read((b"Ka",))).records[0]
    assert record is not None
    assert record.value is None
    assert len(record.stamp) == 16


async def test_tombstone_counts_as_absent(store: Store) -> None:
    """The condition `expect: absent` is met by a tombstone, but not by a value (ST5)."""
    await put(store, (b"Ka", None))
    assert isinstance(
        await store.commit(Commit(puts=(Put(b"Ka", b"1", expect=ABSENT),))), Committed
    )
    assert isinstance(await store.commit(Commit(puts=(Put(b"Ka", b"2", expect=ABSENT),))), Refused)
    assert await value(store, b"Ka") == b"1"


async def test_ST5_an_unwritten_row_is_neither_a_value_nor_a_tombstone(store: Store) -> None:
    """The condition that nothing was written is met once: neither a value nor the tombstone after
    it meets it (ST5)."""
    write = Commit(puts=(Put(b"Ka", b"1", expect=UNWRITTEN),))
    assert isinstance(await store.commit(write), Committed)
    assert isinstance(await store.commit(write), Refused)
    await put(store, (b"Ka", None))
    assert isinstance(await store.commit(write), Refused)
    tombstone = Commit(puts=(Put(b"Kb", None, expect=UNWRITTEN),))
    assert isinstance(await store.commit(tombstone), Committed)
    assert isinstance(await store.commit(tombstone), Refused)


async def test_expected_stamp(store: Store) -> None:
    """A put that expects a stamp succeeds once; the second one finds another stamp."""
    await put(store, (b"Ka", b"1"))
    expected = await stamp(store, b"Ka")
    assert isinstance(
        await store.commit(Commit(puts=(Put(b"Ka", b"2", expect=expected),))), Committed
    )
    assert isinstance(
        await store.commit(Commit(puts=(Put(b"Ka", b"3", expect=expected),))), Refused
    )
    assert isinstance(
        await store.commit(Commit(puts=(Put(b"Kb", b"3", expect=expected),))), Refused
    )
    assert await value(store, b"Ka") == b"2"


async def test_stamp_of_a_tombstone_can_be_expected(store: Store) -> None:
    """A put that expects a tombstone's stamp is refused once the row has changed."""
    await put(store, (b"Ka", None))
    expected = await stamp(store, b"Ka")
    assert isinstance(
        await store.commit(Commit(puts=(Put(b"Ka", b"2", expect=expected),))), Committed
    )


@pytest.mark.parametrize(
    "mark",
    [b"R", b"", b"LL", b"L\0", None],
    ids=["revoked", "empty", "longer", "padded", "deleted"],
)
async def test_mark_that_is_not_live_refuses(store: Store, mark: bytes | None) -> None:
    """A commit succeeds only while every mark that it depends on is live (ST2)."""
    await put(store, (b"L1", LIVE_MARK), (b"L2", LIVE_MARK))
    commit = Commit(puts=(Put(b"Ka", b"1"),), live=(b"L1", b"L2"))
    assert isinstance(await store.commit(commit), Committed)
    await put(store, (b"L2", mark))
    assert isinstance(await store.commit(commit), Refused)


async def test_absent_mark_refuses(store: Store) -> None:
    """A missing mark is not live."""
    assert isinstance(await store.commit(Commit(puts=(Put(b"Ka", b"1"),), live=(b"L1",))), Refused)


async def test_check_compares_stamps(store: Store) -> None:
    """A checked row must exist with the expected stamp."""
    await put(store, (b"Na", b"1"))
    check = Check(b"Na", await stamp(store, b"Na"))
    assert isinstance(
        await store.commit(Commit(puts=(Put(b"Ka", b"1"),), checks=(check,))), Committed
    )
    await put(store, (b"Na", b"1"))
    assert isinstance(
        await store.commit(Commit(puts=(Put(b"Ka", b"2"),), checks=(check,))), Refused
    )
    absent = Check(b"Nb", check.stamp)
    assert isinstance(
        await store.commit(Commit(puts=(Put(b"Ka", b"2"),), checks=(absent,))), Refused
    )
    assert await value(store, b"Ka") == b"1"


async def test_ST26_a_row_that_must_not_exist(store: Store) -> None:
    """A commit can require that there is no row; a tombstone counts as none (ST5, ST26)."""
    commit = Commit(puts=(Put(b"Ka", b"1"),), checks=(Check(b"Zb", ABSENT),))
    assert isinstance(await store.commit(commit), Committed)
    await put(store, (b"Zb", b"there"))
    assert isinstance(await store.commit(commit), Refused)
    assert isinstance(await store.commit(Commit(checks=(Check(b"Zb", ABSENT),))), Refused)
    await put(store, (b"Zb", None))
    assert isinstance(await store.commit(commit), Committed)


async def test_ST26_a_row_that_the_commit_itself_writes(store: Store) -> None:
    """The condition is about the row before the commit."""
    commit = Commit(puts=(Put(b"Zb", b"1"),), checks=(Check(b"Zb", ABSENT),))
    assert isinstance(await store.commit(commit), Committed)
    assert isinstance(await store.commit(commit), Refused)


async def test_refused_writes_nothing(store: Store) -> None:
    """A refused commit writes no rows, counters or replay records (ST3)."""
    commit = Commit(
        puts=(Put(b"Ka", b"1", weight_bytes=5, account=b"cA"), Put(b"Kb", b"2")),
        adds=(Add(b"cB", 1),),
        live=(b"L1",),
        replay_record=claim(b"one"),
    )
    assert isinstance(await store.commit(commit), Refused)
    await put(store, (b"L1", LIVE_MARK))
    assert (await store.read((b"Ka", b"Kb", b"cA", b"cB"))).records == (None,) * 4
    assert isinstance(await store.commit(commit), Committed)


async def test_counter_adds_up(store: Store) -> None:
    """Additions change a counter by their sum; a counter of zero has no row."""
    await store.commit(Commit(adds=(Add(b"cA", 5), Add(b"cA", -2), Add(b"cB", 0))))
    records = (await store.read((b"cA", b"cB"))).records
    assert [counter_of(record) for record in records] == [3, 0]
    assert records[1] is None


async def test_bound_of_a_counter_is_exact(store: Store) -> None:
    """`at_most` applies to the resulting counter, also in a commit that does not change it
    (ST7)."""
    assert isinstance(await store.commit(Commit(adds=(Add(b"cA", 5, at_most=5),))), Committed)
    assert isinstance(await store.commit(Commit(adds=(Add(b"cA", 1, at_most=5),))), Refused)
    assert isinstance(await store.commit(Commit(adds=(Add(b"cA", 0, at_most=4),))), Refused)
    assert isinstance(await store.commit(Commit(adds=(Add(b"cA", -1, at_most=4),))), Committed)


async def test_racing_adds_stop_at_the_bound(store: Store) -> None:
    """Of many concurrent additions, exactly as many succeed as the counter's limit allows."""
    outcomes = await asyncio.gather(
        *[store.commit(Commit(adds=(Add(b"cA", 1, at_most=7),))) for _ in range(50)]
    )
    assert sum(isinstance(outcome, Committed) for outcome in outcomes) == 7
    assert counter_of((await store.read((b"cA",))).records[0]) == 7


async def test_weights_follow_rows(store: Store) -> None:
    """A replaced or deleted row subtracts its weight from the account it was charged to (ST7)."""

    async def usage() -> list[int]:
        return [counter_of(record) for record in (await store.read((b"cA", b"cB"))).records]

    await store.commit(Commit(puts=(Put(b"Ka", b"1", weight_bytes=10, account=b"cA"),)))
    await store.commit(Commit(puts=(Put(b"Kb", b"1", weight_bytes=7, account=b"cA"),)))
    assert await usage() == [17, 0]
    await store.commit(Commit(puts=(Put(b"Ka", b"2", weight_bytes=3, account=b"cB"),)))
    assert await usage() == [7, 3]
    await store.commit(Commit(puts=(Put(b"Kb", None, weight_bytes=9, account=b"cA"),)))
    assert await usage() == [0, 3]
    await store.commit(Commit(puts=(Put(b"Ka", b"free"),)))
    assert await usage() == [0, 0]


async def test_bound_includes_the_weights_of_the_commit(store: Store) -> None:
    """A counter's limit includes the weights of rows in the same commit."""

    def write(weight_bytes: int) -> Commit:
        return Commit(
            puts=(Put(b"Ka", b"1", weight_bytes=weight_bytes, account=b"cA"),),
            adds=(Add(b"cA", 0, at_most=100),),
        )

    assert isinstance(await store.commit(write(100)), Committed)
    assert isinstance(await store.commit(write(101)), Refused)
    assert isinstance(await store.commit(write(40)), Committed)
    assert counter_of((await store.read((b"cA",))).records[0]) == 40


async def test_counter_does_not_overflow(store: Store) -> None:
    """A counter that would not fit its row refuses the commit."""
    assert isinstance(await store.commit(Commit(adds=(Add(b"cA", (1 << 63) - 1),))), Committed)
    assert isinstance(await store.commit(Commit(adds=(Add(b"cA", 1),))), Refused)


async def test_replay_record_is_reported_once(store: Store) -> None:
    """A read reports the first use of its replay record exactly once; a read without one reports
    nothing (ST4)."""
    assert (await store.read(replay_record=claim(b"one"))).is_first_use is True
    assert (await store.read(replay_record=claim(b"one"))).is_first_use is False
    assert (await store.read(replay_record=claim(b"two"))).is_first_use is True
    assert (await store.read()).is_first_use is None


async def test_replay_record_is_exact_among_tasks(store: Store) -> None:
    """Of many concurrent reads with one replay record, one reports the first use."""
    snapshots = await asyncio.gather(*[store.read(replay_record=claim(b"one")) for _ in range(50)])
    assert sum(snapshot.is_first_use is True for snapshot in snapshots) == 1


async def test_read_sees_durable_claims(store: Store) -> None:
    """A token that a commit used is not a first use for any read (ST4)."""
    assert isinstance(await store.commit(Commit(replay_record=claim(b"one"))), Committed)
    assert (await store.read(replay_record=claim(b"one"))).is_first_use is False


async def test_claim_of_the_read_does_not_bar_its_commit(store: Store) -> None:
    """A read and its commit write separate replay records for one token (ST4)."""
    assert (await store.read(replay_record=claim(b"one"))).is_first_use is True
    assert isinstance(
        await store.commit(Commit(puts=(Put(b"Ka", b"1"),), replay_record=claim(b"one"))), Committed
    )
    record = (
        await store.read((replay_key(replay_minute4(NEVER_SWEPT), claim(b"one").key[:16]),))
    ).records[0]
    assert record is not None


async def test_second_commit_of_a_claim_is_refused(store: Store) -> None:
    """The second of two commits with one replay record is refused."""
    commits = [
        Commit(puts=(Put(b"K%d" % at, b"1"),), replay_record=claim(b"one")) for at in range(5)
    ]
    outcomes = await asyncio.gather(*map(store.commit, commits))
    assert sum(isinstance(outcome, Committed) for outcome in outcomes) == 1
    page = (await store.read(ranges=(Range(b"K"),))).pages[0]
    assert len(page.rows) == 1


async def test_racing_creations(store: Store) -> None:
    """One of many concurrent commits that expect absence succeeds, and its value is kept."""
    commits = [Commit(puts=(Put(b"Ka", b"%d" % at, expect=ABSENT),)) for at in range(50)]
    outcomes = await asyncio.gather(*map(store.commit, commits))
    winners = [at for at, outcome in enumerate(outcomes) if isinstance(outcome, Committed)]
    assert [b"%d" % winner for winner in winners] == [await value(store, b"Ka")]


async def test_commits_are_judged_in_order(store: Store) -> None:
    """Commits that are sent together are judged in order, so a revocation prevails over a later
    write."""
    await put(store, (b"L1", LIVE_MARK))
    write = Commit(puts=(Put(b"Ka", b"1"),), live=(b"L1",))
    before, revocation, after = await asyncio.gather(
        store.commit(write), store.commit(Commit(puts=(Put(b"L1", b"R"),))), store.commit(write)
    )
    assert [Committed, Committed, Refused] == [type(before), type(revocation), type(after)]


async def test_range_is_in_byte_order(store: Store) -> None:
    """Rows of a prefix come in byte order, and no others."""
    keys = [b"Ka", b"Ka\0", b"Ka\xff", b"Kb", b"Kb\xff\xff", b"Kc"]
    await put(store, *[(key, b"v") for key in [*reversed(keys), b"J", b"L"]])
    whole, some, last = (
        await store.read(ranges=(Range(b"K"), Range(b"Ka"), Range(b"Kb\xff")))
    ).pages
    assert keys == [key for key, _ in whole.rows]
    assert keys[:3] == [key for key, _ in some.rows]
    assert [key for key, _ in last.rows] == [b"Kb\xff\xff"]


async def test_range_begins_after_a_key(store: Store) -> None:
    """A range begins after the key `after`, whether that key exists or not."""
    await put(store, (b"Ka", b"1"), (b"Kc", b"2"), (b"Ke", b"3"))
    wanted = [b"Kc", b"Kb", b"A", b"Z"]
    pages = (await store.read(ranges=[Range(b"K", after=after) for after in wanted])).pages
    found = [[key for key, _ in page.rows] for page in pages]
    assert found == [[b"Ke"], [b"Kc", b"Ke"], [b"Ka", b"Kc", b"Ke"], []]


async def test_prefix_of_the_last_bytes(store: Store) -> None:
    """A prefix without a following prefix is read to the end."""
    await put(store, (b"\xff", b"1"), (b"\xff\xff", b"2"), (b"a", b"3"))
    (page,) = (await store.read(ranges=(Range(b"\xff"),))).pages
    assert [key for key, _ in page.rows] == [b"\xff", b"\xff\xff"]


async def test_page_ends_at_its_limit(store: Store) -> None:
    """A page reports whether rows may follow, and after which key."""
    await put(store, *[(b"K%d" % at, b"v") for at in range(5)])
    page, rest, exact = (
        await store.read(
            ranges=(
                Range(b"K", limit=2),
                Range(b"K", after=b"K1", limit=100),
                Range(b"K", after=b"K1", limit=3),
            )
        )
    ).pages
    assert [key for key, _ in page.rows] == [b"K0", b"K1"]
    assert page.more is True
    assert page.last_key == b"K1"
    assert [key for key, _ in rest.rows] == [b"K2", b"K3", b"K4"]
    assert rest.more is False
    assert [key for key, _ in exact.rows] == [b"K2", b"K3", b"K4"]
    assert exact.more is False


async def test_page_leaves_tombstones_out(store: Store) -> None:
    """A page omits deleted rows and does not count them (ST5)."""
    await put(store, *[(b"K%d" % at, None if at % 2 else b"v") for at in range(6)])
    page = (await store.read(ranges=(Range(b"K", limit=3),))).pages[0]
    assert [key for key, _ in page.rows] == [b"K0", b"K2", b"K4"]


async def test_page_of_keys_only(store: Store) -> None:
    """A page of keys has no values and no deleted rows, and ends with its range."""
    await put(store, (b"Ka", b"value"), (b"Kb", None), (b"Kc", b""), (b"L", b"beyond"))
    page = (await store.read(ranges=(Range(b"K", keys_only=True),))).pages[0]
    assert [(b"Ka", b""), (b"Kc", b"")] == [(key, record.value) for key, record in page.rows]
    assert not page.more


@pytest.mark.parametrize("size_bytes", [1, 6000])
@pytest.mark.parametrize("deleted", [(), (b"K03", b"K69")])
async def test_page_of_keys_only_is_the_page_without_values(
    store: Store, deleted: tuple[bytes, ...], size_bytes: int
) -> None:
    """Leaving the values out changes neither the rows of a page nor where it ends."""
    beyond = [(b"L%02d" % at, b"v") for at in range(40)]
    await put(
        store, (b"J", b"v"), *[(b"K%02d" % at, b"v" * size_bytes) for at in range(70)], *beyond
    )
    await put(store, *[(key, None) for key in deleted])
    for after in (None, b"K", b"K02", b"K025", b"K37", b"K69", b"K99"):
        for limit in (1, 2, 3, 31, 32, 33, 63, 64, 65, 68, 69, 70, 71):
            wanted = Range(b"K", after=after, limit=limit)
            alone = msgspec.structs.replace(wanted, keys_only=True)
            whole, keys = (await store.read(ranges=(wanted, alone))).pages
            assert [key for key, _ in whole.rows] == [key for key, _ in keys.rows]
            assert whole.more is keys.more
            assert not whole.more or whole.last_key == keys.last_key


async def test_page_of_large_values_is_cut(store: Store) -> None:
    """A page contains a limited number of bytes and reports that more follow."""
    for at in range(3):
        await put(store, *[(b"K%d%02d" % (at, row), b"v" * MAX_VALUE_BYTES) for row in range(10)])
    page = (await store.read(ranges=(Range(b"K", limit=1000),))).pages[0]
    assert page.more
    assert 0 < len(page.rows) < 30


async def test_large_rows_come_back_whole(store: Store) -> None:
    """The longest key and the largest value are kept as they are (ST6)."""
    key, large = b"K" * MAX_KEY_BYTES, bytes(range(256)) * (MAX_VALUE_BYTES // 256)
    await put(store, (key, large))
    assert large == await value(store, key)
    await put(store, (key, b""))
    assert await value(store, key) == b""


async def test_row_leads_to_another(store: Store) -> None:
    """A read can follow a row whose value, with a prefix, is the key of another row."""
    await put(
        store,
        (b"I1", b"x"),
        (b"I2", b"x"),
        (b"I3", b"y"),
        (b"Gx", b"found"),
        (b"Gy", None),
        (b"Hx", b"other"),
    )
    links = (b"I1", b"I3", b"I2", b"I1", b"I4")
    snapshots = await asyncio.gather(
        store.read((b"Gx", b"Gy"), follow=Follow(links, b"G")),
        store.read((b"Hx", b"I1"), follow=Follow(links, b"H")),
    )
    (found, gone), (other, link) = [snapshot.records for snapshot in snapshots]
    assert snapshots[0].followed == (found, gone, found, found, None)
    assert snapshots[1].followed == (other, None, other, other, None)
    assert [record and record.value for record in (found, gone, other, link)] == [
        b"found",
        None,
        b"other",
        b"x",
    ]
    assert (await store.read(follow=Follow((), b"G"))).followed == ()


async def test_row_that_leads_nowhere(store: Store) -> None:
    """Following an absent, deleted or empty row returns nothing."""
    await put(
        store,
        (b"I1", b"x"),
        (b"I2", None),
        (b"I3", b""),
        (b"I4", b"x" * MAX_KEY_BYTES),
        (b"I5", b"v" * 70_000),
    )
    links = Follow(tuple(b"I%d" % at for at in range(6)), b"G")
    assert (await store.read(follow=links)).followed == (None,) * 6
    await put(store, (b"G", b"behind an empty value"))
    assert [record is not None for record in (await store.read(follow=links)).followed] == [
        at == 3 for at in range(6)
    ]


async def test_following_sees_one_moment(store: Store) -> None:
    """A row and the row that follows from it are read as of one moment (ST1)."""
    await put(store, (b"I1", b"0"), (b"G0", b"0"))

    async def write() -> None:
        for at in range(1, 20):
            await put(
                store, (b"I1", b"%d" % at), (b"G%d" % at, b"%d" % at), (b"G%d" % (at - 1), None)
            )

    writing = asyncio.create_task(write())
    for at in range(20):
        snapshot = await store.read(
            (b"I1",),
            replay_record=claim(b"%d" % at),
            ranges=(Range(b"G"),),
            follow=Follow((b"I1",), b"G"),
        )
        assert snapshot.is_first_use is True
        assert [record and record.value for record in snapshot.followed] == [
            record and record.value for record in snapshot.records
        ]
        assert [record for _, record in snapshot.pages[0].rows] == list(snapshot.followed)
        await asyncio.sleep(0)
    await writing


TOO_LARGE = {
    "puts": Commit(puts=tuple(Put(b"K%d" % at, b"") for at in range(MAX_PUTS + 1))),
    "a key": Commit(puts=(Put(b"K" * (MAX_KEY_BYTES + 1), b""),)),
    "a value": Commit(puts=(Put(b"K", b"v" * (MAX_VALUE_BYTES + 1)),)),
    "all bytes": Commit(puts=tuple(Put(b"K%d" % at, b"v" * MAX_VALUE_BYTES) for at in range(17))),
    "a mark's key": Commit(live=(b"L" * (MAX_KEY_BYTES + 1),)),
    "an account": Commit(puts=(Put(b"K", b"", weight_bytes=1, account=b"c" * 256),)),
    "marks": Commit(live=tuple(b"L%d" % at for at in range(MAX_LIVE + 1))),
    "checks": Commit(checks=tuple(Check(b"K%d" % at, b"." * 16) for at in range(MAX_CHECKS + 1))),
    "a checked key": Commit(checks=(Check(b"K" * (MAX_KEY_BYTES + 1), b"." * 16),)),
    "adds": Commit(adds=tuple(Add(b"c%d" % at, 1) for at in range(MAX_ADDS + 1))),
    "a counter's key": Commit(adds=(Add(b"c" * (MAX_KEY_BYTES + 1), 1),)),
}


@pytest.mark.parametrize("commit", TOO_LARGE.values(), ids=TOO_LARGE)
async def test_commit_beyond_a_bound(store: Store, commit: Commit) -> None:
    """A commit beyond a limit raises an error that names the limit (ST6)."""
    with pytest.raises(CommitTooLarge, match=r"^too many [a-z ]+: \d+, at most \d+ are allowed$"):
        await store.commit(commit)


INVALID = {
    "a key put twice": Commit(puts=(Put(b"K", b"1"), Put(b"K", b"2"))),
    "an empty key": Commit(puts=(Put(b"", b"1"),)),
    "a short stamp": Commit(puts=(Put(b"K", b"1", expect=b"short"),)),
    "a short checked stamp": Commit(checks=(Check(b"K", b"short"),)),
    "a negative weight": Commit(puts=(Put(b"K", b"1", weight_bytes=-1),)),
    "a counted row that is put": Commit(puts=(Put(b"cA", b"1"),), adds=(Add(b"cA", 1),)),
    "an account that is put": Commit(puts=(Put(b"cA", b"1", weight_bytes=1, account=b"cA"),)),
    "a short claim": Commit(replay_record=ReplayRecord(b"short", NEVER_SWEPT)),
    "a claim without a time": Commit(replay_record=ReplayRecord(b"." * 32, -1)),
}


@pytest.mark.parametrize("commit", INVALID.values(), ids=INVALID)
async def test_commit_that_makes_no_sense(store: Store, commit: Commit) -> None:
    """A commit that contradicts itself raises an error."""
    with pytest.raises(CommitInvalid):
        await store.commit(commit)


async def test_read_beyond_a_bound(store: Store) -> None:
    """A read beyond a limit raises an error."""
    with pytest.raises(CommitTooLarge):
        await store.read([b"K"] * 9000)
    with pytest.raises(CommitTooLarge):
        await store.read([b"K"], follow=Follow((b"I",) * 4096, b"G"))
    with pytest.raises(CommitTooLarge):
        await store.read(follow=Follow((b"I" * (MAX_KEY_BYTES + 1),), b"G"))
    with pytest.raises(CommitInvalid):
        await store.read(follow=Follow((b"I",), b""))
    with pytest.raises(CommitTooLarge):
        await store.read(ranges=(Range(b"K"),) * (MAX_RANGES + 1))
    with pytest.raises(CommitTooLarge):
        await store.read([b"K" * (MAX_KEY_BYTES + 1)])
    with pytest.raises(CommitTooLarge):
        await store.read(ranges=(Range(b"K", after=b"K" * (MAX_KEY_BYTES + 1)),))
    with pytest.raises(CommitTooLarge):
        await store.read(ranges=(Range(b"K", limit=5000),))
    with pytest.raises(CommitInvalid):
        await store.read(ranges=(Range(b"K", limit=0),))
    with pytest.raises(CommitInvalid):
        await store.read(ranges=(Range(b""),))
    with pytest.raises(CommitInvalid):
        await store.read(replay_record=ReplayRecord(b"short", NEVER_SWEPT))


async def test_closed_store_is_unavailable(store: Store) -> None:
    """A closed store neither reads nor commits, and closing twice does no harm."""
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.read((b"Ka",))
    with pytest.raises(StoreUnavailable):
        await store.commit(Commit(puts=(Put(b"Ka", b"1"),)))
    await store.close()


async def test_what_is_under_way_at_the_end_has_an_outcome(engine, store: Store) -> None:
    """A commit in flight while the store closes is either stored or raises an unknown outcome."""
    await store.commit(Commit(puts=(Put(b"Ka", b"connected"),)))
    asked = [
        asyncio.create_task(store.commit(Commit(puts=(Put(b"Kb%02d" % at, b"1"),))))
        for at in range(40)
    ]
    await asyncio.sleep(0)
    await store.close()
    outcomes = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), PATIENCE_S)
    assert {type(outcome) for outcome in outcomes} <= {Committed, StoreUnavailable}
    again = engine()
    records = (await again.read([b"Kb%02d" % at for at in range(40)])).records
    missing = [
        record is None
        for record, outcome in zip(records, outcomes, strict=True)
        if outcome == Committed()
    ]
    assert not any(missing)
    await again.close()


async def test_who_goes_away_takes_nothing_from_the_others(store: Store) -> None:
    """A cancelled commit does not affect the outcomes of other commits."""
    for _ in range(5):
        leaving, staying = (
            asyncio.create_task(store.commit(Commit(puts=(Put(key, b"1"),))))
            for key in (b"Ka", b"Kb")
        )
        await asyncio.sleep(0)
        leaving.cancel()
        assert await asyncio.wait_for(staying, PATIENCE_S) == Committed()
        assert leaving.cancelled()


async def test_everything_is_there_after_reopening(engine, store: Store) -> None:
    """Rows, counters and replay records survive the process that wrote them."""
    await store.commit(Commit(puts=(Put(b"Ka", b"1", weight_bytes=3, account=b"cA"),)))
    assert (await store.read(replay_record=claim(b"one"))).is_first_use is True
    await store.close()
    again = engine()
    try:
        snapshot = await again.read((b"Ka", b"cA"), replay_record=claim(b"one"))
        assert snapshot.is_first_use is False
        assert snapshot.records[0] is not None
        assert snapshot.records[0].value == b"1"
        assert counter_of(snapshot.records[1]) == 3
    finally:
        await again.close()


async def test_ST16_conditions_alone_leave_no_row(store: Store) -> None:
    """A commit with conditions only succeeds while they are true, and never changes a row."""
    await put(store, (b"Ka", b"a"), (b"La", LIVE_MARK), (b"Kb", None))
    rows = await _all_rows(store)
    for key in (b"Ka", b"Kb"):  # a tombstone too
        checks = (Check(key, await stamp(store, key)),)
        for commit in (Commit(checks=checks), Commit(checks=checks, live=(b"La",))):
            assert not commit.writes
            assert isinstance(await store.commit(commit), Committed)
    for refused in (Commit(checks=(Check(b"Ka", b"s" * 16),)), Commit(live=(b"Ka",))):
        assert isinstance(await store.commit(refused), Refused)
    assert rows == await _all_rows(store)


async def _all_rows(store: Store) -> dict[bytes, bytes]:
    ranges = tuple(Range(bytes([first])) for first in range(0x41, 0x5B))
    pages = (await store.read(ranges=ranges)).pages
    return {key: record.stamp for page in pages for key, record in page.rows}
