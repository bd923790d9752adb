"""Reading an app manifest: every member checked, nothing expanded yet.

Errors use the wording of the protocol's other clients.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NoReturn, TypeVar

from capabilities.strict_json import Json

from ._durations import parse_duration_ms
from ._secret_names import NAME_PATTERN, SECRETS_SPACE, is_secret_name, parse_secret_name
from .errors import InvalidSecretName, InvalidSecretScope, ManifestInvalid

T = TypeVar("T")

DEFAULT_EXPIRY: Final = "30d"
KV: Final = "tinycloud.kv"
VAULT: Final = "tinycloud.vault"


@dataclass(frozen=True, slots=True)
class Permission:
    """One entry of a manifest's `permissions`, checked but not expanded.

    Attributes:
        service: long name of the service ("tinycloud.kv").
        path: path in the space; "" and "/" mean its root.
        actions: as written, short or full.
        space: short name or full id; None: the manifest's.
        skip_prefix: the path is taken as it is, without the app's prefix.
        expiry: duration text of this entry alone; None: the manifest's.
        description: for people.
    """

    service: str
    path: str
    actions: tuple[str, ...]
    space: str | None = None
    skip_prefix: bool = False
    expiry: str | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """A checked manifest; made by `parse_manifest`.

    Attributes:
        app_id: the app's id, for example "com.example.notes".
        name: for people.
        did: the app's own DID; makes it a delegation target.
        expiry_ms: how long its grants are asked for, milliseconds.
        space: short name or full id of its space.
        prefix: what its paths begin with; "" for none.
        defaults: "none", "default", "admin" or "all".
        include_public_space: carried along, grants nothing by itself.
        permissions: the entries of `permissions`.
        secrets: the entries that its `secrets` expand to.
        source: the JSON object it was read from.
    """

    app_id: str
    name: str
    did: str | None
    expiry_ms: int
    space: str | None
    prefix: str
    defaults: str
    include_public_space: bool
    permissions: tuple[Permission, ...]
    secrets: tuple[Permission, ...]
    source: Json = field(repr=False)


def parse_manifest(value: Json) -> Manifest:
    """Check a manifest.

    Args:
        value: the JSON object; unknown members are ignored.
    Raises:
        ManifestInvalid: a member breaks its rule; the message names it.
    Does not check:
        That services and actions exist: unknown ones pass, as unknown abilities do on a node.
    """
    if not isinstance(value, dict):
        invalid("manifest must be an object")
    version = value.get("manifest_version", 1)
    if version != 1 or isinstance(version, bool):
        invalid("manifest.manifest_version must be 1")
    app_id = _required_text(value, "app_id")
    name = _required_text(value, "name")
    did = value.get("did")
    if did is not None and not (isinstance(did, str) and did.startswith("did:")):
        invalid("manifest.did must be a non-empty DID string")
    _check_knowledge(value.get("knowledge"))
    public = value.get("includePublicSpace", True)
    return Manifest(
        app_id=app_id,
        name=name,
        did=did,
        expiry_ms=parse_duration_ms(_optional_text(value, "expiry", "manifest") or _default_expiry(value)),
        space=_optional_text(value, "space", "manifest"),
        prefix=_prefix(value, app_id),
        defaults=_tier(value.get("defaults", True)),
        include_public_space=public is not False,
        permissions=_permissions(value.get("permissions")),
        secrets=_secrets(value.get("secrets")),
        source=value,
    )


def _required_text(value: Mapping[str, Json], member: str) -> str:
    text = value.get(member)
    if not isinstance(text, str) or not text:
        invalid(f"manifest.{member} is required and must be a non-empty string")
    return text


def _optional_text(value: Mapping[str, Json], member: str, where: str) -> str | None:
    text = value.get(member)
    if text is not None and not isinstance(text, str):
        invalid(f"{where}.{member} must be a string")
    return text


def _default_expiry(value: Mapping[str, Json]) -> str:
    """An expiry that is there but empty is an error, an absent one is the default."""
    return "" if value.get("expiry") == "" else DEFAULT_EXPIRY


def _prefix(value: Mapping[str, Json], app_id: str) -> str:
    prefix = _optional_text(value, "prefix", "manifest")
    return app_id if prefix is None else prefix


def _check_knowledge(knowledge: Json) -> None:
    if knowledge is None or knowledge is True:
        return
    if isinstance(knowledge, str) and knowledge.startswith("knowledge/") and knowledge.endswith(".md"):
        return
    invalid("manifest.knowledge must be true or a knowledge/*.md root path")


def _tier(defaults: Json) -> str:
    """Name the tier; anything unknown is the default one."""
    if defaults is False:
        return "none"
    word = defaults.strip().lower() if isinstance(defaults, str) else ""
    return {"false": "none", "admin": "admin", "all": "all"}.get(word, "default")


def _permissions(entries: Json) -> tuple[Permission, ...]:
    if entries is None:
        return ()
    if not isinstance(entries, list):
        invalid("manifest.permissions must be an array")
    return tuple(_permission(entry, f"permissions[{index}]") for index, entry in enumerate(entries))


def _permission(entry: Json, where: str) -> Permission:
    if not isinstance(entry, dict):
        invalid(f"{where} must be an object")
    service = entry.get("service")
    if not isinstance(service, str) or not service:
        invalid(f"{where}.service is required and must be a non-empty string")
    path = entry.get("path")
    if not isinstance(path, str):
        invalid(f'{where}.path is required (use "" or "/" for root)')
    caveats = entry.get("caveats")
    if caveats is not None and not (isinstance(caveats, list) and all(isinstance(one, dict) for one in caveats)):
        invalid(f"{where}.caveats must be an array of objects")
    return Permission(
        service=service,
        path=path,
        actions=_actions(entry.get("actions"), where),
        space=_optional_text(entry, "space", where),
        skip_prefix=entry.get("skipPrefix") is True,
        expiry=_optional_text(entry, "expiry", where),
        description=_optional_text(entry, "description", where),
    )


def _actions(actions: Json, where: str) -> tuple[str, ...]:
    if not isinstance(actions, list) or not actions:
        invalid(f"{where}.actions must be a non-empty array")
    texts = tuple(action for action in actions if isinstance(action, str) and action)
    if len(texts) != len(actions):
        invalid(f"{where}.actions must hold non-empty strings")
    return texts


def _secrets(secrets: Json) -> tuple[Permission, ...]:
    if secrets is None:
        return ()
    if not isinstance(secrets, dict):
        invalid("manifest.secrets must be an object")
    return tuple(_secret(key, spec) for key, spec in secrets.items())


def _secret(key: str, spec: Json) -> Permission:
    """Turn one secret into an entry for the vault."""
    where = f"manifest.secrets.{key}"
    if not is_secret_name(key):
        invalid(f"{where} must match {NAME_PATTERN}")
    members: Mapping[str, Json] = spec if isinstance(spec, dict) else {}
    actions: Json
    if spec is True:
        actions = ["read"]
    elif isinstance(spec, str | list):
        actions = spec
    elif isinstance(spec, dict):
        actions = members.get("actions", ["read"])
    else:
        invalid(f"{where} must be true, a string action, an actions array, or an object")
    scope = _optional_text(members, "scope", where)
    try:
        name = parse_secret_name(_optional_text(members, "name", where) or key, scope=scope)
    except (InvalidSecretName, InvalidSecretScope) as exc:
        raise ManifestInvalid(f"Manifest validation failed: {exc.message}") from exc
    return Permission(
        service=VAULT,
        path=name.vault_key,
        actions=_secret_actions(actions, where),
        space=SECRETS_SPACE,
        skip_prefix=True,
        expiry=_optional_text(members, "expiry", where),
        description=_optional_text(members, "description", where),
    )


SECRET_ACTIONS: Mapping[str, str] = {
    "read": "get",
    "write": "put",
    "delete": "del",
    **{action: action for action in ("get", "put", "del", "list", "metadata")},
}


def _secret_actions(actions: Json, where: str) -> tuple[str, ...]:
    words = [actions] if isinstance(actions, str) else actions
    if not isinstance(words, list) or not words:
        invalid(f"{where} actions must be non-empty")
    return distinct(_secret_action(word) for word in words)


def _secret_action(word: Json) -> str:
    action = SECRET_ACTIONS.get(word.removeprefix(f"{KV}/")) if isinstance(word, str) else None
    if action is None:
        invalid(f'unknown secret action "{word}"; expected read, write, delete, list, or metadata')
    return action


def distinct(items: Iterable[T]) -> tuple[T, ...]:
    """Return the items without repeats, in order of appearance."""
    return tuple(dict.fromkeys(items))


def invalid(detail: str) -> NoReturn:
    """Refuse a manifest."""
    raise ManifestInvalid(f"Manifest validation failed: {detail}")
