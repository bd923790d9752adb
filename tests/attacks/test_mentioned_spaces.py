"""An owner can revoke each delegation that mentions its space, and the effect on sign-ins (W22)."""

import pytest
from attacks.parties import GET, PUT, Owner, Stage
from running_node import id_of, new_key, wallet_token

from sealspace.client import Client, SignIn
from sealspace.delegations import allow
from sealspace.errors import DelegationRevoked, NotGranted, Unauthorized
from sealspace.wallets import Wallet, new_wallet
from sealspace.wire.portable import PortableDelegation


class CountingWallet:
    """A wallet that counts its signatures."""

    def __init__(self) -> None:
        self._signer = new_wallet()
        self.address, self.chain_id, self.did = (
            self._signer.address,
            self._signer.chain_id,
            self._signer.did,
        )
        self.signatures = 0

    def sign_eip191(self, text: str) -> bytes:
        self.signatures += 1
        return self._signer.sign_eip191(text)


async def shared_with(other: Owner, wallet: Wallet) -> PortableDelegation:
    """Return another owner that grants reading and writing in its space to a wallet."""
    space = other.space("shared")
    return await other.client.delegations.delegate(
        wallet.did, [allow(f"{space}/kv", GET), allow(f"{space}/kv", PUT)]
    )


async def signed_in(
    stage: Stage, other: Owner, wallet: Wallet
) -> tuple[Client, PortableDelegation]:
    """Sign in for the wallet's own spaces and another owner's."""
    client, portable = await stage.client(), await shared_with(other, wallet)
    await client.sign_in(
        wallet, SignIn(spaces=("notes", other.space("shared")), received=(portable,))
    )
    await client.kv("notes").put("mine", b"1")
    await client.kv(other.space("shared")).put("theirs", b"2")
    return client, portable


async def test_the_other_owner_revokes_what_mentions_its_space(stage: Stage) -> None:
    """Another owner's revocations do not end the sign-in for own spaces."""
    other, wallet = await stage.owner("shared"), CountingWallet()
    client, _ = await signed_in(stage, other, wallet)
    own, handed_on = client.session.grants
    with pytest.raises(Unauthorized):
        await other.client.delegations.revoke_by_wallet(own.cid, other.wallet)
    await other.client.delegations.revoke_by_wallet(handed_on.cid, other.wallet)
    assert (await client.kv("notes").get("mine")).body == b"1"
    await client.secrets().put("API_KEY", "still written")
    with pytest.raises(DelegationRevoked):
        await client.kv(other.space("shared")).get("theirs")


async def test_the_message_of_the_sign_in_names_own_spaces_alone(stage: Stage) -> None:
    """A sign-in has one signature for own spaces and one for each received delegation."""
    other, wallet = await stage.owner("shared"), CountingWallet()
    client, portable = await signed_in(stage, other, wallet)
    first, second = client.session.grants
    assert wallet.signatures == 2
    assert "shared" not in " ".join(one.resource.text for one in first.capabilities)
    assert {one.resource.text for one in second.capabilities} == {f"{other.space('shared')}/kv"}
    assert portable.cid not in (first.cid, second.cid)


async def test_another_owners_space_without_a_grant(stage: Stage) -> None:
    """A sign-in for another owner's space without a grant is refused unsigned."""
    other, wallet = await stage.owner("shared"), CountingWallet()
    client = await stage.client()
    with pytest.raises(NotGranted):
        await client.sign_in(wallet, SignIn(spaces=(other.space("shared"),)))
    with pytest.raises(NotGranted):
        await client.sign_in(
            wallet,
            SignIn(space=other.space("secrets"), received=(await shared_with(other, wallet),)),
        )
    with pytest.raises(NotGranted):
        await client.sign_in_with_key(new_key(), spaces=[other.space("shared")])
    assert wallet.signatures == 0


async def test_one_message_for_all_is_everybodys(stage: Stage) -> None:
    """A sign-in of one message for two owners' spaces can be revoked by either (W22)."""
    other, wallet, session = await stage.owner("shared"), new_wallet(), new_key()
    space = other.space("shared")
    granted = await stage.register(other.grant(wallet.did, {f"{space}/kv": [GET]}))
    own = f"tinycloud:{wallet.did.removeprefix('did:')}:default/kv"
    await stage.register(wallet_token(wallet, session.did_url, {own: [GET]}))  # hosts the space
    grants = {own: [GET, PUT], f"{space}/kv": [GET]}
    # Shorter than the grant that it rests on: a second may begin between the two signatures.
    mixed = wallet_token(wallet, session.did_url, grants, parents=[id_of(granted)], ttl_s=1800)
    await stage.register(mixed)
    assert (
        await stage.invoke(session, {f"{own}/x": [PUT]}, proofs=[mixed], body=b"1")
    ).status == 200
    await other.client.delegations.revoke_by_wallet(id_of(mixed), other.wallet)
    assert (await stage.invoke(session, {f"{own}/x": [GET]}, proofs=[mixed])).status == 401
