"""Tokens by keys of all types, from the header to the judged chain (K3, K6, K8, P2, R1, Q25)."""

import itertools
from typing import Any

import pytest
from capability_cases import BOB, NOW, SESSION, SPACE, World, message, ucan
from key_types import (
    ED25519,
    ISSUERS,
    P256,
    P256_ORDER,
    SECP256K1,
    SECP256K1_ORDER,
    SOLANA,
    WALLET,
    JwkKey,
    P256Key,
    WalletKey,
    name_of,
    token,
    twin_of,
)
from tests_support import coded

from capabilities.cacao import encode_cacao, header_text, sign_cacao
from capabilities.capability_errors import BadSignature, ChainError, MalformedToken
from capabilities.cids import cid_text
from capabilities.signatures import WalletSigner
from capabilities.tokens import (
    parse_delegation,
    parse_invocation,
    parse_revocation,
    restore_delegation,
    verify_delegation,
    verify_invocation,
    verify_revocation,
)

GET = "tinycloud.kv/get"
ECDSA = [signer for signer in ISSUERS if signer.algorithm.startswith("ES")]


def order_of(signer):
    return P256_ORDER if signer.algorithm == "ES256" else SECP256K1_ORDER


def space_of(signer):
    return f"tinycloud:{signer.did[4:]}:default"


def grant(signer, audience, *, prf=(), owner=None, **changes):
    """Return a grant on the owner's space, which is the signer's by default."""
    att = {f"{space_of(owner or signer)}/kv": {GET: [{}]}}
    return token(signer, aud=audience, att=att, prf=list(prf), **changes)


@pytest.mark.parametrize("signer", ISSUERS, ids=name_of)
def test_R1_every_key_owns_the_spaces_in_its_name(signer):
    """A key grants on its own space without proof, uses the grant, and revokes it."""
    world = World()
    cid = world.register(grant(signer, BOB.did))
    assert signer.did == world.delegation(cid).delegator
    assert world.delegation(cid) == restore_delegation(world.delegation(cid).header)
    world.invoke(grant(signer, signer.did, exp=NOW + 60))
    world.invoke(ucan(BOB, BOB.did, {f"{space_of(signer)}/kv/x": [GET]}, prf=[cid], exp=NOW + 60))
    revoking = token(signer, att={f"urn:cid:{cid}": {"tinycloud.delegation/revoke": [{}]}})
    assert signer.did == world.revoke(revoking)
    with pytest.raises(ChainError, check=coded("delegation-revoked")):
        world.invoke(
            ucan(BOB, BOB.did, {f"{space_of(signer)}/kv/x": [GET]}, prf=[cid], exp=NOW + 60)
        )


@pytest.mark.parametrize("signer", ISSUERS, ids=name_of)
def test_R1_no_key_owns_the_spaces_of_another(signer):
    """A key needs a proof for a space of another owner."""
    for owner in (P256Key(99), SESSION, WalletKey(WALLET.secret, chain="10")):
        with pytest.raises(ChainError, check=coded("parent-not-found")):
            World().register(grant(signer, BOB.did, owner=owner))


@pytest.mark.parametrize("signer", ISSUERS, ids=name_of)
def test_every_key_can_be_granted_to(signer):
    """A delegate of each key type can use and pass on its grant; others cannot."""
    world = World()
    first = world.register(ucan(SESSION, signer.did, {f"{space_of(SESSION)}/kv": [GET]}))
    world.invoke(grant(signer, signer.did, owner=SESSION, prf=[first], exp=NOW + 60))
    second = world.register(grant(signer, BOB.did, owner=SESSION, prf=[first]))
    world.invoke(
        ucan(BOB, BOB.did, {f"{space_of(SESSION)}/kv/x": [GET]}, prf=[second], exp=NOW + 60)
    )
    with pytest.raises(ChainError, check=coded("invoker-unauthorized")):
        world.invoke(grant(P256Key(99), BOB.did, owner=SESSION, prf=[first], exp=NOW + 60))


def test_a_chain_of_all_key_types():
    """A grant passes through keys of every type, from a wallet's UCAN on."""
    world, proofs = World(), []
    people: list[Any] = [WALLET, P256, SECP256K1, SOLANA, JwkKey(P256), ED25519]
    for giver, receiver in itertools.pairwise(people):
        proofs = [world.register(grant(giver, receiver.did, owner=WALLET, prf=proofs))]
    world.invoke(grant(ED25519, ED25519.did, owner=WALLET, prf=proofs, exp=NOW + 60))
    with pytest.raises(ChainError, check=coded("action-unauthorized")):
        world.invoke(
            token(
                ED25519,
                att={f"{space_of(WALLET)}/kv": {"tinycloud.kv/put": [{}]}},
                prf=proofs,
                exp=NOW + 60,
            )
        )


