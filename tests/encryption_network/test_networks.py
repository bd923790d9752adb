"""Tests of network records: their stored form, public views and ids."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from refusal_forms import on_route
from tests_support import CountingEntropy, coded

from capabilities.cache import Recent
from capabilities.resources import parse_network_id
from encryption_network import networks
from encryption_network.keyring import Keyring
from encryption_network.keywrap import public_key_of
from encryption_network.network_errors import DescriptorError, RecordError, RequestError
from encryption_network.networks import (
    NetworkRecord,
    Threshold,
    claim,
    create_network,
    decode_network,
    descriptor_json,
    encode_network,
    parse_descriptor,
    parse_path_id,
    private_key,
    revoked,
    timestamp,
    well_known_id,
    well_known_json,
    with_policy,
)
from encryption_network.policy import Measurements, Policy, encode_policy

KEYRING = Keyring(b"\x07" * 32)
ADDRESS = "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"
URN = f"urn:tinycloud:encryption:did:pkh:eip155:1:{ADDRESS}:default"
POLICY = Policy(
    measurements=(
        Measurements(
            mrtd=bytes(48), rtmr0=bytes(48), rtmr1=bytes(48), rtmr2=bytes(48), rtmr3=bytes(48)
        ),
    )
)


def record(**changes: Any) -> NetworkRecord:
    """A network of the sample owner."""
    made = create_network(
        parse_network_id(URN), now=1_795_000_000.5, keyring=KEYRING, entropy=CountingEntropy()
    )
    return replace(made, **changes)


KEPT = [
    {},
    {"policy_json": encode_policy(POLICY)},
    {"state": "revoked"},
    {"threshold": Threshold(5, 3)},
    {"claimed": False},
]


@pytest.mark.parametrize("changes", KEPT)
def test_reading_what_was_written_is_identity(changes: dict[str, Any]) -> None:
    """A record with a policy is decoded unchanged."""
    assert decode_network(encode_network(record(**changes))) == record(**changes)


@pytest.mark.parametrize("claimed", [False, True])
@pytest.mark.parametrize("fields", [12, 13])
def test_a_record_of_before_is_unclaimed(fields: int, claimed: bool) -> None:
    """An old row without the field is unclaimed (EN31); a row with an unknown field is rejected."""
    row = msgspec.msgpack.decode(encode_network(record(claimed=claimed)))
    assert decode_network(msgspec.msgpack.encode(row[:fields])) == record(claimed=False)
    with pytest.raises(RecordError):
        decode_network(msgspec.msgpack.encode([*row, None]))


def test_a_claim_changes_nothing_that_is_seen() -> None:
    """Claiming a network does not change its descriptor and key (EN31)."""
    unclaimed = record(claimed=False)
    assert claim(unclaimed) == record()
    assert descriptor_json(claim(unclaimed), "did:key:zNode") == descriptor_json(
        unclaimed, "did:key:zNode"
    )


def test_a_record_shows_no_key() -> None:
    """The representation of a record contains neither key."""
    assert "sealed" not in repr(record())
    assert record().sealed_private_key.hex() not in repr(record())


def test_revoking_keeps_everything_but_state_and_time() -> None:
    """Revoking changes state and time only, and revoking again only the time."""
    once = revoked(record(), 1_795_000_001.0)
    assert once == record(state="revoked", updated_at="2026-11-18T11:06:41Z")
    assert revoked(once, 1_795_000_002.0).state == "revoked"


def test_the_policy_is_part_of_the_record() -> None:
    """Setting the owner's policy returns another record."""
    changed = with_policy(record(), POLICY, 1_795_000_001.0)
    assert changed.policy == POLICY
    assert changed.updated_at == "2026-11-18T11:06:41Z"


def test_descriptor_and_well_known_record() -> None:
    """Both views have the wire's members."""
    descriptor = descriptor_json(record(), "did:key:zNode")
    assert descriptor["members"] == [{"nodeId": "did:key:zNode", "role": "primary"}]
    assert descriptor["createdAt"] == "2026-11-18T11:06:40.5Z"
    absent = {"members", "threshold", "createdAt", "updatedAt"}
    assert well_known_json(record()) == {
        name: value for name, value in descriptor.items() if name not in absent
    }


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (0.0, "1970-01-01T00:00:00Z"),
        (1_795_000_000.25, "2026-11-18T11:06:40.25Z"),
        (1_795_000_000.000001, "2026-11-18T11:06:40.000001Z"),
    ],
)
def test_times(moment: float, text: str) -> None:
    """Times are RFC 3339 in UTC without trailing zeros."""
    assert timestamp(moment) == text


def test_the_private_key_belongs_to_the_record() -> None:
    """A key that was sealed with another secret, or belongs to another pair, is rejected."""
    assert len(private_key(record(), KEYRING)) == 32
    with pytest.raises(RequestError, check=coded("key-backend")):
        private_key(record(), Keyring(b"\x08" * 32))
    other = KEYRING.seal(bytes(31) + b"\x01", CountingEntropy())
    for _ in range(2):
        with pytest.raises(
            RequestError, check=coded("key-backend"), match="private key material unavailable"
        ):
            private_key(record(sealed_private_key=other), KEYRING)
        with pytest.raises(
            RequestError, check=coded("key-backend"), match="private key material unavailable"
        ):
            private_key(record(public_key=public_key_of(bytes(31) + b"\x01")), KEYRING)
        assert (
            len(private_key(record(sealed_private_key=record().sealed_private_key), KEYRING)) == 32
        )


