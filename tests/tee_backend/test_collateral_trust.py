"""Trust in collateral: validity periods, roles and signatures."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dcap_qvl
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID
from deviating_platform import CollateralOptions, SimulatedPlatform, start_of
from quote_verification import verify_quote
from tests_support import SHARED_VECTORS, shared_vectors

from tee_backend.attestation.attestation_errors import (
    AttestationError,
    CollateralUnusable,
    QuoteRefused,
)
from tee_backend.attestation.collateral import Collateral, parse_collateral
from tee_backend.attestation.collateral_trust import (
    check_age,
    check_roles,
    check_windows,
    verify_collateral,
)
from tee_backend.attestation.trust_root import TrustRoot, intel_root

OTHER = SimulatedPlatform.from_seed(b"a platform under another root")


def _sign(key: ec.EllipticCurvePrivateKey, text: str) -> str:
    r, s = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    return ((r % 2**256).to_bytes(32, "big") + (s % 2**256).to_bytes(32, "big")).hex()


@pytest.fixture
def signed_by(
    machine: SimulatedPlatform, edited: Callable[..., bytes], tmp_path: Path
) -> Callable[..., bytes]:
    """Return collateral with both texts signed by another certificate directly below the root."""
    machine.save(tmp_path)
    root_key = serialization.load_pem_private_key(
        (tmp_path / "root.key").read_bytes(), password=None
    )
    assert isinstance(root_key, ec.EllipticCurvePrivateKey)
    root_certificate = x509.load_der_x509_certificate(machine.root_der)

    def sign(
        common_name: str,
        *,
        is_authority: bool = False,
        issuer: x509.Name | None = None,
        curve: ec.EllipticCurve | None = None,
    ) -> bytes:
        key = ec.generate_private_key(curve or ec.SECP256R1())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
            .issuer_name(issuer or root_certificate.subject)
            .public_key(key.public_key())
            .serial_number(77)
            .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
            .not_valid_after(datetime(2049, 1, 1, tzinfo=UTC))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .sign(root_key, hashes.SHA256())
        )
        chain = certificate.public_bytes(serialization.Encoding.PEM).decode() + machine.root_pem
        document = json.loads(edited())
        return edited(
            tcb_info_issuer_chain=chain,
            qe_identity_issuer_chain=chain,
            tcb_info_signature=_sign(key, document["tcb_info"]),
            qe_identity_signature=_sign(key, document["qe_identity"]),
        )

    return sign


def test_published_collateral_holds(collateral: Collateral, root: TrustRoot, now: float) -> None:
    """A platform's own collateral verifies on its own."""
    verify_collateral(collateral, root=root, now=now)


def test_edges_of_the_window(collateral: Collateral, now: float) -> None:
    """A validity period includes its start and excludes its end; NaN is outside."""
    for inside in (start_of(collateral), now, collateral.ends_at - 0.5):
        check_windows(collateral, now=inside)
    for outside in (
        start_of(collateral) - 0.5,
        collateral.ends_at,
        math.nan,
        math.inf,
        -math.inf,
        -1.0,
        0.0,
    ):
        with pytest.raises(CollateralUnusable, match=r"^collateral-window$"):
            check_windows(collateral, now=outside)


@pytest.mark.parametrize("part", ["root_ca_crl", "pck_crl", "tcb_info", "qe_identity"])
@pytest.mark.parametrize("shift_s", [-31 * 86_400, 7200], ids=["over", "from the future"])
def test_window_of_each_part(
    machine: SimulatedPlatform, edited: Callable[..., bytes], now: float, part: str, shift_s: int
) -> None:
    """A document is refused if any of its parts is expired or in the future."""
    shifted = json.loads(machine.collateral_json(now + shift_s))
    with pytest.raises(CollateralUnusable, match=r"^collateral-window$"):
        check_windows(parse_collateral(edited(**{part: shifted[part]})), now=now)


def test_another_root(collateral: Collateral, now: float) -> None:
    """Collateral under another root is refused."""
    with pytest.raises(CollateralUnusable, match=r"^collateral-root$"):
        verify_collateral(collateral, root=intel_root(), now=now)
    foreign = parse_collateral(OTHER.collateral_json(now))
    assert foreign.pck_crl.issuer == collateral.pck_crl.issuer