@pytest.mark.parametrize("algorithm", ["ES256K", "ES256K-R", "ESKeccakKR"])
def test_P2_R1_a_wallets_token_is_the_wallets(algorithm):
    """All spellings of an account, in tokens and sign-ins, are one principal."""
    signer = WalletKey(WALLET.secret, algorithm)
    lower = signer.did.lower()
    world = World()
    for issuer in (
        signer.did,
        lower,
        signer.did + "#blockchainAccountId",
        lower.replace(":1:", ":0001:"),
    ):
        delegation = verify_delegation(parse_delegation(grant(signer, lower, iss=issuer)))
        assert signer.did == delegation.delegator == delegation.delegate
        invocation = verify_invocation(
            parse_invocation(grant(signer, lower, iss=issuer, exp=NOW + 60))
        )
        assert signer.did == invocation.invoker
        world.invoke(grant(signer, BOB.did, iss=issuer, exp=NOW + 60))
    wallet = WalletSigner(signer.secret)
    sign_in = message({f"{SPACE}/kv": [GET]}, uri=lower)
    cid = world.register(header_text(encode_cacao(sign_cacao(sign_in, wallet))))
    assert world.delegation(cid).delegator == world.delegation(cid).delegate == signer.did


def test_P2_a_wallet_on_another_chain_is_another():
    """The same key is a different account on each chain."""
    elsewhere = WalletKey(WALLET.secret, chain="5")
    verify_delegation(parse_delegation(grant(elsewhere, BOB.did, owner=WALLET)))
    with pytest.raises(ChainError, check=coded("parent-not-found")):
        World().register(grant(elsewhere, BOB.did, owner=WALLET))


@pytest.mark.parametrize("signer", ECDSA, ids=name_of)
def test_Q25_other_spelling_of_a_signature_is_no_signature(signer):
    """Tokens, grants and revocations with n - s for s fail verification, also used and revoked
    ones."""
    order, world = order_of(signer), World()
    header = grant(signer, BOB.did)
    cid = world.register(header)
    world.mark_revoked(cid)
    call = grant(signer, signer.did, exp=NOW + 60)
    revoking = token(signer, att={f"urn:cid:{cid}": {"tinycloud.delegation/revoke": [{}]}})
    world.invoke(call)
    for use, spelling in ((world.register, header), (world.invoke, call), (world.revoke, revoking)):
        with pytest.raises(BadSignature):
            use(twin_of(spelling, order))
    assert header == twin_of(twin_of(header, order), order)


@pytest.mark.parametrize("signer", ECDSA, ids=name_of)
def test_Q25_second_signature_over_one_text_is_the_same_statement(signer):
    """Another signature over the same text makes neither a new grant nor a fresh token."""
    first = grant(signer, BOB.did)
    second = twin_of(first, order_of(signer))
    for parse in (parse_delegation, parse_revocation):
        if parse is parse_revocation:
            first = token(
                signer,
                att={f"urn:cid:{'bafkr4i' + 'a' * 52}": {"tinycloud.delegation/revoke": [{}]}},
            )
            second = twin_of(first, order_of(signer))
        assert parse(first).content_key == parse(second).content_key
        assert parse(first).cid != parse(second).cid
    assert parse_invocation(first).content_key == parse_invocation(second).content_key


def test_Q25_randomised_signatures_name_one_statement():
    """A statement that P-256 signs twice is one grant, which stays revoked, and one use."""
    world = World()
    one, other = grant(P256, BOB.did), grant(P256, BOB.did)
    assert one != other
    keys = {verify_delegation(parse_delegation(header)).content_key for header in (one, other)}
    assert 1 == len(keys)
    world.mark_revoked(world.register(one))
    again = parse_delegation(other)
    world.alias(again.cid, again.content_key)
    with pytest.raises(ChainError, check=coded("delegation-revoked")):
        world.invoke(
            ucan(
                BOB,
                BOB.did,
                {f"{space_of(P256)}/kv/x": [GET]},
                prf=[cid_text(again.cid)],
                exp=NOW + 60,
            )
        )
    assert parse_invocation(one).content_key == parse_invocation(other).content_key


@pytest.mark.parametrize("signer", [WALLET, SOLANA], ids=name_of)
def test_K3_K8_header_key_of_an_account(signer):
    """An account's token fails with a missing or other key, or a key for another algorithm."""
    verify_delegation(
        parse_delegation(
            grant(signer, BOB.did, header={"jwk": signer.jwk | {"alg": signer.algorithm}})
        )
    )
    for jwk in (..., None, P256.jwk, signer.jwk | {"alg": "ES256"}, signer.jwk | {"use": "enc"}):
        unverified = parse_delegation(grant(signer, BOB.did, header={"jwk": jwk}))
        with pytest.raises(BadSignature):
            verify_delegation(unverified)


@pytest.mark.parametrize("signer", [P256, JwkKey(ED25519), ED25519], ids=name_of)
def test_K8_header_key_of_other_issuers(signer):
    """If the DID contains the key, the header key is ignored, but has to be well-formed (T7)."""
    for jwk in (..., None, P256Key(9).jwk, signer.jwk | {"alg": "RS256"}):
        verify_delegation(parse_delegation(grant(signer, BOB.did, header={"jwk": jwk})))
    with pytest.raises(MalformedToken):
        parse_delegation(grant(signer, BOB.did, header={"jwk": {"kty": "EC", "x": 1}}))


@pytest.mark.parametrize("signer", ISSUERS, ids=name_of)
def test_V1_each_key_revokes(signer):
    """A revocation is verified like any other token."""
    revoking = token(
        signer, att={f"urn:cid:{'bafkr4i' + 'a' * 52}": {"tinycloud.delegation/revoke": [{}]}}
    )
    assert signer.did == verify_revocation(parse_revocation(revoking)).revoker
