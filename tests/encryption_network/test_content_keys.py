"""Tests of the hashes of content keys (RL21)."""

import hashlib

from tests_support import CountingEntropy, altered

from capabilities.principals import parse_principal
from capabilities.resources import network_id
from encryption_network.content_keys import content_key_digest
from encryption_network.keyring import Keyring
from encryption_network.keywrap import KEY_BYTES, wrap
from encryption_network.networks import NetworkRecord, create_network
from encryption_network.rotation import with_candidate, with_candidate_activated

OWNER = parse_principal("did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK")
KEYRING = Keyring(b"k" * 32)
CONTENT_KEY = bytes(range(32))


def network_named(name: str) -> NetworkRecord:
    """Return a network of the owner."""
    return create_network(
        network_id(OWNER, name), now=0.0, keyring=KEYRING, entropy=CountingEntropy(name.encode())
    )


NETWORK = network_named("default")


def wrapped(content_key: bytes = CONTENT_KEY, *, seed: bytes = b"wrap") -> bytes:
    """Return a content key that is wrapped for the network."""
    return wrap(NETWORK.public_key, content_key, CountingEntropy(seed))


def test_RL21_the_hash_is_of_the_opened_key() -> None:
    """The hash covers a label, the network's id and the key, and no part of the wrap (RL21)."""
    text = f"urn:tinycloud:encryption:{OWNER}:default".encode()
    expected = hashlib.sha256(b"sealspace/content-key/v1\0" + text + b"\0" + CONTENT_KEY).digest()
    assert content_key_digest(NETWORK, wrapped(), KEYRING, key_version=1) == expected
    assert content_key_digest(NETWORK, wrapped(seed=b"again"), KEYRING, key_version=1) == expected


def test_RL21_each_spelling_of_a_wrapped_key_has_one_hash() -> None:
    """X25519 ignores the top bit of the ephemeral key, and so does the hash (RL21)."""
    one = bytearray(wrapped())
    one[KEY_BYTES - 1] ^= 0x80
    assert bytes(one) != wrapped()
    digest = content_key_digest(NETWORK, wrapped(), KEYRING, key_version=1)
    assert content_key_digest(NETWORK, bytes(one), KEYRING, key_version=1) == digest


def test_RL21_keys_and_networks_are_told_apart() -> None:
    """Another content key, or the same key in another network, has another hash (RL21)."""
    first = content_key_digest(NETWORK, wrapped(), KEYRING, key_version=1)
    assert content_key_digest(NETWORK, wrapped(bytes(32)), KEYRING, key_version=1) != first
    renamed = altered(NETWORK, network=network_named("other").network)
    assert content_key_digest(renamed, wrapped(), KEYRING, key_version=1) != first


def test_RL21_a_key_that_cannot_be_opened_has_no_hash() -> None:
    """A wrapped key of another network, one that was changed, and other bytes have no hash."""
    flipped = bytearray(wrapped())
    flipped[-1] ^= 1
    for bad in (b"", bytes(93), bytes(flipped), wrapped()[:-1]):
        assert content_key_digest(NETWORK, bad, KEYRING, key_version=1) is None
    assert content_key_digest(network_named("other"), wrapped(), KEYRING, key_version=1) is None


def test_RL21_the_version_of_the_key() -> None:
    """A key that is wrapped to a former version has its hash by this version alone."""
    record = with_candidate(NETWORK, now=0.0, keyring=KEYRING, entropy=CountingEntropy())
    replaced = with_candidate_activated(record, b"{}", now=0.0)
    former = content_key_digest(replaced, wrapped(), KEYRING, key_version=1)
    assert former == content_key_digest(NETWORK, wrapped(), KEYRING, key_version=1)
    assert content_key_digest(replaced, wrapped(), KEYRING, key_version=None) == former
    for other in (0, 2, 3):
        assert content_key_digest(replaced, wrapped(), KEYRING, key_version=other) is None
