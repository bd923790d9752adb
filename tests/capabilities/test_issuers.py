"""Rules K1 to K6, K8, K9, Q33 and Q34: verification keys of issuers."""

import socket

import libipld
import pytest
from capability_cases import SESSION
from hypothesis import given, settings
from hypothesis import strategies as st
from key_types import (
    ED25519,
    ISSUERS,
    P256,
    SECP256K1,
    SOLANA,
    WALLET,
    Ed25519Key,
    JwkKey,
    P256Key,
    WalletKey,
    b64,
    did_jwk,
    did_key,
    name_of,
)

from capabilities.capability_errors import BadSignature
from capabilities.issuers import MAX_DID_JWK_CHARS, verification_key, verify_jws

ADDRESS = WALLET.address.hex()
ACCOUNT = SOLANA.did.rpartition(":")[2]


def refused(issuer, jwk=None):
    with pytest.raises(BadSignature, match=r"^Failed to verify signature$"):
        verification_key(issuer, jwk)


@pytest.mark.parametrize("signer", ISSUERS, ids=name_of)
def test_K3_K4_K6_each_kind_of_issuer_verifies(signer):
    """A token of each kind of issuer verifies, but not with another text or algorithm."""
    signature = signer.sign(b"a.b")
    verify_jws(signer.issuer, signer.algorithm, b"a.b", signature, jwk=signer.jwk)
    for algorithm, message in (
        (signer.algorithm, b"a.c"),
        ("none", b"a.b"),
        ("ES384", b"a.b"),
        ("HS256", b"a.b"),
    ):
        with pytest.raises(BadSignature):
            verify_jws(signer.issuer, algorithm, message, signature, jwk=signer.jwk)


def test_Q33_algorithm_must_fit_the_key():
    """A valid Ed25519 signature fails under another algorithm name."""
    signature = SESSION.sign(b"a.b")
    verify_jws(SESSION.did_url, "EdDSA", b"a.b", signature)
    for algorithm in ("none", "HS256", "RS256", "ES256", "ES256K", "EdBlake2b"):
        with pytest.raises(BadSignature):
            verify_jws(SESSION.did_url, algorithm, b"a.b", signature)


# --- did:key


@pytest.mark.parametrize("signer", [ED25519, P256, SECP256K1], ids=name_of)
def test_K1_K2_a_did_key_names_its_own_key(signer):
    """A did:key verifies bare, or with its own text as fragment."""
    assert signer.public_key == verification_key(signer.did).verifier.public_key
    assert signer.public_key == verification_key(signer.issuer).verifier.public_key
    for tail in (
        "#",
        "#key-1",
        "#0",
        "?a=b",
        "/a",
        "#" + signer.did[8:] + "#",
        "#blockchainAccountId",
    ):
        refused(signer.did + tail)
    refused(f"{signer.did}#{SESSION.did[8:]}")


@pytest.mark.parametrize("signer", [ED25519, P256, SECP256K1], ids=name_of)
def test_K6_other_multibases_spell_the_same_key(signer):
    """A did:key in another multibase verifies too, with its own text as fragment."""
    content = libipld.decode_multibase(signer.did[8:])[1]
    for base in "uUfFbB":
        text = libipld.encode_multibase(base, content)
        assert signer.public_key == verification_key(f"did:key:{text}#{text}").verifier.public_key


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xed\x01",
        b"\xed\x01" + ED25519.public_key[:-1],
        b"\xed\x01" + ED25519.public_key + b"\0",
        b"\xec\x01" + ED25519.public_key,  # X25519
        b"\xed\x81\x00" + ED25519.public_key,  # a longer varint
        b"\x80\x24" + P256.point,  # not compressed
        b"\x80\x24" + P256.public_key[1:],
        b"\x80\x24" + SECP256K1.public_key[:1] + b"\xff" * 32,
        b"\x80\x24" + b"\x02" + bytes(31) + b"\x01",  # no point has this x
        b"\xe7\x01" + SECP256K1.point,
        b"\xe7\x01" + b"\x02" + bytes(31) + b"\x05",  # no point has this x
        b"\xe7\x01" + b"\x04" + SECP256K1.public_key[1:],
        b"\x12\x00" + P256.public_key,  # the number itself, no varint
        b"\x81\x24" + b"\x02" + bytes(48),  # P-384
        b"\x82\x24" + b"\x02" + bytes(66),  # P-521
        b"\x85\x24" + bytes(270),  # RSA
        b"\xeb\x51" + b"{}",  # a JWK
    ],
    ids=lambda content: content[:6].hex() or "empty",
)
def test_K6_K9_other_contents_of_a_did_key(content):
    """A did:key with another codec or length, or a point off the curve, is rejected."""
    did = "did:key:" + libipld.encode_multibase("z", content)
    refused(did)
    refused(f"{did}#{did[8:]}")


