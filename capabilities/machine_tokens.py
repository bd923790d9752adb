"""The statements that make a delegation a machine token, or a trust in an issuer.

A machine token lets a server or a CI job read a few secrets of an owner without the owner's key. It
is a key and one delegation to that key. The delegation states what it is in its only fact (MT1):

    {"sealspace.machine/v1": {"key": "did:key:z6Mk…", "paths": ["tinycloud:…:secrets/kv/…"],
                              "end": 1790000000, "name": "deploy"}}

A trust lets the node make such tokens for jobs that present an ID token of an issuer (OX1). It is a
delegation to the node's exchange key, with the fact `sealspace.oidc/v1`. A token that the node made
under it is the only delegation that may cite it; it states the `claims` that were presented (OX4).

Example:
    grant = machine_grant(delegation, registered_at=now)  # None: not a machine token
"""

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta
from nacl.bindings import crypto_core_ed25519_is_valid_point

from .abilities import DECRYPT, KV_GET
from .capability_errors import BadSignature, InvalidJson, MalformedToken
from .facts import OIDC_FACT, states_machine
from .issuers import verification_key
from .memberships import admin_membership, is_membership, secrets_resource
from .principals import Principal, ed25519_public_key
from .resources import Resource, SpaceResource, network_of, root_of
from .strict_json import Json, StrictRecord, shaped
from .tokens import Delegation

MAX_LIFE_S = 366 * 86_400
"""Longest life of a machine token or a trust, from its registration."""
MAX_EXCHANGED_S = 900
"""Longest life of a machine token that the node made for a job, from its registration (OX4)."""
MAX_MACHINE_PATHS = 64
"""Most secrets of one machine token; each release reads a row for every one."""

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z"
MachineName = Annotated[str, Meta(pattern=NAME_PATTERN)]
"""The name of a machine token, which is safe to print."""

_Text = Annotated[str, Meta(max_length=4096)]
_Document = Annotated[str, Meta(max_length=16_384)]
_Claim = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:/-]{1,64}\Z")]
ClaimValue = Annotated[str, Meta(pattern=r"^[ -~]{0,512}\Z")] | int | bool
"""A value of a claim. Values are equal only if their types are."""


class _Statement(StrictRecord, omit_defaults=True):
    """The statement of a delegation that reads secrets, which is what its owner grants (MT1).

    Attributes:
        key: did:key of the delegate.
        paths: resources of the secrets, in canonical form.
        end: of the delegation, epoch seconds.
        name: chosen by the owner, for lists and receipts.
        unbound: whether its holder may use values without a place (EN46); only `true` is written.
    """

    key: _Text
    paths: Annotated[tuple[_Text, ...], Meta(min_length=1, max_length=MAX_MACHINE_PATHS)]
    end: int
    name: MachineName
    unbound: bool = False


class MachineGrant(_Statement):
    """The statement of a machine token.

    Attributes:
        claims: what a job presented to the node for it; None if the owner made the token.
    """

    claims: Annotated[dict[_Claim, ClaimValue], Meta(max_length=11)] | None = None


class OidcTrust(_Statement, kw_only=True, rename="camel"):
    """The statement of a trust in the ID tokens of an issuer (OX1).

    Attributes:
        issuer: its address, exactly as in its tokens.
        claims: the values that each of these claims may have.
        jwks: the issuer's keys, as a JSON Web Key Set; None if the node fetches them.
        issuer_ca: certificates in PEM for the issuer's address; None for those of the system.
    """

    issuer: Annotated[
        str,
        Meta(pattern=r"^https://[a-z0-9.-]{1,253}(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]{0,512})?\Z"),
    ]
    claims: Annotated[
        dict[_Claim, Annotated[list[ClaimValue], Meta(min_length=1, max_length=16)]],
        Meta(min_length=1, max_length=8),
    ]
    jwks: _Document | None = None
    issuer_ca: _Document | None = None


def is_machine_token(delegation: Delegation) -> bool:
    """Return whether a delegation has the statement of a machine token or a trust, valid or not."""
    return states_machine(delegation.facts)


