"""Tests of fixed vectors for parsing, ids, digests and signatures."""

import fixed_vectors as fixed
import pytest
from capability_cases import BOB, OWNER, SESSION, SPACE, World
from tests_support import coded

from capabilities.cacao import encode_cacao, header_bytes, header_text, parse_cacao, sign_cacao
from capabilities.capability_errors import ChainError
from capabilities.chain import check_lifetime, hosted_spaces
from capabilities.cids import cid_text, parse_cid
from capabilities.recap import Recap, attach
from capabilities.siwe import SiweMessage, siwe_text
from capabilities.tokens import (
    check_window,
    parse_delegation,
    parse_invocation,
    restore_delegation,
    verify_delegation,
    verify_invocation,
)
from capabilities.ucan import UcanPayload, encode_ucan

WALLET_VECTORS = [
    (
        fixed.HOST_HEADER,
        fixed.HOST_TEXT,
        fixed.HOST_DIGEST,
        fixed.HOST_SIGNATURE,
        fixed.HOST_CID,
        644,
        710,
    ),
    (
        fixed.SESSION_HEADER,
        fixed.SESSION_TEXT,
        fixed.SESSION_DIGEST,
        fixed.SESSION_SIGNATURE,
        fixed.SESSION_CID,
        1197,
        1253,
    ),
]


def test_keys_of_the_vectors():
    """The seeds give the expected DIDs."""
    assert SESSION.did == fixed.SESSION_DID
    assert BOB.did == fixed.RECIPIENT_DID


@pytest.mark.parametrize(
    ("header", "text", "digest", "signature", "cid", "text_size", "cbor_size"), WALLET_VECTORS
)
def test_wallet_delegation(header, text, digest, signature, cid, text_size, cbor_size):
    """Text, digest, signature, bytes and id match the other implementation's (2.2, 2.3, E7, C1,
    C5)."""
    data = header_bytes(header)
    cacao = parse_cacao(data)
    assert text == siwe_text(cacao.message)
    assert text_size == len(text)
    assert digest == cacao.message.digest.hex()
    assert signature == cacao.signature.hex()
    assert cbor_size == len(data)
    assert data == encode_cacao(cacao)
    assert header == header_text(data)
    assert cacao == sign_cacao(cacao.message, OWNER)
    assert cid == cid_text(verify_delegation(parse_delegation(header)).cid)


def test_session_delegation_says():
    """Every field of the session grant is parsed."""
    delegation = verify_delegation(parse_delegation(fixed.SESSION_HEADER))
    assert OWNER.did == delegation.delegator
    assert delegation.delegate == fixed.SESSION_DID
    assert delegation.expires_at == 2082855845.0
    assert delegation.not_before is None
    assert delegation.issued_at == 1767323045.0
    assert delegation.parents == ()
    assert not delegation.terminal
    assert [
        (f"{SPACE}/capabilities/all", "tinycloud.capabilities/read"),
        *(
            (f"{SPACE}/kv", f"tinycloud.kv/{name}")
            for name in ("del", "get", "list", "metadata", "put")
        ),
    ] == [(c.resource.text, c.ability) for c in delegation.capabilities]
    assert all(not c.caveats for c in delegation.capabilities)


def test_host_delegation_hosts_the_space():
    """The host grant contains the space and nothing else."""
    delegation = restore_delegation(fixed.HOST_HEADER)
    assert [space.text for space in hosted_spaces(delegation)] == [SPACE]
    assert delegation.delegate == fixed.HOST_DID
    assert delegation.expires_at is None


def test_session_message_is_built_by_parts():
    """The statement and ReCap built here equal the vector's (S3, S8)."""
    plain = SiweMessage(
        domain="app.example",
        address=OWNER.address,
        uri=SESSION.did_url,
        nonce="sessnonce0001",
        issued_at="2026-01-02T03:04:05.000Z",
        expiration_time="2036-01-02T03:04:05.000Z",
    )
    kv = {f"tinycloud.kv/{name}": ({},) for name in ("put", "get", "del", "list", "metadata")}
    recap = Recap(
        {f"{SPACE}/kv": kv, f"{SPACE}/capabilities/all": {"tinycloud.capabilities/read": ({},)}}, ()
    )
    assert siwe_text(attach(plain, recap)) == fixed.SESSION_TEXT


