"""Sign-in to a node (J4, D43)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from typing import NamedTuple

import msgspec

from capabilities.abilities import (
    CAPABILITIES_READ,
    DECRYPT,
    DELEGATION_LIST,
    DELEGATION_STATUS,
    HOST,
    KV_DELETE,
    KV_GET,
    KV_LIST,
    KV_METADATA,
    KV_PUT,
    NETWORK_CREATE,
    REVOKE,
    SPACE_CREATE,
    SPACE_INFO,
    SPACE_LIST,
    SQL_ADMIN,
    SQL_READ,
    SQL_SCHEMA,
    SQL_WRITE,
)
from capabilities.capability_errors import CapabilityError
from capabilities.facts import (
    ATTESTATION_FACT,
    MACHINE_FACT,
    OIDC_FACT,
    URNS,
    VALUES_FACT,
    statement_resource,
)
from capabilities.frozen import frozen
from capabilities.machine_tokens import MachineGrant, OidcTrust
from capabilities.principals import (
    Principal,
    did_key,
    ed25519_public_key,
    parse_principal,
    same_principal,
)
from capabilities.resources import SpaceId, SpaceResource, root_of
from capabilities.sign_ins import MAX_LIFE_S
from capabilities.signatures import Ed25519Signer
from capabilities.strict_json import Json, JsonObject
from capabilities.tokens import Capability, parse_delegation, verify_delegation
from encryption_network.policy import Policy, policy_json

from ..documents.app_names import APP_FACT, APP_URN, AppNames, app_names_json
from ..documents.manifests import (
    ACCOUNT_SPACE,
    DEFAULT_SPACE,
    ManifestRequest,
    ResourceRequest,
    network_abilities,
    requested_capabilities,
    served,
)
from ..documents.run_grants import RUN_FACT, RUN_URN, RunStatement, run_statement_json
from ..documents.unbound_values import states_unbound
from ..errors import InvalidInput, LifetimeTooLong, MalformedAnswer, NotGranted, SpacesNotHosted
from ..session import (
    SECRETS_SPACE,
    Grant,
    Session,
    capability,
    distinct_capabilities,
    key_session,
    mint,
    network_of_owner,
    read_grant,
    require_recipient,
    sign_message,
    space_capability,
    space_of,
)
from ..wallets import Wallet
from .caller import Caller
from .node_answers import json_object, texts_of
from .portable import PortableDelegation, grant_of
from .transport import Request, path_segment

SESSION_TTL_S = 7 * 86_400.0
"""Default lifetime of a sign-in, seconds."""

MAX_SESSION_TTL_S = float(MAX_LIFE_S)
"""Longest lifetime of a session key that a node treats as its owner in person, seconds (IP2)."""

KV_ABILITIES = (KV_GET, KV_PUT, KV_DELETE, KV_LIST, KV_METADATA)
SQL_ABILITIES = (SQL_READ, SQL_WRITE, SQL_SCHEMA, SQL_ADMIN)
DELEGATION_ABILITIES = (DELEGATION_LIST, REVOKE, DELEGATION_STATUS)
_OF_DELEGATIONS = {"capabilities": (CAPABILITIES_READ,), "delegation": DELEGATION_ABILITIES}
SPACES_ABILITIES = (SPACE_LIST, SPACE_CREATE, SPACE_INFO)
NETWORK_ABILITIES = (DECRYPT, NETWORK_CREATE)
_HOST_GRANT_TTL_S = 3_600.0


@frozen(kw_only=True)
class SignIn:
    """The requested rights and lifetime of a sign-in.

    Attributes:
        space: short name or full id of the primary space; None: "default", or the manifests' space.
        spaces: further spaces of the owner, with all rights on them.
        request: composed manifests; their resources replace the rights on the whole primary space.
        secrets: whether to request all of the owner's secrets. None: True without a request, and
            with one only the secrets that it names.
        spaces_rights: whether to request the rights to list and create the owner's spaces; see
            `Spaces.rights`.
        network_abilities: abilities on the owner's default encryption network. None: decrypt and
            create if all secrets are requested or there is no request; otherwise those of the two
            that reading and writing the request's secrets needs.
        exactly: these capabilities instead of all of the above; `space` then only names the primary
            space. See `sealspace.apps.escalation.sign_in_for`.
        leave_out_unserved: leave out services that a manifest requests and the node does not serve,
            instead of raising.
        ttl_s: lifetime in seconds, at most 30 days.
        received: delegations to the wallet that the session shall use too. They have to include all
            requested rights of other owners. The wallet passes on each with a signature of its own,
            because the owner of any space in a delegation can revoke all of it (W22).
        domain: the requesting authority, which the wallet shows to the person who signs.
        statement: the program's own text, shown before the sentence about the capabilities.
    """

    space: str | None = None
    spaces: tuple[str, ...] = ()
    request: ManifestRequest | None = field(default=None, repr=False)
    secrets: bool | None = None
    spaces_rights: bool = False
    network_abilities: tuple[str, ...] | None = None
    exactly: tuple[Capability, ...] | None = field(default=None, repr=False)
    leave_out_unserved: bool = False
    ttl_s: float = SESSION_TTL_S
    received: tuple[PortableDelegation, ...] = field(default=(), repr=False)
    domain: str = "localhost"
    statement: str | None = None


async def wallet_sign_in(caller: Caller, wallet: Wallet, sign_in: SignIn) -> Session:
    """Sign in to the node with a wallet.

    The wallet authorises a fresh session key, and the node registers this sign-in. Raises the same
    errors as `Client.sign_in`.
    """
    received = [grant_of(portable, now=caller.clock.now()) for portable in sign_in.received]
    for grant in received:
        require_recipient(grant, wallet.did, holder="wallet")
    seed = caller.entropy.token(32)
    signer = Ed25519Signer(seed)
    grant = await authorize_key(caller, wallet, signer.did, sign_in, received)
    handed_on = [
        await pass_on(
            caller, wallet, received_grant, signer, ttl_s=sign_in.ttl_s, domain=sign_in.domain
        )
        for received_grant in received
    ]
    return Session(
        signer=signer,
        owner=grant.delegator,
        space=space_of(grant.delegator, _primary_space(sign_in)),
        grants=(grant, *handed_on),
        node_id=await caller.node_id(),
        seed=seed,
    )


async def authorize_key(
    caller: Caller, wallet: Wallet, did: str, sign_in: SignIn, received: Sequence[Grant] = ()
) -> Grant:
    """Sign a sign-in for a key, and register it with the node.

    `received` are the grants of `sign_in`. Raises the same errors as `Client.authorize_key`.
    """
    if not 0 < sign_in.ttl_s <= MAX_SESSION_TTL_S:
        raise InvalidInput("the lifetime of a session must be more than 0 s and at most 30 days")
    key = ed25519_public_key(did)
    if key is None or did_key(key) != did:
        raise InvalidInput("a session needs an Ed25519 key, named by its did:key")
    try:
        owner = parse_principal(wallet.did)
    except CapabilityError as exc:
        raise InvalidInput(
            "the wallet's DID is not valid", hint="the DID must be did:pkh:eip155:<chain>:<address>"
        ) from exc
    info = await caller.info()
    requested = sign_in_capabilities(owner, sign_in, features=info.features)
    capabilities = _own_capabilities(owner, requested, received)
    for grant in received:
        await register(caller, grant)
    grant = sign_grant(
        caller,
        wallet,
        f"{did}#{did.removeprefix('did:key:')}",  # J4: a DID URL
        capabilities,
        ttl_s=sign_in.ttl_s,
        domain=sign_in.domain,
        statement=sign_in.statement,
    )
    skipped = await register(caller, grant)
    if skipped:
        # The node hosts these spaces only with a grant of them, which the wallet signs once for all
        # (D43, D44). Then the sign-in is registered again.
        host, rights = await _fetch_host(caller, skipped)
        host_grant = sign_grant(
            caller, wallet, host, rights, ttl_s=_HOST_GRANT_TTL_S, domain=sign_in.domain
        )
        await register(caller, host_grant)
        skipped = await register(caller, grant)
    _require_hosted(skipped)
    return grant


async def pass_on(
    caller: Caller,
    wallet: Wallet,
    grant: Grant,
    signer: Ed25519Signer,
    *,
    ttl_s: float,
    domain: str,
) -> Grant:
    """Delegate all of a grant's rights to a session key (W22).

    The wallet signs a separate message for this grant. If the owner's grant lets the wallet use
    values without a place, the session may too (EN47).
    """
    resources: list[str] = []
    if _owner_allows_unbound(grant):
        resources = statements(unbound=True).resources
    passed_on = sign_grant(
        caller,
        wallet,
        signer.did_url,
        grant.capabilities,
        ttl_s=ttl_s,
        domain=domain,
        parent=grant,
        resources=resources,
    )
    await register(caller, passed_on)
    return passed_on


def _owner_allows_unbound(grant: Grant) -> bool:
    """Return whether a grant allows values without a place, signed by the owner itself (EN47)."""
    try:
        delegation = verify_delegation(parse_delegation(grant.header))
    except CapabilityError:
        return False
    is_owner = all(
        same_principal(root_of(right.resource) or "", delegation.delegator)
        for right in delegation.capabilities
    )
    return is_owner and not delegation.parents and states_unbound(delegation)


def sign_grant(
    caller: Caller,
    wallet: Wallet,
    delegate: str,
    capabilities: Sequence[Capability],
    *,
    ttl_s: float,
    domain: str,
    parent: Grant | None = None,
    resources: Sequence[str] = (),
    statement: str | None = None,
) -> Grant:
    """Sign a grant with a wallet.

    The grant expires at a full second, no later than its parent. `sign_message` describes the
    arguments.
    """
    now = caller.clock.now()
    ends_at = now + ttl_s
    parents: tuple[str, ...] = ()
    if parent is not None:
        parents = (parent.cid,)
        if parent.expires_at is not None:
            ends_at = min(ends_at, parent.expires_at)
    return read_grant(
        sign_message(
            wallet,
            caller.entropy,
            domain=domain,
            uri=delegate,
            issued_at=now,
            expires_at=int(ends_at),
            capabilities=capabilities,
            parents=parents,
            resources=resources,
            statement=statement,
        )
    )


def require_own_resources(wallet: Wallet, capabilities: Sequence[Capability]) -> None:
    """Check that a wallet owns the resources of all capabilities."""
    foreign = tuple(
        right
        for right in capabilities
        if not same_principal(root_of(right.resource) or "", wallet.did)
    )
    if foreign:
        raise NotGranted(
            "a wallet can grant only its own resources; grants of other resources must be signed by"
            " the session's key",
            missing=foreign,
        )


def sign_for_owner(
    caller: Caller,
    wallet: Wallet,
    delegate: str,
    capabilities: Sequence[Capability],
    *,
    ttl_s: float,
    domain: str,
    resources: Sequence[str],
    membership: Grant | None,
) -> Grant:
    """Sign a grant with the owner's wallet, or for a team with that of an admin (TM6).

    Args:
        membership: the admin's membership, which the grant cites alone; None: the wallet is the
            owner's.
    Raises:
        NotGranted: a resource is not the owner's, or the membership is not for this wallet.
        LifetimeTooLong: the grant would end after the membership.
    """
    if membership is None:
        require_own_resources(wallet, capabilities)
    else:
        if not same_principal(membership.delegate, wallet.did):
            raise NotGranted("the membership is not that of this wallet")
        possible_s = (membership.expires_at or 0.0) - caller.clock.now()
        # The end is rounded down when it is signed.
        if ttl_s - 1.0 > possible_s:
            error = LifetimeTooLong("a grant for a team", asked_s=ttl_s, possible_s=possible_s)
            error.step = "choose a shorter --expires: the grant ends with your membership"
            raise error
    return sign_grant(
        caller,
        wallet,
        delegate,
        capabilities,
        ttl_s=ttl_s,
        domain=domain,
        parent=membership,
        resources=resources,
    )


async def key_sign_in(
    caller: Caller, key: Ed25519Signer | bytes, *, spaces: Sequence[str] = ()
) -> Session:
    """Sign in to the node with a key instead of a wallet.

    Without `spaces`, only the node's DID is asked for, because a key signs its requests itself. To
    have spaces hosted, the key registers a delegation to itself. If the node skips some of them, it
    hosts them only with a delegation to the node, which is registered second.

    Args:
        caller: sends the requests.
        key: the key, or its 32 secret bytes.
        spaces: names of the key's spaces that the node is to host; the first one becomes that of
            the session.
    Raises:
        SealspaceError: the same errors as `Client.sign_in_with_key`.
    """
    session = replace(key_session(key), node_id=await caller.node_id())
    if not spaces:
        return session
    owned = [space_of(session.owner, name) for name in spaces]
    requested: list[Capability] = []
    for space in owned:
        requested += whole_space(space, ())
    wanted = _own_capabilities(session.owner, requested, ())
    skipped = await register(caller, _sign_own_grant(caller, session, session.did, wanted))
    if skipped:  # the node hosts these spaces only with a grant of them
        host, rights = await _fetch_host(caller, skipped)
        skipped = await register(caller, _sign_own_grant(caller, session, host, rights))
    _require_hosted(skipped)
    return replace(session, space=owned[0])


def _own_capabilities(
    owner: Principal, wanted: Sequence[Capability], received: Sequence[Grant]
) -> tuple[Capability, ...]:
    """Return the capabilities on the owner's resources.

    Raises NotGranted if no received grant names the space or network of another capability.
    """
    received_places = {
        _space_or_network(right) for grant in received for right in grant.capabilities
    }
    own = []
    for right in wanted:
        if root_of(right.resource) in (None, owner):
            own.append(right)
        elif _space_or_network(right) not in received_places:
            raise NotGranted(
                f"{_space_or_network(right)} belongs to another owner, and no delegation to {owner}"
                " includes this resource",
                missing=(right,),
                hint="ask the owner of the resource for a delegation, then pass the delegation in"
                " `SignIn(received=…)`",
                step=NotGranted.default_step,
            )
    return tuple(own)


def _space_or_network(right: Capability) -> str:
    resource = right.resource
    return resource.space.text if isinstance(resource, SpaceResource) else resource.text


def sign_in_capabilities(
    owner: Principal, sign_in: SignIn, *, features: Sequence[str] = ()
) -> tuple[Capability, ...]:
    """Return the capabilities requested by a sign-in.

    There are no duplicates. The capabilities are those in `sign_in.exactly`, if it is set.
    Otherwise they are the primary space or the manifests' resources that the node serves, the right
    to list and revoke delegations in the primary space, the secrets, and the owner's default
    network.
    A request without `secrets=True` brings no right on the space of secrets but those that it
    names, not even to list or revoke the delegations there.
    """
    if sign_in.exactly is not None:
        if not sign_in.exactly:
            raise InvalidInput("the sign-in requests nothing: at least one capability is needed")
        return distinct_capabilities(sign_in.exactly)
    primary = space_of(owner, _primary_space(sign_in))
    if sign_in.request is None:
        wanted = whole_space(primary, features)
    else:
        wanted = _rights_of_request(sign_in.request, owner, sign_in, features)
        if primary != space_of(owner, SECRETS_SPACE):
            wanted += _rights(primary, _OF_DELEGATIONS)
    for name in sign_in.spaces:
        wanted += whole_space(space_of(owner, name), features)
    if sign_in.spaces_rights:
        wanted += _rights(primary, {"space": SPACES_ABILITIES})
    if _asks_for_all_secrets(sign_in):
        secrets = space_of(owner, SECRETS_SPACE)
        wanted += [
            space_capability(secrets, "kv", "vault/secrets/", ability) for ability in KV_ABILITIES
        ]
    abilities = _abilities_on_network(owner, sign_in)
    network = network_of_owner(owner)
    wanted += [capability(network.text, ability) for ability in abilities]
    return distinct_capabilities(wanted)


def _rights_of_request(
    request: ManifestRequest, owner: Principal, sign_in: SignIn, features: Sequence[str]
) -> list[Capability]:
    """Return the capabilities for the manifests' resources that the node serves."""
    resources = served(request.resources, features, leave_out=sign_in.leave_out_unserved)
    if not _asks_for_all_secrets(sign_in):
        resources = _without_delegations_of_secrets(resources)
    return list(requested_capabilities(resources, space_id=lambda name: space_of(owner, name).text))


