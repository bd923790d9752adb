"""Rules K7, K9 and C5: Ed25519 and EIP-191 signatures."""

import pytest
from capability_cases import OWNER, SESSION

from capabilities.capability_errors import BadSignature
from capabilities.signatures import (
    Ed25519Signer,
    WalletSigner,
    eip191_digest,
    keccak256,
    recover_eip191,
    verify_ed25519,
)

ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493
SECP256K1_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def test_ed25519_round_trip():
    """A signature verifies, and fails with one flipped bit."""
    signature = SESSION.sign(b"m")
    verify_ed25519(SESSION.public_key, b"m", signature)
    for position in range(64):
        flipped = bytearray(signature)
        flipped[position] ^= 1
        with pytest.raises(BadSignature):
            verify_ed25519(SESSION.public_key, b"m", bytes(flipped))


@pytest.mark.parametrize("length", [0, 1, 63, 65, 128])
def test_K9_signature_of_another_length(length):
    """A signature that is not 64 bytes raises BadSignature."""
    with pytest.raises(BadSignature, match="Failed to verify signature"):
        verify_ed25519(SESSION.public_key, b"m", (SESSION.sign(b"m") * 2)[:length])


@pytest.mark.parametrize("length", [63, 65])
def test_K9_no_byte_moves_between_signature_and_message(length):
    """A signature is rejected if its last byte is in the message, or the message begins in it."""
    text = b"message"
    signed = SESSION.sign(text) + text
    verify_ed25519(SESSION.public_key, signed[64:], signed[:64])
    with pytest.raises(BadSignature, match="Failed to verify signature"):
        verify_ed25519(SESSION.public_key, signed[length:], signed[:length])


@pytest.mark.parametrize(
    "key", [SESSION.public_key[:31], SESSION.public_key + b"\0"], ids=["shorter", "longer"]
)
def test_K9_key_of_another_length(key):
    """A public key that is not 32 bytes raises BadSignature for a valid signature, too."""
    with pytest.raises(BadSignature, match="Failed to verify signature"):
        verify_ed25519(key, b"m", SESSION.sign(b"m"))


def test_K7_scalar_must_be_in_range():
    """A signature with the order added to its scalar is rejected."""
    signature = SESSION.sign(b"m")
    scalar = int.from_bytes(signature[32:], "little") + ED25519_ORDER
    with pytest.raises(BadSignature):
        verify_ed25519(SESSION.public_key, b"m", signature[:32] + scalar.to_bytes(32, "little"))


@pytest.mark.parametrize(
    "key",
    [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    ],
)
def test_K7_small_order_keys_are_refused(key):
    """A small-order key is rejected, because it would verify any message."""
    identity = bytes([1]) + bytes(31)
    with pytest.raises(BadSignature):
        verify_ed25519(bytes.fromhex(key), b"m", identity + bytes(32))


def test_C5_wallet_round_trip():
    """The address is recovered from a signature with `v` of 0, 1, 27 or 28."""
    text = "hello"
    signature = OWNER.sign_eip191(text)
    assert OWNER.address == recover_eip191(text.encode(), signature)
    assert OWNER.address == recover_eip191(
        text.encode(), signature[:64] + bytes([signature[64] - 27])
    )


@pytest.mark.parametrize("v", [2, 3, 26, 29, 30, 31, 54, 55, 229, 255])
def test_C5_Q25_other_recovery_bytes_are_refused(v):
    """Every other value of `v` is rejected."""
    with pytest.raises(BadSignature):
        recover_eip191(b"hello", OWNER.sign_eip191("hello")[:64] + bytes([v]))


def test_C5_high_s_is_refused():
    """A signature with a high `s` is rejected."""
    signature = OWNER.sign_eip191("hello")
    s = SECP256K1_ORDER - int.from_bytes(signature[32:64], "big")
    twin = signature[:32] + s.to_bytes(32, "big") + bytes([27 + 28 - signature[64]])
    with pytest.raises(BadSignature):
        recover_eip191(b"hello", twin)


@pytest.mark.parametrize(
    "signature",
    [b"", bytes(64), bytes(65), b"\xff" * 65, bytes(66), b"\xff" * 32 + b"\1" * 32 + b"\0"],
)
def test_C5_K9_what_is_no_signature(signature):
    """Another length, or numbers that fit no key, raise BadSignature."""
    with pytest.raises(BadSignature):
        recover_eip191(b"hello", signature)


def test_eip191_digest_counts_bytes():
    """The length in the prefix is the number of bytes, in decimal."""
    assert keccak256(b"\x19Ethereum Signed Message:\n2\xc3\xa9") == eip191_digest("é".encode())


def test_signers_check_their_secrets_and_hide_them():
    """A secret of another length raises ValueError; secrets are never printed."""
    for make in (Ed25519Signer, WalletSigner):
        with pytest.raises(ValueError, match="32 bytes"):
            make(b"short")
    assert "Ed25519Signer(did:key:z6Mk" in repr(SESSION)
    assert f"WalletSigner({OWNER.did})" == repr(OWNER)
    assert WalletSigner(bytes(31) + b"\1", chain_id=5).did.startswith("did:pkh:eip155:5:0x")