def test_K6_P384_signatures_fail():
    """A did:key on P-384 never verifies."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
    from cryptography.hazmat.primitives.hashes import SHA384
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    private = ec.derive_private_key(7, ec.SECP384R1())
    public = private.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    r, s = decode_dss_signature(private.sign(b"a.b", ec.ECDSA(SHA384())))
    with pytest.raises(BadSignature):
        verify_jws(
            did_key(b"\x81\x24", public),
            "ES384",
            b"a.b",
            r.to_bytes(48, "big") + s.to_bytes(48, "big"),
        )


@pytest.mark.parametrize("signer", [ED25519, P256, SECP256K1, JwkKey(P256)], ids=name_of)
def test_K8_key_in_the_header_does_not_speak_for_another(signer):
    """A header key is ignored if the DID contains the key."""
    signature = signer.sign(b"a.b")
    for jwk in (None, Ed25519Key(bytes(32)).jwk, P256Key(8).jwk, {}, {"kty": "EC", "alg": "ES384"}):
        verify_jws(signer.issuer, signer.algorithm, b"a.b", signature, jwk=jwk)
    other = P256Key(8)
    with pytest.raises(BadSignature):
        verify_jws(signer.issuer, "ES256", b"a.b", other.sign(b"a.b"), jwk=other.jwk)


# --- did:pkh


@pytest.mark.parametrize("signer", [WALLET, SOLANA], ids=name_of)
def test_K3_an_account_needs_its_own_key(signer):
    """An account needs a header key whose hash is the account."""
    verification_key(signer.did, signer.jwk)
    verification_key(signer.did + "#blockchainAccountId", signer.jwk)
    refused(signer.did)
    for jwk in ({}, ED25519.jwk | {"x": b64(bytes(32))}, P256.jwk, SECP256K1.jwk, P256Key(9).jwk):
        refused(signer.did, jwk)
    for tail in (
        "#",
        "#x",
        "#0",
        "#controller",
        "#blockchainAccountID",
        "#blockchainAccountId#",
        "?a",
        "/a",
        ":a",
    ):
        refused(signer.did + tail, signer.jwk)


@pytest.mark.parametrize(
    "did",
    [
        f"did:pkh:eip155:1:0x{ADDRESS}",
        f"did:pkh:eip155:01:0x{ADDRESS}",
        f"did:pkh:eip155:+1:0x{ADDRESS}",
        f"did:pkh:eip155:5:0x{ADDRESS}",
        f"did:pkh:eip155:18446744073709551615:0x{ADDRESS}",
        WALLET.did,
        WALLET.did.replace(":1:", ":007:"),
    ],
)
def test_K3_P2_spellings_of_an_account(did):
    """An address may be in lower case or checksummed, and on any chain."""
    assert WALLET.public_key == verification_key(did, WALLET.jwk).verifier.public_key


@pytest.mark.parametrize(
    "did",
    [
        f"did:pkh:eip155:1:0x{ADDRESS.upper()}",
        f"did:pkh:eip155:1:0X{ADDRESS}",
        f"did:pkh:eip155:1:{ADDRESS}",
        f"did:pkh:eip155:1:0x{ADDRESS[:-1]}",
        f"did:pkh:eip155:1:0x{ADDRESS}0",
        f"did:pkh:eip155:1:0x{ADDRESS.replace('f39fd6', 'F39fd6')}",
        f"did:pkh:eip155:0:0x{ADDRESS}",
        f"did:pkh:eip155:-1:0x{ADDRESS}",
        f"did:pkh:eip155:one:0x{ADDRESS}",
        f"did:pkh:eip155:18446744073709551616:0x{ADDRESS}",
        f"did:pkh:eip155::0x{ADDRESS}",
        f"did:pkh:eip155:0x{ADDRESS}",
        f"did:pkh:eip155:1:1:0x{ADDRESS}",
        f"did:pkh:eip1559:1:0x{ADDRESS}",
        f"did:pkh:EIP155:1:0x{ADDRESS}",
        f"did:pkh:eth:0x{ADDRESS}",
        f"did:pkh:poly:0x{ADDRESS}",
        f"did:ethr:0x{ADDRESS}",
        f"did:pkh:solana:n:0x{ADDRESS}",
        "did:pkh:",
        "did:pkh",
    ],
)
def test_K3_P2_what_is_no_account_of_the_key(did):
    """A wrong checksum, a chain that P2 rejects and other kinds of accounts fail."""
    refused(did, WALLET.jwk)


@pytest.mark.parametrize(
    "did",
    [
        f"did:pkh:solana::{ACCOUNT}",
        f"did:pkh:solana:{ACCOUNT}",
        f"did:pkh:solana:{'n' * 33}:{ACCOUNT}",
        f"did:pkh:solana:a%2Db:{ACCOUNT}",
        f"did:pkh:solana:n:1{ACCOUNT}",
        f"did:pkh:solana:n:{ACCOUNT[:-1]}",
        f"did:pkh:solana:n:{ACCOUNT.swapcase()}",
        f"did:pkh:solana:n:n:{ACCOUNT}",
        f"did:pkh:sol:{ACCOUNT}",
        f"did:pkh:eip155:1:{ACCOUNT}",
        f"did:pkh:tezos:n:{ACCOUNT}",
    ],
)
def test_K3_what_is_no_solana_account_of_the_key(did):
    """A Solana account has to be the base58 of the key, on a named network."""
    refused(did, SOLANA.jwk)


def test_K3_an_account_on_another_curve():
    """A key on P-256 never verifies for an account."""
    for did in (WALLET.did, SOLANA.did, f"did:pkh:eip155:1:0x{bytes(20).hex()}"):
        refused(did, P256.jwk)


@pytest.mark.parametrize("algorithm", ["ES256K", "ES256K-R", "ESKeccakKR"])
def test_K8_algorithm_in_the_key_must_agree(algorithm):
    """An `alg` in the key has to equal the header's; without one the key type decides."""
    signer = WalletKey(WALLET.secret, algorithm)
    signature = signer.sign(b"a.b")
    for reported in ({}, {"alg": None}, {"alg": algorithm}):
        verify_jws(signer.did, algorithm, b"a.b", signature, jwk=signer.jwk | reported)
    for other in (
        "ES256",
        "EdDSA",
        "none",
        "",
        "es256k",
        "ES256K" if algorithm != "ES256K" else "ES256K-R",
        1,
        [],
        {},
    ):
        with pytest.raises(BadSignature):
            verify_jws(signer.did, algorithm, b"a.b", signature, jwk=signer.jwk | {"alg": other})


