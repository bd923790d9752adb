"""Records and public descriptors of encryption networks.

A network is an X25519 key pair that the node keeps for an owner. The record also contains the
owner's attestation policy and withdrawals. So a release that checks the record's stamp has checked
that none of them changed.

Example:
    record = create_network(network_id, now=now, keyring=keyring, entropy=entropy)
    store_value = encode_network(record)
    answer = {"descriptor": descriptor_json(record, keyring.node_did)}
"""

from datetime import datetime, timedelta
from functools import cached_property
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from capabilities.cache import Recent, memoize
from capabilities.capability_errors import InvalidIdentifier, InvalidJson
from capabilities.clock_and_entropy import Entropy
from capabilities.principals import Principal, principal_of
from capabilities.resources import NetworkId, network_id, parse_network_id
from capabilities.strict_base64 import decode_standard, encode_standard
from capabilities.strict_json import Json, JsonObject, StrictRecord, shaped

from .key_versions import MAX_STATEMENT_BYTES, KeyVersion, SealedKey
from .keyring import Keyring
from .keywrap import KEY_BYTES, public_key_of
from .network_errors import DescriptorError, PolicyError, RecordError, RequestError, WithdrawalError
from .policy import Bytes32, Policy, encode_policy, parse_policy
from .withdrawals import (
    MAX_NETWORK_ENTRIES,
    NOTHING_WITHDRAWN,
    Withdrawals,
    decode_withdrawals,
    encode_withdrawals,
)

ALGORITHM = "x25519-aes256gcm/v1"
FIRST_KEY_VERSION = 1
KEY_BACKEND = "local-one-of-one"
MEMBER_ROLE = "primary"
MAX_RECORD_BYTES = 262_144
"""Longest stored record; a policy takes at most an eighth of it."""

NetworkState = Literal["pending", "generating", "active", "rotating", "revoked", "failed"]
"""All states of the protocol.

This node makes networks active and revokes them (enc 1.8). A network stays active while its key is
replaced, because clients of the protocol seal to active networks only (EN35).
"""


class Threshold(StrictRecord, array_like=True):
    """The number of nodes that must cooperate to decrypt.

    `t` of the `n` nodes that have a key are needed. Both numbers are stored and returned, but have
    no effect (enc-D1).
    """

    n: int
    t: int


class NetworkRecord(StrictRecord, array_like=True, dict=True):
    """The stored record of an encryption network.

    The fields define the format of the row.

    Attributes:
        version: of the layout.
        network: canonical id.
        public_key: X25519 public key of the newest version, 32 bytes.
        sealed_private_key: the scalar of the newest version, encrypted with the keyring's network
            seal, 61 bytes; never printed.
        state: only "active" opens keys; "revoked" is final.
        alg: algorithm id.
        key_version: number of the newest version of the key, from 1.
        key_backend: the kind of key storage.
        threshold: as in the create request.
        created_at: RFC 3339 UTC text.
        updated_at: RFC 3339 UTC text.
        policy_json: canonical JSON of the owner's policy, or None.
        withdrawals_row: the owner's withdrawals for this network, or None.
        claimed: whether a create request was answered with it; a sign-in makes a network unclaimed
            (EN31).
        key_created_at: RFC 3339 UTC text of the time when the newest version of the key was made;
            empty for version 1, which is as old as the network.
        former_keys: the versions before the newest, in the order of their numbers.
        candidate: the key for the next version; None if none was made.
        key_statements: the owner's statements about the versions from 2 on, in their order (EN36).
    """

    version: Literal[1]
    network: str
    public_key: Bytes32
    sealed_private_key: SealedKey
    state: NetworkState
    alg: str
    key_version: int
    key_backend: str
    threshold: Threshold
    created_at: str
    updated_at: str
    policy_json: bytes | None
    # Rows from before these fields existed lack them. The creator of such a network is unknown, so
    # it counts as unclaimed.
    withdrawals_row: bytes | None = None
    claimed: bool = False
    # Rows from before keys could be replaced lack these.
    key_created_at: str = ""
    former_keys: tuple[KeyVersion, ...] = ()
    candidate: KeyVersion | None = None
    key_statements: tuple[Annotated[bytes, msgspec.Meta(max_length=MAX_STATEMENT_BYTES)], ...] = ()

    @cached_property
    def network_id(self) -> NetworkId:
        """The parsed id of the encryption network."""
        return parse_network_id(self.network)

    @cached_property
    def owner(self) -> Principal:
        """The DID of the network's owner, without a fragment."""
        return principal_of(self.network_id.owner)

    @cached_property
    def policy(self) -> Policy | None:
        """The owner's requirements for code that receives keys."""
        if self.policy_json is None:
            return None
        return parse_policy(msgspec.json.decode(self.policy_json))

    @cached_property
    def withdrawals(self) -> Withdrawals:
        """The code, DIDs and evidence that the owner no longer trusts."""
        if self.withdrawals_row is None:
            return NOTHING_WITHDRAWN
        return decode_withdrawals(self.withdrawals_row)

    def sealed_key_of(self, key_version: int) -> bytes | None:
        """Return the sealed private key of a version, or None.

        None means that the network has no such version, or that the version is retired.
        """
        if key_version == self.key_version:
            return self.sealed_private_key
        for former in self.former_keys:
            if former.key_version == key_version:
                return former.sealed_private_key
        return None

    def public_key_of(self, key_version: int) -> bytes | None:
        """Return the public key of a version, or None if there is no such version."""
        if key_version == self.key_version:
            return self.public_key
        for former in self.former_keys:
            if former.key_version == key_version:
                return former.public_key
        return None

    def __repr__(self) -> str:
        return f"NetworkRecord(network={self.network!r}, state={self.state!r})"


