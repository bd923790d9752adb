"""An owner who signed in at a node, and the tokens of the parties there; nothing here is specific
to our node.

Signing in asks the wallet for a second word where a node does not host spaces by itself, and makes
the owner's encryption network where a sign-in does not: both are the protocol's own steps, so the
same set-up serves any node.
"""

import base64
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from driving import drive

from capabilities.abilities import DECRYPT
from capabilities.cids import cid_text
from capabilities.clock_and_entropy import SystemEntropy
from capabilities.signatures import Ed25519Signer
from capabilities.strict_json import Json
from capabilities.tokens import parse_delegation
from capabilities.ucan import UcanPayload, encode_ucan
from encryption_network.keywrap import wrap
from encryption_network.policy import Policy
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.encryption import ReceiverKey, new_receiver_key
from sealspace.session import Session, key_session
from sealspace.wallets import new_wallet
from tee_backend.backend import Backend
from tee_backend.evidence.simulated import SimulatedPlatform, measurements_of
from tee_backend.evidence.source import Quoted

KEYS = 100
SMALL_BYTES = 1024
TOKEN_S = 250
DEEPEST = 16
PROGRAM = measurements_of("bench")
SETUP_S = 60.0


@dataclass(frozen=True, slots=True)
class Party:
    """A caller: a key, and the delegations it cites."""

    signer: Ed25519Signer
    proofs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Attested:
    """A backend with live evidence.

    Attributes:
        party: its key, citing the owner's grant.
        receiver: the key that the evidence names.
        platform: where its quotes come from.
    """

    party: Party
    receiver: ReceiverKey
    platform: SimulatedPlatform


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
        chain: for each depth from 1 the last key of a chain of so many delegations, the sign-in
            included.
        attested: None: there is no backend.
        writes_at: connections on which this node bears writes side by side; None: any number.
        sizes: paths of large values that were written, and their sizes.
    """

    port: int
    node_did: str
    space: str
    network: str
    wrapped_key: str
    session: Party
    chain: tuple[Party, ...] = ()
    attested: Attested | None = None
    writes_at: int | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    receiver: ReceiverKey = field(default_factory=lambda: new_receiver_key(SystemEntropy()))

    def writers(self, connections: int) -> int:
        """Return on how many of so many connections this node is asked to write."""
        return connections if self.writes_at is None else min(connections, self.writes_at)


async def set_up(
    url: str,
    platform: SimulatedPlatform | None = None,
    *,
    writes_at: int | None = None,
    is_other: bool = False,
) -> Place:
    """Sign an owner in at a node, write the values, make the chain and, on a platform, a backend
    with evidence.

    Args:
        url: of the node.
        platform: None: there is no backend.
        writes_at: connections on which the node bears writes side by side; None: any number.
        is_other: whether it is another server, which may not sign the keys of networks. The
            connection is on loopback.
    """
    async with Client(url, unsigned_descriptors=is_other) as client:
        await client.sign_in(new_wallet(entropy=SystemEntropy()))
        session = client.session
        descriptor = await client.encryption.ensure_network()
        body = secrets.token_bytes(SMALL_BYTES)
        for number in range(KEYS):
            await client.kv().put(path_of(number), body)
        place = Place(
            port=urlsplit(url).port or 80,
            node_did=session.node_id or "",
            space=client.kv().space.text,
            network=descriptor.network_id.text,
            wrapped_key=base64_of(
                wrap(descriptor.public_key, secrets.token_bytes(32), SystemEntropy())
            ),
            session=_party(session),
            writes_at=writes_at,
        )
        place.chain = await _chain(place)
        if platform is not None:
            place.attested = await _attested(client, place, platform)
        return place


async def _chain(place: Place) -> tuple[Party, ...]:
    chain = [place.session]
    for hop in range(1, DEEPEST):
        following = Ed25519Signer(secrets.token_bytes(32))
        # A child ends before its parent.
        grant = read_grant(place, chain[-1], following.did, lifetime_s=7_200 - 60 * hop)
        await drive(place.port, [request("/delegate", grant)], connections=1, most_s=SETUP_S)
        chain.append(Party(following, (cid_of(grant),)))
    return tuple(chain)


async def _attested(owner: Client, place: Place, platform: SimulatedPlatform) -> Attested:
    """Grant decrypt to a backend under a policy, and have the backend attest."""
    seed = secrets.token_bytes(32)
    portable = await owner.delegations.delegate(
        Ed25519Signer(seed).did,
        [allow(place.network, DECRYPT)],
        policy=Policy(measurements=(PROGRAM,)),
    )
    async with Client(owner.url, session=key_session(seed)) as client:
        await client.delegations.accept(portable)
        attestation = await Backend(client, _Source(platform)).attest(owner.encryption.network())
        return Attested(_party(client.session), attestation.receiver, platform)


@dataclass(frozen=True, slots=True)
class _Source:
    platform: SimulatedPlatform

    def quote(self, report_data: bytes) -> Quoted:
        return Quoted(self.platform.mint_quote(PROGRAM, report_data))


def path_of(number: int) -> str:
    """Return the path of one of the small values."""
    return f"bench/{number % KEYS:03}"


def _party(session: Session) -> Party:
    return Party(session.signer, tuple([grant.cid for grant in session.grants]))


# --- requests -------------------------------------------------------------------------------------


def read_grant(place: Place, party: Party, audience: str, *, lifetime_s: float) -> str:
    """Return a delegation of the right to read the small values."""
    resource = f"{place.space}/kv/bench"
    return token(party, {resource: ["tinycloud.kv/get"]}, audience=audience, lifetime_s=lifetime_s)


def token(
    party: Party,
    grants: Mapping[str, Sequence[str]],
    *,
    audience: str | None = None,
    facts: Sequence[Mapping[str, Json]] = (),
    lifetime_s: float = TOKEN_S,
) -> str:
    """Return a fresh token of a party."""
    payload = UcanPayload(
        iss=party.signer.did_url,
        aud=audience or party.signer.did,
        exp=int(time.time()) + lifetime_s,
        nnc=f"urn:uuid:{secrets.token_hex(16)}",
        fct=[dict(fact) for fact in facts] or None,
        prf=list(party.proofs),
        att={
            resource: {ability: [{}] for ability in abilities}
            for resource, abilities in grants.items()
        },
    )
    return encode_ucan(payload, party.signer)


def cid_of(grant: str) -> str:
    """Return the id of a delegation."""
    return cid_text(parse_delegation(grant).cid)


def request(
    path: str,
    authorization: str | None,
    body: bytes = b"",
    content_type: str = "application/octet-stream",
) -> bytes:
    """Return a whole request."""
    authorized = "" if authorization is None else f"authorization: {authorization}\r\n"
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{authorized}"
        f"content-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def base64_of(data: bytes) -> str:
    """Return bytes in standard base64."""
    return base64.b64encode(data).decode()
