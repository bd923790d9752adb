"""Tests of the parser of a backend's published document."""

import json
from contextlib import suppress
from typing import Any

import pytest
from deviating_platform import SimulatedPlatform
from fuzz_strategies import changed_objects, damaged_bytes, json_values, large_texts
from hypothesis import given
from hypothesis import strategies as st
from tests_support import altered, fuzzed

from capabilities.principals import parse_principal
from capabilities.strict_json import Json
from sealspace.apps.backends import Seen, ValidWindow, Verified, require_expected
from sealspace.documents.published import (
    encode_published,
    parse_published,
    parse_statement,
    statement_json,
)
from sealspace.errors import BackendAnswerInvalid, BackendError, BackendNotProven, SealspaceError
from sealspace.giving.words.backends import as_json, in_plain_words
from sealspace.receipts import check_receipt, named_receipt
from sealspace.session import key_session
from tee_backend.attestation.collateral import parse_collateral
from tee_backend.attestation.examine import BoundQuote, examine
from tee_backend.attestation.quote import parse_quote
from tee_backend.attestation.report_data import Binding
from tee_backend.attestation.trust_root import parse_trust_root
from tee_backend.evidence.simulated import measurements_of

NONCE = bytes(range(32))
DID = key_session(bytes(32)).did
OTHER = key_session(bytes(31) + b"\2").did
MANIFEST: dict[str, Json] = {
    "app_id": "com.example",
    "name": "Notes",
    "did": DID,
    "defaults": False,
    "secrets": {"API_KEY": True},
}
STATEMENT = statement_json(DID, MANIFEST, "services: {}\n")
NOW = 1_795_000_000.0
PLATFORM = SimulatedPlatform.from_seed(bytes(32))
QUOTE = PLATFORM.mint_quote(measurements_of("notes"), bytes(64))
EVIDENCE = examine(
    BoundQuote(
        parse_quote(QUOTE), Binding(report_data=bytes(64), holder=parse_principal(DID)), None
    ),
    parse_collateral(PLATFORM.collateral_json(NOW)),
    root=parse_trust_root(PLATFORM.root_der),
    now=NOW,
)
DOCUMENT = encode_published(NONCE, STATEMENT, quote=QUOTE, event_log=[])
VALUE: dict[str, Any] = json.loads(DOCUMENT)


def test_a_document_reads_as_it_was_written() -> None:
    """Nonce, statement, quote and log are read back unchanged (AT50)."""
    published = parse_published(DOCUMENT, nonce=NONCE)
    assert published.nonce == NONCE
    assert published.quote == QUOTE
    assert published.event_log == []
    assert published.statement.did == DID
    assert published.statement.compose == "services: {}\n"
    assert published.statement.sha256 == parse_statement(STATEMENT).sha256


def test_every_part_of_a_statement_counts() -> None:
    """Two statements with any difference have different hashes (AT51)."""
    others = [
        statement_json(
            key_session(bytes(31) + b"\1").did, {**MANIFEST, "did": None}, "services: {}\n"
        ),
        statement_json(
            DID, {**MANIFEST, "secrets": {"API_KEY": True, "B": True}}, "services: {}\n"
        ),
        statement_json(DID, {**MANIFEST, "description": "for people"}, "services: {}\n"),
        statement_json(DID, MANIFEST, None),
    ]
    hashes = {parse_statement(one).sha256 for one in (STATEMENT, *others)}
    assert len(hashes) == 1 + len(others)


def test_another_nonce() -> None:
    """A client rejects a document for another nonce as a recording (AT52)."""
    with pytest.raises(BackendNotProven) as reported:
        parse_published(DOCUMENT, nonce=bytes(32))
    assert reported.value.hint


