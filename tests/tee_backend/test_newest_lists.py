"""Tests of revocation lists that several platform families share, of which the newest applies."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from deviating_platform import CollateralOptions, SimulatedPlatform

from capabilities.principals import parse_principal
from encryption_network.key_providers import DEFAULT_KEY_PROVIDERS
from encryption_network.policy import Evidence, Measurements
from tee_backend.attestation.attestation_errors import (
    AttestationError,
    CollateralUnusable,
    QuoteRefused,
)
from tee_backend.attestation.collateral import Collateral, HeldCollateral, parse_collateral
from tee_backend.attestation.examine import BoundQuote, bind_quote, examine_with
from tee_backend.attestation.report_data import Binding
from tee_backend.attestation.trust_root import TrustRoot
from tee_backend.evidence.simulated import measurements_of

HOLDER = parse_principal("did:key:z6MkpTHR8VNsBxYAAWHut2Geadd9jSwuBV8xRoAnwWsdvktH")
HOUR_S, DAY_S = 3600, 86_400


@pytest.fixture(scope="session")
def neighbour(machine: SimulatedPlatform) -> SimulatedPlatform:
    """A machine of another family under the same authorities."""
    return machine.another_machine(b"a machine of another family", fmspc=b"second")


@pytest.fixture(scope="session")
def third(machine: SimulatedPlatform) -> SimulatedPlatform:
    """A machine of a third family under the same authorities."""
    return machine.another_machine(b"a machine of a third family", fmspc=b"third.")


def published(
    machine: SimulatedPlatform,
    now: float,
    *,
    age_s: int = HOUR_S,
    lists_age_s: int | None = None,
    lists_last_s: int = 30 * DAY_S,
    lists_of: SimulatedPlatform | None = None,
    revoked: tuple[str, ...] = (),
    number: int = 20,
) -> bytes:
    """Return a family's document whose lists have a chosen age and may revoke a chosen machine."""
    parts = CollateralOptions(issued_before_s=age_s, evaluation_number=number)
    lists = CollateralOptions(
        issued_before_s=age_s if lists_age_s is None else lists_age_s,
        valid_for_s=lists_last_s,
        revoked=revoked,
    )
    members = json.loads((lists_of or machine).collateral_json(now, options=lists))
    taken = {name: members[name] for name in ("root_ca_crl", "pck_crl")}
    return json.dumps(json.loads(machine.collateral_json(now, options=parts)) | taken).encode()


def by_another_key(document: bytes, now: float, *, revoking: SimulatedPlatform, name: str) -> bytes:
    """Return the document with a current PCK list signed by an authority with another key."""
    members = json.loads(document)
    genuine = x509.load_der_x509_crl(bytes.fromhex(members["pck_crl"]))
    common_name = x509.NameAttribute(NameOID.COMMON_NAME, name)
    parts = [common_name if part.oid == NameOID.COMMON_NAME else part for part in genuine.issuer]
    at = datetime.fromtimestamp(int(now), UTC)
    leaf = x509.load_pem_x509_certificate(revoking.pck_chain_pem.encode())
    entry = x509.RevokedCertificateBuilder(leaf.serial_number, at).build()
    builder = x509.CertificateRevocationListBuilder(
        x509.Name(parts), at, at + timedelta(days=30), list(genuine.extensions), [entry]
    )
    signed = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return json.dumps({**members, "pck_crl": signed.public_bytes(Encoding.DER).hex()}).encode()


def bound_by(machine: SimulatedPlatform) -> BoundQuote:
    """Return a machine's quote with the expected report data."""
    code: Measurements = measurements_of("backend")
    binding = Binding(report_data=bytes(range(64)), holder=HOLDER, receiver_public_key=b"\x07" * 32)
    quote = machine.mint_quote(code, bytes(range(64)))
    return bind_quote(quote, binding, event_log=None, accepted=DEFAULT_KEY_PROVIDERS)


async def examined(
    machine: SimulatedPlatform, *documents: bytes, root: TrustRoot, now: float
) -> tuple[Evidence, Collateral]:
    """Examine a machine's quote with stored documents in either order; the verdict is the same."""
    verdicts: list[tuple[Evidence, Collateral] | AttestationError] = []
    for order in (documents, documents[::-1]):
        try:
            verdicts.append(
                await examine_with(bound_by(machine), HeldCollateral(order), root=root, now=now)
            )
        except AttestationError as error:
            verdicts.append(error)
    first, second = verdicts
    if isinstance(first, AttestationError):
        assert type(first) is type(second)
        raise first
    assert not isinstance(second, AttestationError) and first[0] == second[0]
    return first