def _without_delegations_of_secrets(
    resources: Iterable[ResourceRequest],
) -> tuple[ResourceRequest, ...]:
    """Leave out the right to read the delegations of the space of secrets (MF22).

    Each space of a manifest gets it (MF7). There, it would show an application the names of secrets
    that it did not ask for, and to whom they were granted. It stays if a manifest states it.
    """
    remaining = []
    for resource in resources:
        if resource.origin != "capabilities" or resource.space != SECRETS_SPACE:
            remaining.append(resource)
    return tuple(remaining)


def _asks_for_all_secrets(sign_in: SignIn) -> bool:
    """Return whether a sign-in requests all of the owner's secrets.

    By default, it does if it has no request of manifests.
    """
    if sign_in.secrets is None:
        return sign_in.request is None
    return sign_in.secrets


def _abilities_on_network(owner: Principal, sign_in: SignIn) -> tuple[str, ...]:
    """Return the requested abilities on the owner's default network."""
    if sign_in.network_abilities is not None:
        return sign_in.network_abilities
    if sign_in.request is None or _asks_for_all_secrets(sign_in):
        return NETWORK_ABILITIES
    return network_abilities(sign_in.request, owner)


async def register(caller: Caller, grant: Grant) -> tuple[SpaceId, ...]:
    """Register a delegation with the node (J2).

    Returns the delegated spaces that the node does not host. The request may be repeated, because
    registration is idempotent. The node may list other spaces as skipped; they are ignored, so that
    a hostile node cannot make an owner sign for them.
    """
    request = Request("POST", "/delegate", mint=lambda: grant.header, repeatable=True)
    answer = json_object(await caller.transport.require(request))
    skipped = frozenset(texts_of(answer, "skipped"))
    skipped_spaces: dict[SpaceId, None] = {}  # each once, in the order of the grant
    for right in grant.capabilities:
        if isinstance(right.resource, SpaceResource) and right.resource.space.text in skipped:
            skipped_spaces[right.resource.space] = None
    return tuple(skipped_spaces)


