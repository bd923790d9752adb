"""Tests of every vector in spec/vectors/attestation."""

import base64
import json
from typing import Any

import pytest
from quote_verification import verify_quote
from tests_support import REPOSITORY

from sealspace.documents.node_evidence import NodeStatement
from sealspace.documents.published import parse_statement
from tee_backend.attestation.attestation_errors import AttestationError
from tee_backend.attestation.challenge import ChallengeScope, check_challenge, issue_challenge
from tee_backend.attestation.collateral import parse_collateral
from tee_backend.attestation.quote import parse_quote
from tee_backend.attestation.report_data import node_report_data, published_binding, session_binding
from tee_backend.attestation.trust_root import parse_trust_root

FOLDER = REPOSITORY / "spec" / "vectors" / "attestation"
QUOTES = json.loads((FOLDER / "quotes.json").read_text("utf-8"))


def _cases(name: str) -> list[Any]:
    cases = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))["cases"]
    return [pytest.param(case, id=f"{'+'.join(case['rules'])} {case['name']}") for case in cases]


@pytest.mark.parametrize("case", _cases("report_data"))
def test_report_data(case: Any) -> None:
    """The report data of a session is the vector's, all 64 bytes (AT9)."""
    computed = session_binding(
        bytes.fromhex(case["nonce_hex"]),
        case["audience"],
        case["holder"],
        case["mode"],
        bytes.fromhex(case["receiver_key_hex"]),
    ).report_data
    assert case["expect"]["report_data_hex"] == computed.hex()


@pytest.mark.parametrize("case", _cases("node_report_data"))
def test_node_report_data(case: Any) -> None:
    """The report data of a node's own quote are the vector's, all 64 bytes (AT41)."""
    statement = NodeStatement(
        node_did=case["node_did"],
        store_id=bytes.fromhex(case["store_id_hex"]),
        secret_origin=case["secret_origin"],
        attestation=case["attestation"],
        trust_roots=tuple(bytes.fromhex(root) for root in case["trust_roots_hex"]),
        node_policy_suffices=case["node_policy_suffices"],
        key_providers=tuple(case["key_providers"]),
    )
    assert case["expect"]["report_data_hex"] == node_report_data(case["nonce"], statement).hex()


@pytest.mark.parametrize("case", _cases("backend_report_data"))
def test_backend_report_data(case: Any) -> None:
    """A backend's report data equal the vector's 64 bytes (AT51)."""
    statement = parse_statement(case["statement"])
    computed = published_binding(
        bytes.fromhex(case["nonce_hex"]), statement.did, statement.sha256
    ).report_data
    assert case["expect"]["report_data_hex"] == computed.hex()


@pytest.mark.parametrize("case", _cases("challenge"))
def test_challenge(case: Any) -> None:
    """A nonce is accepted only for its holder, audience and store, and until its expiry."""
    scope = ChallengeScope(
        holder=case["holder"],
        audience=case["audience"],
        store_id=bytes.fromhex(case["store_id_hex"]),
    )
    key, nonce, expect = (
        bytes.fromhex(case["mac_key_hex"]),
        bytes.fromhex(case["nonce_hex"]),
        case["expect"],
    )
    if "code" in expect:
        with pytest.raises(AttestationError) as refused:
            check_challenge(key, scope, nonce, now=case["now"])
        assert expect["code"] == refused.value.code
        return
    assert expect["expires_at"] == check_challenge(key, scope, nonce, now=case["now"])
    if "issued_hex" in expect:
        issued = issue_challenge(
            key, scope, random=nonce[:16], now=case["issued_at"], ttl_s=case["ttl_s"]
        )
        assert expect["issued_hex"] == issued.hex()


def _edited(case: Any) -> bytes:
    quote, edit = bytearray(base64.b64decode(QUOTES["quotes"][case["quote"]])), case["edit"]
    if "flip_offset" in edit:
        quote[edit["flip_offset"]] ^= 1
    del quote[len(quote) - edit.get("drop_last", 0) :]
    return bytes(quote) + bytes.fromhex(edit.get("append_hex", ""))


def _verify(case: Any) -> dict[str, Any]:
    collateral = parse_collateral(QUOTES["collaterals"][case["collateral"]].encode())
    root = parse_trust_root(base64.b64decode(QUOTES["roots"][case["root"]]))
    verified = verify_quote(_edited(case), collateral, root=root, now=case["now"])
    registers = {
        name: getattr(verified, name).hex() for name in ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3")
    }
    return {
        "tcb_status": verified.tcb_status,
        "advisories": list(verified.advisories),
        "evaluation_number": verified.evaluation_number,
        **registers,
        "report_data_hex": parse_quote(_edited(case)).report.report_data.hex(),
    }


@pytest.mark.parametrize("case", _cases("quotes"))
def test_quote(case: Any) -> None:
    """A quote is verified to the vector's facts, or refused with the vector's code."""
    expect = case["expect"]
    if "code" in expect:
        with pytest.raises(AttestationError) as refused:
            _verify(case)
        assert expect["code"] == refused.value.code
        return
    assert expect == _verify(case)
