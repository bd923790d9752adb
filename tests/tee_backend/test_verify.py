"""Verification of quotes under a test root."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from deviating_platform import (
    DEBUG,
    OLD_MODULE_TCB_SVN,
    CollateralOptions,
    DomainOptions,
    SimulatedPlatform,
    start_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from quote_verification import verify_quote
from tests_support import altered

from encryption_network.policy import Measurements
from tee_backend.attestation.attestation_errors import (
    AttestationError,
    CollateralUnusable,
    QuoteRefused,
)
from tee_backend.attestation.collateral import Collateral, parse_collateral
from tee_backend.attestation.examine import check_pck_roles
from tee_backend.attestation.quote import BodyKind, parse_quote
from tee_backend.attestation.trust_root import TrustRoot, intel_root, parse_trust_root
from tee_backend.evidence.simulated import SEPT_VE_DISABLE, measurements_of

MACHINE = SimulatedPlatform.from_seed(b"the platform of the tests")
TIME = 1_795_000_000.0
QUOTE = MACHINE.mint_quote(measurements_of("backend"), bytes(64))
ROOT = parse_trust_root(MACHINE.root_der)
COLLATERAL = parse_collateral(MACHINE.collateral_json(TIME))


@pytest.mark.parametrize("kind", list(BodyKind))
def test_round_trip(
    machine: SimulatedPlatform,
    collateral: Collateral,
    root: TrustRoot,
    code: Measurements,
    now: float,
    kind: BodyKind,
) -> None:
    """A quote of each shape verifies, and has the facts with which it was made."""
    quote = machine.mint_quote(code, bytes(range(64)), options=DomainOptions(kind=kind))
    verified = verify_quote(quote, collateral, root=root, now=now)
    assert verified.tcb_status == "UpToDate"
    assert verified.qe_status == "UpToDate"
    assert verified.advisories == ()
    assert code.mrtd == verified.mrtd
    assert parse_quote(quote).report.report_data == bytes(range(64))
    assert root.sha256 == verified.root_ca_sha256
    assert collateral.sha256 == verified.collateral_sha256
    assert verified.evaluation_number == 20
    assert verified.tcb_date == 1_755_043_200.0
    assert verified.attested_at == now
    assert collateral.ends_at == verified.expires_at


def test_other_roots(quote: bytes, collateral: Collateral, now: float) -> None:
    """A quote passes under the configured root only."""
    other = parse_trust_root(SimulatedPlatform.from_seed(b"a platform under another root").root_der)
    for root in (intel_root(), other):
        with pytest.raises(QuoteRefused, match=r"^untrusted-root$"):
            verify_quote(quote, collateral, root=root, now=now)


def test_quote_under_another_root_than_its_collateral(
    collateral: Collateral, root: TrustRoot, now: float
) -> None:
    """A foreign quote with the same names is refused, even with valid collateral."""
    foreign = SimulatedPlatform.from_seed(b"a platform under another root").mint_quote(
        measurements_of("backend"), bytes(64)
    )
    with pytest.raises(QuoteRefused, match=r"^untrusted-root$"):
        verify_quote(foreign, collateral, root=root, now=now)


def test_foreign_leaf_under_our_root(
    quote: bytes, collateral: Collateral, root: TrustRoot, now: float
) -> None:
    """A foreign chain with our root appended is refused by the library's signature check."""
    outsider = SimulatedPlatform.from_seed(b"a platform under another root")
    foreign = outsider.mint_quote(measurements_of("backend"), bytes(64))
    spliced = foreign.replace(outsider.root_pem.encode(), MACHINE.root_pem.encode())
    assert len(spliced) == len(foreign)
    with pytest.raises(QuoteRefused, match=r"^certificate-chain$"):
        verify_quote(spliced, collateral, root=root, now=now)


CHAINS: dict[str, tuple[int, dict[str, Any]]] = {
    "a leaf of another kind": (0, {"common_name": "Intel SGX PCK Platform CA"}),
    "a leaf that may issue": (0, {"is_authority": True}),
    "another authority's kind": (1, {"common_name": "Intel SGX PCK Processor CA"}),
    "an issuer that may not issue": (1, {"is_authority": False}),
    "a leaf of another issuer": (0, {"issuer": b"another"}),
    "an authority of another issuer": (1, {"issuer": b"another"}),
    "a leaf of later": (0, {"not_before": TIME + 1}),
    "an authority of before": (1, {"not_after": TIME}),
}


