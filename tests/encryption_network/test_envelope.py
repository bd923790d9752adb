"""Tests of inline envelopes: strict parsing, encryption and decryption."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests_support import CountingEntropy

from capabilities.resources import parse_network_id
from encryption_network.canonical_json import canonical_hash
from encryption_network.envelope import (
    InlineEnvelope,
    encode_envelope,
    open_envelope,
    parse_envelope,
    seal_envelope,
)
from encryption_network.keywrap import open_wrapped, public_key_of
from encryption_network.network_errors import EnvelopeError
from encryption_network.networks import Descriptor

SCALAR = b"\x17" * 32
DESCRIPTOR = Descriptor(
    network_id=parse_network_id("urn:tinycloud:encryption:did:key:zOwner:default"),
    public_key=public_key_of(SCALAR),
    state="active",
    alg="x25519-aes256gcm/v1",
    key_version=1,
    node_did=None,
)


def sealed(plaintext: bytes = b"payload", **labels: Any) -> InlineEnvelope:
    """Return an envelope for the sample network."""
    return seal_envelope(DESCRIPTOR, plaintext, CountingEntropy(plaintext), **labels)


def content_key(envelope: InlineEnvelope) -> bytes:
    """Return the content key, decrypted as a node does it."""
    return open_wrapped(SCALAR, base64.b64decode(envelope.encrypted_symmetric_key))


@given(plaintext=st.binary(max_size=300), aad=st.none() | st.binary(max_size=9))
def test_opening_what_was_sealed_is_identity(plaintext: bytes, aad: bytes | None) -> None:
    """A payload survives encryption, encoding, parsing and decryption."""
    envelope = parse_envelope(encode_envelope(sealed(plaintext, aad=aad, metadata={"x": "y"})))
    assert envelope == sealed(plaintext, aad=aad, metadata={"x": "y"})
    assert open_envelope(envelope, content_key(envelope)) == plaintext


@given(st.data())
def test_one_flipped_bit_never_opens(data: st.DataObject) -> None:
    """A flipped bit anywhere in the ciphertext is detected."""
    envelope = sealed()
    bit = data.draw(st.integers(0, len(envelope.ciphertext) * 8 - 1))
    flipped = bytearray(envelope.ciphertext)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(EnvelopeError):
        open_envelope(replace(envelope, ciphertext=bytes(flipped)), content_key(envelope))


@pytest.mark.parametrize("key", [b"", bytes(16), bytes(32)])
def test_a_wrong_key_never_opens(key: bytes) -> None:
    """A key of the wrong length or value raises EnvelopeError."""
    with pytest.raises(EnvelopeError):
        open_envelope(sealed(), key)


def test_any_order_and_further_members_are_read() -> None:
    """Members may be in any order, with white space and unknown members."""
    envelope = sealed()
    fields = json.loads(encode_envelope(envelope))
    text = json.dumps(dict(reversed(fields.items())) | {"extra": [1]}, indent=1)
    assert parse_envelope(text.encode()) == envelope


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("v", 2),
        ("v", True),
        ("v", "1"),
        ("v", None),
        ("networkId", "urn:other"),
        ("networkId", ""),
        ("alg", ""),
        ("alg", 1),
        ("keyVersion", 1.5),
        ("keyVersion", True),
        ("encryptedSymmetricKey", "AAAA"),
        ("encryptedSymmetricKey", None),
        ("encryptedSymmetricKeyHash", "00"),
        ("ciphertext", "AAA"),
        ("ciphertext", "AB=="),
        ("ciphertext", ""),
        ("aad", 1),
        ("aad", None),
        ("metadata", []),
        ("metadata", {"a": 1}),
        ("metadata", None),
    ],
)
def test_malformed_members(member: str, value: Any) -> None:
    """A member of the wrong type or value rejects the envelope."""
    fields = json.loads(encode_envelope(sealed()))
    with pytest.raises(EnvelopeError):
        parse_envelope(json.dumps(fields | {member: value}).encode())


def test_one_character_is_a_text() -> None:
    """An algorithm of one character is parsed, although no node knows it."""
    fields = json.loads(encode_envelope(sealed()))
    assert parse_envelope(json.dumps(fields | {"alg": "x"}).encode()).alg == "x"


@pytest.mark.parametrize(
    "member",
    [
        "v",
        "networkId",
        "alg",
        "keyVersion",
        "encryptedSymmetricKey",
        "encryptedSymmetricKeyHash",
        "ciphertext",
    ],
)
def test_missing_members(member: str) -> None:
    """Every member except the labels is required."""
    fields = json.loads(encode_envelope(sealed()))
    del fields[member]
    with pytest.raises(EnvelopeError):
        parse_envelope(json.dumps(fields).encode())


def test_a_hash_of_the_unquoted_text_does_not_fit() -> None:
    """A key hash over the unquoted text is rejected."""
    fields = json.loads(encode_envelope(sealed()))
    fields["encryptedSymmetricKeyHash"] = canonical_hash([fields["encryptedSymmetricKey"]])
    with pytest.raises(EnvelopeError):
        parse_envelope(json.dumps(fields).encode())


def test_labels_are_unicode() -> None:
    """A label that is not Unicode raises EnvelopeError."""
    with pytest.raises(EnvelopeError):
        encode_envelope(sealed(metadata={"x": "\ud800"}))


def test_the_size_is_bounded() -> None:
    """A text above the given limit is rejected before it is parsed."""
    data = encode_envelope(sealed())
    with pytest.raises(EnvelopeError):
        parse_envelope(data, max_bytes=len(data) - 1)


@given(
    st.binary(max_size=200) | st.text(max_size=50).map(lambda text: f'{{"v":1,{text}}}'.encode())
)
def test_any_bytes(data: bytes) -> None:
    """Any other bytes raise EnvelopeError."""
    with pytest.raises(EnvelopeError):
        parse_envelope(data)


def test_an_envelope_prints_no_payload() -> None:
    """The representation does not contain the ciphertext."""
    assert "ciphertext=" not in repr(sealed())