def create_network(
    network: NetworkId, *, now: float, keyring: Keyring, entropy: Entropy, claimed: bool = True
) -> NetworkRecord:
    """Create an encryption network with a new key pair.

    Args:
        network: its canonical id.
        now: epoch seconds.
        keyring: encrypts the private key.
        entropy: called for 32 bytes (the scalar), then for 12 (the seal's nonce).
        claimed: False for a network that no create request asked for.
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
        sealed_private_key=keyring.seal(scalar, entropy),
        state="active",
        alg=ALGORITHM,
        key_version=FIRST_KEY_VERSION,
        key_backend=KEY_BACKEND,
        threshold=Threshold(1, 1),
        created_at=moment,
        updated_at=moment,
        policy_json=None,
        claimed=claimed,
    )


def claim(record: NetworkRecord) -> NetworkRecord:
    """Return a copy of a network's record, marked as claimed by its owner.

    A create request claims a network that was created at a sign-in (EN31). The network's public
    descriptor does not change.
    """
    return replace(record, claimed=True)


def revoked(record: NetworkRecord, now: float) -> NetworkRecord:
    """Return a copy of a network's record in state "revoked" (enc 1.8)."""
    return replace(record, state="revoked", updated_at=timestamp(now))


def with_policy(record: NetworkRecord, policy: Policy | None, now: float) -> NetworkRecord:
    """Return a copy of a network's record with a new policy.

    Does not check:
        That the request comes from the owner.
    """
    stated = None if policy is None else encode_policy(policy)
    return replace(record, policy_json=stated, updated_at=timestamp(now))


def with_withdrawals(record: NetworkRecord, withdrawals: Withdrawals, now: float) -> NetworkRecord:
    """Add withdrawals of trust to a copy of a network's record.

    Raises:
        WithdrawalError: the list is full (RC23).
    Does not check:
        That the request comes from the owner.
    """
    joined = record.withdrawals.joined(withdrawals)
    if len(joined) > MAX_NETWORK_ENTRIES:
        raise WithdrawalError(
            "the network's list of withdrawals of trust is full: the list may have at most"
            f" {MAX_NETWORK_ENTRIES} entries"
        )
    return replace(record, withdrawals_row=encode_withdrawals(joined), updated_at=timestamp(now))


