"""What the writer forgets, and what it must not forget."""

from pathlib import Path

from tests_support import FixedClock

from spaces.keyspace import claim_key, claim_minute4
from spaces.store.contract import Claim, Commit, Committed, Put, Range, Refused, Store
from spaces.store.lmdb import open_lmdb

HOUR_S = 3600
DAY_S = 86_400


async def start(folder: Path, clock: FixedClock) -> Store:
    """Open a folder and wait until the writer has kept house, which it does before its first commit."""
    store = open_lmdb(folder, clock=clock)
    assert isinstance(await store.commit(Commit()), Committed)
    return store


def claim(name: bytes, clock: FixedClock) -> Claim:
    return Claim(key=name.ljust(32, b"."), expires_at=int(clock.now()) + 60)


def durable_key(claimed: Claim) -> bytes:
    return claim_key(claim_minute4(claimed.expires_at), claimed.key[:16])


async def test_claims_are_forgotten_after_their_expiry_and_stay_refused(tmp_path: Path, clock: FixedClock) -> None:
    """A swept claim is gone, yet never a first use again: not for a read, not for a commit (ST4)."""
    store = await start(tmp_path, clock)
    read, committed = claim(b"read", clock), claim(b"committed", clock)
    assert (await store.read(claim=read)).first_use is True
    assert isinstance(await store.commit(Commit(claim=committed)), Committed)
    await store.close()
    clock.advance(HOUR_S)
    store = await start(tmp_path, clock)
    assert (await store.read((durable_key(committed),))).records == (None,)
    for old in (read, committed):
        assert (await store.read(claim=old)).first_use is False
        assert isinstance(await store.commit(Commit(claim=old)), Refused)
    assert (await store.read(claim=claim(b"read", clock))).first_use is True
    await store.close()


async def test_claims_are_kept_until_their_expiry(tmp_path: Path, clock: FixedClock) -> None:
    """A claim outlives restarts as long as the token could be used, and two minutes more."""
    store = await start(tmp_path, clock)
    read, committed = claim(b"read", clock), claim(b"committed", clock)
    await store.read(claim=read)
    await store.commit(Commit(claim=committed))
    await store.close()
    clock.advance(120)
    store = await start(tmp_path, clock)
    assert (await store.read((durable_key(committed),))).records[0] is not None
    assert (await store.read(claim=read)).first_use is False
    assert isinstance(await store.commit(Commit(claim=committed)), Refused)
    await store.close()


async def test_clock_that_steps_back_does_not_stop_commits(tmp_path: Path, clock: FixedClock) -> None:
    """Commits without a claim pass whatever was swept."""
    store = await start(tmp_path, clock)
    await store.commit(Commit(claim=claim(b"one", clock)))
    await store.close()
    clock.advance(HOUR_S)
    store = await start(tmp_path, clock)
    clock.advance(-HOUR_S)
    assert isinstance(await store.commit(Commit(puts=(Put(b"Ka", b"1"),))), Committed)
    await store.close()


async def test_tombstones_go_after_a_day(tmp_path: Path, clock: FixedClock) -> None:
    """A deleted row is told from one never written for a day; values stay (M31)."""
    store = await start(tmp_path, clock)
    await store.commit(Commit(puts=(Put(b"Ka", None), Put(b"Kb", b"1"))))
    await store.close()
    clock.advance(DAY_S)
    store = await start(tmp_path, clock)
    assert (await store.read((b"Ka",))).records[0] is not None
    await store.commit(Commit(puts=(Put(b"Kc", None),)))
    await store.close()
    clock.advance(HOUR_S)
    store = await start(tmp_path, clock)
    gone, value, young = (await store.read((b"Ka", b"Kb", b"Kc"))).records
    assert gone is None
    assert value is not None
    assert young is not None
    await store.close()


async def test_many_claims_are_swept_in_parts(tmp_path: Path, clock: FixedClock) -> None:
    """More claims than one sweep transaction takes go all the same."""
    store = await start(tmp_path, clock)
    claims = [claim(b"%d" % at, clock) for at in range(1200)]
    for claimed in claims:
        await store.read(claim=claimed)
    puts = tuple(Put(durable_key(claimed), b"") for claimed in claims)
    for first in range(0, 1200, 200):
        await store.commit(Commit(puts=puts[first : first + 200]))
    await store.close()
    clock.advance(HOUR_S)
    store = await start(tmp_path, clock)
    page = (await store.read(ranges=(Range(b"C", keys_only=True),))).pages[0]
    assert page.rows == ()
    assert (await store.read(claim=claims[-1])).first_use is False
    await store.close()
