"""App manifests, which list an application's requested permissions.

`check_manifest` finds errors, `parse_manifest` reads a manifest, and `resolve_manifest` expands it
into resources. `compose_manifests` joins several into one request, and `requested_capabilities`
turns resources into capabilities of a sign-in or a delegation. `target_grants` makes the grants for
a manifest's DID. The rules are MF1 to MF12 (spec/manifests.md).

A manifest cannot request decrypt for its secrets, because it does not know the owner's network.
`with_decrypt` adds it to a request once the owner is known.

Example:
    app = {"app_id": "com.example.notes", "name": "Notes", "secrets": {"API_KEY": True}}
    for resource in resolve_manifest(parse_manifest(app)):
        print(resource.service, resource.space, resource.path, resource.actions)
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field, replace
from itertools import chain
from typing import Literal

from capabilities.abilities import (
    CAPABILITIES_READ,
    DECRYPT,
    KV_GET,
    KV_PUT,
    NETWORK_CREATE,
    satisfies,
)
from capabilities.frozen import frozen
from capabilities.resources import parse_network_id, root_of
from capabilities.tokens import Capability

from ..errors import Fault, InvalidInput
from ..session import capability, distinct_capabilities, space_of
from .manifest_reading import (
    ENCRYPTION,
    KV,
    VAULT,
    Manifest,
    Permission,
    check_manifest,
    distinct,
    full_action,
    invalid,
    parse_duration_ms,
    parse_manifest,
)
from .secret_names import SECRETS_SPACE, VAULT_PREFIX

__all__ = [
    "ACCOUNT_RESOURCES",
    "DelegationTarget",
    "Fault",
    "Manifest",
    "ManifestRequest",
    "NotServed",
    "Permission",
    "ResourceRequest",
    "apply_prefix",
    "check_manifest",
    "compose_manifests",
    "network_abilities",
    "not_served",
    "parse_manifest",
    "requested_capabilities",
    "resolve_manifest",
    "served",
    "with_decrypt",
]

DEFAULT_SPACE = "applications"
ACCOUNT_SPACE = "account"
ENCRYPTION_SPACE = "encryption"

_SQL = "tinycloud.sql"
_CAPABILITIES = "tinycloud.capabilities"
_DELEGATION = "tinycloud.delegation"


Origin = Literal["stated", "defaults", "account", "capabilities"]


@frozen
class ResourceRequest:
    """A resource that an app requests.

    Attributes:
        service: long name of the service.
        space: short name or full id; "encryption" for a network.
        path: path in the space, or the network's id.
        actions: full abilities, without duplicates, in order of appearance.
        expiry_ms: lifetime of this resource, milliseconds; None: the lifetime of the request.
        description: text for people.
        origin: why it is requested: "stated" by a permission or a secret; "defaults" by the default
            permissions, which `"defaults": false` leaves out; "account" for the account's registry;
            "capabilities" for the row of each space. Not part of equality.
    """

    service: str
    space: str
    path: str
    actions: tuple[str, ...]
    expiry_ms: int | None = None
    description: str | None = None
    origin: Origin = field(default="stated", compare=False)


@frozen
class DelegationTarget:
    """A recipient for whom a manifest requests a delegation.

    Attributes:
        did: the recipient.
        name: the app's name.
        resources: the resources to delegate.
        expiry_ms: lifetime, milliseconds.
    """

    did: str
    name: str
    resources: tuple[ResourceRequest, ...]
    expiry_ms: int


@frozen
class ManifestRequest:
    """The rights that one or more app manifests request at sign-in.

    Attributes:
        manifests: the checked manifests.
        resources: merged resources of all manifests.
        delegation_targets: every DID that wants a delegation, in order.
        expiry_ms: the longest requested lifetime, milliseconds.
    """

    manifests: tuple[Manifest, ...]
    resources: tuple[ResourceRequest, ...]
    delegation_targets: tuple[DelegationTarget, ...]
    expiry_ms: int


# --- expanding ------------------------------------------------------------------------------------


def _on_default_space(service: str, *actions: str) -> Permission:
    return Permission(service=service, path="/", actions=actions, space=DEFAULT_SPACE)


_KV_OF_APP = _on_default_space(KV, "get", "put", "del", "list", "metadata")
_SQL_OF_APP = _on_default_space(_SQL, "read", "write")
_SQL_OF_ADMIN = _on_default_space(_SQL, "read", "write", "schema")
_DUCKDB_OF_ADMIN = _on_default_space("tinycloud.duckdb", "read", "write")
_TIERS: Mapping[str, tuple[Permission, ...]] = {
    "none": (),
    "default": (_KV_OF_APP, _SQL_OF_APP),
    "admin": (_KV_OF_APP, _SQL_OF_ADMIN),
    "all": (_KV_OF_APP, _SQL_OF_ADMIN, _DUCKDB_OF_ADMIN),
}


def _in_account(service: str, path: str, *actions: str) -> ResourceRequest:
    return ResourceRequest(
        service=service,
        space=ACCOUNT_SPACE,
        path=path,
        actions=tuple(f"{service}/{action}" for action in actions),
        origin="account",
    )


ACCOUNT_RESOURCES: tuple[ResourceRequest, ...] = (
    _in_account(KV, "applications/", "get", "put", "list"),
    _in_account(KV, "spaces/", "get", "put", "list"),
    _in_account(KV, "system/bootstrap/complete", "get", "put"),
    _in_account(_DELEGATION, "", "list"),
    _in_account(_SQL, "account", "read", "write", "schema"),
    _in_account(_CAPABILITIES, "", "read"),
)
"""The rights to the list of apps and spaces that other clients store in the account's own space."""


