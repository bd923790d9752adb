"""Key wrapping, sealed blobs and the keyring's seals."""

import copy
import json
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests_support import CountingEntropy, coded, shared_vectors

from encryption_network.keyring import ATTESTATION_CHALLENGE, NETWORK_SEAL, Keyring
from encryption_network.keywrap import (
    open_blob,
    open_wrapped,
    public_key_of,
    seal_blob,
    wrap,
)
from encryption_network.network_errors import RequestError

SCALAR = b"\x17" * 32
CONTENT_KEY = bytes(range(32))
# The points whose multiples are all zero (W5): orders 1, 2, 4 and 8, canonical and not.
LOW_ORDER = [
    "00" * 32,
    "01" + "00" * 31,
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ec" + "ff" * 30 + "7f",
    "ed" + "ff" * 30 + "7f",
    "ee" + "ff" * 30 + "7f",
]
KEYS = st.binary(min_size=32, max_size=32)


class Script:
    """A random source that returns given values in order."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    def token(self, size_bytes: int) -> bytes:
        return self._pieces.pop(0)


@given(scalar=KEYS, content_key=KEYS, seed=st.binary(max_size=8))
def test_opening_what_was_wrapped_is_identity(
    scalar: bytes, content_key: bytes, seed: bytes
) -> None:
    """The holder of the private key gets the wrapped content key back."""
    blob = wrap(public_key_of(scalar), content_key, CountingEntropy(seed))
    assert len(blob) == 93
    assert open_wrapped(scalar, blob) == content_key


@given(bit=st.integers(0, 93 * 8 - 1))
@settings(max_examples=200)
def test_one_flipped_bit_never_opens(bit: int) -> None:
    """A flipped bit is detected, except for the sign bit that X25519 ignores (RFC 7748)."""
    blob = bytearray(wrap(public_key_of(SCALAR), CONTENT_KEY, CountingEntropy()))
    blob[bit // 8] ^= 1 << bit % 8
    if bit == 255:
        assert open_wrapped(SCALAR, bytes(blob)) == CONTENT_KEY
        return
    with pytest.raises(RequestError, check=coded("key-backend")):
        open_wrapped(SCALAR, bytes(blob))


@pytest.mark.parametrize("point", LOW_ORDER)
def test_low_order_points_are_refused_on_both_sides(point: str) -> None:
    """Receiver keys and ephemeral keys of low order are rejected (W5)."""
    with pytest.raises(RequestError, check=coded("key-backend"), match="low-order public key"):
        wrap(bytes.fromhex(point), CONTENT_KEY, CountingEntropy())
    sealed = seal_blob(bytes(32), CONTENT_KEY, CountingEntropy())
    with pytest.raises(RequestError, check=coded("key-backend"), match="low-order public key"):
        open_wrapped(SCALAR, bytes.fromhex(point) + sealed)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda blob: b"", "invalid wrapped key envelope"),
        (lambda blob: blob[:31], "invalid wrapped key envelope"),
        (lambda blob: blob[:32], "encrypted data too short"),
        (lambda blob: blob[:60], "encrypted data too short"),
        (lambda blob: blob[:32] + b"hello", "unknown version of sealed data"),
        (lambda blob: blob[:32] + b"\x00" + blob[33:], "unknown version of sealed data"),
        (lambda blob: blob[:-1], "decryption failed: aead::Error"),
        (lambda blob: blob + b"\x00", "decryption failed: aead::Error"),
    ],
)
def test_malformed_wraps(change: Any, reason: str) -> None:
    """Each malformed wrap is rejected with its own reason (W6)."""
    blob = wrap(public_key_of(SCALAR), CONTENT_KEY, CountingEntropy())
    with pytest.raises(RequestError, check=coded("key-backend")) as caught:
        open_wrapped(SCALAR, change(blob))
    assert caught.value.text == f"key backend error: {reason}"


@pytest.mark.parametrize("size", [0, 16, 31, 33, 1000])
def test_a_content_key_has_32_bytes(size: int) -> None:
    """A content key of another length is neither wrapped nor opened (W8)."""
    ephemeral = b"\x29" * 32
    with pytest.raises(RequestError, check=coded("key-backend")):
        wrap(public_key_of(SCALAR), bytes(size), CountingEntropy())
    shared = shared_secret(ephemeral, public_key_of(SCALAR))
    blob = public_key_of(ephemeral) + seal_blob(shared, bytes(size), CountingEntropy())
    with pytest.raises(
        RequestError, check=coded("key-backend"), match="invalid content key length"
    ):
        open_wrapped(SCALAR, blob)


def shared_secret(private: bytes, public: bytes) -> bytes:
    """Return the X25519 shared secret by `cryptography`."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

    return X25519PrivateKey.from_private_bytes(private).exchange(
        X25519PublicKey.from_public_bytes(public)
    )


