"""Many sign-ins, evidence or values neither hide valid ones nor cause unbounded work."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from attacks.held_store import HeldStage
from attacks.parties import DECRYPT, PUT, Delegate, ids, opens, policy_for, refused
from patience import AT_ONCE_S
from running_node import key_token

from capabilities.principals import parse_principal
from encryption_network.envelope import encode_envelope
from encryption_network.policy import ReceiverMode
from spaces.documents.evidence import evidence_range

LARGE_BYTES = 17 << 20


async def test_many_sign_ins_of_one_key_hide_none(held: HeldStage) -> None:
    """A key with one valid sign-in among a hundred ended ones is in person (IP2)."""
    owner, key = await held.owner(), Delegate()
    sign_ins = [await held.register(owner.sign_in(key.did_url)) for _ in range(100)]
    for sign_in in sign_ins[1:]:
        await owner.client.delegations.revoke_by_wallet(ids(sign_in)[0], owner.wallet)
    spare = await held.register(owner.grant_decrypt(key.did_url))
    assert opens(await held.ask(key, owner, proofs=[spare]), key, owner)
    await owner.client.delegations.revoke_by_wallet(ids(sign_ins[0])[0], owner.wallet)
    assert (await held.ask(key, owner, proofs=[spare])).said == refused("no_policy")


async def test_evidence_that_has_ended_does_not_pile_up(held: HeldStage) -> None:
    """Valid evidence is found among much that has ended (AT24)."""
    owner, backend = await held.owner(), Delegate()
    policy = policy_for("approved", receiver="signed")
    backend.proofs = [
        await held.register(owner.grant_decrypt(backend.did, policy=policy, ttl_s=6 * 86_400))
    ]
    for _ in range(30):
        await _attest_anew(held, backend, owner.network, "attested")
    await _attest_anew(held, backend, owner.network, "signed")
    assert opens(await held.ask(backend, owner), backend, owner)
    held.clock.advance(3600)
    await _attest_anew(held, backend, owner.network, "signed", ahead_s=3600)
    rows = (
        (await held.store.read(ranges=(evidence_range(parse_principal(backend.did), limit=64),)))
        .pages[0]
        .rows
    )
    assert len(rows) == 1


async def _attest_anew(
    held: HeldStage, backend: Delegate, network: str, mode: ReceiverMode, *, ahead_s: float = 0
) -> None:
    """Attest with a new receiver key."""
    fresh = Delegate(backend.signer, backend.proofs)
    nonce = await held.nonce(fresh.did)
    quote = held.quote(fresh.did, fresh.receiver.public_key, nonce, mode=mode)
    reply = await held.submit_quote(
        fresh, network, nonce=nonce, quote=quote, mode=mode, ttl_s=60 + ahead_s
    )
    assert reply.status == 200, reply.said


async def test_large_values_at_a_policy_s_paths_are_not_read(held: HeldStage) -> None:
    """Large values at a policy's paths are not read (RL12)."""
    owner, helper = await held.owner(), Delegate()
    key, large = owner.session, f"{owner.space()}/kv/large"
    envelope = encode_envelope(owner.envelope)

    async def padded() -> AsyncIterator[bytes]:
        yield envelope[:-1] + b',"aad":"'
        for _ in range(LARGE_BYTES >> 20):
            yield b"A" * (1 << 20)
        yield b'"}'

    reply = await held.invoke(key.signer, {large: [PUT]}, proofs=key.proofs, body=padded())
    assert reply.status == 200, reply.said
    for paths, is_open in (((large, owner.secret), True), ((large,), False)):
        policy = policy_for("approved", paths=paths)
        helper.proofs = [
            await held.register(key.grant(helper.did, {owner.network: [DECRYPT]}, policy=policy))
        ]
        await held.attest(helper, owner.network)
        reply = await held.ask(helper, owner)
        assert opens(reply, helper, owner) if is_open else reply.said == refused("path")


async def test_a_body_is_not_waited_for_without_authority(held: HeldStage) -> None:
    """The node refuses a request without authority before the request's body arrives."""
    outsider, owner = Delegate(), await held.owner()
    token = key_token(outsider.signer, outsider.did, {f"{owner.space()}/kv/a": [PUT]})
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(held.url).port)
    try:
        writer.write(f"POST /invoke HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n".encode())
        writer.write(b"Content-Length: 900000000\r\n\r\n")
        assert (await asyncio.wait_for(reader.readline(), AT_ONCE_S)).startswith(b"HTTP/1.1 401 ")
    finally:
        writer.close()
