"""Collateral from an untrusted mirror, with forged or older revocation lists."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from attacks.held_store import HeldStage
from attacks.parties import Delegate, Owner, opens, policy_for
from attacks.test_receipts import kept as kept_release
from attacks.test_receipts import reader
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.name import _ASN1Type
from deviating_platform import CollateralOptions, SimulatedPlatform
from running_node import Reply

from node.collateral.intake import import_collateral
from sealspace.service.command_errors import CollateralRefused
from spaces.keyspace import collateral_key
from spaces.store.contract import Commit, Put, Refused

FAMILY = b"family"


def without_authority(document: bytes) -> bytes:
    """Return the document with the TCB signer in place of the PCK authority."""
    members = json.loads(document)
    return json.dumps(
        {**members, "pck_crl_issuer_chain": members["tcb_info_issuer_chain"]}
    ).encode()


def respelled(name: x509.Name) -> x509.Name:
    """Return a name with its texts in another encoding."""
    return x509.Name(
        [x509.NameAttribute(one.oid, one.value, _ASN1Type.PrintableString) for one in name]
    )


def with_forged_list(document: bytes, *, now: float, is_respelled: bool = False) -> bytes:
    """Return the document with a newer PCK list that an attacker's key signed."""
    members = json.loads(document)
    genuine = x509.load_der_x509_crl(bytes.fromhex(members["pck_crl"])).issuer
    issuer, at = (
        respelled(genuine) if is_respelled else genuine,
        datetime.fromtimestamp(int(now), UTC),
    )
    assert (issuer.public_bytes() == genuine.public_bytes()) is not is_respelled
    builder = x509.CertificateRevocationListBuilder(issuer, at, at + timedelta(days=30))
    forged = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return json.dumps({**members, "pck_crl": forged.public_bytes(Encoding.DER).hex()}).encode()


async def bring(held: HeldStage, document: bytes) -> None:
    """Import a document, as a command or a fetch does."""
    services = held.services
    await import_collateral(
        services.store, document, root=services.trust_root, clock=held.clock, source="a.json"
    )


async def stored(held: HeldStage, document: bytes) -> None:
    """Store a document whose root list revokes a signer, which an import would refuse."""
    fmspc = bytes.fromhex(json.loads(json.loads(document)["tcb_info"])["fmspc"])
    put = Put(collateral_key(fmspc, "platform"), document)
    assert not isinstance(await held.store.commit(Commit(puts=(put,))), Refused)


async def kept(held: HeldStage, platform: SimulatedPlatform) -> bytes | None:
    """Return the collateral that the node has for a platform."""
    (row,) = (await held.store.read((collateral_key(platform.fmspc, "platform"),))).records
    return None if row is None else row.value


@pytest.mark.parametrize(
    "is_respelled", [False, True], ids=["its name", "its name in another encoding"]
)
async def test_a_forged_list_does_not_replace_the_authority_s_own(
    held: HeldStage, is_respelled: bool
) -> None:
    """A forged list in a document without the PCK authority is not used (AT55)."""
    genuine = held.platform.collateral_json(held.clock.now())
    await bring(held, genuine)
    forged = with_forged_list(genuine, now=held.clock.now(), is_respelled=is_respelled)
    for document in (without_authority(forged), forged):
        with pytest.raises(CollateralRefused, match="signature"):
            await bring(held, document)
    assert await kept(held, held.platform) == genuine
    owner, delegate = await held.owner(), Delegate()
    delegate.proofs = [
        await held.register(owner.grant_decrypt(delegate.did, policy=policy_for("approved")))
    ]
    await held.attest(delegate, owner.network)
    assert opens(await held.ask(delegate, owner), delegate, owner)
    careless = without_authority(genuine)
    await bring(held, careless)  # the genuine list needs no authority beside it
    assert await kept(held, held.platform) == careless


@pytest.mark.parametrize(
    "is_respelled", [False, True], ids=["its name", "its name in another encoding"]
)
async def test_a_forged_list_gives_way_to_a_genuine_one(
    held: HeldStage, is_respelled: bool
) -> None:
    """A document with the authority replaces a forged list of the same time (AT55)."""
    machine = held.platform.another_machine(b"of another family", fmspc=FAMILY)
    genuine = machine.collateral_json(held.clock.now())
    forged = without_authority(
        with_forged_list(genuine, now=held.clock.now(), is_respelled=is_respelled)
    )
    await bring(held, forged)
    assert await kept(held, machine) == forged
    await bring(held, genuine)
    assert await kept(held, machine) == genuine


async def test_an_older_list_by_the_authority_is_still_older(held: HeldStage) -> None:
    """An older list does not replace a newer genuine one (AT19, AT55)."""
    machine = held.platform.another_machine(b"of another family", fmspc=FAMILY)
    now = held.clock.now()
    newer = without_authority(machine.collateral_json(now))
    await bring(held, newer)
    members = json.loads(newer)
    older = json.loads(machine.collateral_json(now - 60))
    mixed = {
        **members,
        "pck_crl": older["pck_crl"],
        "pck_crl_issuer_chain": older["pck_crl_issuer_chain"],
    }
    with pytest.raises(CollateralRefused, match="older than the stored one"):
        await bring(held, json.dumps(mixed).encode())
    assert await kept(held, machine) == newer


# --- lists of one authority that come with several families (AT19) --------------------------------


