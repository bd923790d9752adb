"""Rules K6, K7, K9, Q25 and Q33: signature verifiers."""

import hashlib
from collections.abc import Callable

import pytest
from btclib_libsecp256k1 import recovery as recoverable
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st
from key_types import (
    ED25519,
    KECCAK,
    ON_CURVE,
    P256,
    P256_ORDER,
    RECOVERED,
    SECP256K1,
    SECP256K1_ORDER,
    P256Key,
    Secp256k1Key,
    name_of,
    twin,
)

from capabilities.capability_errors import BadSignature
from capabilities.verifiers import Ed25519Verifier, P256Verifier, Secp256k1Verifier, Verifier

VERIFIERS: dict[str, Callable[[bytes], Verifier]] = {
    "Ed25519Key": Ed25519Verifier,
    "P256Key": P256Verifier,
    "Secp256k1Key": Secp256k1Verifier,
}
ALGORITHMS = [
    *(
        "HS256",
        "HS384",
        "HS512",
        "RS256",
        "RS384",
        "RS512",
        "PS256",
        "PS384",
        "PS512",
        "ES256",
        "ES384",
        "ES512",
    ),
    *(
        "ES256K",
        "ES256K-R",
        "ESKeccakK",
        "ESKeccakKR",
        "ESBlake2b",
        "ESBlake2bK",
        "EdDSA",
        "EdBlake2b",
        "Ed25519",
    ),
    *("none", "es256", "es256k", "x", ""),
]
P256_FIELD = 2**256 - 2**224 + 2**192 + 2**96 - 1
SECP256K1_FIELD = 2**256 - 2**32 - 977


def verifier_of(key):
    return VERIFIERS[type(key).__name__](key.public_key)


def order_of(key):
    return P256_ORDER if isinstance(key, P256Key) else SECP256K1_ORDER


def refused(key, signature, algorithm=..., message=b"m"):
    with pytest.raises(BadSignature, match=r"^Failed to verify signature$"):
        verifier_of(key).verify(
            key.algorithm if algorithm is ... else algorithm, message, signature
        )


