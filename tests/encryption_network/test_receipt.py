"""Tests of receipts: canonical form, signature and parsing."""

import base64
import json
from contextlib import suppress
from typing import Any

import pytest
from fuzz_strategies import changed_objects, damaged_bytes, json_values
from hypothesis import given
from hypothesis import strategies as st
from tests_support import altered, fuzzed

from capabilities.signatures import Ed25519Signer
from encryption_network.canonical_json import canonical_bytes
from encryption_network.network_errors import ReceiptError
from encryption_network.receipt import (
    MAX_CHAIN,
    MAX_RECEIPT_BYTES,
    Digest,
    QuoteVerdict,
    Receipt,
    encode_receipt,
    parse_receipt,
    receipt_json,
    signed_text,
    verify_receipt,
)

NODE = Ed25519Signer(b"\x71" * 32)
JUDGED = QuoteVerdict(
    record=Digest(b"\1" * 32),
    quote=Digest(b"\2" * 32),
    event_log=None,
    collateral=Digest(b"\3" * 32),
    nonce=Digest(b"\4" * 32),
)
BARE = Receipt(
    node=NODE.did,
    network="urn:tinycloud:encryption:did:key:zOwner:default",
    owner="did:key:zOwner",
    invoker="did:key:zBackend",
    invocation="bafkr4i-token",
    request_hash="ab" * 32,
    receiver_public_key_hash="cd" * 32,
    chain=("bafkr4i-one", "bafkr4i-two"),
    policies=(Digest(b"\5" * 32),),
    ground="attested",
    mode="delegates",
    at_micros=1_795_000_000_123_456,
    evidence=JUDGED,
)
TEXT = signed_text(BARE, NODE)
RECEIPT = parse_receipt(TEXT)
MEMBERS: dict[str, Any] = json.loads(TEXT)


def test_a_receipt_is_read_as_it_was_written() -> None:
    """A receipt is parsed back unchanged and verifies (RC7, RC9)."""
    for stated in (BARE, altered(BARE, evidence=None, ground="owner", policies=(), chain=())):
        text = signed_text(stated, NODE)
        read = verify_receipt(parse_receipt(text))
        assert read == parse_receipt(text + b"\n") == altered(stated, signature=read.signature)
        assert encode_receipt(read) == text
        assert read.at == 1_795_000_000.123456


def test_MT5_a_machine_token_is_named_for_its_own_ground() -> None:
    """A receipt names a machine token exactly if its ground is `machine`, and by a short name."""
    plain = altered(BARE, evidence=None, policies=())
    named = signed_text(altered(plain, ground="machine", machine="deploy"), NODE)
    assert verify_receipt(parse_receipt(named)).machine == "deploy"
    for changes in (
        {"ground": "machine"},
        {"ground": "owner", "machine": "deploy"},
        {"ground": "off", "machine": "deploy"},
        {"ground": "machine", "machine": ""},
        {"ground": "machine", "machine": "a\n"},
        {"ground": "machine", "machine": None},
    ):
        with pytest.raises(ReceiptError):
            parse_receipt(canonical_bytes({**MEMBERS, "evidence": None, **changes}))


def test_every_flipped_bit_is_found() -> None:
    """A receipt with a changed byte is malformed or fails verification (RC9)."""
    for position in range(len(TEXT)):
        for bit in (1, 32):
            damaged = TEXT[:position] + bytes([TEXT[position] ^ bit]) + TEXT[position + 1 :]
            with pytest.raises(ReceiptError):
                verify_receipt(parse_receipt(damaged))


@given(
    st.lists(st.binary(min_size=32, max_size=32).map(Digest), max_size=3),
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
        min_size=5,
        max_size=7,
    ),
    st.booleans(),
    st.integers(0, 2**53 - 1),
)
def test_signing_and_writing_in_one_go(
    policies: list[Digest], texts: list[str], judged: bool, at: int
) -> None:
    """A signed receipt is canonical JSON, whatever its members contain (RC9)."""
    owner, network, invoker, invocation, *chain = texts
    bare = altered(
        RECEIPT,
        policies=tuple(policies),
        owner=owner,
        network=network,
        invoker=invoker,
        invocation=invocation,
        chain=tuple(chain),
        at_micros=at,
        evidence=RECEIPT.evidence if judged else None,
    )
    text = signed_text(bare, NODE)
    read = verify_receipt(parse_receipt(text))
    assert text == encode_receipt(read) == canonical_bytes(json.loads(text))
    assert read == altered(bare, signature=read.signature)
    assert read.owner == owner