def resolve_manifest(manifest: Manifest) -> tuple[ResourceRequest, ...]:
    """Return the resources requested by an app manifest (MF7).

    The default permissions come first, then permissions, then secrets. Equal resources are merged.
    Finally, each space gets an entry with the right to read its capabilities. The default
    permissions are always in the space `applications`, as in the protocol's other clients.
    """
    tier = [_expand(entry, manifest, "defaults") for entry in _TIERS[manifest.defaults]]
    stated = [
        _expand(entry, manifest, "stated") for entry in (*manifest.permissions, *manifest.secrets)
    ]
    resources = _merge((*tier, *stated))
    spaces = distinct(
        resource.space for resource in resources if resource.space != ENCRYPTION_SPACE
    )
    return _merge((*resources, *map(_capabilities_of, spaces)))


def _capabilities_of(space: str) -> ResourceRequest:
    """Return the request to read the capabilities that were granted in a space."""
    return ResourceRequest(
        service=_CAPABILITIES,
        space=space,
        path="",
        actions=(f"{_CAPABILITIES}/read",),
        origin="capabilities",
    )


def compose_manifests(
    manifests: Sequence[Manifest], *, include_account_registry_permissions: bool = True
) -> ManifestRequest:
    """Combine several app manifests into one sign-in request.

    Args:
        manifests: one or more manifests.
        include_account_registry_permissions: also request the rights for the account's registry.
    Raises:
        ManifestInvalid: the list is empty.
    """
    if not manifests:
        invalid("Manifest validation failed: at least one manifest is required")
    resolved = [resolve_manifest(manifest) for manifest in manifests]
    account = ACCOUNT_RESOURCES if include_account_registry_permissions else ()
    return ManifestRequest(
        manifests=tuple(manifests),
        resources=_merge((*chain.from_iterable(resolved), *account)),
        delegation_targets=tuple(
            DelegationTarget(
                did=manifest.did,
                name=manifest.name,
                resources=resources,
                expiry_ms=manifest.expiry_ms,
            )
            for manifest, resources in zip(manifests, resolved, strict=True)
            if manifest.did is not None
        ),
        expiry_ms=max(manifest.expiry_ms for manifest in manifests),
    )


def apply_prefix(prefix: str, path: str, *, skip: bool) -> str:
    """Add an application's prefix to a path, unless `skip` is true."""
    if skip or not prefix:
        return path
    return f"{prefix}/{path.removeprefix('/')}"


def _expand(entry: Permission, manifest: Manifest, origin: Origin) -> ResourceRequest:
    """Return the request that a permission stands for, with the defaults of its manifest."""
    path = apply_prefix(manifest.prefix, entry.path, skip=entry.skip_prefix)
    space = entry.space or manifest.space or DEFAULT_SPACE
    service = entry.service
    if service == VAULT:
        # The app's prefix belongs inside the vault, so "vault/" comes before it.
        service, path = KV, VAULT_PREFIX + path.removeprefix("/")
    elif service == ENCRYPTION:
        space, path = ENCRYPTION_SPACE, entry.path
    return ResourceRequest(
        service=service,
        space=space,
        path=path,
        actions=distinct(full_action(entry.service, action) for action in entry.actions),
        expiry_ms=None if entry.expiry is None else parse_duration_ms(entry.expiry),
        description=entry.description,
        origin=origin,
    )