def private_key(
    record: NetworkRecord, keyring: Keyring, *, key_version: int | None = None
) -> bytes:
    """Decrypt a private key of an encryption network.

    Args:
        record: the network.
        keyring: of the node that keeps it.
        key_version: the version; None: the newest.
    Raises:
        RequestError: `key-backend`, there is no such version, it is retired, or the private key
            does not match the public key.
    """
    version = record.key_version if key_version is None else key_version
    return _open_pair(record.sealed_key_of(version), record.public_key_of(version), keyring)


def _open_pair(sealed: bytes | None, public_key: bytes | None, keyring: Keyring) -> bytes:
    """Decrypt a private key, and check that it matches its public key."""
    if sealed is None or public_key is None:
        raise RequestError("key-backend", "private key material unavailable")
    scalar = keyring.open_sealed(sealed)
    # The comparison costs a scalar multiplication, so a pair that matched is not compared again.
    pair = sealed + public_key
    if pair not in _matching_pairs:
        if public_key_of(scalar) != public_key:
            raise RequestError("key-backend", "private key material unavailable")
        _matching_pairs.put(pair, None)
    return scalar


def usable_versions(record: NetworkRecord) -> tuple[int, ...]:
    """Return the versions of a network's key that still open values, in ascending order."""
    usable = []
    for former in record.former_keys:
        if former.sealed_private_key is not None:
            usable.append(former.key_version)
    return (*usable, record.key_version)


def is_sealed_by(record: NetworkRecord, keyring: Keyring) -> bool:
    """Return whether every sealed private key of a network opens with a keyring.

    These are the keys of all versions that are not retired, and the candidate. A key that opens but
    does not match its public key is damaged, and counts as not opened.
    """
    try:
        for key_version in usable_versions(record):
            private_key(record, keyring, key_version=key_version)
        if record.candidate is not None:
            _open_pair(record.candidate.sealed_private_key, record.candidate.public_key, keyring)
    except RequestError:
        return False
    return True


def resealed(
    record: NetworkRecord, *, former: Keyring, new: Keyring, entropy: Entropy
) -> NetworkRecord | None:
    """Seal every private key of a network under a new root secret (RK5).

    Args:
        record: sealed by either keyring.
        former: the keys of the root secret that is replaced.
        new: the keys of the root secret that replaces it.
        entropy: called for 12 bytes (the seal's nonce) for each private key.
    Returns:
        The record with nothing else changed; None if it is sealed by `new` already.
    Raises:
        RequestError: `key-backend`, neither keyring opens it, or the private key does not match the
            public key.
    """
    if is_sealed_by(record, new):
        return None

    def sealed_again(version: KeyVersion) -> KeyVersion:
        if version.sealed_private_key is None:  # it is retired
            return version
        scalar = _open_pair(version.sealed_private_key, version.public_key, former)
        return replace(version, sealed_private_key=new.seal(scalar, entropy))

    newest = new.seal(private_key(record, former), entropy)
    candidate = record.candidate
    if candidate is not None:
        candidate = sealed_again(candidate)
    return replace(
        record,
        sealed_private_key=newest,
        former_keys=tuple([sealed_again(version) for version in record.former_keys]),
        candidate=candidate,
    )


# Each entry is a sealed private key, followed by the public key that belongs to it. A sealed key is
# authenticated and cannot change, so they always match. The cache contains no secrets: the scalar
# is decrypted for each use.
_matching_pairs = Recent[bytes, None](4096)


def descriptor_json(record: NetworkRecord, node_did: str) -> JsonObject:
    """Return an encryption network's public descriptor as JSON (enc 1.7)."""
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


def well_known_json(record: NetworkRecord) -> JsonObject:
    """Return a network's descriptor for the well-known route (enc 1.7).

    The route sends only a part of the members.
    """
    members = descriptor_json(record, "")
    return {name: members[name] for name in _WELL_KNOWN}