def listing(
    machine: SimulatedPlatform,
    now: float,
    *,
    age_s: int,
    revoked: SimulatedPlatform | None = None,
    role: str = "pck",
) -> bytes:
    """A family's document of an hour ago whose lists have another age, and may revoke a certificate
    of any machine."""
    options = CollateralOptions(issued_before_s=age_s, revoked=() if revoked is None else (role,))
    members = json.loads((revoked or machine).collateral_json(now, options=options))
    taken = {name: members[name] for name in ("root_ca_crl", "pck_crl", "pck_crl_issuer_chain")}
    return json.dumps(json.loads(machine.collateral_json(now)) | taken).encode()


async def attesting(
    held: HeldStage, owner: Owner, delegate: Delegate, machine: SimulatedPlatform
) -> Reply:
    """Attest a program on a machine."""
    stage = replace(held, platform=machine)
    nonce = await stage.nonce(delegate.did)
    quote = stage.quote(delegate.did, delegate.receiver.public_key, nonce)
    return await stage.submit_quote(delegate, owner.network, nonce=nonce, quote=quote)


async def admitted(held: HeldStage) -> tuple[Owner, Delegate]:
    """Return an owner, and a delegate whose program may have the key once it attests."""
    owner, delegate = await held.owner(), Delegate()
    delegate.proofs = [
        await held.register(owner.grant_decrypt(delegate.did, policy=policy_for("approved")))
    ]
    return owner, delegate


@pytest.mark.parametrize("role", ["pck", "platform-ca", "tcb-signing"])
async def test_AT19_a_revoked_machine_hides_behind_no_older_list(
    held: HeldStage, role: str
) -> None:
    """AT19: a newer list stored with another family revokes a machine."""
    owner, delegate = await admitted(held)
    assert (await attesting(held, owner, delegate, held.platform)).status == 200
    now = held.clock.now()
    other = held.platform.another_machine(b"of another family", fmspc=FAMILY)
    # Intel revokes the machine; the service brings the list with the other family first.
    await bring(held, listing(other, now, age_s=60))
    assert (await attesting(held, owner, delegate, held.platform)).status == 200
    third = held.platform.another_machine(b"of a third family", fmspc=b"third.")
    await (bring if role == "pck" else stored)(
        held, listing(third, now, age_s=30, revoked=held.platform, role=role)
    )
    refused = await attesting(held, owner, delegate, held.platform)
    assert (refused.status, refused.value["code"]) == (403, "revoked")
    # documents are kept as they came
    assert await kept(held, held.platform) != await kept(held, third)
    # An older list, handed in later with a family that was unknown so far, does not bring the
    # machine back.
    fourth = held.platform.another_machine(b"of a fourth family", fmspc=b"fourth")
    await bring(held, listing(fourth, now, age_s=7200))
    assert (await attesting(held, owner, delegate, held.platform)).value["code"] == "revoked"


async def test_AT19_the_list_of_the_first_family_judges_the_second(held: HeldStage) -> None:
    """AT19: a new family's older list does not replace a newer one."""
    owner, delegate = await admitted(held)
    now = held.clock.now()
    other = held.platform.another_machine(b"of another family", fmspc=FAMILY)
    await bring(held, listing(held.platform, now, age_s=60, revoked=other))
    await bring(held, listing(other, now, age_s=7200))
    refused = await attesting(held, owner, delegate, other)
    assert (refused.status, refused.value["code"]) == (403, "revoked")
    assert (await attesting(held, owner, delegate, held.platform)).status == 200


async def test_AT60_a_forged_list_of_another_family_has_no_effect(held: HeldStage) -> None:
    """AT60: a forged list in a document without the authority judges no quote."""
    owner, delegate = await admitted(held)
    other = held.platform.another_machine(b"of another family", fmspc=FAMILY)
    forged = with_forged_list(other.collateral_json(held.clock.now()), now=held.clock.now())
    await bring(held, without_authority(forged))
    assert (await attesting(held, owner, delegate, held.platform)).status == 200


async def test_AT60_two_lists_of_one_time_stop_sessions(held: HeldStage) -> None:
    """AT60: two different lists of one time refuse all quotes until a newer list."""
    owner, delegate = await admitted(held)
    now = held.clock.now()
    other = held.platform.another_machine(b"of another family", fmspc=FAMILY)
    await bring(held, listing(held.platform, now, age_s=60, revoked=held.platform))
    await bring(held, listing(other, now, age_s=60))
    refused = await attesting(held, owner, delegate, held.platform)
    assert (refused.status, refused.value["code"]) == (503, "collateral-mismatch")
    await bring(held, listing(other, now, age_s=30))
    assert (await attesting(held, owner, delegate, held.platform)).status == 200


async def test_AT19_the_receipt_names_the_lists_that_were_used(held: HeldStage) -> None:
    """AT19: a receipt names the lists that judged the quote."""
    owner, delegate = await admitted(held)
    await reader(held, owner)
    other = held.platform.another_machine(b"of another family", fmspc=FAMILY)
    newest = listing(other, held.clock.now(), age_s=60)
    await bring(held, newest)
    assert (await attesting(held, owner, delegate, held.platform)).status == 200
    assert opens(await held.ask(delegate, owner), delegate, owner)
    release = await kept_release(held, owner)
    release.verify()
    judged = release.receipt.evidence
    assert judged is not None
    shown = json.loads(release.documents[judged.collateral])
    own = json.loads(await kept(held, held.platform) or b"")
    assert shown == own | {name: json.loads(newest)[name] for name in ("root_ca_crl", "pck_crl")}