async def test_AT19_a_list_of_another_family_revokes(
    machine: SimulatedPlatform, neighbour: SimulatedPlatform, root: TrustRoot, now: float
) -> None:
    """AT19: a newer list that came with another family revokes a machine."""
    own = published(machine, now, age_s=2 * HOUR_S)
    assert (await examined(machine, own, root=root, now=now))[0].tcb_status == "UpToDate"
    other = published(neighbour, now, lists_of=machine, revoked=("pck",))
    with pytest.raises(QuoteRefused, match=r"^revoked$"):
        await examined(machine, own, other, root=root, now=now)
    # The machine of the other family is not named by that list.
    assert (await examined(neighbour, own, other, root=root, now=now))[0].tcb_status == "UpToDate"


async def test_AT19_an_older_list_of_another_family_changes_nothing(
    machine: SimulatedPlatform,
    neighbour: SimulatedPlatform,
    third: SimulatedPlatform,
    root: TrustRoot,
    now: float,
) -> None:
    """AT19: an older list that arrives later with another family does not undo a revocation."""
    own = published(machine, now, age_s=2 * HOUR_S)
    newest = published(neighbour, now, lists_of=machine, revoked=("pck",))
    older = published(third, now, lists_age_s=3 * HOUR_S)
    with pytest.raises(QuoteRefused, match=r"^revoked$"):
        await examined(machine, own, newest, older, root=root, now=now)
    revoking = published(third, now, lists_age_s=3 * HOUR_S, lists_of=machine, revoked=("pck",))
    evidence, used = await examined(machine, own, revoking, root=root, now=now)
    assert evidence.tcb_status == "UpToDate"
    assert used.raw == own
    assert used.sha256 == evidence.collateral_sha256


@pytest.mark.parametrize("role", ["platform-ca", "tcb-signing"])
async def test_AT19_a_root_list_of_another_family_revokes(
    machine: SimulatedPlatform, neighbour: SimulatedPlatform, root: TrustRoot, now: float, role: str
) -> None:
    """AT19: the newest root list applies too: an authority or signer that it revokes is refused."""
    own = published(machine, now, age_s=2 * HOUR_S)
    other = published(neighbour, now, revoked=(role,))
    with pytest.raises(QuoteRefused, match=r"^revoked$"):
        await examined(machine, own, other, root=root, now=now)


async def test_AT19_the_newest_list_decides(
    machine: SimulatedPlatform, neighbour: SimulatedPlatform, root: TrustRoot, now: float
) -> None:
    """AT19: if the newest list no longer revokes a machine, an older list has no effect."""
    own = published(machine, now, age_s=2 * HOUR_S, revoked=("pck",))
    with pytest.raises(QuoteRefused, match=r"^revoked$"):
        await examined(machine, own, root=root, now=now)
    other = published(neighbour, now)
    evidence, used = await examined(machine, own, other, root=root, now=now)
    assert evidence.collateral_sha256 == used.sha256
    mine, theirs, copy = (json.loads(one) for one in (own, other, used.raw))
    lists = {name: theirs[name] for name in ("root_ca_crl", "pck_crl")}
    assert evidence.tcb_status == "UpToDate"
    assert copy == mine | lists


async def test_AT19_a_document_that_is_not_used_may_have_the_newest_list(
    machine: SimulatedPlatform, root: TrustRoot, now: float
) -> None:
    """AT19: the newer list in an older edition of the same family applies."""
    own = published(machine, now, age_s=2 * HOUR_S, number=21)
    older_edition = published(machine, now, number=20, revoked=("pck",))
    with pytest.raises(QuoteRefused, match=r"^revoked$"):
        await examined(machine, own, older_edition, root=root, now=now)


