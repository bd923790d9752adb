"""Operations that create, describe and revoke encryption networks (enc 2.5, 2.6, 2.8)."""

from collections.abc import Sequence

from capabilities.abilities import NETWORK_CREATE, NETWORK_REVOKE
from capabilities.capability_errors import ChainError
from capabilities.frozen_struct import FrozenStruct
from capabilities.principals import principal_of
from capabilities.resources import NetworkId
from capabilities.strict_json import JsonObject
from capabilities.tokens import Invocation, UnverifiedInvocation, parse_invocation
from encryption_network.gate import parties
from encryption_network.network_errors import RequestError
from encryption_network.networks import (
    NetworkRecord,
    create_network,
    decode_network,
    descriptor_json,
    encode_network,
    parse_path_id,
    revoked,
    well_known_id,
    well_known_json,
)
from encryption_network.networks import claim as claim_network
from encryption_network.requests import (
    MAX_BODY_BYTES,
    MAX_LIFETIME_S,
    REVOKE_BODY_HASH,
    admin_nonce_key,
    bind_admin,
    check_audience,
    check_create,
    check_revoke,
    parse_create,
    read_body,
)
from encryption_network.signed_descriptor import SIGNATURE_MEMBER, is_nonce, sign_descriptor
from encryption_network.withdrawals import decode_withdrawals
from spaces.documents.network_rows import network_put, network_row_key
from spaces.grants.admissions import admission_key, is_admitted
from spaces.grants.replay_records import nonce_replay_records
from spaces.keyspace import WITHDRAWALS_KEY
from spaces.space_errors import RecordDamaged
from spaces.store.contract import Check, Commit, Record, ReplayRecord, check_of, read_row, stamp_of

from ...refusal import Refusal
from ...services import Services
from ..attempts import until_committed
from ..authorise import Call, admit_signed, closure_contents, read_call, refuse_after_restore
from ..owner_authority import links_of
from .network_reading import require_present_secret


async def read_descriptor(services: Services, path_id: str, nonces: Sequence[str]) -> JsonObject:
    """Return the public description of an encryption network (EN28).

    The node signs the description if the request contains a nonce. Revoked networks have a
    description as well.

    Args:
        path_id: untrusted.
        nonces: every `nonce` of the query, untrusted; if empty, the response is unsigned.
    Raises:
        RequestError: the id is invalid, or there is no such network.
        Refusal: `bad-nonce`, see `_checked_nonce`.
    """
    network = parse_path_id(path_id)
    nonce = _checked_nonce(nonces)
    record = await read_network(services, network)
    answer: JsonObject = {"descriptor": descriptor_json(record, services.keyring.node_did)}
    if nonce is not None:
        answer[SIGNATURE_MEMBER] = sign_descriptor(record, nonce, services.keyring.node_signer)
    return answer


def _checked_nonce(nonces: Sequence[str]) -> str | None:
    """Return the nonce of a query, or None if it has none.

    Raises:
        Refusal: `bad-nonce`, there are several nonces, or the nonce is malformed.
    """
    if not nonces:
        return None
    if len(nonces) > 1 or not is_nonce(nonces[0]):
        raise Refusal(
            "bad-nonce",
            "the request must contain one nonce, of 16 to 32 bytes in base64url without padding",
        )
    return nonces[0]


async def read_well_known(services: Services, name: str, owner_did: str | None) -> JsonObject:
    """Return an encryption network's record as a flat JSON object (enc-W13).

    The owner's DID is required.
    """
    return well_known_json(await read_network(services, well_known_id(name, owner_did)))


async def read_network(services: Services, network: NetworkId) -> NetworkRecord:
    """Read the record of an encryption network.

    Raises:
        RequestError: `network-not-found`.
    """
    row = await read_row(services.store, network_row_key(network))
    if row is None or row.value is None:
        raise RequestError("network-not-found")
    return decode_network(row.value)