def _merge(resources: Iterable[ResourceRequest]) -> tuple[ResourceRequest, ...]:
    """Combine requests for the same resource into one request.

    Requests are combined if they have the same service, space, path and lifetime.
    """
    merged: dict[tuple[str, str, str, int | None], ResourceRequest] = {}
    for resource in resources:
        key = (resource.service, resource.space, resource.path, resource.expiry_ms)
        first = merged.get(key, resource)  # a request that is new is merged with itself
        origin = first.origin
        if resource.origin == "stated":  # even if the defaults include it too
            origin = "stated"
        merged[key] = replace(
            first,
            actions=distinct((*first.actions, *resource.actions)),
            description=first.description or resource.description,
            origin=origin,
        )
    return tuple(merged.values())


def with_decrypt(request: ManifestRequest, network: str) -> ManifestRequest:
    """Add decryption rights to requests for reading secrets (MF8).

    Args:
        request: the result of `compose_manifests`.
        network: id of the owner's network.
    Returns:
        The request, in which the session and each delegation target that read a secret may decrypt.
    """
    owner = parse_network_id(network).owner
    decrypt = ResourceRequest(
        service=ENCRYPTION, space=ENCRYPTION_SPACE, path=network, actions=(DECRYPT,)
    )

    def extended(resources: tuple[ResourceRequest, ...]) -> tuple[ResourceRequest, ...]:
        reads = KV_GET in _actions_on_secrets(resources, owner)
        return _merge((*resources, decrypt)) if reads else resources

    targets = tuple(
        replace(target, resources=extended(target.resources))
        for target in request.delegation_targets
    )
    return replace(request, resources=extended(request.resources), delegation_targets=targets)


def network_abilities(request: ManifestRequest, owner: str) -> tuple[str, ...]:
    """Return the abilities on an owner's network that a request's session needs (MF8).

    They are decrypt for reading a secret, and create for writing one, because the first secret of
    an owner needs a network.
    """
    actions = _actions_on_secrets(request.resources, owner)
    abilities = []
    if KV_GET in actions:
        abilities.append(DECRYPT)
    if KV_PUT in actions:
        abilities.append(NETWORK_CREATE)
    return tuple(abilities)


def _actions_on_secrets(resources: Iterable[ResourceRequest], owner: str) -> set[str]:
    """Return the actions that are requested on any value in an owner's space of secrets."""
    secrets = space_of(owner, SECRETS_SPACE)
    actions = set[str]()
    for resource in resources:
        if resource.service == KV and space_of(owner, resource.space) == secrets:
            actions.update(resource.actions)
    return actions


# --- services of a node ---------------------------------------------------------------------------

_EVERY_NODE = frozenset(
    f"tinycloud.{name}" for name in ("kv", "capabilities", "delegation", "space", "encryption")
)


@frozen
class NotServed:
    """A requested service that the node does not offer.

    Attributes:
        service: long name ("tinycloud.sql").
        actions: short names of all requested actions, without duplicates.
        paths: `space/path` of each resource.
        stated: whether a permission requests it; False: only the default permissions or the
            account's registry do.
    """

    service: str
    actions: tuple[str, ...]
    paths: tuple[str, ...]
    stated: bool

    @property
    def text(self) -> str:
        """A one-line message for the user."""
        sentence = f"{self.service} is not served by this node: {', '.join(self.actions)}"
        return f"{sentence} on {', '.join(self.paths)}" if self.stated else f"{sentence}; left out"


def not_served(
    resources: Iterable[ResourceRequest], features: Sequence[str] = ()
) -> tuple[NotServed, ...]:
    """Return the requested services that a node does not offer.

    They are in order of appearance.

    Args:
        resources: resources of a resolved manifest or a request.
        features: features of the node (`NodeInfo.features`); empty: those of this project's nodes.
    """
    by_service: dict[str, list[ResourceRequest]] = {}
    for resource in resources:
        if not _is_served(resource, features):
            by_service.setdefault(resource.service, []).append(resource)
    unserved = []
    for service, requests in by_service.items():
        actions: list[str] = []
        for resource in requests:
            actions += [action.removeprefix(f"{service}/") for action in resource.actions]
        stated = [resource for resource in requests if resource.origin == "stated"]
        unserved.append(
            NotServed(
                service=service,
                actions=distinct(actions),
                paths=distinct([f"{resource.space}/{resource.path}" for resource in stated]),
                stated=bool(stated),
            )
        )
    return tuple(unserved)


