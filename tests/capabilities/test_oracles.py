"""Tests of CIDs, CBOR, canonical JSON and JWS against independent implementations."""

from typing import Any

import capability_strategies as draw
import dag_cbor
import jwt
import libipld
import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from key_types import P256, SECP256K1, b64, did_jwk, name_of, twin_of
from multiformats import CID, multibase

from capabilities.cacao import Cacao, encode_cacao, header_text, parse_cacao
from capabilities.capability_errors import BadSignature, MalformedToken
from capabilities.cids import cid_text, digest_of, parse_cid
from capabilities.issuers import verify_jws
from capabilities.recap import PREFIX, Recap, encode_recap
from capabilities.signatures import SECP256K1_ORDER
from capabilities.strict_base64 import decode_url
from capabilities.verifiers import P256_ORDER

few = settings(max_examples=40, deadline=None)


@given(
    draw.cid.filter(lambda cid: cid.codec in (0x55, 0x70, 0x71))
    | draw.cid.map(lambda c: type(c)(0x71, c.hash_code, c.digest))
)
@few
def test_multiformats_reads_and_prints_our_cids(cid):
    """The multiformats library decodes our CIDs to the same codec, hash and digest."""
    decoded = CID.decode(cid.text())
    assert cid.codec == decoded.codec.code
    assert cid.hash_code == decoded.hashfun.code
    assert cid.digest == decoded.raw_digest
    assert cid.text() == str(decoded)
    assert cid == parse_cid(decoded.encode("base58btc"))


def test_multiformats_prints_the_id_of_bytes():
    """The multiformats library computes the same id for a token: its raw BLAKE3 CID."""
    assert str(CID("base32", 1, "raw", ("blake3", digest_of(b"hello")))) == cid_text(
        digest_of(b"hello")
    )


def test_multibase_agrees_on_headers():
    """The multibase library decodes the text form of a CACAO as base64url with padding."""
    assert multibase.encode(b"\xfb\xff", "base64urlpad")[1:] == header_text(b"\xfb\xff")


@given(draw.message)
@few
def test_dag_cbor_writes_our_cacaos(message):
    """The dag-cbor library decodes our CACAOs and encodes them to the same bytes."""
    data = encode_cacao(Cacao(message, bytes(65)))
    decoded: Any = dag_cbor.decode(data)
    assert data == dag_cbor.encode(decoded)
    assert message.iss == decoded["p"]["iss"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d.replace(b"gversion\x01", b"gversion\x18\x01"),
        lambda d: d + b"\0",
        lambda d: b"\xbf" + d[1:] + b"\xff",
    ],
)
def test_dag_cbor_refuses_what_we_refuse(damage):
    """The dag-cbor library and ours both reject overlong integers, trailing bytes and indefinite
    maps."""
    message = dag_cbor.decode(encode_cacao(Cacao(_message(), bytes(65))))
    data = damage(dag_cbor.encode(message))
    with pytest.raises(dag_cbor.decoding.err.CBORDecodingError):
        dag_cbor.decode(data)
    with pytest.raises(MalformedToken):
        parse_cacao(data)


def _message():
    from capability_cases import message

    return message()


@given(draw.recap)
@few
def test_rfc8785_writes_our_recaps(drawn):
    """The rfc8785 library writes a ReCap's JSON with the same bytes."""
    recap = Recap(drawn.att, tuple(cid.text() for cid in drawn.prf))
    body = libipld.decode_multibase("u" + encode_recap(recap).removeprefix(PREFIX))[1]
    att = {
        r: {a: [dict(c) for c in caveats] for a, caveats in held.items()}
        for r, held in recap.att.items()
    }
    assert rfc8785.dumps({"att": att, "prf": list(recap.prf)}) == body


def test_rfc8785_orders_abilities_outside_the_basic_plane():
    """The rfc8785 library and ours sort members by UTF-16 code units, not by code points."""
    att = {"x:a": {"a/\ufb01": ({},), "a/\U00010400": ({},)}}
    body = libipld.decode_multibase("u" + encode_recap(Recap(att, ())).removeprefix(PREFIX))[1]
    assert rfc8785.dumps({"att": {"x:a": {name: [{}] for name in att["x:a"]}}, "prf": []}) == body


@pytest.mark.parametrize(
    ("signer", "private", "order"),
    [
        (P256, P256.private, P256_ORDER),
        (
            SECP256K1,
            ec.derive_private_key(int.from_bytes(SECP256K1.secret, "big"), ec.SECP256K1()),
            SECP256K1_ORDER,
        ),
    ],
    ids=["ES256", "ES256K"],
)
def test_pyjwt_signs_what_verifies_here(signer, private, order):
    """Of an ECDSA signature by PyJWT and its twin with n - s, exactly one verifies here."""
    passed = 0
    for nonce in range(8):
        token = jwt.encode({"n": nonce}, private, algorithm=signer.algorithm)
        for spelling in (token, twin_of(token, order)):
            assert {"n": nonce} == jwt.decode(
                spelling, private.public_key(), algorithms=[signer.algorithm]
            )
            signed, _, text = spelling.rpartition(".")
            signature = decode_url(text)
            assert signature is not None
            for issuer in (signer.issuer, did_jwk(signer.jwk) + "#0"):
                try:
                    verify_jws(issuer, signer.algorithm, signed.encode(), signature)
                except BadSignature:
                    continue
                passed += 1
    assert 16 == passed


@pytest.mark.parametrize("signer", [P256, SECP256K1], ids=name_of)
def test_pyjwt_verifies_what_the_test_keys_sign(signer):
    """PyJWT verifies the signatures of the test keys."""
    header = b'{"alg":"%s"}' % signer.algorithm.encode()
    signing_input = f"{b64(header)}.{b64(b'{}')}"
    key = jwt.PyJWK.from_dict(signer.jwk | {"alg": signer.algorithm})
    assert {} == jwt.decode(f"{signing_input}.{b64(signer.sign(signing_input.encode()))}", key)
