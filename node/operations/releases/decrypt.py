"""The handling of decrypt requests (enc 2.7; RL15).

A request arrives on a network's route or on `/invoke`. Both routes take the same steps: bind token
and body to each other, read what the decision depends on, ask the gate, make the decision durable,
and only then decrypt the key. A token is good for one release, on either route: the first read
creates its replay record.
"""

from capabilities.abilities import DECRYPT
from capabilities.machine_tokens import MachineGrant
from capabilities.members import Member
from capabilities.resources import NETWORK_PREFIX, NetworkId, OpaqueResource, Resource
from capabilities.strict_json import Json, JsonObject
from capabilities.tokens import Invocation, parse_invocation
from encryption_network.canonical_json import canonical_bytes, canonical_members
from encryption_network.gate import ReleasePermit, admit
from encryption_network.network_errors import ReleaseRefused, RequestError
from encryption_network.networks import parse_path_id
from encryption_network.release import open_key
from encryption_network.requests import (
    MAX_BODY_BYTES,
    MAX_LIFETIME_S,
    bind_decrypt,
    check_audience,
    invoked_network,
    parse_decrypt_body,
    read_body,
)
from encryption_network.withdrawals import evidence_digest
from spaces.store.contract import Check, Commit, Put, commit_puts

from ...services import Services
from ..attempts import until_committed
from ..authorise import Call, admit_signed, read_call
from ..values.plan import Message
from .release_reading import read_release, release_keys
from .release_receipts import NewReceipt, new_receipt


async def decrypt_on_route(
    services: Services, header: str, *, path_id: str, body: bytes
) -> JsonObject:
    """Answer a decrypt request on an encryption network's HTTP route (enc 2.7).

    The checks run in the order of the table in enc 2.7; the comments give its rows.

    Args:
        header: untrusted text of the `Authorization` header.
        path_id: untrusted network id of the path.
        body: untrusted bytes.

    Raises:
        MalformedToken, CapabilityError, EncryptionError, SpaceError: the first check that fails.
    """
    unverified = parse_invocation(header)  # row 1, the token
    value = read_body(body, max_bytes=MAX_BODY_BYTES)  # row 1, the body
    check_audience(unverified.audience, services.keyring.node_did)  # row 2
    invocation = admit_signed(unverified, now=services.now())  # row 3, except for the chain
    try:
        network = parse_path_id(path_id)
    except RequestError:
        # `_decrypt` refuses the invalid id in row 4, because the chain comes first.
        network = None
    return await _decrypt(services, invocation, value, network, path_id)


def is_about_network(resource: Resource) -> bool:
    """Return whether a resource looks like an encryption network's id (I6).

    A token with such a resource requests a key. If the id is invalid, the token is refused as a
    decrypt request.
    """
    return isinstance(resource, OpaqueResource) and resource.text.startswith(NETWORK_PREFIX)


async def decrypt_invoked(
    services: Services, invocation: Invocation, message: Message
) -> JsonObject:
    """Answer a decrypt request on the HTTP route `/invoke`.

    Its token has already passed row 1 and, except for the chain, row 3. On this route, row 4 comes
    before the body is parsed (enc 2.7).
    """
    body = await message.whole_body(MAX_BODY_BYTES)
    if body is None:
        raise RequestError("request-too-large", str(MAX_BODY_BYTES))
    network = invoked_network(invocation.capabilities)  # row 4
    assert network is not None  # `is_about_network` chose this operation
    value = read_body(body, max_bytes=MAX_BODY_BYTES)  # row 1, the body
    return await _decrypt(services, invocation, value, network, network.text)