def served(
    resources: Sequence[ResourceRequest], features: Sequence[str] = (), *, leave_out: bool = False
) -> tuple[ResourceRequest, ...]:
    """Return the resources that the node can serve (MF9).

    Resources that only defaults request are left out. An app needs the resources that its manifest
    states, so their absence is an error, unless the caller accepts it.

    Args:
        resources: resources of a resolved manifest or a request.
        features: features of the node; see `not_served`.
        leave_out: leave out stated resources too.
    Raises:
        InvalidInput: the manifest states a service that the node does not serve; the message names
            each service once.
    """
    refused = [missing for missing in not_served(resources, features) if missing.stated]
    if refused and not leave_out:
        raise InvalidInput(
            "; ".join(missing.text for missing in refused),
            hint="remove these entries from the manifest, or use a node that serves them",
        )
    return tuple(resource for resource in resources if _is_served(resource, features))


def _is_served(resource: ResourceRequest, features: Sequence[str]) -> bool:
    return (
        resource.service in _EVERY_NODE or resource.service.removeprefix("tinycloud.") in features
    )


# --- capabilities and grants ----------------------------------------------------------------------


def requested_capabilities(
    resources: Iterable[ResourceRequest], *, space_id: Callable[[str], str]
) -> tuple[Capability, ...]:
    """Convert requested resources to capabilities.

    Args:
        resources: resources of a resolved manifest or a request.
        space_id: returns the full id of a space for a short name or a full id.
    Returns:
        Capabilities without duplicates, in order of appearance. The root path ("" or "/") becomes a
        resource without a path, which covers the whole space; `…/kv//` would cover no key.
    Raises:
        InvalidInput: a path or an action cannot be used in a token.
    """
    stated: dict[tuple[str, str], None] = {}
    for request in resources:
        resource = request.path
        if request.service != ENCRYPTION:
            root = f"{space_id(request.space)}/{request.service.removeprefix('tinycloud.')}"
            resource = root if request.path in ("", "/") else f"{root}/{request.path}"
        stated |= dict.fromkeys((resource, action) for action in request.actions)
    return tuple(capability(resource, action) for resource, action in stated)


@frozen
class TargetGrant:
    """A grant requested by a manifest for one recipient.

    Attributes:
        owner: DID of the owner of everything in it.
        capabilities: the requested rights, at least one; never the right to read capabilities,
            which makes a session (IP2).
        ttl_s: requested lifetime, seconds.
    """

    owner: str
    capabilities: tuple[Capability, ...]
    ttl_s: float


def target_grants(
    target: DelegationTarget, *, owner: str, features: Sequence[str] = (), leave_out: bool = False
) -> tuple[TargetGrant, ...]:
    """Return the grants requested for one recipient (MF12).

    The owner of any space in a grant can revoke all of it (W22), so rights of different owners are
    granted separately. Rights of one owner stay together: a right to decrypt that outlives the
    right to read would still open a copy of a value.

    Args:
        target: a target of a composed request.
        owner: DID of the owner who grants.
        features: features of the node; see `not_served`.
        leave_out: leave out stated resources that the node does not serve, instead of raising.
    Raises:
        InvalidInput: the manifest states a service that the node does not serve.
    """
    groups: dict[str, list[Capability]] = {}
    lifetimes_ms: dict[str, int] = {}
    for resource in served(target.resources, features, leave_out=leave_out):
        # A grant has the shortest lifetime of what is in it, and at most that of the target.
        lifetime_ms = target.expiry_ms if resource.expiry_ms is None else resource.expiry_ms
        for right in requested_capabilities(
            [resource], space_id=lambda name: space_of(owner, name).text
        ):
            if not satisfies(right.ability, CAPABILITIES_READ):
                root = root_of(right.resource) or right.resource.text
                groups.setdefault(root, []).append(right)
                lifetimes_ms[root] = min(lifetime_ms, lifetimes_ms.get(root, target.expiry_ms))
    return tuple(
        TargetGrant(
            owner=root,
            capabilities=distinct_capabilities(capabilities),
            ttl_s=lifetimes_ms[root] / 1000,
        )
        for root, capabilities in groups.items()
    )
