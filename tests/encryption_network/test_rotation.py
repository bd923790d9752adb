"""Tests of the versions of a network's key: their order, their states, and the signed candidate."""

import json
from typing import Any

import pytest
from msgspec.structs import replace
from tests_support import CountingEntropy

from capabilities.principals import parse_principal
from capabilities.resources import network_id
from capabilities.signatures import Ed25519Signer
from capabilities.strict_base64 import encode_standard
from encryption_network.key_versions import MAX_KEY_VERSION, MAX_STATEMENT_BYTES
from encryption_network.keyring import Keyring
from encryption_network.network_errors import DescriptorError, RecordError, RequestError
from encryption_network.networks import (
    NetworkRecord,
    create_network,
    decode_network,
    encode_network,
    is_sealed_by,
    private_key,
    resealed,
    revoked,
    timestamp,
)
from encryption_network.rotation import (
    candidate_json,
    check_active,
    keys_json,
    verify_candidate,
    with_candidate,
    with_candidate_activated,
    with_key_destroyed,
    with_key_retiring,
)

OWNER = parse_principal("did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK")
KEYRING, OTHER_KEYRING = Keyring(b"k" * 32), Keyring(b"o" * 32)
NODE, OTHER_NODE = Ed25519Signer(b"\x01" * 32), Ed25519Signer(b"\x02" * 32)
NETWORK = create_network(
    network_id(OWNER, "default"), now=0.0, keyring=KEYRING, entropy=CountingEntropy(b"first")
)
NONCE = "n" * 22


def offered(record: NetworkRecord, *, now: float = 10.0) -> NetworkRecord:
    """Return a network with a candidate."""
    entropy = CountingEntropy(b"candidate" + bytes([record.key_version]))
    return with_candidate(record, now=now, keyring=KEYRING, entropy=entropy)


def activated(record: NetworkRecord, *, now: float = 20.0) -> NetworkRecord:
    """Return a network with a further version of its key."""
    statement = b"statement %d" % (record.key_version + 1)
    return with_candidate_activated(offered(record), statement, now=now)


THREE = activated(activated(NETWORK), now=30.0)


def refusal(change: Any, *arguments: Any, **named: Any) -> str:
    """Return the code with which a change is refused."""
    with pytest.raises(RequestError) as refused:
        change(*arguments, **named)
    return refused.value.code


def states(record: NetworkRecord) -> list[tuple[int, str]]:
    """Return the former versions and their states."""
    return [(one.key_version, one.state) for one in record.former_keys]


# --- candidates -----------------------------------------------------------------------------------


def test_EN35_a_candidate_is_made_once() -> None:
    """A candidate is the next version with its own key, and is kept (EN35)."""
    record = offered(NETWORK)
    candidate = record.candidate
    assert candidate is not None
    assert (candidate.key_version, candidate.state) == (2, "candidate")
    assert candidate.created_at == candidate.changed_at == timestamp(10.0)
    assert candidate.public_key != NETWORK.public_key
    assert replace(record, candidate=None) == NETWORK
    again = with_candidate(record, now=11.0, keyring=KEYRING, entropy=CountingEntropy(b"other"))
    assert again == record


def test_EN35_a_network_has_32_versions() -> None:
    """The last version is number 32 (EN35)."""
    assert MAX_KEY_VERSION == 32
    last = offered(replace(NETWORK, key_version=31)).candidate
    assert last is not None and last.key_version == 32
    assert refusal(offered, replace(NETWORK, key_version=32)) == "key-version-changed"


@pytest.mark.parametrize("number", [0, 33])
def test_EN35_a_stored_version_has_a_number_from_1_to_32(number: int) -> None:
    """A record with a former version or a candidate of another number is damaged (EN35)."""
    (former,) = activated(NETWORK).former_keys
    for accepted in (1, 32):
        record = replace(NETWORK, former_keys=(replace(former, key_version=accepted),))
        assert decode_network(encode_network(record)) == record
    damaged = replace(former, key_version=number)
    for record in (replace(NETWORK, former_keys=(damaged,)), replace(NETWORK, candidate=damaged)):
        with pytest.raises(RecordError):
            decode_network(encode_network(record))


@pytest.mark.parametrize(
    ("state", "code"), [("revoked", "network-revoked"), ("pending", "network-not-active")]
)
def test_EN35_only_an_active_network_gets_another_key(state: Any, code: str) -> None:
    """A network that is not active gets no candidate, and activates none (EN35)."""
    assert refusal(offered, replace(NETWORK, state=state)) == code
    record = replace(offered(NETWORK), state=state)
    assert refusal(with_candidate_activated, record, b"statement", now=20.0) == code
    check_active(NETWORK)
    assert refusal(check_active, revoked(NETWORK, 1.0)) == "network-revoked"