@pytest.mark.parametrize(
    "part", ["tcb_info_issuer_chain", "qe_identity_issuer_chain", "pck_crl_issuer_chain"]
)
def test_every_chain_ends_at_the_root(
    edited: Callable[..., bytes], root: TrustRoot, now: float, part: str
) -> None:
    """A document is refused if any of its chains ends at another root."""
    foreign = json.loads(OTHER.collateral_json(now))
    with pytest.raises(CollateralUnusable, match=r"^collateral-root$"):
        check_roles(parse_collateral(edited(**{part: foreign[part]})), root=root)


def test_signer_needs_its_role(
    signed_by: Callable[..., bytes],
    machine: SimulatedPlatform,
    root: TrustRoot,
    quote: bytes,
    now: float,
) -> None:
    """A certificate of another role cannot sign collateral, though the library would accept it."""
    forged = signed_by(f"{root.prefix}PCK Certificate")
    documents = dcap_qvl.QuoteCollateralV3.from_json(forged.decode())
    assert (
        dcap_qvl.verify_with_root_ca(quote, documents, machine.root_der, int(now)).status
        == "UpToDate"
    )
    with pytest.raises(CollateralUnusable, match=r"^collateral-signature$"):
        verify_quote(quote, parse_collateral(forged), root=root, now=now)


def test_signer_is_a_leaf_of_the_root(signed_by: Callable[..., bytes], root: TrustRoot) -> None:
    """A signer that the root did not issue, or that is an authority, is refused."""
    elsewhere = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "elsewhere")])
    check_roles(parse_collateral(signed_by(f"{root.prefix}TCB Signing")), root=root)
    for forged in (
        signed_by(f"{root.prefix}TCB Signing", is_authority=True),
        signed_by(f"{root.prefix}TCB Signing", issuer=elsewhere),
        signed_by("Intel SGX TCB Signing"),
    ):
        with pytest.raises(CollateralUnusable, match=r"^collateral-signature$"):
            check_roles(parse_collateral(forged), root=root)


def test_lists_are_by_their_authorities(
    edited: Callable[..., bytes], machine: SimulatedPlatform, root: TrustRoot, now: float
) -> None:
    """A list of the PCK authority is refused in place of the root's."""
    pck_crl = json.loads(machine.collateral_json(now))["pck_crl"]
    with pytest.raises(CollateralUnusable, match=r"^collateral-mismatch$"):
        check_roles(parse_collateral(edited(root_ca_crl=pck_crl)), root=root)


def test_list_by_an_authority_of_another_name(
    edited: Callable[..., bytes], root: TrustRoot, now: float
) -> None:
    """A list of an authority that is not named after the root is a mismatch."""
    key = ec.generate_private_key(ec.SECP256R1())
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Intel SGX PCK Platform CA")])
        )
        .last_update(datetime.fromtimestamp(now - 60, UTC))
        .next_update(datetime.fromtimestamp(now + 60, UTC))
        .sign(key, hashes.SHA256())
    )
    document = edited(pck_crl=crl.public_bytes(serialization.Encoding.DER).hex())
    with pytest.raises(CollateralUnusable, match=r"^collateral-mismatch$"):
        check_roles(parse_collateral(document), root=root)


def test_signer_with_another_kind_of_key(
    signed_by: Callable[..., bytes], root: TrustRoot, now: float
) -> None:
    """Documents that are not signed with P-256 are refused."""
    document = parse_collateral(signed_by(f"{root.prefix}TCB Signing", curve=ec.SECP384R1()))
    with pytest.raises(CollateralUnusable, match=r"^collateral-signature$"):
        verify_collateral(document, root=root, now=now)


@pytest.mark.parametrize(
    "part", ["tcb_info_signature", "qe_identity_signature", "root_ca_crl", "pck_crl"]
)
def test_flipped_signature(
    edited: Callable[..., bytes], root: TrustRoot, now: float, part: str
) -> None:
    """A changed signature of a text or a list is detected without a quote."""
    value = bytearray.fromhex(json.loads(edited())[part])
    value[-1] ^= 1
    with pytest.raises(CollateralUnusable, match=r"^collateral-signature$"):
        verify_collateral(parse_collateral(edited(**{part: value.hex()})), root=root, now=now)


@pytest.mark.parametrize("part", ["tcb_info", "qe_identity"])
def test_signed_byte_for_byte(
    edited: Callable[..., bytes], root: TrustRoot, now: float, part: str
) -> None:
    """One additional space in a signed text invalidates its signature."""
    with pytest.raises(CollateralUnusable, match=r"^collateral-signature$"):
        verify_collateral(
            parse_collateral(edited(**{part: json.loads(edited())[part] + " "})), root=root, now=now
        )


