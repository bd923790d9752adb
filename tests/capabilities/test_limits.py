"""Tests of the address by which the requests of a client are counted (Q12)."""

import pytest

from capabilities.limits import (
    counted_address,
    counted_client,
    forwarded_client,
    is_in_networks,
)

PROXY = "10.0.0.9"


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("198.51.100.7, 192.0.2.1", "192.0.2.1"),
        ("192.0.2.1, 10.0.0.3, ", "192.0.2.1"),
        ("192.0.2.1:443", "192.0.2.1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("192.0.2.1, 10.0.0.3:80", "192.0.2.1"),
        ("10.0.0.3", PROXY),
    ],
)
def test_Q12_the_client_behind_a_proxy(forwarded: str, client: str) -> None:
    """The last address that is not a trusted proxy is the client, without its port (Q12)."""
    assert forwarded_client(PROXY, [forwarded], "", proxies=["10.0.0.0/8"]) == client


def test_Q12_other_peers_do_not_state_a_client() -> None:
    """Headers of a peer that is not a trusted proxy are ignored (Q12)."""
    for proxies in ([], ["10.0.0.8"], ["192.0.2.0/24"]):
        assert forwarded_client(PROXY, ["192.0.2.1"], "192.0.2.1", proxies=proxies) == PROXY
    assert forwarded_client(None, ["192.0.2.1"], "", proxies=["10.0.0.0/8"]) is None


def test_Q12_one_address_in_another_header() -> None:
    """The header with one address counts only if there is no list (Q12)."""
    proxies = ["10.0.0.0/8"]
    assert forwarded_client(PROXY, [], " 192.0.2.1 ", proxies=proxies) == "192.0.2.1"
    assert forwarded_client(PROXY, [], "", proxies=proxies) == PROXY
    assert forwarded_client(PROXY, ["192.0.2.2"], "192.0.2.1", proxies=proxies) == "192.0.2.2"


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:ffff:ffff:ffff", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("127.0.0.1", None),
        ("::1", None),
    ],
)
def test_the_key_that_counts_a_client(address: str, key: str | None) -> None:
    """The key is the IPv4 address or the IPv6 /64, and a client on the loopback has none."""
    assert counted_client(address) == key
    assert counted_address(address) == key


def test_the_key_of_a_client_without_an_address() -> None:
    """A text that is not an address is counted as a client, but not as an address."""
    assert counted_client("unix") == "unix"
    assert counted_address("unix") is None
    assert counted_client(None) is None
    assert counted_address(None) is None


def test_an_address_of_a_network() -> None:
    """A network may be given by any address in it, and no network contains no address."""
    assert is_in_networks("10.1.2.3", ["192.0.2.1", "10.0.0.1/8"])
    assert is_in_networks("192.0.2.1", ["192.0.2.1"])
    assert not is_in_networks("11.0.0.1", ["10.0.0.1/8"])
    assert not is_in_networks("10.1.2.3", [])
    assert not is_in_networks(None, ["10.0.0.1/8"])
    assert not is_in_networks("host", ["10.0.0.1/8"])