# --- activation -----------------------------------------------------------------------------------


def test_EN35_a_candidate_becomes_the_newest_version() -> None:
    """The former version keeps its key and is accepted; the candidate is the newest (EN35)."""
    before = offered(NETWORK)
    record = with_candidate_activated(before, b"statement", now=20.0)
    assert before.candidate is not None
    assert record.key_version == 2
    assert record.public_key == before.candidate.public_key == record.public_key_of(2)
    assert record.sealed_private_key == before.candidate.sealed_private_key
    assert record.key_created_at == timestamp(10.0)
    assert record.updated_at == timestamp(20.0)
    assert record.candidate is None
    assert record.key_statements == (b"statement",)
    (former,) = record.former_keys
    assert (former.key_version, former.state) == (1, "accepted")
    assert former.public_key == NETWORK.public_key == record.public_key_of(1)
    assert former.sealed_private_key == NETWORK.sealed_private_key
    assert former.created_at == NETWORK.created_at
    assert former.changed_at == timestamp(20.0)
    assert record.public_key_of(3) is None
    assert record.sealed_key_of(3) is None


def test_EN35_a_further_version_keeps_the_former_ones() -> None:
    """Versions and statements are in the order of their numbers (EN35, EN36)."""
    assert states(THREE) == [(1, "accepted"), (2, "accepted")]
    assert THREE.key_statements == (b"statement 2", b"statement 3")
    assert THREE.former_keys[1].created_at == timestamp(10.0)
    assert decode_network(encode_network(THREE)) == THREE
    for key_version in (1, 2, 3):
        assert private_key(THREE, KEYRING, key_version=key_version)


def test_EN35_nothing_is_activated_without_a_candidate() -> None:
    """A second activation, or one without a candidate's key, is refused (EN35)."""
    assert refusal(with_candidate_activated, NETWORK, b"x", now=1.0) == "key-version-changed"
    record = offered(NETWORK)
    assert record.candidate is not None
    lost = replace(record, candidate=replace(record.candidate, sealed_private_key=None))
    assert refusal(with_candidate_activated, lost, b"x", now=1.0) == "key-version-changed"


def test_EN36_the_size_of_a_statement_is_bounded() -> None:
    """A statement has at most 1536 bytes (EN36)."""
    assert MAX_STATEMENT_BYTES == 1536
    record = offered(NETWORK)
    assert with_candidate_activated(record, b"x" * 1536, now=1.0).key_version == 2
    code = refusal(with_candidate_activated, record, b"x" * 1537, now=1.0)
    assert code == "key-statement-refused"


# --- retirement -----------------------------------------------------------------------------------


def test_EN38_a_version_is_retired_in_two_steps() -> None:
    """A version is retiring first, and loses its private key then (EN38)."""
    retiring = with_key_retiring(THREE, 1, now=40.0)
    assert states(retiring) == [(1, "retiring"), (2, "accepted")]
    assert retiring.former_keys[0].changed_at == retiring.updated_at == timestamp(40.0)
    assert retiring.sealed_key_of(1) == NETWORK.sealed_private_key
    assert with_key_retiring(retiring, 1, now=41.0) == retiring
    retired = with_key_destroyed(retiring, 1, now=50.0)
    assert states(retired) == [(1, "retired"), (2, "accepted")]
    assert retired.former_keys[0].changed_at == retired.updated_at == timestamp(50.0)
    assert retired.sealed_key_of(1) is None
    assert retired.public_key_of(1) == NETWORK.public_key
    assert retired.former_keys[1] == THREE.former_keys[1]
    assert retired.key_statements == THREE.key_statements


def test_EN38_the_order_of_versions_is_kept() -> None:
    """A later version can be retired before an earlier one (EN38)."""
    retired = with_key_destroyed(with_key_retiring(THREE, 2, now=40.0), 2, now=50.0)
    assert states(retired) == [(1, "accepted"), (2, "retired")]


@pytest.mark.parametrize("change", [with_key_retiring, with_key_destroyed])
@pytest.mark.parametrize(
    ("key_version", "words"),
    [(1, "retired already"), (3, "it is the newest"), (0, "no such version"), (4, "no such")],
)
def test_EN38_versions_that_cannot_be_retired(change: Any, key_version: int, words: str) -> None:
    """The newest version, a retired one and an unknown one are kept as they are (EN38)."""
    record = with_key_destroyed(with_key_retiring(THREE, 1, now=40.0), 1, now=50.0)
    with pytest.raises(RequestError, match=words) as refused:
        change(record, key_version, now=60.0)
    assert refused.value.code == "key-version-kept"


def test_EN38_an_accepted_version_is_not_destroyed() -> None:
    """A version that is not retiring yet keeps its private key (EN38)."""
    assert refusal(with_key_destroyed, THREE, 1, now=40.0) == "key-version-kept"


