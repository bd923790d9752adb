"""Tests of sessions: their contents, the grants that they cite, and their files."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests_support import CountingEntropy

from capabilities.principals import Principal
from capabilities.signatures import Ed25519Signer
from capabilities.strict_base64 import encode_standard
from capabilities.tokens import Capability
from encryption_network.pins import NetworkPin
from sealspace.delegations import allow
from sealspace.errors import (
    InvalidInput,
    InvalidPortableDelegation,
    InvalidSession,
    NotGranted,
    SessionExpired,
)
from sealspace.session import (
    Grant,
    Session,
    decode_session,
    encode_session,
    key_session,
    load_session,
    mint,
    network_of_owner,
    read_grant,
    save_session,
    sign_message,
    space_of,
)
from sealspace.wallets import new_wallet
from sealspace.wire.portable import portable_of

NOW = 1_795_000_000.0
SEED = bytes(range(32))
AGENT = Ed25519Signer(SEED)
OTHER = Ed25519Signer(bytes(32))
WALLET = new_wallet(entropy=CountingEntropy())
SPACE = space_of(WALLET.did, "default").text
NETWORK = network_of_owner(WALLET.did).text
GET_NOTES = allow(f"{SPACE}/kv/notes", "tinycloud.kv/get")
GET_NOTE = allow(f"{SPACE}/kv/notes/1", "tinycloud.kv/get")
PUT_NOTE = allow(f"{SPACE}/kv/notes/1", "tinycloud.kv/put")
DECRYPT = allow(NETWORK, "tinycloud.encryption/decrypt")


def granted(*capabilities: Capability, delegate: str = AGENT.did, ttl_s: float = 600) -> Grant:
    return read_grant(
        sign_message(
            WALLET,
            CountingEntropy(repr(capabilities).encode()),
            domain="app.example",
            uri=delegate,
            issued_at=NOW,
            expires_at=NOW + ttl_s,
            capabilities=capabilities,
        )
    )


def test_the_end_of_an_owner_s_own_key_is_kept() -> None:
    """A stored session of a key without a sign-in keeps its expiry."""
    session = replace(key_session(SEED, grants=[granted(GET_NOTES)]), ends_at=5)
    assert decode_session(encode_session(session)).expires_at == 5
    value = json.loads(encode_session(session))
    for wrong in ("5", [5], {}, 5.5):
        with pytest.raises(InvalidSession):
            decode_session(json.dumps(value | {"endsAt": wrong}).encode())


def test_a_parent_that_is_no_cid_is_not_signed() -> None:
    """A wallet does not sign a message whose parent is not a CID."""
    with pytest.raises(InvalidInput, match="must be the id of a delegation"):
        sign_message(
            WALLET,
            CountingEntropy(),
            domain="app.example",
            uri=AGENT.did,
            issued_at=NOW,
            expires_at=None,
            capabilities=[GET_NOTES],
            parents=["nocid"],
        )


def test_one_grant_that_covers_all_is_cited_alone() -> None:
    """A request cites a single grant if that grant covers every capability."""
    part, whole = granted(DECRYPT), granted(GET_NOTES, DECRYPT)
    session = key_session(SEED, grants=[part, whole])
    assert (part.cid,) == session.proofs_for([DECRYPT], now=NOW)
    assert (whole.cid,) == session.proofs_for([GET_NOTE, DECRYPT], now=NOW)


def test_several_grants_are_cited_where_none_covers_all() -> None:
    """A request cites one grant per capability if no single grant covers all."""
    first, second = granted(GET_NOTES), granted(DECRYPT)
    session = key_session(SEED, grants=[first, second])
    assert (first.cid, second.cid) == session.proofs_for([GET_NOTE, DECRYPT], now=NOW)


def test_the_owner_of_a_space_cites_nothing() -> None:
    """The owner of a space needs no proof."""
    own = allow(f"{space_of(AGENT.did, 'default').text}/kv/a", "tinycloud.kv/put")
    assert key_session(SEED).proofs_for([own], now=NOW) == ()
    assert key_session(SEED, grants=[granted(GET_NOTES)]).proofs_for([own], now=NOW) == ()


def test_what_nothing_covers_is_not_sent() -> None:
    """A session refuses to sign a request that no grant covers."""
    with pytest.raises(NotGranted):
        key_session(SEED, grants=[granted(GET_NOTES)]).proofs_for([PUT_NOTE], now=NOW)


def test_a_grant_that_has_ended_says_so() -> None:
    """A session does not cite an expired grant, and the error says that the grant has expired."""
    session = key_session(SEED, grants=[granted(GET_NOTES, ttl_s=10)])
    with pytest.raises(SessionExpired):
        session.proofs_for([GET_NOTE], now=NOW + 10)


def test_a_grant_for_another_key_is_refused() -> None:
    """A session refuses a grant for another key."""
    with pytest.raises(InvalidPortableDelegation):
        key_session(SEED, grants=[granted(GET_NOTES, delegate=OTHER.did)])


def test_a_grant_is_held_once() -> None:
    """Accepting a grant twice stores it once."""
    grant = granted(GET_NOTES)
    session = key_session(SEED, grants=[grant, grant])
    assert (grant,) == session.grants


def test_a_token_is_read_as_a_grant() -> None:
    """A session accepts a key's token as a grant, like a wallet's."""
    grant = read_grant(
        mint(
            AGENT,
            CountingEntropy(),
            audience=OTHER.did,
            capabilities=[GET_NOTES],
            proofs=[],
            expires_at=NOW + 60,
            issuer=AGENT.did,
        )
    )
    assert AGENT.did == grant.delegator
    assert OTHER.did == grant.delegate
    assert grant.capabilities == (GET_NOTES,)


def test_a_session_is_kept_and_read_back(tmp_path: Path) -> None:
    """A stored session is read back unchanged, from a file of mode 0600 that is replaced
    atomically."""
    session = Session(
        signer=AGENT,
        owner=Principal(WALLET.did),
        space=space_of(WALLET.did, "default"),
        grants=(granted(GET_NOTES), granted(DECRYPT)),
        node_id=OTHER.did,
        pins=(NetworkPin(NETWORK, b"k" * 32, 1), NetworkPin("another", b"l" * 32, 2)),
        seed=SEED,
    )
    path = tmp_path / "session.json"
    save_session(key_session(SEED), path)
    save_session(session, path)
    kept = load_session(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [path] == list(tmp_path.iterdir())
    assert session.did == kept.did
    assert session.owner == kept.owner
    assert session.space == kept.space
    assert session.grants == kept.grants
    assert session.node_id == kept.node_id
    assert session.pins == kept.pins
    assert encode_session(session) == encode_session(kept)


GOOD_PIN = {"network": NETWORK, "publicEncryptionKey": encode_standard(b"k" * 32), "keyVersion": 1}


@pytest.mark.parametrize(
    "networks",
    [
        None,
        {},
        [1],
        [GOOD_PIN, GOOD_PIN],
        [GOOD_PIN | {"network": 1}],
        [GOOD_PIN | {"keyVersion": True}],
        [GOOD_PIN | {"keyVersion": "1"}],
        [GOOD_PIN | {"publicEncryptionKey": "AAAA"}],
        [GOOD_PIN | {"publicEncryptionKey": 1}],
        [GOOD_PIN | {"more": 1}],
        [{"network": NETWORK}],
    ],
)
def test_pins_that_cannot_be_read(networks: Any) -> None:
    """A stored session with unreadable pins is refused, because its network keys would be unchecked
    (EN30)."""
    value = json.loads(encode_session(key_session(SEED)))
    assert len(decode_session(json.dumps(value | {"networks": [GOOD_PIN]}).encode()).pins) == 1
    with pytest.raises(InvalidSession):
        decode_session(json.dumps(value | {"networks": networks}).encode())


def test_a_network_is_held_to_one_key() -> None:
    """A new pin replaces the previous pin of the same network only."""
    first, second, other = (
        NetworkPin(NETWORK, b"1" * 32, 1),
        NetworkPin(NETWORK, b"2" * 32, 2),
        NetworkPin("o", b"", 1),
    )
    session = key_session(SEED).with_pin(first).with_pin(other).with_pin(first)
    assert (first, other) == session.pins
    assert (other, second) == session.with_pin(second).pins
    assert second == session.with_pin(second).pin_of(network_of_owner(WALLET.did))
    assert session.pin_of(network_of_owner(WALLET.did, "elsewhere")) is None


def test_a_session_shows_no_secret() -> None:
    """Neither a session's representation nor an error contains the seed or a token."""
    grant = granted(GET_NOTES)
    session = key_session(SEED, grants=[grant])
    assert grant.header not in repr(session)
    assert repr(SEED) not in repr(session)
    assert SEED.hex() not in repr(session)


