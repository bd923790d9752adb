"""Tokens stored before an update, in texts that are refused now, block no later action."""

import base64
from collections.abc import Callable
from dataclasses import replace

import libipld
import pytest
from attacks.held_store import HeldStage
from attacks.parties import GET, READ_CAPABILITIES, Delegate, Owner
from msgspec.structs import replace as replace_fields
from running_node import Grants, wallet_token

from capabilities import cacao
from capabilities.cacao import encode_cacao, header_bytes, header_text, parse_cacao, sign_cacao
from capabilities.chain import Ancestor, Registered
from capabilities.cids import cid_text, digest_of
from capabilities.signatures import WalletSigner
from capabilities.tokens import Delegation, parse_delegation, verify_delegation
from sealspace.wallets import new_wallet
from spaces.grants.delegations import registration_puts
from spaces.keyspace import delegations_counter, x16
from spaces.store.contract import Add, Commit, Committed

Former = Callable[[WalletSigner, str, Grants], Delegation]


def respelt(wallet: WalletSigner, audience: str, grants: Grants) -> Delegation:
    """Return base64 with padding before its end (E3)."""
    token = wallet_token(wallet, audience, grants)
    data = base64.urlsafe_b64decode(token)
    text = base64.urlsafe_b64encode(data[:100]) + base64.urlsafe_b64encode(data[100:])
    assert text.decode() != token
    return replace_fields(verify_delegation(parse_delegation(token)), header=text.decode())


def of_many_resources(wallet: WalletSigner, audience: str, grants: Grants) -> Delegation:
    """Return a payload with more resources than the current limit (C11)."""
    message = parse_cacao(base64.urlsafe_b64decode(wallet_token(wallet, audience, grants))).message
    others = tuple([f"urn:other:{number}" for number in range(cacao.MAX_RESOURCES)])
    longer = replace(message, resources=(*others, *message.resources))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cacao, "MAX_RESOURCES", 1 << 20)
        return verify_delegation(
            parse_delegation(header_text(encode_cacao(sign_cacao(longer, wallet))))
        )


def with_a_link(wallet: WalletSigner, audience: str, grants: Grants) -> Delegation:
    """Return a signature that parses as a CID and so was encoded as a link (C2)."""
    while True:
        token = wallet_token(wallet, audience, grants)
        data = header_bytes(token)
        written = libipld.encode_dag_cbor(libipld.decode_dag_cbor(data))
        if written != data:
            # Only this one is verified: hundreds are signed until a signature parses as a CID.
            delegation = verify_delegation(parse_delegation(token))
            return replace_fields(delegation, header=header_text(written), cid=digest_of(written))


FORMER = [respelt, of_many_resources, with_a_link]


async def register_formerly(held: HeldStage, delegation: Delegation) -> None:
    """Store a delegation in a text that an earlier version accepted."""
    own = Ancestor(delegation.content_key, delegation.cid)
    whole = Registered(
        delegation,
        (own,),
        delegation.not_before,
        delegation.expires_at,
        (),
        registered_at=held.clock.now(),
        accounts=(delegation.delegator,),
    )
    puts = registration_puts(whole)
    counted = Add(delegations_counter(x16(delegation.delegator)), 1, at_most=None)
    assert isinstance(await held.store.commit(Commit(puts=tuple(puts), adds=(counted,))), Committed)


async def received(owner: Owner) -> set[str]:
    """Return the ids of the delegations that the owner received."""
    return {record.cid async for record in owner.client.delegations.query(direction="received")}


@pytest.mark.parametrize("former", FORMER)
async def test_an_outsider_s_text_bars_no_list(held: HeldStage, former: Former) -> None:
    """An outsider's grant in a refused text is listed as any other (D13)."""
    owner, outsider = await held.owner(), new_wallet()
    space = f"tinycloud:{outsider.did.removeprefix('did:')}:default"
    before = await received(owner)
    given = former(outsider, owner.wallet.did, {f"{space}/kv/a": [GET]})
    await register_formerly(held, given)
    assert await received(owner) - before == {cid_text(given.cid)}


@pytest.mark.parametrize("former", FORMER)
async def test_a_former_grant_is_used_and_revoked(held: HeldStage, former: Former) -> None:
    """A stored grant in a refused text can be used and revoked (D13)."""
    owner, friend = await held.owner(), Delegate()
    await owner.client.kv().put("a", b"value")
    grant = former(owner.wallet, friend.did, {f"{owner.space()}/kv/a": [GET]})
    await register_formerly(held, grant)
    cid = cid_text(grant.cid)
    reads = {f"{owner.space()}/capabilities/all": [READ_CAPABILITIES]}
    listed = await held.invoke(owner.session.signer, reads, proofs=owner.session.proofs)
    assert listed.status == 200, listed.text
    assert cid in listed.text, listed.text
    get = {f"{owner.space()}/kv/a": [GET]}
    assert (await held.invoke(friend.signer, get, proofs=[cid])).said == (200, "value")
    await owner.client.delegations.revoke_by_wallet(cid, owner.wallet)
    assert (await held.invoke(friend.signer, get, proofs=[cid])).status == 401