def machine_grant(
    delegation: Delegation, *, registered_at: float
) -> MachineGrant | OidcTrust | None:
    """Return what a machine token or a trust grants, or None for any other delegation (MT2, OX2).

    Args:
        delegation: verified.
        registered_at: when it was registered here, epoch seconds.
    Raises:
        MalformedToken: the statement is invalid, or differs from what the delegation grants.
    Does not check:
        That the delegation is live; who presents it; for a token with claims, the trust that it
        cites (`exchanged_grant`).
    """
    if not is_machine_token(delegation):
        return None
    stated = _stated(delegation.facts)
    owner = issuing_owner(delegation)
    is_exchanged = isinstance(stated, MachineGrant) and bool(stated.claims)
    _check_issuer(delegation, stated, owner, is_exchanged=is_exchanged)
    if stated.key != delegation.delegate:
        raise MalformedToken("the machine token is for another key than it states")
    require_signing_key(stated.key)
    if stated.end != delegation.expires_at:
        raise MalformedToken("the machine token ends at another time than it states")
    most_s = MAX_EXCHANGED_S if is_exchanged else MAX_LIFE_S
    if stated.end > registered_at + most_s:
        most_days = most_s // 86_400 or "less than 1"
        raise MalformedToken(f"a machine token ends within {most_days} days")
    _check_granted(delegation, stated, owner)
    return stated


def _check_issuer(
    delegation: Delegation, stated: _Statement, owner: Principal, *, is_exchanged: bool
) -> None:
    """Check who signed a machine token, and how many proofs it cites (MT1, OX4, TM6).

    An owner signs a token without proofs. A node that makes a token for a job signs it with its own
    key, and cites the trust. An admin of a team signs one with a wallet, and cites the membership.
    """
    is_signed_by_owner = delegation.delegator == owner
    proofs = 0 if is_signed_by_owner else 1
    if len(delegation.parents) != proofs or (is_signed_by_owner and is_exchanged):
        raise MalformedToken(
            "a machine token cites no proof, unless the node made it for a job, or an admin signed"
            " it for a team"
        )
    if is_signed_by_owner or is_exchanged:
        return
    if delegation.form != "cacao":
        raise MalformedToken("an admin signs a machine token with a wallet")
    # Clients take this statement only from the owner itself (EN46).
    if stated.unbound:
        raise MalformedToken("only the owner's own signature allows values without a place")


def _check_granted(delegation: Delegation, stated: _Statement, owner: Principal) -> None:
    """Check that a machine token grants exactly what it states, on resources of its owner (MT1).

    A token that granted more would let its key write or list, too.
    """
    paths: list[str] = []
    network_count = 0
    for capability in delegation.capabilities:
        if capability.caveats or root_of(capability.resource) != owner:
            raise MalformedToken("a machine token grants its signer's own values, without caveats")
        if capability.ability == KV_GET and _is_value(capability.resource):
            paths.append(capability.resource.text)
        elif capability.ability == DECRYPT and network_of(capability.resource):
            network_count += 1
        else:
            raise MalformedToken("a machine token may only read values and decrypt them")
    if network_count != 1 or sorted(paths) != sorted(stated.paths):  # no capability repeats (T7)
        raise MalformedToken("a machine token grants exactly its paths, and one network's keys")


def require_signing_key(did: str) -> None:
    """Check that a did:key has a public key whose signatures are accepted (K6).

    Otherwise nobody could use the token, and its owner would not notice.

    Raises:
        MalformedToken: the text is no did:key, or has a key of another type, length or curve, or a
            point of small order.
    """
    if not did.startswith("did:key:") or "#" in did:
        raise MalformedToken("a machine token is for a did:key")
    refusal = MalformedToken("the machine token's did:key has no key that can sign")
    try:
        verification_key(did)
    except BadSignature as exc:
        raise refusal from exc
    ed25519 = ed25519_public_key(did)
    # libsodium refuses every signature of a key that is no point, or of small order (K7).
    if ed25519 is not None and not crypto_core_ed25519_is_valid_point(ed25519):
        raise refusal