async def create(services: Services, header: str, body: bytes, *, client: str | None) -> JsonObject:
    """Create an encryption network for its owner (enc 2.5, EN31).

    If a sign-in has already created the network, the network is claimed instead. A network can be
    claimed once. Claiming does not change the network's description.

    The checks run in the order of the table in enc 2.5; the comments give its rows.

    Args:
        header: untrusted text of the `Authorization` header.
        body: untrusted bytes.
        client: the caller's network address for the limit on unauthenticated clients; None is not
            counted.

    Raises:
        MalformedToken, CapabilityError, EncryptionError, SpaceError: the first check that fails.
    """
    unverified = parse_invocation(header)  # row 1
    value = read_body(body, max_bytes=MAX_BODY_BYTES)  # row 2
    invocation = _admitted(services, unverified)  # rows 3 and 4, except for the chain

    async def attempt(is_first: bool) -> tuple[Commit, JsonObject]:
        # Row 4, the chain. The use of the token is not recorded, because `_bind_write` records its
        # nonce instead (EN15).
        call = await read_call(services, invocation, records_use=False)
        network, body_hash = parse_create(value)  # rows 5 and 6
        # Rows 7 to 17. Only the first attempt records the nonce: a later attempt would find it
        # used, and refuse the request.
        write = await _bind_write(
            services, call, network, NETWORK_CREATE, body_hash, records_nonce=is_first
        )
        check_create(write.record)  # row 18
        if write.record is not None:  # a sign-in made the network, and it is not claimed yet (EN31)
            return _prepare(services, write, claim_network(write.record), "network.claimed")
        checks = await _owner_checks(services, network)  # row 19
        await require_present_secret(services)
        record = create_network(
            network,
            now=services.now(),
            keyring=services.keyring,
            entropy=services.entropy,
        )
        sealing_checks = services.sealing_checks
        return _prepare(services, write, record, "network.created", (*checks, *sealing_checks))

    descriptor = await until_committed(services, attempt)
    # A token without a proof may be signed by a key that was just generated, so the client's
    # address is charged (wire 5.13).
    if not invocation.parents:
        services.unauthenticated_rates.charge(client, now=services.now())
    return descriptor


async def _owner_checks(services: Services, network: NetworkId) -> tuple[Check, ...]:
    """Check that the owner of a new network may use this node (EN32).

    Returns:
        Conditions that fail the commit if the owner's admission has changed. Empty if this owner
        needs no admission.

    Raises:
        ChainError: `action-unauthorized`, the owner is not admitted.
    """
    owner = principal_of(network.owner)
    # The mode is not `permit`, or the settings list the owner (ST13).
    if not services.hosting.needs_admission(owner):
        return ()
    admission = await read_row(services.store, admission_key(owner))
    if not is_admitted(admission):  # the operator has not admitted the owner (ST14)
        raise ChainError("action-unauthorized", network.text, NETWORK_CREATE)
    return (check_of(admission_key(owner), admission),)


async def revoke(services: Services, header: str, path_id: str) -> None:
    """Revoke an encryption network permanently (enc 2.8).

    A repeated request, with a new token, writes nothing.

    Raises:
        MalformedToken, CapabilityError, EncryptionError, SpaceError: the first check that fails.
        ChainError: also `action-unauthorized`, for a party in which the owner or the operator has
            withdrawn trust (RC38).
    """
    invocation = _admitted(services, parse_invocation(header))

    async def attempt(is_first: bool) -> tuple[Commit, None]:
        # `_bind_write` records the nonce of the token, as in `create`.
        call = await read_call(services, invocation, (WITHDRAWALS_KEY,), records_use=False)
        write = await _bind_write(
            services,
            call,
            parse_path_id(path_id),
            NETWORK_REVOKE,
            REVOKE_BODY_HASH,
            records_nonce=is_first,
        )
        record = check_revoke(write.record)
        trusted = await _trust_check(services, call, record)
        if record.state != "revoked":
            changed = revoked(record, services.now())
            commit, _ = _prepare(services, write, changed, "network.revoked", (trusted,))
            return commit, None
        # Nothing is written, but the row that says so has to be durable (ST16).
        unchanged = check_of(network_row_key(record.network_id), write.row)
        commit = call.commit(checks=(unchanged,), use=write.replay_record, reserve=record.owner)
        return commit, None

    await until_committed(services, attempt)