async def _decrypt(
    services: Services, invocation: Invocation, value: Json, network: NetworkId | None, path_id: str
) -> JsonObject:
    """Check a decrypt request, make the decision durable, and decrypt the key.

    Args:
        value: the parsed body.
        network: None if the network id in the path is invalid.
        path_id: untrusted network id of the path.
    Returns:
        The node's signed answer, as `open_key` makes it.
    Raises:
        MalformedToken, CapabilityError, EncryptionError, SpaceError: the first check that fails.
    """
    keys = None
    # These rows are read together with the call, before token and body are checked against each
    # other. A wrong key in the body only adds a row that is not used.
    if network is not None:
        members = value if isinstance(value, dict) else {}
        keys = release_keys(network, invocation.invoker, members)
    first_rows = () if keys is None else keys.all

    # The type is quoted, so that it is not evaluated for each request.
    async def attempt(is_first: bool) -> "tuple[Commit, tuple[ReleasePermit, NewReceipt]]":
        # A token with too long a lifetime is refused in row 17, which compares whole seconds.
        # Recording its use would make the store keep the record for that long.
        is_bounded = invocation.expires_at <= services.now() + MAX_LIFETIME_S + 1
        # Rows 2 and 8 check the token's audience, with their own errors.
        call = await read_call(
            services, invocation, first_rows, records_use=is_first and is_bounded, addressed=False
        )
        try:
            valid_network = network
            if valid_network is None:
                valid_network = parse_path_id(path_id)  # row 4; raises the error of the invalid id
            body = parse_decrypt_body(value)  # row 5
            bound = bind_decrypt(  # rows 6 to 12
                invocation, body, valid_network, services.keyring.node_did
            )
            assert keys is not None  # row 4 refused an invalid id
            permit = admit(await read_release(services, call, keys, bound))
        except (ReleaseRefused, RequestError) as refusal:
            await _record_refusal(services, call, refusal)
            raise
        receipt = await new_receipt(services, permit)
        # Decision and receipt are written only if no row that the decision depends on has changed:
        # a revocation or withdrawal in between makes the commit fail.
        commit = call.commit(
            (_release_audit(services, call, permit, receipt), *receipt.puts),
            checks=[Check(row.key, row.stamp) for row in permit.checks],
            relied_on=permit.live,
            reserve=permit.decrypt.network.owner,  # a full store still releases keys (ST17)
        )
        return commit, (permit, receipt)

    permit, receipt = await until_committed(services, attempt)
    receipt.note()  # the documents of the receipt are durable only now
    if services.counter is not None:
        services.counter.released(permit.ground)
    return open_key(permit, keyring=services.keyring, entropy=services.entropy)


def _release_audit(
    services: Services, call: Call, permit: ReleasePermit, receipt: NewReceipt
) -> Put:
    """Create the audit record of an authorised key release.

    The record is durable before the key is decrypted. It contains the SHA-256 of the receipt in
    hex, so that the hash chain of the audit log also covers receipts (RC8).
    """
    decrypt, evidence = permit.decrypt, permit.evidence
    machine = permit.holder if isinstance(permit.holder, MachineGrant) else None
    member = permit.holder if isinstance(permit.holder, Member) else None
    detail = canonical_members(
        {
            "ground": permit.ground,
            # the name of a machine token, and the claims of the job that exchanged an ID token for
            # it (MT5, OX5)
            "machine": None if machine is None else machine.name,
            "claims": None if machine is None else machine.claims,
            # the DID of a team's member (TM8)
            "member": None if member is None else member.statement.member,
            "mode": permit.mode,
            "owner": decrypt.network.owner,
            "requestHash": decrypt.request_hash,
            "receiverPublicKeyHash": decrypt.bound.body.stated.receiver_public_key_hash,
            "policies": permit.policy_sha256,
            "evidence": None if evidence is None else evidence_digest(evidence).hex(),
            "quote": None if evidence is None else evidence.quote_sha256.hex(),
            "collateral": None if evidence is None else evidence.collateral_sha256.hex(),
            "receipt": receipt.sha256,
        }
    )
    return call.audit(
        services,
        "release.authorised",
        decrypt.network.network_id.text,
        detail,
        at=permit.decided_at,
    )


async def _record_refusal(
    services: Services, call: Call, refusal: ReleaseRefused | RequestError
) -> None:
    """Write an audit record about a refused decrypt request (RL14).

    The record contains the full cause; the caller learns only a coarse cause. Its subject is the
    first resource that the token asks to decrypt for.
    """
    detail: JsonObject
    if isinstance(refusal, ReleaseRefused):
        detail = {"reason": refusal.reason, "detail": refusal.detail}
    elif refusal.audit_outcome is not None:
        detail = {"reason": refusal.audit_outcome}
    else:
        return  # the failed check is not audited (enc 2.10)
    subject = ""
    for capability in call.invocation.capabilities:
        if capability.ability == DECRYPT:
            subject = capability.resource.text
            break
    put = call.audit(services, "release.refused", subject, canonical_bytes(detail))
    await commit_puts(services.store, put)
