"""Open a key of an encryption network, on the dedicated route and through `/invoke` (enc 2.7; RL15).

Both ways do the same: bind token and body, read what the release rests on, ask the gate, make the decision durable, and
only then open the key. A token opens once, on both routes together: its replay record is claimed with the first read.
"""

from collections.abc import Callable
from functools import partial
from typing import Final, Protocol, TypeAlias

from capabilities.abilities import DECRYPT
from capabilities.resources import NETWORK_PREFIX, NetworkId, OpaqueResource, Resource
from capabilities.strict_base64 import decode_standard
from capabilities.strict_json import Json
from capabilities.tokens import Invocation, parse_invocation
from encryption_network.canonical_json import canonical_bytes, canonical_members
from encryption_network.errors import ReleaseRefused, RequestError
from encryption_network.gate import Admission, admit
from encryption_network.networks import parse_path_id
from encryption_network.release import open_key
from encryption_network.requests import (
    MAX_BODY_BYTES,
    MAX_LIFETIME_S,
    BoundDecrypt,
    bind_decrypt,
    check_audience,
    invoked_network,
    parse_decrypt_body,
    read_body,
)
from encryption_network.withdrawals import evidence_digest
from spaces.audit.records import AuditRecord, audit_put
from spaces.grants.revocations import mark_keys
from spaces.store.contract import Check, Commit, Put

from ...services import Services
from ..attempts import CommitPlan, until_committed
from ..authorise import Call, admit_signed, read_call
from ..reading import Reading
from .receipts import NewReceipt, new_receipt, note_durable
from .release_reading import ReleaseRows, read_release, release_rows

AUTHORISED: Final = "release.authorised"
REFUSED: Final = "release.refused"


def _authorised_put(services: Services, admission: Admission, call: Call, *, receipt: str) -> Put:
    """Return the record that a release was authorised; it is durable before the key is opened.

    It names the receipt by its SHA-256 in hex, so that the chain over the audit covers the receipts (RC8).
    """
    decrypt, evidence = admission.decrypt, admission.evidence
    detail = canonical_members(
        {
            "ground": admission.ground,
            "mode": admission.mode,
            "owner": decrypt.network.owner,
            "requestHash": decrypt.request_hash,
            "receiverPublicKeyHash": decrypt.bound.body.stated.receiver_public_key_hash,
            "policies": admission.policy_sha256,
            "evidence": None if evidence is None else evidence_digest(evidence).hex(),
            "quote": None if evidence is None else evidence.quote_sha256.hex(),
            "collateral": None if evidence is None else evidence.collateral_sha256.hex(),
            "receipt": receipt,
        }
    )
    return _put(services, AUTHORISED, decrypt.network.network_id.text, call, detail, at=admission.decided_at)


def _put(services: Services, action: str, subject: str, call: Call, detail: bytes, *, at: float) -> Put:
    record = AuditRecord(
        at=at,
        action=action,
        actor=call.invocation.invoker,
        subject=subject,
        token=call.invocation.cid,
        authority=call.authority.live,
        detail=detail,
    )
    return audit_put(record, entropy=services.entropy)


async def decrypt_on_route(services: Services, header: str, *, path_id: str, body: bytes) -> dict[str, Json]:
    """Answer `POST /encryption/networks/<id>/decrypt`, in the order of its rows."""
    unverified = parse_invocation(header)  # row 1
    value = read_body(body, max_bytes=MAX_BODY_BYTES)
    check_audience(unverified.audience, services.keyring.node_did)  # row 2
    invocation = admit_signed(unverified, now=services.clock.now())  # row 3, with the chain below
    try:
        named = parse_path_id(path_id)
    except RequestError:  # `invalid-network-id`
        named = None  # answered in its row, after the chain

    def bind() -> BoundDecrypt:
        network = parse_path_id(path_id) if named is None else named  # row 4
        return bind_decrypt(invocation, parse_decrypt_body(value), network, services.keyring.node_did)  # 5 to 12

    ask = None if named is None else _asking(named, invocation, value)
    return await _decrypt(services, invocation, ask, bind)


