"""App manifests: what an application declares it needs, and what an owner is therefore asked to sign.

`parse_manifest` checks a manifest, `resolve_manifest` expands it into resources, `compose_manifests` joins several into
one request, and `requested_capabilities` turns resources into what a delegation or a sign-in states.

A manifest's secrets do not ask for decrypt on a network; an app that reads them asks for that itself, once it knows the
owner.

Example:
    manifest = parse_manifest({"app_id": "com.example.notes", "name": "Notes", "secrets": {"API_KEY": True}})
    for resource in resolve_manifest(manifest).resources:
        print(resource.service, resource.space, resource.path, resource.actions)
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from capabilities.resources import NETWORK_PREFIX
from capabilities.strict_json import Json
from capabilities.tokens import Capability

from ._capability import capability
from ._durations import parse_duration_ms
from ._manifest_reading import KV, SECRET_ACTIONS, VAULT, Manifest, Permission, distinct, invalid, parse_manifest
from ._secret_names import VAULT_PREFIX

__all__ = [
    "ACCOUNT_RESOURCES",
    "DelegationTarget",
    "Manifest",
    "ManifestRequest",
    "Permission",
    "RegistryRecord",
    "ResolvedManifest",
    "ResourceRequest",
    "apply_prefix",
    "compose_manifests",
    "parse_manifest",
    "requested_capabilities",
    "resolve_manifest",
]

DEFAULT_SPACE: Final = "applications"
ACCOUNT_SPACE: Final = "account"
ENCRYPTION_SPACE: Final = "encryption"

_SQL = "tinycloud.sql"
_DUCKDB = "tinycloud.duckdb"
_ENCRYPTION = "tinycloud.encryption"
_CAPABILITIES = "tinycloud.capabilities"
_DELEGATION = "tinycloud.delegation"


@dataclass(frozen=True, slots=True)
class ResourceRequest:
    """One resource that an app asks for.

    Attributes:
        service: long name of the service.
        space: short name or full id; "encryption" for a network.
        path: path in the space, or the network's id.
        actions: full abilities, distinct, in order of appearance.
        expiry_ms: own lifetime in milliseconds; None: that of the request.
        description: for people.
    """

    service: str
    space: str
    path: str
    actions: tuple[str, ...]
    expiry_ms: int | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class DelegationTarget:
    """A DID that an app wants its resources delegated to.

    Attributes:
        did: the recipient.
        name: the app's name.
        resources: what to delegate.
        expiry_ms: for how long, milliseconds.
    """

    did: str
    name: str
    resources: tuple[ResourceRequest, ...]
    expiry_ms: int


@dataclass(frozen=True, slots=True)
class ResolvedManifest:
    """The result of resolving one manifest.

    Attributes:
        app_id: the app's id.
        did: the app's own DID or None.
        space: its space.
        resources: merged resources, the `capabilities/read` rows last.
        expiry_ms: lifetime asked for, milliseconds.
        include_public_space: carried along.
        additional_delegates: one target when the manifest has a DID.
    """

    app_id: str
    did: str | None
    space: str
    resources: tuple[ResourceRequest, ...]
    expiry_ms: int
    include_public_space: bool
    additional_delegates: tuple[DelegationTarget, ...]


@dataclass(frozen=True, slots=True)
class RegistryRecord:
    """What an account's registry stores about an app.

    Attributes:
        key: path in the account space.
        app_id: the app's id.
        manifests: the manifests of this app in the request, as they were given.
    """

    key: str
    app_id: str
    manifests: tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class ManifestRequest:
    """The result of composing several manifests; what a sign-in asks for.

    Attributes:
        manifests: the checked manifests.
        resources: merged resources of all.
        delegation_targets: every DID that wants a delegation, in order.
        registry_records: one for each app id.
        expiry_ms: the longest lifetime asked for.
        include_public_space: whether any manifest wants it.
    """

    manifests: tuple[Manifest, ...]
    resources: tuple[ResourceRequest, ...]
    delegation_targets: tuple[DelegationTarget, ...]
    registry_records: tuple[RegistryRecord, ...]
    expiry_ms: int
    include_public_space: bool


# --- expanding ---------------------------------------------------------------------------------------------------

_KV_ACTIONS = ("get", "put", "del", "list", "metadata")

_TIERS: Mapping[str, tuple[Permission, ...]] = {
    "none": (),
    "default": (
        Permission(KV, "/", _KV_ACTIONS, DEFAULT_SPACE),
        Permission(_SQL, "/", ("read", "write"), DEFAULT_SPACE),
    ),
    "admin": (
        Permission(KV, "/", _KV_ACTIONS, DEFAULT_SPACE),
        Permission(_SQL, "/", ("read", "write", "schema"), DEFAULT_SPACE),
    ),
    "all": (
        Permission(KV, "/", _KV_ACTIONS, DEFAULT_SPACE),
        Permission(_SQL, "/", ("read", "write", "schema"), DEFAULT_SPACE),
        Permission(_DUCKDB, "/", ("read", "write"), DEFAULT_SPACE),
    ),
}

ACCOUNT_RESOURCES: tuple[ResourceRequest, ...] = (
    ResourceRequest(KV, ACCOUNT_SPACE, "applications/", (f"{KV}/get", f"{KV}/put", f"{KV}/list")),
    ResourceRequest(KV, ACCOUNT_SPACE, "spaces/", (f"{KV}/get", f"{KV}/put", f"{KV}/list")),
    ResourceRequest(KV, ACCOUNT_SPACE, "system/bootstrap/complete", (f"{KV}/get", f"{KV}/put")),
    ResourceRequest(_DELEGATION, ACCOUNT_SPACE, "", (f"{_DELEGATION}/list",)),
    ResourceRequest(_SQL, ACCOUNT_SPACE, "account", (f"{_SQL}/read", f"{_SQL}/write", f"{_SQL}/schema")),
    ResourceRequest(_CAPABILITIES, ACCOUNT_SPACE, "", (f"{_CAPABILITIES}/read",)),
)
"""The rights that reading and writing the account's registry of apps needs."""


