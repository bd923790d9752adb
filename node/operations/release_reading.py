"""Reading everything that a release is decided on, for the gate (RL12).

The gate decides on plain values. This module fetches them: the network with its owner's policy and withdrawals, the
release record, the operator's withdrawals, the evidence for the caller and the receiver key, every delegation of every
cited closure with its mark, the sessions that may show the owner in person, and the envelopes at the paths that
policies name. Each row comes with its stamp, so that the commit of the release can require it unchanged.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from capabilities.principals import Principal, same_principal
from capabilities.resources import SpaceResource, parse_resource
from encryption_network.envelope import parse_envelope
from encryption_network.errors import EnvelopeError, NetworkNotFound
from encryption_network.evidence_record import decode_evidence
from encryption_network.gate import ReleaseRequest, RowStamp, paths_in_force, policies_in_force
from encryption_network.networks import decode_network
from encryption_network.policy import Evidence, Policy
from encryption_network.release_record import decode_release_record
from encryption_network.requests import BoundDecrypt, CheckedDecrypt, check_decrypt
from encryption_network.withdrawals import decode_withdrawals
from spaces.errors import RecordDamaged
from spaces.evidence import evidence_range, evidence_row_key, release_record_key
from spaces.networks import network_row_key
from spaces.store.contract import Page, Record
from spaces.values import head_key, head_of
from spaces.withdrawals import withdrawals_row_key

from ..release_terms import in_force
from ..services import Services
from .authorise import Call
from .in_person import read_presence

_MOST_EVIDENCE: Final = 512
"""Rows of one holder that are looked through for mode `signed`; handing in new evidence removes what has ended."""
_MOST_ENVELOPE_BYTES: Final = 2 * 1024 * 1024
"""Bytes of envelopes that one release reads. Whoever writes a policy chooses the paths, so a path beyond counts as one
that holds nothing; secrets are small."""
_INLINE_PARSE_BYTES: Final = 16 * 1024
"""Longer envelopes are parsed beside the event loop."""


async def read_release(services: Services, call: Call, bound: BoundDecrypt) -> ReleaseRequest:
    """Check a bound request against its network and gather what the gate decides on.

    Raises:
        RequestError: rows 13 to 21 of the ladder (enc 2.7).
        ReleaseRefused: a policy in force cannot be read.
        SpaceError, RecordError: the store does not answer, or a row does not decode.
    """
    now = services.clock.now()
    keys = network_key, record_key, withdrawn_key = (
        network_row_key(bound.network_id),
        release_record_key(),
        withdrawals_row_key(),
    )
    network_row, record_row, withdrawn_row = (await services.store.read(keys)).records
    checked = check_decrypt(bound, None if network_row is None else decode_network(_value(network_row)), now)
    if network_row is None or record_row is None:
        raise NetworkNotFound if network_row is None else RecordDamaged("the store has no release record")
    if withdrawn_row is None:
        raise RecordDamaged("the store has no list of withdrawals")  # RC21: an absent row is no empty list
    release_record = in_force(services.config.release, decode_release_record(_value(record_row)))
    presence = await read_presence(services, call, checked.network.owner)
    policies = policies_in_force(checked.network.policy, release_record, presence.links.values())
    evidence, evidence_row = await _evidence(services, call.invocation.invoker, checked.receiver_public_key)
    return ReleaseRequest(
        decrypt=checked,
        authority=call.authority,
        cited=presence.cited,
        links=presence.links,
        sessions=presence.sessions,
        marks=presence.marks,
        release_record=release_record,
        evidence=evidence,
        evidence_row=evidence_row,
        key_paths=await _key_paths(services, checked, policies),
        network_row=RowStamp(network_key, network_row.stamp),
        record_row=RowStamp(record_key, record_row.stamp),
        withdrawals=decode_withdrawals(_value(withdrawn_row)),
        withdrawals_row=RowStamp(withdrawn_key, withdrawn_row.stamp),
        now=presence.now,
    )


def _value(record: Record) -> bytes:
    if record.value is None:
        raise RecordDamaged("a row that is never deleted was deleted")
    return record.value


async def _evidence(
    services: Services, invoker: Principal, receiver_public_key: bytes
) -> tuple[Evidence | None, RowStamp | None]:
    """Return the evidence for exactly this receiver key, else evidence of the DID whose mode allows any (RL7)."""
    exact: tuple[bytes, ...] = ()
    if len(receiver_public_key) == 32:
        exact = (evidence_row_key(invoker, receiver_public_key),)
    snapshot = await services.store.read(exact, ranges=(evidence_range(invoker, limit=_MOST_EVIDENCE),))
    for key, record in zip(exact, snapshot.records, strict=True):
        if record is not None and record.value is not None:
            return decode_evidence(record.value), RowStamp(key, record.stamp)
    return _newest(snapshot.pages[0])


def _newest(page: Page) -> tuple[Evidence | None, RowStamp | None]:
    """Choose the newest evidence of mode `signed`, else the newest of all: the gate refuses that for its receiver."""
    rows = [(decode_evidence(_value(record)), RowStamp(key, record.stamp)) for key, record in page.rows]
    if not rows:
        return None, None
    return max(rows, key=lambda row: (row[0].receiver_mode == "signed", row[0].attested_at))


async def _key_paths(services: Services, checked: CheckedDecrypt, policies: Sequence[Policy]) -> Mapping[str, RowStamp]:
    """Return the paths among those that policies name at which an envelope with this wrapped key stands.

    Only spaces of the network's owner are looked at: a policy must not make the node read what belongs to others.
    """
    paths = [path for path in sorted(paths_in_force(policies)) if _is_owned(path, checked.network.owner)]
    keys = [_head_key(path) for path in paths]
    records = (await services.store.read(keys)).records if keys else ()
    found: dict[str, RowStamp] = {}
    left_bytes = _MOST_ENVELOPE_BYTES
    for path, key, record in zip(paths, keys, records, strict=True):
        head = head_of(record, key=key)
        if record is not None and head is not None and head.size_bytes <= left_bytes:
            left_bytes -= head.size_bytes
            body = await services.values.read_body(head)
            is_short = len(body) <= _INLINE_PARSE_BYTES
            if _holds(body, checked) if is_short else await asyncio.to_thread(_holds, body, checked):
                found[path] = RowStamp(key, record.stamp)
    return found


def _is_owned(path: str, owner: Principal) -> bool:
    return same_principal(_kv_resource(path).space.owner, owner)


def _head_key(path: str) -> bytes:
    resource = _kv_resource(path)
    assert resource.path is not None
    return head_key(resource.space, resource.path)


def _kv_resource(path: str) -> SpaceResource:
    resource = parse_resource(path)
    assert isinstance(resource, SpaceResource)  # a policy's paths are parsed when it is read
    return resource


def _holds(body: bytes, checked: CheckedDecrypt) -> bool:
    try:
        envelope = parse_envelope(body)
    except EnvelopeError:
        return False
    return envelope.encrypted_symmetric_key == checked.bound.body.encrypted_symmetric_key
