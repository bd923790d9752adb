"""What is asked of a node: an owner who signed in, and for each kind of request a maker of fresh ones.

Every request carries a token of its own, signed before the clock runs; nothing here is specific to our node.
"""

import base64
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from driving import drive

from capabilities.ambient import SystemEntropy
from capabilities.cids import cid_text
from capabilities.signatures import Ed25519Signer
from capabilities.tokens import parse_delegation
from capabilities.ucan import UcanPayload, encode_ucan
from encryption_network.keywrap import wrap
from encryption_network.policy import Policy
from encryption_network.requests import DECRYPT, decrypt_body_json, decrypt_fact
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.encryption import ReceiverKey, new_receiver_key
from sealspace.session import Session, key_session
from sealspace.wallets import new_wallet
from tee_backend.backend import Backend
from tee_backend.evidence.simulated import SimulatedPlatform, measurements_of

KEYS = 100
SMALL_BYTES, LARGE_BYTES = 1024, 65_536
TOKEN_S = 250
CHAIN = 4  # delegations above a sub-delegated read, the sign-in included
_SETUP_S = 30.0


@dataclass(frozen=True, slots=True)
class Party:
    """Who asks: a key, and the delegations it cites."""

    signer: Ed25519Signer
    proofs: tuple[str, ...]


@dataclass(slots=True)
class Place:
    """A node with an owner on it, and with what the requests are about.

    Attributes:
        port: where it listens on 127.0.0.1.
        node_did: audience of key requests.
        space: id of the owner's space.
        network: id of the owner's network.
        wrapped_key: a content key for this network, in base64.
        session: the owner's session key, citing the sign-in.
        delegate: the last key of a chain of delegations.
        attested: a backend with live evidence, and the receiver key that the evidence names; None: there is none.
    """

    port: int
    node_did: str
    space: str
    network: str
    wrapped_key: str
    session: Party
    delegate: Party
    attested: tuple[Party, ReceiverKey] | None = None
    receiver: ReceiverKey = field(default_factory=lambda: new_receiver_key(SystemEntropy()))


Make = Callable[[Place, int], Awaitable[list[bytes]]]


async def set_up(url: str, platform: SimulatedPlatform | None = None) -> Place:
    """Sign an owner in at a node, write the values, make the chain and, on a platform, a backend with evidence."""
    async with Client(url) as client:
        await client.sign_in(new_wallet(entropy=SystemEntropy()))
        session = client.session
        descriptor = await client.encryption.ensure_network()
        body = secrets.token_bytes(SMALL_BYTES)
        for number in range(KEYS):
            await client.kv().put(_path(number), body)
        place = Place(
            port=urlsplit(url).port or 80,
            node_did=session.node_id or "",
            space=client.kv().space.text,
            network=descriptor.network_id.text,
            wrapped_key=_base64(wrap(descriptor.public_key, secrets.token_bytes(32), SystemEntropy())),
            session=_party(session),
            delegate=_party(session),
        )
        place.delegate = await _chain(place)
        if platform is not None:
            place.attested = await _attested(client, place, platform)
        return place


async def _chain(place: Place) -> Party:
    party = place.session
    for hop in range(1, CHAIN):
        following = Ed25519Signer(secrets.token_bytes(32))
        grant = _grant(party, following.did, f"{place.space}/kv/bench", lifetime_s=3_600 - 60 * hop)  # ends first
        await drive(place.port, [_request("/delegate", grant)], connections=1, most_s=_SETUP_S)
        party = Party(following, (_cid(grant),))
    return party


async def _attested(owner: Client, place: Place, platform: SimulatedPlatform) -> tuple[Party, ReceiverKey]:
    """Grant decrypt to a backend under a policy, and have the backend attest."""
    seed, program = secrets.token_bytes(32), measurements_of("bench")
    portable = await owner.delegations.delegate(
        Ed25519Signer(seed).did, [allow(place.network, DECRYPT)], policy=Policy(measurements=(program,))
    )
    async with Client(owner.url, session=key_session(seed)) as client:
        await client.delegations.take_up(portable)
        backend = Backend(client, _Source(platform))
        attestation = await backend.attest(owner.encryption.network())
        return _party(client.session), attestation.receiver


@dataclass(frozen=True, slots=True)
class _Source:
    platform: SimulatedPlatform

    def quote(self, report_data: bytes) -> bytes:
        return self.platform.mint_quote(measurements_of("bench"), report_data)


# --- kinds of requests ---------------------------------------------------------------------------------------------


async def gets(place: Place, count: int) -> list[bytes]:
    """Read 1 KiB with the sign-in alone."""
    return [_kv(place, place.session, _path(number), "get") for number in range(count)]


async def chain_gets(place: Place, count: int) -> list[bytes]:
    """Read 1 KiB as the last of a chain of four delegations."""
    return [_kv(place, place.delegate, _path(number), "get") for number in range(count)]


