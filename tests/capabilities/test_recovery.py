"""Recovery of secp256k1 keys compared with plain curve arithmetic (K7, C5, Q25)."""

from itertools import product

import pytest
from btclib_libsecp256k1 import keys, recovery
from hypothesis import given
from hypothesis import strategies as st

from capabilities.capability_errors import BadSignature
from capabilities.signatures import SECP256K1_ORDER as ORDER
from capabilities.signatures import WalletSigner, recover_public_key
from capabilities.verifiers import Secp256k1Verifier

FIELD = 2**256 - 2**32 - 977
BASE = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)
Point = tuple[int, int] | None
EDGES = [
    0,
    1,
    2,
    ORDER // 2,
    ORDER // 2 + 1,
    ORDER - 1,
    ORDER,
    ORDER + 1,
    FIELD - ORDER,
    FIELD - 1,
    FIELD,
    2**256 - 1,
]
numbers = st.sampled_from(EDGES) | st.integers(0, 2**256 - 1)


def added(one: Point, two: Point) -> Point:
    """Add two points of the curve; None is the point at infinity."""
    if one is None or two is None:
        return two if one is None else one
    if one[0] == two[0] and (one[1] + two[1]) % FIELD == 0:
        return None
    if one == two:
        slope = 3 * one[0] * one[0] * pow(2 * one[1], -1, FIELD)
    else:
        slope = (two[1] - one[1]) * pow(two[0] - one[0], -1, FIELD)
    x = (slope * slope - one[0] - two[0]) % FIELD
    return x, (slope * (one[0] - x) - one[1]) % FIELD


def times(factor: int, point: Point) -> Point:
    """Multiply a point by a number."""
    result: Point = None
    while factor:
        if factor & 1:
            result = added(result, point)
        point, factor = added(point, point), factor >> 1
    return result


def recovered(digest: bytes, r: int, s: int, odd: int) -> bytes | None:
    """Recover a key as in SEC 1, 4.1.6, with the specification's bounds on the numbers."""
    if not 0 < r < ORDER or not 0 < s <= ORDER // 2 or odd not in (0, 1):
        return None
    square = (r**3 + 7) % FIELD
    y = pow(square, (FIELD + 1) // 4, FIELD)
    if y * y % FIELD != square:
        return None
    nonce = (r, y if y & 1 == odd else FIELD - y)
    inverse = pow(r, -1, ORDER)
    number = int.from_bytes(digest, "big")
    key = added(times(s * inverse % ORDER, nonce), times(-number * inverse % ORDER, BASE))
    return None if key is None else b"\4" + key[0].to_bytes(32, "big") + key[1].to_bytes(32, "big")


def read(digest: bytes, r: int, s: int, odd: int) -> bytes | None:
    """Recover a key with the product's code; return None if it is rejected."""
    try:
        return recover_public_key(digest, r.to_bytes(32, "big") + s.to_bytes(32, "big"), odd)
    except BadSignature:
        return None


@given(st.binary(min_size=32, max_size=32), numbers, numbers, st.integers(0, 4))
def test_K7_numbers_of_any_size(digest: bytes, r: int, s: int, odd: int) -> None:
    """For any `r`, `s` and recovery number both implementations give the same result (Q25)."""
    assert read(digest, r, s, odd) == recovered(digest, r, s, odd)


def test_K7_numbers_at_the_edges() -> None:
    """Both implementations treat zero, the order, the field size and their neighbours alike."""
    digests = [bytes(32), b"\xff" * 32, ORDER.to_bytes(32, "big")]
    accepted = 0
    for digest, r, s, odd in product(digests, EDGES, EDGES, range(4)):
        expected = recovered(digest, r, s, odd)
        assert read(digest, r, s, odd) == expected, (digest, r, s, odd)
        accepted += expected is not None
    assert accepted


def test_K7_the_key_at_infinity() -> None:
    """A signature whose key would be the point at infinity is refused."""
    s = 5
    point = times(s, BASE)
    assert point is not None
    digest = (s * s % ORDER).to_bytes(32, "big")
    assert recovered(digest, point[0] % ORDER, s, point[1] & 1) is None
    assert read(digest, point[0] % ORDER, s, point[1] & 1) is None


def test_K9_other_lengths() -> None:
    """Digests, signatures and points of another length raise BadSignature."""
    signature = recovery.sign(bytes(32), b"\1" * 32)[0]
    for length in range(130):
        if length != 64:
            with pytest.raises(BadSignature):
                recover_public_key(bytes(32), (signature * 3)[:length], 0)
        if length != 32:
            with pytest.raises(BadSignature):
                recover_public_key(bytes(length), signature, 0)
        if length not in (33, 65):
            with pytest.raises(BadSignature):
                Secp256k1Verifier((b"\2" + BASE[0].to_bytes(32, "big") * 5)[:length])


@given(st.integers(1, ORDER - 1), st.binary(min_size=32, max_size=32))
def test_C5_signing_and_recovering(secret: int, digest: bytes) -> None:
    """A signature has a low `s`, and its key can be recovered."""
    key = secret.to_bytes(32, "big")
    signature, odd = recovery.sign(digest, key)
    assert int.from_bytes(signature[32:], "big") <= ORDER // 2
    assert recover_public_key(digest, signature, odd) == keys.pubkey_from_prvkey(
        key, compressed=False
    )


@pytest.mark.parametrize(
    "secret", [bytes(31), bytes(32), bytes(33), ORDER.to_bytes(32, "big"), b"\xff" * 32]
)
def test_C5_numbers_that_are_no_secret(secret: bytes) -> None:
    """A wallet's secret has 32 bytes and is between 1 and the curve's order."""
    with pytest.raises(ValueError):
        WalletSigner(secret)


def test_C5_a_known_signature() -> None:
    """The nonce follows RFC 6979: a vector of other libraries gives the same bytes."""
    # Private key 1, SHA-256 of "Satoshi Nakamoto"; trezor-crypto and bitcoinjs test it.
    digest = bytes.fromhex("a0dc65ffca799873cbea0ac274015b9526505daaaed385155425f7337704883e")
    expected = (
        "934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d8"
        "2442ce9d2b916064108014783e923ec36b49743e2ffa1c4496f01a512aafd9e5"
    )
    signature, odd = recovery.sign(digest, (1).to_bytes(32, "big"))
    assert signature.hex() == expected
    assert recover_public_key(digest, signature, odd)[1:33] == BASE[0].to_bytes(32, "big")
