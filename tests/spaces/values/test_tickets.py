"""Tests of the tickets of signed URLs: their stored rows and their expiry."""

from tests_support import CountingEntropy

from capabilities.cids import ContentKey
from spaces.keyspace import TICKETS_PREFIX
from spaces.store.contract import Commit, Range, Record, Store
from spaces.values.tickets import (
    KEPT_AFTER_EXPIRY_S,
    TICKET_BYTES,
    Ticket,
    new_ticket,
    sweep_tickets,
    ticket_of,
    ticket_put,
    ticket_row_key,
)

NOW = 1_795_000_000.0


def _said(expires_at: float = NOW + 300) -> Ticket:
    return Ticket(
        b"K" + bytes(16) + b"a",
        b"\x07" * 32,
        expires_at,
        (ContentKey(b"\x01" * 32), ContentKey(b"\x02" * 32)),
    )


async def _keep(store: Store, entropy: CountingEntropy, expires_at: float) -> bytes:
    ticket = new_ticket(expires_at, entropy)
    await store.commit(Commit(puts=(ticket_put(ticket, _said(expires_at)),)))
    return ticket


async def _kept(store: Store, ticket: bytes) -> Ticket | None:
    return ticket_of((await store.read((ticket_row_key(ticket),))).records[0])


async def test_a_ticket_is_found_by_itself_alone(
    one_store: Store, entropy: CountingEntropy
) -> None:
    """A ticket of 32 bytes leads to its value and is not stored itself (Q24)."""
    ticket = await _keep(one_store, entropy, NOW + 300)
    assert len(ticket) == TICKET_BYTES
    assert await _kept(one_store, ticket) == _said()
    (page,) = (await one_store.read(ranges=(Range(TICKETS_PREFIX),))).pages
    assert not any(ticket[4:] in key + (record.value or b"") for key, record in page.rows)
    assert await _kept(one_store, ticket[:-1] + b"\0") is None


def test_no_row_is_no_ticket() -> None:
    """An absent or deleted ticket row leads to no value."""
    assert ticket_of(None) is None
    assert ticket_of(Record(None, bytes(16))) is None


async def test_expired_tickets_go_an_hour_later(one_store: Store, entropy: CountingEntropy) -> None:
    """The sweep deletes tickets an hour after their expiry, in bounded steps."""
    old = [await _keep(one_store, entropy, NOW - KEPT_AFTER_EXPIRY_S - 61 - at) for at in range(5)]
    young = await _keep(one_store, entropy, NOW - KEPT_AFTER_EXPIRY_S + 61)
    assert [True, True, False, False] == [
        await sweep_tickets(one_store, now=NOW, limit=2) for _ in range(4)
    ]
    assert [await _kept(one_store, ticket) for ticket in old] == [None] * 5
    assert await _kept(one_store, young) is not None