def cited_grant(
    token: Delegation, proof: Delegation, *, registered_at: float, cited_at: float
) -> MachineGrant | OidcTrust:
    """Return what a machine token or a trust grants that cites a delegation (OX4, TM6).

    Args:
        token: verified.
        proof: the only delegation that it cites: a trust, or an admin's membership.
        registered_at: when the token was registered here, epoch seconds.
        cited_at: when the proof was registered here.
    Raises:
        MalformedToken: one of them is invalid, or the token may not cite this proof.
    Does not check:
        That both are live; that the key that signed the token for a job is this node's; and who
        signed the proof.
    """
    if not is_membership(proof):
        return exchanged_grant(token, proof, registered_at=registered_at, trusted_at=cited_at)
    grant = machine_grant(token, registered_at=registered_at)
    if grant is None or (isinstance(grant, MachineGrant) and grant.claims):
        raise MalformedToken("only a machine token or a trust may cite a membership")
    team = issuing_owner(token)
    admin = admin_membership(proof, registered_at=cited_at, admin=token.delegator, team=team)
    folder = secrets_resource(team)
    if not all(path.startswith(folder) for path in grant.paths):
        raise MalformedToken("an admin signs machine tokens for secrets of the team alone")
    if grant.end > admin.end:
        raise MalformedToken("the machine token ends after the membership of the admin")
    return grant


def exchanged_grant(
    token: Delegation, trust: Delegation, *, registered_at: float, trusted_at: float
) -> MachineGrant:
    """Return what a machine token grants, if a node made the token under a trust (OX4).

    Args:
        token: verified.
        trust: the only delegation that the token cites.
        registered_at: when the token was registered here, epoch seconds.
        trusted_at: when the trust was registered here.
    Raises:
        MalformedToken: one of them is invalid, or the token is not inside the trust.
    Does not check:
        That both are live, and that the key that signed the token is this node's.
    """
    grant = machine_grant(token, registered_at=registered_at)
    terms = machine_grant(trust, registered_at=trusted_at)
    if not isinstance(grant, MachineGrant) or not isinstance(terms, OidcTrust) or not grant.claims:
        raise MalformedToken("only a machine token that the node made may cite a trust")
    if token.delegator != terms.key or grant.name != terms.name:
        raise MalformedToken("the machine token was made for another trust")
    is_wider = grant.unbound and not terms.unbound  # EN46
    if grant.end > terms.end or is_wider or not {*grant.paths} <= {*terms.paths}:
        raise MalformedToken("the machine token is not inside its trust")
    check_claims(grant.claims, terms)
    return grant


def check_claims(presented: Mapping[str, object], trust: OidcTrust) -> None:
    """Check the claims of an ID token against a trust (OX3).

    Raises:
        MalformedToken: a claim has no value that the trust allows.
    """
    # A workflow for `pull_request_target` runs with the rights of the repository, for a request by
    # anybody, and its ID token names the repository's own branch.
    if presented.get("event_name") == "pull_request_target":
        raise MalformedToken("event_name is pull_request_target")
    for name, values in (trust.claims | {"iss": [trust.issuer]}).items():
        value = presented.get(name)
        if not any(type(one) is type(value) and one == value for one in values):  # True == 1
            raise MalformedToken(f"the claim {name} has no value that the trust allows")


def _stated(facts: tuple[Json, ...]) -> MachineGrant | OidcTrust:
    """Return the statement in the facts of a machine token or a trust (MT1, OX1)."""
    fact, *others = facts
    if others or not isinstance(fact, dict) or len(fact) != 1:
        raise MalformedToken("a machine token has exactly one fact")
    ((kind, value),) = fact.items()
    # There is one way to write that unbound values are refused: without the member (EN46).
    if isinstance(value, dict) and value.get("unbound", True) is not True:
        raise MalformedToken("its statement is invalid: `unbound` may only be true")
    try:
        return shaped(value, OidcTrust) if kind == OIDC_FACT else shaped(value, MachineGrant)
    except InvalidJson as exc:
        raise MalformedToken(f"its statement is invalid: {exc.text}") from exc


def issuing_owner(delegation: Delegation) -> Principal:
    """Return the principal on whose behalf a delegation was signed.

    It is the signer. For a machine token that a node signed under a trust, it is the owner (OX4),
    and for one that an admin signed, the team (TM6).
    """
    owner = None
    if delegation.parents and delegation.capabilities and is_machine_token(delegation):
        owner = root_of(delegation.capabilities[0].resource)
    return owner or delegation.delegator


def _is_value(resource: Resource) -> bool:
    """Return whether a resource is one value, and not a space or a folder."""
    return (
        isinstance(resource, SpaceResource)
        and resource.service == "kv"
        and bool(resource.path)
        and not resource.text.endswith("/")  # X5: it would cover everything below
        and resource.query is resource.fragment is None
    )
