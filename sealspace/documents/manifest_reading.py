"""Reading an app manifest: every member checked, all faults found, nothing expanded yet.

Rules MF1 to MF6. A manifest is read strictly: an unknown member is a fault, because a misspelt one would be an
unheard wish. What the protocol's other clients word, this module words alike; a word that stands where an action of a
secret belongs is never repeated, because it may be the secret itself.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NoReturn, TypeVar

from capabilities.errors import CapabilityError
from capabilities.principals import parse_principal
from capabilities.resources import NETWORK_PREFIX, SpaceResource, parse_resource, parse_space_id
from capabilities.strict_json import Json

from ..errors import Fault, InvalidSecretName, InvalidSecretScope, ManifestInvalid
from ..printable import printable
from .durations import parse_duration_ms
from .secret_names import NAME_PATTERN, SECRETS_SPACE, SecretName, is_secret_name, parse_secret_name

T = TypeVar("T")

DEFAULT_EXPIRY: Final = "30d"
DEFAULT_EXPIRY_MS: Final = parse_duration_ms(DEFAULT_EXPIRY)
KV: Final = "tinycloud.kv"
VAULT: Final = "tinycloud.vault"
ENCRYPTION: Final = "tinycloud.encryption"

MAX_PERMISSIONS: Final = 256
"""Most entries of `permissions`, and most `secrets`: a person could not judge more, and a token has a largest size."""

_SERVICE: Final = re.compile(r"tinycloud\.[a-z][a-z0-9-]*")
_ACTION: Final = re.compile(r"[A-Za-z0-9\-_.+*]{1,100}")
_MAX_SHOWN_CHARS: Final = 100
_MAX_FAULTS: Final = 50

_MEMBERS: Final = (
    "manifest_version", "app_id", "name", "description", "icon", "appVersion", "did", "expiry", "space", "prefix",
    "defaults", "includePublicSpace", "knowledge", "permissions", "secrets",
)  # fmt: skip
_PERMISSION_MEMBERS: Final = (
    "service", "space", "path", "actions", "caveats", "skipPrefix", "expiry", "description"
)  # fmt: skip
_SECRET_MEMBERS: Final = ("name", "scope", "actions", "expiry", "description")


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
    permissions: tuple[Permission, ...]
    secrets: tuple[Permission, ...]
    source: Json = field(repr=False)


def parse_manifest(value: Json) -> Manifest:
    """Check a manifest.

    Args:
        value: the JSON value, untrusted.
    Returns:
        The manifest; it can be resolved.
    Raises:
        ManifestInvalid: a member breaks its rule or is unknown; the message names the first one, `faults` all.
    Does not check:
        That services and actions exist: unknown ones pass in their full form, as unknown abilities do on a node.
    """
    reading = _Reading()
    manifest = reading.manifest(value)
    if manifest is None or reading.faults:
        refusal = ManifestInvalid(f"Manifest validation failed: {reading.faults[0].text}")
        refusal.faults = tuple(reading.faults)
        raise refusal
    return manifest


def check_manifest(value: Json) -> tuple[Fault, ...]:
    """Return everything that is wrong with a manifest, at most 50 faults; none: `parse_manifest` accepts it."""
    reading = _Reading()
    reading.manifest(value)
    return tuple(reading.faults)


class _Reading:
    """One reading of a manifest: a member that breaks its rule is noted, and reading goes on."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def fault(self, path: str, detail: str) -> None:
        found = Fault(path, detail)
        if len(self.faults) < _MAX_FAULTS and found not in self.faults:
            self.faults.append(found)

    def manifest(self, value: Json) -> Manifest | None:
        if not isinstance(value, dict):
            self.fault("", "manifest must be an object")
            return None
        self._known(value, _MEMBERS, "")
        version = value.get("manifest_version", 1)
        if version != 1 or isinstance(version, bool):
            self.fault("manifest_version", "manifest.manifest_version must be 1")
        app_id, name = self._required(value, "app_id"), self._required(value, "name")
        for member in ("description", "icon", "appVersion"):
            self._text(value, member, "")
        self._knowledge(value.get("knowledge"))
        self._flag(value, "includePublicSpace", "", default=True)  # of other clients; it grants nothing by itself
        expiry_ms = self._expiry(value, "")
        return Manifest(
            app_id=app_id,
            name=name,
            did=self._did(value.get("did")),
            expiry_ms=DEFAULT_EXPIRY_MS if expiry_ms is None else expiry_ms,
            space=self._space(value, ""),
            prefix=self._prefix(value, app_id),
            defaults=self._tier(value.get("defaults", True)),
            permissions=self._permissions(value.get("permissions")),
            secrets=self._secrets(value.get("secrets")),
            source=value,
        )

    # --- members of the manifest ---------------------------------------------------------------------------------

    def _known(self, value: Mapping[str, Json], known: tuple[str, ...], where: str) -> None:
        """Note every member that is none of a known form (MF1)."""
        for member in value:
            if member in known:
                continue
            shown = _shown(member)
            near = difflib.get_close_matches(shown, known, 1)
            if not where and member in ("delegations", "backend"):
                advice = "; a backend has a manifest of its own, with `did`"
            else:
                advice = f"; did you mean {near[0]}?" if near else ""
            self.fault(_below(where, shown), f"manifest.{_below(where, shown)} is no known member{advice}")

    def _required(self, value: Mapping[str, Json], member: str) -> str:
        text = value.get(member)
        if isinstance(text, str) and text:
            return text
        self.fault(member, f"manifest.{member} is required and must be a non-empty string")
        return ""

    def _text(self, value: Mapping[str, Json], member: str, where: str) -> str | None:
        text = value.get(member)
        if text is None or isinstance(text, str):
            return text
        self.fault(_below(where, member), f"{where or 'manifest'}.{member} must be a string")
        return None

    def _flag(self, value: Mapping[str, Json], member: str, where: str, *, default: bool) -> bool:
        flag = value.get(member, default)
        if isinstance(flag, bool):
            return flag
        self.fault(_below(where, member), f"{where or 'manifest'}.{member} must be true or false")
        return default

    def _did(self, did: Json) -> str | None:
        if did is None:
            return None
        try:
            if isinstance(did, str):
                parse_principal(did)
                return did
        except CapabilityError:
            pass
        self.fault("did", "manifest.did must be a non-empty DID string")
        return None

    def _expiry(self, value: Mapping[str, Json], where: str) -> int | None:
        """Read a lifetime: one that is there but empty is a fault, an absent one is None."""
        text = self._text(value, "expiry", where)
        if text is None:
            return None
        try:
            return parse_duration_ms(text)
        except ManifestInvalid as exc:
            self.fault(_below(where, "expiry"), exc.message.removeprefix("Manifest validation failed: "))
            return None

    def _space(self, value: Mapping[str, Json], where: str) -> str | None:
        space = self._text(value, "space", where)
        if space is None or _is_space(space):
            return space
        self.fault(
            _below(where, "space"),
            f"{where or 'manifest'}.space must be a short name such as notes, or a full id tinycloud:…:notes",
        )
        return None

    def _prefix(self, value: Mapping[str, Json], app_id: str) -> str:
        prefix = self._text(value, "prefix", "")
        if prefix is None:
            prefix = app_id
            if app_id and not _is_path(app_id):
                self.fault("app_id", "manifest.app_id begins the app's paths: no spaces, `?`, `#` or non-ASCII in it")
        elif not _is_path(prefix):
            self.fault("prefix", "manifest.prefix begins the app's paths: no spaces, `?`, `#` or non-ASCII in it")
        return prefix

    def _knowledge(self, knowledge: Json) -> None:
        if knowledge is None or knowledge is True:
            return
        if isinstance(knowledge, str) and knowledge.startswith("knowledge/") and knowledge.endswith(".md"):
            return
        self.fault("knowledge", "manifest.knowledge must be true or a knowledge/*.md root path")

    def _tier(self, defaults: Json) -> str:
        """Name the tier; an unknown word asks for nothing, so it is refused instead of read as the default (MF3)."""
        word = defaults.strip(" \t\n\r").lower() if isinstance(defaults, str) else defaults
        tiers: Mapping[Json, str] = {"false": "none", "true": "default", "admin": "admin", "all": "all"}
        if isinstance(word, bool):
            return "default" if word else "none"
        if isinstance(word, str) and word in tiers:
            return tiers[word]
        self.fault("defaults", 'manifest.defaults must be true, false, "admin" or "all"')
        return "none"

    # --- permissions ---------------------------------------------------------------------------------------------

    def _permissions(self, entries: Json) -> tuple[Permission, ...]:
        if entries is None:
            return ()
        if not isinstance(entries, list):
            self.fault("permissions", "manifest.permissions must be an array")
            return ()
        if len(entries) > MAX_PERMISSIONS:
            self.fault("permissions", f"manifest.permissions must have at most {MAX_PERMISSIONS} entries")
            return ()
        read = (self._permission(entry, f"permissions[{index}]") for index, entry in enumerate(entries))
        return tuple(one for one in read if one is not None)

    def _permission(self, entry: Json, where: str) -> Permission | None:
        if not isinstance(entry, dict):
            self.fault(where, f"{where} must be an object")
            return None
        self._known(entry, _PERMISSION_MEMBERS, where)
        service, path = entry.get("service"), entry.get("path")
        if not isinstance(service, str) or _SERVICE.fullmatch(service) is None:  # MF20: `kv` is asked for as one thing
            example = "write it in full and in small letters, such as tinycloud.kv"
            self.fault(f"{where}.service", f"{where}.service is required and must be a service: {example}")
            service = ""
        if not isinstance(path, str):
            self.fault(f"{where}.path", f'{where}.path is required (use "" or "/" for root)')
            path = ""
        elif service == ENCRYPTION:
            self._network(path, f"{where}.path")
        elif not _is_path(path):
            self.fault(f"{where}.path", f"{where}.path must be the raw path of a URI: percent-encode what is not ASCII")
        self._caveats(entry.get("caveats"), f"{where}.caveats")
        self._expiry(entry, where)
        return Permission(
            service=service,
            path=path,
            actions=self._actions(entry.get("actions"), service, where),
            space=self._space(entry, where),
            skip_prefix=self._flag(entry, "skipPrefix", where, default=False),
            expiry=self._text(entry, "expiry", where),
            description=self._text(entry, "description", where),
        )

    def _network(self, path: str, where: str) -> None:
        # MF20: a network is read as a space is: its owner is a DID, and both stand in a URI as they are.
        prefix = f"{NETWORK_PREFIX}did:"
        if not path.startswith(prefix) or not _is_space(f"tinycloud:{path.removeprefix(prefix)}"):
            self.fault(where, f'tinycloud.encryption entries require path to be a networkId URN (got "{_shown(path)}")')

    def _caveats(self, caveats: Json, where: str) -> None:
        """A caveat narrows a grant; what cannot be signed with it is not asked for without it (MF4)."""
        if caveats is None:
            return
        if not (isinstance(caveats, list) and all(isinstance(one, dict) for one in caveats)):
            self.fault(where, f"{where} must be an array of objects")
        elif any(caveats):
            self.fault(where, f"{where}: this client signs no caveats; ask for a narrower path in their place")

    def _actions(self, actions: Json, service: str, where: str) -> tuple[str, ...]:
        if not isinstance(actions, list) or not actions:
            self.fault(f"{where}.actions", f"{where}.actions must be a non-empty array")
            return ()
        texts = []
        for index, action in enumerate(actions[:MAX_PERMISSIONS]):
            at = f"{where}.actions[{index}]"
            if not isinstance(action, str) or not action:
                self.fault(at, f"{where}.actions must hold non-empty strings")
                continue
            try:
                full_action(service, action)
                texts.append(action)
            except ManifestInvalid as exc:
                self.fault(at, exc.message)
        return tuple(texts)

    # --- secrets -------------------------------------------------------------------------------------------------

    def _secrets(self, secrets: Json) -> tuple[Permission, ...]:
        if secrets is None:
            return ()
        if not isinstance(secrets, dict):
            self.fault("secrets", "manifest.secrets must be an object")
            return ()
        if len(secrets) > MAX_PERMISSIONS:
            self.fault("secrets", f"manifest.secrets must have at most {MAX_PERMISSIONS} members")
            return ()
        read = (self._secret(key, spec) for key, spec in secrets.items())
        return tuple(one for one in read if one is not None)

    def _secret(self, key: str, spec: Json) -> Permission | None:
        """Turn one secret into an entry for the vault."""
        at = f"secrets.{_shown(key)}"
        where = f"manifest.{at}"
        if not is_secret_name(key):
            self.fault(at, f"{where} must match {NAME_PATTERN}")
            return None
        members: Mapping[str, Json] = spec if isinstance(spec, dict) else {}
        self._known(members, _SECRET_MEMBERS, at)
        if isinstance(spec, str | list):
            actions: Json = spec
        elif spec is True or isinstance(spec, dict):
            actions = members.get("actions", ["read"])
        else:
            self.fault(at, f"{where} must be true, a string action, an actions array, or an object")
            return None
        name = self._secret_name(members, key, at)
        self._expiry(members, at)
        words = self._secret_actions(actions, at)
        if name is None:
            return None
        return Permission(
            service=VAULT,
            path=name.vault_key,
            actions=words,
            space=SECRETS_SPACE,
            skip_prefix=True,
            expiry=self._text(members, "expiry", at),
            description=self._text(members, "description", at),
        )

    def _secret_name(self, members: Mapping[str, Json], key: str, at: str) -> SecretName | None:
        scope = self._text(members, "scope", at)
        try:
            return parse_secret_name(self._text(members, "name", at) or key, scope=scope)
        except InvalidSecretName as exc:
            self.fault(f"{at}.name", printable(exc.message))
        except InvalidSecretScope as exc:
            self.fault(f"{at}.scope", printable(exc.message))
        return None

    def _secret_actions(self, actions: Json, at: str) -> tuple[str, ...]:
        words = [actions] if isinstance(actions, str) else actions
        if not isinstance(words, list) or not words:
            self.fault(at, f"manifest.{at} actions must be non-empty")
            return ()
        found = [SECRET_ACTIONS.get(word.removeprefix(f"{KV}/")) if isinstance(word, str) else None for word in words]
        known = distinct(one for one in found if one is not None)
        if None in found:
            # MF5: the word is not repeated. Whoever writes a secret's value here should not read it in a log.
            self.fault(at, f"manifest.{at}: unknown secret action; expected read, write, delete, list, or metadata")
        return known