# --- did:jwk


def test_K4_a_did_jwk_is_named_with_its_fragment():
    """A did:jwk issuer needs the fragment `#0`."""
    did = did_jwk(ED25519.jwk)
    assert ED25519.public_key == verification_key(did + "#0").verifier.public_key
    for tail in ("", "#", "#1", "#00", "#0#0", "?a#0", "/#0", "=#0", ".#0"):
        refused(did + tail)


@pytest.mark.parametrize(
    "jwk",
    [
        {},
        [],
        None,
        "x",
        [ED25519.jwk],
        ED25519.jwk | {"d": b64(bytes(32))},
        ED25519.jwk | {"use": "enc"},
        ED25519.jwk | {"crv": "X25519"},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
        {"kty": "oct", "k": b64(bytes(32))},
    ],
    ids=lambda jwk: str(jwk)[:40],
)
def test_K4_other_contents_of_a_did_jwk(jwk):
    """A did:jwk has to contain one public signing key of a supported type."""
    refused(did_jwk(jwk) + "#0")


def test_K4_length_of_a_did_jwk():
    """A did:jwk longer than the limit is rejected."""
    room = next(
        n
        for n in range(2000)
        if len(did_jwk(ED25519.jwk | {"kid": "k" * n})) >= MAX_DID_JWK_CHARS - 1
    )
    verification_key(did_jwk(ED25519.jwk | {"kid": "k" * (room - 1)}) + "#0")
    longest = did_jwk(ED25519.jwk | {"kid": "k" * (room + 1)})
    assert len(longest) == MAX_DID_JWK_CHARS == 1024
    verification_key(longest + "#0")
    for more in (3, 100, 100_000):
        refused(did_jwk(ED25519.jwk | {"kid": "k" * (room + more)}) + "#0")