async def small_puts(place: Place, count: int) -> list[bytes]:
    """Write 1 KiB, over a value that is there."""
    body = secrets.token_bytes(SMALL_BYTES)
    return [_kv(place, place.session, _path(number), "put", body) for number in range(count)]


async def large_puts(place: Place, count: int) -> list[bytes]:
    """Write 64 KiB that nobody wrote before."""
    rest = secrets.token_bytes(LARGE_BYTES - 16)
    return [
        _kv(place, place.session, f"large/{number % KEYS:03}", "put", secrets.token_bytes(16) + rest)
        for number in range(count)
    ]


async def lists(place: Place, count: int) -> list[bytes]:
    """List 100 keys."""
    return [_kv(place, place.session, "bench", "list") for _ in range(count)]


async def delegations(place: Place, count: int) -> list[bytes]:
    """Register a delegation of one capability."""
    return [_request("/delegate", token) for token in _grants(place, count)]


async def revocations(place: Place, count: int) -> list[bytes]:
    """Revoke a delegation; they are registered before the clock runs."""
    grants = _grants(place, count)
    await drive(place.port, [_request("/delegate", grant) for grant in grants], connections=8, most_s=_SETUP_S)
    right = "tinycloud.delegation/revoke"
    signer = Party(place.session.signer, ())  # who signed the delegation may end it without citing anything
    return [_request("/revoke", _token(signer, {f"urn:cid:{_cid(grant)}": [right]})) for grant in grants]


async def decrypts(place: Place, count: int) -> list[bytes]:
    """Have the owner's session get a key wrapped anew."""
    return _decrypts(place, place.session, place.receiver, count)


async def attested_decrypts(place: Place, count: int) -> list[bytes]:
    """Have a backend with live evidence get a key wrapped anew."""
    assert place.attested is not None
    return _decrypts(place, *place.attested, count)


LOADS: Mapping[str, Make] = {
    "get 1 KiB": gets,
    "get 1 KiB, depth 4": chain_gets,
    "put 1 KiB": small_puts,
    "put 64 KiB": large_puts,
    "list 100": lists,
    "delegate": delegations,
    "revoke": revocations,
    "decrypt": decrypts,
}
ATTESTED: Mapping[str, Make] = {"decrypt, attested": attested_decrypts}


def _grants(place: Place, count: int) -> list[str]:
    return [
        _grant(place.session, Ed25519Signer(secrets.token_bytes(32)).did, f"{place.space}/kv/bench", lifetime_s=1_800)
        for _ in range(count)
    ]


def _decrypts(place: Place, party: Party, receiver: ReceiverKey, count: int) -> list[bytes]:
    body = decrypt_body_json(
        place.network,
        target_node=place.node_did,
        alg="x25519-aes256gcm/v1",
        key_version=1,
        encrypted_symmetric_key=place.wrapped_key,
        receiver_public_key=receiver.public_key,
    )
    path, sent, fact = (
        f"/encryption/networks/{quote(place.network, safe='')}/decrypt",
        json.dumps(body),
        decrypt_fact(body),
    )
    tokens = (_token(party, {place.network: [DECRYPT]}, audience=place.node_did, facts=[fact]) for _ in range(count))
    return [_request(path, token, sent.encode(), "application/json") for token in tokens]


def _kv(place: Place, party: Party, path: str, verb: str, body: bytes = b"") -> bytes:
    return _request("/invoke", _token(party, {f"{place.space}/kv/{path}": [f"tinycloud.kv/{verb}"]}), body)


def _path(number: int) -> str:
    return f"bench/{number % KEYS:03}"


def _party(session: Session) -> Party:
    return Party(session.signer, tuple(grant.cid for grant in session.grants))


def _grant(party: Party, audience: str, resource: str, *, lifetime_s: float) -> str:
    return _token(party, {resource: ["tinycloud.kv/get"]}, audience=audience, lifetime_s=lifetime_s)


def _token(
    party: Party,
    grants: Mapping[str, Sequence[str]],
    *,
    audience: str | None = None,
    facts: Sequence[dict[str, object]] = (),
    lifetime_s: float = TOKEN_S,
) -> str:
    payload = UcanPayload(
        iss=party.signer.did_url,
        aud=audience or party.signer.did,
        exp=int(time.time()) + lifetime_s,
        nnc=f"urn:uuid:{secrets.token_hex(16)}",
        fct=list(facts) or None,
        prf=list(party.proofs),
        att={resource: {ability: [{}] for ability in abilities} for resource, abilities in grants.items()},
    )
    return encode_ucan(payload, party.signer)


def _cid(token: str) -> str:
    return cid_text(parse_delegation(token).cid)


def _request(path: str, token: str, body: bytes = b"", content_type: str = "application/octet-stream") -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: {token}\r\n"
        f"content-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