# --- words -------------------------------------------------------------------------------------------------------

SECRET_ACTIONS: Final[Mapping[str, str]] = {
    "read": "get",
    "write": "put",
    "delete": "del",
    **{action: action for action in ("get", "put", "del", "list", "metadata")},
}
_VAULT_ACTIONS: Final[Mapping[str, str]] = {**SECRET_ACTIONS, "head": "get"}
_ENCRYPTION_ACTIONS: Final = ("decrypt", "network.create", "network.revoke")
# Services whose actions are all known here; another one may have any.
_ACTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    KV: ("get", "put", "del", "delete", "list", "metadata", "*"),
    "tinycloud.capabilities": ("read",),
    "tinycloud.delegation": ("list", "status", "revoke"),
    "tinycloud.space": ("list", "create", "info", "host"),
}


def full_action(service: str, word: str) -> str:
    """Return the full ability for an action as a manifest writes it (MF7).

    Raises:
        ManifestInvalid: a service that is known here has no such action (MF19), or it is no ability at all.
    """
    if service == VAULT:
        action = _VAULT_ACTIONS.get(word.removeprefix(f"{VAULT}/").removeprefix(f"{KV}/"))
        if action is None:
            expected = "read, write, delete, get, put, del, list, head, or metadata"
            invalid(f'unknown vault action "{_shown(word)}"; expected {expected}')
        return f"{KV}/{action}"
    if service == ENCRYPTION:
        action = word.removeprefix(f"{ENCRYPTION}/")
        if action not in _ENCRYPTION_ACTIONS:
            expected = "decrypt, network.create, or network.revoke"
            invalid(f'unknown encryption action "{_shown(word)}"; expected {expected}')
        return f"{ENCRYPTION}/{action}"
    action = word if "/" in word else f"{service}/{word}"
    of, _, name = action.partition("/")
    if of != service or _ACTION.fullmatch(name) is None:  # MF20
        invalid(f'"{_shown(word)}" is no action of {_shown(service)}: get, or in full {_shown(service)}/get')
    if of in _ACTIONS and name not in _ACTIONS[of]:
        near = difflib.get_close_matches(name, _ACTIONS[of], 1)
        meant = f"; did you mean {near[0]}?" if near else f"; it has {', '.join(_ACTIONS[of])}"
        invalid(f'{of} has no action "{_shown(name)}"{meant}')
    return action


def _is_path(path: str) -> bool:
    """Whether a raw path stands in a resource as it is."""
    space = parse_space_id("tinycloud:key:z6Mk:notes")
    try:
        return parse_resource(SpaceResource(space, "kv", path).text) == SpaceResource(space, "kv", path)
    except CapabilityError:
        return False


def _is_space(space: str) -> bool:
    try:
        parse_space_id(space if space.startswith("tinycloud:") else f"tinycloud:key:z6Mk:{space}")
    except CapabilityError:
        return False
    return space.startswith("tinycloud:") or ":" not in space


def _below(where: str, member: str) -> str:
    return f"{where}.{member}" if where else member


def _shown(text: str) -> str:
    return printable(text, most=_MAX_SHOWN_CHARS)


def distinct(items: Iterable[T]) -> tuple[T, ...]:
    """Return the items without repeats, in order of appearance."""
    return tuple(dict.fromkeys(items))


def invalid(detail: str) -> NoReturn:
    """Refuse a part of a manifest."""
    raise ManifestInvalid(detail)