async def test_AT17_the_newest_list_has_ended(
    machine: SimulatedPlatform, neighbour: SimulatedPlatform, root: TrustRoot, now: float
) -> None:
    """AT17, AT19: an expired newest list is replaced by a newer one only, not by an older one."""
    own = published(machine, now, age_s=2 * HOUR_S)
    ended = published(neighbour, now, lists_age_s=HOUR_S, lists_last_s=HOUR_S // 2)
    with pytest.raises(CollateralUnusable, match=r"^collateral-window$") as refused:
        await examined(machine, own, ended, root=root, now=now)
    assert refused.value.detail == "root CRL has expired"
    own = published(machine, now, lists_age_s=2 * HOUR_S, lists_last_s=HOUR_S)
    with pytest.raises(CollateralUnusable, match=r"^collateral-window$"):
        await examined(machine, own, root=root, now=now)
    fresh = published(neighbour, now)
    assert (await examined(machine, own, fresh, root=root, now=now))[0].tcb_status == "UpToDate"


@pytest.mark.parametrize("revoked", [("pck",), ("platform-ca",)], ids=["PCK list", "root list"])
async def test_AT60_two_lists_of_one_time(
    machine: SimulatedPlatform,
    neighbour: SimulatedPlatform,
    third: SimulatedPlatform,
    root: TrustRoot,
    now: float,
    revoked: tuple[str, ...],
) -> None:
    """AT60: while two different lists have the same time, no quote is judged."""
    own = published(machine, now)
    other = published(neighbour, now, lists_of=third, revoked=revoked)
    with pytest.raises(CollateralUnusable, match=r"^collateral-mismatch$") as refused:
        await examined(machine, own, other, root=root, now=now)
    assert refused.value.detail == (
        "two revocation lists have the same issuer and date, but different contents"
    )
    newer = published(third, now, lists_age_s=60)
    assert (await examined(machine, own, other, newer, root=root, now=now))[
        0
    ].tcb_status == "UpToDate"


async def test_AT60_one_list_that_was_signed_twice(
    machine: SimulatedPlatform, neighbour: SimulatedPlatform, root: TrustRoot, now: float
) -> None:
    """AT60: lists that differ only in their signatures count as one list."""
    own = parse_collateral(published(machine, now))
    twin = json.loads(published(neighbour, now))
    list_of = x509.load_der_x509_crl(own.pck_crl.der)
    builder = x509.CertificateRevocationListBuilder(
        list_of.issuer, list_of.last_update_utc, list_of.next_update_utc, list(list_of.extensions)
    )
    twin["pck_crl"] = (
        builder.sign(machine._pki.keys["platform-ca"], hashes.SHA256())
        .public_bytes(Encoding.DER)
        .hex()
    )
    assert twin["pck_crl"] != own.pck_crl.der.hex()
    for documents in ([own.raw, json.dumps(twin).encode()], [json.dumps(twin).encode(), own.raw]):
        evidence, _ = await examine_with(
            bound_by(machine), HeldCollateral(documents), root=root, now=now
        )
        assert evidence.tcb_status == "UpToDate"


@pytest.mark.parametrize("kind", ["PCK Platform CA", "PCK Processor CA"])
async def test_AT60_a_list_by_another_key_has_no_effect(
    machine: SimulatedPlatform, neighbour: SimulatedPlatform, root: TrustRoot, now: float, kind: str
) -> None:
    """AT60: a list counts only if the right authority's key signed it; the name is not enough."""
    own = published(machine, now)
    name = "sealspace simulated SGX " + kind
    forged = by_another_key(published(neighbour, now), now, revoking=machine, name=name)
    evidence, used = await examined(machine, own, forged, root=root, now=now)
    assert evidence.tcb_status == "UpToDate"
    assert used.raw == own


async def test_AT60_a_document_with_a_forged_list(
    machine: SimulatedPlatform, neighbour: SimulatedPlatform, root: TrustRoot, now: float
) -> None:
    """AT60, AT55: a family whose own list is forged is judged by the genuine list of another
    family."""
    name = "sealspace simulated SGX PCK Platform CA"
    forged = by_another_key(published(machine, now), now, revoking=neighbour, name=name)
    with pytest.raises(CollateralUnusable, match=r"^collateral-mismatch$"):
        await examined(machine, forged, root=root, now=now)
    genuine = published(neighbour, now)
    assert (await examined(machine, forged, genuine, root=root, now=now))[
        0
    ].tcb_status == "UpToDate"
    revoking = published(neighbour, now, lists_of=machine, revoked=("pck",))
    with pytest.raises(QuoteRefused, match=r"^revoked$"):
        await examined(machine, forged, revoking, root=root, now=now)


async def test_AT60_lists_of_another_root(
    machine: SimulatedPlatform, neighbour: SimulatedPlatform, root: TrustRoot, now: float
) -> None:
    """AT60: lists under another root have no effect."""
    foreign = SimulatedPlatform.from_seed(b"the platform of another root", fmspc=b"other!")
    own = published(machine, now)
    other = published(foreign, now, lists_age_s=60, revoked=("platform-ca",))
    assert (await examined(machine, own, other, root=root, now=now))[1].raw == own


async def test_a_collateral_that_is_alone(
    machine: SimulatedPlatform, root: TrustRoot, now: float
) -> None:
    """Collateral without other documents is used unchanged."""

    class Service:
        async def collateral(self, fmspc: bytes, ca: str) -> Collateral:
            return parse_collateral(published(machine, now))

    evidence, used = await examine_with(bound_by(machine), Service(), root=root, now=now)
    assert evidence.tcb_status == "UpToDate"
    assert used.raw == published(machine, now)