def test_any_number_of_networks_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checked key pairs are cached up to a limit; others are checked again."""
    monkeypatch.setattr(networks, "_matching_pairs", fitting := Recent[bytes, None](2))
    entropy = CountingEntropy()
    made = [
        create_network(parse_network_id(URN), now=1.0, keyring=KEYRING, entropy=entropy)
        for _ in range(5)
    ]
    for network in (*made, *made):
        assert public_key_of(private_key(network, KEYRING)) == network.public_key
        assert 1 <= len(fitting) <= 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello", "missing urn:tinycloud:encryption: prefix"),
        ("URN:tinycloud:encryption:did:key:z:n", "missing urn:tinycloud:encryption: prefix"),
        ("urn:tinycloud:encryption:name", "missing owner DID/name separator"),
        ("urn:tinycloud:encryption::name", "empty owner DID"),
        ("urn:tinycloud:encryption:did:key:z:", "empty network name"),
        ("urn:tinycloud:encryption:did:key:z:a/b", "network name may not contain ':' or '/'"),
        (
            "urn:tinycloud:encryption:did:pkh:eip155:1:0x12:n",
            "invalid owner principal: invalid EIP-155 address length: expected 40, got 2",
        ),
        ("urn:tinycloud:encryption:did:key:n", "invalid owner principal: invalid DID"),
    ],
)
def test_malformed_ids_say_how(text: str, message: str) -> None:
    """A malformed id in the path is refused with the wire's text."""
    with pytest.raises(RequestError, check=coded("invalid-network-id")) as caught:
        parse_path_id(text)
    assert on_route(caught.value) == (400, message)


def test_any_spelling_of_the_owner_is_one_id() -> None:
    """Chain and address are canonicalised; a fragment and other owners are kept."""
    assert parse_path_id(URN.replace(ADDRESS, ADDRESS.lower()).replace(":1:", ":01:")).text == URN
    assert parse_path_id("urn:tinycloud:encryption:foo:n").owner == "foo"
    assert parse_path_id("urn:tinycloud:encryption:did:key:zX#zX:n").owner == "did:key:zX#zX"


def test_well_known_lookups_name_an_owner() -> None:
    """A look-up without an owner, or with a malformed one, is refused (enc-W13)."""
    assert well_known_id("default", f"did:pkh:eip155:1:{ADDRESS}").text == URN
    with pytest.raises(RequestError, check=coded("body-malformed")) as caught:
        well_known_id("default", None)
    assert caught.value.text == "decrypt request body is malformed: name the owner with ownerDid"
    with pytest.raises(RequestError, check=coded("body-malformed")) as caught:
        well_known_id("", "did:key:z")
    assert (
        caught.value.text
        == "decrypt request body is malformed: invalid network id: empty network name"
    )


@pytest.mark.parametrize("wrapped", [True, False])
def test_clients_read_descriptors(wrapped: bool) -> None:
    """A descriptor may be wrapped or bare, with `principal` in place of `ownerDid`."""
    value: Any = descriptor_json(record(), "did:key:zNode")
    value["principal"] = value.pop("ownerDid")
    read = parse_descriptor({"descriptor": value} if wrapped else value)
    assert read.network_id == record().network_id
    assert read.public_key == record().public_key
    assert read.node_did == "did:key:zNode"
    assert parse_descriptor(well_known_json(record())).node_did is None


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("networkId", 1),
        ("networkId", "x"),
        ("ownerDid", "did:key:zOther"),
        ("name", "other"),
        ("publicEncryptionKey", "AAAA"),
        ("publicEncryptionKey", "!"),
        ("keyVersion", "1"),
        ("keyVersion", True),
        ("state", None),
        ("members", [{}]),
        ("members", {"a": 1}),
        ("members", [1]),
    ],
)
def test_malformed_descriptors(member: str, value: Any) -> None:
    """A descriptor with a contradiction or a missing member is rejected."""
    with pytest.raises(DescriptorError):
        parse_descriptor(descriptor_json(record(), "did:key:zNode") | {member: value})


@pytest.mark.parametrize("value", [None, [], "x", {"descriptor": 1}])
def test_descriptors_are_objects(value: Any) -> None:
    """A descriptor that is not an object is rejected."""
    with pytest.raises(DescriptorError):
        parse_descriptor(value)


@given(st.binary(max_size=300))
def test_any_bytes_are_no_record(data: bytes) -> None:
    """Any other bytes raise RecordError."""
    with pytest.raises(RecordError):
        decode_network(data)


@given(position=st.integers(0, 2000), byte=st.integers(0, 255))
def test_a_damaged_record_is_a_record_or_our_error(position: int, byte: int) -> None:
    """A damaged record is decoded or raises RecordError."""
    data = bytearray(encode_network(record(policy_json=encode_policy(POLICY))))
    data[position % len(data)] = byte
    try:
        decode_network(bytes(data))
    except RecordError as exc:
        assert exc.code == "invalid-record"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, 2),
        (1, "hello"),
        (2, b"short"),
        (3, b"short"),
        (4, "paused"),
        (8, [1]),
        (11, b"{}x"),
        (11, b'{"unknown":1}'),
    ],
)
def test_records_of_another_shape(place: int, value: Any) -> None:
    """A record of another version or with an invalid field is rejected."""
    row = msgspec.msgpack.decode(encode_network(record(policy_json=encode_policy(POLICY))))
    row[place] = value
    with pytest.raises(RecordError):
        decode_network(msgspec.msgpack.encode(row))


def test_the_size_of_a_record_is_bounded() -> None:
    """A record above the size limit is rejected before it is decoded."""
    with pytest.raises(RecordError):
        decode_network(bytes(262_145))


def test_descriptors_are_plain_json() -> None:
    """Both views can be encoded as JSON."""
    assert json.loads(json.dumps(descriptor_json(record(), "did:key:zNode")))["networkId"] == URN