def test_what_is_printed_is_one_short_line() -> None:
    """A session, a grant and a portable form each print as one line without secrets."""
    grants = [granted(GET_NOTES, ttl_s=600 + at) for at in range(20)]
    session = key_session(SEED, grants=grants)
    portable = portable_of(grants[0], owner=Principal(WALLET.did), host="https://node.example")
    for shown, named in (
        (session, AGENT.did),
        (grants[0], grants[0].cid),
        (portable, grants[0].cid),
    ):
        assert len(str(shown)) < 400 and "\n" not in str(shown) and str(named) in str(shown)
        assert grants[0].header not in str(shown) and "resource" not in str(shown)
    assert "20 grants" in str(session) and "2026-11-18T" in str(grants[0])
    assert "until an impossible time" in str(replace(grants[0], expires_at=1e300))
    assert "without an end" in str(replace(grants[0], expires_at=None))


def test_a_path_may_be_a_text(tmp_path: Path) -> None:
    """A session file's path may be a string or a Path."""
    save_session(key_session(SEED), str(tmp_path / "session.json"))
    assert (
        load_session(str(tmp_path / "session.json")).did
        == load_session(tmp_path / "session.json").did
        == AGENT.did
    )


def test_a_key_that_is_not_parted_with_cannot_be_kept() -> None:
    """A session with an external signer cannot be stored, because it has no seed."""
    with pytest.raises(InvalidSession):
        encode_session(key_session(AGENT))


