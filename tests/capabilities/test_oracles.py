"""Independent implementations agree: CIDs, CBOR, canonical JSON."""

import capability_strategies as draw
import dag_cbor
import libipld
import pytest
import rfc8785
from hypothesis import given, settings
from multiformats import CID, multibase

from capabilities.cacao import Cacao, encode_cacao, header_text, parse_cacao
from capabilities.cids import cid_text, digest_of, parse_cid
from capabilities.errors import MalformedToken
from capabilities.recap import PREFIX, Recap, encode_recap

few = settings(max_examples=40, deadline=None)


@given(
    draw.cid.filter(lambda cid: cid.codec in (0x55, 0x70, 0x71))
    | draw.cid.map(lambda c: type(c)(0x71, c.hash_code, c.digest))
)
@few
def test_multiformats_reads_and_prints_our_cids(cid):
    """A CID decodes to the same codec, hash and digest."""
    decoded = CID.decode(cid.text())
    assert (cid.codec, cid.hash_code, cid.digest) == (decoded.codec.code, decoded.hashfun.code, decoded.raw_digest)
    assert cid.text() == str(decoded)
    assert cid == parse_cid(decoded.encode("base58btc"))


def test_multiformats_prints_the_id_of_bytes():
    """The id of an event is the raw BLAKE3 CID."""
    assert str(CID("base32", 1, "raw", ("blake3", digest_of(b"hello")))) == cid_text(digest_of(b"hello"))


def test_multibase_agrees_on_headers():
    """The text form is base64url with padding."""
    assert multibase.encode(b"\xfb\xff", "base64urlpad")[1:] == header_text(b"\xfb\xff")


@given(draw.message)
@few
def test_dag_cbor_writes_our_cacaos(message):
    """The strict implementation decodes our bytes and encodes the same."""
    data = encode_cacao(Cacao(message, bytes(65)))
    decoded = dag_cbor.decode(data)
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
    """Longer integers, trailing bytes and indefinite maps are no canonical DAG-CBOR for either."""
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
    """The ReCap's JSON is canonical."""
    recap = Recap(drawn.att, tuple(cid.text() for cid in drawn.prf))
    body = libipld.decode_multibase("u" + encode_recap(recap).removeprefix(PREFIX))[1]
    att = {r: {a: [dict(c) for c in caveats] for a, caveats in held.items()} for r, held in recap.att.items()}
    assert rfc8785.dumps({"att": att, "prf": list(recap.prf)}) == body


def test_rfc8785_orders_abilities_outside_the_basic_plane():
    """Members are ordered by UTF-16, not by code point."""
    att = {"x:a": {"a/\ufb01": ({},), "a/\U00010400": ({},)}}
    body = libipld.decode_multibase("u" + encode_recap(Recap(att)).removeprefix(PREFIX))[1]
    assert rfc8785.dumps({"att": {"x:a": {name: [{}] for name in att["x:a"]}}, "prf": []}) == body
