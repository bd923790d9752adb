"""Tokens of every kind, as the protocol's other clients make them (J4, J5, J6, V2, V3)."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import libipld

from capabilities.abilities import parse_ability, satisfies
from capabilities.ambient import Entropy
from capabilities.cacao import Cacao, encode_cacao, header_text
from capabilities.cids import cid_text, digest_of, parse_cid
from capabilities.errors import CapabilityError, InvalidIdentifier
from capabilities.recap import Recap, attach
from capabilities.resources import OpaqueResource, SpaceId, SpaceResource, extends, network_of, parse_resource
from capabilities.signatures import Ed25519Signer
from capabilities.siwe import SiweMessage, siwe_text
from capabilities.strict_json import Json
from capabilities.tokens import Capability
from capabilities.ucan import UcanPayload, encode_ucan

from .errors import InvalidInput
from .wallets import SiteWallet, Wallet

_NO_KEY = "a key is the raw path of a URI"
_KEY_HINT = "percent-encode spaces, `?`, `#`, `%` and non-ASCII; no `.` or `..` segments"


def capability(resource: str, ability: str) -> Capability:
    """Make a capability from texts, a network's owner in its canonical spelling; raises InvalidInput."""
    try:
        parsed = parse_resource(resource)
    except InvalidIdentifier as exc:
        hint = "a resource is a whole URI: tinycloud:…:notes/kv/KEY, or the id of a network"
        raise InvalidInput(f"not a capability: {exc.text}", hint=hint) from exc
    try:
        parse_ability(ability)
    except InvalidIdentifier as exc:
        raise InvalidInput(f"not a capability: {exc.text}", hint="an ability is tinycloud.kv/get or alike") from exc
    network = network_of(parsed)
    return Capability(parsed if network is None else OpaqueResource(network.text), ability, {})


def space_capability(space: SpaceId, service: str, path: str | None, ability: str) -> Capability:
    """Make a capability on the raw path of a space, None for a service as a whole.

    Raises:
        InvalidInput: the path cannot be used in a URI as it is, or would be read as something else.
    """
    resource = SpaceResource(space, service, path)
    try:
        read = parse_resource(resource.text)
    except InvalidIdentifier as exc:
        raise InvalidInput(_NO_KEY, hint=_KEY_HINT) from exc
    if read != resource:
        raise InvalidInput(_NO_KEY, hint=_KEY_HINT)
    return capability(resource.text, ability)


def covers(held: Capability, wanted: Capability) -> bool:
    """Whether a grant of `held` allows `wanted` without caveats (the node's own rule of containment)."""
    return not held.caveats and satisfies(held.ability, wanted.ability) and extends(wanted.resource, held.resource)


def attenuations(capabilities: Iterable[Capability]) -> Mapping[str, Mapping[str, tuple[Mapping[str, None], ...]]]:
    """Return resource to ability to the empty caveat, as ReCaps and tokens state it."""
    stated: dict[str, dict[str, tuple[Mapping[str, None], ...]]] = {}
    for one in capabilities:
        stated.setdefault(one.resource.text, {})[one.ability] = ({},)
    return stated


def distinct_capabilities(capabilities: Iterable[Capability]) -> tuple[Capability, ...]:
    """Return capabilities without repeats, in order of appearance."""
    found: dict[tuple[str, str], Capability] = {}
    for one in capabilities:
        found.setdefault((one.resource.text, one.ability), one)
    return tuple(found.values())


INVOCATION_TTL_S: Final = 60.0
"""Lifetime of a request's token; a node accepts at most 300 s, and a lost token expires soon."""

REVOCATION_TTL_S: Final = 600.0
"""Lifetime of a wallet's revocation: a person takes minutes to sign, and a copy of it can do nothing else."""

_NONCE_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_NONCE_CHARS = 17


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """The statements of a token that a key signs: to whom, what, the cids it cites, its end in epoch seconds, facts."""

    audience: str
    capabilities: Sequence[Capability]
    proofs: Sequence[str]
    expires_at: float
    facts: Sequence[Json] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a wallet is asked to sign; times are epoch seconds, None: without an end.

    Attributes:
        domain: authority that asks, shown to the person.
        uri: DID or DID URL of the delegate.
        capabilities: what is granted; none: the message is no grant.
        parents: cids of delegations it rests on.
        resources: further resources, before the ReCap.
        statement: the caller's own text, before the sentence about the capabilities.
    """

    domain: str
    uri: str
    issued_at: float
    expires_at: float | None
    capabilities: Sequence[Capability] = ()
    parents: Sequence[str] = ()
    resources: tuple[str, ...] = field(default=())
    statement: str | None = None


def mint(signer: Ed25519Signer, claims: Claims, entropy: Entropy, *, issuer: str | None = None) -> str:
    """Return a token signed by a session key; `issuer` is the key's DID URL unless a bare DID is wanted (J5, J6)."""
    payload = UcanPayload(
        iss=issuer or signer.did_url,
        aud=claims.audience,
        exp=round(claims.expires_at, 3),
        nnc=f"urn:uuid:{uuid.UUID(bytes=entropy.token(16), version=4)}",
        fct=list(claims.facts) or None,
        prf=list(claims.proofs),
        att={
            resource: {ability: [{}] for ability in abilities}
            for resource, abilities in attenuations(claims.capabilities).items()
        },
    )
    return encode_ucan(payload, signer)


def sign_message(wallet: Wallet, message: Message, entropy: Entropy) -> str:
    """Ask a wallet to sign, and return the CACAO as a header (J4); raises InvalidInput where no text can say it."""
    siwe = SiweMessage(
        domain=wallet.domain if isinstance(wallet, SiteWallet) else message.domain,
        address=wallet.address,
        chain_id=wallet.chain_id,
        uri=message.uri,
        nonce=_nonce(entropy),
        issued_at=iso_time(message.issued_at),
        expiration_time=None if message.expires_at is None else iso_time(message.expires_at),
        statement=message.statement,
        resources=message.resources,
    )
    if message.capabilities:
        parents = tuple(_base58_cid(cid) for cid in message.parents)
        siwe = attach(siwe, Recap(attenuations(message.capabilities), parents))
    text = siwe_text(siwe)
    if not all(line.isprintable() for line in text.split("\n")):
        raise InvalidInput("a sign-in text holds printable characters only")
    return header_text(encode_cacao(Cacao(siwe, wallet.sign_eip191(text))))


def token_cid(token: str) -> str:
    """Return the id of a token as it is sent (E6, E7)."""
    return cid_text(digest_of(token.encode("ascii")))


def iso_time(epoch_s: float) -> str:
    """Return a time as other clients write it: UTC, milliseconds, `Z`."""
    moment = datetime.fromtimestamp(round(epoch_s, 3), tz=UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def shown_time(epoch_s: float) -> str:
    """Return a time as people read it: UTC, to the second."""
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _nonce(entropy: Entropy) -> str:
    """Seventeen letters and digits: about 100 bits."""
    number = int.from_bytes(entropy.token(16), "big")
    letters = []
    for _ in range(_NONCE_CHARS):
        number, index = divmod(number, len(_NONCE_ALPHABET))
        letters.append(_NONCE_ALPHABET[index])
    return "".join(letters)


def _base58_cid(cid: str) -> str:
    """Parents in a ReCap are written in base58btc (S6)."""
    try:
        data = libipld.decode_multibase(parse_cid(cid).text())[1]
    except CapabilityError as exc:
        raise InvalidInput("not the id of a delegation") from exc
    return libipld.encode_multibase("z", data)
