"""Tests of the lease, which has one holder at a time."""

import asyncio

import pytest
from space_grants import NOW

from spaces.lease import Lease
from spaces.store.contract import Store

TTL_S = 120.0


def lease(store: Store, name: str) -> Lease:
    return Lease(store, owner=name.encode().ljust(16, b"."), ttl_s=TTL_S)


async def test_one_of_many_wins(one_store: Store) -> None:
    """Of many concurrent attempts, exactly one gets the lease."""
    assert (
        sum(
            await asyncio.gather(
                *(lease(one_store, str(number)).take(now=NOW) for number in range(10))
            )
        )
        == 1
    )


async def test_holder_keeps_it_by_renewing(one_store: Store) -> None:
    """A lease is renewed from half its time on, and no other process gets it meanwhile."""
    mine, other = lease(one_store, "mine"), lease(one_store, "other")
    assert await mine.take(now=NOW)
    for later_s in range(0, 600, 40):
        assert await mine.take(now=NOW + later_s)
        assert not await other.take(now=NOW + later_s)


async def test_another_takes_over(one_store: Store) -> None:
    """An expired lease goes to the next process that asks, and its notes stay."""
    mine, other = lease(one_store, "mine"), lease(one_store, "other")
    await mine.take(now=NOW)
    assert await mine.note("sweep", now=NOW)
    assert not await other.take(now=NOW + TTL_S - 1)
    assert await other.take(now=NOW + TTL_S)
    assert not await mine.take(now=NOW + TTL_S + 1)
    assert not await mine.note("sweep", now=NOW + TTL_S + 1)
    assert await other.begun() == {"sweep": NOW}


async def test_released_lease_is_free(one_store: Store) -> None:
    """A holder that ends releases the lease; other processes cannot release it."""
    mine, other = lease(one_store, "mine"), lease(one_store, "other")
    await mine.release()
    assert await mine.begun() == {}
    await mine.take(now=NOW)
    await other.release()
    assert not await other.take(now=NOW)
    await mine.release()
    assert await other.take(now=NOW)


@pytest.mark.parametrize("ahead_s", [300.0, 365 * 86_400.0])
async def test_end_that_a_clock_ahead_wrote_is_nobody_s(one_store: Store, ahead_s: float) -> None:
    """A dead holder whose clock was ahead does not block the lease (ST10)."""
    dead, mine, other = (
        lease(one_store, "dead"),
        lease(one_store, "mine"),
        lease(one_store, "other"),
    )
    assert await dead.take(now=NOW + ahead_s)
    assert await dead.note("sweep", now=NOW + ahead_s)
    assert await mine.take(now=NOW)
    assert not await other.take(now=NOW)
    assert not await dead.note("sweep", now=NOW + ahead_s)
    assert await mine.begun() == {"sweep": NOW + ahead_s}


async def test_own_end_that_lies_too_far_ahead_is_written_anew(one_store: Store) -> None:
    """A holder whose clock was set back renews a lease that others respect (ST10)."""
    mine, other = lease(one_store, "mine"), lease(one_store, "other")
    assert await mine.take(now=NOW + 86_400)
    assert await mine.take(now=NOW)
    assert not await other.take(now=NOW + 1)


async def test_clocks_that_nearly_agree_respect_each_other(one_store: Store) -> None:
    """The lease of a holder whose clock is less than a minute ahead is respected (ST10)."""
    ahead, mine = lease(one_store, "ahead"), lease(one_store, "mine")
    assert await ahead.take(now=NOW + 59)
    assert not await mine.take(now=NOW)
    assert await mine.take(now=NOW + TTL_S + 60)