def test_foreign_list_and_signer(edited: Callable[..., bytes], root: TrustRoot, now: float) -> None:
    """Lists and signers with the same names under another root are refused."""
    foreign = json.loads(OTHER.collateral_json(now))
    own_root = json.loads(edited())["tcb_info_issuer_chain"].split("-----END CERTIFICATE-----\n")[1]
    chain = foreign["tcb_info_issuer_chain"].split("-----END CERTIFICATE-----\n")[0]
    swapped = f"{chain}-----END CERTIFICATE-----\n{own_root}-----END CERTIFICATE-----\n"
    changes: list[dict[str, Any]] = [
        {"root_ca_crl": foreign["root_ca_crl"]},
        {"pck_crl": foreign["pck_crl"]},
        {"tcb_info_issuer_chain": swapped},
    ]
    for change in changes:
        with pytest.raises(CollateralUnusable, match=r"^collateral-signature$"):
            verify_collateral(parse_collateral(edited(**change)), root=root, now=now)


def test_authority_of_the_list_may_be_absent(
    edited: Callable[..., bytes], root: TrustRoot, quote: bytes, now: float
) -> None:
    """A document without the PCK list's authority verifies, because the quote contains that
    authority."""
    chain = json.loads(edited())["tcb_info_issuer_chain"]
    collateral = parse_collateral(edited(pck_crl_issuer_chain=chain))
    verify_collateral(collateral, root=root, now=now)
    assert verify_quote(quote, collateral, root=root, now=now).tcb_status == "UpToDate"


@pytest.mark.parametrize("role", ["tcb-signing", "platform-ca"])
def test_revoked_signer(machine: SimulatedPlatform, root: TrustRoot, now: float, role: str) -> None:
    """A signer that the root revoked is detected without a quote."""
    document = machine.collateral_json(now, options=CollateralOptions(revoked=(role,)))
    with pytest.raises(QuoteRefused, match=r"^revoked$"):
        verify_collateral(parse_collateral(document), root=root, now=now)


def _published() -> dict[str, dict[str, Any]]:
    manifest = SHARED_VECTORS / "tdx" / "manifest.json"
    return json.loads(manifest.read_text())["collateral"] if manifest.is_file() else {}


@pytest.mark.shared
@pytest.mark.parametrize("entry", _published().values(), ids=_published())
def test_published_by_intel(entry: dict[str, Any]) -> None:
    """Every genuine TDX document verifies at its time; the one for SGX is refused."""
    data = shared_vectors(f"tdx/{entry['file']}").read_bytes()
    if entry["id"] != "TDX":
        with pytest.raises(CollateralUnusable, match=r"^collateral-mismatch$"):
            parse_collateral(data)
        return
    collateral = parse_collateral(data)
    verify_collateral(collateral, root=intel_root(), now=entry["now"])
    assert entry["fmspc"] == collateral.fmspc.hex().upper()
    numbers = [
        collateral.tcb_info.members.evaluation_number,
        collateral.qe_identity.members.evaluation_number,
    ]
    assert entry["tcb_eval"] == numbers


@pytest.mark.shared
@pytest.mark.parametrize(
    "name",
    [p.name for p in sorted((SHARED_VECTORS / "tdx" / "negative").glob("collateral_*.json"))],
)
def test_tampered(name: str) -> None:
    """Every tampered document is refused without a quote."""
    with pytest.raises(AttestationError):
        verify_collateral(
            parse_collateral(shared_vectors(f"tdx/negative/{name}").read_bytes()),
            root=intel_root(),
            now=1_787_616_698,
        )


def test_own_limit_of_age(collateral: Collateral, now: float) -> None:
    """A verifier can demand fresher collateral; age counts from the issue of both signed texts."""
    issued_at = now - 3600
    check_age(collateral, max_age_s=7 * 86_400, now=issued_at + 7 * 86_400)
    for late in (issued_at + 7 * 86_400 + 1, float("nan")):
        with pytest.raises(CollateralUnusable, match=r"^collateral-window$"):
            check_age(collateral, max_age_s=7 * 86_400, now=late)
    stale = replace(
        collateral.qe_identity,
        window=collateral.qe_identity.window._replace(starts_at=now - 9 * 86_400),
    )
    with pytest.raises(CollateralUnusable, match=r"^collateral-window$"):
        check_age(replace(collateral, qe_identity=stale), max_age_s=7 * 86_400, now=now)