@pytest.mark.parametrize(("at", "changes"), CHAINS.values(), ids=CHAINS)
def test_certificates_out_of_their_roles(at: int, changes: dict[str, Any]) -> None:
    """Each certificate of the chain needs its name, place and validity; a PCK leaf issues
    nothing."""
    quote = parse_quote(QUOTE)
    check_pck_roles(quote, root=ROOT, now=TIME)
    chain = list(quote.pck_chain)
    chain[at] = altered(chain[at], **changes)
    with pytest.raises(QuoteRefused, match=r"^certificate-chain$"):
        check_pck_roles(altered(quote, pck_chain=tuple(chain)), root=ROOT, now=TIME)


@pytest.mark.parametrize(
    "options",
    [
        DomainOptions(td_attributes=SEPT_VE_DISABLE | DEBUG),
        DomainOptions(td_attributes=SEPT_VE_DISABLE | 1 << 4),
        DomainOptions(td_attributes=SEPT_VE_DISABLE | 1 << 12),
        DomainOptions(td_attributes=SEPT_VE_DISABLE | 1 << 17),
        DomainOptions(td_attributes=SEPT_VE_DISABLE | 1 << 29),
        DomainOptions(td_attributes=SEPT_VE_DISABLE | 1 << 31),
        DomainOptions(td_attributes=SEPT_VE_DISABLE | 1 << 40),
        DomainOptions(td_attributes=SEPT_VE_DISABLE | 1 << 62),
        DomainOptions(td_attributes=0),
        DomainOptions(xfam=0),
        DomainOptions(xfam=1),
        DomainOptions(xfam=0x602E7 | 1 << 4),
        DomainOptions(xfam=2**64 - 1),
        DomainOptions(kind=BodyKind.TD15, mr_service_td=b"\x01" + bytes(47)),
    ],
)
def test_states_that_no_policy_accepts(
    machine: SimulatedPlatform,
    collateral: Collateral,
    root: TrustRoot,
    now: float,
    options: DomainOptions,
) -> None:
    """Debug, profiling, reserved, migratable, service-bound and impossible domains are refused."""
    quote = machine.mint_quote(measurements_of("backend"), bytes(64), options=options)
    with pytest.raises(QuoteRefused, match=r"^td-attributes$"):
        verify_quote(quote, collateral, root=root, now=now)


@pytest.mark.parametrize("bit", [16, 27, 30, 63])
def test_states_that_a_policy_decides(
    machine: SimulatedPlatform, collateral: Collateral, root: TrustRoot, now: float, bit: int
) -> None:
    """Four attributes pass verification and are stated in the evidence, for policies to judge."""
    options = DomainOptions(td_attributes=SEPT_VE_DISABLE | 1 << bit)
    quote = machine.mint_quote(measurements_of("backend"), bytes(64), options=options)
    report = verify_quote(quote, collateral, root=root, now=now)
    assert SEPT_VE_DISABLE | 1 << bit == int.from_bytes(report.td_attributes, "little")


def test_unmeasured_domain(
    machine: SimulatedPlatform, collateral: Collateral, root: TrustRoot, now: float
) -> None:
    """A domain whose MRTD is zero is refused."""
    nothing = Measurements(
        mrtd=bytes(48), rtmr0=bytes(48), rtmr1=bytes(48), rtmr2=bytes(48), rtmr3=bytes(48)
    )
    with pytest.raises(QuoteRefused, match=r"^td-attributes$"):
        verify_quote(machine.mint_quote(nothing, bytes(64)), collateral, root=root, now=now)


@pytest.mark.parametrize(
    "status",
    [
        "UpToDate",
        "SWHardeningNeeded",
        "ConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded",
        "OutOfDate",
        "OutOfDateConfigurationNeeded",
    ],
)
def test_statuses_are_stated(
    machine: SimulatedPlatform, quote: bytes, root: TrustRoot, now: float, status: str
) -> None:
    """Statuses and advisories of the platform are part of the evidence, sorted and distinct."""
    options = CollateralOptions(
        tcb_status=status, advisories=("INTEL-SA-00002", "INTEL-SA-00001", "INTEL-SA-00002")
    )
    collateral = parse_collateral(machine.collateral_json(now, options=options))
    verified = verify_quote(quote, collateral, root=root, now=now)
    assert (status, ("INTEL-SA-00001", "INTEL-SA-00002")) == (
        verified.tcb_status,
        verified.advisories,
    )


