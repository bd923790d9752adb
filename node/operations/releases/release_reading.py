"""The input data of key-release decisions (RL12).

`encryption_network.gate` decides on plain values, which this module reads: the network with its
owner's policy and withdrawals, the release record, the operator's withdrawals, the evidence for the
caller and the receiver key, all delegations of the cited closures with their revocation markers,
the owner's sessions, the envelopes at the paths that policies or the caller's list name, and the
path that owns the content key. Each row comes with its version stamp, so that the release's commit
fails if the row has changed.

Rows that the request alone determines are read together with the call (`release_keys`). The others
are read only when they can matter: sessions outside the chain, evidence for another receiver key,
envelopes at paths.
"""

from collections.abc import Mapping

from capabilities.frozen_struct import FrozenStruct
from capabilities.memberships import SECRETS_PATH, SECRETS_SPACE
from capabilities.principals import Principal
from capabilities.resources import NetworkId, SpaceId, SpaceResource, parse_resource
from capabilities.strict_base64 import decode_standard
from capabilities.strict_json import JsonObject
from encryption_network.content_keys import content_key_digest, known_digest
from encryption_network.gate import ReleaseRequest
from encryption_network.grounds import (
    KeyOwner,
    RowStamp,
    needs_evidence,
    path_lists_in_force,
    policies_in_force,
)
from encryption_network.holders import holder_of
from encryption_network.network_errors import RequestError
from encryption_network.networks import decode_network
from encryption_network.policy import Evidence, decode_evidence
from encryption_network.release_record import decode_release_record
from encryption_network.requests import BoundDecrypt, CheckedDecrypt, check_decrypt
from encryption_network.withdrawals import decode_withdrawals
from spaces.documents.evidence import evidence_range, evidence_row_key
from spaces.documents.network_rows import network_row_key
from spaces.keyspace import RELEASE_RECORD_KEY, ROOT_SECRET_KEY, WITHDRAWALS_KEY
from spaces.space_errors import RecordDamaged
from spaces.store.contract import Record, read_page, read_row
from spaces.values.key_places import KeyPlaces, key_places_of
from spaces.values.value_heads import Head, head_key, head_of

from ...refusal import Refusal
from ...release_terms import in_force
from ...services import Services
from ..authorise import Call
from ..owner_authority import decide_owner_authority
from ..values.sealed_values import MOST_ENVELOPE_BYTES, is_stored_at, key_digest
from ..values.stored_keys import places_row_key

_RECEIVER_KEY_BYTES = 32
_MOST_EVIDENCE = 512
"""Maximum number of evidence rows of one backend that are examined in mode `signed`.

Expired rows are removed when the backend attests again.
"""
_PATHS_AT_ONCE = 16
"""Rows of values that are read at a time; each may contain a body of some 64 KiB."""


class ReleaseKeys(FrozenStruct, kw_only=True):
    """The database keys of the first rows that are read for a decrypt request.

    `read_release` reads further rows, whose keys depend on these.

    Attributes:
        network: row of the network.
        evidence: row of the evidence for the stated receiver key; None if that is no key.
        places: row with the paths of the content key; None if this process has not opened the
            wrapped key recently, or if the request states none.
    """

    network: bytes
    evidence: bytes | None = None
    places: bytes | None = None

    @property
    def all(self) -> tuple[bytes, ...]:
        """All keys, each once."""
        fixed = (self.network, RELEASE_RECORD_KEY, WITHDRAWALS_KEY, ROOT_SECRET_KEY)
        return fixed + tuple([key for key in (self.evidence, self.places) if key is not None])


def release_keys(
    network: NetworkId,
    invoker: Principal,
    stated: JsonObject,
) -> ReleaseKeys:
    """Return the keys of the rows that a decrypt request alone determines.

    `stated` is the untrusted body. A wrong member only adds a row that is not used.
    """
    receiver_public_key = decode_standard(stated.get("receiverPublicKey"))
    wrapped_key = decode_standard(stated.get("encryptedSymmetricKey"))
    key_version = stated.get("keyVersion")
    evidence = None
    if receiver_public_key is not None and len(receiver_public_key) == _RECEIVER_KEY_BYTES:
        evidence = evidence_row_key(invoker, receiver_public_key)
    places = None
    digest = None
    if wrapped_key is not None and type(key_version) is int:  # a boolean is an int too
        digest = known_digest(network, key_version, wrapped_key)
    if digest is not None:
        places = places_row_key(network, digest)
    return ReleaseKeys(network=network_row_key(network), evidence=evidence, places=places)


