"""Create, read and revoke encryption networks (enc 2.5, 2.6, 2.8)."""

from collections.abc import Sequence

from capabilities.abilities import NETWORK_CREATE, NETWORK_REVOKE
from capabilities.errors import ChainError
from capabilities.principals import principal_of
from capabilities.resources import NetworkId
from capabilities.strict_json import Json
from capabilities.tokens import Invocation, parse_invocation
from encryption_network.errors import RequestError
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
    admin_claim_key,
    bind_admin,
    check_audience,
    check_create,
    check_revoke,
    parse_create,
    read_body,
)
from encryption_network.signed_descriptor import SIGNATURE_MEMBER, is_nonce, sign_descriptor
from spaces.audit.records import AuditRecord, audit_put
from spaces.documents.networks import network_put, network_row_key
from spaces.grants.admissions import admission_check, admission_key, is_admitted
from spaces.grants.replay_records import claims_whenever
from spaces.store.contract import Check, Claim, Commit, Record, read_row, stamp_of

from ...refusal import Refusal
from ...services import Services
from ..attempts import CommitPlan, until_committed
from ..authorise import Call, admit_signed, read_call
from ..reading import Reading


async def read_descriptor(services: Services, path_id: str, nonces: Sequence[str]) -> dict[str, Json]:
    """Return the descriptor of a network, in whatever state, signed if the caller sends a nonce (EN28).

    Args:
        path_id: untrusted.
        nonces: every `nonce` of the query, untrusted; none: the answer is unsigned.
    Raises:
        RequestError, `bad-nonce`: the first that applies.
    """
    network = parse_path_id(path_id)
    if nonces and not (len(nonces) == 1 and is_nonce(nonces[0])):
        raise Refusal("bad-nonce", "the nonce is one text of 16 to 32 bytes, base64url without padding")
    record = await _read(services, network)
    answer: dict[str, Json] = {"descriptor": descriptor_json(record, services.keyring.node_did)}
    if nonces:
        answer[SIGNATURE_MEMBER] = sign_descriptor(record, nonces[0], services.keyring.node_signer)
    return answer


async def read_well_known(services: Services, name: str, owner_did: str | None) -> dict[str, Json]:
    """Return the flat record of an owner's network; the owner has to be named (enc-W13).

    Raises:
        RequestError: owner and name make no id, no owner is named, or there is no such network.
    """
    return well_known_json(await _read(services, well_known_id(name, owner_did)))


async def _read(services: Services, network: NetworkId) -> NetworkRecord:
    row = await read_row(services.store, network_row_key(network))
    record = _decoded(row)
    if record is None:
        raise RequestError("network-not-found")
    return record


def _decoded(row: Record | None) -> NetworkRecord | None:
    return None if row is None or row.value is None else decode_network(row.value)


async def create(services: Services, header: str, body: bytes, *, client: str | None) -> dict[str, Json]:
    """Create a network, or claim the one that a sign-in made, and return its descriptor; one commit (enc 2.5, EN31).

    Args:
        header: untrusted text of the `Authorization` header.
        body: untrusted bytes.
        client: network address of the caller, counted against the bound on unauthenticated clients; None: not counted.

    Raises:
        MalformedToken, CapabilityError, EncryptionError, SpaceError: the first row that fails.
    """
    unverified = parse_invocation(header)  # row 1
    value = read_body(body, max_bytes=MAX_BODY_BYTES)  # row 2
    node_did = services.keyring.node_did
    check_audience(unverified.audience, node_did)  # row 3
    invocation = admit_signed(unverified, now=services.clock.now())  # row 4, with the chain below

    async def attempt(is_first: bool) -> CommitPlan[dict[str, Json]]:
        call = await read_call(services, invocation, Reading(), claiming=False)
        asked = parse_create(value)  # rows 5, 6
        nonce = bind_admin(
            invocation, asked.network_id, action=NETWORK_CREATE, body_hash=asked.body_hash, node_did=node_did
        )  # rows 7 to 16
        claims = _claims(services, invocation, nonce)
        row = await _claimed_row(services, asked.network_id, claims, claiming=is_first)  # row 17
        existing, checks = _decoded(row), tuple[Check, ...]()
        check_create(existing)  # row 18
        if existing is not None:  # EN31
            record, action = claim_network(existing), "network.claimed"
        else:
            checks = await _owner_checks(services, asked.network_id)  # row 19
            record, action = (
                create_network(
                    asked.network_id,
                    now=services.clock.now(),
                    keyring=services.keyring,
                    entropy=services.entropy,
                ),
                "network.created",
            )
        commit = _commit(services, call, record, action, claims[0], row, checks)
        return CommitPlan(commit, descriptor_json(record, node_did))

    descriptor = await until_committed(services, attempt)
    if not invocation.parents:  # no delegation that is known here supports its signer (wire 5.13)
        services.unauthenticated_rates.charge(client, now=services.clock.now())
    return descriptor


