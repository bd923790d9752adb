"""Attempts to cheat in attestation by quotes, challenges, collateral or modes."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from attacks.parties import (
    ROUTES,
    Delegate,
    Owner,
    Stage,
    base64_of,
    ids,
    opens,
    policy_for,
    refused,
    stage_on,
)
from deviating_platform import DEBUG, DomainOptions, SimulatedPlatform
from running_node import Reply, running_node, send

from tee_backend.evidence.simulated import SEPT_VE_DISABLE, measurements_of

pytestmark = pytest.mark.slow


async def granted(stage: Stage) -> tuple[Owner, Delegate]:
    """An owner and a backend with a grant that approves code."""
    owner, delegate = await stage.owner(), Delegate()
    delegate.proofs = [
        await stage.register(owner.grant_decrypt(delegate.did, policy=policy_for("approved")))
    ]
    return owner, delegate


def code_of(reply: Reply) -> tuple[int, object]:
    """Status and stable code of a problem."""
    return reply.status, reply.value["code"]


async def test_a_quote_for_another_holder_is_refused(stage: Stage) -> None:
    """A quote whose report data name another DID is refused."""
    owner, delegate = await granted(stage)
    nonce = await stage.nonce(delegate.did)
    for holder in (Delegate().did, owner.wallet.did):
        quote = stage.quote(holder, delegate.receiver.public_key, nonce)
        reply = await stage.submit_quote(delegate, owner.network, nonce=nonce, quote=quote)
        assert reply.status == 403, reply.said
        nonce = await stage.nonce(delegate.did)
    assert (await stage.ask(delegate, owner)).said == refused("not_attested")


async def test_a_quote_for_another_receiver_key_is_refused(stage: Stage) -> None:
    """A quote with a swapped receiver key is refused."""
    owner, delegate = await granted(stage)
    nonce = await stage.nonce(delegate.did)
    quote = stage.quote(delegate.did, Delegate().receiver.public_key, nonce)
    assert (
        await stage.submit_quote(delegate, owner.network, nonce=nonce, quote=quote)
    ).status == 403


async def test_the_receiver_mode_is_part_of_the_quote(stage: Stage) -> None:
    """A quote of mode `attested` is refused under mode `signed`."""
    owner, delegate = await granted(stage)
    nonce = await stage.nonce(delegate.did)
    quote = stage.quote(delegate.did, delegate.receiver.public_key, nonce)
    assert (
        await stage.submit_quote(delegate, owner.network, nonce=nonce, quote=quote, mode="signed")
    ).status == 403


async def test_mode_signed_needs_every_policy_s_word(stage: Stage) -> None:
    """A policy without mode `signed` refuses evidence of mode `signed`."""
    owner, delegate = await granted(stage)
    nonce = await stage.nonce(delegate.did)
    quote = stage.quote(delegate.did, delegate.receiver.public_key, nonce, mode="signed")
    assert (
        await stage.submit_quote(delegate, owner.network, nonce=nonce, quote=quote, mode="signed")
    ).status == 200
    assert (await stage.ask(delegate, owner)).said == refused("receiver")


async def test_a_challenge_serves_once_anywhere(stage: Stage) -> None:
    """A nonce used a second time is refused at every worker and network."""
    owner, delegate = await granted(stage)
    nonce = await stage.nonce(delegate.did)
    quote = stage.quote(delegate.did, delegate.receiver.public_key, nonce)
    with stage.only(0):
        assert (
            await stage.submit_quote(delegate, owner.network, nonce=nonce, quote=quote)
        ).status == 200
        assert code_of(
            await stage.submit_quote(delegate, owner.network, nonce=nonce, quote=quote)
        ) == (
            409,
            "challenge-used",
        )
    with stage.only(1):
        reply = await stage.submit_quote(delegate, owner.network, nonce=nonce, quote=quote)
        assert code_of(reply) == (409, "challenge-used")


async def test_a_failed_quote_uses_the_challenge_up(stage: Stage) -> None:
    """A nonce sent with a bad quote is used up."""
    owner, delegate = await granted(stage)
    nonce = await stage.nonce(delegate.did)
    good = stage.quote(delegate.did, delegate.receiver.public_key, nonce)
    assert (
        await stage.submit_quote(delegate, owner.network, nonce=nonce, quote=good[:-1])
    ).status == 403
    assert code_of(await stage.submit_quote(delegate, owner.network, nonce=nonce, quote=good)) == (
        409,
        "challenge-used",
    )


async def test_a_challenge_belongs_to_who_asked(stage: Stage) -> None:
    """A nonce that was made for another DID is refused."""
    owner, delegate = await granted(stage)
    nonce = await stage.nonce(Delegate().did)
    quote = stage.quote(delegate.did, delegate.receiver.public_key, nonce)
    reply = await stage.submit_quote(delegate, owner.network, nonce=nonce, quote=quote)
    assert reply.status == 403, reply.said


async def test_a_challenge_cannot_be_made_up(stage: Stage) -> None:
    """A changed or invented nonce is refused."""
    owner, delegate = await granted(stage)
    nonce = await stage.nonce(delegate.did)
    later = (
        nonce[:16] + (int.from_bytes(nonce[16:20], "big") + 3600).to_bytes(4, "big") + nonce[20:]
    )
    for forged in (
        later,
        bytes([nonce[0] ^ 1]) + nonce[1:],
        nonce[:-1] + bytes([nonce[-1] ^ 1]),
        bytes(32),
        b"",
    ):
        quote = stage.quote(
            delegate.did, delegate.receiver.public_key, forged.ljust(32, b"\0")[:32]
        )
        reply = await stage.submit_quote(delegate, owner.network, nonce=forged, quote=quote)
        assert reply.status in (400, 403), reply.said


async def test_one_flipped_bit_anywhere_in_the_quote(stage: Stage) -> None:
    """A quote with any flipped bit is refused."""
    owner, delegate = await granted(stage)
    size_bytes = len(stage.quote(delegate.did, delegate.receiver.public_key, bytes(32)))
    # Header, SVN, measurements, attributes, report data, both signatures, quoting enclave,
    # certificates.
    places = (
        2,
        30,
        48 + 8,
        48 + 120,
        48 + 136,
        48 + 328,
        48 + 530,
        640,
        700,
        800,
        1100,
        1300,
        size_bytes - 400,
    )
    for place in places:
        nonce = await stage.nonce(delegate.did)
        quote = bytearray(stage.quote(delegate.did, delegate.receiver.public_key, nonce))
        quote[place] ^= 1
        reply = await stage.submit_quote(delegate, owner.network, nonce=nonce, quote=bytes(quote))
        assert reply.status in (403, 503), (place, reply.said)
    assert (await stage.ask(delegate, owner)).said == refused("not_attested")


async def test_a_debug_domain_opens_nothing(stage: Stage) -> None:
    """A quote of a debug trust domain is refused."""
    owner, delegate = await granted(stage)
    nonce = await stage.nonce(delegate.did)
    bound = stage.report_data(delegate.did, delegate.receiver.public_key, nonce)
    options = DomainOptions(td_attributes=SEPT_VE_DISABLE | DEBUG)
    quote = stage.platform.mint_quote(measurements_of("approved"), bound, options=options)
    await stage.submit_quote(delegate, owner.network, nonce=nonce, quote=quote)
    reply = await stage.ask(delegate, owner)
    assert reply.said in (refused("not_attested"), refused("attributes"))


async def test_collateral_of_the_caller_is_not_taken(stage: Stage) -> None:
    """Collateral that a caller sends with its quote is not used."""
    owner, delegate = await granted(stage)
    mine = SimulatedPlatform.from_seed(b"a platform of the attacker")
    nonce = await stage.nonce(delegate.did)
    bound = stage.report_data(delegate.did, delegate.receiver.public_key, nonce)
    quote = mine.mint_quote(measurements_of("approved"), bound)
    for member in ("collateral", "tcbInfo", "trustRoot"):
        reply = await stage.submit_quote(
            delegate, owner.network, nonce=nonce, quote=quote, more={member: "{}"}
        )
        assert code_of(reply) == (400, "request-malformed")
    assert (await stage.submit_quote(delegate, owner.network, nonce=nonce, quote=quote)).status in (
        403,
        503,
    )
    assert (await stage.ask(delegate, owner)).said == refused("not_attested")


async def test_a_session_s_token_is_bound_to_its_body(stage: Stage) -> None:
    """A token with an exchanged body, or sent for a key, is refused."""
    owner, delegate = await granted(stage)
    nonce = await stage.nonce(delegate.did)
    quote = stage.quote(delegate.did, delegate.receiver.public_key, nonce)
    token, body = stage.session_request(delegate, owner.network, nonce=nonce, quote=quote)
    other = body.replace(
        base64_of(delegate.receiver.public_key).encode(),
        base64_of(Delegate().receiver.public_key).encode(),
    )
    swapped = await send(stage.url, "POST", "/attestation/sessions", token=token, body=other)
    assert code_of(swapped) == (403, "session-not-bound")
    request = stage.decrypt(owner.session, owner)
    reply = await stage.send_decrypt(request, token=token)
    assert reply.said == (
        400,
        "decrypt request body is malformed: missing encryption invocation facts",
    )


async def test_an_outsider_s_quote_is_not_looked_at(stage: Stage) -> None:
    """A quote without a valid grant for this node is refused unread."""
    owner, delegate = await granted(stage)
    outsider = Delegate()
    nonce = await stage.nonce(outsider.did)
    quote = stage.quote(outsider.did, outsider.receiver.public_key, nonce)
    for proofs in ([], delegate.proofs):
        outsider.proofs = proofs
        assert (
            await stage.submit_quote(outsider, owner.network, nonce=nonce, quote=quote)
        ).status == 401
    await owner.client.delegations.revoke_by_wallet(ids(*delegate.proofs)[0], owner.wallet)
    nonce = await stage.nonce(delegate.did)
    quote = stage.quote(delegate.did, delegate.receiver.public_key, nonce)
    assert (
        await stage.submit_quote(delegate, owner.network, nonce=nonce, quote=quote)
    ).status == 401


async def test_mode_everyone_lets_nobody_in_in_person(
    folder: Path, platform: SimulatedPlatform
) -> None:
    """In mode `everyone` the owner's own session gets no key without evidence."""
    with running_node(folder, "--attestation", "everyone", platform=platform) as node:
        async with AsyncExitStack() as clients:
            stage = await stage_on(node.url, platform, clients)
            owner = await stage.owner()
            for route in ROUTES:
                assert (await stage.ask(owner.session, owner, route)).said == refused("mode", route)
            again = Delegate()
            again.proofs = [await stage.register(owner.sign_in(again.did_url))]
            assert (await stage.ask(again, owner)).said == refused("mode")
            delegate = Delegate()
            listed = owner.grant_decrypt(delegate.did, policy=policy_for("approved"))
            delegate.proofs = [await stage.register(listed)]
            await stage.attest(delegate, owner.network)
            assert opens(await stage.ask(delegate, owner), delegate, owner)
