"""Fuzz targets of parsers whose Hypothesis tests take more than bytes, texts and JSON."""

import json
from contextlib import suppress
from typing import Any

import fixed_vectors as fixed
import libipld
from capability_cases import claims, raw_ucan

from capabilities.cacao import header_bytes, header_text, parse_cacao, restore_cacao
from capabilities.capability_errors import CapabilityError
from capabilities.recap import PREFIX, parse_recap
from capabilities.strict_base64 import encode_url
from capabilities.strict_json import parse_json
from capabilities.tokens import restore_delegation
from encryption_network.network_errors import EncryptionError
from encryption_network.networks import (
    decode_network,
    descriptor_json,
    encode_network,
    parse_descriptor,
    well_known_json,
)
from encryption_network.policy import decode_evidence
from encryption_network.release_record import decode_release_record
from encryption_network.signed_descriptor import sign_descriptor, verify_descriptor
from node.operations.sql.sql_request import SqlRequest, parse_request
from node.operations.values.sync_cursor import parse_cursor
from node.refusal import Refusal
from sealspace.documents.recovery_shares import Share, parse_share
from sealspace.documents.recovery_sheets import RecoverySheet, parse_sheet
from sealspace.errors import InvalidShare
from spaces.space_errors import RecordDamaged, SpaceError
from spaces.sql.frames import FromChild, MessageInvalid, MessageReader, ToChild, framed
from spaces.sql.requests import Batch, Statement
from spaces.store.contract import Record
from tests.capabilities.test_fuzz import TEXT_PARSERS, into_everything
from tests.encryption_network.test_fuzz import KEYRING, RECORD, RELEASE_RECORD
from tests.sealspace.test_fuzz_recovery import LINE, TEXT
from tests.spaces.test_damaged_rows import READERS, STAMP

NONCE = encode_url(bytes(16))
SIGNATURE = sign_descriptor(RECORD, NONCE, KEYRING.node_signer)
DESCRIPTOR = parse_descriptor(descriptor_json(RECORD, KEYRING.node_did))


def identifiers(text: str) -> None:
    """Any text is an identifier, a date or a token, or is refused."""
    for parse in TEXT_PARSERS:
        with suppress(CapabilityError):
            parse(text)


def token_headers(text: str) -> None:
    """Any header is a verified token, or is refused."""
    into_everything(text)
    with suppress(CapabilityError):
        restore_delegation(text)


def cacaos(data: bytes) -> None:
    """Any CBOR is a verified sign-in, or is refused."""
    for parse in (parse_cacao, restore_cacao):
        with suppress(CapabilityError):
            parse(data)
    into_everything(header_text(data))


def ucan_claims(data: bytes) -> None:
    """Any bytes that a key has signed as claims are a token, or are refused."""
    into_everything(raw_ucan(data))


def ucan_headers(data: bytes) -> None:
    """Any bytes that a key has signed as the header of a UCAN are a token, or are refused."""
    into_everything(raw_ucan(claims(), header=data))


def recaps(data: bytes) -> None:
    """Any bytes are the capabilities of a sign-in, or are refused."""
    with suppress(CapabilityError):
        parse_recap(PREFIX + libipld.encode_multibase("u", data)[1:])


def strict_json(data: bytes) -> None:
    """Any bytes are a JSON object within the limits, or are refused."""
    with suppress(CapabilityError):
        assert isinstance(parse_json(data, max_bytes=1 << 20), dict)


def network_rows(data: bytes) -> None:
    """Any bytes are a row about a network, or are refused."""
    for decode in (decode_network, decode_release_record, decode_evidence):
        with suppress(EncryptionError):
            decode(data)


def descriptors(value: Any) -> None:
    """Any JSON is a descriptor or is refused; only the signed one is accepted (EN29)."""
    with suppress(EncryptionError):
        read = parse_descriptor(value)
        verify_descriptor(read, SIGNATURE, node_did=KEYRING.node_did, nonce=NONCE)
        assert read == DESCRIPTOR._replace(node_did=read.node_did)


def sql_bodies(data: bytes) -> None:
    """Any bytes are an SQL request, or are refused (SQ4)."""
    with suppress(CapabilityError, SpaceError):
        assert isinstance(parse_request(data), SqlRequest)


def sync_cursors(text: str) -> None:
    """Any text is the cursor of a feed, or is refused (CF7)."""
    with suppress(Refusal):
        assert parse_cursor(text)


def store_rows(data: bytes) -> None:
    """Any bytes are a row of the store, or are refused."""
    for read in READERS.values():
        with suppress(RecordDamaged):
            read(Record(data, STAMP))


def sql_child_messages(data: bytes) -> None:
    """Any bytes of an SQL child are messages, or are refused (SQ29)."""
    for kind in (FromChild, ToChild):
        for sent in (data, len(data).to_bytes(4, "big") + data):
            with suppress(MessageInvalid):
                MessageReader(kind, 1000).feed(sent)


def recovery_shares(text: str) -> None:
    """Any text is a share, or is refused."""
    with suppress(InvalidShare):
        assert isinstance(parse_share(text), Share)


def recovery_sheets(data: bytes) -> None:
    """Any bytes are a recovery sheet, or are refused."""
    with suppress(InvalidShare):
        assert isinstance(parse_sheet(data), RecoverySheet)


SEEDS: dict[str, tuple[bytes, ...]] = {
    "identifiers": (b"did:key:zA", b"2026-11-18T11:16:40.000Z", fixed.DELEGATION.encode()),
    "token_headers": tuple(
        header.encode()
        for header in (fixed.HOST_HEADER, fixed.SESSION_HEADER, fixed.INVOCATION, fixed.DELEGATION)
    ),
    "cacaos": tuple(header_bytes(one) for one in (fixed.HOST_HEADER, fixed.SESSION_HEADER)),
    "ucan_claims": (claims(), claims(fct=[{"a": 1}], nbf=1, nnc="x", prf=["b"])),
    "ucan_headers": (b'{"alg":"EdDSA","typ":"JWT","ucv":"0.10.0"}',),
    "recaps": (b'{"att":{"tinycloud:key:zA:default/kv/a":{"tinycloud.kv/get":[{}]}},"prf":[]}',),
    "strict_json": (b'{"a":[1,2.5,"\\u00e9",null,true,{"b":{}}]}',),
    "network_rows": (encode_network(RECORD), json.dumps(RELEASE_RECORD).encode()),
    "descriptors": (
        json.dumps(descriptor_json(RECORD, KEYRING.node_did)).encode(),
        json.dumps({"descriptor": well_known_json(RECORD)}).encode(),
    ),
    "sql_bodies": (
        b'{"action":"query","sql":"SELECT 1","params":[1,{"0":1}],"maxRows":1,"maxBytes":9}',
        b'{"action":"batch","statements":[{"sql":"SELECT ?1","params":[null,"a",[1,2]]}]}',
        b'{"action":"execute_statement","name":"a","params":[]}',
    ),
    "sync_cursors": (b"A" * 71,),
    "store_rows": (b"\x92\x01\xa1a", b"\x95\x01\x02\x03\x04\x05", b"R1"),
    "recovery_shares": (LINE.encode(),),
    "recovery_sheets": (TEXT,),
    "sql_child_messages": (framed(Batch([Statement("SELECT 1")]))[4:],),
}
"""Inputs that each target of this module begins with, beside the texts of the vectors."""
