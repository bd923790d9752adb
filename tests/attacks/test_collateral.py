"""Collateral by whoever speaks in a mirror's place: revocation lists that the PCK authority never signed."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from attacks.held_store import HeldStage
from attacks.parties import Delegate, opens, policy_for
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.name import _ASN1Type
from deviating_platform import SimulatedPlatform

from node.collateral.intake import import_collateral
from node.errors import CollateralRefused
from spaces.documents.collateral import collateral_row_key

FAMILY = b"family"


def without_authority(document: bytes) -> bytes:
    """The same document as careless mirrors write it: with the TCB signer in place of the PCK authority."""
    members = json.loads(document)
    return json.dumps({**members, "pck_crl_issuer_chain": members["tcb_info_issuer_chain"]}).encode()


def respelled(name: x509.Name) -> x509.Name:
    """The same name in another encoding of its texts."""
    return x509.Name([x509.NameAttribute(one.oid, one.value, _ASN1Type.PrintableString) for one in name])


def with_forged_list(document: bytes, *, now: float, is_respelled: bool = False) -> bytes:
    """The same with a PCK list of right now, in the authority's name, by a key of the attacker's."""
    members = json.loads(document)
    genuine = x509.load_der_x509_crl(bytes.fromhex(members["pck_crl"])).issuer
    issuer, at = respelled(genuine) if is_respelled else genuine, datetime.fromtimestamp(int(now), UTC)
    assert (issuer.public_bytes() == genuine.public_bytes()) is not is_respelled
    builder = x509.CertificateRevocationListBuilder(issuer, at, at + timedelta(days=30))
    forged = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return json.dumps({**members, "pck_crl": forged.public_bytes(Encoding.DER).hex()}).encode()


async def bring(held: HeldStage, document: bytes) -> None:
    """Have a document taken in, as an import or a fetch does."""
    services = held.services
    await import_collateral(services.store, document, root=services.trust_root, clock=held.clock, source="a.json")


async def kept(held: HeldStage, platform: SimulatedPlatform) -> bytes | None:
    """What the node holds for a platform."""
    (row,) = (await held.store.read((collateral_row_key(platform.fmspc, "platform"),))).records
    return None if row is None else row.value


@pytest.mark.parametrize("is_respelled", [False, True], ids=["its name", "its name in another encoding"])
async def test_a_forged_list_does_not_replace_the_authority_s_own(held: HeldStage, is_respelled: bool) -> None:
    """A document leaves the PCK authority out, so that nobody sees that its list is forged: backends go on (AT55)."""
    genuine = held.platform.collateral_json(held.clock.now())
    await bring(held, genuine)
    forged = with_forged_list(genuine, now=held.clock.now(), is_respelled=is_respelled)
    for document in (without_authority(forged), forged):
        with pytest.raises(CollateralRefused, match="signature"):
            await bring(held, document)
    assert await kept(held, held.platform) == genuine
    owner, delegate = await held.owner(), Delegate()
    delegate.proofs = [await held.register(owner.grant_decrypt(delegate.did, policy=policy_for("approved")))]
    await held.attest(delegate, owner.network)
    assert opens(await held.ask(delegate, owner), delegate, owner)
    careless = without_authority(genuine)
    await bring(held, careless)  # the genuine list needs no authority beside it
    assert await kept(held, held.platform) == careless


@pytest.mark.parametrize("is_respelled", [False, True], ids=["its name", "its name in another encoding"])
async def test_a_forged_list_gives_way_to_a_genuine_one(held: HeldStage, is_respelled: bool) -> None:
    """A forged list of this moment was kept first: a document with the authority replaces it all the same (AT55)."""
    machine = held.platform.another_machine(b"of another family", fmspc=FAMILY)
    genuine = machine.collateral_json(held.clock.now())
    forged = without_authority(with_forged_list(genuine, now=held.clock.now(), is_respelled=is_respelled))
    await bring(held, forged)
    assert await kept(held, machine) == forged
    await bring(held, genuine)
    assert await kept(held, machine) == genuine


async def test_an_older_list_by_the_authority_is_still_older(held: HeldStage) -> None:
    """A document with the authority does not take a genuine list back in time that came without it (AT19, AT55)."""
    machine = held.platform.another_machine(b"of another family", fmspc=FAMILY)
    now = held.clock.now()
    newer = without_authority(machine.collateral_json(now))
    await bring(held, newer)
    members = json.loads(newer)
    older = json.loads(machine.collateral_json(now - 60))
    mixed = {**members, "pck_crl": older["pck_crl"], "pck_crl_issuer_chain": older["pck_crl_issuer_chain"]}
    with pytest.raises(CollateralRefused, match="older than the one held"):
        await bring(held, json.dumps(mixed).encode())
    assert await kept(held, machine) == newer