class _Host(NamedTuple):
    """The DID under which a node hosts spaces, and the rights to grant to it."""

    did: str
    rights: list[Capability]


async def _fetch_host(caller: Caller, spaces: Sequence[SpaceId]) -> _Host:
    """Fetch the DID under which the node hosts spaces (J3)."""
    path = f"/peer/generate/{path_segment(spaces[0].text)}"
    answer = await caller.transport.require(
        Request("GET", path, repeatable=True, max_answer_bytes=4096)
    )
    did = answer.body.decode("ascii", "replace")
    if not did.startswith("did:key:z") or not did.removeprefix("did:key:").isalnum():
        raise MalformedAnswer("the node's response is not a did:key")
    rights = [space_capability(space, "space", None, HOST) for space in spaces]
    return _Host(did=did, rights=rights)


def _sign_own_grant(
    caller: Caller, session: Session, audience: str, wanted: Sequence[Capability]
) -> Grant:
    """Sign a grant with the session's own key.

    The grant needs no parent delegation, because the key owns the spaces.
    """
    return read_grant(
        mint(
            session.signer,
            caller.entropy,
            audience=audience,
            capabilities=wanted,
            proofs=(),
            expires_at=caller.clock.now() + _HOST_GRANT_TTL_S,
        )
    )


def _primary_space(sign_in: SignIn) -> str:
    if sign_in.space is not None:
        return sign_in.space
    if sign_in.request is None:
        return "default"
    for resource in sign_in.request.resources:
        if resource.service != "tinycloud.encryption" and resource.space != ACCOUNT_SPACE:
            return resource.space
    return DEFAULT_SPACE