def resolve_manifest(manifest: Manifest) -> ResolvedManifest:
    """Expand one manifest into resources.

    The default tier comes first, then permissions, then secrets; equal resources are merged; each space used gets a row
    to read its capabilities. The default tier is always in `applications`, whatever the manifest's space is, and
    caveats are dropped: both as the protocol's other clients do it.

    Raises:
        ManifestInvalid: a vault or encryption entry names an unknown action, a network has no id, an expiry no meaning.
    """
    entries = (*_TIERS[manifest.defaults], *manifest.permissions, *manifest.secrets)
    resources = _merge(_expand(entry, manifest) for entry in entries)
    spaces = distinct(resource.space for resource in resources if resource.space != ENCRYPTION_SPACE)
    rows = tuple(ResourceRequest(_CAPABILITIES, space, "", (f"{_CAPABILITIES}/read",)) for space in spaces)
    resources = _merge((*resources, *rows))
    target = () if manifest.did is None else (_target(manifest, manifest.did, resources),)
    return ResolvedManifest(
        app_id=manifest.app_id,
        did=manifest.did,
        space=manifest.space or DEFAULT_SPACE,
        resources=resources,
        expiry_ms=manifest.expiry_ms,
        include_public_space=manifest.include_public_space,
        additional_delegates=target,
    )


def compose_manifests(
    manifests: Sequence[Manifest], *, include_account_registry_permissions: bool = True
) -> ManifestRequest:
    """Join manifests into one request.

    Args:
        manifests: at least one.
        include_account_registry_permissions: also ask for the rights that the account's registry needs.
    Raises:
        ManifestInvalid: the list is empty, or as `resolve_manifest`.
    """
    if not manifests:
        invalid("at least one manifest is required")
    resolved = [resolve_manifest(manifest) for manifest in manifests]
    account = ACCOUNT_RESOURCES if include_account_registry_permissions else ()
    return ManifestRequest(
        manifests=tuple(manifests),
        resources=_merge((*(resource for one in resolved for resource in one.resources), *account)),
        delegation_targets=tuple(target for one in resolved for target in one.additional_delegates),
        registry_records=_registry_records(manifests),
        expiry_ms=max(one.expiry_ms for one in resolved),
        include_public_space=any(one.include_public_space for one in resolved),
    )


def apply_prefix(prefix: str, path: str, *, skip: bool) -> str:
    """Put an app's prefix in front of a path."""
    if skip or not prefix:
        return path
    return f"{prefix}/{path.removeprefix('/')}"