def test_a_seed_has_32_bytes() -> None:
    """A seed of another length than 32 bytes is refused."""
    with pytest.raises(InvalidInput):
        key_session(b"short")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_session_or_refused(data: bytes) -> None:
    """Any bytes are parsed as a session or refused."""
    with pytest.raises(InvalidSession):
        decode_session(data)


@given(st.integers(0, 400), st.binary(min_size=1, max_size=3))
def test_a_damaged_session_is_read_or_refused(position: int, change: bytes) -> None:
    """A damaged session file raises only the client's own errors."""
    whole = encode_session(key_session(SEED, grants=[granted(GET_NOTES)]))
    try:
        decode_session(whole[:position] + change + whole[position + len(change) :])
    except InvalidSession as error:
        assert error.code == "invalid-session"


@pytest.mark.parametrize(
    "name", ["", "a/b", "a b", "a:b/", "tinycloud:", "tinycloud:key:z6Mk", "ä", "..?"]
)
def test_names_that_are_no_space(name: str) -> None:
    """An invalid name of a space is rejected before anything is sent."""
    with pytest.raises(InvalidInput):
        space_of(WALLET.did, name)


def test_an_owner_is_spelled_canonically() -> None:
    """An address in lower case gives the same space and network as in checksum case."""
    assert space_of(WALLET.did.lower(), "default").text == SPACE
    assert network_of_owner(WALLET.did.lower()).text == NETWORK
    assert f"urn:tinycloud:encryption:{AGENT.did}:default" == network_of_owner(AGENT.did_url).text
