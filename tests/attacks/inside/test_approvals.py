"""Releases with ineffective approvals, and evidence that is hard to find."""

import asyncio
import time

import dag_cbor
import libipld
from attacks.inside_stage import inside
from attacks.parties import DECRYPT, Delegate, Owner, Stage, opens, policy_for, refused
from delegation_cache import clear_delegation_cache
from deviating_platform import CollateralOptions
from running_node import fresh_nonce, key_token, send, time_text

from capabilities.cacao import encode_cacao, header_bytes, header_text, sign_cacao
from capabilities.facts import ATTESTATION_FACT
from capabilities.principals import parse_principal
from capabilities.recap import Recap, attach
from capabilities.siwe import SiweMessage
from encryption_network.policy import Policy, decode_evidence, policy_json
from node.collateral.intake import import_collateral
from spaces.documents.evidence import evidence_row_key


async def sign_in_twice(stage: Stage, owner: Owner, session: Delegate) -> tuple[str, str]:
    """Return one sign-in of the owner's wallet in two spellings: with `v` of 27 or 28, and of 0 or
    1."""
    now = time.time()
    message = SiweMessage(
        domain="app.example",
        address=owner.wallet.address,
        chain_id=owner.wallet.chain_id,
        uri=session.did_url,
        nonce=fresh_nonce(),
        issued_at=time_text(now),
        expiration_time=time_text(now + 3600),
    )
    granted = {
        f"{owner.space()}/capabilities": ["tinycloud.capabilities/read"],
        owner.network: [DECRYPT],
    }
    recap = Recap(
        {resource: {one: ({},) for one in abilities} for resource, abilities in granted.items()}, ()
    )
    usual = header_text(encode_cacao(sign_cacao(attach(message, recap), owner.wallet)))
    parts = libipld.decode_dag_cbor(header_bytes(usual))
    signature = parts["s"]["s"]
    parts["s"]["s"] = signature[:64] + bytes([signature[64] - 27])
    return usual, header_text(dag_cbor.encode(parts))


async def test_an_approval_counts_whichever_spelling_of_the_sign_in_came_first(
    stage: Stage,
) -> None:
    """A session's approval counts even if another spelling of its sign-in was posted first."""
    owner, session, backend = await stage.owner(), Delegate(), Delegate()
    usual, other = await sign_in_twice(stage, owner, session)
    await stage.register(other)
    session.proofs = [await stage.register(usual)]
    grant = session.grant(backend.did, {owner.network: [DECRYPT]}, policy=policy_for("approved"))
    backend.proofs = [await stage.register(grant)]
    await stage.attest(backend, owner.network)
    assert opens(await stage.ask(backend, owner), backend, owner)


async def test_what_a_process_remembers_of_a_chain_decides_nothing(stage: Stage) -> None:
    """A chain is judged in the same way whether or not its delegations are cached (IP2)."""
    owner, share, backend, thief = await stage.owner(), Delegate(), Delegate(), Delegate()
    services = inside(stage).services
    session = owner.session
    bare = await stage.register(owner.grant_decrypt(session.did_url))
    share.proofs = [await stage.register(owner.grant_decrypt(share.did))]
    session_grant = session.grant(
        backend.did, {owner.network: [DECRYPT]}, policy=policy_for("approved")
    )
    backend.proofs = [await stage.register(session_grant)]
    await stage.attest(backend, owner.network)

    async def said(who: Delegate, proofs: list[str]) -> tuple[int, str]:
        reply = await stage.ask(who, owner, proofs=proofs)
        return (200, "") if reply.status == 200 and opens(reply, who, owner) else reply.said

    cases = [
        (session, session.proofs, (200, "")),
        (session, [bare], (200, "")),  # in person by the sign-in that it does not cite
        (backend, backend.proofs, (200, "")),
        (share, share.proofs, refused("no_policy")),
        (thief, [bare], (401, "Unauthorized Invoker")),
    ]
    for who, proofs, expected in cases:
        for forgets in (False, True):
            if forgets:
                clear_delegation_cache(services)
            assert await said(who, proofs) == expected


async def test_evidence_of_mode_signed_is_found_among_many(stage: Stage) -> None:
    """A backend of mode `signed` that attested many times is judged by its newest evidence."""
    owner, backend = await stage.owner(), Delegate()
    policy = policy_for("approved", receiver="signed")
    backend.proofs = [await stage.register(owner.grant_decrypt(backend.did, policy=policy))]
    for program in (*["other"] * 40, "approved"):
        attesting = Delegate(backend.signer, backend.proofs)
        if program == "approved":  # the last of the keys in the order of the store
            while attesting.receiver.public_key < b"\xc0":
                attesting = Delegate(backend.signer, backend.proofs)
        nonce = await stage.nonce(backend.did)
        quote = stage.quote(
            backend.did, attesting.receiver.public_key, nonce, program=program, mode="signed"
        )
        reply = await stage.submit_quote(
            attesting, owner.network, nonce=nonce, quote=quote, mode="signed"
        )
        assert reply.status == 200, reply.said
    assert opens(await stage.ask(backend, owner), backend, owner)


async def test_evidence_rests_on_the_collateral_that_is_held_when_it_is_kept(stage: Stage) -> None:
    """A quote that waits is judged by the newest collateral, even if it arrived during the wait."""
    owner, backend = await stage.owner(), Delegate()
    backend.proofs = [
        await stage.register(owner.grant_decrypt(backend.did, policy=policy_for("approved")))
    ]
    services = inside(stage).services
    now = time.time()
    async with services.quotes._turn:
        attesting = asyncio.create_task(stage.attest(backend, owner.network))
        while services.quotes._waiting == 0:
            assert (await send(stage.url, "GET", "/healthz")).status == 200
        newer = stage.platform.collateral_json(now, options=CollateralOptions(evaluation_number=21))
        await import_collateral(
            services.store, newer, root=services.trust_root, clock=services.clock, source="newer"
        )
    await attesting
    kept = evidence_row_key(parse_principal(backend.did), backend.receiver.public_key)
    record = (await services.store.read((kept,))).records[0]
    assert record is not None
    assert record.value is not None
    assert decode_evidence(record.value).evaluation_number == 21


async def test_a_policy_stated_twice_in_one_fact_refuses_the_delegation(stage: Stage) -> None:
    """A fact with two policies under one name refuses the delegation."""
    owner, backend = await stage.owner(), Delegate()
    strict, loose = (
        policy_json(one) for one in (policy_for("approved", in_person=False), Policy())
    )
    token = key_token(
        owner.session.signer,
        backend.did,
        {owner.network: [DECRYPT]},
        proofs=owner.session.proofs,
        facts=[{ATTESTATION_FACT: strict, "sealspace.attestation/v9": loose}],
        ttl_s=600,
    )
    head, payload, _ = token.split(".")
    text = libipld.decode_multibase("u" + payload)[1].replace(
        b"sealspace.attestation/v9", b"sealspace.attestation/v1"
    )
    signing = f"{head}.{libipld.encode_multibase('u', text)[1:]}"
    signature = libipld.encode_multibase("u", owner.session.signer.sign(signing.encode()))[1:]
    reply = await stage.post("/delegate", f"{signing}.{signature}")
    assert reply.status != 200, reply.said


async def test_an_outsider_stays_refused(stage: Stage) -> None:
    """As a control, an outsider without an approval is refused."""
    owner, backend = await stage.owner(), Delegate()
    backend.proofs = [await stage.register(owner.grant_decrypt(backend.did))]
    await stage.attest(backend, owner.network)
    assert (await stage.ask(backend, owner)).said == refused("no_policy")
