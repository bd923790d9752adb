"""Changes of the versions of an encryption network's key (EN35, EN38).

The node makes a candidate for the next version. The owner signs a statement that names it, and the
candidate then becomes the newest version. The former version still opens values until it is
retired. All functions are pure.

Example:
    record = with_candidate(record, now=now, keyring=keyring, entropy=entropy)
    record = with_candidate_activated(record, statement, now=now)  # the statement was verified
    record = with_key_retiring(record, 1, now=now)
    record = with_key_destroyed(record, 1, now=now)
"""

from msgspec.structs import replace

from capabilities.capability_errors import BadSignature
from capabilities.clock_and_entropy import Entropy
from capabilities.principals import ed25519_public_key
from capabilities.signatures import Ed25519Signer, verify_ed25519
from capabilities.strict_base64 import decode_standard, encode_standard
from capabilities.strict_json import Json, JsonObject

from .canonical_json import canonical_members
from .key_versions import MAX_KEY_VERSION, MAX_STATEMENT_BYTES, KeyState, KeyVersion
from .keyring import Keyring
from .keywrap import KEY_BYTES, public_key_of
from .network_errors import DescriptorError, InvalidCanonicalJson, RequestError
from .networks import NetworkRecord, timestamp

CANDIDATE_TYPE = "sealspace.encryption.candidate/v1"


def with_candidate(
    record: NetworkRecord, *, now: float, keyring: Keyring, entropy: Entropy
) -> NetworkRecord:
    """Add a candidate for the next version of a network's key.

    An existing candidate is kept, so that a rotation that was interrupted can be continued, and
    nobody can prevent one by asking for further candidates.

    Args:
        record: the network.
        now: epoch seconds.
        keyring: encrypts the private key.
        entropy: called for 32 bytes (the scalar), then for 12 (the seal's nonce).
    Raises:
        RequestError: `network-revoked`, `network-not-active`, or `key-version-changed` if the
            network has the highest possible version already.
    """
    check_active(record)
    if record.candidate is not None:
        return record
    if record.key_version >= MAX_KEY_VERSION:
        raise RequestError(
            "key-version-changed",
            f"version {MAX_KEY_VERSION} is the last one; create another network",
        )
    scalar = entropy.token(KEY_BYTES)
    moment = timestamp(now)
    candidate = KeyVersion(
        key_version=record.key_version + 1,
        public_key=public_key_of(scalar),
        sealed_private_key=keyring.seal(scalar, entropy),
        state="candidate",
        created_at=moment,
        changed_at=moment,
    )
    return replace(record, candidate=candidate)


def with_candidate_activated(
    record: NetworkRecord, statement: bytes, *, now: float
) -> NetworkRecord:
    """Make the candidate the newest version of a network's key.

    Args:
        record: the network.
        statement: the owner's statement, canonical JSON.
        now: epoch seconds.
    Raises:
        RequestError: `network-revoked`, `network-not-active`, `key-version-changed` if there is no
            candidate, or `key-statement-refused` if the statement is too long.
    Does not check:
        The statement's signature, and that it names the candidate and the newest version.
    """
    check_active(record)
    candidate = record.candidate
    if candidate is None or candidate.sealed_private_key is None:
        raise RequestError("key-version-changed", "there is no candidate for the next version")
    if len(statement) > MAX_STATEMENT_BYTES:
        raise RequestError(
            "key-statement-refused", f"it is longer than {MAX_STATEMENT_BYTES} bytes"
        )
    moment = timestamp(now)
    former = KeyVersion(
        key_version=record.key_version,
        public_key=record.public_key,
        sealed_private_key=record.sealed_private_key,
        state="accepted",
        created_at=record.key_created_at or record.created_at,
        changed_at=moment,
    )
    return replace(
        record,
        public_key=candidate.public_key,
        sealed_private_key=candidate.sealed_private_key,
        key_version=candidate.key_version,
        key_created_at=candidate.created_at,
        former_keys=(*record.former_keys, former),
        candidate=None,
        key_statements=(*record.key_statements, statement),
        updated_at=moment,
    )


def with_key_retiring(record: NetworkRecord, key_version: int, *, now: float) -> NetworkRecord:
    """Refuse new values that are sealed to a former version of a network's key.

    A version that is retiring already is left as it is.

    Raises:
        RequestError: `key-version-kept`, the version is the newest, retired or unknown.
    """
    former = _require_former(record, key_version)
    if former.state == "retiring":
        return record
    retiring = replace(former, state="retiring", changed_at=timestamp(now))
    return _replace_former(record, retiring, now)


def with_key_destroyed(record: NetworkRecord, key_version: int, *, now: float) -> NetworkRecord:
    """Remove the private key of a former version from a network's record.

    Raises:
        RequestError: `key-version-kept`, the version is the newest, retired or unknown, or is not
            retiring yet.
    """
    former = _require_former(record, key_version)
    if former.state != "retiring":
        raise RequestError(
            "key-version-kept", "it is not retiring yet, so new values may be sealed to it"
        )
    retired = replace(former, sealed_private_key=None, state="retired", changed_at=timestamp(now))
    return _replace_former(record, retired, now)


