"""Rules T8 and T10: the audience decides whether a token is a request or a grant."""

import pytest
from capability_cases import BOB, KV, NOW, SESSION, cacao, ucan
from key_types import WALLET, token

from capabilities.capability_errors import WrongKind
from capabilities.token_kinds import check_addressed, check_granting
from capabilities.tokens import (
    parse_delegation,
    parse_invocation,
    parse_revocation,
    restore_delegation,
    verify_delegation,
    verify_invocation,
    verify_revocation,
)

NODE = "did:key:z6MkfhoxdzVTa6fLWMgEJNiRJomE5grMqkWyHiRbU9Tt7mAq"
GETS = {KV: ["tinycloud.kv/get"]}
REVOKES = {f"urn:cid:{'bafkr4i' + 'a' * 52}": ["tinycloud.delegation/revoke"]}


@pytest.mark.parametrize("audience", [SESSION.did, NODE])
def test_T8_a_request_addresses_its_signer_or_the_node(audience):
    """A request may address its signer or the node."""
    check_addressed(
        verify_invocation(parse_invocation(ucan(SESSION, audience, GETS, exp=NOW + 60))), NODE
    )
    check_addressed(verify_revocation(parse_revocation(ucan(SESSION, audience, REVOKES))), NODE)


@pytest.mark.parametrize(
    "audience", [BOB.did, NODE + "a", NODE[:-1], NODE.lower(), "did:web:node.example", "did:x:"]
)
def test_T8_a_request_addresses_nobody_else(audience):
    """A token for another principal is not a request, however similar the DID."""
    if audience == "did:x:":
        audience = "did:x:y"
    with pytest.raises(WrongKind):
        check_addressed(
            verify_invocation(parse_invocation(ucan(SESSION, audience, GETS, exp=NOW + 60))), NODE
        )
    with pytest.raises(WrongKind):
        check_addressed(verify_revocation(parse_revocation(ucan(SESSION, audience, REVOKES))), NODE)


def test_T8_P4_an_address_is_compared_in_its_canonical_form():
    """An account may address itself in another case."""
    lower = WALLET.did.lower()
    assert lower != WALLET.did
    for audience in (WALLET.did, lower):
        check_addressed(verify_invocation(parse_invocation(token(WALLET, aud=audience))), NODE)
    with pytest.raises(WrongKind):
        check_addressed(
            verify_invocation(parse_invocation(token(WALLET, aud=lower.replace(":1:", ":10:")))),
            NODE,
        )


def test_V3_T8_a_wallet_s_revocation_addresses_nobody():
    """The audience of a wallet's revocation is its target."""
    check_addressed(
        verify_revocation(parse_revocation(cacao(None, uri="ucan:" + "bafkr4i" + "a" * 52))), NODE
    )


def test_T10_a_request_is_no_grant():
    """Requests and a wallet's revocation are not registered as grants; a wallet's grants are."""
    for header in (ucan(SESSION, NODE, GETS), cacao(None, uri="ucan:" + "bafkr4i" + "a" * 52)):
        with pytest.raises(WrongKind):
            check_granting(verify_delegation(parse_delegation(header)), NODE)
        # what was registered before this rule is still read
        assert restore_delegation(header).header == header
    for header in (
        ucan(SESSION, BOB.did, GETS),
        ucan(SESSION, SESSION.did, GETS),
        cacao(GETS, uri=NODE),
    ):
        check_granting(verify_delegation(parse_delegation(header)), NODE)