@given(
    private=KEYS, point=KEYS | st.integers(0, 2**256 - 1).map(lambda n: n.to_bytes(32, "little"))
)
def test_another_library_agrees(private: bytes, point: bytes) -> None:
    """Shared secrets, public keys and rejections equal those of `cryptography`."""
    try:
        expected = shared_secret(private, point)
    except ValueError:
        with pytest.raises(RequestError, check=coded("key-backend"), match="low-order public key"):
            wrap(point, CONTENT_KEY, Script(private, bytes(12)))
        return
    blob = wrap(point, CONTENT_KEY, Script(private, bytes(12)))
    assert open_blob(expected, blob[32:]) == CONTENT_KEY
    assert (
        open_wrapped(private, point + seal_blob(expected, CONTENT_KEY, CountingEntropy()))
        == CONTENT_KEY
    )
    assert shared_secret(SCALAR, blob[:32]) == shared_secret(private, public_key_of(SCALAR))


@pytest.mark.parametrize("size", [0, 10, 31, 33])
def test_a_public_key_has_32_bytes(size: int) -> None:
    """A receiver key of another length is rejected with the wire's text."""
    with pytest.raises(
        RequestError,
        check=coded("key-backend"),
        match="key backend error: invalid public key length",
    ):
        wrap(bytes(size), CONTENT_KEY, CountingEntropy())
    with pytest.raises(RequestError, check=coded("key-backend")):
        public_key_of(bytes(size))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_private_key_has_32_bytes(size: int) -> None:
    """A private key of another length is rejected; the library would read beyond a short one."""
    blob = wrap(public_key_of(SCALAR), CONTENT_KEY, CountingEntropy())
    with pytest.raises(
        RequestError, check=coded("key-backend"), match="invalid private key length"
    ):
        open_wrapped(SCALAR[:size].ljust(size, b"\0"), blob)


@given(st.binary(max_size=200))
def test_any_bytes_into_the_opener(blob: bytes) -> None:
    """Any other bytes raise RequestError."""
    with pytest.raises(RequestError, check=coded("key-backend")):
        open_wrapped(SCALAR, blob)


@pytest.mark.shared
def test_x25519_vectors() -> None:
    """The wrap's AES key is the raw X25519 output; an all-zero output is refused."""
    groups = json.loads(shared_vectors("wycheproof/x25519_test.json").read_text())["testGroups"]
    used = 0
    for case in (case for group in groups for case in group["tests"]):
        public, private = bytes.fromhex(case["public"]), bytes.fromhex(case["private"])
        entropy = Script(private, bytes(12))
        if "ZeroSharedSecret" in case["flags"]:
            with pytest.raises(RequestError, check=coded("key-backend")):
                wrap(public, CONTENT_KEY, entropy)
        else:
            blob = wrap(public, CONTENT_KEY, entropy)
            assert open_blob(bytes.fromhex(case["shared"]), blob[32:]) == CONTENT_KEY
        used += 1
    assert used > 500


@pytest.mark.shared
def test_aes_gcm_vectors() -> None:
    """Sealed blobs are AES-256-GCM with a 12-byte nonce, a 16-byte tag and no associated data."""
    groups = json.loads(shared_vectors("wycheproof/aes_gcm_test.json").read_text())["testGroups"]
    used = 0
    for group in (group for group in groups if (group["keySize"], group["ivSize"]) == (256, 96)):
        for case in (case for case in group["tests"] if not case["aad"]):
            blob = b"\x01" + bytes.fromhex(case["iv"] + case["ct"] + case["tag"])
            if case["result"] == "invalid":
                with pytest.raises(RequestError, check=coded("key-backend")):
                    open_blob(bytes.fromhex(case["key"]), blob)
            else:
                assert open_blob(bytes.fromhex(case["key"]), blob) == bytes.fromhex(case["msg"])
            used += 1
    assert used > 20


@given(plaintext=st.binary(max_size=100), bit=st.integers(0, 28 * 8 - 1))
def test_seals_at_rest(plaintext: bytes, bit: int) -> None:
    """A seal opens only with the key for its own secret and context, and not with a flipped bit."""
    keyring = Keyring(b"\x07" * 32)
    sealed = keyring.seal(plaintext, CountingEntropy())
    assert keyring.open_sealed(sealed) == plaintext
    flipped = bytearray(sealed)
    flipped[bit // 8] ^= 1 << bit % 8
    assert open_blob(keyring.derive(NETWORK_SEAL), sealed) == plaintext
    for key, blob in (
        (keyring.derive(NETWORK_SEAL), bytes(flipped)),
        (keyring.derive("another/context"), sealed),
        (Keyring(b"\x08" * 32).derive(NETWORK_SEAL), sealed),
    ):
        with pytest.raises(RequestError, check=coded("key-backend")):
            open_blob(key, blob)


def test_a_keyring_shows_no_secret() -> None:
    """Printing, copying and pickling a keyring do not reveal its secret."""
    keyring = Keyring(b"secret" * 6)
    assert "secret" not in repr(keyring).replace("Keyring", "")
    assert keyring.node_did in repr(keyring)
    for take in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            take(keyring)


def test_the_challenge_key_has_a_context_of_its_own() -> None:
    """The key for attestation challenges differs from all other derived keys."""
    keyring = Keyring(b"\x07" * 32)
    assert keyring.derive(ATTESTATION_CHALLENGE) != keyring.derive(NETWORK_SEAL)