async def read_release(
    services: Services, call: Call, keys: ReleaseKeys, bound: BoundDecrypt
) -> ReleaseRequest:
    """Check a decrypt request, and read the rows that decide its outcome.

    Args:
        call: read with `keys`.
        keys: see `release_keys`.
        bound: the request.

    Raises:
        RequestError: one of the checks 13 to 21 failed (enc 2.7).
        Refusal: `root-secret-replaced`, this process has a former root secret.
        ReleaseRefused: the rules for machine tokens and members do not permit this use (MT4, TM4),
            or a policy in force cannot be read.
        SpaceError, RecordError: the store does not answer, or a row does not decode.
    """
    now = services.now()
    rows = dict(zip(keys.all, call.records, strict=True))
    network_row = rows[keys.network]
    record_row = rows[RELEASE_RECORD_KEY]
    withdrawn_row = rows[WITHDRAWALS_KEY]
    # All rows are of one moment. So a network that was read with the present root secret's row
    # opens with the key that this process has (RK4).
    if not services.has_present_secret(rows[ROOT_SECRET_KEY]):
        raise Refusal("root-secret-replaced")
    if network_row is None:
        raise RequestError("network-not-found")
    checked = check_decrypt(bound, decode_network(_value(network_row)), now)
    if record_row is None:
        raise RecordDamaged("the store has no key-release policy")
    if withdrawn_row is None:
        # An absent row must not count as an empty list, or deleting it would undo withdrawals
        # (RC21).
        raise RecordDamaged("the store has no list of withdrawals of trust")
    release_record = in_force(services.config.release, decode_release_record(_value(record_row)))
    owner = await decide_owner_authority(services, call, checked.network.owner)
    holder = holder_of(owner, services.keyring.exchange_signer.did)
    policies = policies_in_force(checked.network.policy, release_record, owner.facts.links.values())
    path_lists = path_lists_in_force(policies, holder, owner.facts)
    paths = frozenset([path for path_list in path_lists for path in path_list.paths])
    key_owner = None
    if owner.in_person is None:  # the owner in person opens every key (RL22)
        key_owner = await _read_key_owner(services, checked, paths, rows)
    evidence = None
    evidence_row = None
    if keys.evidence is not None:
        row = rows[keys.evidence]
        if row is not None and row.value is not None:
            evidence = decode_evidence(row.value)
            evidence_row = RowStamp(keys.evidence, row.stamp)
    if evidence is None and needs_evidence(owner, release_record, policies, holder):
        evidence, evidence_row = await _newest_evidence(services, call.invocation.invoker)
    return ReleaseRequest(
        decrypt=checked,
        authority=call.authority,
        owner=owner,
        exchange_key=services.keyring.exchange_signer.did,
        release_record=release_record,
        evidence=evidence,
        evidence_row=evidence_row,
        key_paths=await _key_paths(services, checked, paths) if paths else {},
        key_owner=key_owner,
        network_row=RowStamp(keys.network, network_row.stamp),
        record_row=RowStamp(RELEASE_RECORD_KEY, record_row.stamp),
        withdrawals=decode_withdrawals(_value(withdrawn_row)),
        withdrawals_row=RowStamp(WITHDRAWALS_KEY, withdrawn_row.stamp),
    )


def _value(record: Record) -> bytes:
    if record.value is None:
        raise RecordDamaged("a required row was deleted")
    return record.value


async def _newest_evidence(
    services: Services, invoker: Principal
) -> tuple[Evidence | None, RowStamp | None]:
    """Return the invoker's newest attestation evidence, with its row (RL7).

    Evidence in mode `signed` takes precedence, because it is valid for every receiver key. Without
    such evidence, the gate refuses the newest of all because of its receiver key.
    """
    page = await read_page(services.store, evidence_range(invoker, limit=_MOST_EVIDENCE))
    stored = [
        (decode_evidence(_value(record)), RowStamp(key, record.stamp)) for key, record in page.rows
    ]
    if not stored:
        return None, None
    return max(stored, key=_precedence)