def _expand(entry: Permission, manifest: Manifest) -> ResourceRequest:
    path = apply_prefix(manifest.prefix, entry.path, skip=entry.skip_prefix)
    space = entry.space or manifest.space or DEFAULT_SPACE
    service = entry.service
    if service == VAULT:
        # The app's prefix belongs inside the vault, so it is applied before "vault/" is put in front.
        service, path = KV, VAULT_PREFIX + path.removeprefix("/")
        actions = distinct(_vault_action(action) for action in entry.actions)
    elif service == _ENCRYPTION:
        if not entry.path.startswith(NETWORK_PREFIX):
            invalid(f'tinycloud.encryption entries require path to be a networkId URN (got "{entry.path}")')
        space, path = ENCRYPTION_SPACE, entry.path
        actions = distinct(_encryption_action(action) for action in entry.actions)
    else:
        actions = distinct(action if "/" in action else f"{service}/{action}" for action in entry.actions)
    return ResourceRequest(
        service=service,
        space=space,
        path=path,
        actions=actions,
        expiry_ms=None if entry.expiry is None else parse_duration_ms(entry.expiry),
        description=entry.description,
    )


_VAULT_ACTIONS: Mapping[str, str] = {**SECRET_ACTIONS, "head": "get"}


def _vault_action(word: str) -> str:
    action = _VAULT_ACTIONS.get(word.removeprefix(f"{VAULT}/").removeprefix(f"{KV}/"))
    if action is None:
        expected = "read, write, delete, get, put, del, list, head, or metadata"
        invalid(f'unknown vault action "{word}"; expected {expected}')
    return f"{KV}/{action}"


def _encryption_action(word: str) -> str:
    action = word.removeprefix(f"{_ENCRYPTION}/")
    if action not in ("decrypt", "network.create", "network.revoke"):
        invalid(f'unknown encryption action "{word}"; expected decrypt, network.create, or network.revoke')
    return f"{_ENCRYPTION}/{action}"


def _merge(resources: Iterable[ResourceRequest]) -> tuple[ResourceRequest, ...]:
    """Join resources equal in service, space, path and own lifetime; the first one's place and description stay."""
    merged: dict[tuple[str, str, str, int | None], ResourceRequest] = {}
    for one in resources:
        key = (one.service, one.space, one.path, one.expiry_ms)
        first = merged.get(key)
        if first is None:
            merged[key] = one
        else:
            merged[key] = replace(
                first,
                actions=distinct((*first.actions, *one.actions)),
                description=first.description or one.description,
            )
    return tuple(merged.values())


def _target(manifest: Manifest, did: str, resources: tuple[ResourceRequest, ...]) -> DelegationTarget:
    return DelegationTarget(did=did, name=manifest.name, resources=resources, expiry_ms=manifest.expiry_ms)


def _registry_records(manifests: Sequence[Manifest]) -> tuple[RegistryRecord, ...]:
    by_app: dict[str, list[Json]] = {}
    for manifest in manifests:
        by_app.setdefault(manifest.app_id, []).append(manifest.source)
    return tuple(RegistryRecord(f"applications/{app_id}", app_id, tuple(same)) for app_id, same in by_app.items())


# --- asking ------------------------------------------------------------------------------------------------------


def requested_capabilities(
    resources: Iterable[ResourceRequest], *, space_id: Callable[[str], str]
) -> tuple[Capability, ...]:
    """Turn resources into the capabilities of a sign-in or a delegation.

    Args:
        resources: of a resolved manifest or a request.
        space_id: makes the full id of a space from a short name or a full id.
    Returns:
        Distinct capabilities in order of appearance. A path that is the root ("" or "/") becomes a resource without a
        path, which covers the whole space; `…/kv//` would cover nothing that can be stored.
    Raises:
        InvalidInput: a path or an action cannot be used in a token.
    """
    stated = distinct((_resource_text(one, space_id), action) for one in resources for action in one.actions)
    return tuple(capability(resource, action) for resource, action in stated)


def _resource_text(resource: ResourceRequest, space_id: Callable[[str], str]) -> str:
    if resource.service == _ENCRYPTION:
        return resource.path
    root = f"{space_id(resource.space)}/{resource.service.removeprefix('tinycloud.')}"
    return root if resource.path in ("", "/") else f"{root}/{resource.path}"
