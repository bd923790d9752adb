"""The portable JSON form of a delegation.

The protocol's other clients use the same form:

    {"cid", "delegationHeader": {"Authorization"}, "spaceId", "path", "actions", "resources": [...],
     "disableSubDelegation", "expiry", "delegateDID", "ownerAddress", "chainId", "host"}

Several delegations for one recipient are sent as a bundle, with each as a text of this form:

    {"format": "listen.delegation-bundle", "version": 1, "delegations": [...]}

Only the token has authority. The other members describe it, and must not claim more than it grants
(MF14 to MF16). The form contains no secret key, but it lets its recipient use the grant, so protect
it like a password.

Example:
    text = encode_portable(portable)
    portable = decode_portable(text)
"""

import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, NoReturn

import msgspec

from capabilities.capability_errors import CapabilityError, InvalidIdentifier
from capabilities.frozen import frozen
from capabilities.principals import (
    Principal,
    eip55,
    is_wallet,
    parse_principal,
    same_principal,
    wallet_address,
)
from capabilities.resources import (
    OpaqueResource,
    Resource,
    SpaceResource,
    network_of,
    parse_space_id,
)
from capabilities.siwe import parse_rfc3339
from capabilities.strict_json import Json, JsonObject, StrictStruct, parse_json
from capabilities.tokens import Capability

from ..documents.shapes import Text, below, shaped_at
from ..errors import InvalidInput, InvalidPortableDelegation
from ..session import Grant, iso_time, read_grant, space_of, until

MAX_PORTABLE_BYTES = 1024 * 1024
MAX_BUNDLED = 32
"""Most delegations in a bundle: a recipient registers each of them at a node."""

BUNDLE_FORMAT = "listen.delegation-bundle"
"""The format name that the protocol's other clients write."""

_ENCRYPTION = "encryption"
_ROUNDING_S = 1.0
"""Tolerance between the token's expiry and the member `expiry`, which may be in whole seconds."""


