"""Signing in: what is asked of a wallet or a key, and making sure that the spaces are hosted (J4, D43)."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from capabilities.principals import Principal, parse_principal
from capabilities.resources import SpaceId, SpaceResource
from capabilities.sign_ins import CAPABILITIES_READ, MAX_LIFE_S
from capabilities.signatures import Ed25519Signer
from capabilities.tokens import Capability

from ._answers import json_object, texts_of
from ._caller import Caller
from ._capability import capability, space_capability
from ._minting import Claims, Message, mint, sign_message
from .errors import InvalidInput, MalformedAnswer, SpacesNotHosted
from .manifests import ACCOUNT_SPACE, DEFAULT_SPACE, ManifestRequest, requested_capabilities
from .session import SECRETS_SPACE, Grant, Session, key_session, network_of_owner, read_grant, space_of
from .transport import Request, path_segment
from .wallets import Wallet

SESSION_TTL_S: Final = 7 * 86_400.0
"""How long a sign-in lasts where nothing else is said."""

MAX_SESSION_TTL_S: Final = float(MAX_LIFE_S)
"""A node counts a session key as its owner in person only up to this lifetime (IP2)."""

KV_ABILITIES: Final = tuple(f"tinycloud.kv/{name}" for name in ("get", "put", "del", "list", "metadata"))
DELEGATION_ABILITIES: Final = tuple(f"tinycloud.delegation/{name}" for name in ("list", "revoke", "status"))
NETWORK_ABILITIES: Final = tuple(f"tinycloud.encryption/{name}" for name in ("decrypt", "network.create"))
_HOST = "tinycloud.space/host"
_HOST_GRANT_TTL_S = 3_600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """What a sign-in asks for.

    Attributes:
        space: short name or full id of the primary space; None: "default", or what the manifests say.
        spaces: further spaces of the owner, asked for as a whole.
        request: composed manifests; their resources are asked for in place of the primary space as a whole.
        secrets: whether the owner's secrets are asked for.
        network_abilities: abilities on the owner's default encryption network.
        ttl_s: lifetime in seconds, at most 30 days.
        domain: authority that asks, shown to the person in the wallet.
        statement: words of the program's own, shown before the sentence about the capabilities.
    """

    space: str | None = None
    spaces: tuple[str, ...] = ()
    request: ManifestRequest | None = field(default=None, repr=False)
    secrets: bool = True
    network_abilities: tuple[str, ...] = NETWORK_ABILITIES
    ttl_s: float = SESSION_TTL_S
    domain: str = "localhost"
    statement: str | None = None


async def wallet_sign_in(caller: Caller, wallet: Wallet, asked: SignIn) -> Session:
    """Have a wallet sign one message to a fresh session key, and register it.

    Returns:
        The session; every space it asks for is hosted.
    Raises:
        InvalidInput: the lifetime or a name is out of bounds.
        SpacesNotHosted: the node hosts a space neither by itself nor on the owner's word.
        NodeRefused, TransportError.
    """
    if not 0 < asked.ttl_s <= MAX_SESSION_TTL_S:
        raise InvalidInput("a session lasts more than 0 s and at most 30 days")
    owner = parse_principal(wallet.did)
    node_id = await caller.node_id()
    seed = caller.entropy.token(32)
    signer = Ed25519Signer(seed)
    now = caller.clock.now()
    message = Message(
        domain=asked.domain,
        uri=signer.did_url,  # J4: a DID URL
        issued_at=now,
        expires_at=now + asked.ttl_s,
        capabilities=sign_in_capabilities(owner, asked),
        statement=asked.statement,
    )
    grant = read_grant(sign_message(wallet, message, caller.entropy))
    skipped = await register(caller, grant)
    if skipped:
        await _host_by_wallet(caller, wallet, skipped, domain=asked.domain)
        skipped = await register(caller, grant)
    _require_hosted(skipped)
    space = space_of(owner, _primary_space(asked))
    return Session(signer=signer, owner=owner, space=space, grants=(grant,), node_id=node_id, seed=seed)


async def key_sign_in(caller: Caller, key: Ed25519Signer | bytes, *, spaces: Sequence[str] = ()) -> Session:
    """Let a key act for itself, and have spaces of its own hosted.

    Args:
        caller: to the node.
        key: a signer or a 32-byte seed.
        spaces: short names of spaces of this key; none: an agent that lives on grants, nothing is sent but `/info`.
    Raises:
        SpacesNotHosted: the node hosts a space neither by itself nor on the key's word.
    """
    session = replace(key_session(key), node_id=await caller.node_id())
    if not spaces:
        return session
    owned = [space_of(session.owner, name) for name in spaces]
    wanted = [one for space in owned for one in _whole_space(space)]
    skipped = await register(caller, _own_grant(caller, session, session.did, wanted))
    if skipped:
        hosting = [space_capability(space, "space", None, _HOST) for space in skipped]
        host = await _host_did(caller, skipped[0])
        skipped = await register(caller, _own_grant(caller, session, host, hosting))
    _require_hosted(skipped)
    return replace(session, space=owned[0])


def sign_in_capabilities(owner: Principal, asked: SignIn) -> tuple[Capability, ...]:
    """Return what a wallet's sign-in grants to the session key, distinct, in order.

    The primary space (or the manifests' resources), the right to see and end what was delegated, the secrets, and the
    owner's default network.
    """
    primary = space_of(owner, _primary_space(asked))
    wanted: list[Capability] = []
    if asked.request is None:
        wanted += _whole_space(primary)
    else:
        wanted += requested_capabilities(asked.request.resources, space_id=lambda name: space_of(owner, name).text)
        wanted += _account_of(primary)
    for name in asked.spaces:
        wanted += _whole_space(space_of(owner, name))
    if asked.secrets:
        secrets = space_of(owner, SECRETS_SPACE)
        wanted += [space_capability(secrets, "kv", "vault/secrets/", ability) for ability in KV_ABILITIES]
    network = network_of_owner(owner)
    wanted += [capability(network.text, ability) for ability in asked.network_abilities]
    unique = {(one.resource.text, one.ability): one for one in wanted}
    return tuple(unique.values())


async def register(caller: Caller, grant: Grant) -> tuple[SpaceId, ...]:
    """Post a delegation and return the spaces in it that are not hosted (J2).

    Posting is idempotent, so it is repeatable; a delegation is not used up by it. Of what the node lists as skipped
    only spaces of this very delegation count: nobody is made to sign for others.
    """
    request = Request("POST", "/delegate", mint=lambda: grant.header, repeatable=True)
    skipped = frozenset(texts_of(json_object(await caller.transport.require(request)), "skipped"))
    resources = (one.resource for one in grant.capabilities)
    named = dict.fromkeys(resource.space for resource in resources if isinstance(resource, SpaceResource))
    return tuple(space for space in named if space.text in skipped)


async def _host_by_wallet(caller: Caller, wallet: Wallet, spaces: Sequence[SpaceId], *, domain: str) -> None:
    """Have the wallet's word given that the node shall host spaces: one signature for all of them (D43, D44)."""
    message = Message(
        domain=domain,
        uri=await _host_did(caller, spaces[0]),
        issued_at=caller.clock.now(),
        expires_at=caller.clock.now() + _HOST_GRANT_TTL_S,
        capabilities=[space_capability(space, "space", None, _HOST) for space in spaces],
    )
    await register(caller, read_grant(sign_message(wallet, message, caller.entropy)))


async def _host_did(caller: Caller, space: SpaceId) -> str:
    """Ask under which DID the node hosts a space (J3)."""
    path = f"/peer/generate/{path_segment(space.text)}"
    answer = await caller.transport.require(Request("GET", path, repeatable=True, max_answer_bytes=4096))
    did = answer.body.decode("ascii", "replace")
    if not did.startswith("did:key:z") or not did.removeprefix("did:key:").isalnum():
        raise MalformedAnswer("the node's answer is no DID")
    return did


def _own_grant(caller: Caller, session: Session, audience: str, wanted: Sequence[Capability]) -> Grant:
    """A key's own word about its own spaces; needs no parent."""
    claims = Claims(
        audience=audience,
        capabilities=wanted,
        proofs=(),
        expires_at=caller.clock.now() + _HOST_GRANT_TTL_S,
    )
    return read_grant(mint(session.signer, claims, caller.entropy))


def _primary_space(asked: SignIn) -> str:
    if asked.space is not None:
        return asked.space
    if asked.request is None:
        return "default"
    spaces = (one.space for one in asked.request.resources if one.service != "tinycloud.encryption")
    return next((space for space in spaces if space != ACCOUNT_SPACE), DEFAULT_SPACE)


def _whole_space(space: SpaceId) -> list[Capability]:
    return [*(space_capability(space, "kv", None, ability) for ability in KV_ABILITIES), *_account_of(space)]


def _account_of(space: SpaceId) -> list[Capability]:
    """Seeing what was delegated in a space, and ending it."""
    delegation = [space_capability(space, "delegation", None, ability) for ability in DELEGATION_ABILITIES]
    return [space_capability(space, "capabilities", None, CAPABILITIES_READ), *delegation]


def _require_hosted(skipped: Sequence[SpaceId]) -> None:
    if skipped:
        raise SpacesNotHosted(tuple(space.text for space in skipped))
