"""States of a trust domain that no policy may accept."""

from dataclasses import replace

import pytest
from deviating_platform import DomainOptions, SimulatedPlatform

from tee_backend.attestation.attestation_errors import QuoteRefused
from tee_backend.attestation.examine import POLICY_BITS, SEPT_VE_DISABLE, check_trust_domain
from tee_backend.attestation.quote import BodyKind, TdReport, parse_quote
from tee_backend.evidence.simulated import measurements_of

REPORT = parse_quote(
    SimulatedPlatform.from_seed(b"the platform of the tests").mint_quote(
        measurements_of("backend"), bytes(64), options=DomainOptions(kind=BodyKind.TD15_EXTENDED)
    )
).report


def _passes(report: TdReport) -> bool:
    try:
        check_trust_domain(report)
    except QuoteRefused as refused:
        assert refused.code == "td-attributes"
        return False
    return True


def test_ordinary_domain() -> None:
    """An ordinary domain passes."""
    check_trust_domain(REPORT)


def test_each_attribute() -> None:
    """Only SEPT_VE_DISABLE and the four attributes left to policies may be set."""
    for bit in range(64):
        attributes = SEPT_VE_DISABLE | 1 << bit
        allowed = bool((SEPT_VE_DISABLE | POLICY_BITS) >> bit & 1)
        assert allowed == _passes(
            replace(REPORT, td_attributes=attributes.to_bytes(8, "little"))
        ), bit
        assert not _passes(
            replace(REPORT, td_attributes=(1 << bit & ~SEPT_VE_DISABLE).to_bytes(8, "little"))
        ), bit


@pytest.mark.parametrize("xfam", [0x602E7, 0x207, 0x600E7, 0x618E7, 0x642E7, 0x61AE7, 0x6DBE7, 0x3])
def test_possible_xfam(xfam: int) -> None:
    """The check accepts the feature masks of genuine platforms."""
    assert _passes(replace(REPORT, xfam=xfam.to_bytes(8, "little")))


@pytest.mark.parametrize("xfam", [0, 0x1, 0x2, 0x602E6, 0x602F7, 0x602E7 | 1 << 63, 2**64 - 1])
def test_impossible_xfam(xfam: int) -> None:
    """Feature masks without x87 or SSE, or with an impossible bit, are refused."""
    assert not _passes(replace(REPORT, xfam=xfam.to_bytes(8, "little")))


def test_module_of_another_signer() -> None:
    """A quote is refused if its TDX module has another signer than Intel, or attributes."""
    assert not _passes(replace(REPORT, mr_signer_seam=bytes(47) + b"\x01"))
    assert not _passes(replace(REPORT, seam_attributes=bytes(7) + b"\x01"))


@pytest.mark.parametrize(
    ("offset", "allowed"), [(0, True), (80, True), (81, False), (136, False), (137, True)]
)
def test_service_domain_at_launch(offset: int, allowed: bool) -> None:
    """A quote is refused if a service domain's hash or attributes were set at launch."""
    extension = bytearray(237)
    extension[offset] = 1
    assert allowed == _passes(replace(REPORT, extension=bytes(extension)))


@pytest.mark.parametrize(
    ("offset", "allowed"), [(180, True), (181, False), (229, False), (236, False)]
)
def test_service_domain_now(offset: int, allowed: bool) -> None:
    """The hash or attributes of a currently bound service domain are refused."""
    extension = bytearray(237)
    extension[offset] = 1
    assert allowed == _passes(replace(REPORT, extension=bytes(extension)))
    assert not _passes(replace(REPORT, mr_service_td=bytes(47) + b"\x01"))


def test_unmeasured() -> None:
    """A zero MRTD is refused; zero run-time registers are left to policies."""
    assert not _passes(replace(REPORT, mrtd=bytes(48)))
    assert _passes(
        replace(REPORT, rtmr0=bytes(48), rtmr1=bytes(48), rtmr2=bytes(48), rtmr3=bytes(48))
    )