async def _owner_checks(services: Services, network: NetworkId) -> tuple[Check, ...]:
    """Return what still has to hold when a network is made, where spaces of its owner are hosted (EN32).

    Raises:
        ChainError: `action-unauthorized`, they are not.
    """
    owner = principal_of(network.owner)
    if not services.hosting.needs_row(owner):  # ST13
        return ()
    admission = await read_row(services.store, admission_key(owner))
    if not is_admitted(admission):  # ST14
        raise ChainError("action-unauthorized", network.text, NETWORK_CREATE)
    return (admission_check(owner, admission),)


async def revoke(services: Services, header: str, path_id: str) -> None:
    """Revoke a network for good; repeating it is allowed (enc 2.8)."""
    unverified = parse_invocation(header)
    node_did = services.keyring.node_did
    check_audience(unverified.audience, node_did)
    invocation = admit_signed(unverified, now=services.clock.now())

    async def attempt(is_first: bool) -> CommitPlan[None]:
        call = await read_call(services, invocation, Reading(), claiming=False)
        network = parse_path_id(path_id)
        nonce = bind_admin(invocation, network, action=NETWORK_REVOKE, body_hash=REVOKE_BODY_HASH, node_did=node_did)
        claims = _claims(services, invocation, nonce)
        row = await _claimed_row(services, network, claims, claiming=is_first)
        record = revoked(check_revoke(_decoded(row)), services.clock.now())
        return CommitPlan(_commit(services, call, record, "network.revoked", claims[0], row), None)

    await until_committed(services, attempt)


def _claims(services: Services, invocation: Invocation, nonce: str) -> tuple[Claim, Claim]:
    # EN15: repeating a token that lives longer has no effect, for what it did is final. Its nonce need not be kept.
    ends_at = min(invocation.expires_at, services.clock.now() + MAX_LIFETIME_S)
    return claims_whenever(admin_claim_key(invocation, nonce), expires_at=ends_at, max_lifetime_s=MAX_LIFETIME_S)


async def _claimed_row(
    services: Services, network: NetworkId, claims: Sequence[Claim], *, claiming: bool
) -> Record | None:
    """Read the network's row and use up the nonce, even when the request fails afterwards (row 17)."""
    for claim in claims if claiming else ():
        if (await services.store.read(claim=claim)).claimed is False:
            raise RequestError("nonce-used")
    return await read_row(services.store, network_row_key(network))


def _commit(
    services: Services,
    call: Call,
    record: NetworkRecord,
    action: str,
    claim: Claim,
    row: Record | None,
    checks: tuple[Check, ...] = (),
) -> Commit:
    audit = AuditRecord(
        at=services.clock.now(),
        action=action,
        actor=call.invocation.invoker,
        subject=record.network_id.text,
        token=call.invocation.cid,
        authority=call.authority.live,
    )
    expect = stamp_of(row)
    puts = (
        network_put(record.network_id, encode_network(record), expect=expect),
        audit_put(audit, entropy=services.entropy),
    )
    return Commit(puts=puts, live=call.live, checks=checks, claim=claim)