_WELL_KNOWN = (
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
    """Parse the encryption network id in a URL path.

    The path segment was percent-decoded once.
    """
    try:
        return parse_network_id(text)
    except InvalidIdentifier as exc:
        raise RequestError("invalid-network-id", exc.text) from exc


def well_known_id(name: str, owner_did: str | None) -> NetworkId:
    """Return the network id for a well-known URL (enc 2.6).

    Raises:
        RequestError: `body-malformed`, owner and name are not a valid id, or the owner is missing;
            a name alone is ambiguous (enc-W13).
    """
    if owner_did is None:
        raise RequestError("body-malformed", "name the owner with ownerDid")
    try:
        return network_id(owner_did, name)
    except InvalidIdentifier as exc:
        raise RequestError("body-malformed", f"invalid network id: {exc.text}") from exc


def timestamp(now: float) -> str:
    """Format epoch seconds as an RFC 3339 time in UTC (enc 0.4).

    Up to six decimals are written.
    """
    text = (_EPOCH + timedelta(microseconds=round(now * 1_000_000))).isoformat()
    if "." in text:
        text = text.rstrip("0")
    return text + "Z"


_EPOCH = datetime(1970, 1, 1)  # without a zone, which `isoformat` would write as +00:00


# --- the store's value ----------------------------------------------------------------------------

_DECODER = msgspec.msgpack.Decoder(NetworkRecord)
_FIELDS_WITHOUT_ROTATION = NetworkRecord.__struct_fields__.index("key_created_at")


def encode_network(record: NetworkRecord) -> bytes:
    """Encode the record of an encryption network for the store.

    As long as the key was not replaced, the row has the form of earlier versions of this program,
    which other processes of the store may still run.
    """
    fields = msgspec.structs.astuple(record)
    if not (record.former_keys or record.candidate):
        fields = fields[:_FIELDS_WITHOUT_ROTATION]
    return msgspec.msgpack.encode(fields)


@memoize(1024)
def decode_network(value: bytes) -> NetworkRecord:
    """Decode the stored record of an encryption network."""
    if len(value) > MAX_RECORD_BYTES:
        raise RecordError("network record too long")
    try:
        record = _DECODER.decode(value)
        # Parsed now, so that a damaged row fails here and not in the middle of a release. The
        # record caches the results.
        _ = record.owner, record.policy, record.withdrawals
    except (ValueError, RecursionError, InvalidIdentifier, PolicyError) as exc:
        raise RecordError("the stored network cannot be parsed") from exc
    return record


# --- the reader's side ----------------------------------------------------------------------------


class _Member(msgspec.Struct, rename="camel"):
    node_id: str


class _DescriptorJson(msgspec.Struct, rename="camel"):
    network_id: str
    name: str
    state: str
    alg: str
    public_encryption_key: str
    key_version: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
    owner_did: str | None = None
    principal: str | None = None
    members: list[_Member] | None = None


class Descriptor(NamedTuple):
    """A network descriptor that a client received (EN28).

    It is untrusted until `verify_descriptor` accepts it.
    """

    network_id: NetworkId
    public_key: bytes
    state: str
    alg: str
    key_version: int
    node_did: str | None


def parse_descriptor(value: Json) -> Descriptor:
    """Parse the public descriptor of an encryption network.

    The JSON may be a full descriptor or a well-known record, with or without a wrapper.

    Args:
        value: untrusted JSON; `principal` is read where `ownerDid` is absent (enc 1.7).
    Raises:
        DescriptorError: a member is missing, of the wrong type or out of range, owner and name
            differ from the id's, or the key is not 32 bytes in canonical base64.
    Does not check:
        The node that made it, see `signed_descriptor`; that the algorithm is known, nor that the
        state allows anything.
    """
    if isinstance(value, dict):
        # An answer may wrap the descriptor in an object with this member.
        value = value.get("descriptor", value)
    try:
        stated = shaped(value, _DescriptorJson)
        network = parse_network_id(stated.network_id)
    except InvalidJson as exc:
        raise DescriptorError(str(exc)) from exc
    except InvalidIdentifier as exc:
        raise DescriptorError(f"networkId: {exc.text}") from exc
    owner = stated.principal if stated.owner_did is None else stated.owner_did
    is_same_owner = owner is not None and principal_of(owner) == principal_of(network.owner)
    if not is_same_owner or stated.name != network.name:
        raise DescriptorError("the owner or name differs from the one in the network id")
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