def _require_former(record: NetworkRecord, key_version: int) -> KeyVersion:
    """Return a former version that is not retired.

    Raises:
        RequestError: `key-version-kept`, the version is the newest, retired or unknown.
    """
    if key_version == record.key_version:
        raise RequestError("key-version-kept", "it is the newest; replace the key first")
    for former in record.former_keys:
        if former.key_version == key_version:
            if former.state == "retired":
                raise RequestError("key-version-kept", "it is retired already")
            return former
    raise RequestError("key-version-kept", "the network has no such version")


def _replace_former(record: NetworkRecord, changed: KeyVersion, now: float) -> NetworkRecord:
    """Replace the former version with the number of `changed` in a network's record."""
    unchanged = [
        former for former in record.former_keys if former.key_version != changed.key_version
    ]
    former_keys = tuple(sorted((*unchanged, changed), key=_version_number))
    return replace(record, former_keys=former_keys, updated_at=timestamp(now))


def _version_number(version: KeyVersion) -> int:
    """Return the sort key of a version."""
    return version.key_version


def check_active(record: NetworkRecord) -> None:
    """Check that a network is active.

    Raises:
        RequestError: `network-revoked` or `network-not-active`.
    """
    if record.state == "revoked":
        raise RequestError("network-revoked")
    if record.state != "active":
        raise RequestError("network-not-active", record.state)


# --- public views ---------------------------------------------------------------------------------


def keys_json(record: NetworkRecord) -> JsonObject:
    """Return the versions of a network's key, and the owner's statements, as JSON (EN37).

    The candidate is left out: nothing may be sealed to it.
    """
    keys: list[Json] = []
    for former in record.former_keys:
        keys.append(
            _key_json(
                former.key_version,
                former.public_key,
                state=former.state,
                created_at=former.created_at,
                changed_at=former.changed_at,
            )
        )
    created_at = record.key_created_at or record.created_at
    keys.append(
        _key_json(
            record.key_version,
            record.public_key,
            state="newest",
            created_at=created_at,
            changed_at=created_at,
        )
    )
    return {
        "networkId": record.network_id.text,
        "keys": keys,
        "statements": [statement.decode() for statement in record.key_statements],
    }


def _key_json(
    key_version: int, public_key: bytes, *, state: KeyState, created_at: str, changed_at: str
) -> JsonObject:
    """Return a version as JSON, with its public key in base64."""
    return {
        "keyVersion": key_version,
        "publicEncryptionKey": encode_standard(public_key),
        "state": state,
        "createdAt": created_at,
        "changedAt": changed_at,
    }


def candidate_json(record: NetworkRecord, nonce: str, signer: Ed25519Signer) -> JsonObject:
    """Return the candidate of a network, signed by the node for a client's nonce (EN37).

    Args:
        record: has a candidate.
        nonce: from the client's request, so that an older answer cannot be sent again.
        signer: with the node's key.
    """
    assert record.candidate is not None  # `with_candidate` added it
    candidate: JsonObject = {
        "keyVersion": record.candidate.key_version,
        "publicEncryptionKey": encode_standard(record.candidate.public_key),
        "alg": record.alg,
    }
    signed = _candidate_bytes(candidate, record.network, node_did=signer.did, nonce=nonce)
    return {"candidate": candidate, "nodeSignature": encode_standard(signer.sign(signed))}


def verify_candidate(
    candidate: JsonObject, signature: Json, *, network: str, node_did: str, nonce: str
) -> tuple[int, bytes]:
    """Verify the node's signature on a candidate for a network's next key.

    Without it, the party that terminates the TLS connection could have the owner sign its own key.

    Args:
        candidate: the member of the answer, untrusted.
        signature: the member beside it, untrusted.
        network: canonical id of the requested network.
        node_did: of the expected node.
        nonce: that of the request, to which the node answered.
    Returns:
        The version and the public key of 32 bytes.
    Raises:
        DescriptorError: a member or the signature is missing, malformed or not valid.
    """
    node_key = ed25519_public_key(node_did)
    signature_bytes = decode_standard(signature)
    if node_key is None or signature_bytes is None or len(signature_bytes) != 64:
        raise DescriptorError("the node's DID has no Ed25519 key, or its signature is malformed")
    key_version = candidate.get("keyVersion")
    public_key = decode_standard(candidate.get("publicEncryptionKey"))
    # In Python a boolean is an integer too.
    if type(key_version) is not int or public_key is None or len(public_key) != KEY_BYTES:
        raise DescriptorError("the candidate has no version, or no key of 32 bytes")
    try:
        signed = _candidate_bytes(candidate, network, node_did=node_did, nonce=nonce)
        verify_ed25519(node_key, signed, signature_bytes)
    except (BadSignature, InvalidCanonicalJson) as exc:
        raise DescriptorError("the node's signature is not valid") from exc
    return key_version, public_key


def _candidate_bytes(candidate: JsonObject, network: str, *, node_did: str, nonce: str) -> bytes:
    """Return the canonical JSON that the node signs for a candidate."""
    return canonical_members(
        {
            "type": CANDIDATE_TYPE,
            "node": node_did,
            "network": network,
            "publicEncryptionKey": candidate.get("publicEncryptionKey"),
            "alg": candidate.get("alg"),
            "keyVersion": candidate.get("keyVersion"),
            "nonce": nonce,
        }
    )
