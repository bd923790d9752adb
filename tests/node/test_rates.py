"""Tests of token buckets: refill, clients and memory."""

import pytest

from node.rates import MAX_CLIENTS, Rates
from node.refusal import Refusal

NOW = 1_795_000_000.0


def _taken(rates: Rates, client: str | None, *, now: float = NOW) -> int:
    """Take until the bucket is empty, at most a thousand times."""
    for count in range(1000):
        try:
            rates.take(client, now=now)
        except Refusal:
            return count
    return 1000


def test_a_bucket_begins_full_and_fills_evenly() -> None:
    """A bucket starts with a minute's tokens and refills evenly."""
    rates = Rates(per_minute=60)
    assert _taken(rates, "192.0.2.1") == 60
    assert _taken(rates, "192.0.2.1", now=NOW + 2) == 2
    assert _taken(rates, "192.0.2.1", now=NOW + 3600) == 60


def test_a_bucket_of_another_size() -> None:
    """The size of a bucket is independent of its rate."""
    rates = Rates(per_minute=60, most=11)
    assert _taken(rates, "192.0.2.1") == 11
    assert _taken(rates, "192.0.2.1", now=NOW + 3600) == 11


def test_who_is_refused_learns_when_to_come_back() -> None:
    """A refusal says after how many seconds the bucket contains a token."""
    rates = Rates(per_minute=6)
    _taken(rates, "192.0.2.1")
    with pytest.raises(Refusal, match="Rate limit exceeded") as refused:
        rates.require("192.0.2.1", now=NOW)
    assert refused.value.retry_after_s == 10
    rates.require("192.0.2.1", now=NOW + 10)


def test_all_buckets_are_full_until_a_client_is_charged() -> None:
    """One charge ends it for all, until that client's bucket was found full again; a bucket that
    has no whole token, or is not counted, never counts as full."""
    rates = Rates(per_minute=60)
    found = [rates.are_all_full]
    rates.charge("192.0.2.1", now=NOW)
    found.append(rates.are_all_full)
    rates.require("192.0.2.1", now=NOW + 60)
    found.append(rates.are_all_full)
    assert [True, False, True] == found
    assert not Rates(per_minute=0).are_all_full
    assert not Rates(per_minute=60, most=0.5).are_all_full


def test_asking_takes_nothing_and_charging_never_refuses() -> None:
    """`require` takes no token, and `charge` never refuses but may overdraw the bucket."""
    rates = Rates(per_minute=2)
    for _ in range(5):
        rates.require("192.0.2.1", now=NOW)
    for _ in range(5):
        rates.charge("192.0.2.1", now=NOW)
    with pytest.raises(Refusal, match="Rate limit exceeded") as refused:
        rates.require("192.0.2.1", now=NOW)
    assert refused.value.retry_after_s == 120
    with pytest.raises(Refusal, match="Rate limit exceeded"):
        rates.require("192.0.2.1", now=NOW + 119)
    rates.require("192.0.2.1", now=NOW + 120)


@pytest.mark.parametrize(
    "rates", [Rates(per_minute=2), Rates(per_minute=0), Rates(per_minute=60, most=0.5)]
)
@pytest.mark.parametrize("client", [None, "192.0.2.1", "2001:db8::1"])
def test_who_is_new_is_never_refused(rates: Rates, client: str | None) -> None:
    """A client with `is_new` is admitted at any time."""
    for now in (0.0, NOW):
        if rates.is_new(client):
            rates.require(client, now=now)


def test_a_client_that_has_taken_is_not_new() -> None:
    """After one charge, under any of its names, a client is not new until its bucket is full."""
    rates = Rates(per_minute=2)
    assert rates.is_new("2001:db8::1") and rates.is_new(None)
    rates.charge("2001:db8::2", now=NOW)
    assert not rates.is_new("2001:db8::1")
    assert rates.is_new("192.0.2.1")
    rates.require("2001:db8::1", now=NOW + 29)
    assert not rates.is_new("2001:db8::1")
    rates.require("2001:db8::1", now=NOW + 31)
    assert rates.is_new("2001:db8::1")


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("127.0.0.1", "192.0.2.1", False),
        ("not:an:address", "not:an:address", True),
        ("x" * 64 + "1", "x" * 64 + "2", True),
    ],
)
def test_whose_bucket_it_is(one: str, other: str, is_same: bool) -> None:
    """IPv6 clients are counted by /64, mapped addresses as IPv4, and long names by their
    beginning."""
    rates = Rates(per_minute=10)
    assert _taken(rates, one) == 10
    assert _taken(rates, other) == (0 if is_same else 10)


def test_who_is_not_counted() -> None:
    """Callers without an address, and all callers at rate 0, are not counted."""
    assert _taken(Rates(per_minute=1), None) == 1000
    assert _taken(Rates(per_minute=0), "192.0.2.1") == 1000


def test_memory_is_bounded() -> None:
    """Beyond the limit the least recently active client is evicted."""
    rates = Rates(per_minute=1)
    for number in range(MAX_CLIENTS + 1):
        rates.take(f"client-{number}", now=NOW)
        if number == 1:
            with pytest.raises(Refusal, match="Rate limit exceeded"):
                rates.take("client-0", now=NOW)
    rates.take("client-0", now=NOW)
    with pytest.raises(Refusal, match="Rate limit exceeded"):
        rates.take("client-2", now=NOW)


def test_a_clock_that_steps_back_gives_nothing() -> None:
    """An earlier time neither refills a bucket nor breaks it."""
    rates = Rates(per_minute=2)
    assert _taken(rates, "192.0.2.1") == 2
    assert _taken(rates, "192.0.2.1", now=NOW - 3600) == 0