# --- another root secret --------------------------------------------------------------------------


def test_RK5_every_version_is_sealed_again() -> None:
    """Former versions and the candidate are sealed again; a retired version has no key (RK5)."""
    record = offered(with_key_destroyed(with_key_retiring(THREE, 1, now=40.0), 1, now=50.0))
    entropy = CountingEntropy(b"reseal")
    moved = resealed(record, former=KEYRING, new=OTHER_KEYRING, entropy=entropy)
    assert moved is not None
    assert is_sealed_by(moved, OTHER_KEYRING) and not is_sealed_by(moved, KEYRING)
    assert moved.candidate is not None and record.candidate is not None
    assert moved.candidate.public_key == record.candidate.public_key
    assert moved.sealed_key_of(1) is None
    for key_version in (2, 3):
        scalar = private_key(record, KEYRING, key_version=key_version)
        assert private_key(moved, OTHER_KEYRING, key_version=key_version) == scalar
    assert resealed(moved, former=KEYRING, new=OTHER_KEYRING, entropy=entropy) is None
    # A record of which a single key is sealed otherwise is not complete.
    mixed = replace(moved, candidate=record.candidate)
    assert not is_sealed_by(mixed, OTHER_KEYRING)
    mixed = replace(moved, former_keys=(record.former_keys[0], record.former_keys[1]))
    assert not is_sealed_by(mixed, OTHER_KEYRING)


# --- public views ---------------------------------------------------------------------------------


def test_EN37_the_versions_in_public() -> None:
    """All versions are listed without a candidate and without private keys (EN37)."""
    record = offered(with_key_retiring(THREE, 1, now=40.0))
    shown: Any = keys_json(record)
    assert shown["networkId"] == NETWORK.network
    assert shown["statements"] == ["statement 2", "statement 3"]
    assert shown["keys"][0] == {
        "keyVersion": 1,
        "publicEncryptionKey": encode_standard(NETWORK.public_key),
        "state": "retiring",
        "createdAt": timestamp(0.0),
        "changedAt": timestamp(40.0),
    }
    assert [one["keyVersion"] for one in shown["keys"]] == [1, 2, 3]
    assert shown["keys"][2]["state"] == "newest"
    assert shown["keys"][2]["createdAt"] == shown["keys"][2]["changedAt"] == timestamp(10.0)
    (only,) = json.loads(json.dumps(keys_json(NETWORK)))["keys"]
    assert only["createdAt"] == only["changedAt"] == NETWORK.created_at


def test_EN37_a_candidate_is_verified() -> None:
    """The node's signature covers the key, its version and algorithm, and the nonce (EN37)."""
    record = offered(NETWORK)
    assert record.candidate is not None
    answer: Any = candidate_json(record, NONCE, NODE)
    candidate, signature = answer["candidate"], answer["nodeSignature"]
    asked = {"network": NETWORK.network, "node_did": NODE.did, "nonce": NONCE}
    found = verify_candidate(candidate, signature, **asked)
    assert found == (2, record.candidate.public_key)
    other_key = encode_standard(b"\x09" * 32)
    for changed in (
        {"keyVersion": 3},
        {"keyVersion": True},
        {"keyVersion": 2.0},
        {"keyVersion": "2"},
        {"publicEncryptionKey": other_key},
        {"publicEncryptionKey": encode_standard(b"\x09" * 31)},
        {"publicEncryptionKey": None},
        {"alg": "other"},
        {"alg": "\ud800"},
    ):
        with pytest.raises(DescriptorError):
            verify_candidate({**candidate, **changed}, signature, **asked)
    for other in (
        {"network": NETWORK.network + "x"},
        {"node_did": OTHER_NODE.did},
        {"node_did": "did:web:example.com"},
        {"nonce": "m" * 22},
    ):
        with pytest.raises(DescriptorError):
            verify_candidate(candidate, signature, **(asked | other))
    for wrong in (None, "", "x", encode_standard(bytes(64)), encode_standard(bytes(63))):
        with pytest.raises(DescriptorError):
            verify_candidate(candidate, wrong, **asked)


def test_EN37_a_boolean_is_no_version() -> None:
    """A signed candidate with another kind of number, or another key length, is refused (EN37)."""
    asked = {"network": NETWORK.network, "node_did": NODE.did, "nonce": NONCE}
    record = offered(NETWORK)
    assert record.candidate is not None
    for changes in ({"key_version": True}, {"public_key": b"\x09" * 31}):
        signed: Any = candidate_json(
            replace(record, candidate=replace(record.candidate, **changes)), NONCE, NODE
        )
        with pytest.raises(DescriptorError, match="no version, or no key of 32 bytes"):
            verify_candidate(signed["candidate"], signed["nodeSignature"], **asked)
