"""Secrets that iExec's clients push and look up (spec/sms.md).

The service has a key and no rights. An owner's delegation to that key, registered at this node, is
all the authority it has. Every read and write is an invocation that cites this delegation, and is
judged like any other.

Example:
    grant = await find_grant(services, signer_of(signature, challenge))
    await push_secret(grant, message, secret, challenge, "s3cr3t", replaces=False)
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from blake3 import blake3
from msgspec.structs import replace

from capabilities.abilities import KV_GET, KV_METADATA, KV_PUT
from capabilities.capability_errors import BadSignature, CapabilityError, InvalidJson
from capabilities.frozen_struct import FrozenStruct
from capabilities.principals import Principal, eip55
from capabilities.resources import SpaceId
from capabilities.signatures import (
    address_of,
    eip191_digest,
    keccak256,
    recover_public_key,
)
from capabilities.strict_json import parse_json
from capabilities.tokens import Invocation
from encryption_network.envelope import encode_envelope, seal_envelope
from encryption_network.keyring import SMS_CHALLENGES
from encryption_network.networks import NetworkRecord, decode_network
from sealspace.documents import iexec_names
from sealspace.documents.places import place_of
from sealspace.documents.project_names import ProjectId
from sealspace.documents.secret_names import SECRETS_SPACE, SecretName
from sealspace.documents.secret_payloads import secret_payload
from sealspace.secrets import VAULT_METADATA, secret_label
from sealspace.session import mint, network_of_owner, space_capability
from spaces.documents.network_rows import network_row_key
from spaces.store.contract import Record, read_row
from spaces.values.value_bodies import Staging
from spaces.values.value_heads import Head, head_key, head_of
from spaces.values.value_writes import Write

from ...refusal import Refusal
from ...services import Services
from ..authorise import admit_token, read_call
from .conditions import NO_OPTIONS
from .kv_commit import PutReading, put_values
from .plan import Message, OperationTarget, Request

_DOMAIN = keccak256(b"IEXEC_SMS_DOMAIN")
_SIGNATURE = re.compile(r"0x[0-9A-Fa-f]{128}(1[B-Fb-f]|2[0-2])")  # r, s, v from 27 to 34
_STORED_AS = {"content-type": "text/plain;charset=UTF-8"}


def challenge_of(*parts: bytes) -> bytes:
    """Return the hash that a client signs to push a secret (SM4)."""
    return keccak256(b"".join((_DOMAIN, *parts)))


def did_of(address: bytes) -> Principal:
    """Return the DID of a wallet."""
    return Principal(f"did:pkh:eip155:1:{eip55(address)}")


def signer_of(authorization: str, challenge: bytes) -> Principal:
    """Recover the wallet that signed a challenge (SM4).

    Args:
        authorization: untrusted header: `0x`, then r ‖ s ‖ v in hex, with v from 27 to 34.
        challenge: 32 bytes.
    Raises:
        Refusal: `sms-unauthorized`, for every failure.
    Does not check:
        Replay; see `push_secret`.
    """
    if _SIGNATURE.fullmatch(authorization) is None:
        raise Refusal("sms-unauthorized")
    signature = bytes.fromhex(authorization.removeprefix("0x"))
    r_and_s, v = signature[:64], signature[64]
    recovery_id = (v - 27) % 4  # 27 to 30 and 31 to 34 both stand for the ids 0 to 3
    try:
        point = recover_public_key(eip191_digest(challenge), r_and_s, recovery_id)
    except BadSignature:
        raise Refusal("sms-unauthorized") from None
    return did_of(address_of(point))


def _body_of(record: Record | None, key: bytes) -> bytes:
    """Return a small value; it is empty if the value is absent or too long for its row."""
    head = head_of(record, key=key)
    if head is None or head.body is None:
        return b""
    return head.body


class OwnerGrant(FrozenStruct):
    """An owner's delegation to the service, which has not been judged yet.

    Attributes:
        services: of the node.
        space: the owner's `secrets` space.
        cid: untrusted text, which the owner stored; empty in the service's own space.
        network: the owner's default network.
    """

    services: Services
    space: SpaceId
    cid: str
    network: NetworkRecord

    def invocation(self, ability: str, *paths: str) -> Invocation:
        """Return an invocation that the service signed and that cites the delegation (SM2)."""
        services = self.services
        now = self.services.now()
        max_lifetime_s = services.config.invocation.max_lifetime_s
        token = mint(
            services.keyring.sms_signer,
            services.entropy,
            audience=services.keyring.node_did,
            capabilities=[space_capability(self.space, "kv", path, ability) for path in paths],
            proofs=(self.cid,) if self.cid else (),
            expires_at=now + max_lifetime_s / 2,
        )
        return admit_token(token, now=now, max_lifetime_s=max_lifetime_s)

    async def read(self, ability: str, path: str) -> Head | None:
        """Return the row of a value, if the wallet's delegation grants the ability on it (SM2).

        None means that nothing is stored at the path.

        Raises:
            Refusal: `sms-not-enabled`, the delegation was not signed by the wallet itself.
            Errors of `read_call`: the delegation does not grant the ability.
        """
        key = head_key(self.space, path)
        invocation = self.invocation(ability, path)
        # The token never left this process, so it cannot be replayed. Without a replay record, a
        # stranger's request writes nothing.
        read = partial(read_call, self.services, invocation, records_use=False)
        # The first read only judges the delegation. The row is not read together with it: without
        # authority, the time of the refusal would depend on the size of the row (SM10).
        authorised = await read()
        # Only the owner's wallet enables the service. A delegation with parents was signed by a
        # session or a delegate (SM2).
        for delegation in authorised.cited:
            if delegation.parents:
                raise Refusal("sms-not-enabled")
        call = await read((key,))
        (record,) = call.records
        return head_of(record, key=key)

    async def put(
        self,
        message: Message,
        values: Mapping[str, bytes],
        condition: Callable[[Sequence[Head | None]], None] | None = None,
    ) -> None:
        """Store values in one commit, if the delegation grants it (SM2).

        `condition` gets the rows at the paths, in the order of `values`; see `Request`.
        """
        paths = [*values]

        async def receive(staging: Staging, admitted: PutReading) -> list[Write]:
            writes: list[Write] = []
            for path, data in values.items():
                body = await staging.keep(data)
                writes.append(Write(path=path, body=body, metadata=_STORED_AS))
            return writes

        request = Request(
            services=self.services,
            invocation=self.invocation(KV_PUT, *paths),
            targets=tuple(OperationTarget(self.space, path) for path in paths),
            options=NO_OPTIONS,
            message=message,
            condition=condition,
        )
        await put_values(
            request,
            paths,
            receive,
            subject=f"{self.space.text}/kv/{paths[0]}",
        )


async def find_grant(services: Services, owner: Principal) -> OwnerGrant:
    """Find the delegation that an owner stored for the service (SM3).

    The cost does not depend on how many delegations the owner has made.

    Raises:
        Refusal: `sms-not-enabled`, the owner stored no delegation, or revoked the network.
    """
    space = SpaceId(owner, SECRETS_SPACE)
    network = network_of_owner(owner)
    key = head_key(space, iexec_names.GRANT_KEY)
    rows = (await services.store.read([key, network_row_key(network)])).records
    grant_row, network_row = rows
    network_record = None
    if network_row is not None and network_row.value is not None:
        network_record = decode_network(network_row.value)
    cid = _body_of(grant_row, key).decode("ascii", "replace")
    if not cid:
        raise Refusal("sms-not-enabled")
    if network_record is None or network_record.state != "active":
        raise Refusal("sms-not-enabled")
    return OwnerGrant(services=services, space=space, cid=cid, network=network_record)


def _own_space(services: Services) -> SpaceId:
    """Return the space of the service, where it notes the owners of addresses (SM11)."""
    return SpaceId(Principal(services.keyring.sms_signer.did), "iexec")


async def owner_at(services: Services, address: str) -> Principal:
    """Return the owner of an address for which a secret was pushed (SM11).

    The result is empty if no owner is noted.
    """
    key = head_key(_own_space(services), address.lower())
    return Principal(_body_of(await read_row(services.store, key), key).decode())


async def require_ownership(
    grant: OwnerGrant,
    kind: iexec_names.AddressKind,
    address: str,
    secret: SecretName,
    message: Message,
) -> None:
    """Check that the owner published what is at an address (SM9), and note the owner (SM11).

    Args:
        grant: the grant of the wallet that signed the challenge.
        kind: the kind of object at the address.
        address: `0x` and 40 hex digits.
        secret: name of the secret of the address.
        message: the HTTP request.
    Raises:
        Refusal: `sms-unauthorized`, the owner's record is absent or belongs to another address.
        CapabilityError: the delegation does not grant the read.
    """
    head = await grant.read(KV_GET, iexec_names.owner_record_key(kind, address))
    try:
        body = b"" if head is None or head.body is None else head.body
        record = parse_json(body, max_bytes=1024)  # an absent record is not JSON, so it is refused
    except InvalidJson:
        raise Refusal("sms-unauthorized") from None
    member = "project" if kind == "app" else kind  # the owner's record names an app by its project
    name = record.get(member)
    owner = grant.space.owner
    address = address.lower()
    if not isinstance(name, str):
        raise Refusal("sms-unauthorized")
    if iexec_names.address_of(kind, ProjectId(owner, name)) != address:
        raise Refusal("sms-unauthorized")
    own = replace(grant, space=_own_space(grant.services), cid="")
    # The owner is noted only if the owner grants public checks; otherwise the time of a check would
    # show the note (SM11). Nothing is noted either if this node does not host the service's space.
    with suppress(Refusal, CapabilityError):
        await grant.read(KV_METADATA, secret.path)  # raises without that grant
        if await owner_at(grant.services, address) != owner:  # copies of a push write nothing
            await own.put(message, {address: owner.encode()})


async def _was_used_before(grant: OwnerGrant, challenge: bytes) -> bool:
    """Return whether an earlier version of this node recorded the use of a challenge (SM12).

    Earlier versions derived the path from the root secret itself. Such paths cannot be computed
    once the secret was replaced (RK8).
    """
    services = grant.services
    if services.keyring.has_kept_keys:
        return False
    digest = services.keyring.derive(b"sealspace/sms/challenge" + challenge)
    key = head_key(grant.space, iexec_names.USED_PREFIX + digest.hex())
    return head_of(await read_row(services.store, key), key=key) is not None


async def push_secret(
    grant: OwnerGrant,
    message: Message,
    secret: SecretName,
    challenge: bytes,
    value: str,
    replaces: bool,
) -> None:
    """Seal a secret to its owner's network, and store it under the owner's delegation.

    One commit contains the secret and a record of the challenge (SM7, SM12).

    Args:
        grant: the grant of the wallet that signed the challenge.
        message: the HTTP request.
        secret: name of the secret.
        challenge: 32 bytes.
        value: the value.
        replaces: whether the secret must exist; otherwise it must be absent.
    Raises:
        Refusal: `sms-exists`, `sms-absent`, `sms-challenge-used`; quotas.
        CapabilityError: the delegation does not grant the write (SM3).
        SpaceError: the store does not answer.
    """
    services, space = grant.services, grant.space
    # The path contains a keyed hash of the challenge. The challenge itself would let readers of the
    # store test guesses of a short value (SM12).
    key = services.keyring.derive(SMS_CHALLENGES)
    used_path = iexec_names.USED_PREFIX + blake3(challenge, key=key).hexdigest()
    was_used_before = await _was_used_before(grant, challenge)

    def condition(heads: Sequence[Head | None]) -> None:
        stored, former_use = heads  # at the path of the secret, and at `used_path`
        exists = stored is not None
        if exists != replaces:  # POST creates and PUT replaces (SM7)
            raise Refusal("sms-absent" if replaces else "sms-exists")
        # A challenge is used once, so that a copy of a push brings no former value back (SM12).
        if former_use is not None or was_used_before:
            raise Refusal("sms-challenge-used")

    envelope = encode_envelope(
        seal_envelope(
            grant.network,
            secret_payload(value, place=place_of(space, secret.path), now=services.now()),
            services.entropy,
            aad=secret_label(space, secret),
            metadata=VAULT_METADATA,
        )
    )
    await grant.put(message, {secret.path: envelope, used_path: b""}, condition)