@pytest.mark.parametrize(
    "change",
    [
        {"type": "sealspace.backend/v2"},
        {"nonce": "AAAA"},
        {"nonce": None},
        {"quote": ""},
        {"quote": "AA"},
        {"quote": "A" * 40_000},
        {"eventLog": {}},
        {"statement": []},
        {"statement": {**STATEMENT, "more": 1}},
        {"statement": {**STATEMENT, "did": "did:key:z6Mk"}},
        {"statement": {**STATEMENT, "did": 1}},
        {"statement": {**STATEMENT, "manifest": []}},
        {"statement": {**STATEMENT, "manifest": {**MANIFEST, "secrets": {"lower": True}}}},
        {"statement": {**STATEMENT, "manifest": {**MANIFEST, "did": OTHER}}},
        {"statement": {**STATEMENT, "compose": 1}},
        {"statement": {**STATEMENT, "compose": "x" * 70_000}},
        {"more": 1},
    ],
)  # fmt: skip
def test_documents_that_are_none(change: dict[str, Any]) -> None:
    """The parser refuses a document with a member of another type, size or name."""
    with pytest.raises(BackendAnswerInvalid) as reported:
        parse_published(json.dumps({**VALUE, **change}).encode(), nonce=NONCE)
    assert reported.value.hint


@fuzzed()
@given(
    st.binary(max_size=200)
    | damaged_bytes(DOCUMENT)
    | large_texts.map(str.encode)
    | changed_objects(VALUE, json_values(DID)).map(lambda value: json.dumps(value).encode())
)
def test_fuzz_documents(data: bytes) -> None:
    """Any bytes give a document or our own error."""
    with suppress(BackendError):
        parse_published(data, nonce=NONCE)


@fuzzed()
@given(
    json_values(DID)
    | changed_objects(STATEMENT, json_values(DID))
    | changed_objects(MANIFEST, json_values(DID, members=("secrets", "permissions", "name"))).map(
        lambda manifest: statement_json(DID, manifest, None)
    )
)
def test_fuzz_statements(value: Any) -> None:
    """Any JSON is parsed as a statement with printable facts, or raises the parser's error."""
    try:
        parse_statement(value)
    except SealspaceError:
        return
    # A published document has sorted members, so the order of its secrets can differ.
    statement = parse_statement(json.loads(json.dumps(value, sort_keys=True)))
    seen = _seen(encode_published(NONCE, value, quote=QUOTE, event_log=None))
    lines = in_plain_words(seen)
    assert seen.published.statement == statement
    assert all(line.isprintable() for line in lines)
    json.dumps(as_json(seen))


def _seen(document: bytes) -> Seen:
    published = parse_published(document, nonce=NONCE)
    evidence = altered(EVIDENCE, invoker=published.statement.did)
    window = ValidWindow("TCB info", NOW - 1000.0, NOW + 1000.0)
    found = Verified(evidence=evidence, ca="platform", windows=(window,), root_is_intel=False)
    return Seen(url="http://127.0.0.1:1", published=published, verified=found, seen_at=NOW)


@fuzzed()
@given(st.text(max_size=100) | st.text("0123456789abcdefABCDEF ", min_size=60, max_size=100))
def test_fuzz_expectations(text: str) -> None:
    """Each expectation is met or raises the client's own error."""
    with suppress(SealspaceError):
        require_expected(_seen(DOCUMENT), [text])


@fuzzed()
@given(
    st.binary(max_size=200)
    | json_values("release.authorised", members=("action", "detail")).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_fuzz_audit_entries(entry: bytes) -> None:
    """Any line is parsed as the entry of a receipt or of another record."""
    digest = named_receipt(entry)
    assert digest is None or len(digest) == 32


@fuzzed()
@given(json_values("sealspace.receipt/v1", members=("type", "node", "signature")))
def test_fuzz_receipts(value: Any) -> None:
    """Any JSON is a receipt of the node or is refused with the client's own error."""
    with suppress(SealspaceError):
        check_receipt(value, node=DID, network="urn:tinycloud:encryption:x:default")