def whole_space(space: SpaceId, features: Sequence[str]) -> list[Capability]:
    """Return the rights to everything in a space; to databases only if the node has the feature."""
    services: dict[str, tuple[str, ...]] = {"kv": KV_ABILITIES}
    if "sql" in features:
        services["sql"] = SQL_ABILITIES
    return _rights(space, services | _OF_DELEGATIONS)


def _rights(space: SpaceId, services: Mapping[str, tuple[str, ...]]) -> list[Capability]:
    """Return the capabilities for services of a space."""
    return [
        space_capability(space, service, None, ability)
        for service, abilities in services.items()
        for ability in abilities
    ]


def _require_hosted(skipped: Sequence[SpaceId]) -> None:
    if skipped:
        raise SpacesNotHosted(tuple(space.text for space in skipped))


class GrantStatements(NamedTuple):
    """The statements of a grant in the two forms of a delegation.

    Attributes:
        facts: the statements as facts of a token.
        resources: the same statements as resources of a wallet's message.
    """

    facts: list[Json]
    resources: list[str]


def statements(
    policy: Policy | None = None,
    run: RunStatement | None = None,
    machine: MachineGrant | OidcTrust | None = None,
    *,
    unbound: bool = False,
    app: AppNames | None = None,
) -> GrantStatements:
    """Return the statements of a grant about its code, programs, token, values and names."""
    stated: dict[str, JsonObject] = {}
    urns = URNS | {RUN_FACT: RUN_URN, APP_FACT: APP_URN}
    if policy is not None:
        stated[ATTESTATION_FACT] = policy_json(policy)
    if run is not None:
        stated[RUN_FACT] = run_statement_json(run)
    if machine is not None:
        name = OIDC_FACT if isinstance(machine, OidcTrust) else MACHINE_FACT
        stated[name] = msgspec.to_builtins(machine)
    if unbound:
        stated[VALUES_FACT] = {"unbound": True}
    if app is not None:
        stated[APP_FACT] = app_names_json(app)
    facts: list[Json] = [{name: value} for name, value in stated.items()]
    resources = [statement_resource(value, urn=urns[name]) for name, value in stated.items()]
    return GrantStatements(facts=facts, resources=resources)