@frozen
class GrantedResource:
    """A resource and its granted abilities.

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


_NO_RESOURCE = GrantedResource(service="kv", space="", path="", actions=())


@frozen(kw_only=True, repr=False)
class PortableDelegation:
    """A delegation that can be sent to its recipient as JSON.

    Obtain it with `Delegations.delegate` or `decode_portable`.

    Attributes:
        cid: id of the delegation.
        header: the token.
        delegate_did: DID of the recipient.
        owner: owner of the data.
        resources: description of what it grants, in the order of the token.
        expires_at: epoch seconds; None: never.
        host: address of the node where it is registered; "" if the writer did not say.
        space_id: the member `spaceId`: the first resource's space, or any space of the owner for
            networks; "" if the writer did not say.
        sub_delegation: whether its writer wants it to be passed on; the token decides.
        parent_cid: id of its parent delegation, if the writer says so.
    """

    cid: str
    header: str
    delegate_did: str
    owner: Principal
    resources: tuple[GrantedResource, ...]
    expires_at: float | None
    host: str
    space_id: str
    sub_delegation: bool = True
    parent_cid: str | None = None

    def __repr__(self) -> str:
        return (
            f"PortableDelegation({self.cid} of {self.owner} to {self.delegate_did},"
            f" {until(self.expires_at)})"
        )

    @property
    def space(self) -> str | None:
        """The id of the first space in the delegation, or None.

        None means that the delegation names only networks.
        """
        return next(
            (resource.space for resource in self.resources if resource.space != _ENCRYPTION), None
        )


def cid_of(delegation: PortableDelegation | str) -> str:
    """Return the id of a delegation that is given in portable form or by its id."""
    if isinstance(delegation, str):
        return delegation
    return delegation.cid


def portable_of(grant: Grant, *, owner: Principal, host: str) -> PortableDelegation:
    """Convert a grant to a delegation that can be sent as JSON."""
    resources = described(grant.capabilities)
    return PortableDelegation(
        cid=grant.cid,
        header=grant.header,
        delegate_did=grant.delegate,
        owner=owner,
        resources=resources,
        expires_at=grant.expires_at,
        host=host,
        space_id=_space_id_of(resources, owner),
    )


def _space_id_of(resources: Iterable[GrantedResource], owner: Principal) -> str:
    """Return the id of the first space in a delegation.

    Other clients reject an empty id, and accept any space of the owner in its place. So a
    delegation that names only networks gets the owner's default space.
    """
    for resource in resources:
        if resource.space != _ENCRYPTION:
            return resource.space
    return space_of(owner, "default").text


def grant_of(portable: PortableDelegation, *, now: float) -> Grant:
    """Decode the token of a portable delegation.

    The other members of the delegation must match the token.

    Args:
        portable: untrusted.
        now: epoch seconds.
    Raises:
        InvalidPortableDelegation: the token cannot be read, differs from the members beside it, or
            has expired.
    """
    grant = read_grant(portable.header)
    # The members beside the token are only for people and for routing. A person may decide by them,
    # so they must not claim more than the token grants.
    if portable.cid != grant.cid or not same_principal(portable.delegate_did, grant.delegate):
        raise _differs("another id or recipient")
    granted = {
        (_resource_text(capability.resource), capability.ability)
        for capability in grant.capabilities
    }
    # MF16: neither a right nor a lifetime that the token does not grant
    for index, stated_resource in enumerate(portable.resources):
        resource = _described_uri(stated_resource)
        if any((resource, action) not in granted for action in stated_resource.actions):
            raise _differs(f"resources[{index}] claims more than the token grants")
    if grant.expires_at is not None:
        stated_end = portable.expires_at or math.inf
        if stated_end > grant.expires_at + _ROUNDING_S:
            raise _differs("expiry is later")
    if not grant.is_live(now):
        raise InvalidPortableDelegation(
            "the delegation has expired", hint="ask the owner for a new delegation"
        )
    return grant


def encode_portable(portable: PortableDelegation) -> bytes:
    """Encode a portable delegation as JSON (MF14).

    Other clients write the same bytes.
    """
    # The flat members repeat the first resource, because older readers know only these.
    first = portable.resources[0] if portable.resources else _NO_RESOURCE
    # The members have the order of the protocol's other clients.
    value = {
        "cid": portable.cid,
        "delegationHeader": {"Authorization": portable.header},
        "spaceId": portable.space_id or portable.space or "",
        "path": first.path,
        "actions": first.actions,
        "resources": portable.resources,
        "disableSubDelegation": not portable.sub_delegation,
    }
    if portable.expires_at is not None:
        value["expiry"] = iso_time(portable.expires_at)
    value["delegateDID"] = portable.delegate_did
    if is_wallet(portable.owner):
        value["ownerAddress"] = eip55(wallet_address(portable.owner) or b"")
        chain = portable.owner.split(":")[3]  # did:pkh:eip155:<chain>:<address>
        value["chainId"] = int(chain)
    else:
        value["ownerDID"] = portable.owner
    if portable.host:
        value["host"] = portable.host
    if portable.parent_cid is not None:
        value["parentCid"] = portable.parent_cid
    return msgspec.json.encode(value)


def encode_bundle(portables: Sequence[PortableDelegation]) -> bytes:
    """Encode several delegations as JSON.

    A single delegation is encoded on its own, without a bundle.

    Args:
        portables: 1 to 32.
    Raises:
        InvalidInput: the list is empty or too long.
    """
    if not 1 <= len(portables) <= MAX_BUNDLED:
        raise InvalidInput(
            f"a bundle must have 1 to {MAX_BUNDLED} delegations, not {len(portables)}"
        )
    if len(portables) == 1:
        return encode_portable(portables[0])
    texts = [encode_portable(portable).decode() for portable in portables]
    return msgspec.json.encode({"format": BUNDLE_FORMAT, "version": 1, "delegations": texts})


# --- reading --------------------------------------------------------------------------------------

_HINT = "use the complete original text of the delegation; if it fails again, ask for a new one"
_COMPANION = "publicDelegation"
_BEARER = "bearer "


class _Header(StrictStruct):
    Authorization: str


class _Resource(StrictStruct):
    service: str
    space: str
    path: str
    actions: Annotated[list[Text], msgspec.Meta(min_length=1)]
    caveats: Any = None


class _Flat(msgspec.Struct):
    """A portable delegation for a single resource.

    Documents without `resources` have these members.
    """

    spaceId: str
    actions: Annotated[list[Text], msgspec.Meta(min_length=1)]
    path: str = ""


class _Form(StrictStruct):
    cid: str
    delegationHeader: _Header
    delegateDID: str
    spaceId: str = ""
    path: Any = None
    actions: Any = None
    resources: list[_Resource] | None = None
    disableSubDelegation: bool | None = None
    expiry: str | None = None
    ownerAddress: Any = None
    chainId: Any = 1
    ownerDID: Any = None
    host: str = ""
    parentCid: str = ""
    # Members that only some writers add (MF15).
    allowSubDelegation: bool | None = None
    authHeader: str | msgspec.UnsetType = msgspec.UNSET
    caveats: Any = None
    createdAt: Any = None
    delegatorDID: Any = None
    isRevoked: bool = False
    publicDelegation: Any = None
    siweProof: Any = None


class _Bundle(StrictStruct):
    delegations: Annotated[list[Any], msgspec.Meta(min_length=1, max_length=MAX_BUNDLED)]
    format: Any = None
    version: int | float = 0


def decode_portable(data: bytes) -> PortableDelegation:
    """Parse a portable delegation from JSON.

    The data is untrusted.

    Raises:
        InvalidPortableDelegation: the data is malformed; the message names the first wrong member.
    Does not check:
        The token: `Delegations.accept` compares it with the members beside it, and the node
            verifies it.
    """
    main, *_ = _parse(_object(data), "")  # a delegation in `publicDelegation` is left out
    return main


def decode_bundle(data: bytes) -> tuple[PortableDelegation, ...]:
    """Parse one or more portable delegations from JSON.

    A delegation for the owner's public space inside another one is returned as one of its own.

    Args:
        data: untrusted; a bundle has at most 32 delegations.
    Raises:
        InvalidPortableDelegation: the data is malformed; the message names the first wrong member.
    Does not check:
        The tokens, as `decode_portable`.
    """
    document = _object(data)
    if "delegations" not in document:
        return _parse(document, "")
    bundle = shaped_at("", document, _Bundle, _wrong)
    if bundle.format != BUNDLE_FORMAT or bundle.version != 1:
        _wrong("format", f'is not version 1 of "{BUNDLE_FORMAT}"')
    portables: list[PortableDelegation] = []
    for index, item in enumerate(bundle.delegations):
        where = f"delegations[{index}]"
        value = _object(item.encode(), where) if isinstance(item, str) else item
        portables += _parse(value, where)
    return tuple(portables)


def _object(data: bytes, at: str = "") -> JsonObject:
    try:
        return parse_json(data, max_bytes=MAX_PORTABLE_BYTES)
    except CapabilityError:
        _wrong(at, "is not a JSON object")


def _parse(value: Json, at: str) -> tuple[PortableDelegation, ...]:
    """Parse a portable delegation.

    Its member `publicDelegation` may contain a second delegation.
    """
    form = shaped_at(at, value, _Form, _wrong)
    header = _strip_bearer(form.delegationHeader.Authorization)
    if form.authHeader is not msgspec.UNSET and _strip_bearer(form.authHeader) != header:
        _wrong(below(at, "authHeader"), "differs from the token in delegationHeader")
    if form.isRevoked:
        _wrong(below(at, "isRevoked"), "says that it was revoked")
    if form.resources is None:  # then the flat members describe the only resource
        resources = _flat_resources(shaped_at(at, value, _Flat, _wrong))
    else:
        resources = [_stated_resource(resource) for resource in form.resources]
    try:
        expires_at = None if form.expiry is None else parse_rfc3339(form.expiry)
    except InvalidIdentifier:
        _wrong(below(at, "expiry"), "is not an RFC 3339 time")
    main = PortableDelegation(
        cid=form.cid,
        header=header,
        delegate_did=form.delegateDID,
        owner=_owner(form, at),
        resources=tuple(resources),
        expires_at=expires_at,
        host=form.host,
        space_id=form.spaceId,
        # Some writers use the opposite member, `allowSubDelegation`.
        sub_delegation=not form.disableSubDelegation and form.allowSubDelegation is not False,
        parent_cid=form.parentCid or None,
    )
    if form.publicDelegation is None:
        return (main,)
    if at.endswith(_COMPANION):
        _wrong(below(at, _COMPANION), "is one too many")
    return (main, *_parse(form.publicDelegation, below(at, _COMPANION)))


def _flat_resources(flat: _Flat) -> list[GrantedResource]:
    """Return the resource of the flat members, once for each service of its actions."""
    by_service: dict[str, list[str]] = {}
    for action in flat.actions:
        full = _full_action(action, "")
        by_service.setdefault(_short(full.partition("/")[0]), []).append(full)
    granted_resources = []
    for service, actions in by_service.items():
        space = _ENCRYPTION if service == _ENCRYPTION else flat.spaceId
        granted_resources.append(
            GrantedResource(service=service, space=space, path=flat.path, actions=tuple(actions))
        )
    return granted_resources


def _stated_resource(stated: _Resource) -> GrantedResource:
    service = _short(stated.service)
    return GrantedResource(
        service=service,
        space=stated.space,
        path=stated.path,
        actions=tuple(_full_action(action, service) for action in stated.actions),
    )


def _strip_bearer(text: str) -> str:
    """Remove an optional "Bearer " prefix from a token, in any case of letters."""
    if text[: len(_BEARER)].lower() == _BEARER:
        return text[len(_BEARER) :]
    return text


def _short(service: str) -> str:
    return service.removeprefix("tinycloud.")


def _full_action(action: str, service: str) -> str:
    return action if "/" in action else f"tinycloud.{service}/{action}"


def _owner(form: _Form, at: str) -> Principal:
    """Return the owner in a portable delegation.

    An owner with a wallet has an address and a chain, and any other owner has a DID.
    """
    if form.ownerAddress is None and form.ownerDID is not None:
        return _owner_named(form.ownerDID, below(at, "ownerDID"))
    if form.ownerAddress is not None and type(form.chainId) is not int:  # not a bool
        _wrong(below(at, "chainId"), "is not a chain number")
    wallet = f"did:pkh:eip155:{form.chainId}:{form.ownerAddress}"
    return _owner_named(wallet, below(at, "ownerAddress"))


def _owner_named(did: object, path: str) -> Principal:
    try:
        return parse_principal(did if isinstance(did, str) else "")
    except CapabilityError:
        _wrong(path, "is not a valid owner")


def _differs(how: str) -> InvalidPortableDelegation:
    return InvalidPortableDelegation(
        f"the delegation's description does not match its signed token: {how}", hint=_HINT
    )


def _wrong(path: str, what: str) -> NoReturn:
    subject = f"the delegation's {path}" if path else "the delegation"
    raise InvalidPortableDelegation(f"{subject} {what}", hint=_HINT)


# --- descriptions ---------------------------------------------------------------------------------


def _resource_text(resource: Resource) -> str:
    """Return the canonical URI of a resource.

    Empty paths and network ids are normalised.
    """
    if isinstance(resource, SpaceResource):
        return SpaceResource(
            space=resource.space, service=resource.service, path=resource.path or None
        ).text
    network = network_of(resource)
    return resource.text if network is None else network.text


def _described_uri(described: GrantedResource) -> str | None:
    """Return the canonical URI of a resource from its description.

    Returns None if the description is malformed.
    """
    resource: Resource
    try:
        if described.service == _ENCRYPTION:
            resource = OpaqueResource(described.path)
        else:
            space = parse_space_id(described.space)
            resource = SpaceResource(space=space, service=described.service, path=described.path)
        return _resource_text(resource)
    except CapabilityError:
        return None


def described(capabilities: Iterable[Capability]) -> tuple[GrantedResource, ...]:
    """Group capabilities by resource.

    The order of the resources is kept.
    """
    actions: dict[Resource, list[str]] = {}
    for capability in capabilities:
        actions.setdefault(capability.resource, []).append(capability.ability)
    return tuple(_granted(resource, tuple(abilities)) for resource, abilities in actions.items())


def _granted(resource: Resource, abilities: tuple[str, ...]) -> GrantedResource:
    """Return the description of abilities on one resource."""
    if isinstance(resource, SpaceResource):
        return GrantedResource(
            service=resource.service,
            space=resource.space.text,
            path=resource.path or "",
            actions=abilities,
        )
    return GrantedResource(
        service=_ENCRYPTION,
        space=_ENCRYPTION,
        path=_resource_text(resource),
        actions=abilities,
    )