def _precedence(stored: tuple[Evidence, RowStamp]) -> tuple[bool, float]:
    """Return a sort key that is greatest for the newest evidence in mode `signed`."""
    evidence, _ = stored
    return evidence.receiver_mode == "signed", evidence.attested_at


async def _key_paths(
    services: Services, checked: CheckedDecrypt, policy_paths: frozenset[str]
) -> Mapping[str, RowStamp]:
    """Find the paths at which the requested wrapped key is stored.

    The result maps each such path to the key and version stamp of its row.

    Only spaces of the network's owner are examined, so that a policy cannot make the node read
    values of other owners.
    """
    keys = _keys_of_values(policy_paths, checked.network.owner)
    paths = [*keys]
    digest = key_digest(checked.bound.body.stated.encrypted_symmetric_key)
    found: dict[str, RowStamp] = {}
    left_bytes = MOST_ENVELOPE_BYTES
    for start in range(0, len(paths), _PATHS_AT_ONCE):
        if left_bytes <= 0:
            break
        batch = paths[start : start + _PATHS_AT_ONCE]
        records = (await services.store.read([keys[path] for path in batch])).records
        for path, record in zip(batch, records, strict=True):
            head = head_of(record, key=keys[path])
            if record is None or head is None:  # nothing stored, or deleted
                continue
            # the value at a path counts only if its key is the requested one (RL19)
            if await is_stored_at(services, head, digest, most_bytes=left_bytes):
                found[path] = RowStamp(keys[path], record.stamp)
            left_bytes -= _read_bytes(head, most_bytes=left_bytes)
    return found


async def _read_key_owner(
    services: Services,
    checked: CheckedDecrypt,
    paths: frozenset[str],
    rows: Mapping[bytes, Record | None],
) -> KeyOwner | None:
    """Return the path that owns the requested content key (RL21).

    None is returned if no path has stored the key, or if the wrapped key cannot be opened. `paths`
    are those that policies and the caller's list contain. `rows` were read with the call; the row
    that is needed is often among them.
    """
    digest = content_key_digest(
        checked.network,
        checked.wrapped_key,
        services.keyring,
        key_version=checked.bound.body.stated.key_version,
    )
    if digest is None:
        return None
    key = places_row_key(checked.network.network_id, digest)
    record = rows[key] if key in rows else await read_row(services.store, key)
    places = key_places_of(record)
    if record is None or places is None:
        return None
    value_keys = _keys_of_values(paths, checked.network.owner)
    listed = [path for path, value_key in value_keys.items() if value_key == places.owner]
    return KeyOwner(
        row=RowStamp(key, record.stamp),
        paths=frozenset(listed),
        is_at_two_paths=places.other is not None,
        is_secret=_are_secrets(places, checked.network.owner),
    )


def _are_secrets(places: KeyPlaces, owner: Principal) -> bool:
    """Return whether all paths that stored a key are those of the owner's secrets (TM4).

    The keys of rows begin with their paths. Only a very long path has another key, which counts as
    no secret.
    """
    secrets = head_key(SpaceId(owner=owner, name=SECRETS_SPACE), SECRETS_PATH)
    is_other_secret = places.other is None or places.other.startswith(secrets)
    return places.owner.startswith(secrets) and is_other_secret


def _keys_of_values(paths: frozenset[str], owner: Principal) -> dict[str, bytes]:
    """Return the database keys of the values at those paths that are in spaces of an owner."""
    keys: dict[str, bytes] = {}
    for path in sorted(paths):
        resource = parse_resource(path)
        # checked when the policy was parsed
        assert isinstance(resource, SpaceResource) and resource.path is not None
        if resource.space.owner == owner:
            keys[path] = head_key(resource.space, resource.path)
    return keys


def _read_bytes(head: Head, *, most_bytes: int) -> int:
    """Return how many bytes of a value were read to compare it.

    A body of more than `most_bytes` was not read. An inline body was read with its row in any case.
    """
    is_read = head.body is not None or head.size_bytes <= most_bytes
    return head.size_bytes if is_read else 0
