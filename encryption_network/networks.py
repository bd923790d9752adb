"""Encryption networks: the node's record of one, and its public descriptor.

A network is an X25519 key pair that the node holds for an owner. The record is one value in the
store and carries the owner's attestation policy and withdrawals too, so that a release that checks
the record's stamp has checked theirs.

Example:
    record = create_network(network_id, now=now, keyring=keyring, entropy=entropy)
    store_value = encode_network(record)
    answer = {"descriptor": descriptor_json(record, keyring.node_did)}
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Annotated, Final, Literal

import msgspec
from msgspec.structs import replace

from capabilities.cache import Recent, remembered
from capabilities.capability_errors import InvalidIdentifier, InvalidJson
from capabilities.clock_and_entropy import Entropy
from capabilities.principals import Principal, principal_of
from capabilities.resources import NetworkId, network_id, parse_network_id
from capabilities.strict_base64 import decode_standard, encode_standard
from capabilities.strict_json import Json, shaped

from .keyring import NETWORK_SEAL, Keyring
from .keywrap import BLOB_OVERHEAD_BYTES, KEY_BYTES, public_key_of
from .network_errors import DescriptorError, PolicyError, RecordError, RequestError, WithdrawalError
from .policy import Bytes32, Policy, encode_policy, parse_policy
from .withdrawals import (
    MAX_NETWORK_ENTRIES,
    NOTHING_WITHDRAWN,
    Withdrawals,
    decode_withdrawals,
    encode_withdrawals,
)

ALGORITHM: Final = "x25519-aes256gcm/v1"
KEY_VERSION: Final = 1
KEY_BACKEND: Final = "local-one-of-one"
MEMBER_ROLE: Final = "primary"
MAX_RECORD_BYTES: Final = 262_144
"""Longest stored record; a policy takes at most an eighth of it."""

NetworkState = Literal["pending", "generating", "active", "rotating", "revoked", "failed"]
"""The states there are; this node makes networks active and revokes them (enc 1.8)."""


class Threshold(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """How many of how many members open a key; stored and echoed, without meaning (enc-D1)."""

    n: int
    t: int


_SEALED_BYTES: Final = BLOB_OVERHEAD_BYTES + KEY_BYTES


class NetworkRecord(
    msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, dict=True
):
    """One network as the store keeps it: the fields are the row's layout, the first one its
    version.

    Attributes:
        network: canonical id.
        public_key: X25519 public key, 32 bytes.
        sealed_private_key: the scalar, sealed under the keyring's network seal, 61 bytes; never
            printed.
        state: only "active" opens keys; "revoked" is final.
        alg: algorithm id.
        key_version: 1; there is no rotation.
        key_backend: where the key lives.
        threshold: as the creator stated it.
        created_at: RFC 3339 UTC text.
        updated_at: RFC 3339 UTC text.
        policy_json: canonical JSON of the policy; None: the owner stated none.
        withdrawals_row: list of what the owner withdrew for this network; None: nothing.
        claimed: whether a create request was answered with it; a sign-in makes a network unclaimed
            (EN31).
    """

    version: Literal[1]
    network: str
    public_key: Bytes32
    sealed_private_key: Annotated[
        bytes, msgspec.Meta(min_length=_SEALED_BYTES, max_length=_SEALED_BYTES)
    ]
    state: NetworkState
    alg: str
    key_version: int
    key_backend: str
    threshold: Threshold
    created_at: str
    updated_at: str
    policy_json: bytes | None
    withdrawals_row: bytes | None = None  # absent in rows that were written before there were any
    # absent in older rows: it is unknown who made those networks, so they count as unclaimed
    claimed: bool = False

    @cached_property
    def network_id(self) -> NetworkId:
        """The parsed id."""
        return parse_network_id(self.network)

    @cached_property
    def owner(self) -> Principal:
        """The canonical principal that owns the network; a fragment in the id's owner is not part
        of it."""
        return principal_of(self.network_id.owner)

    @cached_property
    def policy(self) -> Policy | None:
        """What the owner requires of code that is to receive keys."""
        return (
            None
            if self.policy_json is None
            else parse_policy(msgspec.json.decode(self.policy_json))
        )

    @cached_property
    def withdrawals(self) -> Withdrawals:
        """What the owner withdrew for this network."""
        return (
            NOTHING_WITHDRAWN
            if self.withdrawals_row is None
            else decode_withdrawals(self.withdrawals_row)
        )

    def __repr__(self) -> str:
        return f"NetworkRecord(network={self.network!r}, state={self.state!r})"


def create_network(
    network: NetworkId,
    *,
    now: float,
    keyring: Keyring,
    entropy: Entropy,
    claimed: bool = True,
) -> NetworkRecord:
    """Make a new network with a key pair of its own.

    Args:
        network: its canonical id.
        now: epoch seconds.
        keyring: seals the private key.
        entropy: asked for 32 bytes (the scalar), then for 12 (the seal's nonce).
        claimed: False where no create request asked for it.
    Returns:
        An active record.
    Does not check:
        That the id is free; the commit does, with `expect: absent`.
    Source: enc 1.8.
    """
    scalar = entropy.token(KEY_BYTES)
    moment = timestamp(now)
    return NetworkRecord(
        version=1,
        network=network.text,
        public_key=public_key_of(scalar),
        sealed_private_key=keyring.seal(scalar, NETWORK_SEAL, entropy),
        state="active",
        alg=ALGORITHM,
        key_version=KEY_VERSION,
        key_backend=KEY_BACKEND,
        threshold=Threshold(1, 1),
        created_at=moment,
        updated_at=moment,
        policy_json=None,
        claimed=claimed,
    )


def claim(record: NetworkRecord) -> NetworkRecord:
    """Return the record claimed; its public view does not change (EN31)."""
    return replace(record, claimed=True)


def revoked(record: NetworkRecord, now: float) -> NetworkRecord:
    """Return the record revoked; again when it already is, with a new `updatedAt` (enc 1.8)."""
    return replace(record, state="revoked", updated_at=timestamp(now))


def with_policy(record: NetworkRecord, policy: Policy | None, now: float) -> NetworkRecord:
    """Return the record with another policy of the owner's.

    Does not check:
        That the request comes from the owner.
    """
    stated = None if policy is None else encode_policy(policy)
    return replace(record, policy_json=stated, updated_at=timestamp(now))


def with_withdrawals(record: NetworkRecord, withdrawals: Withdrawals, now: float) -> NetworkRecord:
    """Return the record with more withdrawn than before.

    Raises:
        WithdrawalError: the list is full (RC23).
    Does not check:
        That the request comes from the owner.
    """
    joined = record.withdrawals.joined(withdrawals)
    if len(joined) > MAX_NETWORK_ENTRIES:
        raise WithdrawalError(f"a network lists at most {MAX_NETWORK_ENTRIES} withdrawals")
    return replace(record, withdrawals_row=encode_withdrawals(joined), updated_at=timestamp(now))


def private_key(record: NetworkRecord, keyring: Keyring) -> bytes:
    """Open the sealed private key."""
    scalar = keyring.open_sealed(record.sealed_private_key, NETWORK_SEAL)
    pair = record.sealed_private_key + record.public_key
    if pair not in _fitting_pairs:
        if public_key_of(scalar) != record.public_key:
            raise RequestError("key-backend", "private key material unavailable")
        _fitting_pairs.put(pair, None)
    return scalar


# Sealed private keys that were found to belong to a public key, with it: what is sealed is
# authenticated and cannot change, so one multiplication settles it. Nothing secret is in here; the
# scalar itself is unsealed for each use.
_fitting_pairs: Final = Recent[bytes, None](4096)


def descriptor_json(record: NetworkRecord, node_did: str) -> dict[str, Json]:
    """Write the descriptor as the network routes answer it, without its `descriptor` wrapper (enc
    1.7)."""
    return {
        "networkId": record.network_id.text,
        "ownerDid": record.network_id.owner,
        "name": record.network_id.name,
        "members": [{"nodeId": node_did, "role": MEMBER_ROLE}],
        "threshold": {"n": record.threshold.n, "t": record.threshold.t},
        "state": record.state,
        "publicEncryptionKey": encode_standard(record.public_key),
        "alg": record.alg,
        "keyVersion": record.key_version,
        "keyBackend": record.key_backend,
        "createdAt": record.created_at,
        "updatedAt": record.updated_at,
    }


def well_known_json(record: NetworkRecord) -> dict[str, Json]:
    """Write the flat well-known record (enc 1.7)."""
    members = descriptor_json(record, "")
    return {name: members[name] for name in _WELL_KNOWN}


_WELL_KNOWN: Final = (
    "networkId",
    "ownerDid",
    "name",
    "alg",
    "keyVersion",
    "publicEncryptionKey",
    "state",
    "keyBackend",
)


def parse_path_id(text: str) -> NetworkId:
    """Read the network id of a path segment, already percent-decoded once."""
    try:
        return parse_network_id(text)
    except InvalidIdentifier as exc:
        raise RequestError("invalid-network-id", exc.text) from exc


def well_known_id(name: str, owner_did: str | None) -> NetworkId:
    """Return the network that a well-known lookup asks for.

    Raises:
        RequestError: `body-malformed`, no owner is named (a name alone selects no owner's network,
            enc-W13), or owner and name make no id (enc 2.6).
    """
    if owner_did is None:
        raise RequestError("body-malformed", "name the owner with ownerDid")
    try:
        return network_id(owner_did, name)
    except InvalidIdentifier as exc:
        raise RequestError("body-malformed", f"invalid network id: {exc.text}") from exc


def timestamp(now: float) -> str:
    """Write epoch seconds as RFC 3339 UTC, with up to six decimals and no trailing zero (enc
    0.4)."""
    text = (_EPOCH + timedelta(microseconds=round(now * 1_000_000))).isoformat()
    return (text.rstrip("0") if "." in text else text) + "Z"


_EPOCH: Final = datetime(1970, 1, 1)  # without a zone, which `isoformat` would write as +00:00


# --- the store's value ----------------------------------------------------------------------------

_DECODER: Final = msgspec.msgpack.Decoder(NetworkRecord)


def encode_network(record: NetworkRecord) -> bytes:
    """Write a record as the store keeps it."""
    return msgspec.msgpack.encode(record)


@remembered(1024)
def decode_network(value: bytes) -> NetworkRecord:
    """Read a stored record, with the policy and the withdrawals in it."""
    if len(value) > MAX_RECORD_BYTES:
        raise RecordError("network record too long")
    try:
        record = _DECODER.decode(value)
        # Reading these once shows that they can be read; the record keeps what was read.
        _ = record.owner, record.policy, record.withdrawals
    except (ValueError, RecursionError, InvalidIdentifier, PolicyError) as exc:
        raise RecordError("network record unreadable") from exc
    return record


# --- the reader's side ----------------------------------------------------------------------------


class _Member(msgspec.Struct, rename="camel"):
    node_id: str


class _Stated(msgspec.Struct, rename="camel"):
    network_id: str
    name: str
    state: str
    alg: str
    public_encryption_key: str
    key_version: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
    owner_did: str | None = None
    principal: str | None = None
    members: list[_Member] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """What a client read about a network; trusted only once `verify_descriptor` accepted it (EN28,
    EN29)."""

    network_id: NetworkId
    public_key: bytes
    state: str
    alg: str
    key_version: int
    node_did: str | None


def parse_descriptor(value: Json) -> Descriptor:
    """Read a descriptor or a well-known record, wrapped or bare.

    Args:
        value: untrusted JSON; `principal` is read where `ownerDid` is absent (enc 1.7).
    Raises:
        DescriptorError: a member is missing, of the wrong type or out of range, owner and name
            differ from the id's, or the key is not 32 bytes in canonical base64.
    Does not check:
        Who made it, see `signed_descriptor`; that the algorithm is known, that the state allows
        anything.
    """
    try:
        stated = shaped(
            value.get("descriptor", value) if isinstance(value, dict) else value, _Stated
        )
        network = parse_network_id(stated.network_id)
    except InvalidJson as exc:
        raise DescriptorError(str(exc)) from exc
    except InvalidIdentifier as exc:
        raise DescriptorError(f"networkId: {exc.text}") from exc
    owner = stated.principal if stated.owner_did is None else stated.owner_did
    if (
        owner is None
        or principal_of(owner) != principal_of(network.owner)
        or stated.name != network.name
    ):
        raise DescriptorError("owner or name differ from the id's")
    key = decode_standard(stated.public_encryption_key)
    if key is None or len(key) != KEY_BYTES:
        raise DescriptorError("publicEncryptionKey is not 32 bytes")
    return Descriptor(
        network_id=network,
        public_key=key,
        state=stated.state,
        alg=stated.alg,
        key_version=stated.key_version,
        node_did=stated.members[0].node_id if stated.members else None,
    )