@pytest.mark.parametrize("key", [ED25519, *ON_CURVE], ids=name_of)
def test_round_trip(key):
    """A signature verifies, but not for another message or key, or with a flipped bit."""
    signature = key.sign(b"m")
    verifier_of(key).verify(key.algorithm, b"m", signature)
    refused(key, signature, message=b"n")
    for position in range(len(signature) * 8):
        flipped = bytearray(signature)
        flipped[position // 8] ^= 1 << position % 8
        refused(key, bytes(flipped))


@pytest.mark.parametrize("key", [ED25519, *ON_CURVE], ids=name_of)
def test_Q33_K7_only_fitting_algorithms(key):
    """A valid signature passes only under its own algorithm name."""
    assert key.algorithm in ALGORITHMS
    for algorithm in ALGORITHMS:
        if algorithm == key.algorithm:
            verifier_of(key).verify(algorithm, b"m", key.sign(b"m"))
        else:
            refused(key, key.sign(b"m"), algorithm)


def test_K7_algorithms_of_each_key_type():
    """Each key type lists the algorithms that it supports."""
    assert {"EdDSA"} == Ed25519Verifier(ED25519.public_key).algorithms
    assert {"ES256"} == P256Verifier(P256.public_key).algorithms
    assert {"ES256K", "ES256K-R", "ESKeccakKR"} == Secp256k1Verifier(
        SECP256K1.public_key
    ).algorithms


@pytest.mark.parametrize("key", ON_CURVE, ids=name_of)
@given(message=st.binary(max_size=40))
@settings(max_examples=25, deadline=None)
def test_Q25_of_two_twins_one_verifies(key, message):
    """An ECDSA signature verifies only in its form with the low `s`."""
    signature = key.sign(message)
    verifier_of(key).verify(key.algorithm, message, signature)
    refused(key, twin(signature, order_of(key)), message=message)


@pytest.mark.parametrize("key", ON_CURVE, ids=name_of)
def test_K7_numbers_out_of_range(key):
    """`r` is between 1 and n-1, `s` between 1 and n/2, bounds included."""
    order, end = order_of(key), key.sign(b"m")[64:]
    for r in (0, 1, order - 1, order, order + 1, 2**256 - 1):
        for s in (0, 1, order // 2, order // 2 + 1, order - 1, order, 2**256 - 1):
            refused(key, r.to_bytes(32, "big") + s.to_bytes(32, "big") + end)


@pytest.mark.parametrize("key", [ED25519, *ON_CURVE], ids=name_of)
def test_K9_signatures_of_another_length(key):
    """A signature of another length is rejected."""
    signature = key.sign(b"m")
    for length in {0, 1, 32, 63, 64, 65, 66, 128, 130} - {len(signature)}:
        refused(key, (signature * 3)[:length])


@pytest.mark.parametrize("key", [P256, SECP256K1], ids=name_of)
def test_K7_other_forms_of_a_signature(key):
    """Signatures in DER, with a recovery byte or with extra zeros are rejected."""
    signature = key.sign(b"m")
    r, s = signature[:32], signature[32:]
    refused(key, encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big")))
    for other in (signature + b"\0", b"\0" + signature, b"\0" + r + b"\0" + s, s + r):
        refused(key, other)


@pytest.mark.parametrize("key", [P256, SECP256K1], ids=name_of)
def test_K7_zeros_are_not_left_out(key):
    """Numbers keep their leading zeros."""
    messages = (b"%d" % number for number in range(100_000))
    message, signature = next((m, s) for m in messages if (s := key.sign(m))[32] == 0)
    verifier_of(key).verify(key.algorithm, message, signature)
    refused(key, signature[:32] + signature[33:], message=message)
    refused(key, signature[:32] + b"\0" + signature[32:], message=message)


def test_Q25_recovery_of_numbers_beyond_the_order():
    """The recovery bytes 2 and 3 are rejected, although a key exists for them."""
    digest = hashlib.sha256(b"m").digest()
    for r in range(1, 100):
        signature = r.to_bytes(32, "big") + (5).to_bytes(32, "big")
        try:
            key = recoverable.recover(digest, signature, 2)
            break
        except ValueError:
            continue
    verifier = Secp256k1Verifier(key)
    verifier.verify("ES256K", b"m", signature)
    for recovery in range(4):
        with pytest.raises(BadSignature):
            verifier.verify("ES256K-R", b"m", signature + bytes([recovery]))


@pytest.mark.parametrize("key", [RECOVERED, KECCAK], ids=name_of)
def test_Q25_recovery_byte_has_one_spelling(key):
    """The recovery byte has to be the 0 or 1 that recovers the key."""
    signature = key.sign(b"m")
    for byte in range(256):
        if byte != signature[64]:
            refused(key, signature[:64] + bytes([byte]))


def test_K7_each_recovering_algorithm_has_its_hash():
    """A signature passes only with its own hash and with its recovery byte."""
    for signer, other in ((RECOVERED, KECCAK), (KECCAK, RECOVERED)):
        refused(signer, signer.sign(b"m"), other.algorithm)
        refused(signer, signer.sign(b"m"), "ES256K")
    refused(SECP256K1, RECOVERED.sign(b"m")[:64], "ES256K-R")
    Secp256k1Verifier(SECP256K1.public_key).verify("ES256K", b"m", RECOVERED.sign(b"m")[:64])


@pytest.mark.parametrize(
    ("verifier", "key", "field"),
    [(P256Verifier, P256, P256_FIELD), (Secp256k1Verifier, SECP256K1, SECP256K1_FIELD)],
    ids=["P-256", "secp256k1"],
)
def test_K6_points(verifier, key, field):
    """A compressed or plain point on the curve is accepted; hybrid form and infinity are not."""
    x, y = key.point[1:33], key.point[33:]
    assert key.public_key == verifier(key.public_key).public_key == verifier(key.point).public_key
    negated = (field - int.from_bytes(y, "big")).to_bytes(32, "big")
    assert key.public_key != verifier(b"\4" + x + negated).public_key
    off = next(c for c in range(2, 30) if not _is_x(verifier, c)).to_bytes(32, "big")
    beyond = field.to_bytes(32, "big")
    for point in (
        b"",
        b"\0",
        bytes(33),
        bytes(65),
        b"\4" + bytes(64),
        b"\4" + x + x,
        b"\4" + x + y[:-1] + bytes([y[-1] ^ 1]),
        b"\2" + off,
        b"\3" + off,
        b"\2" + beyond,
        b"\2" + b"\xff" * 32,
        b"\4" + beyond + y,
        b"\6" + x + y,
        b"\7" + x + y,
        b"\5" + x,
        x,
        x + y,
        key.public_key + b"\0",
        key.public_key[:-1],
        key.point[:-1],
    ):
        with pytest.raises(BadSignature):
            verifier(point)


def _is_x(verifier, number):
    try:
        verifier(b"\2" + number.to_bytes(32, "big"))
    except BadSignature:
        return False
    return True


def test_K6_key_of_one_curve_is_none_of_the_other():
    """A point of one curve is rejected for the other."""
    with pytest.raises(BadSignature):
        P256Verifier(SECP256K1.point)
    with pytest.raises(BadSignature):
        Secp256k1Verifier(P256.point)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_K6_ed25519_keys_have_one_length(length):
    """An Ed25519 key has 32 bytes."""
    with pytest.raises(BadSignature):
        Ed25519Verifier(bytes(length))


@pytest.mark.parametrize("key", [ED25519, *ON_CURVE], ids=name_of)
@given(
    message=st.binary(max_size=20),
    signature=st.binary(max_size=70) | st.binary(min_size=64, max_size=65),
    algorithm=st.sampled_from(ALGORITHMS) | st.text(max_size=8),
)
@settings(max_examples=60, deadline=None)
def test_K9_any_bytes(key, message, signature, algorithm):
    """Any bytes as signature raise BadSignature."""
    refused(key, signature, algorithm, message)


@pytest.mark.parametrize("verifier", VERIFIERS.values())
@given(
    point=st.binary(max_size=70)
    | st.binary(min_size=32, max_size=33)
    | st.binary(min_size=65, max_size=65)
)
@settings(max_examples=60, deadline=None)
def test_K9_any_bytes_as_a_key(verifier, point):
    """Any bytes are parsed as a key with one short form, or raise BadSignature."""
    try:
        read = verifier(point)
    except BadSignature:
        return
    assert read.public_key == verifier(read.public_key).public_key


def test_address_is_the_wallets():
    """The address of a key equals its wallet's."""
    key = Secp256k1Key(
        bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
    )
    assert (
        "f39fd6e51aad88f6f4ce6ab8827279cfffb92266"
        == Secp256k1Verifier(key.public_key).address.hex()
    )