def test_statuses_converge(
    machine: SimulatedPlatform,
    quote: bytes,
    code: Measurements,
    collateral: Collateral,
    root: TrustRoot,
    now: float,
) -> None:
    """An old quoting enclave or module lowers the overall status of the platform."""
    old_enclave = parse_collateral(
        machine.collateral_json(now, options=CollateralOptions(qe_status="OutOfDate"))
    )
    verified = verify_quote(quote, old_enclave, root=root, now=now)
    assert verified.tcb_status == "OutOfDate"
    assert verified.qe_status == "OutOfDate"

    old_module = DomainOptions(tee_tcb_svn=OLD_MODULE_TCB_SVN)
    old = machine.mint_quote(code, bytes(64), options=old_module)
    assert verify_quote(old, collateral, root=root, now=now).tcb_status == "OutOfDate"

    renewed = DomainOptions(kind=BodyKind.TD15, tee_tcb_svn=OLD_MODULE_TCB_SVN)
    advised = machine.mint_quote(code, bytes(64), options=renewed)
    assert verify_quote(advised, collateral, root=root, now=now).tcb_status == "TDRelaunchAdvised"


def test_older_than_every_level(
    machine: SimulatedPlatform,
    code: Measurements,
    collateral: Collateral,
    root: TrustRoot,
    now: float,
) -> None:
    """A platform below every listed level is refused, whatever the policy is."""
    ancient = machine.mint_quote(
        code, bytes(64), options=DomainOptions(tee_tcb_svn=bytes([5, 1, 1]) + bytes(13))
    )
    with pytest.raises(QuoteRefused, match=r"^tcb-too-old$"):
        verify_quote(ancient, collateral, root=root, now=now)


@pytest.mark.parametrize(
    "options",
    [
        CollateralOptions(tcb_status="Revoked"),
        CollateralOptions(qe_status="Revoked"),
        CollateralOptions(revoked=("pck",)),
        CollateralOptions(revoked=("platform-ca",)),
        CollateralOptions(revoked=("tcb-signing",)),
    ],
)
def test_revocation(
    machine: SimulatedPlatform,
    quote: bytes,
    root: TrustRoot,
    now: float,
    options: CollateralOptions,
) -> None:
    """A revoked level or certificate anywhere in the chain is refused."""
    with pytest.raises(QuoteRefused, match=r"^revoked$"):
        verify_quote(
            quote,
            parse_collateral(machine.collateral_json(now, options=options)),
            root=root,
            now=now,
        )


@pytest.mark.parametrize(
    "options", [CollateralOptions(issued_before_s=-60), CollateralOptions(valid_for_s=3599)]
)
def test_windows(
    machine: SimulatedPlatform,
    quote: bytes,
    root: TrustRoot,
    now: float,
    options: CollateralOptions,
) -> None:
    """Expired and future collateral is refused."""
    with pytest.raises(CollateralUnusable, match=r"^collateral-window$"):
        verify_quote(
            quote,
            parse_collateral(machine.collateral_json(now, options=options)),
            root=root,
            now=now,
        )


def test_clock_sweep(quote: bytes, collateral: Collateral, root: TrustRoot) -> None:
    """Verification passes from the first second of the validity period until before its end."""
    for inside in (
        start_of(collateral),
        start_of(collateral) + 0.25,
        collateral.ends_at - 0.25,
    ):
        assert inside == verify_quote(quote, collateral, root=root, now=inside).attested_at
    for outside in (
        start_of(collateral) - 0.25,
        collateral.ends_at,
        collateral.ends_at + 1,
    ):
        with pytest.raises(CollateralUnusable, match=r"^collateral-window$"):
            verify_quote(quote, collateral, root=root, now=outside)


def test_chain_of_another_time(machine: SimulatedPlatform, quote: bytes, root: TrustRoot) -> None:
    """Collateral is refused before its signers' certificates are valid."""
    first_second = 1_577_836_800.0
    collateral = parse_collateral(
        machine.collateral_json(first_second, options=CollateralOptions(issued_before_s=30))
    )
    assert first_second == verify_quote(quote, collateral, root=root, now=first_second).attested_at
    with pytest.raises(CollateralUnusable, match=r"^collateral-window$"):
        verify_quote(quote, collateral, root=root, now=first_second - 1)