def test_invocation_vector():
    """The put invocation is parsed, verifies, and has the expected id."""
    invocation = verify_invocation(parse_invocation(fixed.INVOCATION))
    assert cid_text(invocation.cid) == fixed.INVOCATION_CID
    assert SESSION.did == invocation.invoker
    assert SESSION.did_url == parse_invocation(fixed.INVOCATION).envelope.payload.iss
    assert SESSION.did == invocation.audience
    assert invocation.expires_at == 1767323165
    assert invocation.nonce == "urn:uuid:00000000-0000-4000-8000-000000000001"
    assert [parent.text for parent in invocation.parents] == [fixed.SESSION_CID]
    assert [(f"{SPACE}/kv/hello.txt", "tinycloud.kv/put")] == [
        (c.resource.text, c.ability) for c in invocation.capabilities
    ]


def test_ucan_vectors_are_made_again():
    """The vector's claims and key give the same tokens byte for byte."""
    put = UcanPayload(
        iss=SESSION.did_url,
        aud=SESSION.did,
        exp=1767323165,
        nnc="urn:uuid:00000000-0000-4000-8000-000000000001",
        prf=[fixed.SESSION_CID],
        att={f"{SPACE}/kv/hello.txt": {"tinycloud.kv/put": [{}]}},
    )
    assert encode_ucan(put, SESSION) == fixed.INVOCATION
    share = UcanPayload(
        iss=SESSION.did_url,
        aud=BOB.did,
        exp=1999999999,
        nnc="urn:uuid:00000000-0000-4000-8000-000000000002",
        prf=[fixed.SESSION_CID],
        att={f"{SPACE}/kv/shared": {"tinycloud.kv/get": [{}], "tinycloud.kv/list": [{}]}},
    )
    assert encode_ucan(share, SESSION) == fixed.DELEGATION
    assert fixed.SESSION_JWK_X in str(parse_invocation(fixed.INVOCATION).envelope.header.jwk)


def test_exchange_of_the_vectors():
    """Host, session, invocation, share and revocation pass the chain rules as on the wire."""
    world = World(now=1767323100.0)
    assert world.register(fixed.HOST_HEADER) == fixed.HOST_CID
    assert world.register(fixed.SESSION_HEADER) == fixed.SESSION_CID
    assert world.register(fixed.DELEGATION) == fixed.DELEGATION_CID
    authority = world.invoke(fixed.INVOCATION)
    assert (world.delegation(fixed.SESSION_CID).content_key,) == authority.live
    share = fixed.DELEGATION_CID

    def bob(below: str, ability: str, **claims: float) -> str:
        claim = UcanPayload(
            iss=BOB.did_url,
            aud=BOB.did,
            exp=1767323160,
            prf=[share],
            att={f"{SPACE}/kv/{below}": {f"tinycloud.kv/{ability}": [{}]}},
        )
        return encode_ucan(claim, BOB)

    world.invoke(bob("shared/x", "get"))
    for refused in (bob("shared2/x", "get"), bob("shared/x", "put")):
        with pytest.raises(ChainError, check=coded("action-unauthorized")):
            world.invoke(refused)
    target = {f"urn:cid:{share}": {"tinycloud.delegation/revoke": [{}]}}
    claim = UcanPayload(
        iss=SESSION.did_url, aud=SESSION.did, exp=1767323160, prf=[fixed.SESSION_CID], att=target
    )
    # the session grant lacks the control ability
    with pytest.raises(ChainError, check=coded("revoker-unauthorized")):
        world.revoke(encode_ucan(claim, SESSION))
    claim = UcanPayload(iss=SESSION.did_url, aud=SESSION.did, exp=1767323160, prf=[], att=target)
    assert SESSION.did == world.revoke(encode_ucan(claim, SESSION))


def test_vector_times():
    """The invocation is valid only inside its own window."""
    invocation = verify_invocation(parse_invocation(fixed.INVOCATION))
    check_window(invocation, 1767323165.0)
    check_lifetime(invocation, 1767322865.9)
    with pytest.raises(ChainError, check=coded("lifetime-too-long")):
        check_lifetime(invocation, 1767322864.9)


def test_E7_cid_shape():
    """A printed id begins with bafkr4i and has 59 characters."""
    for cid in (fixed.HOST_CID, fixed.SESSION_CID, fixed.INVOCATION_CID, fixed.DELEGATION_CID):
        assert cid.startswith("bafkr4i")
        assert len(cid) == 59
        assert cid == parse_cid(cid).text()
