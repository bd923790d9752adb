"""Secrets that iExec's clients push and look up (spec/sms.md).

The service has a key and no rights. An owner's delegation to that key, registered at this node, is
all the authority it has. Every read and write is an invocation that cites this delegation, and is
judged like any other.

Example:
    grant = await find_grant(services, signer_of(signature, challenge))
    await push_secret(grant, message, secret, challenge, "s3cr3t", replaces=False)
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from msgspec import Struct

from capabilities.abilities import KV_GET, KV_PUT
from capabilities.capability_errors import BadSignature, CapabilityError
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
from encryption_network.keyring import SMS_CHALLENGE
from encryption_network.networks import Descriptor, decode_network
from sealspace.documents.iexec_names import (
    GRANT_KEY,
    USED_PREFIX,
    AddressKind,
    owner_record_key,
)
from sealspace.documents.iexec_names import address_of as address_of_project
from sealspace.documents.project_names import ProjectId
from sealspace.documents.secret_names import SECRETS_SPACE, SecretName
from sealspace.errors import InvalidInput
from sealspace.secrets import VAULT_METADATA, secret_label, secret_payload
from sealspace.session import INVOCATION_TTL_S, mint, network_of_owner, space_capability
from spaces.documents.network_rows import network_row_key
from spaces.values.value_bodies import Staging
from spaces.values.value_heads import Head, Write, head_key, head_of

from ...refusal import Refusal
from ...services import Services
from ..authorise import admit_token, read_call
from .conditions import NO_OPTIONS
from .kv_commit import PutReading, put_values
from .plan import Message, OperationTarget, Request
from .sealed_values import sealed_key_of

_DOMAIN = keccak256(b"IEXEC_SMS_DOMAIN")
_SIGNATURE = re.compile(r"0x[0-9A-Fa-f]{130}")
_MAX_RECORD_BYTES = 1024
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
    if _SIGNATURE.fullmatch(authorization):
        signature = bytes.fromhex(authorization[2:])
        if 27 <= signature[64] <= 34:
            try:
                point = recover_public_key(
                    eip191_digest(challenge), signature[:64], (signature[64] - 27) & 3
                )
                return did_of(address_of(point))
            except BadSignature:
                pass
    raise Refusal("sms-unauthorized")


class OwnerGrant(Struct, frozen=True):
    """An owner's delegation to the service, which has not been judged yet.

    Attributes:
        services: of the node.
        space: the owner's `secrets` space.
        cid: untrusted text, which the owner stored.
        network: the owner's default network, as an envelope's key.
    """

    services: Services
    space: SpaceId
    cid: str
    network: Descriptor

    def invocation(self, ability: str, *paths: str) -> Invocation:
        """Return an invocation that the service signed and that cites the delegation (SM2)."""
        services, now = self.services, self.services.clock.now()
        max_lifetime_s = services.config.invocation.max_lifetime_s
        token = mint(
            services.keyring.sms_signer,
            services.entropy,
            audience=services.keyring.node_did,
            capabilities=[space_capability(self.space, "kv", path, ability) for path in paths],
            proofs=(self.cid,),
            expires_at=now + min(INVOCATION_TTL_S, max_lifetime_s),
        )
        return admit_token(token, now=now, max_lifetime_s=max_lifetime_s)

    async def read(self, ability: str, path: str) -> Head | None:
        """Return the row of a value, if the delegation grants the ability on its path (SM2)."""
        key = head_key(self.space, path)
        with _judged():
            # The token never left this process, so it cannot be replayed. Without a record, a
            # stranger's request writes nothing.
            call = await read_call(
                self.services, self.invocation(ability, path), (key,), records_use=False
            )
        call.require_hosted()
        return head_of(call.records[0], key=key)


@contextmanager
def _judged() -> Iterator[None]:
    """Report every lack of authority alike (SM3)."""
    try:
        yield
    except CapabilityError:
        raise Refusal("sms-not-enabled") from None


async def find_grant(services: Services, owner: Principal) -> OwnerGrant:
    """Find the delegation that an owner stored for the service (SM3).

    The cost does not depend on how many delegations the owner has made.

    Raises:
        Refusal: `sms-not-enabled`, there is none, or the owner's network opens no secrets.
    """
    space, network = SpaceId(owner, SECRETS_SPACE), network_of_owner(owner)
    key = head_key(space, GRANT_KEY)
    stored, row = (await services.store.read([key, network_row_key(network)])).records
    head = head_of(stored, key=key)
    if head is None or head.body is None or row is None or row.value is None:
        raise Refusal("sms-not-enabled")
    record = decode_network(row.value)
    if record.state != "active":
        raise Refusal("sms-not-enabled")
    return OwnerGrant(
        services,
        space,
        head.body.decode("ascii", "replace"),
        Descriptor(
            network_id=network,
            public_key=record.public_key,
            state=record.state,
            alg=record.alg,
            key_version=record.key_version,
            node_did=None,
        ),
    )


async def require_ownership(grant: OwnerGrant, kind: AddressKind, address: str) -> None:
    """Check that the owner published what is at an address (SM9).

    Raises:
        Refusal: `sms-unauthorized`, the owner's record is absent or belongs to another address;
            `sms-not-enabled`.
    """
    try:
        head = await grant.read(KV_GET, owner_record_key(kind, address))
        record = parse_json((head and head.body) or b"", max_bytes=_MAX_RECORD_BYTES)
    except (InvalidInput, CapabilityError):
        raise Refusal("sms-unauthorized") from None
    name = record.get("project" if kind == "app" else kind)
    if address_of_project(kind, ProjectId(grant.space.owner, str(name))) != address.lower():
        raise Refusal("sms-unauthorized")


async def push_secret(
    grant: OwnerGrant,
    message: Message,
    secret: SecretName,
    challenge: bytes,
    value: str,
    *,
    replaces: bool,
) -> None:
    """Seal a secret to its owner's network, and store it under the owner's delegation.

    One commit contains the secret and a record of the challenge (SM7, SM12).

    Args:
        grant: of the wallet that signed the challenge.
        message: the HTTP request.
        secret: name of the secret.
        challenge: 32 bytes.
        value: the value.
        replaces: whether the secret must exist; otherwise it must be absent.
    Raises:
        Refusal: `sms-exists`, `sms-absent`, `sms-challenge-used`, `sms-not-enabled`; quotas.
        SpaceError: the store does not answer.
    """
    services, space = grant.services, grant.space
    # The challenge itself would let readers of the store test guesses of a short value.
    used = USED_PREFIX + services.keyring.derive(SMS_CHALLENGE + challenge).hex()
    paths = (secret.path, used)

    def check(heads: Sequence[Head | None]) -> None:
        stored, former_use = heads
        if (stored is not None) != replaces:  # SM7
            raise Refusal("sms-absent" if replaces else "sms-exists")
        if former_use is not None:  # SM12
            raise Refusal("sms-challenge-used")

    envelope = encode_envelope(
        seal_envelope(
            grant.network,
            secret_payload(value, now=services.clock.now()),
            services.entropy,
            aad=secret_label(space, secret),
            metadata=VAULT_METADATA,
        )
    )

    async def receive(staging: Staging, admitted: PutReading) -> list[Write]:
        return [
            Write(path, body := await staging.keep(data), _STORED_AS, sealed_key_of(body))
            for path, data in zip(paths, (envelope, b""), strict=True)
        ]

    with _judged():
        await put_values(
            Request(
                services,
                grant.invocation(KV_PUT, *paths),
                tuple(OperationTarget(space, path) for path in paths),
                NO_OPTIONS,
                message,
            ),
            paths,
            receive,
            subject=f"{space.text}/kv/{secret.path}",
            declared_bytes=len(envelope),
            check=check,
        )