@pytest.mark.parametrize("change", ["fmspc", "pce_id"])
def test_collateral_of_another_platform(
    machine: SimulatedPlatform, quote: bytes, root: TrustRoot, now: float, change: str
) -> None:
    """Collateral of another family or provisioning enclave is refused."""
    if change == "fmspc":
        other = SimulatedPlatform.from_seed(
            b"the platform of the tests", fmspc=b"\x00\xa0\x6f\x05\x00\x00"
        )
        assert machine.root_der != other.root_der
        document = json.loads(machine.collateral_json(now))
        document["tcb_info"] = json.loads(other.collateral_json(now))["tcb_info"]
        collateral = parse_collateral(json.dumps(document).encode())
    else:
        collateral = parse_collateral(
            machine.collateral_json(now, options=CollateralOptions(pce_id=b"\x01\x00"))
        )
    with pytest.raises(CollateralUnusable, match=r"^collateral-mismatch$"):
        verify_quote(quote, collateral, root=root, now=now)


def test_a_list_of_another_authority(
    machine: SimulatedPlatform, quote: bytes, root: TrustRoot, now: float
) -> None:
    """The PCK list has to be from the authority that issued the quote's leaf."""
    collateral = parse_collateral(machine.collateral_json(now))
    of_root = replace(
        collateral, pck_crl=collateral.pck_crl._replace(issuer=collateral.root_crl.issuer)
    )
    with pytest.raises(CollateralUnusable, match=r"^collateral-mismatch$"):
        verify_quote(quote, of_root, root=root, now=now)


def test_certificates_inside_the_collateral(
    edited: Callable[..., bytes],
    machine: SimulatedPlatform,
    quote: bytes,
    root: TrustRoot,
    now: float,
) -> None:
    """A document may contain the quote's own certificates, and no other machine's."""
    own = parse_collateral(edited(pck_certificate_chain=machine.pck_chain_pem))
    assert verify_quote(quote, own, root=root, now=now).tcb_status == "UpToDate"
    outsider = SimulatedPlatform.from_seed(b"a platform under another root")
    other = parse_collateral(edited(pck_certificate_chain=outsider.pck_chain_pem))
    with pytest.raises(CollateralUnusable, match=r"^collateral-mismatch$"):
        verify_quote(quote, other, root=root, now=now)


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        (28, "quote-signature"),
        (184, "quote-signature"),
        (568, "quote-signature"),
        (631, "quote-signature"),
        (640, "quote-signature"),
        (700, "qe-binding"),
        (898, "qe-binding"),
        (1090, "qe-binding"),
        (1154, "qe-binding"),
        (1220, "qe-binding"),
    ],
)
def test_each_signed_field(
    quote: bytes, collateral: Collateral, root: TrustRoot, now: float, offset: int, expected: str
) -> None:
    """A changed signed field is refused with the code of the link that it breaks."""
    tampered = bytearray(quote)
    tampered[offset] ^= 1
    with pytest.raises(QuoteRefused, match=f"^{expected}$"):
        verify_quote(bytes(tampered), collateral, root=root, now=now)


def test_body_of_one_and_signature_of_another(
    machine: SimulatedPlatform, collateral: Collateral, root: TrustRoot, now: float
) -> None:
    """The body of one quote with the signature data of another is refused."""
    one = machine.mint_quote(measurements_of("one"), bytes(64))
    two = machine.mint_quote(measurements_of("two"), bytes(64))
    with pytest.raises(QuoteRefused, match=r"^quote-signature$"):
        verify_quote(one[:632] + two[632:], collateral, root=root, now=now)


@given(st.integers(0, 8 * len(QUOTE) - 1))
@settings(max_examples=400, deadline=None)
def test_no_flipped_bit_passes(position: int) -> None:
    """A quote with one flipped bit, signed or not, is never accepted."""
    flipped = bytearray(QUOTE)
    flipped[position // 8] ^= 1 << position % 8
    with pytest.raises(AttestationError):
        verify_quote(bytes(flipped), COLLATERAL, root=ROOT, now=TIME)


@given(st.integers(0, len(QUOTE)), st.integers(0, 32), st.binary(max_size=32))
@settings(max_examples=200, deadline=None)
def test_only_the_quote_passes(offset: int, removed: int, inserted: bytes) -> None:
    """A quote with a replaced part either reads the same or is refused with our error."""
    changed = QUOTE[:offset] + inserted + QUOTE[offset + removed :]
    try:
        verified = verify_quote(changed, COLLATERAL, root=ROOT, now=TIME)
    except AttestationError:
        return
    assert verified.quote_sha256 == parse_quote(QUOTE).statement_sha256