@pytest.mark.parametrize(
    "text",
    [
        b'{"kty":"OKP","crv":"Ed25519","x":"A","x":"%s"}' % b64(ED25519.public_key).encode(),
        b"\xef\xbb\xbf{}",
        b'{"kty":"\xff"}',
        b'{"x":' + b"[" * 200 + b"]" * 200 + b"}",
        b"{",
        b"",
    ],
)
def test_K4_text_of_a_did_jwk(text):
    """The JSON of a did:jwk is strict: UTF-8, shallow, without repeated members."""
    refused(f"did:jwk:{b64(text)}#0")


def test_K8_algorithm_in_a_did_jwk_must_agree():
    """An `alg` in the DID's key has to equal the header's."""
    signature = P256.sign(b"a.b")
    verify_jws(did_jwk(P256.jwk | {"alg": "ES256"}) + "#0", "ES256", b"a.b", signature)
    with pytest.raises(BadSignature):
        verify_jws(did_jwk(P256.jwk | {"alg": "ES384"}) + "#0", "ES256", b"a.b", signature)


# --- everything else


@pytest.mark.parametrize(
    "issuer",
    [
        "did:web:a.example",
        "did:web:a.example#k",
        "did:web:localhost%3A9#k",
        "did:ethr:0x" + "0" * 40 + "#controller",
        "did:ion:abc#k",
        "did:tz:tz1abc#blockchainAccountId",
        "did:plc:abc#atproto",
        "did:nosuch:abc#k",
        "did:peer:0z6Mk#z6Mk",
        "did:key",
        "did:key:",
        "did:key:#",
        "did:key:z",
        "did:key:z6Mk",
        "did:KEY:" + ED25519.did[8:],
        "DID:key:" + ED25519.did[8:],
        "did:jwk:#0",
        "did:jwk#0",
        "",
        "#",
        "x",
        "\ud800",
        "did:key:z\ud800",
        "did:jwk:\ud800#0",
    ],
)
def test_K4_K5_Q34_K9_other_issuers(issuer, monkeypatch):
    """Other DID methods are not resolved; nothing is fetched, and the error is the same."""

    def connect(*_):
        raise AssertionError("something is fetched")

    monkeypatch.setattr(socket, "getaddrinfo", connect)
    monkeypatch.setattr(socket.socket, "connect", connect)
    for jwk in (None, ED25519.jwk, WALLET.jwk):
        refused(issuer, jwk)


JSON_LEAF = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=50)
    | st.lists(st.text(max_size=3), max_size=2)
)
JWKS = st.dictionaries(
    st.sampled_from(["kty", "crv", "x", "y", "alg", "use", "key_ops", "d", "k"]),
    JSON_LEAF
    | st.sampled_from(
        ["OKP", "EC", "Ed25519", "P-256", "secp256k1", "sig", b64(bytes(32)), P256.jwk["x"]]
    ),
)
DIDS = st.sampled_from(
    ["did:key:", "did:pkh:eip155:1:", "did:pkh:solana:n:", "did:jwk:", "did:web:", ""]
)


@given(
    issuer=st.tuples(DIDS, st.text() | st.text("zu0x1aF:#", max_size=60)).map("".join)
    | st.sampled_from([signer.issuer for signer in ISSUERS]),
    jwk=st.none() | JWKS,
    algorithm=st.sampled_from(["EdDSA", "ES256", "ES256K", "ES256K-R", "ESKeccakKR", "none"])
    | st.text(max_size=5),
    signature=st.binary(max_size=66),
)
@settings(max_examples=400, deadline=None)
def test_K9_any_issuer(issuer, jwk, algorithm, signature):
    """Any text as issuer, with any header key, is rejected with one error."""
    with pytest.raises(BadSignature):
        verify_jws(issuer, algorithm, b"a.b", signature, jwk=jwk)


@given(jwk=JWKS | JSON_LEAF)
@settings(max_examples=300, deadline=None)
def test_K9_any_did_jwk(jwk):
    """Any JSON in a did:jwk is a key or is rejected with one error."""
    with pytest.raises(BadSignature):
        verify_jws(did_jwk(jwk) + "#0", "EdDSA", b"a.b", bytes(64))