def is_about_network(resource: Resource) -> bool:
    """Whether a resource is written as a network, even if none can have that id: a key is asked for (I6)."""
    return isinstance(resource, OpaqueResource) and resource.text.startswith(NETWORK_PREFIX)


class _ReadBody(Protocol):
    async def __call__(self, *, max_bytes: int) -> bytes | None: ...


async def decrypt_invoked(services: Services, invocation: Invocation, read: _ReadBody) -> dict[str, Json]:
    """Answer a decrypt request on `/invoke`; the token is admitted already (rows 1 and 3)."""
    body = await read(max_bytes=MAX_BODY_BYTES)
    if body is None:
        raise RequestError("request-too-large", str(MAX_BODY_BYTES))
    network = invoked_network(invocation.capabilities)  # row 4
    assert network is not None  # this branch was chosen by such a capability
    value = read_body(body, max_bytes=MAX_BODY_BYTES)  # row 1

    def bind() -> BoundDecrypt:
        return bind_decrypt(invocation, parse_decrypt_body(value), network, services.keyring.node_did)  # 5 to 12

    return await _decrypt(services, invocation, _asking(network, invocation, value), bind)


_Ask: TypeAlias = Callable[[Reading], ReleaseRows]


def _asking(network: NetworkId, invocation: Invocation, value: Json) -> _Ask:
    """Return what asks for the rows to read with the call, before token and body are bound to each other."""
    stated = value.get("receiverPublicKey") if isinstance(value, dict) else None
    key = decode_standard(stated)
    return partial(release_rows, network=network, invoker=invocation.invoker, receiver_public_key=key)


async def _decrypt(
    services: Services, invocation: Invocation, ask: _Ask | None, bind: Callable[[], BoundDecrypt]
) -> dict[str, Json]:
    async def attempt(is_first: bool) -> CommitPlan[tuple[Admission, NewReceipt]]:
        # A token that lives too long is refused further down; claiming it would keep the claim for as long.
        is_bounded = invocation.expires_at <= services.clock.now() + MAX_LIFETIME_S + 1
        # The audience of the token is checked in rows 2 and 8, with their errors.
        reading = Reading()
        rows = None if ask is None else ask(reading)
        call = await read_call(services, invocation, reading, claiming=is_first and is_bounded, addressed=False)
        try:
            bound = bind()
            assert rows is not None  # without a network nothing can be bound
            admission = admit(await read_release(services, call, rows, bound))
        except (ReleaseRefused, RequestError) as refusal:
            await _record_refusal(services, call, refusal)
            raise
        receipt = await new_receipt(services, admission)
        return CommitPlan(_commit(services, call, admission, receipt), (admission, receipt))

    admission, receipt = await until_committed(services, attempt)
    note_durable(services, receipt)
    if services.counter is not None:
        services.counter.released(admission.ground)
    return open_key(admission, keyring=services.keyring, entropy=services.entropy)


def _commit(services: Services, call: Call, admission: Admission, receipt: NewReceipt) -> Commit:
    """Make the decision and its receipt durable, on condition that everything it rests on is unchanged."""
    audit = _authorised_put(services, admission, call, receipt=receipt.sha256)
    return Commit(
        puts=(audit, *receipt.puts),
        live=mark_keys(admission.live),
        checks=tuple([Check(row.key, row.stamp) for row in admission.checks]),
        claim=call.claim,
    )


async def _record_refusal(services: Services, call: Call, refusal: ReleaseRefused | RequestError) -> None:
    """Record the full cause; the caller learns only the coarse one (RL14).

    Nothing is recorded for rows of the request ladder that are not audited (enc 2.10).
    """
    if isinstance(refusal, ReleaseRefused):
        detail: dict[str, Json] = {"reason": refusal.reason, "detail": refusal.detail}
    elif refusal.audit_outcome is not None:
        detail = {"reason": refusal.audit_outcome}
    else:
        return
    network = next((c.resource.text for c in call.invocation.capabilities if c.ability == DECRYPT), "")
    put = _put(services, REFUSED, network, call, canonical_bytes(detail), at=services.clock.now())
    await services.store.commit(Commit(puts=(put,)))
