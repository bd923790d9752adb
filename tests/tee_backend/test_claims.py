"""Reading the library's claims and error texts: everything unexpected is refused."""

import json
from typing import Any

import pytest
from deviating_platform import DomainOptions, SimulatedPlatform
from hypothesis import given, settings
from hypothesis import strategies as st

from tee_backend.attestation._library import claims_json, error_of_text
from tee_backend.attestation.attestation_errors import AttestationError, QuoteRefused
from tee_backend.attestation.claims import check_same_reading, parse_claims
from tee_backend.attestation.collateral import Collateral, parse_collateral
from tee_backend.attestation.quote import BodyKind, parse_quote
from tee_backend.evidence.simulated import measurements_of

MACHINE = SimulatedPlatform.from_seed(b"the platform of the tests")
TIME = 1_795_000_000
COLLATERAL = parse_collateral(MACHINE.collateral_json(TIME))
QUOTE = parse_quote(
    MACHINE.mint_quote(
        measurements_of("backend"), bytes(64), options=DomainOptions(kind=BodyKind.TD15_EXTENDED)
    )
)
CLAIMS = json.loads(claims_json(QUOTE.raw, COLLATERAL, root_der=MACHINE.root_der, now_s=TIME))


def _edited(path: str, value: object) -> bytes:
    """Return the claims with the member at a dotted path replaced, or removed (None)."""
    claims = json.loads(json.dumps(CLAIMS))
    *parents, name = path.split(".")
    holder: dict[str, Any] = claims
    for parent in parents:
        holder = holder[parent]
    if value is None:
        del holder[name]
    else:
        holder[name] = value
    return json.dumps(claims).encode()


def test_claims_are_read() -> None:
    """The library's claims about a quote agree with our own parser."""
    claims = parse_claims(json.dumps(CLAIMS).encode())
    assert (claims.tcb.status, claims.qe.tcb_level.status) == ("UpToDate", "UpToDate")
    assert claims.tcb.advisory_ids == []
    check_same_reading(QUOTE, claims)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("tee_type", 0),
        ("tee_type", None),
        ("header", None),
        ("header.version", "5"),
        ("header.version", True),
        ("tcb", []),
        ("tcb.status", "Revoked"),
        ("tcb.status", "uptodate"),
        ("tcb.status", 1),
        ("tcb.status", None),
        ("tcb.advisory_ids", None),
        ("tcb.advisory_ids", "INTEL-SA-00001"),
        ("tcb.advisory_ids", [1]),
        ("tcb.advisory_ids", [[]]),
        ("tcb.advisory_ids", ["x"] * 257),
        ("qe.tcb_level.tcbStatus", "Fine"),
        ("qe.tcb_level", None),
        ("platform.tcb_date_tag", -1),
        ("platform.tcb_date_tag", 1.5),
        ("platform.pck", None),
        ("platform.pck.fmspc", "00"),
        ("platform.pck.fmspc", [256]),
        ("platform.pck.ppid", []),
        ("platform.pck.ppid", [True]),
        ("report", {}),
        ("report", {"TD15Ex": 1}),
        ("report", {"TD15Ex": {}, "TD10": {}}),
        ("report", {"TD15Ex": {"base": 1}}),
    ],
)
def test_unreadable_claims(path: str, value: object) -> None:
    """Claims of another shape, or with an unknown status, are refused."""
    with pytest.raises(QuoteRefused, match=r"^evidence-invalid$"):
        parse_claims(_edited(path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("header.version", 4),
        ("platform.pck.fmspc", [1] * 6),
        ("platform.pck.pce_id", [1, 0]),
        ("platform.pck.ppid", [1] * 16),
        ("report.TD15Ex.base.base.mr_td", "00" * 48),
        ("report.TD15Ex.base.base.report_data", None),
        ("report.TD15Ex.base.base.xfam", 0),
        ("report.TD15Ex.base.tee_tcb_svn2", "00" * 16),
        ("report.TD15Ex.base.mr_service_td", None),
    ],
)
def test_another_reading(path: str, value: object) -> None:
    """A quote is refused if the library read a field differently."""
    claims = parse_claims(_edited(path, value))
    with pytest.raises(QuoteRefused, match=r"^evidence-invalid$"):
        check_same_reading(QUOTE, claims)


def test_texts_are_mapped() -> None:
    """Each known error text of the library has its code, and an unknown text is refused."""
    texts = {
        "Verification failed: Failed to verify certificate chain\n\nCaused by:\n    CertRevoked": (
            "revoked"
        ),
        "Verification failed: Failed to verify certificate chain": "certificate-chain",
        "Verification failed: Failed to parse PCK CRL\n\nCaused by:\n    TrailingData": (
            "collateral-malformed"
        ),
        "Verification failed: QE Identity expired": "collateral-window",
        "Verification failed: something new": "verdict-unknown",
        "": "verdict-unknown",
    }
    assert list(texts.values()) == [error_of_text(text).code for text in texts]


@given(st.text(max_size=2000))
@settings(max_examples=100, deadline=None)
def test_any_text(text: str) -> None:
    """Any library text becomes an error whose message does not contain it."""
    refused = error_of_text(text)
    assert refused.code == str(refused)
    assert len(refused.detail) <= 400


@pytest.mark.parametrize("now_s", [-1, 2**64])
def test_a_failing_library_refuses(collateral: Collateral, now_s: int) -> None:
    """Any other exception of the library becomes a refusal."""
    with pytest.raises(AttestationError):
        claims_json(QUOTE.raw, collateral, root_der=MACHINE.root_der, now_s=now_s)


def test_a_broken_root_refuses(collateral: Collateral) -> None:
    """A root that the library cannot read is a refusal, not a crash."""
    with pytest.raises(AttestationError):
        claims_json(QUOTE.raw, collateral, root_der=b"no certificate", now_s=TIME)


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_any_bytes(data: bytes) -> None:
    """Arbitrary bytes are refused as claims."""
    with pytest.raises(QuoteRefused, match=r"^evidence-invalid$"):
        parse_claims(data)
