"""Rules E6 to E9: CIDs and content keys."""

import fixed_vectors as fixed
import libipld
import msgspec
import pytest
from blake3 import blake3

from capabilities.capability_errors import InvalidIdentifier
from capabilities.cids import (
    Cid,
    Digest,
    cid_text,
    content_key_of_cacao,
    content_key_of_ucan,
    digest_of,
    parse_cid,
)

RAW = libipld.decode_multibase(fixed.SESSION_CID)[1]
DIGEST = RAW[4:]


def in_base(code: str, data: bytes = RAW) -> str:
    return libipld.encode_multibase(code, data)


def test_E6_E7_id_of_bytes():
    """A CID is the BLAKE3-256 of the bytes, printed as version 1, raw, base32."""
    assert blake3(b"hello").digest() == digest_of(b"hello")
    assert (
        digest_of(b"hello").hex()
        == "ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f"
    )
    assert cid_text(Digest(DIGEST)) == fixed.SESSION_CID


def test_E8_any_multibase():
    """All multibase spellings give the same id."""
    for base in "079fFvVtTbBcChkKzZmMuU":
        assert parse_cid(in_base(base)) == Cid(0x55, 0x1E, DIGEST), base


@pytest.mark.parametrize("codec", [0x55, 0x70, 0x71, 2**63 - 1])
def test_E8_W27_codec_is_kept_and_not_compared(codec):
    """A look-up ignores the codec; an echo keeps it."""
    text = Cid(codec, 0x1E, DIGEST).text()
    parsed = parse_cid(text)
    assert codec == parsed.codec
    assert parsed.digest32 == DIGEST
    assert text == parsed.text()
    assert msgspec.structs.replace(parsed, codec=0x55).text() == fixed.SESSION_CID


@pytest.mark.parametrize(
    "text",
    [
        "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG",
        "bafkqaaa",
        Cid(0x55, 0x12, DIGEST).text(),
        Cid(0x55, 0x1E, DIGEST[:20]).text(),
    ],
)
def test_E8_other_hashes_parse_and_never_match(text):
    """A CID with another hash or length has no digest to look up."""
    assert parse_cid(text).digest32 is None


def test_E8_numbers_of_two_bytes():
    """A number from 128 on takes two bytes, and only those."""
    tail = b"\x12\x20" + DIGEST
    for codec, written in ((127, b"\x7f"), (128, b"\x80\x01"), (16_384, b"\x80\x80\x01")):
        text = in_base("b", b"\x01" + written + tail)
        assert parse_cid(text).codec == codec
        assert Cid(codec, 0x12, DIGEST).text() == text
    with pytest.raises(InvalidIdentifier):
        parse_cid(in_base("b", b"\x01\xff\x00" + tail))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "b",
        "bafk",
        "not a cid",
        fixed.SESSION_CID + "=",
        fixed.SESSION_CID + " ",
        fixed.SESSION_CID[:-1],
        fixed.SESSION_CID[:-1] + "z",
        "/ipfs/" + fixed.SESSION_CID,
        "https://x/ipfs/" + fixed.SESSION_CID,
        in_base("b", RAW + b"\0"),
        in_base("b", RAW[:-1]),
        in_base("b", b"\x02" + RAW[1:]),
        in_base("b", b"\x01\xd5\x00" + RAW[2:]),
        "Qm" + "1" * 44,
        "b" + "a" * 600,
        "bé",
        "\ud800",
    ],
)
def test_E8_what_is_no_cid(text):
    """Trailing bytes, spare bits, paths and padding are rejected."""
    with pytest.raises(InvalidIdentifier):
        parse_cid(text)


def test_content_keys_separate_forms_and_signers():
    """One text has different keys for its two forms and for each signer."""
    digest = bytes(32)
    keys = {
        content_key_of_cacao("did:key:a", digest),
        content_key_of_ucan("did:key:a", digest),
        content_key_of_ucan("did:key:b", digest),
        content_key_of_ucan("did:key:a", digest + b"x"),
    }
    assert len(keys) == 4
    assert all(len(key) == 32 for key in keys)


def test_content_key_definition():
    """The content key is BLAKE3 of label, NUL, signer, NUL and the signed text."""
    assert blake3(b"sealspace/content/ucan/v1\0did:key:a\0x.y").digest() == content_key_of_ucan(
        "did:key:a", b"x.y"
    )
    assert blake3(
        b"sealspace/content/cacao/v1\0did:x\0" + bytes(32)
    ).digest() == content_key_of_cacao("did:x", bytes(32))