def test_the_node_named_signs() -> None:
    """A key signs receipts of its own node only; others fail verification (RC9)."""
    other = Ed25519Signer(b"\x72" * 32)
    with pytest.raises(RuntimeError):
        signed_text(RECEIPT, other)
    for did in (other.did, "did:web:example.org"):
        with pytest.raises(ReceiptError):
            verify_receipt(parse_receipt(encode_receipt(altered(RECEIPT, node=did))))


@pytest.mark.parametrize(
    "changed",
    [
        {"invoker": "i" * 9000},
        {"chain": ("a",) * (MAX_CHAIN + 1)},
        {"policies": (bytes(32),) * 600},
    ],
)
def test_what_no_reader_takes_is_not_signed(changed: dict[str, Any]) -> None:
    """A receipt that readers would reject for its size is not signed (RC7)."""
    with pytest.raises(ReceiptError):
        signed_text(altered(RECEIPT, **changed), NODE)


@pytest.mark.parametrize("name", MEMBERS)
def test_every_member_is_needed(name: str) -> None:
    """A receipt with a missing or unknown member is rejected (RC7)."""
    without = {key: value for key, value in MEMBERS.items() if key != name}
    for members in (
        without,
        {**without, name + "x": MEMBERS[name]},
        {**MEMBERS, "more": 1},
        {**without, name: 1.5},
    ):
        with pytest.raises(ReceiptError):
            parse_receipt(canonical_bytes(members))


@pytest.mark.parametrize(
    "changed",
    [
        {"chain": ["a"] * (MAX_CHAIN + 1)},
        {"chain": [""]},
        {"policies": ["ab" * 31]},
        {"policies": ["AB" * 32]},
        {"policies": ["zz" * 32]},
        {"ground": "somehow"},
        {"mode": "any"},
        {"verdict": "refused"},
        {"atMicros": -1},
        {"atMicros": True},
        {"evidence": {}},
        {"evidence": {**MEMBERS["evidence"], "record": None}},
        {"signature": base64.b64encode(bytes(63)).decode()},
        {"owner": "o" * 9000},
    ],
)
def test_members_have_their_shapes(changed: dict[str, Any]) -> None:
    """A member of another type, size or value rejects the receipt (RC7)."""
    with pytest.raises(ReceiptError):
        parse_receipt(canonical_bytes({**MEMBERS, **changed}))


def test_other_spellings_are_no_receipts() -> None:
    """A receipt that is not canonical JSON is rejected (RC7)."""
    spaced = json.dumps(MEMBERS).encode()
    reordered = json.dumps(dict(reversed(list(MEMBERS.items()))), separators=(",", ":")).encode()
    repeated = TEXT[:-1] + b',"type":"sealspace.receipt/v1"}'
    for text in (
        spaced,
        reordered,
        repeated,
        TEXT + b"\n\n",
        b" " + TEXT,
        b"",
        b"x" * (MAX_RECEIPT_BYTES + 2),
    ):
        with pytest.raises(ReceiptError):
            parse_receipt(text)


def test_a_receipt_is_bounded() -> None:
    """A receipt of 64 KiB is parsed, and one of a byte more is rejected (RC7)."""
    assert MAX_RECEIPT_BYTES == 65_536
    longest = ("c" * 8192,) * 7
    missing = MAX_RECEIPT_BYTES - len(signed_text(altered(BARE, chain=(*longest, "")), NODE))
    fitting = signed_text(altered(BARE, chain=(*longest, "c" * missing)), NODE)
    assert len(fitting) == MAX_RECEIPT_BYTES
    receipt = verify_receipt(parse_receipt(fitting))
    assert encode_receipt(receipt) == fitting
    too_long = encode_receipt(altered(receipt, chain=(*longest, "c" * (missing + 1))))
    with pytest.raises(ReceiptError, match="longer than 65536 bytes"):
        parse_receipt(too_long)


@fuzzed()
@given(
    st.binary(max_size=200)
    | damaged_bytes(TEXT)
    | changed_objects(MEMBERS, json_values("attested", "ab" * 32, members=tuple(MEMBERS))).map(
        lambda value: json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False
        ).encode("utf-8", "surrogatepass")
    )
)
def test_fuzz_receipts(data: bytes) -> None:
    """Any bytes are a receipt in canonical form, or raise ReceiptError."""
    with suppress(ReceiptError):
        receipt = parse_receipt(data)
        assert data.removesuffix(b"\n") == encode_receipt(receipt)
        assert receipt_json(receipt).keys() == MEMBERS.keys()
