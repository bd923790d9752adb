"""The portable form of a delegation: JSON that is handed to its recipient, as other clients write and read it.

    {"cid", "delegationHeader": {"Authorization"}, "spaceId", "path", "actions", "resources": [...],
     "disableSubDelegation", "expiry", "delegateDID", "ownerAddress", "chainId", "host"}

Only the token in it has authority; everything else describes it. The form is no secret key, but the delegate can use
what it grants: hand it over as you would a password.

Example:
    text = encode_portable(portable)
    portable = decode_portable(text)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from capabilities.errors import CapabilityError, InvalidIdentifier
from capabilities.principals import Principal, eip55, is_wallet, same_principal, wallet_address
from capabilities.resources import Resource, SpaceResource, network_of
from capabilities.siwe import parse_rfc3339
from capabilities.strict_json import Json, parse_json
from capabilities.tokens import Capability
from encryption_network.canonical_json import canonical_bytes

from ._minting import iso_time
from .errors import InvalidPortableDelegation
from .session import Grant, read_grant, until

MAX_PORTABLE_BYTES: Final = 1024 * 1024
_ENCRYPTION: Final = "encryption"


@dataclass(frozen=True, slots=True)
class GrantedResource:
    """One resource of a delegation, described.

    Attributes:
        service: short name ("kv"), or "encryption" for a network.
        space: id of the space, or "encryption".
        path: raw path, "" for none, or the network's id.
        actions: full abilities.
    """

    service: str
    space: str
    path: str
    actions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PortableDelegation:
    """A delegation on its way to its recipient; made by `Delegations.delegate` and `decode_portable`.

    Attributes:
        cid: id of the delegation.
        header: the token.
        delegate_did: the recipient.
        owner: the owner of the data.
        resources: what it grants, described; in the order of the token.
        expires_at: epoch seconds; None: never.
        host: address of the node where it is registered.
    """

    cid: str
    header: str
    delegate_did: str
    owner: Principal
    resources: tuple[GrantedResource, ...]
    expires_at: float | None
    host: str

    def __repr__(self) -> str:
        return f"PortableDelegation({self.cid} of {self.owner} to {self.delegate_did}, {until(self.expires_at)})"

    @property
    def space(self) -> str | None:
        """Id of the first space it is about; None for networks only."""
        return next((one.space for one in self.resources if one.space != _ENCRYPTION), None)


def portable_of(grant: Grant, *, owner: Principal, host: str) -> PortableDelegation:
    """Describe a grant for its recipient."""
    return PortableDelegation(
        cid=grant.cid,
        header=grant.header,
        delegate_did=grant.delegate,
        owner=owner,
        resources=_described(grant.capabilities),
        expires_at=grant.expires_at,
        host=host,
    )


def grant_of(portable: PortableDelegation, *, now: float) -> Grant:
    """Check a portable delegation against the token in it, and return what the token says.

    Args:
        portable: untrusted.
        now: epoch seconds.
    Raises:
        InvalidPortableDelegation: the token cannot be read, differs from the members beside it, or has ended.
    """
    grant = read_grant(portable.header)
    # The members beside the token are for people and for routing; authority is only what the token says.
    if portable.cid != grant.cid or not same_principal(portable.delegate_did, grant.delegate):
        raise InvalidPortableDelegation("the delegation's token differs from its description")
    if not grant.is_live(now):
        raise InvalidPortableDelegation("the delegation has ended", hint="ask the owner for a new one")
    return grant


def encode_portable(portable: PortableDelegation) -> bytes:
    """Write the portable form."""
    # The flat members mirror the first resource: older readers know only those.
    first = portable.resources[0] if portable.resources else GrantedResource("kv", "", "", ())
    value: dict[str, Json] = {
        "cid": portable.cid,
        "delegationHeader": {"Authorization": portable.header},
        "spaceId": portable.space or "",
        "path": first.path,
        "actions": list(first.actions),
        "resources": [
            {"service": one.service, "space": one.space, "path": one.path, "actions": list(one.actions)}
            for one in portable.resources
        ],
        "disableSubDelegation": False,
        "delegateDID": portable.delegate_did,
        "host": portable.host,
    }
    if portable.expires_at is not None:
        value["expiry"] = iso_time(portable.expires_at)
    if is_wallet(portable.owner):
        value["ownerAddress"] = eip55(wallet_address(portable.owner) or b"")
        value["chainId"] = int(portable.owner.split(":")[3])
    else:
        value["ownerDID"] = portable.owner
    return canonical_bytes(value)


def decode_portable(data: bytes) -> PortableDelegation:
    """Read the portable form, untrusted.

    Raises:
        InvalidPortableDelegation: it is something else.
    Does not check:
        The token: `Delegations.take_up` compares it with the members beside it, and the node judges it.
    """
    try:
        value = parse_json(data, max_bytes=MAX_PORTABLE_BYTES)
    except CapabilityError as exc:
        raise InvalidPortableDelegation("the delegation is not a JSON object") from exc
    carrier = value.get("delegationHeader")
    header = carrier.get("Authorization") if isinstance(carrier, dict) else None
    cid, delegate, host = (value.get(name) for name in ("cid", "delegateDID", "host"))
    if not (isinstance(header, str) and isinstance(cid, str) and isinstance(delegate, str)):
        raise InvalidPortableDelegation("the delegation lacks its id, its token or its recipient")
    resources = value.get("resources")
    return PortableDelegation(
        cid=cid,
        header=header,
        delegate_did=delegate,
        owner=_owner(value),
        resources=tuple(_resource(one) for one in resources) if isinstance(resources, list) else (),
        expires_at=_expiry(value.get("expiry")),
        host=host if isinstance(host, str) else "",
    )


def _described(capabilities: tuple[Capability, ...]) -> tuple[GrantedResource, ...]:
    """Gather the abilities of each resource; the token's own order is by resource."""
    actions: dict[Resource, list[str]] = {}
    for one in capabilities:
        actions.setdefault(one.resource, []).append(one.ability)
    return tuple(_describe(resource, tuple(abilities)) for resource, abilities in actions.items())


def _describe(resource: Resource, actions: tuple[str, ...]) -> GrantedResource:
    if isinstance(resource, SpaceResource):
        return GrantedResource(resource.service, resource.space.text, resource.path or "", actions)
    network = network_of(resource)
    return GrantedResource(_ENCRYPTION, _ENCRYPTION, resource.text if network is None else network.text, actions)


def _resource(value: Json) -> GrantedResource:
    if not isinstance(value, dict):
        raise InvalidPortableDelegation("a resource of the delegation is no object")
    service, space, path, actions = (value.get(name) for name in ("service", "space", "path", "actions"))
    if not (isinstance(service, str) and isinstance(space, str) and isinstance(path, str)):
        raise InvalidPortableDelegation("a resource of the delegation lacks a member")
    if not isinstance(actions, list):
        raise InvalidPortableDelegation("a resource of the delegation has no actions")
    return GrantedResource(service, space, path, tuple(action for action in actions if isinstance(action, str)))


def _owner(value: Mapping[str, Json]) -> Principal:
    address, chain_id, did = value.get("ownerAddress"), value.get("chainId", 1), value.get("ownerDID")
    if isinstance(address, str) and isinstance(chain_id, int):
        return Principal(f"did:pkh:eip155:{chain_id}:{address}")
    return Principal(did if isinstance(did, str) else "")


def _expiry(text: Json) -> float | None:
    if text is None:
        return None
    try:
        return parse_rfc3339(text if isinstance(text, str) else "")
    except InvalidIdentifier as exc:
        raise InvalidPortableDelegation("the delegation's expiry is no time") from exc