async def _trust_check(services: Services, call: Call, record: NetworkRecord) -> Check:
    """Refuse a caller, or a chain, in which trust was withdrawn (RC38).

    Args:
        call: read with the row of the operator's withdrawals.
        record: the network, with its owner's withdrawals.

    Returns:
        The condition that the operator's list is unchanged. The owner's list is in the row of the
        network, which the commit checks anyway.

    Raises:
        ChainError: `action-unauthorized`.
        RecordDamaged: there is no list, or a delegation of the chain is missing.
    """
    (row,) = call.records
    if row is None or row.value is None:
        raise RecordDamaged("the store has no list of withdrawals of trust")
    contents = closure_contents(call.cited)
    links = await links_of(services, contents)
    if len(links) < len(contents):
        raise RecordDamaged("a delegation above the token is missing")
    involved = parties(call.invocation.invoker, links.values())
    withdrawals = record.withdrawals.joined(decode_withdrawals(row.value))
    if withdrawals.names_any(involved):
        raise ChainError("action-unauthorized", record.network_id.text, NETWORK_REVOKE)
    return Check(WITHDRAWALS_KEY, row.stamp)


def _admitted(services: Services, unverified: UnverifiedInvocation) -> Invocation:
    """Check the audience, the validity period and the signature of a token."""
    check_audience(unverified.audience, services.keyring.node_did)
    return admit_signed(unverified, now=services.now())


class _Write(FrozenStruct):
    """A verified request to create or revoke an encryption network.

    Attributes:
        call: the authorised invocation.
        replay_record: the record of the token's nonce, to be written again with the commit.
        row: the stored row of the network; None if there is none.
        record: the network in this row.
    """

    call: Call
    replay_record: ReplayRecord
    row: Record | None
    record: NetworkRecord | None


async def _bind_write(
    services: Services,
    call: Call,
    network: NetworkId,
    action: str,
    body_hash: str,
    *,
    records_nonce: bool,
) -> _Write:
    """Verify a request to create or revoke an encryption network, and read the network.

    Args:
        records_nonce: whether the token's nonce is used up; True for the first attempt. The nonce
            stays used even if the request fails afterwards.
    """
    invocation = call.invocation
    nonce = bind_admin(  # rows 7 to 16
        invocation,
        network,
        action=action,
        body_hash=body_hash,
        node_did=services.keyring.node_did,
    )
    # Creating and revoking are final, so a later repeat has no effect. The nonce of a token with a
    # longer lifetime is therefore recorded for MAX_LIFETIME_S only (EN15).
    ends_at = min(invocation.expires_at, services.now() + MAX_LIFETIME_S)
    own_span, next_span = nonce_replay_records(
        admin_nonce_key(invocation, nonce), expires_at=ends_at, max_lifetime_s=MAX_LIFETIME_S
    )
    if records_nonce:
        await _use_nonce(services, (own_span, next_span))  # row 17
    row = await read_row(services.store, network_row_key(network))
    record = None
    if row is not None and row.value is not None:
        record = decode_network(row.value)
    # A commit contains one replay record: that of the span of time in which the token expires.
    return _Write(call=call, replay_record=own_span, row=row, record=record)


async def _use_nonce(services: Services, replay_records: Sequence[ReplayRecord]) -> None:
    """Record that a nonce is used, and check that it was not used before (EN15).

    Raises:
        RequestError: `nonce-used`.
        Refusal: `restored-recently`, the store was restored a moment ago.
    """
    for replay_record in replay_records:
        snapshot = await services.store.read(replay_record=replay_record)
        if snapshot.is_use_unknown:
            await refuse_after_restore(services, replay_record)
        if snapshot.is_first_use is False:
            raise RequestError("nonce-used")


def _prepare(
    services: Services,
    write: _Write,
    record: NetworkRecord,
    action: str,
    checks: tuple[Check, ...] = (),
) -> tuple[Commit, JsonObject]:
    """Prepare the commit that stores an encryption network.

    Returns:
        The commit, and the network's public JSON description.
    """
    # Changes of existing networks may use the last space of a full store (ST17). New networks may
    # not, because anyone can create any number of them.
    reserve = None if write.row is None else record.owner
    commit = write.call.commit(
        (
            network_put(record.network_id, encode_network(record), expect=stamp_of(write.row)),
            write.call.audit(services, action, record.network_id.text),
        ),
        checks=checks,
        use=write.replay_record,
        reserve=reserve,
    )
    return commit, descriptor_json(record, services.keyring.node_did)
