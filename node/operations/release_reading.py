"""Reading everything that a release is decided on, for the gate (RL12).

The gate decides on plain values. This module fetches them: the network with its owner's policy, the release record, the
evidence for the caller and the receiver key, every delegation of every cited closure with its mark, the sessions that
may show the owner in person, and the envelopes at the paths that policies name. Each row comes with its stamp, so that
the commit of the release can require it unchanged.
"""

from collections.abc import Mapping, Sequence

from capabilities.principals import Principal
from capabilities.resources import SpaceResource, parse_resource
from encryption_network.envelope import parse_envelope
from encryption_network.errors import EnvelopeError, NetworkNotFound
from encryption_network.evidence_record import decode_evidence
from encryption_network.gate import ReleaseRequest, RowStamp, paths_in_force, policies_in_force
from encryption_network.networks import decode_network
from encryption_network.policy import Evidence, Policy
from encryption_network.release_record import decode_release_record
from encryption_network.requests import BoundDecrypt, CheckedDecrypt, check_decrypt
from spaces.errors import RecordDamaged
from spaces.evidence import evidence_range, evidence_row_key, release_record_key
from spaces.networks import network_row_key
from spaces.store.contract import Page, Record
from spaces.values import head_key, head_of

from ..release_terms import in_force
from ..services import Services
from .authorise import Call
from .in_person import read_presence


async def read_release(services: Services, call: Call, bound: BoundDecrypt) -> ReleaseRequest:
    """Check a bound request against its network and gather what the gate decides on.

    Raises:
        RequestError: rows 13 to 21 of the ladder (enc 2.7).
        ReleaseRefused: a policy in force cannot be read.
        SpaceError, RecordError: the store does not answer, or a row does not decode.
    """
    now = services.clock.now()
    network_key, record_key = network_row_key(bound.network_id), release_record_key()
    network_row, record_row = (await services.store.read((network_key, record_key))).records
    checked = check_decrypt(bound, None if network_row is None else decode_network(_value(network_row)), now)
    if network_row is None or record_row is None:
        raise NetworkNotFound if network_row is None else RecordDamaged("the store has no release record")
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
    snapshot = await services.store.read(exact, ranges=(evidence_range(invoker),))
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
    """Return the paths among those that policies name at which an envelope with this wrapped key stands."""
    paths = sorted(paths_in_force(policies))
    keys = [_head_key(path) for path in paths]
    records = (await services.store.read(keys)).records if keys else ()
    found: dict[str, RowStamp] = {}
    for path, key, record in zip(paths, keys, records, strict=True):
        head = head_of(record, key=key)
        if record is not None and head is not None:
            body = await services.values.read_body(head)
            if _holds(body, checked):
                found[path] = RowStamp(key, record.stamp)
    return found


def _head_key(path: str) -> bytes:
    resource = parse_resource(path)
    assert isinstance(resource, SpaceResource)  # a policy's paths are parsed when it is read
    assert resource.path is not None
    return head_key(resource.space, resource.path)


def _holds(body: bytes, checked: CheckedDecrypt) -> bool:
    try:
        envelope = parse_envelope(body)
    except EnvelopeError:
        return False
    return envelope.encrypted_symmetric_key == checked.bound.body.encrypted_symmetric_key
